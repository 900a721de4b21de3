"""Train PPO in classic control and evaluate it apart from training: the tables of docs/agents.md.

    OMP_NUM_THREADS=1 nice -n 10 .venv/bin/python scripts/agents_results.py --runs /tmp/runs/agents --minutes 6

Each seed is trained once and kept; the same command goes on with what is missing until its minutes of processor
time are used up. An evaluation is of the last weights, greedy, in 100 episodes seeded apart from training.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tones_results import ROOT, insert, table

from sonarium.agents.evaluate import play
from sonarium.agents.presets import PPO_ENTRY
from sonarium.agents.rollout import RolloutConfig, Rollouts, make
from sonarium.bench.timing import hardware
from sonarium.measures.statistics import Interval, bootstrap, interquartile_mean, probability_of_improvement
from sonarium.training.engine import FabricEngine

TASKS = {"CartPole-v1": (50_000, 475.0), "Acrobot-v1": (300_000, -75.0)}
"""Steps of training, and the return that counts as reached."""
PRESETS = ("fast", "zoo")
SEEDS = range(100, 110)
EPISODES, HELD_OUT = 100, 12_345
RECENT = 20
"""Rollouts over whose episodes the return of training is averaged."""


def one_seed(env: str, preset: str, seed: int) -> dict[str, Any]:
    steps, aim = TASKS[env]
    rollouts = replace(RolloutConfig(env), **PPO_ENTRY.recipes[preset].rollouts)
    updates = steps // (rollouts.envs * rollouts.rollout_steps)
    config = PPO_ENTRY.complete(PPO_ENTRY.presets[preset](), updates)
    source, engine, space = Rollouts(rollouts, seed), FabricEngine("cpu", "32", seed), make(env)
    torch.manual_seed(seed)
    agent: Any = PPO_ENTRY.build(config, space.observation_space, space.action_space)
    source.attach(agent, engine)
    began, wall, recent, reached = time.process_time(), time.perf_counter(), [], None
    for update in range(1, updates + 1):
        terms = agent.update(next(source), engine)
        recent = [*recent, *([float(terms["episodes/return"])] if "episodes/return" in terms else [])][-RECENT:]
        if reached is None and len(recent) == RECENT and np.mean(recent) >= aim:
            reached = {"steps": update * source.batch_size, "cpu_s": time.process_time() - began}
    used = {"cpu_s": time.process_time() - began, "wall_s": time.perf_counter() - wall}
    agent.greedy = True
    found = play(agent, lambda: make(env), EPISODES, HELD_OUT, slots=EPISODES)
    return {"seed": seed, "steps": updates * source.batch_size, "reached": reached, **used} | {
        "return": float(found.returns.mean())
    }


def row(env: str, preset: str, found: list[dict[str, Any]]) -> list[str]:
    returns = returns_of(found)
    mean, middle = (bootstrap(one, returns) for one in (lambda rows: rows.mean((-2, -1)), interquartile_mean))
    reached = [one["reached"] for one in found if one["reached"]]
    steps = f"{np.median([one['steps'] for one in reached]):,.0f}" if reached else "–"
    seconds = f"{np.median([one['cpu_s'] for one in reached]):.1f}" if reached else "–"
    return [
        env, preset, str(len(found)), written(mean), written(middle), f"{returns.min():.1f}",
        f"{len(reached)}", steps, seconds,
    ]  # fmt: skip


def returns_of(found: list[dict[str, Any]]) -> Any:
    """(run, task), of one task."""
    return np.array([[one["return"]] for one in found])


def written(found: Interval) -> str:
    return f"{found.mean:.1f}" if found.low is None else f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}]"


def compared(env: str, kept: dict[str, list[dict[str, Any]]]) -> str:
    """How often a run of the first preset is better than one of the second."""
    both = [returns_of(kept[name]) for preset in PRESETS if (name := f"{env} {preset}") in kept]
    if len(both) < 2:
        return ""
    chance = bootstrap(probability_of_improvement, *both)
    return (
        f"On {env} a run of `{PRESETS[0]}` is better than one of `{PRESETS[1]}` with probability "
        f"{chance.mean:.2f} [{chance.low:.2f}, {chance.high:.2f}].\n\n"
    )


HEAD = [
    "task",
    "preset",
    "seeds",
    "greedy return, 95 %",
    "interquartile mean, 95 %",
    "worst",
    "reached",
    "steps to",
    "CPU s to",
]


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--runs", type=Path, required=True)
    flags.add_argument("--tasks", nargs="+", default=["CartPole-v1"], choices=list(TASKS))
    flags.add_argument("--minutes", type=float, default=6.0)
    asked = flags.parse_args()
    torch.set_num_threads(1)
    asked.runs.mkdir(parents=True, exist_ok=True)
    rows, kept = [], {}
    for env in asked.tasks:
        for preset in PRESETS:
            found = []
            for seed in SEEDS:
                path = asked.runs / f"{env}-{preset}-{seed}.json"
                if not path.exists() and time.process_time() < 60 * asked.minutes:
                    path.write_text(json.dumps(one_seed(env, preset, seed)))
                if path.exists():
                    found.append(json.loads(path.read_text()))
            if found:
                rows.append(row(env, preset, found))
                kept[f"{env} {preset}"] = found
    if not rows:
        raise SystemExit("nothing was trained: give more --minutes")
    said = "".join(compared(env, kept) for env in asked.tasks)
    insert("classic", f"{hardware()}\n\n{said}{table(HEAD, rows)}", "agents.md")
    (ROOT / "docs" / "results" / "agents.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
