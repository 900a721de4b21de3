"""Train PPO, DQN and PQN in classic control and evaluate it apart from training: the tables of docs/agents.md.

    OMP_NUM_THREADS=1 nice -n 10 .venv/bin/python scripts/agents_results.py --runs /tmp/runs/agents --minutes 30

Each seed is trained once and kept; the same command goes on with what is missing until its minutes of processor
time are used up. An evaluation is of the last weights, greedy, in 100 episodes seeded apart from training.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tones_results import ROOT, insert, table

from sonarium.agents.evaluate import play
from sonarium.agents.rollout import Rollouts, make
from sonarium.bench.timing import hardware
from sonarium.catalogue import AGENTS
from sonarium.commands.train import plan_from
from sonarium.measures.statistics import Interval, bootstrap, interquartile_mean, probability_of_improvement
from sonarium.runs.plan import RolloutsPlan
from sonarium.training.engine import FabricEngine
from sonarium.training.state import FileSegments


@dataclass(frozen=True)
class Setting:
    words: str
    """Of `sonarium train`: the agent and its flags."""
    steps: int
    """Of the environment."""


TASKS = {
    "CartPole-v1": (475.0, {
        "fast": Setting("ppo --preset fast", 50_000),
        "zoo": Setting("ppo --preset zoo", 50_000),
        "DQN": Setting("dqn --preset zoo", 50_000),
        "PQN": Setting("pqn --preset default", 300_000),
    }),
    "Acrobot-v1": (-75.0, {
        "fast, normalised": Setting("ppo --preset fast --normalise-observations --normalise-rewards", 300_000),
        "DQN": Setting("dqn --preset default --schedule linear", 64_000),
        "PQN": Setting("pqn --preset default", 300_000),
    }),
    "LunarLander-v3": (200.0, {
        "normalised": Setting(
            "ppo --units 128 --discount 0.995 --normalise-observations --normalise-rewards --epochs 6 "
            "--minibatches 8 --learning-rate 0.001 --schedule linear --envs 32 --rollout-steps 128",
            400_000,
        ),
    }),
}  # fmt: skip
"""The return that counts as reached, and settings by name. What is not a preset of PPO was chosen on seeds 3 to 5,
and those of DQN and PQN on seeds 0 to 2."""
SEEDS = range(100, 110)
EPISODES, HELD_OUT = 100, 12_345
RECENT = 20
"""Rollouts over whose episodes the return of training is averaged."""


def one_seed(env: str, setting: Setting, seed: int, folder: Path) -> dict[str, Any]:
    """Train once; what the replay keeps on the disk lies in the folder."""
    aim, (name, *flags) = TASKS[env][0], setting.words.split()
    _, plan = plan_from(name, [*flags, "--env", env, "--run", "none"])
    assert isinstance(plan.source, RolloutsPlan)
    rollouts, entry = plan.source.rollouts, AGENTS[name]
    updates = setting.steps // (rollouts.envs * rollouts.rollout_steps)
    config = entry.complete(plan.learner, updates)
    source, engine, space = Rollouts(rollouts, seed), FabricEngine("cpu", "32", seed), make(env)
    engine.storage = lambda name: FileSegments(folder / name)
    torch.manual_seed(seed)
    agent: Any = entry.build(config, space.observation_space, space.action_space)
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
    """How often a run with the first settings is better than one with the second, by as many steps."""
    settings = TASKS[env][1]
    steps = next(iter(settings.values())).steps
    names = [name for name in settings if settings[name].steps == steps and f"{env} {name}" in kept]
    if len(names) < 2:
        return ""
    chance = bootstrap(probability_of_improvement, *(returns_of(kept[f"{env} {name}"]) for name in names[:2]))
    return (
        f"On {env} a run of `{names[0]}` is better than one of `{names[1]}` with probability "
        f"{chance.mean:.2f} [{chance.low:.2f}, {chance.high:.2f}].\n\n"
    )


def meant() -> str:
    """The words by name, of those that are no presets of PPO."""
    named = [
        f"*{name}* in {env} is `sonarium train {setting.words} --env {env}`."
        for env, (_, settings) in TASKS.items()
        for name, setting in settings.items()
        if setting.words != f"ppo --preset {name}"
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
        for name, setting in TASKS[env][1].items():
            found = []
            for seed in SEEDS:
                path = asked.runs / f"{env}-{name}-{seed}.json".replace(", ", "-")
                if not path.exists() and time.process_time() < 60 * asked.minutes:
                    with tempfile.TemporaryDirectory() as folder:
                        path.write_text(json.dumps(one_seed(env, setting, seed, Path(folder))))
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
