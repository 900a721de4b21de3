"""Run OtoWorld's two experiments in their original and in a corrected form: the table of docs/agents.md.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/otoworld_results.py                       # all missing results
    OMP_NUM_THREADS=1 .venv/bin/python scripts/otoworld_results.py --experiments 1 --seeds 1
    OMP_NUM_THREADS=1 .venv/bin/python scripts/otoworld_results.py --quick               # a trial, not saved
    OMP_NUM_THREADS=1 .venv/bin/python scripts/otoworld_results.py --write               # only the page

Training runs through the command line, with the arguments below; the separator is trained once for all runs. The
last weights play in episodes with other seeds than training, greedily and with the ε that training ended with,
beside scripted agents in the same episodes.
Each score is saved in docs/results/otoworld.json at once, so that the same command resumes after an interruption.
Nothing was tuned on these seeds.
"""

import argparse
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpc_results import said
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from tones_results import ROOT, insert, table

from sonarium.agents.contract import Agent
from sonarium.agents.observing.hearing import READINGS
from sonarium.bench.timing import hardware
from sonarium.features.ears import EarsConfig
from sonarium.measures.statistics import interval, within
from sonarium.play.evaluate import Evaluation, evaluate
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.otoworld import EXPERIMENTS
from sonarium.rooms.seek.suite import HELD_OUT
from sonarium.runs.build import open_learner, open_run

RUNS = ROOT / "runs" / "otoworld"
RESULTS = ROOT / "docs" / "results" / "otoworld.json"
SEEDS = range(100, 105)
EPISODES, AT_MOST = 50, 200
"""Number of test episodes, and their maximum number of steps: nine times the mean of the oracle."""
ROLLOUT = 64
"""Environment steps per training step."""
SEPARATOR = "separator --preset otoworld --sounds phone siren --seconds 1 --steps 300"
STEPS = 38_400
"""Environment steps of a training, which takes about five CPU minutes."""
MENDED = (
    "--separated sums --layers 2 --units 128 --layer-norm --duelling --double --n-steps 5 --sequence-steps 5 "
    "--batch-size 32 --loss huber --gradient-clip 10 --epsilon-schedule linear --epsilon-end 0.05"
)


def original(experiment: int, falls: float) -> str:
    """Flags of the original experiment, in which ε ends at .1 + .8 exp(−falls)."""
    constant = round(STEPS / ROLLOUT / falls)
    env = f"--env sonarium/OtoWorld-{experiment}-original-v0"
    return f"{env} --draw uniform --no-bootstrap-truncated --epsilon-steps {constant}"


WAYS = {
    1: {"as it was": original(1, 0.03), "as it should be": MENDED},
    2: {"as it was": f"{original(2, 2.0)} --train-ears", "as it should be": MENDED},
}
"""Arguments of `sonarium train dqn` besides preset, steps and ears, by experiment and name; those of `MENDED` were
chosen on seed 0 of the first experiment."""
KEYS = {"success": 2, "sna": 2, "steps": 0}
ACTING = ("greedy", "ε-greedy")
"""How agents act when they are scored."""
Scores = Mapping[str, Mapping[str, float]]


def read() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"agents": {}, "scripts": {}}


def keep(kind: str, name: str, found: Any) -> None:
    kept = read()
    kept[kind][name] = found
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def measures(found: Evaluation, agent: str) -> dict[str, dict[str, float | None]]:
    scores = found.scores(agent)
    return {name: {"mean": one.mean, "low": one.low, "high": one.high} for name, one in scores.items()}


def played(experiment: str, agents: Sequence[str], episodes: int, **trained: Agent) -> Evaluation:
    config = replace(EXPERIMENTS[experiment], max_steps=AT_MOST, threads=1)
    return evaluate(agents, config, episodes, HELD_OUT, trained=trained)


def one_run(experiment: int, name: str, seed: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Train one run, and first the separator if it does not exist, and play the test episodes."""
    words, alike = WAYS[experiment][name], "--device cpu --no-pictures".split()
    # OtoWorld trained the separator of its second experiment from scratch, together with the values.
    new = "--train-ears" in words
    ears, run = folder / ("new-ears" if new else "ears"), folder / f"{experiment}-{name}-{seed}".replace(" ", "-")
    steps = ["--steps", "0"] if new else ["--steps", "2"] if quick else []
    said("train", *SEPARATOR.split(), *steps, *alike, "--run", str(ears))
    began, busy = time.perf_counter(), time.process_time()
    updates = 4 if quick else STEPS // ROLLOUT
    said("train", "dqn", "--preset", f"otoworld-{experiment}", "--ears", str(ears), *words.split(), *alike,
         "--steps", str(updates), "--seed", str(seed), "--run", str(run))  # fmt: skip
    took = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - busy, "hardware": hardware()}
    agent: Any = open_run(run).learner
    env = f"{experiment}-original" if "original" in words else str(experiment)
    found = {}
    for acting in ACTING:
        agent.greedy = acting == "greedy"
        with torch.no_grad():
            found[acting] = measures(played(env, (), 2 if quick else EPISODES, agent=agent), "agent")
    # The replay buffer is not needed any more.
    shutil.rmtree(run / "segments", ignore_errors=True)
    return {"steps": updates * ROLLOUT, "took": took, "scores": found}


def measure(experiment: int, name: str, seed: int) -> None:
    job = f"{experiment}/{name}/{seed}"
    if job in read()["agents"]:
        return
    found = one_run(experiment, name, seed, RUNS, False)
    keep("agents", job, found)
    shown = {acting: {key: round(one[key]["mean"], 3) for key in KEYS} for acting, one in found["scores"].items()}
    print(job, shown, round(found["took"]["cpu_s"]), "s", flush=True)


@torch.no_grad()
def measure_readings(places: int = 480, steps: int = 8) -> None:
    """R² of the sine of each source's lateral angle by ridge regression from the features of both sources, on
    random walks in the first experiment; a third of the episodes is held out."""
    if "readings" in read()["scripts"]:
        return
    separator: Any = open_learner(RUNS / "ears")[1].eval()
    env, rng, heard, sines = Seek(EXPERIMENTS["1"], threads=1), np.random.default_rng(0), [], []
    for episode in range(places // steps):
        observation, _ = env.reset(seed=episode)
        for _ in range(steps):
            heard.append(torch.from_numpy(observation))
            sines.append(np.sin(env.episodes.lateral()[0]))
            observation = env.step(int(rng.integers(4)))[0]
    signal = torch.stack(heard)
    parts = [separator.separate(some.mT) for some in signal.split(16)]
    sources = torch.cat(parts).permute(0, 2, 3, 1)
    wanted, fitted, found = np.stack(sines), np.arange(places) < 2 * places // 3, {}
    for name in ("means", "sums"):
        reading = READINGS[name](2, signal.shape[2], 1, env.config.rate, EarsConfig())
        rows = torch.cat([reading.made(some) for some in sources.split(16)]).flatten(1).double().numpy()
        rows = (rows - rows[fitted].mean(0)) / rows[fitted].std(0).clip(1e-9)
        told = RidgeCV(np.logspace(-2, 4, 13)).fit(rows[fitted], wanted[fitted]).predict(rows[~fitted])
        found[name] = np.asarray(r2_score(wanted[~fitted], told, multioutput="raw_values")).tolist()
    keep("scripts", "readings", found)


def measure_scripts(experiment: int) -> None:
    if str(experiment) in read()["scripts"]:
        return
    agents = ("random", "difference", "oracle")
    found = played(str(experiment), agents, EPISODES)
    keep("scripts", str(experiment), {agent: measures(found, agent) for agent in agents})


def over_seeds(found: Sequence[Scores]) -> list[str]:
    """The mean over seeds with its 95 % interval; of a single seed the interval over episodes."""
    cells = []
    for key, digits in KEYS.items():
        if len(found) == 1:
            mean, low, high = (found[0][key][name] for name in ("mean", "low", "high"))
        else:
            ends = (0.0, 1.0) if key != "steps" else (0.0, float(AT_MOST))
            over = within(interval([one[key]["mean"] for one in found]), *ends)
            mean, low, high = over.mean, over.low, over.high
        cells.append(f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
    return cells


def rows(kept: Mapping[str, Any], experiment: int) -> list[list[str]]:
    found = []
    for name in WAYS[experiment]:
        jobs = [kept["agents"][job] for seed in SEEDS if (job := f"{experiment}/{name}/{seed}") in kept["agents"]]
        if jobs:
            minutes = np.median([one["took"]["cpu_s"] / 60 for one in jobs])
            own = [f"{jobs[0]['steps']:,}", f"{minutes:.1f}", str(len(jobs))]
            for acting in ACTING:
                cells = over_seeds([one["scores"][acting] for one in jobs])
                found.append([str(experiment), f"{name}, {acting}", *own, *cells])
    for agent, scores in kept["scripts"].get(str(experiment), {}).items():
        found.append([str(experiment), f"`{agent}`", "–", "–", "–", *over_seeds([scores])])
    return found


def meant() -> str:
    """The command of each form of the experiments."""
    named = [
        f"Experiment {experiment} *{name}* is `sonarium train dqn --preset otoworld-{experiment} --ears runs/ears "
        f"--steps {STEPS // ROLLOUT} {words}`."
        for experiment, ways in WAYS.items()
        for name, words in ways.items()
    ]
    ears = f"Its ears, `runs/ears`, are `sonarium train {SEPARATOR}`, with `--train-ears` after 0 steps."
    return "\n".join([*named, ears])


def write(kept: Mapping[str, Any]) -> None:
    if not kept["agents"] and not kept["scripts"]:
        return
    machines = "; ".join(sorted({one["took"]["hardware"] for one in kept["agents"].values()}))
    head = ["experiment", "agent", "steps", "minutes", "seeds", "success", "SNA", "steps of an episode"]
    every = [row for experiment in WAYS for row in rows(kept, experiment)]
    about = (
        f"{machines}. {STEPS:,} steps of training; {EPISODES} episodes of at most {AT_MOST} steps; minutes of one "
        "processor at the median. With ε-greedy, ε is that at the end of training."
    )
    parts = [about, table(head, every), meant()]
    if readings := kept["scripts"].get("readings"):
        told = "; ".join(f"`{name}` {' and '.join(f'{one:.2f}' for one in by)}" for name, by in readings.items())
        parts.append(
            "R² of the sine of the direction of the telephone and of the siren, by linear regression from the "
            f"features of both sources, in held-out episodes: {told}."
        )
    insert("otoworld", "\n\n".join(parts), "agents.md")


def trial(experiments: Sequence[int]) -> None:
    """Run everything once, shortened, in a separate folder that is removed afterwards."""
    folder = RUNS.with_name("otoworld-quick")
    try:
        for experiment in experiments:
            for name in WAYS[experiment]:
                found = one_run(experiment, name, SEEDS[0], folder, True)
                shown = found["scores"]["greedy"]
                print(experiment, name, {key: shown[key]["mean"] for key in KEYS}, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Results of OtoWorld's experiments.")
    parser.add_argument("--experiments", type=int, nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="at most so many seeds of each")
    parser.add_argument("--quick", action="store_true", help="try everything once, short; nothing is kept")
    parser.add_argument("--write", action="store_true", help="only write the page")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    if flags.quick:
        trial(flags.experiments)
        return
    for experiment in () if flags.write else flags.experiments:
        measure_scripts(experiment)
    for seed in () if flags.write else SEEDS[: flags.seeds]:
        for experiment in flags.experiments:
            for name in WAYS[experiment]:
                measure(experiment, name, seed)
    if not flags.write:
        measure_readings()
    write(read())


if __name__ == "__main__":
    main()
