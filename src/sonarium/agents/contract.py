"""What an agent promises: to choose an action for each of many episodes from what is heard there.

One agent plays in many rooms at once, one slot a room, as vector environments step them; `alone` lets the same
agent play in a single environment. Agents know of a room what comes to their ears, and `info` where the
environment tells more.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

Info = Mapping[str, Any]
"""What the environment says besides: arrays with one row a slot."""


class Agent(ABC):
    """Chooses actions; what it remembers of each slot it begins anew when told so."""

    @abstractmethod
    def reset(self, count: int) -> None:
        """Begin so many episodes side by side, with nothing in memory."""

    @abstractmethod
    def forget(self, ended: Bool[np.ndarray, " slot"]) -> None:
        """In these slots an episode has ended, and what is heard next comes from a new one."""

    @abstractmethod
    def act(self, observation: Float[np.ndarray, "slot 2 time"], info: Info) -> Int[np.ndarray, " slot"]:
        """One action a slot."""


def alone(agent: Agent, observation: Float[np.ndarray, "2 time"], info: Info) -> int:
    """The action of an agent that was reset for one episode, in an environment that is not a vector."""
    rows = {name: np.asarray(value)[None] for name, value in info.items()}
    return int(agent.act(observation[None], rows)[0])
