"""Environment steps per second of PPO, updates included, compared with Stable-Baselines3 at the same settings.

Both sides act in CartPole-v1 with the settings of RL Baselines3 Zoo and learn from the same number of steps. Ours
acts in the vector environment on one thread, Stable-Baselines3 in copies in one process on all threads, as each of
them does by default. In rooms PPO with memory and binaural features is compared with its rollouts alone.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import stable_baselines3
import torch
from stable_baselines3 import PPO as Peer
from stable_baselines3.common.env_util import make_vec_env

from sonarium.agents.presets import PPO_ENTRY
from sonarium.agents.rollout import Rollout, RolloutConfig, Rollouts
from sonarium.bench.timing import case, interleaved
from sonarium.models.optim import ScheduleConfig
from sonarium.rooms import SEEK
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import limited

ENV = "CartPole-v1"
UPDATES = 20
"""Updates per timed run."""
ROOMS = 64


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    found = []
    for epochs in (20, 4):
        ours, theirs, steps = both(epochs)
        ours_s, theirs_s = interleaved(ours, theirs, repeats)
        rates = f"{steps / ours_s:,.0f} steps/s, the peer {steps / theirs_s:,.0f}"
        work = f"{steps} steps of {ENV} in 8 copies, an update every 256, {epochs} epochs of 256: {rates}"
        peer = f"Stable-Baselines3 {stable_baselines3.__version__}"
        found.append(case(f"PPO, settings of the Zoo, {epochs} epochs", work, peer, ours_s, theirs_s))
    learning, acting, steps = in_rooms()
    learning_s, acting_s = interleaved(learning, acting, repeats)
    work = f"{steps} steps of {SEEK} in {ROOMS} rooms and an update: {steps / learning_s:,.0f} steps/s"
    found.append(case("PPO with memory, preset seek", work, "rollouts alone", learning_s, acting_s))
    return found


def in_rooms() -> tuple[Callable[[], dict[str, Any]], Callable[[], Rollout], int]:
    """Functions that collect a rollout in rooms and learn from it, and that only collect one; and its number of
    steps."""
    entry = PPO_ENTRY
    rollouts = replace(RolloutConfig(SEEK), **{**entry.recipes["seek"].rollouts, "envs": ROOMS})
    made = gymnasium.make(SEEK)
    config = replace(entry.presets["seek"](), schedule=ScheduleConfig())
    agent: Any = entry.build(config, made.observation_space, made.action_space)
    source, engine = Rollouts(rollouts, 0), FabricEngine("cpu", "32", 0)
    source.attach(agent, engine)
    return lambda: agent.update(next(source), engine), lambda: next(source), rollouts.envs * rollouts.rollout_steps


def both(epochs: int) -> tuple[Callable[[], object], Callable[[], object], int]:
    """Functions that run the same updates with our agent and with the peer, and the number of steps of each."""
    entry = PPO_ENTRY
    rollouts = replace(RolloutConfig(ENV), **entry.recipes["zoo"].rollouts)
    config = replace(entry.presets["zoo"](), epochs=epochs, schedule=ScheduleConfig(), clip_decays=False)
    source, engine = Rollouts(rollouts, 0), FabricEngine("cpu", "32", 0)
    env = gymnasium.make(ENV)
    agent: Any = entry.build(config, env.observation_space, env.action_space)
    source.attach(agent, engine)
    steps = UPDATES * rollouts.envs * rollouts.rollout_steps
    size = rollouts.envs * rollouts.rollout_steps
    peer = Peer(
        "MlpPolicy", make_vec_env(ENV, rollouts.envs, seed=0), config.optimiser.learning_rate,
        rollouts.rollout_steps, size, epochs, config.discount, config.trace, config.clip, ent_coef=0.0,
        vf_coef=config.value_weight, max_grad_norm=config.gradient_clip, device="cpu", seed=0,
    )  # fmt: skip

    def ours() -> None:
        with limited(agent.threads):
            for _ in range(UPDATES):
                agent.update(next(source), engine)
        assert all(bool(one.isfinite().all()) for one in agent.parameters())

    def theirs() -> None:
        peer.learn(steps)
        assert all(bool(torch.isfinite(one).all()) for one in peer.policy.parameters())

    return ours, theirs, steps
