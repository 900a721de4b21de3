"""Train PPO in classic control and evaluate it apart from training: the tables of docs/agents.md.

    OMP_NUM_THREADS=1 nice -n 10 .venv/bin/python scripts/agents_results.py --runs /tmp/runs/agents --minutes 30

Each seed is trained once and kept; the same command goes on with what is missing until its minutes of processor
time are used up. An evaluation is of the last weights, greedy, in 100 episodes seeded apart from training.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tones_results import ROOT, insert, table

from sonarium.agents.evaluate import play
from sonarium.agents.presets import PPO_ENTRY
from sonarium.agents.rollout import Rollouts, make
from sonarium.bench.timing import hardware
from sonarium.commands.train import plan_from
from sonarium.measures.statistics import Interval, bootstrap, interquartile_mean, probability_of_improvement
from sonarium.runs.plan import RolloutsPlan
from sonarium.training.engine import FabricEngine

TASKS = {
    "CartPole-v1": (50_000, 475.0, {"fast": "--preset fast", "zoo": "--preset zoo"}),
    "Acrobot-v1": (
        300_000, -75.0, {"fast, normalised": "--preset fast --normalise-observations --normalise-rewards"}
    ),
    "LunarLander-v3": (
        400_000, 200.0,
        {
            "normalised": "--units 128 --discount 0.995 --normalise-observations --normalise-rewards --epochs 6 "
            "--minibatches 8 --learning-rate 0.001 --schedule linear --envs 32 --rollout-steps 128"
        },
    ),
}  # fmt: skip
"""Steps of training, the return that counts as reached, and by name the flags of `sonarium train ppo`. What is not
a preset was chosen on seeds 3 to 5."""
SEEDS = range(100, 110)
EPISODES, HELD_OUT = 100, 12_345
RECENT = 20
"""Rollouts over whose episodes the return of training is averaged."""


def one_seed(env: str, flags: str, seed: int) -> dict[str, Any]:
    steps, aim, _ = TASKS[env]
    _, plan = plan_from("ppo", [*flags.split(), "--env", env, "--run", "none"])
    assert isinstance(plan.source, RolloutsPlan)
    rollouts = plan.source.rollouts
    updates = steps // (rollouts.envs * rollouts.rollout_steps)
    config = PPO_ENTRY.complete(plan.learner, updates)
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


def row(env: str, name: str, found: list[dict[str, Any]]) -> list[str]:
    returns = returns_of(found)
    mean, middle = (bootstrap(one, returns) for one in (lambda rows: rows.mean((-2, -1)), interquartile_mean))
    reached = [one["reached"] for one in found if one["reached"]]
    steps = f"{np.median([one['steps'] for one in reached]):,.0f}" if reached else "–"
    seconds = f"{np.median([one['cpu_s'] for one in reached]):.1f}" if reached else "–"
    whole = np.median([one["cpu_s"] for one in found])
    return [
        env, name, str(len(found)), f"{found[0]['steps']:,}", written(mean), written(middle),
        f"{returns.min():.1f}", f"{len(reached)}", steps, seconds, f"{whole:.0f}",
    ]  # fmt: skip


def returns_of(found: list[dict[str, Any]]) -> Any:
    """(run, task), of one task."""
    return np.array([[one["return"]] for one in found])


def written(found: Interval) -> str:
    return f"{found.mean:.1f}" if found.low is None else f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}]"


def compared(env: str, kept: dict[str, list[dict[str, Any]]]) -> str:
    """How often a run with the first flags is better than one with the second."""
    names = [name for name in TASKS[env][2] if f"{env} {name}" in kept]
    if len(names) < 2:
        return ""
    chance = bootstrap(probability_of_improvement, *(returns_of(kept[f"{env} {name}"]) for name in names[:2]))
    return (
        f"On {env} a run of `{names[0]}` is better than one of `{names[1]}` with probability "
        f"{chance.mean:.2f} [{chance.low:.2f}, {chance.high:.2f}].\n\n"
    )


def meant() -> str:
    """The flags by name, of those that are no presets."""
    named = [
        f"*{name}* is `sonarium train ppo --env {env} {flags}`."
        for env, (_, _, settings) in TASKS.items()
        for name, flags in settings.items()
        if flags != f"--preset {name}"
    ]
    return "\n".join(named)


HEAD = [
    "task",
    "settings",
    "seeds",
    "steps",
    "greedy return, 95 %",
    "interquartile mean, 95 %",
    "worst",
    "reached",
    "steps to",
    "CPU s to",
    "CPU s in all",
]


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--runs", type=Path, required=True)
    flags.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    flags.add_argument("--minutes", type=float, default=6.0)
    asked = flags.parse_args()
    torch.set_num_threads(1)
    asked.runs.mkdir(parents=True, exist_ok=True)
    rows, kept = [], {}
    for env in asked.tasks:
        for name, words in TASKS[env][2].items():
            found = []
            for seed in SEEDS:
                path = asked.runs / f"{env}-{name}-{seed}.json".replace(", ", "-")
                if not path.exists() and time.process_time() < 60 * asked.minutes:
                    path.write_text(json.dumps(one_seed(env, words, seed)))
                if path.exists():
                    found.append(json.loads(path.read_text()))
            if found:
                rows.append(row(env, name, found))
                kept[f"{env} {name}"] = found
    if not rows:
        raise SystemExit("nothing was trained: give more --minutes")
    said = "".join(compared(env, kept) for env in asked.tasks)
    insert("classic", f"{hardware()}\n\n{said}{table(HEAD, rows)}\n\n{meant()}", "agents.md")
    (ROOT / "docs" / "results" / "agents.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
