"""Evaluation of an agent in held-out episodes, with the untrained agent and random actions as controls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from sonarium.agents.contract import Agent, Info, Memory, Stochastic, stacked, stacked_info
from sonarium.agents.guards import Guarded

SLOTS = 16
"""Number of episodes that are played in parallel."""
Watch = Callable[[Memory, Any, Bool[np.ndarray, " slot"], Info, Bool[np.ndarray, " slot"]], None]
"""Callback before each action: the agent's memory and observation, where an episode begins, `info`, and where one
is still running."""
FORMAT = 2
"""Version of scores.json, as in sonarium.evaluation."""


@dataclass(frozen=True)
class Episodes:
    """Return and length of each episode."""

    returns: np.ndarray
    lengths: np.ndarray

    def scores(self) -> dict[str, float]:
        return {"return": float(self.returns.mean()), "length": float(self.lengths.mean())}


class RandomActions(Agent):
    """Samples each action from the action space."""

    def __init__(self, space: gymnasium.Space):
        self.space = space

    def initial(self, slots: int) -> None:
        return None

    def act(
        self, memory: Any, observation: Any, first: Any, generator: torch.Generator, info: Any
    ) -> tuple[Any, Any, dict[str, Any]]:
        # The space has its own generator, which is seeded from this one.
        self.space.seed(int(torch.randint(2**31, (), generator=generator)))
        return memory, np.stack([self.space.sample() for _ in first]), {}


def generator_of(agent: Agent, seed: int) -> Any:
    """Seeded random generator of the kind that an agent takes."""
    numpy = agent.generator_kind == "numpy"
    return np.random.default_rng([seed, 0xAC7]) if numpy else torch.Generator().manual_seed(seed)


@torch.no_grad()
def play(
    agent: Agent,
    make: Callable[[], gymnasium.Env],
    episodes: int,
    seed: int,
    slots: int = 1,
    watching: Callable[[int], Watch] | None = None,
) -> Episodes:
    """Play whole episodes, each with a seed of its own, up to `slots` of them in parallel; `watching` makes the
    callback of each group from its number of episodes."""
    generator = generator_of(agent, seed)
    seeds = np.random.default_rng([seed, 0xE9A]).integers(2**31, size=episodes).tolist()
    envs = [Guarded(make()) for _ in range(min(slots, episodes))]
    parts = [seeds[start : start + len(envs)] for start in range(0, episodes, len(envs))]
    played = [
        side_by_side(agent, envs[: len(part)], part, generator, None if watching is None else watching(len(part)))
        for part in parts
    ]
    for env in envs:
        env.close()
    return Episodes(*(np.concatenate(column) for column in zip(*played, strict=True)))


def side_by_side(
    agent: Agent, envs: Sequence[gymnasium.Env], seeds: list[int], generator: Any, watch: Watch | None = None
) -> tuple[Float[np.ndarray, " slot"], Int[np.ndarray, " slot"]]:
    """Return and length of one episode in each environment; those that are over wait for the others."""
    begun = [env.reset(seed=seed) for env, seed in zip(envs, seeds, strict=True)]
    shown, infos = [observation for observation, _ in begun], [info for _, info in begun]
    memory, first = agent.initial(len(envs)), np.ones(len(envs), bool)
    returns, lengths, over = np.zeros(len(envs)), np.zeros(len(envs), int), np.zeros(len(envs), bool)
    while not over.all():
        observation, info = stacked(shown), stacked_info(infos)
        if watch is not None:
            watch(memory, observation, first, info, ~over)
        memory, action, _ = agent.act(memory, observation, first, generator, info)
        reward = np.zeros(len(envs))
        for slot in np.flatnonzero(~over).tolist():
            shown[slot], earned, terminated, truncated, infos[slot] = envs[slot].step(action[slot])
            reward[slot], over[slot] = float(earned), terminated or truncated
            lengths[slot] += 1
        memory, first = agent.rewarded(memory, reward), np.zeros(len(envs), bool)
        returns += reward
    return returns, lengths


def evaluate(
    agent: Agent, untrained: Agent, make: Callable[[], gymnasium.Env], episodes: int, seed: int
) -> dict[str, Any]:
    """Mean return and length of the agent and of its controls, all in the same episodes; for a stochastic agent
    with the most probable actions, and the return with sampled ones besides."""
    env = make()
    players = {"scores": agent, "random": untrained, "random_actions": RandomActions(env.action_space)}
    env.close()
    found = {name: by_mode(player, make, episodes, seed) for name, player in players.items()}
    return {
        "format": FORMAT,
        "protocol": "episodes",
        "clips": episodes,
        "split": "episodes seeded apart from training",
        "scores": found.pop("scores"),
        "controls": found,
        "seeds": 1,
    }


def greedily(
    agent: Agent,
    make: Callable[[], gymnasium.Env],
    episodes: int,
    seed: int,
    watching: Callable[[int], Watch] | None = None,
) -> Episodes:
    """Episodes with the most probable actions, or with the only ones of a deterministic agent."""
    if not isinstance(agent, Stochastic):
        return play(agent, make, episodes, seed, SLOTS, watching)
    before, agent.greedy = agent.greedy, True
    try:
        return play(agent, make, episodes, seed, SLOTS, watching)
    finally:
        agent.greedy = before


def by_mode(agent: Agent, make: Callable[[], gymnasium.Env], episodes: int, seed: int) -> dict[str, float]:
    """Scores with greedy actions, and the return with sampled ones, where the agent has both."""
    found = greedily(agent, make, episodes, seed).scores()
    if not isinstance(agent, Stochastic):
        return found
    before, agent.greedy = agent.greedy, False
    found["sampled_return"] = play(agent, make, episodes, seed, SLOTS).scores()["return"]
    agent.greedy = before
    return found
