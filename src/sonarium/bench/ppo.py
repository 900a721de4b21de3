"""Environment steps per second of PPO, updates included, compared with Stable-Baselines3 at the same settings.

Both sides act in CartPole-v1 and learn from the same number of steps. Ours acts in the vector environment on one
thread, Stable-Baselines3 in copies in one process on all threads, as each of them does by default. Preset `fast`
and Stable-Baselines3 with the settings of RL Baselines3 Zoo are also timed until CartPole is solved. In rooms PPO
with memory and binaural features is compared with its rollouts alone.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import gymnasium
import stable_baselines3
import torch
from stable_baselines3 import PPO as Peer
from stable_baselines3.common.env_util import make_vec_env

from sonarium.agents.ppo import PPOConfig
from sonarium.agents.presets import PPO_ENTRY
from sonarium.agents.rollout import Rollout, RolloutConfig, Rollouts
from sonarium.agents.tally import Tally
from sonarium.bench.timing import case, interleaved
from sonarium.models.optim import ScheduleConfig
from sonarium.rooms import SEEK
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import limited

ENV = "CartPole-v1"
SETTINGS: tuple[tuple[str, str, dict[str, Any], dict[str, Any], int], ...] = (
    ("settings of the Zoo, 20 epochs", "zoo", {}, {"epochs": 20}, 20),
    ("settings of the Zoo, 4 epochs", "zoo", {}, {"epochs": 4}, 20),
    ("preset fast, 256 copies", "fast", {"envs": 256}, {"epochs": 5, "minibatches": 8}, 4),
)
"""Name, preset, its changed rollouts and settings, and the updates of a timed run."""
SOLVED, EPISODES = 475.0, 100
"""CartPole-v1 is solved when the mean return of as many consecutive episodes is at least this."""
MOST_STEPS = 100_000
"""Steps of the Zoo, over which learning rates decay."""
SEEDS = 3
"""Most trainings to the solution, after one that is not timed."""
ROOMS = 64


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    found = []
    peer = f"Stable-Baselines3 {stable_baselines3.__version__}"
    for name, preset, changed, settings, updates in SETTINGS:
        ours, theirs, rollouts = both(preset, changed, settings, updates)
        ours_s, theirs_s = interleaved(ours, theirs, repeats)
        size = rollouts.envs * rollouts.rollout_steps
        rates = f"{updates * size / ours_s:,.0f} steps/s, the peer {updates * size / theirs_s:,.0f}"
        work = f"{updates * size} steps of {ENV} in {rollouts.envs} copies, an update every {size}: {rates}"
        found.append(case(f"PPO, {name}", work, peer, ours_s, theirs_s))
    seeds, reached = (count(), count()), ([], [])
    ours_s, theirs_s = interleaved(
        lambda: reached[0].append(solve(next(seeds[0]))),
        lambda: reached[1].append(solve_with_peer(next(seeds[1]))),
        min(repeats, SEEDS),
    )
    shares = ", the peer ".join(f"in {sum(each)} of {len(each)} seeds" for each in reached)
    work = f"{ENV} to a mean return of {SOLVED:g} over {EPISODES} episodes, within {MOST_STEPS:,} steps {shares}"
    found.append(case("PPO, preset fast, to the solution", work, f"{peer}, settings of the Zoo", ours_s, theirs_s))
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


def both(
    preset: str, changed: dict[str, Any], settings: dict[str, Any], updates: int
) -> tuple[Callable[[], object], Callable[[], object], RolloutConfig]:
    """Functions that run the same updates with our agent and with the peer, and the rollouts of each."""
    config = replace(PPO_ENTRY.presets[preset](), schedule=ScheduleConfig(), clip_decays=False, **settings)
    agent, source, engine = ours_of(preset, config, changed, 0)
    rollouts = source.config
    peer = peer_of(rollouts, config, 0)

    def ours() -> None:
        with limited(agent.threads):
            for _ in range(updates):
                agent.update(next(source), engine)
        assert all(bool(one.isfinite().all()) for one in agent.parameters())

    def theirs() -> None:
        peer.learn(updates * rollouts.envs * rollouts.rollout_steps)
        assert all(bool(torch.isfinite(one).all()) for one in peer.policy.parameters())

    return ours, theirs, rollouts


def ours_of(
    preset: str, config: PPOConfig, changed: dict[str, Any], seed: int
) -> tuple[Any, Rollouts, FabricEngine]:
    rollouts = replace(RolloutConfig(ENV), **{**PPO_ENTRY.recipes[preset].rollouts, **changed})
    source, engine = Rollouts(rollouts, seed), FabricEngine("cpu", "32", seed)
    env = gymnasium.make(ENV)
    torch.manual_seed(seed)
    agent: Any = PPO_ENTRY.build(config, env.observation_space, env.action_space)
    source.attach(agent, engine)
    return agent, source, engine


def peer_of(rollouts: RolloutConfig, config: PPOConfig, seed: int, decays: bool = False) -> Peer:
    """The peer with the same settings, whose learning rate and clip range are constant or decay linearly."""
    size, rate, clip = rollouts.envs * rollouts.rollout_steps, config.optimiser.learning_rate, config.clip
    return Peer(
        "MlpPolicy", make_vec_env(ENV, rollouts.envs, seed=seed), (lambda left: rate * left) if decays else rate,
        rollouts.rollout_steps, size // config.minibatches, config.epochs, config.discount, config.trace,
        (lambda left: clip * left) if decays else clip, ent_coef=config.entropy_weight,
        vf_coef=config.value_weight, max_grad_norm=config.gradient_clip, device="cpu", seed=seed,
    )  # fmt: skip


def solve(seed: int) -> bool:
    """Train preset `fast` until CartPole is solved; whether it was."""
    rollouts = PPO_ENTRY.recipes["fast"].rollouts
    updates = MOST_STEPS // (rollouts["envs"] * rollouts["rollout_steps"])
    config = PPO_ENTRY.complete(PPO_ENTRY.presets["fast"](), updates)
    agent, source, engine = ours_of("fast", config, {}, seed)
    tally, last = Tally(), deque[float](maxlen=EPISODES)
    with limited(agent.threads):
        for _ in range(updates):
            data = next(source)
            returns = tally.add("returns", data.reward, data.first, 1.0)
            last.extend(returns[data.terminated | data.truncated].tolist())
            if solved(last):
                return True
            agent.update(data, engine)
    return False


def solve_with_peer(seed: int) -> bool:
    """Train the peer with the settings of RL Baselines3 Zoo until CartPole is solved; whether it was."""
    rollouts = replace(RolloutConfig(ENV), **PPO_ENTRY.recipes["zoo"].rollouts)
    last = deque[float](maxlen=EPISODES)

    def unsolved(local: dict[str, Any], _: Any) -> bool:
        last.extend(info["episode"]["r"] for info in local["infos"] if "episode" in info)
        return not solved(last)

    peer_of(rollouts, PPO_ENTRY.presets["zoo"](), seed, decays=True).learn(MOST_STEPS, callback=unsolved)
    return solved(last)


def solved(last: deque[float]) -> bool:
    return len(last) == EPISODES and sum(last) / EPISODES >= SOLVED
