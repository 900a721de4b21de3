"""Tables and the figure of `docs/cpc.md`, from the scores that `scripts/cpc_results.py` keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cpc_experiments import SCHEMES
from tones_results import ROOT, insert, table

from sonarium.measures.statistics import interval, paired
from sonarium.report.style import FAINT, LINES, panels, png, sheet, tidy

SPEAKERS = ("george", "jackson", "lucas", "theo")
README = {"george": 59.2, "jackson": 89.8, "lucas": 64.2, "theo": 78.0}
FOLDS = {"1 → 2": ("1",), "2 → 1": ("2",), "mean": ("1", "2")}
PUBLISHED = {"1": 49.4, "2": 48.1}
SYLLABLES = (1, 2, 5, 10)
Kept = dict[str, dict]


def over_seeds(kept: Kept, names: Sequence[str], way: str) -> list[float]:
    """For each seed, the mean of the score over the folds of these names; seeds that lack one are left out."""
    seeds = sorted({name.rpartition("/")[2] for name in kept})
    found = []
    for seed in seeds:
        cells = [kept.get(f"{name}/{seed}".lstrip("/"), {}).get("score", {}) for name in names]
        if all(way in cell for cell in cells):
            found.append(float(np.mean([cell[way] for cell in cells])))
    return found


def over_ways(kept: Kept, name: str, ways: Sequence[str]) -> list[float]:
    """For each seed, the mean of these scores of its one job."""
    found = [over_seeds(kept, [name], way) for way in ways]
    return np.mean(found, axis=0).tolist() if all(found) else []


def cell(values: list[float]) -> str:
    if not values:
        return "–"
    one = interval(values)
    return f"{one.mean:.1f}" if one.high is None else f"{one.mean:.1f} ± {one.high - one.mean:.1f}"


def gain(kept: Kept, names: Sequence[str]) -> str:
    return apart(*(over_seeds(kept, names, way) for way in ("CPC", "untrained")))


def apart(first: list[float], second: list[float]) -> str:
    """The difference seed for seed, of as many as both have."""
    if not first or len(first) != len(second):
        return "–"
    one = paired(first, second).difference
    return f"{one.mean:+.1f}" if one.high is None else f"{one.mean:+.1f} ± {one.high - one.mean:.1f}"


WAYS = ("CPC", "untrained", "log-mel", "MFCC")


def fold_table(kept: Kept, folds: Mapping[str, Sequence[str]], published: dict[str, float], raw: Kept) -> str:
    """A row a fold; controls need no seed."""
    more = ["CPC on samples", "the same untrained", "difference"] if raw else []
    head = ["", *WAYS, "log-mel, README", "CPC − untrained", *more]
    rows = []
    for label, names in folds.items():
        row = [label, *(cell(over_seeds(kept, names, way)) for way in WAYS)]
        row += [f"{np.mean([published[name] for name in names]):.1f}", gain(kept, names)]
        if raw:
            row += [*(cell(over_seeds(raw, names, way)) for way in WAYS[:2]), gain(raw, names)]
        rows.append(row)
    return table(head, rows)


def scheme_table(kept: Kept) -> str:
    rows = []
    for name in SCHEMES:
        cells = [cell(over_seeds(kept, [f"{name}/{one}"], "CPC")) for one in SPEAKERS]
        rows.append([name, *cells, cell(scheme_values(kept, name)), against(kept, name)])
    return table(["negatives", *SPEAKERS, "mean", "less mixed"], rows)


def against(kept: Kept, name: str) -> str:
    return "" if name == "mixed" else apart(scheme_values(kept, name), scheme_values(kept, "mixed"))


def heard_table(parts: dict[str, Kept]) -> str:
    """A row per scheme, then longer trainings; below them what was not trained."""
    kept, plain = parts.get("heard", {}), parts.get("digits", {})
    head = ["learner", *SPEAKERS, "mean", "less untrained", "less mixed"]
    before, mixed = over_seeds(plain, SPEAKERS, "untrained"), over_ways(kept, "mixed", SPEAKERS)

    def row(label: str, kept: Kept, name: str, more: str = "") -> list[str]:
        ways = [one + more for one in SPEAKERS]
        return [label, *(cell(over_seeds(kept, [name], way)) for way in ways), cell(over_ways(kept, name, ways))]

    rows = []
    for name in SCHEMES:
        means = over_ways(kept, name, SPEAKERS)
        rows.append([*row(name, kept, name), apart(means, before), "" if name == "mixed" else apart(means, mixed)])
    longer, samples = parts.get("longer-heard", {}), parts.get("samples-heard", {})
    found = over_ways(longer, "", SPEAKERS)
    rows.append([*row("same-speaker, 1,500 steps", longer, ""), apart(found, before), apart(found, mixed)])
    found = over_ways(samples, "", SPEAKERS)
    plain_samples = over_ways(samples, "", [f"{one} untrained" for one in SPEAKERS])
    rows.append([*row("the same on samples", samples, ""), apart(found, plain_samples), apart(found, mixed)])
    for way in WAYS[1:]:
        cells = [cell(over_seeds(plain, [one], way)) for one in SPEAKERS]
        rows.append([way, *cells, cell(over_seeds(plain, SPEAKERS, way)), "", ""])
    rows.append([*row("untrained on samples", samples, "", " untrained"), "", ""])
    return table(head, rows)


def sounds_heard_table(parts: dict[str, Kept]) -> str:
    """A row per test fold: both networks, and the same untrained."""
    kept, plain = parts.get("sounds-heard", {}), parts.get("sounds", {})
    head = ["", "mel bands", "untrained", "difference", "samples", "untrained", "difference", *WAYS[2:]]
    rows = []
    for label, folds in FOLDS.items():
        row = [label]
        for network in ("default", "samples"):
            both = [over_ways(kept, network, [f"{way} {fold}" for fold in folds]) for way in WAYS[:2]]
            row += [*map(cell, both), apart(*both)]
        rows.append(row + [cell(over_seeds(plain, folds, way)) for way in WAYS[2:]])
    return table(head, rows)


@dataclass(frozen=True)
class Case:
    """A network on one sound, trained and untrained, a value for each seed."""

    network: str
    known: str
    """Whether the sound of the test split was in the training sound, without labels."""
    trained: list[float]
    untrained: list[float]


def cases(parts: dict[str, Kept]) -> dict[str, list[Case]]:
    """What the aim is compared with: digits and environmental sounds, with the test sound absent from the training
    sound or in it without labels."""
    unknown, known = "no", "unlabelled"
    bands, longer, samples = "mel bands, 300", "mel bands, 1,500", "samples, 1,500"

    def kept(part: str) -> Kept:
        return parts.get(part, {})

    def by_fold(part: str, folds: Sequence[str]) -> list[list[float]]:
        return [over_seeds(kept(part), folds, way) for way in WAYS[:2]]

    untrained = over_seeds(kept("digits"), SPEAKERS, "untrained")
    both = [[f"{way} {fold}" for fold in ("1", "2")] for way in WAYS[:2]]
    return {
        "digits": [
            Case(bands, unknown, *by_fold("digits", SPEAKERS)),
            Case(samples, unknown, *by_fold("samples", SPEAKERS)),
            Case(longer, known, over_ways(kept("longer-heard"), "", SPEAKERS), untrained),
            Case(
                samples,
                known,
                over_ways(kept("samples-heard"), "", SPEAKERS),
                over_ways(kept("samples-heard"), "", [f"{one} untrained" for one in SPEAKERS]),
            ),
        ],
        "sounds": [
            Case(bands, unknown, *by_fold("sounds", ("1", "2"))),
            Case(samples, unknown, *by_fold("samples-sounds", ("1", "2"))),
            Case(longer, known, *(over_ways(kept("sounds-heard"), "default", ways) for ways in both)),
            Case(samples, known, *(over_ways(kept("sounds-heard"), "samples", ways) for ways in both)),
        ],
    }


PLAIN = {"digits": SPEAKERS, "sounds": ("1", "2")}
"""Parts that have the controls, and their folds."""
TITLES = {"digits": "digits of another speaker", "sounds": "ESC-10, from fold to fold"}


def aim_table(parts: dict[str, Kept]) -> str:
    head = ["sound", "network, steps", "test sound in training", "CPC", "untrained", "difference", *WAYS[2:]]
    rows = []
    for sound, found in cases(parts).items():
        plain = [cell(over_seeds(parts.get(sound, {}), PLAIN[sound], way)) for way in WAYS[2:]]
        for case in found:
            figures = [cell(case.trained), cell(case.untrained), apart(case.trained, case.untrained)]
            rows.append([TITLES[sound], case.network, case.known, *figures, *plain])
    return table(head, rows)


def scheme_values(kept: Kept, name: str) -> list[float]:
    return over_seeds(kept, [f"{name}/{one}" for one in SPEAKERS], "CPC")


def other_table(parts: dict[str, Kept]) -> str:
    """Speakers, phones and syllables."""
    lines = [("speaker a frame, mean removed: linear", "speaker-frames", ""),
             ("speaker a frame, mean removed: network", "speaker-frames", " by a network"),
             ("phone a frame, within one utterance", "phones", "")]  # fmt: skip
    lines += [(f"finch syllable, {n} label(s) a class", "finch", f" {n}") for n in SYLLABLES]
    rows = []
    for label, part, more in lines:
        kept = parts.get(part, {})
        if kept:
            rows.append([label, *(cell(over_seeds(kept, [""], way + more)) for way in WAYS)])
    return table(["", *WAYS], rows)


def draw(parts: dict[str, Kept]) -> bytes:
    """Bars with 95 % intervals over seeds: digits and sounds, trained and untrained; schemes of negatives."""
    figure = sheet(9.6, 3.3)
    *both, right = panels(figure, 1, 3)[0]
    for axes, (sound, found) in zip(both, cases(parts).items(), strict=True):
        for place, case in enumerate(found):
            bar(axes, place - 0.2, 0.38, case.trained, LINES[0], None if place else "CPC")
            bar(axes, place + 0.2, 0.38, case.untrained, LINES[1], None if place else "untrained")
        for way, colour in zip(WAYS[2:], LINES[2:], strict=False):
            for level in over_seeds(parts.get(sound, {}), PLAIN[sound], way)[:1]:
                axes.axhline(level, color=colour, linewidth=1.2, linestyle="--", label=way)
        known = {"no": "unknown", "unlabelled": "known"}
        names = [f"{case.network.partition(',')[0]}\n{known[case.known]}" for case in found]
        axes.set_xticks(range(len(found)), names)
        tidy(axes, TITLES[sound], "", "% right" if axes is both[0] else "", grid=True)
    for place, name in enumerate(SCHEMES):
        label = place == 0
        unknown = scheme_values(parts.get("schemes", {}), name)
        known = over_ways(parts.get("heard", {}), name, SPEAKERS)
        bar(right, place - 0.2, 0.38, unknown, LINES[0], "unknown" if label else None)
        bar(right, place + 0.2, 0.38, known, LINES[5], "known, no labels" if label else None)
    right.set_xticks(range(len(SCHEMES)), [name.replace(" ", "\n").replace("-", "-\n") for name in SCHEMES])
    tidy(right, "digits by scheme of negatives", grid=True)
    for axes in (*both, right):
        # Nothing to name before anything is measured.
        if axes.get_legend_handles_labels()[0]:
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
    head = ["part", "jobs", "seeds", "minutes of processor", "minutes on a shared machine"]
    return f"{kept['hardware']}.\n\n{table(head, rows)}"


def write(kept: dict) -> None:
    """Put every table into the page, and draw its figure."""
    parts = kept["parts"]
    folds = {name: [name] for name in SPEAKERS} | {"mean": list(SPEAKERS)}
    insert("aim", aim_table(parts), "cpc.md")
    insert("digits", fold_table(parts.get("digits", {}), folds, README, parts.get("samples", {})), "cpc.md")
    raw = parts.get("samples-sounds", {})
    insert("sounds", fold_table(parts.get("sounds", {}), FOLDS, PUBLISHED, raw), "cpc.md")
    insert("sounds heard", sounds_heard_table(parts), "cpc.md")
    insert("heard", heard_table(parts), "cpc.md")
    insert("schemes", scheme_table(parts.get("schemes", {})), "cpc.md")
    insert("others", other_table(parts), "cpc.md")
    insert("took", took(kept), "cpc.md")
    (ROOT / "docs" / "figures" / "cpc.png").write_bytes(draw(parts))
