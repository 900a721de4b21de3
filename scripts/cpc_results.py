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
from collections.abc import Callable
from functools import partial

import torch
from cpc_experiments import (
    DATA,
    MORE_STEPS,
    PARTS_OF_DATA,
    SCHEMES,
    Score,
    digits,
    finch,
    phones,
    samples,
    scheme,
    sounds,
    sounds_heard,
    speaker_frames,
    unlabelled,
)
from cpc_tables import SPEAKERS, write
from tones_results import ROOT

from sonarium.bench.timing import hardware
from sonarium.models.cpc.presets import DEFAULT, SAMPLES

RESULTS = ROOT / "docs" / "results" / "cpc.json"
FIVE, THREE = range(100, 105), range(100, 103)


def jobs() -> dict[str, dict[str, Callable[[], Score]]]:
    """By part and name; a job of the first seed also scores the controls, which have no seed."""
    found: dict[str, dict[str, Callable[[], Score]]] = {name: {} for name in PARTS_OF_DATA}
    for seed in FIVE:
        found["digits"] |= {f"{one}/{seed}": partial(digits, seed, one) for one in SPEAKERS}
        found["sounds"] |= {f"{fold}/{seed}": partial(sounds, seed, fold) for fold in ("1", "2")}
        found["heard"] |= {f"{name}/{seed}": partial(unlabelled, seed, name) for name in SCHEMES}
        found["longer-heard"][f"{seed}"] = partial(unlabelled, seed, "same-speaker", DEFAULT, MORE_STEPS)
        found["samples-heard"][f"{seed}"] = partial(
            unlabelled, seed, "same-speaker", SAMPLES, MORE_STEPS, plain=True
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
        for fold in ("1", "2"):
            job = partial(sounds, seed, fold, SAMPLES, "samples", MORE_STEPS)
            found["samples-sounds"][f"{fold}/{seed}"] = job
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
    write(read())


if __name__ == "__main__":
    main()
