"""Train world models and score their forecasts: the tables of docs/dreaming.md.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/dreaming_results.py                       # all that is missing
    OMP_NUM_THREADS=1 .venv/bin/python scripts/dreaming_results.py --parts sentences --seeds 2
    OMP_NUM_THREADS=1 .venv/bin/python scripts/dreaming_results.py --write               # only the page

Everything is by the command line: `sonarium train dreaming` with the flags below, and `sonarium score`. Each score
is kept in docs/results/dreaming.json as soon as it is there, so that the same command goes on where it was
interrupted. Recordings come from ../shared/data.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from cpc_results import said
from tones_results import ROOT, insert, table

from sonarium.bench.timing import hardware
from sonarium.measures.statistics import interval

DATA, RUNS = ROOT.parent / "shared" / "data", ROOT / "runs" / "dreaming"
RESULTS = ROOT / "docs" / "results" / "dreaming.json"
SEEDS = range(100, 105)
STEPS = 1000
SOUNDS = {
    "songbird": "--world songbird --level middle --birds 1 --songs 400 --seconds 2",
    "sentences": f"--world sentences --path {DATA / 'fsdd'} --token-seconds 0.04",
    "speech": f"--world recordings --path {DATA / 'librispeech' / 'test-other'} --preset speech --seconds 4",
    "finch": f"--world recordings --path {DATA / 'bengalese_finch'} --rate 32000 --group file --seconds 2",
}
OBJECTIVES = ("dreaming", "reconstruction", "contrast")
CONTROLS = {
    "persistence": "persistence", "linear_ar": "linear AR", "gru_ar": "GRU-AR",
    "shuffled_past": "shuffled past", "random": "untrained", "chance": "chance",
}  # fmt: skip
NEXT = {"hmm": "HMM", "gru_ar": "GRU-AR", "random": "untrained", "planted": "the grammar",
        "real": "real", "copy": "decoded"}  # fmt: skip


def read() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"hardware": hardware(), "scores": {}}


def measure(part: str, objective: str, seed: int) -> None:
    job = f"{part}/{objective}/{seed}"
    if job in read()["scores"]:
        return
    run, begin, busy = RUNS / job.replace("/", "-"), time.perf_counter(), time.process_time()
    own = ["--objective", objective, "--steps", str(STEPS), "--device", "cpu", "--no-pictures"]
    said("train", "dreaming", *SOUNDS[part].split(), *own, "--seed", str(seed), "--run", str(run))
    took = {"wall_s": time.perf_counter() - begin, "cpu_s": time.process_time() - busy}
    [found] = json.loads(said("score", str(run), "--json"))["runs"]
    kept = read()
    kept["scores"][job] = {"scores": {"scores": found["scores"], **found["controls"]}} | took
    RESULTS.parent.mkdir(exist_ok=True, parents=True)
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(
        job,
        {key: round(found["scores"][key], 3) for key in found["scores"] if key[:5] in ("next/", "forec")},
        flush=True,
    )


def cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    found = interval(values)
    return f"{found.mean:.2f}" if found.low is None else f"{found.mean:.2f} ± {found.mean - found.low:.2f}"


def compared(scores: Mapping[str, Any], part: str, controls: Mapping[str, str], keys: Sequence[str]) -> str:
    """A row for each objective, and for each control of Dreaming, over seeds."""
    who = [("scores", one, f"`{one}`") for one in OBJECTIVES]
    rows = []
    for name, objective, label in [*who, *((one, "dreaming", label) for one, label in controls.items())]:
        found = [scores.get(f"{part}/{objective}/{seed}", {}).get("scores", {}).get(name, {}) for seed in SEEDS]
        cells = [cell([one[key] for one in found if key in one]) for key in keys]
        if set(cells) != {"–"}:
            rows.append([label, *cells])
    heads = [key.removeprefix("forecast-").removeprefix("next/").replace("/", " ") for key in keys]
    return table(["", *heads], rows)


def write(kept: Mapping[str, Any]) -> None:
    parts, scores = [kept["hardware"]], kept["scores"]
    for part, flags in SOUNDS.items():
        found = {job: one["scores"]["scores"] for job, one in scores.items() if job.startswith(f"{part}/")}
        if not found:
            continue
        seeds, words = {job.split("/")[2] for job in found}, flags.replace(str(DATA), "../shared/data")
        keys = list(dict.fromkeys(key for one in found.values() for key in one))
        parts.append(f"### {part.capitalize()}")
        parts.append(f"`sonarium train dreaming {words} --steps {STEPS}`, {len(seeds)} seed(s).")
        ahead = [key for key in keys if key.startswith(("forecast-near", "forecast-likelihood"))]
        parts.append(compared(scores, part, CONTROLS, ahead))
        if following := [key for key in keys if key.startswith("next/")]:
            parts.append(compared(scores, part, NEXT, [*following, "next/share recognised"]))
    insert("results", "\n\n".join(parts), "dreaming.md")


def main() -> None:
    parser = argparse.ArgumentParser(description="Results of world models.")
    parser.add_argument("--parts", default=",".join(SOUNDS), help="which, with commas between")
    parser.add_argument("--objectives", default=",".join(OBJECTIVES[:2]), help="which, with commas between")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="at most so many seeds of each")
    parser.add_argument("--write", action="store_true", help="only write the page")
    flags = parser.parse_args()
    wanted = flags.parts.split(",")
    if unknown := set(wanted) - set(SOUNDS):
        raise SystemExit(f"no part is called {', '.join(sorted(unknown))}: there are {', '.join(SOUNDS)}")
    torch.set_num_threads(1)
    for seed in SEEDS[: flags.seeds]:
        for part in wanted:
            for objective in () if flags.write else flags.objectives.split(","):
                measure(part, objective, seed)
    write(read())


if __name__ == "__main__":
    main()
