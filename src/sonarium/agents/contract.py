"""What an agent is: from what is observed in many episodes at once to one action in each.

An agent keeps nothing between calls: its memory is a value that goes in and comes out, so that it can be stored
with the steps it belongs to, cut, and started anew. One agent acts in many environments at once, one slot each.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import Space
from jaxtyping import Bool, Shaped

from sonarium.models.contract import Learner

Memory = Any
"""Arrays or tensors with one row a slot, in dictionaries, tuples or dataclasses."""
Info = Mapping[str, Any]
"""What the environment reports besides the observation: arrays with one row a slot."""
Generator = np.random.Generator | torch.Generator


class Agent(ABC):
    """Chooses actions."""

    generator_kind: Literal["numpy", "torch"] = "torch"
    """Which kind of random generator `act` takes."""

    @abstractmethod
    def initial(self, slots: int) -> Memory:
        """The memory of so many episodes that begin."""

    @abstractmethod
    def act(
        self,
        memory: Memory,
        observation: Any,
        first: Bool[np.ndarray, " slot"],
        generator: Any,
        info: Info,
    ) -> tuple[Memory, Shaped[np.ndarray, "slot *action"], dict[str, Any]]:
        """The next memory, one action a slot, and extras to be stored with the step (log-probabilities, values).
        Where `first`, an episode begins, and nothing of the memory of that slot counts."""


@dataclass(frozen=True)
class AgentEntry:
    """An agent that learns, in the catalogue: its learner is an `Agent`, too."""

    summary: str
    build: Callable[[Any, Space, Space], Learner]
    """From a configuration, the observation space and the action space of one environment."""
    presets: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Configurations by name; `default` among them."""
    main: tuple[str, ...] = ()
    """The flags that matter first."""
