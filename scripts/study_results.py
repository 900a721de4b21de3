"""The PPO of Audio_ML_study: its figures reproduced over seeds, and its saved parameters, for docs/agents.md.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/study_results.py                # all missing results
    OMP_NUM_THREADS=1 .venv/bin/python scripts/study_results.py --saved params # the study's files in params/
    OMP_NUM_THREADS=1 .venv/bin/python scripts/study_results.py --write        # only the page

Everything runs through the command line: `sonarium train ppo --preset study`, 500 updates of one episode each, and
`sonarium score`. The figures of the study show the mean return of every ten episodes, including the first point,
which there sums eleven. Each run is saved in docs/results/study.json at once.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpc_results import said
from tones_results import ROOT, insert, table

from sonarium.bench.timing import hardware
from sonarium.report.style import LINES, panels, png, sheet, tidy
from sonarium.training.journal import read_metrics

RUNS, RESULTS = ROOT / "runs" / "study", ROOT / "docs" / "results" / "study.json"
FIGURE = ROOT / "docs" / "figures" / "study.png"
SEEDS = range(100, 105)
EPISODES, TEN = 500, 10
TASKS = {"CartPole-v1": 474.0, "Acrobot-v1": -102.0, "LunarLander-v3": -17.0}
"""Last values in the study's figures, read by eye; its LunarLander is version 2."""
SAVED = {"LunarLander-v3": "LunarLander-v2"}
"""Names of tasks in the study's files, where they differ."""
SCORES = {"return": "greedy", "sampled_return": "sampled actions"}


def read() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"seeds": {}, "saved": {}}


def keep(part: str, job: str, found: dict[str, Any]) -> None:
    kept = read()
    kept[part][job] = found | {"hardware": hardware()}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(job, {name: round(value, 1) for name, value in found["scores"].items()}, flush=True)


def scores(run: Path) -> dict[str, float]:
    found = json.loads(said("score", str(run), "--episodes", "100", "--json"))["runs"][0]["scores"]
    return {name: found[name] for name in SCORES}


def learn(task: str, seed: int) -> None:
    """Train and score as in the study, with another seed."""
    job = f"{task}/{seed}"
    if job in read()["seeds"]:
        return
    run = RUNS / f"{task}-{seed}"
    said("train", "ppo", "--preset", "study", "--env", task, "--steps", str(EPISODES), "--log-every", "1",
         "--no-pictures", "--device", "cpu", "--seed", str(seed), "--run", str(run))  # fmt: skip
    returns = [one["episodes/return"] for one in read_metrics(run / "metrics.jsonl")]
    tens = np.array(returns).reshape(-1, TEN).mean(1)
    keep("seeds", job, {"scores": scores(run), "tens": tens.round(2).tolist()})


def play(task: str, folder: Path) -> None:
    """Score the saved parameters of the study."""
    file, run = folder / f"PPO.{SAVED.get(task, task)}.pt", RUNS / f"{task}-saved"
    if task in read()["saved"]:
        return
    said("train", "ppo", "--preset", "study", "--env", task, "--steps", "0", "--start-from", str(file),
         "--no-pictures", "--device", "cpu", "--run", str(run))  # fmt: skip
    keep("saved", task, {"scores": scores(run)})


def cell(values: list[float]) -> str:
    """The mean, minimum and maximum over seeds: with a seed that learns nothing, errors are not normal."""
    return f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})" if values else "–"


def write(kept: dict[str, Any]) -> None:
    rows = []
    figure = sheet(9.6, 2.9)
    [places] = panels(figure, 1, len(TASKS))
    for (task, ended), axes in zip(TASKS.items(), places, strict=True):
        found = [one for job, one in kept["seeds"].items() if job.startswith(f"{task}/")]
        saved = kept["saved"].get(task, {}).get("scores", {})
        last = [one["tens"][-1] for one in found]
        learnt = [cell([one["scores"][name] for one in found]) for name in SCORES]
        given = [f"{saved[name]:.1f}" if saved else "–" for name in SCORES]
        rows.append([task, str(len(found)), f"{ended:g}", cell(last), *learnt, *given])
        if found:
            curves = np.array([one["tens"] for one in found])
            low, middle, high = np.quantile(curves, (0.25, 0.5, 0.75), axis=0)
            over = TEN * np.arange(1, len(middle) + 1)
            axes.fill_between(over, low, high, color=LINES[0], alpha=0.2, linewidth=0)
            axes.plot(over, middle, color=LINES[0], linewidth=1.6)
            axes.plot(EPISODES, ended, "D", color=LINES[1], markersize=4)
        tidy(axes, task, "episode", "mean return of ten episodes" if axes is places[0] else "", grid=True)
    FIGURE.write_bytes(png(figure))
    head = ["task", "seeds", "the study's figure ends at", "ours, last ten episodes", *(f"{name}, ours" for name
            in SCORES.values()), *(f"{name}, its saved parameters" for name in SCORES.values())]  # fmt: skip
    machines = sorted({one["hardware"] for part in kept.values() for one in part.values()})
    insert("study", "\n\n".join(["; ".join(machines), table(head, rows), PICTURE]), "agents.md")


PICTURE = (
    "![mean return of ten episodes against episodes](figures/study.png)\n\n*`--preset study`, 500 episodes: "
    "median over seeds, and the band from the lower to the upper quartile; diamonds are where the study's own "
    "figures end.*"
)


def main() -> None:
    parser = argparse.ArgumentParser(description="The figures and the saved parameters of Audio_ML_study's PPO.")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="at most so many seeds of each")
    parser.add_argument("--saved", type=Path, help="folder of the study's parameter files, to score those alone")
    parser.add_argument("--write", action="store_true", help="only write the page")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    for task in flags.tasks if not flags.write else ():
        if flags.saved is not None:
            play(task, flags.saved)
            continue
        for seed in SEEDS[: flags.seeds]:
            learn(task, seed)
    write(read())


if __name__ == "__main__":
    main()
