"""Score what `docs/songbird.md` reports of development: is the divergence by day that of the planted development?

    .venv/bin/python scripts/songbird_development.py            # what is missing, then the page
    .venv/bin/python scripts/songbird_development.py --write    # only the page, from what is there

Five planted birds of level middle, from babble to song in six days, 30 songs a day. Onsets and offsets are known,
labels are not used but for the control. Each part of song is frozen while the others develop, and develops alone;
and songs that do not develop are changed in one way a day. The settings were chosen on the birds of seeds 0 to 4,
which are not among these. Everything runs on one thread; each score is kept in
docs/results/songbird-development.json.
"""

import argparse
import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from tones_results import ROOT, insert, table

from sonarium.bench.timing import hardware
from sonarium.evaluation.development import PARTS, DevelopConfig, develop, plain_bands, songs_by_day
from sonarium.measures.statistics import interval
from sonarium.report.grammar import development_chart, grammars_by_day
from sonarium.report.style import png
from sonarium.worlds.songbird import syrinx
from sonarium.worlds.songbird.bird import Song
from sonarium.worlds.songbird.cage import cage_noise
from sonarium.worlds.songbird.world import Songbird, SongbirdConfig

RESULTS = ROOT / "docs" / "results" / "songbird-development.json"
FIGURES = ROOT / "docs" / "figures"
SEEDS = (100, 101, 102, 103, 104)
DAYS = (45, 54, 63, 72, 81, 90)
SETTINGS: dict[str, Any] = dict(level="middle", birds=1, songs=30)
FROZEN: dict[str, tuple[str, ...]] = {
    "all develop": (),
    "spectrum frozen": ("spectrum",), "timing frozen": ("timing",), "grammar frozen": ("grammar",),
    "spectrum alone": ("timing", "grammar"), "timing alone": ("spectrum", "grammar"),
    "grammar alone": ("spectrum", "timing"),
}  # fmt: skip
MODELS = {
    "sound": DevelopConfig(bootstrap=0),
    "labels": DevelopConfig(bootstrap=0, labels=True),
    "forward": DevelopConfig(bootstrap=0, chain="forward"),
    "all": DevelopConfig(bootstrap=0, chain="all"),
}
CHANGES = (
    "none", "gain −12 dB", "gain +12 dB", "noise, 15 dB below the song", "noise, 10 dB below", "gaps × 1.5",
    "stretched × 1.2", "pitch × 1.1", "order of syllables reversed", "sound reversed",
)  # fmt: skip


class Changed(Songbird):
    """Songs of the tutor, altered in a different way on each day."""

    def change(self, clip: int) -> str:
        day = self.positions(clip)[1]
        return CHANGES[day - 1] if day else "none"

    def song(self, clip: int) -> Song:
        if clip in self.composed:
            return self.composed[clip]
        song, change = super().song(clip), self.change(clip)
        gaps = np.append(song.onsets[1:] - song.onsets[:-1] - song.durations[:-1], 0)
        durations = song.durations * (1.2 if change == "stretched × 1.2" else 1)
        gaps = gaps * (1.5 if change == "gaps × 1.5" else 1)
        if change == "order of syllables reversed":
            turned = ("durations", "pressure", "hertz", "tension", "envelope", "turbulence")
            song = replace(song, labels=song.labels[::-1], **{name: getattr(song, name)[::-1] for name in turned})
            durations, gaps = song.durations, np.append(gaps[:-1][::-1], 0)
        if change == "pitch × 1.1":
            hertz = song.hertz * 1.1
            song = replace(song, hertz=hertz, tension=syrinx.tension_of(hertz, song.pressure, self.birds[0].gamma))
        onsets = song.onsets[0] + np.cumsum(durations + gaps) - durations - gaps
        seconds = float(onsets[-1] + durations[-1] + song.onsets[0])
        self.composed[clip] = replace(song, onsets=onsets, durations=durations, seconds=seconds)
        return self.composed[clip]

    def segments(self, clip: int):
        found = super().segments(clip)
        if self.change(clip) != "sound reversed":
            return found
        seconds = self.samples_of(clip) / self.config.rate
        return tuple((seconds - offset, seconds - onset, label) for onset, offset, label in reversed(found))

    def render(self, clips: list[int]):
        waves = super().render(clips)
        for at, clip in enumerate(clips):
            change = self.change(clip)
            if change.startswith("gain"):
                waves[at] *= np.float32(10 ** ((-12 if "−" in change else 12) / 20))
            if change.startswith("noise"):
                level = 0.1 * 10 ** (-(15 if "15" in change else 10) / 20)
                noise = cage_noise(
                    len(waves[at]), self.config.rate, np.random.default_rng([self.seed, clip, 0xADD])
                )
                waves[at] = waves[at] + np.float32(level) * noise
            if change == "sound reversed":
                waves[at] = np.ascontiguousarray(waves[at][::-1])
        return waves


def compared(world: Songbird, models: dict[str, DevelopConfig]) -> dict[str, Any]:
    """Bits per syllable by part, on each day except the tutor's, and the floors, for each kind of model."""
    assert world.signal.rate is not None
    [(bird, days)] = songs_by_day(world, plain_bands(world.signal.rate, "syllables"), "syllables", True).items()
    found: dict[str, Any] = {}
    for name, config in models.items():
        one = develop(bird, days, "syllables", config)
        found[name] = {part: [day.parts[part].value for day in one.days[:-1]] for part in (*PARTS, "total")}
        found[name] |= {"states": len(one.names), "floor": one.floor}
    return found


def planted(world: Songbird) -> dict[str, list[float]]:
    """KL divergence in bits per syllable of the distributions that the songs are drawn from: pitch and level of a
    syllable; duration and gap; and the next syllable given the context of the grammar."""
    tutor = world.grammar(0)
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    for day in range(1, len(world.days)):
        loose, flat = world.looseness(day), world.grammar(0, day)
        pitch = gaussian(0.008, 0.008 + 0.3 * loose.spectrum)
        level = gaussian(0.05, 0.05 + 0.3 * loose.spectrum)
        lasting = gaussian(0.03, 0.03 + 0.4 * loose.timing)
        between = gaussian(0.1, 0.1 + 0.6 * loose.timing, np.log1p(loose.timing))
        sung = tutor.emission > 0
        ratio = np.log2(np.where(sung, tutor.emission, 1) / np.where(sung, flat.emission, 1))
        found["spectrum"].append(pitch + level)
        found["timing"].append(lasting + between)
        found["grammar"].append(float(tutor.occupancy @ (tutor.emission * ratio).sum(1)))
    return found | {"total": [float(sum(day)) for day in zip(*(found[part] for part in PARTS), strict=True)]}


def gaussian(own: float, other: float, apart: float = 0.0) -> float:
    return float((np.log(other / own) + (own**2 + apart**2) / (2 * other**2) - 0.5) / np.log(2))


def developing(seed: int, frozen: tuple[Any, ...], models: dict[str, DevelopConfig]) -> dict[str, Any]:
    world = Songbird(SongbirdConfig(**SETTINGS, days=DAYS, frozen=frozen), seed)
    return compared(world, models) | {"planted": planted(world)}


def changed(seed: int) -> dict[str, Any]:
    frozen: Any = ("spectrum", "timing", "grammar")
    days = tuple(range(1, len(CHANGES) + 1))
    return compared(
        Changed(SongbirdConfig(**SETTINGS, days=days, frozen=frozen), seed),
        {"labels": MODELS["labels"], "sound": DevelopConfig(bootstrap=0, chain="reference")},
    )


def jobs() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for seed in SEEDS:
        for name, frozen in FROZEN.items():
            models = MODELS if name == "all develop" else {"sound": MODELS["sound"]}
            found[f"{name}/{seed}"] = lambda s=seed, f=frozen, m=models: developing(s, f, m)
        found[f"changed/{seed}"] = lambda s=seed: changed(s)
    return found


def draw() -> None:
    """Draw the figures of the first bird."""
    world = Songbird(SongbirdConfig(**SETTINGS, days=DAYS), SEEDS[0])
    assert world.signal.rate is not None
    [(_, days)] = songs_by_day(world, plain_bands(world.signal.rate, "syllables"), "syllables", True).items()
    found = develop("", days, "syllables", DevelopConfig())
    (FIGURES / "songbird-development.png").write_bytes(png(development_chart(found)))
    (FIGURES / "songbird-grammar-by-day.png").write_bytes(png(grammars_by_day(found)))


def correlation(one: list[float], other: list[float]) -> float:
    """Spearman's rank correlation."""
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def listed(values: list[float]) -> str:
    """The values of all birds, which are too few for intervals."""
    return ", ".join(f"{value:.2f}" for value in values)


def write(kept: dict[str, Any], seeds: tuple[int, ...]) -> None:
    """Write the tables of the page, for the birds whose jobs are done."""
    rows = []
    titles = {
        "sound": "sound, chain from the tutor back",
        "forward": "sound, chain from babble on",
        "all": "sound, one model of all days",
        "labels": "labels known",
    }
    for model, title in titles.items():
        each = [kept[f"all develop/{seed}"] for seed in seeds]
        ranks = [
            [correlation(one[model][part], one["planted"][part]) for one in each] for part in (*PARTS, "total")
        ]
        right = sum(one[model]["states"] == 8 for one in each)
        lowest = min(correlation(one[model]["total"], one["planted"]["total"]) for one in each)
        rows.append([title, *map(listed, ranks), f"{lowest:.2f}", f"{right} of {len(seeds)}"])
    head = ["states from", "spectrum", "timing", "grammar", "total", "lowest total", "8 states found"]
    insert("development-ranks", table(head, rows), "songbird.md")
    rows = []
    for name in FROZEN:
        cells = [name]
        for part in PARTS:
            first = [kept[f"{name}/{seed}"]["sound"][part][0] for seed in seeds]
            cells.append(listed(first))
        rows.append(cells)
    floors = [interval([kept[f"all develop/{seed}"]["sound"]["floor"][part] for seed in seeds]) for part in PARTS]
    rows.append(["floor: one half of the tutor's songs from the other", *(f"{one.mean:.2f}" for one in floors)])
    insert("development-causes", table(["day 45", *PARTS], rows), "songbird.md")
    rows = []
    for at, change in enumerate(CHANGES):
        each = [[kept[f"changed/{seed}"]["labels"][part][at] for seed in seeds] for part in PARTS]
        rows.append([change, *map(listed, each)])
    insert("development-changes", table(["change", *PARTS], rows), "songbird.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = (
        json.loads(RESULTS.read_text(encoding="utf-8"))
        if RESULTS.exists()
        else {"hardware": hardware(), "days": DAYS}
    )
    for name, job in jobs().items():
        if not arguments.write and name not in kept:
            kept[name] = job()
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            print(name, json.dumps(kept[name]["sound"]), flush=True)
    done = tuple(seed for seed in SEEDS if all(f"{name}/{seed}" in kept for name in (*FROZEN, "changed")))
    if done:
        write(kept, done)
        draw()


if __name__ == "__main__":
    main()
