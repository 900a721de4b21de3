"""Environment steps per second of PQN, updates included, compared with our PPO at the same settings.

Both act in the vector environment of CartPole-v1, with the number of copies, steps and minibatches of PQN's preset
`default` and with networks of the same layers.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium

from sonarium.agents.contract import AgentEntry
from sonarium.agents.ppo import PPOConfig
from sonarium.agents.presets import PPO_ENTRY, PQN_ENTRY
from sonarium.agents.rollout import RolloutConfig, Rollouts
from sonarium.bench.timing import case, interleaved
from sonarium.models.optim import ScheduleConfig
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import limited

ENV = "CartPole-v1"
UPDATES = 10
"""Updates per timed run."""


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    ours, theirs, steps = both()
    ours_s, theirs_s = interleaved(ours, theirs, repeats)
    config, rollouts = PQN_ENTRY.presets["default"](), PQN_ENTRY.recipes["default"].rollouts
    rates = f"{steps / ours_s:,.0f} steps/s, the peer {steps / theirs_s:,.0f}"
    work = (
        f"{steps} steps of {ENV} in {rollouts['envs']} copies, {config.epochs} epochs of {config.minibatches} "
        f"minibatches after each {rollouts['envs'] * rollouts['rollout_steps']}: {rates}"
    )
    return [case("PQN, defaults", work, "PPO of ours", ours_s, theirs_s)]


def both() -> tuple[Callable[[], object], Callable[[], object], int]:
    """Functions that run the same updates with PQN and with PPO, and the number of steps of each."""
    config = replace(PQN_ENTRY.presets["default"](), schedule=ScheduleConfig())
    peer = PPOConfig(
        units=config.units, layers=config.layers, activation=config.activation, shared=True, epochs=config.epochs,
        minibatches=config.minibatches, gradient_clip=config.gradient_clip, optimiser=config.optimiser,
        normalise_rewards=config.normalise_rewards,
    )  # fmt: skip
    rollouts = replace(RolloutConfig(ENV), **PQN_ENTRY.recipes["default"].rollouts)
    ours, theirs = (training(*one, rollouts) for one in ((PQN_ENTRY, config), (PPO_ENTRY, peer)))
    return ours, theirs, UPDATES * rollouts.envs * rollouts.rollout_steps


def training(entry: AgentEntry, config: Any, rollouts: RolloutConfig) -> Callable[[], object]:
    source, engine, env = Rollouts(rollouts, 0), FabricEngine("cpu", "32", 0), gymnasium.make(ENV)
    agent: Any = entry.build(config, env.observation_space, env.action_space)
    source.attach(agent, engine)

    def train() -> None:
        with limited(agent.threads):
            for _ in range(UPDATES):
                agent.update(next(source), engine)
        assert all(bool(one.isfinite().all()) for one in agent.parameters())

    return train
