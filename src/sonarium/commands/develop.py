"""`sonarium develop RUN`, or `sonarium develop --world songbird --days 45 60 75 90`: song compared day by day.

A hidden Markov model for each day of each bird, of annotated syllables or, without annotations, of frames of
codes; and the divergence of the tutor's song (or of the last day's) from it, in spectrum, timing and grammar,
with 95 % intervals over songs. With a run, its codes are the spectrum, and its page shows the development;
without, log-mel bands are. `--json` prints one object: `unit` (syllables or frames) and `birds`, of each `bird`,
`reference`, `states` (names), `floor` (by part, one half of the reference's songs from the other), `notes` and
`days`, of each `day`, `songs`, `items` (syllables or frames), `parts` (spectrum, timing, grammar and total:
value, low, high in bits an item), `rate` and `rate_error` (of what is heard, by simulation), `entropies` (start,
transition, emission) and `active` (states). Folder `--out` gets it as `development.json`, with pictures.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from sonarium.catalogue import WORLDS
from sonarium.commands.faults import UsageError, say, tell
from sonarium.commands.flags import NARROWEST, Group, flag, parse_groups, required
from sonarium.commands.progress import bars, plainly
from sonarium.config import Range
from sonarium.evaluation.development import (
    PARTS,
    DevelopConfig,
    Development,
    develop,
    plain_bands,
    songs_by_day,
    unit_of,
)
from sonarium.evaluation.extraction import Extractor, of_learner
from sonarium.files import written_aside
from sonarium.models.framing import in_frames
from sonarium.runs.build import open_run
from sonarium.runs.plan import FOLDER_WORLD
from sonarium.training.engine import choose_device
from sonarium.worlds.contract import World


@dataclass(frozen=True)
class DevelopFlags:
    run: Annotated[tyro.conf.Positional[Path | None], required("RUN", "or --world")] = None
    """Run folder of a model on a world with days, whose codes are the spectrum; by default log-mel bands are."""
    world: str = ""
    """World with days, in place of a run: songbird, or recordings in one folder per day; its flags are added
    here."""
    out: Path | None = None
    """New output folder for numbers and pictures."""
    seed: Annotated[int, Range(0)] = 0
    """Random seed."""
    device: str = "cpu"
    """Device: cpu, cuda or auto."""
    json: bool = False
    """Print JSON instead of tables."""


def main(arguments: list[str]) -> None:
    flags, config, source = asked_for(arguments)
    if flags.out is not None and flags.out.exists() and (not flags.out.is_dir() or any(flags.out.iterdir())):
        raise ValueError(f"'{flags.out}' exists and is not an empty folder: give --out a new one")
    with bars() as progress:
        world, extractor, unit, decibels = opened(flags, config, source, plainly(progress))
        found = developed(songs_by_day(world, extractor, unit, decibels), unit, config, flags.seed, progress)
    result = {"unit": unit, "birds": [recorded(one) for one in found]}
    if flags.out is not None or flags.run is not None:
        keep(flags, found, result)
    if flags.json:
        print(json.dumps(result, indent=2))
        return
    for one in found:
        draw(one)


def asked_for(arguments: list[str]) -> tuple[DevelopFlags, DevelopConfig, Any]:
    world = flag(arguments, "world", "")
    if not world and flag(arguments, "path", ""):
        world = FOLDER_WORLD
        arguments = ["--world", world, *arguments]
    groups = [Group("development", DevelopConfig())]
    if world:
        try:
            entry = WORLDS.select(world)
        except ValueError as error:
            raise UsageError(str(error)) from None
        groups.append(Group(world, entry.Config(), entry.main))
    flags, made = parse_groups(
        DevelopFlags, groups, arguments, "develop", "Compare song day by day with the tutor."
    )
    if (flags.run is None) == (not world):
        raise UsageError("give the folder of a run, or a world, as in --world songbird --days 45 60 75 90")
    return flags, made[0], made[1] if world else None


def opened(
    flags: DevelopFlags, config: DevelopConfig, source: Any, progress: Any
) -> tuple[World, Extractor, str, bool]:
    """The world, the extractor of its spectrum, the unit of items, and whether the spectrum is in decibels."""
    if flags.run is not None:
        run = open_run(flags.run, progress, say)
        world, device = run.data.world, torch.device(choose_device(flags.device))
        encoder = in_frames(run.learner.to(device), world.signal)
        return world, of_learner(encoder, world.signal, device), unit_of(world, config), False
    entry = WORLDS[flags.world]
    if entry.kind != "wave":
        raise UsageError(f"--world {flags.world} has no sound: give a world of songs")
    world = entry.build(source, flags.seed, progress)
    unit = unit_of(world, config)
    assert world.signal.rate is not None, world.signal
    return world, plain_bands(world.signal.rate, unit), unit, True


def developed(birds: Any, unit: str, config: DevelopConfig, seed: int, progress: Any) -> list[Development]:
    """Development of all birds; one that cannot be compared is reported, without losing the others."""
    found, faults = [], []
    for done, (bird, days) in enumerate(birds.items(), 1):
        try:
            found.append(develop(bird, days, unit, config, seed))
        except ValueError as error:
            faults.append(str(error))
        progress("comparing days", done, len(birds), {})
    if not found:
        raise ValueError("; ".join(faults))
    for note in (*faults, *(note for one in found for note in one.notes)):
        say(note)
    return found


def recorded(one: Development) -> dict[str, Any]:
    days = [
        {
            "day": day.day, "songs": day.songs, "items": day.items,
            "parts": {name: asdict(part) for name, part in day.parts.items()},
            "rate": day.rate, "rate_error": day.rate_error, "entropies": day.entropies, "active": day.active,
        }
        for day in one.days
    ]  # fmt: skip
    head = {"bird": one.bird, "reference": one.reference, "states": list(one.names), "floor": one.floor}
    return head | {"notes": list(one.notes), "days": days}


def keep(flags: DevelopFlags, found: Sequence[Development], result: dict[str, Any]) -> None:
    """Write numbers and pictures to the output folder, and pictures to that of the run, for its report."""
    # Deferred import: plotting is slow to import, and `--help` should not wait for it.
    from sonarium.report.album import Medium, add
    from sonarium.report.grammar import development_chart, grammars_by_day
    from sonarium.report.style import png

    files: dict[str, bytes] = {"development.json": (json.dumps(result, indent=2) + "\n").encode()}
    media = []
    for number, one in enumerate(found, 1):
        by = f"{one.bird}: " if one.bird else ""
        reference = one.reference
        for stem, title, caption, drawn in (
            (
                "development",
                f"{by}divergence by day",
                f"What the model of each day loses on the song of {reference}, in its three parts, with 95 % "
                "intervals over songs; dashed, one half of its songs from the other. Right, entropies of the "
                f"first state and of a transition; dashed, those of {reference}.",
                development_chart,
            ),
            (
                "grammar",
                f"{by}grammar by day",
                "Circles are states, named by the label of most of their syllables where these are labelled, the "
                "larger the more often they occur; arrows are transitions, the broader the more probable.",
                grammars_by_day,
            ),
        ):
            name = f"{stem}-{number}.png"
            files[name] = png(drawn(one))
            media.append(Medium("picture", name, title, caption, f"development/{number}"))
    if flags.out is not None:
        with written_aside(flags.out) as aside:
            aside.mkdir()
            for name, content in files.items():
                (aside / name).write_bytes(content)
    if flags.run is not None:
        add(flags.run / "media", media, files)


def draw(one: Development) -> None:
    console = Console()
    console.width = max(NARROWEST, console.width)
    title = one.bird or None
    parts = Table("day", "songs", one.unit, *PARTS, "total", title=title, title_justify="left", box=None)
    states = Table("day", "start", "transition", "emission", "active states", box=None)
    for day in one.days:
        cells = [interval(day.parts[name]) for name in PARTS]
        parts.add_row(day.day, str(day.songs), str(day.items), *cells, f"{day.parts['total'].value:.2f}")
        entropies = [f"{day.entropies[name]:.2f}" for name in ("start", "transition", "emission")]
        states.add_row(day.day, *entropies, f"{day.active} of {len(one.names)}")
    lowest = ["" if one.floor[name] is None else f"{one.floor[name]:.2f}" for name in (*PARTS, "total")]
    parts.add_row("floor", "", "", *lowest)
    console.print(parts)
    console.print(states)
    item = one.unit.removesuffix("s")
    tell(
        f"Spectrum, timing, grammar: bits a {item} that the model of the day loses on the song of {one.reference} "
        f"with 95 % intervals over songs. Floor: one half of the songs of {one.reference} from the other. Start, "
        f"transition, emission: entropies in bits. States with a {item} are active."
    )


def interval(part: Any) -> str:
    return f"{part.value:.2f}" if part.low is None else f"{part.value:.2f}\n[{part.low:.2f}, {part.high:.2f}]"
