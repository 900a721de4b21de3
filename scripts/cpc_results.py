"""Train and score what `docs/cpc.md` reports: predictive coding on minutes of sound, beside what it must beat.

    .venv/bin/python scripts/cpc_results.py                       # all parts that are missing, then the page
    .venv/bin/python scripts/cpc_results.py --parts digits,finch  # these parts
    .venv/bin/python scripts/cpc_results.py --write               # only the page, from what is there

Sound comes from ../shared/data. Everything runs on one thread. Each training is kept in runs/cpc and each score in
docs/results/cpc.json as soon as it is there, so that the same command goes on where it was interrupted.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from cpc_experiments import (
    DATA,
    MORE_STEPS,
    PARTS_OF_DATA,
    SCHEMES,
    Score,
    digits,
    finch,
    heard_unlabelled,
    phones,
    samples,
    scheme,
    sounds,
    sounds_heard,
    speaker_frames,
)
from tones_results import ROOT, insert, table

from sonarium.bench.timing import hardware
from sonarium.measures.statistics import interval, paired
from sonarium.models.cpc_presets import DEFAULT, SAMPLES
from sonarium.report.style import FAINT, LINES, panels, png, sheet, tidy

SPEAKERS = ("george", "jackson", "lucas", "theo")
README = {"george": 59.2, "jackson": 89.8, "lucas": 64.2, "theo": 78.0}
RESULTS = ROOT / "docs" / "results" / "cpc.json"
FIVE, THREE = range(100, 105), range(100, 103)
SYLLABLES = (1, 2, 5, 10)


def jobs() -> dict[str, dict[str, Callable[[], Score]]]:
    """By part and name; a job of the first seed also scores the controls, which have no seed."""
    found: dict[str, dict[str, Callable[[], Score]]] = {name: {} for name in PARTS_OF_DATA}
    for seed in FIVE:
        found["digits"] |= {f"{one}/{seed}": partial(digits, seed, one) for one in SPEAKERS}
        found["sounds"] |= {f"{fold}/{seed}": partial(sounds, seed, fold) for fold in ("1", "2")}
        found["heard"] |= {f"{name}/{seed}": partial(heard_unlabelled, seed, name) for name in SCHEMES}
        found["longer-heard"][f"{seed}"] = partial(heard_unlabelled, seed, "same-speaker", DEFAULT, MORE_STEPS)
        found["samples-heard"][f"{seed}"] = partial(
            heard_unlabelled, seed, "same-speaker", SAMPLES, MORE_STEPS, plain=True
        )
        found["sounds-heard"] |= {
            f"default/{seed}": partial(sounds_heard, seed, DEFAULT, "default", MORE_STEPS),
            f"samples/{seed}": partial(sounds_heard, seed, SAMPLES, "samples", MORE_STEPS),
        }
    for seed in THREE:
        for name in SCHEMES:
            found["schemes"] |= {f"{name}/{one}/{seed}": partial(scheme, seed, one, name) for one in SPEAKERS}
        found["speaker-frames"][f"{seed}"] = partial(speaker_frames, seed)
        found["phones"][f"{seed}"] = partial(phones, seed)
        found["finch"][f"{seed}"] = partial(finch, seed)
        found["samples"] |= {f"{one}/{seed}": partial(samples, seed, one) for one in SPEAKERS}
        found["samples-sounds"] |= {
            f"{fold}/{seed}": partial(sounds, seed, fold, SAMPLES, "samples", MORE_STEPS) for fold in ("1", "2")
        }
    return found


def read() -> dict:
    if RESULTS.exists():
        return json.loads(RESULTS.read_text())
    return {"hardware": hardware(), "parts": {}}


def measure(wanted: list[str]) -> None:
    for part, named in jobs().items():
        folder = DATA / PARTS_OF_DATA[part]
        if part not in wanted:
            continue
        if not folder.is_dir():
            print(f"{part}: skipped, for there is no {folder}", flush=True)
            continue
        for name, job in named.items():
            if name in read()["parts"].get(part, {}):
                continue
            begin, busy = time.perf_counter(), time.process_time()
            score = job()
            seconds = {"wall_s": time.perf_counter() - begin, "cpu_s": time.process_time() - busy}
            kept = read()
            kept["parts"].setdefault(part, {})[name] = {"score": score} | seconds
            RESULTS.parent.mkdir(exist_ok=True, parents=True)
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
            print(part, name, {key: round(value, 1) for key, value in score.items()}, flush=True)


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
    more = ["CPC on samples", "the same untrained"] if raw else []
    head = ["", *WAYS, "log-mel, README", "CPC − untrained", *more]
    rows = []
    for label, names in folds.items():
        row = [label, *(cell(over_seeds(kept, names, way)) for way in WAYS)]
        row += [f"{np.mean([published[name] for name in names]):.1f}", gain(kept, names)]
        rows.append(row + [cell(over_seeds(raw, names, way)) for way in ("CPC", "untrained") if raw])
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
    """A row a scheme; below them the same network untrained, whose gain is the first column's aim."""
    kept, plain = parts.get("heard", {}), parts.get("digits", {})
    head = ["negatives", *SPEAKERS, "mean", "less untrained", "less mixed"]
    before, mixed = over_seeds(plain, SPEAKERS, "untrained"), means_of_heard(kept, "mixed")
    rows = []
    for name in SCHEMES:
        means = means_of_heard(kept, name)
        cells = [cell(over_seeds(kept, [name], one)) for one in SPEAKERS]
        rows.append(
            [name, *cells, cell(means), apart(means, before), "" if name == "mixed" else apart(means, mixed)]
        )
    for way in WAYS[1:]:
        cells = [cell(over_seeds(plain, [one], way)) for one in SPEAKERS]
        rows.append([way, *cells, cell(over_seeds(plain, SPEAKERS, way)), "", ""])
    return table(head, rows)


def means_of_heard(kept: Kept, name: str) -> list[float]:
    found = [over_seeds(kept, [name], one) for one in SPEAKERS]
    return np.mean(found, axis=0).tolist() if found[0] else []


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
    """Bars with 95 % intervals over seeds: digits by speaker, sounds by fold, schemes."""
    figure = sheet(9.0, 3.0)
    left, middle, right = panels(figure, 1, 3)[0]
    bars(left, parts.get("digits", {}), {name: [name] for name in SPEAKERS})
    tidy(left, "digits of an unseen speaker", "", "% right", grid=True)
    if left.get_legend_handles_labels()[0]:
        left.legend(fontsize=7, frameon=False, loc="upper left", ncols=4, columnspacing=0.8, handlelength=1)
    bars(middle, parts.get("sounds", {}), {"1 → 2": ["1"], "2 → 1": ["2"]})
    tidy(middle, "ESC-10, from fold to fold", grid=True)
    for place, name in enumerate(SCHEMES):
        label = place == 0
        never, heard = scheme_values(parts.get("schemes", {}), name), means_of_heard(parts.get("heard", {}), name)
        bar(right, place - 0.2, 0.38, never, LINES[0], "never heard" if label else None)
        bar(right, place + 0.2, 0.38, heard, LINES[5], "heard, no labels" if label else None)
    # Nothing to name before anything is measured.
    if right.get_legend_handles_labels()[0]:
        right.legend(fontsize=7, frameon=False, loc="upper left", ncols=2)
    right.set_xticks(range(len(SCHEMES)), [name.replace(" ", "\n").replace("-", "-\n") for name in SCHEMES])
    tidy(right, "digits by scheme of negatives", grid=True)
    for axes in (left, middle, right):
        axes.set_ylim(0, 112)
        axes.set_yticks(range(0, 101, 20))
    return png(figure)


def bars(axes, kept: Kept, folds: dict[str, list[str]]) -> None:
    for number, way in enumerate(WAYS):
        for place, names in enumerate(folds.values()):
            label = way if place == 0 else None
            bar(axes, place + (number - 1.5) * 0.2, 0.19, over_seeds(kept, names, way), LINES[number], label)
    axes.set_xticks(range(len(folds)), list(folds))


def bar(axes, at: float, width: float, values: list[float], colour: str, label: str | None = None) -> None:
    if values:
        one = interval(values)
        half = 0.0 if one.high is None else one.high - one.mean
        axes.bar(at, one.mean, width, color=colour, label=label)
        axes.errorbar(at, one.mean, half, color=FAINT, linewidth=1, capsize=2 if half else 0)


def took(kept: dict) -> str:
    rows = [
        [part, str(len(named)), f"{sum(one['cpu_s'] for one in named.values()) / 60:.1f}",
         f"{sum(one['wall_s'] for one in named.values()) / 60:.1f}"]
        for part, named in kept["parts"].items()
    ]  # fmt: skip
    seeds = f"seeds {FIVE[0]} to {FIVE[-1]} (digits, heard, sounds), {THREE[0]} to {THREE[-1]} (all else)"
    return f"{kept['hardware']}; {seeds}.\n\n" + table(
        ["part", "jobs", "minutes of processor", "minutes on a shared machine"], rows
    )


def write() -> None:
    kept = read()
    parts = kept["parts"]
    folds = {name: [name] for name in SPEAKERS} | {"mean": list(SPEAKERS)}
    insert("digits", fold_table(parts.get("digits", {}), folds, README, parts.get("samples", {})), "cpc.md")
    sound_folds = {"1 → 2": ["1"], "2 → 1": ["2"], "mean": ["1", "2"]}
    insert("sounds", fold_table(parts.get("sounds", {}), sound_folds, {"1": 49.4, "2": 48.1}, {}), "cpc.md")
    insert("heard", heard_table(parts), "cpc.md")
    insert("schemes", scheme_table(parts.get("schemes", {})), "cpc.md")
    insert("others", other_table(parts), "cpc.md")
    insert("took", took(kept), "cpc.md")
    (ROOT / "docs" / "figures" / "cpc.png").write_bytes(draw(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description="Results of predictive coding.")
    parser.add_argument("--parts", default=",".join(PARTS_OF_DATA), help="which, with commas between")
    parser.add_argument("--write", action="store_true", help="only write the page")
    flags = parser.parse_args()
    wanted = flags.parts.split(",")
    if unknown := set(wanted) - set(PARTS_OF_DATA):
        raise SystemExit(f"no part is called {', '.join(sorted(unknown))}: there are {', '.join(PARTS_OF_DATA)}")
    torch.set_num_threads(1)
    if not flags.write:
        measure(wanted)
    write()


if __name__ == "__main__":
    main()
