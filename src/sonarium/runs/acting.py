"""A trained agent, ready to act.

agent = sonarium.load("runs/x")
action, state = agent.predict(observation)                        # first step of an episode
action, state = agent.predict(observation, state, reward=reward)  # later steps
"""

from typing import Any, SupportsFloat

import numpy as np
import torch
from gymnasium import Space
from jaxtyping import Bool, Shaped
from numpy.typing import ArrayLike

from sonarium.agents.contract import Agent, Memory, Stochastic, stacked
from sonarium.agents.evaluate import generator_of
from sonarium.agents.rollout import leaves
from sonarium.agents.spaces import flat, parts_of, text_of


class TrainedAgent:
    """Agent with the `predict` interface of Stable-Baselines3, for one environment or a vector environment."""

    def __init__(self, agent: Agent, observation_space: Space, action_space: Space, seed: int = 0):
        self.agent, self.observation_space, self.action_space = agent, observation_space, action_space
        """Spaces of a single environment."""
        begun = agent.initial(1)
        told = agent.rewarded(begun, np.zeros(1))
        self.reads_reward = any(one is not other for one, other in zip(leaves(begun), leaves(told), strict=True))
        """Whether its actions depend on the rewards so far, as those of agents with memory do."""
        self.set_random_seed(seed)

    def set_random_seed(self, seed: int) -> None:
        """Set the seed of sampled actions."""
        self.generator = generator_of(self.agent, seed)

    @torch.no_grad()
    def predict(
        self,
        observation: Any,
        state: Memory = None,
        episode_start: ArrayLike | None = None,
        deterministic: bool = True,
        *,
        reward: SupportsFloat | ArrayLike | None = None,
    ) -> tuple[Shaped[np.ndarray, "*action"] | Any, Memory]:
        """The action, and the state to pass with the next observation; one action for each environment if the
        observation is that of a vector environment.

        Without a state, or where `episode_start` is true, an episode begins. `deterministic` takes the most
        probable action instead of a sampled one. `reward` is the reward of the last action.
        """
        slots = self.slots(observation)
        rows = stacked([observation]) if slots is None else observation
        count = 1 if slots is None else slots
        first = np.full(count, state is None) | self.started(episode_start, count)
        memory = self.agent.initial(count) if state is None else self.told(state, reward, first)
        if isinstance(self.agent, Stochastic):
            self.agent.greedy = deterministic
        memory, action, _ = self.agent.act(memory, rows, first, self.generator, {})
        return (action[0] if slots is None else action), memory

    def started(self, episode_start: ArrayLike | None, count: int) -> Bool[np.ndarray, " slot"]:
        return np.broadcast_to(np.asarray(False if episode_start is None else episode_start, bool), (count,))

    def told(
        self, state: Memory, reward: SupportsFloat | ArrayLike | None, first: Bool[np.ndarray, " slot"]
    ) -> Memory:
        """The state, updated with the reward of the last action."""
        if reward is None:
            if self.reads_reward and not first.all():
                raise ValueError(
                    "this agent reads the reward of its last action: give it, predict(…, reward=reward), or no "
                    "state where an episode begins"
                )
            return state
        return self.agent.rewarded(state, np.full(first.shape, reward, float))

    def slots(self, observation: Any) -> int | None:
        """Number of environments of an observation; None if it is of a single environment."""
        try:
            parts = flat(self.observation_space, observation)
            shapes = [np.shape(part) for part in parts]
        except (AssertionError, LookupError, TypeError, ValueError):
            shapes = []
        own = [space.shape or () for space in parts_of(self.observation_space)]
        if shapes == own:
            return None
        counts = {shape[:1] for shape in shapes}
        if len(counts) != 1 or [shape[1:] for shape in shapes] != own or counts == {()}:
            raise ValueError(
                f"got an observation of shape {', '.join(map(str, shapes)) or 'unknown'}: give one of "
                f"{text_of(self.observation_space)}, or a row of each environment of a vector environment"
            )
        return counts.pop()[0]
