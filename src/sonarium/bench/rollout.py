"""Environment steps per second without updates: rollouts of PPO compared with Stable-Baselines3 in CartPole-v1,
and the vector version of `sonarium/Seek-v0` compared with copies in one process.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
import stable_baselines3
from stable_baselines3 import PPO as Peer
from stable_baselines3.common.env_util import make_vec_env

from sonarium.agents.presets import PPO_ENTRY
from sonarium.agents.rollout import Rollout, RolloutConfig, Rollouts
from sonarium.bench.timing import case, interleaved
from sonarium.rooms import SEEK
from sonarium.training.engine import FabricEngine

ENV = "CartPole-v1"
PEER = f"Stable-Baselines3 {stable_baselines3.__version__}"
STEPS = 32
"""Steps of each environment copy per rollout."""
ROOMS = 16


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    found = [
        timed(f"{ENV}, preset zoo", copies, PEER, acting(ENV, "zoo", copies), stable(copies), repeats)
        for copies in (8, 64)
    ]
    ours, theirs = acting(SEEK, "seek", ROOMS, "yes"), acting(SEEK, "seek", ROOMS, "no")
    return [*found, timed(f"{SEEK}, preset seek", ROOMS, "copies in one process", ours, theirs, repeats)]


def timed(
    name: str, copies: int, peer: str, ours: Callable[[], object], theirs: Callable[[], object], repeats: int
) -> dict[str, Any]:
    steps = copies * STEPS
    ours_s, theirs_s = interleaved(ours, theirs, repeats)
    rates = f"{steps / ours_s:,.0f} steps/s, the peer {steps / theirs_s:,.0f}"
    return case(name, f"{STEPS} steps of {copies} copies: {rates}", peer, ours_s, theirs_s)


def acting(env: str, preset: str, copies: int, vector: Any = "auto") -> Callable[[], Rollout]:
    """Function that collects a rollout of an agent with these settings."""
    made = gymnasium.make(env)
    agent: Any = PPO_ENTRY.build(PPO_ENTRY.presets[preset](), made.observation_space, made.action_space)
    source = Rollouts(RolloutConfig(env, envs=copies, rollout_steps=STEPS, vector=vector), 0)
    source.attach(agent, FabricEngine("cpu", "32", 0))
    return lambda: next(source)


def stable(copies: int) -> Callable[[], bool]:
    """Function that collects as many steps with Stable-Baselines3."""
    env = make_vec_env(ENV, copies, seed=0)
    peer = Peer("MlpPolicy", env, n_steps=STEPS, batch_size=STEPS * copies, device="cpu", seed=0)
    # It counts steps up to the end of `learn`, which is not reached here.
    _, callback = peer._setup_learn(1)
    return lambda: peer.collect_rollouts(env, callback, peer.rollout_buffer, STEPS)
