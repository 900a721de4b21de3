"""Tables and figure of `docs/cpc.md`, from the scores saved by `scripts/cpc_results.py`."""

from collections.abc import Mapping, Sequence

import numpy as np
from tones_results import ROOT, insert, table

from sonarium.measures.statistics import interval, paired
from sonarium.report.style import FAINT, LINES, panels, png, sheet, tidy

SPEAKERS = ("george", "jackson", "lucas", "theo")
FOLDS = {"2": "1 → 2", "1": "2 → 1"}
WAYS = {"CPC": "CPC", "random": "untrained", "log_mel": "log-mel", "mfcc": "MFCC"}
SCHEMES = ("within-sequence", "same-speaker", "mixed", "other-utterances")
Kept = Mapping[str, dict]


def by_seed(kept: Kept, tests: Sequence[str], way: str, key: str) -> dict[str, float]:
    """Mean of a score over these test splits, for each seed that has all of them."""
    found = {}
    for seed in sorted({name.rpartition("/")[2] for name in kept}):
        cells = [kept.get(f"{test}/{seed}", {}).get("score", {}).get(way, {}) for test in tests]
        if all(key in cell for cell in cells):
            found[seed] = float(np.mean([cell[key] for cell in cells]))
    return found


def over_seeds(kept: Kept, tests: Sequence[str], way: str, key: str) -> list[float]:
    return list(by_seed(kept, tests, way, key).values())


def cell(values: list[float]) -> str:
    """The mean, ± half of its interval if seeds differ."""
    if not values:
        return "–"
    one = interval(values)
    return f"{one.mean:.1f}" if one.high is None or not one.std else f"{one.mean:.1f} ± {one.high - one.mean:.1f}"


def apart(first: Mapping[str, float], second: Mapping[str, float]) -> str:
    """The paired difference over the seeds that both have."""
    both = [seed for seed in first if seed in second]
    if not both:
        return "–"
    one = paired([first[seed] for seed in both], [second[seed] for seed in both]).difference
    return f"{one.mean:+.1f}" if one.high is None else f"{one.mean:+.1f} ± {one.high - one.mean:.1f}"


def rows_of(parts: Mapping[str, Kept], named: Mapping[str, str], tests: Mapping[str, str], key: str) -> str:
    """A row for each part: its score on each test split, their mean, and the means of its controls."""
    rows = []
    for name, label in named.items():
        kept, every = parts.get(name, {}), list(tests)
        seeds = {way: by_seed(kept, every, way, key) for way in WAYS}
        means = {way: list(found.values()) for way, found in seeds.items()}
        own = [cell(over_seeds(kept, [test], "CPC", key)) for test in every]
        beside = [cell(means[way]) for way in WAYS if way != "CPC"]
        rows.append([label, *own, cell(means["CPC"]), *beside, apart(seeds["CPC"], seeds["random"])])
    head = ["", *tests.values(), "mean", *list(WAYS.values())[1:], "CPC − untrained"]
    return table(head, rows)


DIGITS = {
    "digits": "mel bands, 300",
    "samples": "samples, 1,500",
    "speech": "`speech`: mel bands, 1,500, transductive",
    "samples-transductive": "samples, 1,500, transductive",
}
SOUNDS = {
    "sounds": "mel bands, 300",
    "samples-sounds": "samples, 1,500",
    "sounds-transductive": "mel bands, 1,500, transductive",
    "samples-sounds-transductive": "samples, 1,500, transductive",
}


def scheme_table(parts: Mapping[str, Kept]) -> str:
    """A row for each scheme of negatives, for unseen speakers and for those whose sound is trained on."""
    rows, key = [], "clips/digit"
    for name in SCHEMES:
        unknown = parts.get("digits" if name == "mixed" else f"scheme {name}", {})
        found = [by_seed(kept, SPEAKERS, "CPC", key) for kept in (unknown, parts.get(f"transductive {name}", {}))]
        mixed = [by_seed(parts.get(part, {}), SPEAKERS, "CPC", key) for part in ("digits", "transductive mixed")]
        differences = ["" if name == "mixed" else apart(*both) for both in zip(found, mixed, strict=True)]
        means = [cell(list(one.values())) for one in found]
        rows.append([name, means[0], differences[0], means[1], differences[1]])
    return table(["negatives", "unknown", "minus `mixed`", "transductive", "minus `mixed`"], rows)


def other_table(parts: Mapping[str, Kept]) -> str:
    """Table of syllables and speakers."""
    lines = [(f"finch syllable, {n} label(s) a class", "finch", f"few-{n}/segment") for n in (1, 2, 5, 10)]
    lines += [("speaker a frame, mean removed: ridge", "speaker-frames", "frames/speaker"),
              ("speaker a frame, mean removed: network", "speaker-frames-mlp", "frames/speaker")]  # fmt: skip
    ways = WAYS | {"chance": "chance"}
    rows = [
        [label, *(cell(over_seeds(parts.get(part, {}), [""], way, key)) for way in ways)]
        for label, part, key in lines
        if part in parts
    ]
    return table(["", *ways.values()], rows)


def commands(words: Mapping[str, tuple[str, str, str]]) -> str:
    """Table of the folder and the flags of each row."""
    named = {name: f"digits: {label}" for name, label in DIGITS.items()}
    named |= {name: f"ESC-10: {label}" for name, label in SOUNDS.items()}
    rows = []
    for name, (folder, train, score) in words.items():
        rows.append([named.get(name, name), folder, f"`{' '.join(train.split())}`", f"`{score}`" if score else ""])
    train = "`sonarium train cpc --world recordings --path FOLDER --test-groups NAME --run RUN` and"
    return table(["row", "FOLDER", train, "`sonarium score RUN` and"], rows)


def draw(parts: Mapping[str, Kept]) -> bytes:
    """Bars with 95 % intervals over seeds for digits and sounds, trained and untrained, with lines for the other
    controls."""
    asked = (("digits", DIGITS, SPEAKERS, "clips/digit"), ("ESC-10", SOUNDS, tuple(FOLDS), "clips/class"))
    every = [
        (title, {name: label for name, label in named.items() if name in parts}, tests, key)
        for title, named, tests, key in asked
        if parts.keys() & named.keys()
    ]
    figure = sheet(4.8 * len(every), 3.3)
    for axes, (title, named, tests, key) in zip(panels(figure, 1, len(every))[0], every, strict=True):
        for place, name in enumerate(named):
            kept, label = parts.get(name, {}), place == 0
            bar(axes, place - 0.2, 0.38, over_seeds(kept, tests, "CPC", key), LINES[0], "CPC" if label else None)
            plain = over_seeds(kept, tests, "random", key)
            bar(axes, place + 0.2, 0.38, plain, LINES[1], "untrained" if label else None)
        for way, colour in zip(("log_mel", "mfcc"), LINES[2:], strict=False):
            for level in over_seeds(parts.get(next(iter(named)), {}), tests, way, key)[:1]:
                axes.axhline(level, color=colour, linewidth=1.2, linestyle="--", label=WAYS[way])
        names = [label.replace("`speech`: ", "").replace(", ", "\n") for label in named.values()]
        axes.set_xticks(range(len(named)), names, fontsize=7)
        tidy(axes, title, "", "% right", grid=True)
        axes.legend(fontsize=7, frameon=False, loc="upper left", ncols=2, columnspacing=1, handlelength=1.4)
        axes.set_ylim(0, 118)
        axes.set_yticks(range(0, 101, 20))
    return png(figure)


def bar(axes, at: float, width: float, values: list[float], colour: str, label: str | None = None) -> None:
    if values:
        one = interval(values)
        half = 0.0 if one.high is None else one.high - one.mean
        axes.bar(at, one.mean, width, color=colour, label=label)
        axes.errorbar(at, one.mean, half, color=FAINT, linewidth=1, capsize=2 if half else 0)


def took(kept: dict) -> str:
    rows = []
    for part, named in kept["parts"].items():
        seeds = sorted({name.rpartition("/")[2] for name in named})
        minutes = [f"{sum(one[clock] for one in named.values()) / 60:.1f}" for clock in ("cpu_s", "wall_s")]
        rows.append([part, str(len(named)), f"{seeds[0]} to {seeds[-1]}", *minutes])
    head = ["part", "scores", "seeds", "minutes of processor", "minutes on a shared machine"]
    return f"{kept['hardware']}.\n\n{table(head, rows)}"


def write(kept: dict, words: Mapping[str, tuple[str, str, str]]) -> None:
    """Insert all tables into the page, and draw its figure."""
    parts = kept["parts"]
    insert("digits", rows_of(parts, DIGITS, {one: one for one in SPEAKERS}, "clips/digit"), "cpc.md")
    insert("sounds", rows_of(parts, SOUNDS, FOLDS, "clips/class"), "cpc.md")
    insert("schemes", scheme_table(parts), "cpc.md")
    insert("others", other_table(parts), "cpc.md")
    insert("commands", commands(words), "cpc.md")
    insert("took", took(kept), "cpc.md")
    if parts.keys() & (DIGITS.keys() | SOUNDS.keys()):
        (ROOT / "docs" / "figures" / "cpc.png").write_bytes(draw(parts))
