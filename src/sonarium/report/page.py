"""One offline page of one or many runs: every picture and sound lies in the file, and nothing is fetched.

A policy in the page itself forbids the browser all but what the file holds.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sonarium.files import as_utf8
from sonarium.report import charts, judged, meanings
from sonarium.report.album import Medium, put, read_index
from sonarium.report.comparison import Group, RunPage, Score, grouped, seeds, tables
from sonarium.report.style import png

__all__ = ["RunPage", "page"]

TEMPLATES = Path(__file__).parent / "templates"
TYPES = {".png": "image/png", ".gif": "image/gif", ".wav": "audio/wav"}
KINDS = {
    "codes": "Codes and causes",
    "reconstructions": "Reconstructions",
    "samples": "Samples of the prior",
    "map": "Maps of held-out clips",
    "nearest": "Nearest neighbours",
    "heard": "Nearest neighbours, to be heard",
}
PLANTED = (
    "Sounds and pictures were made from causes that are known. Each learner saw only the clips, never the "
    "causes. Below stands how much of the causes its codes recovered, and what it makes of clips that it has not "
    "learnt from."
)
HEARD = (
    "Each learner heard only the sound of recordings, never their labels. Below stands how much its codes tell "
    "of the labels, learnt on some recordings and asked of others, beside plain features that have learnt "
    "nothing; and which held-out clips it takes to be alike."
)
CURVES = "What the codes tell"
MOST_LINES = 7
"""Seeds whose curves are drawn; more could not be told apart."""


@dataclass(frozen=True)
class Shown:
    """A medium with its file in it."""

    medium: Medium
    uri: str


@dataclass
class Card:
    """What belongs together: pictures, and the sounds that they show."""

    pictures: list[Shown] = field(default_factory=list)
    sounds: list[Shown] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """A group of runs, ready to be laid out."""

    anchor: str
    title: str
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    curves: str | None
    parts: tuple[tuple[str, tuple[Card, ...]], ...]
    tables: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


def page(runs: Sequence[RunPage], out: Path) -> None:
    """Write one HTML file that shows these runs, those that differ only in their seed as one."""
    if not runs:
        raise ValueError("a page needs at least one run: give the run folders that it should show")
    groups = grouped(runs)
    anchors = {id(group): f"run-{number + 1}" for number, group in enumerate(groups)}
    controls = {name for run in runs for name in (run.scores or {}).get("controls", {})}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        meaning=meanings.meaning,
        control=meanings.control,
        number=number_text,
        bar=bar,
        best=best,
        title=title,
    )
    text = environment.get_template("page.html").render(
        tables=tables(groups),
        sections=[section(group, anchors[id(group)]) for group in groups],
        anchor=lambda group: anchors[id(group)],
        runs=len(runs),
        lead=" ".join(lead for lead in (PLANTED, HEARD) if lead in {lead_of(run) for run in runs}),
        explained=meanings.explained(controls),
    )
    put(out, as_utf8(text))


def lead_of(run: RunPage) -> str:
    return HEARD if run.config.get("world") == "recordings" else PLANTED


def title(group: Group) -> str:
    return f"{group.model} on {group.first.world}"


def number_text(value: float, key: str) -> str:
    """A score as people write it: shares to the hundredth, counts as they are."""
    whole = value == round(value) and not meanings.meaning(key).share
    text = f"{value:,.0f}" if whole else f"{value:.2f}" if abs(value) < 100 else f"{value:,.1f}"
    return text.replace("-", "−")


def bar(score: Score, key: str) -> dict[str, Any] | None:
    """Where a share, its interval and its controls lie on a bar of 100; None for what is no share."""
    if not meanings.meaning(key).share:
        return None

    def at(value: float) -> float:
        return round(100 * min(1.0, max(0.0, value)), 1)

    low, high = score.value.low, score.value.high
    ends = None if low is None or high is None else (at(low), at(high))
    beside = [(meanings.control(name), at(one.mean)) for name, one in score.controls.items()]
    return {"mean": at(score.value.mean), "ends": ends, "controls": beside}


def best(cells: Sequence[Score | None], key: str) -> list[bool]:
    """Which of several shares are the best as they are written; none where all are the same."""
    worth = 1 if meanings.meaning(key).rising else -1
    means = [-2.0 if cell is None else worth * round(cell.value.mean, 2) for cell in cells]
    contested = meanings.meaning(key).share and max(means) > min(means)
    return [contested and mean == max(means) for mean in means]


def section(group: Group, anchor: str) -> Section:
    first = group.first
    warned = [f"{run.name}: {said}" for run in group.runs for said in run.warnings]
    named = [seeds(run.config) for run in group.runs]
    if len(group.runs) > 1 and len(set(named)) < len(named):
        warned.append("Some of these runs have the same seeds; each seed is counted once.")
    media, missing = cards(first)
    if not media:
        warned.append("There are no pictures and sounds: they are made of held-out clips when a training ends.")
    figure = charts.curves({run.name: run.metrics for run in group.runs[:MOST_LINES]})
    details = [("Configuration", tuple(flat(first.config))), ("Environment", tuple(flat(first.environment)))]
    curves = [
        Card([Shown(Medium("picture", "", title, caption, ""), uri(png(drawn), ".png"))])
        for title, caption, drawn in judged.drawn([run.scores or {} for run in group.scored])
    ]
    return Section(
        anchor=anchor,
        title=title(group),
        facts=tuple(facts(group)),
        warnings=tuple(warned + missing),
        curves=None if figure is None else uri(png(figure), ".png"),
        parts=((CURVES, tuple(curves)), *media) if curves else media,
        tables=tuple((name, rows) for name, rows in details if rows),
    )


def facts(group: Group) -> list[tuple[str, str]]:
    """What the runs are, in a few words each."""
    first, names = group.first, ", ".join(run.name for run in group.runs)
    numbers = ", ".join(" ".join(str(value) for _, value in seeds(run.config)) for run in group.runs)
    several = "s" if len(group.runs) > 1 else ""
    said = [(f"run{several}", names), (f"seed{several}", numbers)]
    if first.metrics:
        said.append(("updates", f"{max(record['step'] for record in first.metrics):,.0f}"))
    if first.scores and "clips" in first.scores:
        said.append(("scored on", f"{first.scores['clips']:,} held-out clips"))
    if first.scores and "split" in first.scores:
        said += [("split", str(first.scores["split"])), ("probes", str(first.scores["asked"]))]
    if device := first.environment.get("device"):
        said.append(("device", str(device)))
    return [(name, value) for name, value in said if value.strip(", ")]


def cards(run: RunPage) -> tuple[tuple[tuple[str, tuple[Card, ...]], ...], list[str]]:
    """The media of a run by kind and card, and what is missing of them."""
    if run.media is None:
        return (), []
    parts: dict[str, dict[str, Card]] = {}
    missing = []
    for medium in read_index(run.media):
        path = run.media / medium.file
        if not path.is_file() or path.suffix not in TYPES:
            missing.append(f"{medium.title}: '{path}' is missing; make the pictures anew.")
            continue
        kind = medium.group.split("/")[0]
        card = parts.setdefault(KINDS.get(kind, kind.capitalize()), {}).setdefault(medium.group, Card())
        into = card.sounds if medium.kind == "sound" else card.pictures
        into.append(Shown(medium, uri(path.read_bytes(), path.suffix)))
    return tuple((name, tuple(found.values())) for name, found in parts.items()), missing


def uri(content: bytes, suffix: str) -> str:
    return f"data:{TYPES[suffix]};base64,{base64.b64encode(content).decode()}"


def flat(values: Any, path: str = "") -> list[tuple[str, str]]:
    """Nested values as lines of a dotted name and a text."""
    if isinstance(values, Mapping) and values:
        return [
            line for key, value in values.items() for line in flat(value, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(values, list | tuple):
        return [(path, ", ".join(str(value) for value in values))]
    return [(path, str(values))] if path else []
