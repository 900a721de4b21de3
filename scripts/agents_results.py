"""Train agents in classic control and evaluate them on held-out seeds: the tables of docs/agents.md.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/agents_results.py                         # all missing results
    OMP_NUM_THREADS=1 .venv/bin/python scripts/agents_results.py --tasks CartPole-v1 --settings PQN --seeds 2
    OMP_NUM_THREADS=1 .venv/bin/python scripts/agents_results.py --write                 # only the page

Each result is saved in docs/results/agents.json at once, with its learning curve, so that the same command resumes
after an interruption; the page has a figure of the curves for each task. An evaluation is of the last weights,
greedy, in 100 episodes with other seeds than training.
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
from learning_curves import SECONDS, STEPS, Curves, seed_of
from tones_results import ROOT, insert, table

from sonarium.agents.evaluate import play
from sonarium.agents.rollout import Rollouts, make
from sonarium.bench.timing import hardware
from sonarium.catalogue import AGENTS
from sonarium.commands.train import plan_from
from sonarium.measures.statistics import Interval, bootstrap, interquartile_mean, probability_of_improvement
from sonarium.report.learning import beside_each_other
from sonarium.report.style import FAINT, png
from sonarium.runs.plan import RolloutsPlan
from sonarium.training.engine import FabricEngine
from sonarium.training.state import FileSegments


@dataclass(frozen=True)
class Setting:
    words: str
    """Arguments of `sonarium train`: the agent and its flags."""
    steps: int
    """Environment steps."""


LANDING = (
    "--units 128 --discount 0.995 --normalise-observations --normalise-rewards --epochs 6 --minibatches 8 "
    "--learning-rate 0.001 --schedule linear --envs 32 --rollout-steps 128"
)
FIVE_STEPS = "--n-steps 5 --sequence-steps 5 --batch-size 32 --schedule linear"
STEADY = (
    "--n-steps 3 --sequence-steps 3 --batch-size 32 --schedule linear --layer-norm --tau 0.01 "
    "--target-update-interval 1"
)
TASKS = {
    "CartPole-v1": (475.0, {
        "fast": Setting("ppo --preset fast", 50_000),
        "zoo": Setting("ppo --preset zoo", 50_000),
        "DQN": Setting(f"dqn --preset default {STEADY}", 100_000),
        "PQN": Setting("pqn --preset default", 300_000),
        "Dreamer": Setting("dreamer --preset default", 10_000),
        "Dreamer, contrast": Setting("dreamer --preset default --objective dreaming", 10_000),
    }),
    "Acrobot-v1": (-75.0, {
        "fast, normalised": Setting("ppo --preset fast --normalise-observations --normalise-rewards", 300_000),
        "DQN": Setting(f"dqn --preset default {FIVE_STEPS}", 100_000),
        "PQN": Setting("pqn --preset default", 300_000),
    }),
    "LunarLander-v3": (200.0, {
        "normalised": Setting(f"ppo {LANDING}", 400_000),
        "normalised, a million": Setting(f"ppo {LANDING}", 1_000_000),
    }),
}  # fmt: skip
"""Target return, and settings by name. Settings of PPO beyond its presets were chosen on seeds 3 to 5, those of
the other agents on seeds 0 to 2."""
FIGURES = ROOT / "docs" / "figures"
RESULTS = ROOT / "docs" / "results" / "agents.json"
SEEDS = range(100, 110)
EPISODES, HELD_OUT = 100, 12_345
RECENT = 20
"""Number of recent rollouts over which the return of training is averaged."""


def one_seed(env: str, setting: Setting, seed: int, folder: Path) -> dict[str, Any]:
    """Train one seed; the replay buffer is stored in the folder."""
    aim, (name, *flags) = TASKS[env][0], setting.words.split()
    _, plan = plan_from(name, [*flags, "--env", env, "--run", "none"])
    assert isinstance(plan.source, RolloutsPlan)
    rollouts, entry, updates = plan.source.rollouts, AGENTS[name], updates_of(env, setting)
    config = entry.complete(plan.learner, updates)
    source, engine, space = Rollouts(rollouts, seed), FabricEngine("cpu", "32", seed), make(env)
    engine.storage = lambda name: FileSegments(folder / name)
    torch.manual_seed(seed)
    agent: Any = entry.build(config, space.observation_space, space.action_space)
    source.attach(agent, engine)
    began, wall, recent, reached = time.process_time(), time.perf_counter(), [], None
    curve = Curves(updates)
    for update in range(1, updates + 1):
        data = next(source)
        terms = agent.update(data, engine)
        ended = int((data.terminated | data.truncated).sum())
        returned = float(terms["episodes/return"]) if ended else 0.0
        took = time.process_time() - began, time.perf_counter() - wall
        curve.add(update, returned, ended, update * source.batch_size, *took)
        recent = [*recent, *([float(terms["episodes/return"])] if "episodes/return" in terms else [])][-RECENT:]
        if reached is None and len(recent) == RECENT and np.mean(recent) >= aim:
            reached = {"steps": update * source.batch_size, "cpu_s": time.process_time() - began}
    used = {"cpu_s": time.process_time() - began, "wall_s": time.perf_counter() - wall}
    agent.greedy = True
    found = play(agent, lambda: make(env), EPISODES, HELD_OUT, slots=EPISODES)
    return {"seed": seed, "steps": updates * source.batch_size, "reached": reached, **used} | {
        "return": float(found.returns.mean()), "curve": curve.columns
    }  # fmt: skip


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
    """Returns as an array (run, task), with one task."""
    return np.array([[one["return"]] for one in found])


def written(found: Interval) -> str:
    return f"{found.mean:.1f}" if found.low is None else f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}]"


def compared(env: str, kept: dict[str, list[dict[str, Any]]]) -> str:
    """Probability that a run with the first settings is better than one with the second, after equal steps."""
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
    """Commands of the settings that are not presets of PPO, by name."""
    named = [
        f"*{name}* in {env} is `sonarium train {setting.words} --env {env} --steps {updates_of(env, setting)}`."
        for env, (_, settings) in TASKS.items()
        for name, setting in settings.items()
        if setting.words != f"ppo --preset {name}"
    ]
    return "\n".join(named)


def updates_of(env: str, setting: Setting) -> int:
    """Number of training steps (updates), of one rollout each."""
    name, *flags = setting.words.split()
    _, plan = plan_from(name, [*flags, "--env", env, "--run", "none"])
    assert isinstance(plan.source, RolloutsPlan)
    return setting.steps // (plan.source.rollouts.envs * plan.source.rollouts.rollout_steps)


def figures(kept: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Draw the learning curves of each task, of all settings that have them; return Markdown that shows them."""
    shown = []
    for env, (aim, settings) in TASKS.items():
        curves = {
            name: [seed_of(one["curve"]) for one in kept.get(f"{env} {name}", []) if "curve" in one]
            for name in settings
        }
        figure = beside_each_other({name: seeds for name, seeds in curves.items() if seeds}, (STEPS, SECONDS))
        if figure is None:
            continue
        for axes in figure.axes:
            axes.axhline(aim, color=FAINT, linewidth=0.8, linestyle=":")
        file = f"agents-{env.lower()}.png"
        (FIGURES / file).write_bytes(png(figure))
        shown.append(f"![returns in {env} against steps and processor time](figures/{file})")
    return [*shown, LEGEND] if shown else []


LEGEND = (
    "*Mean return of the episodes of training, random actions included, smoothed over 5 % of the training: median "
    "over seeds, and the band from the lower to the upper quartile; dotted the return that counts as reached.*"
)
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


def read() -> dict[str, list[dict[str, Any]]]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def measure(env: str, name: str, seed: int) -> None:
    job = f"{env} {name}"
    if any(one["seed"] == seed for one in read().get(job, [])):
        return
    with tempfile.TemporaryDirectory() as folder:
        found = one_seed(env, TASKS[env][1][name], seed, Path(folder)) | {"hardware": hardware()}
    kept = read()
    kept.setdefault(job, []).append(found)
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(job, seed, f"{found['return']:.1f}, {found['cpu_s']:.0f} s", flush=True)


def write(kept: dict[str, list[dict[str, Any]]]) -> None:
    rows = [
        row(env, name, kept[f"{env} {name}"])
        for env, (_, settings) in TASKS.items() for name in settings if f"{env} {name}" in kept
    ]  # fmt: skip
    machines = sorted({one["hardware"] for found in kept.values() for one in found})
    said = "".join(compared(env, kept) for env in TASKS)
    parts = ["; ".join(machines), f"{said}{table(HEAD, rows)}", *figures(kept), meant()]
    insert("classic", "\n\n".join(parts), "agents.md")


def main() -> None:
    parser = argparse.ArgumentParser(description="Results of agents in classic control.")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--settings", nargs="+", help="names of settings; by default all of a task")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="at most so many seeds of each")
    parser.add_argument("--write", action="store_true", help="only write the page")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    for seed in SEEDS[: flags.seeds]:
        for env in () if flags.write else flags.tasks:
            for name in TASKS[env][1]:
                if flags.settings is None or name in flags.settings:
                    measure(env, name, seed)
    write(read())


if __name__ == "__main__":
    main()
