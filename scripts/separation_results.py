"""Train separators on mixtures in rooms and score them in unseen ones: the tables of docs/separation.md.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/separation_results.py                     # all missing results
    OMP_NUM_THREADS=1 .venv/bin/python scripts/separation_results.py --cells aims --seeds 1
    OMP_NUM_THREADS=1 .venv/bin/python scripts/separation_results.py --write             # only the page

Everything runs through the command line: `sonarium train separator` with the flags below, and `sonarium score`.
Each score is saved in docs/results/separation.json at once, so that the same command resumes after an
interruption. Rooms and sounds of the test split are in no training; nothing was tuned on these seeds.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from cpc_results import said
from tones_results import ROOT, insert, table

from sonarium.bench.timing import hardware
from sonarium.measures.statistics import interval

RUNS = ROOT / "runs" / "separation"
RESULTS = ROOT / "docs" / "results" / "separation.json"
SEEDS = range(100, 105)
MIXTURES = 100
STEPS = 2000
VOICES = f"--path {ROOT.parent / 'shared' / 'data' / 'librispeech'}"


@dataclass(frozen=True)
class Cell:
    """One training to score, and its target for the SNR improvement in dB."""

    flags: str
    aim: float | None = None


AIMS = {
    "unlike kinds, anechoic": Cell("", 12),
    "unlike kinds, RT60 0.3 s": Cell("--rt60 0.3", 8),
    "unlike kinds, RT60 0.8 s": Cell("--rt60 0.8", 6),
    "speech with speech, anechoic": Cell(VOICES, 6),
    "speech with speech, RT60 0.5 s": Cell(f"{VOICES} --rt60 0.5", 3),
    "rendered babble with babble, anechoic": Cell("--sounds babble", 6),
    "rendered babble with babble, RT60 0.5 s": Cell("--sounds babble --rt60 0.5", 3),
}
OTHERS = {
    "unlike kinds, anechoic, the listener moves": Cell("--moving"),
    "three unlike kinds, anechoic": Cell("--sources 3"),
}
PRESETS = {
    f"{where}: {preset}": Cell(f"{AIMS[where].flags} --preset {preset}")
    for where in ("unlike kinds, anechoic", "speech with speech, anechoic")
    for preset in ("otoworld", "deep-clustering", "anchors")
}
CELLS = {"aims": AIMS, "others": OTHERS, "presets": PRESETS}
KEYS = {"snr_improvement": "SNR", "si_sdr_improvement": "SI-SDR", "itd_error": "ITD µs", "ild_error": "ILD dB"}
BESIDE = {"spatial_clustering": "clusters", "random": "untrained", "ideal_mask": "ideal mask"}


def read() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def measure(name: str, cell: Cell, seed: int) -> None:
    job = f"{name}/{seed}"
    if job in read():
        return
    run = RUNS / "".join(letter if letter.isalnum() else "-" for letter in job)
    began, busy = time.perf_counter(), time.process_time()
    said("train", "separator", *cell.flags.split(), "--steps", str(STEPS), "--seed", str(seed), "--device", "cpu",
         "--no-pictures", "--run", str(run))  # fmt: skip
    took = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - busy, "hardware": hardware()}
    [found] = json.loads(said("score", str(run), "--mixtures", str(MIXTURES), "--json"))["runs"]
    kept = read()
    kept[job] = {name: found[name] for name in ("scores", "controls", "clips")} | {"steps": STEPS, "took": took}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    gained = {key: round(found["scores"][key], 2) for key in ("snr_improvement", "si_sdr_improvement")}
    print(job, gained, round(took["cpu_s"]), "s", flush=True)


def of(kept: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Results of a cell, by seed."""
    return [kept[job] for seed in SEEDS if (job := f"{name}/{seed}") in kept]


def cell(values: list[float]) -> str:
    """The mean over seeds, with its 95 % interval if there are several."""
    if not values:
        return "–"
    over = interval(values)
    return f"{over.mean:.1f}" if over.low is None else f"{over.mean:.1f} [{over.low:.1f}, {over.high:.1f}]"


def rows(kept: Mapping[str, Any], cells: Mapping[str, Cell]) -> list[list[str]]:
    made = []
    for name, one in cells.items():
        found = of(kept, name)
        if not found:
            continue
        own = [cell([row["scores"][key] for row in found if key in row["scores"]]) for key in KEYS]
        beside = [cell([row["controls"][who]["snr_improvement"] for row in found]) for who in BESIDE]
        made.append([name, str(len(found)), "–" if one.aim is None else f"{one.aim:g}", *own, *beside])
    return made


def write(kept: Mapping[str, Any]) -> None:
    every = [row for row in kept.values() if "took" in row]
    if not every:
        return
    machines = "; ".join(sorted({row["took"]["hardware"] for row in every}))
    minutes = np.median([row["took"]["cpu_s"] / 60 for row in every])
    head = ["mixtures", "seeds", "aim", *KEYS.values(), *(f"{name}, SNR" for name in BESIDE.values())]
    parts = [
        f"{machines}. {STEPS:,} steps of 8 mixtures of 4 s, {minutes:.0f} minutes of one processor at the median, "
        f"rendering included; {MIXTURES} held-out mixtures. SNR and SI-SDR: improvement in dB; ITD and ILD: error."
    ]
    parts += [table(head, found) for cells in CELLS.values() if (found := rows(kept, cells))]
    insert("separation", "\n\n".join(parts), "separation.md")


def main() -> None:
    parser = argparse.ArgumentParser(description="Results of separators.")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="at most so many seeds of each")
    parser.add_argument("--write", action="store_true", help="only write the page")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    for seed in () if flags.write else SEEDS[: flags.seeds]:
        for part in flags.cells:
            for name, one in CELLS[part].items():
                measure(name, one, seed)
    write(read())


if __name__ == "__main__":
    main()
