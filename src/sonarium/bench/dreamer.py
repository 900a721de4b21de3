"""An update of Dreamer with the default preset, and its imagination, in CartPole-v1.

The update is compared with the same update with the plain loop over the states, on the same replay. Imagination
from all states at once is compared with imagination from the states of one time step after the other. An update
of the preset `small` is compared with one of the default.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import torch

from sonarium.agents.dreamer import Dreamer
from sonarium.agents.presets import DREAMER_ENTRY
from sonarium.agents.rollout import RolloutConfig, Rollouts
from sonarium.bench.timing import case, interleaved
from sonarium.training.engine import FabricEngine, Precision, native_precisions
from sonarium.training.state import FileSegments

ENV = "CartPole-v1"
UPDATES = 4
"""Updates per timed run."""


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        plain, _ = learning("plain", "32", Path(folder) / "plain")
        for precision in native_precisions():
            ours, agent = learning("fast", precision, Path(folder) / precision)
            ours_s, peer_s = interleaved(ours, plain, repeats)
            kind = "fp32" if precision == "32" else precision
            work = f"{UPDATES} updates, {1000 * ours_s / UPDATES:.0f} ms each: {sizes(agent)}"
            found.append(case(f"update, {kind}", work, "plain loop, fp32", ours_s, peer_s))
            together, apart, work = imagining(agent, precision)
            times = interleaved(together, apart, repeats)
            found.append(case(f"imagination, {kind}", work, "the same, one moment after the other", *times))
        default, _ = learning("fast", "32", Path(folder) / "default")
        small, agent = learning("fast", "32", Path(folder) / "small", "small")
        small_s, default_s = interleaved(small, default, repeats)
        work = f"{UPDATES} updates, {1000 * small_s / UPDATES:.0f} ms each: {sizes(agent)}"
        found.append(case("update, preset small, fp32", work, "preset default, fp32", small_s, default_s))
    return found


def sizes(agent: Dreamer) -> str:
    config = agent.config
    return (
        f"B{config.batch_size} T{config.replay.sequence_steps + 1}, deter {config.dynamics.deter}, horizon "
        f"{config.imagination_horizon}"
    )


def learning(
    loop: str, precision: Precision, folder: Path, preset: str = "default"
) -> tuple[Callable[[], object], Dreamer]:
    """Function that runs updates on a filled replay, and its agent."""
    engine, env = FabricEngine("auto", precision, 0), gymnasium.make(ENV)
    engine.storage = lambda name: FileSegments(folder / name)
    config = DREAMER_ENTRY.presets[preset]()
    config = replace(config, dynamics=replace(config.dynamics, loop=loop))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        agent = Dreamer(config, env.observation_space, env.action_space).to(engine.device)
    source = Rollouts(replace(RolloutConfig(ENV), envs=8, rollout_steps=256), 0)
    source.attach(agent, engine)
    agent.replay.add(next(source), engine)

    def run() -> None:
        for _ in range(UPDATES):
            agent.learn(engine)
        assert all(bool(one.isfinite().all()) for one in agent.parameters())

    return run, agent


def imagining(agent: Dreamer, precision: Precision) -> tuple[Callable[[], object], Callable[[], object], str]:
    engine, config = FabricEngine("auto", precision, 0), agent.config
    moments = config.replay.sequence_steps + 1
    generator = torch.Generator().manual_seed(1)
    feature = torch.randn(moments, config.batch_size, agent.world.number, generator=generator).to(engine.device)

    @torch.no_grad()
    def imagine(rows: torch.Tensor) -> None:
        with engine.autocast():
            agent.imagine(rows, config.imagination_horizon, engine.generator)

    def apart() -> None:
        for rows in feature:
            imagine(rows)

    work = f"{config.imagination_horizon} steps from {moments} × {config.batch_size} states"
    return lambda: imagine(feature.flatten(0, 1)), apart, work
