"""Episodes of an agent apart from its training, beside the same agent untrained and random actions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch

from sonarium.agents.contract import Agent, alone

FORMAT = 2
"""Of scores.json, as in sonarium.evaluation."""


@dataclass(frozen=True)
class Episodes:
    """Return and length of each episode."""

    returns: np.ndarray
    lengths: np.ndarray

    def scores(self) -> dict[str, float]:
        return {"return": float(self.returns.mean()), "length": float(self.lengths.mean())}


class RandomActions(Agent):
    """Each action drawn from the action space."""

    def __init__(self, space: gymnasium.Space):
        self.space = space

    def initial(self, slots: int) -> None:
        return None

    def act(
        self, memory: Any, observation: Any, first: Any, generator: torch.Generator, info: Any
    ) -> tuple[Any, Any, dict[str, Any]]:
        # The space has a generator of its own, which follows this one.
        self.space.seed(int(torch.randint(2**31, (), generator=generator)))
        return memory, np.stack([self.space.sample() for _ in first]), {}


@torch.no_grad()
def play(agent: Agent, make: Callable[[], gymnasium.Env], episodes: int, seed: int) -> Episodes:
    """Whole episodes, each seeded by its number."""
    env = make()
    numpy = agent.generator_kind == "numpy"
    generator = np.random.default_rng([seed, 0xAC7]) if numpy else torch.Generator().manual_seed(seed)
    returns, lengths = [], []
    for seed_of_episode in np.random.default_rng([seed, 0xE9A]).integers(2**31, size=episodes).tolist():
        (observation, info), memory, first = env.reset(seed=seed_of_episode), agent.initial(1), True
        total, steps, over = 0.0, 0, False
        while not over:
            memory, action, _ = alone(agent, memory, observation, first, generator, info)
            observation, reward, terminated, truncated, info = env.step(action)
            total, steps, first, over = total + float(reward), steps + 1, False, terminated or truncated
        returns.append(total)
        lengths.append(steps)
    env.close()
    return Episodes(np.array(returns), np.array(lengths))


def evaluate(
    agent: Agent, untrained: Agent, make: Callable[[], gymnasium.Env], episodes: int, seed: int
) -> dict[str, Any]:
    """Mean return and length of the agent and of its controls, all in the same episodes."""
    env = make()
    players = {"scores": agent, "random": untrained, "random_actions": RandomActions(env.action_space)}
    env.close()
    found = {name: play(player, make, episodes, seed).scores() for name, player in players.items()}
    return {
        "format": FORMAT,
        "protocol": "episodes",
        "clips": episodes,
        "split": "episodes seeded apart from training",
        "scores": found.pop("scores"),
        "controls": found,
        "seeds": 1,
    }
