"""Environment steps per second of DQN, updates included, compared with Stable-Baselines3 at the same settings.

Both sides act in CartPole-v1 with the settings of RL Baselines3 Zoo: 128 updates on batches of 64 steps from the
replay after every 256 steps. Ours acts in the vector environment, Stable-Baselines3 in copies in one process.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import stable_baselines3
import torch
from stable_baselines3 import DQN as Peer
from stable_baselines3.common.env_util import make_vec_env

from sonarium.agents.presets import DQN_ENTRY
from sonarium.agents.rollout import RolloutConfig, Rollouts
from sonarium.bench.timing import case, interleaved
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import limited
from sonarium.training.state import FileSegments

ENV = "CartPole-v1"
ROLLOUTS = 4
"""Rollouts per timed run."""


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs, steps = both(Path(folder))
        ours_s, theirs_s = interleaved(ours, theirs, repeats)
    rates = f"{steps / ours_s:,.0f} steps/s, the peer {steps / theirs_s:,.0f}"
    work = f"{steps} steps of {ENV} in 8 copies, 128 updates on 64 steps after each 256: {rates}"
    return [case("DQN, settings of the Zoo", work, f"Stable-Baselines3 {stable_baselines3.__version__}",
                 ours_s, theirs_s)]  # fmt: skip


def both(folder: Path) -> tuple[Callable[[], object], Callable[[], object], int]:
    """Functions that run the same updates with our agent and with the peer, and the number of steps of each."""
    rollouts = replace(RolloutConfig(ENV), **DQN_ENTRY.recipes["zoo"].rollouts)
    size = rollouts.envs * rollouts.rollout_steps
    config = replace(DQN_ENTRY.presets["zoo"](), learning_starts=1, epsilon_steps=100)
    source, engine, env = Rollouts(rollouts, 0), FabricEngine("cpu", "32", 0), gymnasium.make(ENV)
    engine.storage = lambda name: FileSegments(folder / name)
    agent: Any = DQN_ENTRY.build(config, env.observation_space, env.action_space)
    source.attach(agent, engine)
    peer = Peer(
        "MlpPolicy", make_vec_env(ENV, rollouts.envs, seed=0), config.optimiser.learning_rate,
        buffer_size=config.replay.replay_steps, learning_starts=0, batch_size=config.batch_size,
        gamma=config.discount, train_freq=rollouts.rollout_steps, gradient_steps=config.gradient_steps,
        target_update_interval=size, max_grad_norm=config.gradient_clip, device="cpu", seed=0,
        policy_kwargs={"net_arch": [config.units] * config.layers},
    )  # fmt: skip

    def ours() -> None:
        with limited(agent.threads):
            for _ in range(ROLLOUTS):
                agent.update(next(source), engine)
        assert all(bool(one.isfinite().all()) for one in agent.parameters())

    def theirs() -> None:
        peer.learn(ROLLOUTS * size)
        assert all(bool(torch.isfinite(one).all()) for one in peer.policy.parameters())

    return ours, theirs, ROLLOUTS * size
