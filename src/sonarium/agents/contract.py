"""The contract of an agent: from the observations of many episodes at once to one action in each.

An agent keeps nothing between calls: its memory is a value that goes in and comes out, so that it can be stored
with the steps it belongs to, cut, and restarted. One agent acts in many environments at once, one slot each.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Shaped

if TYPE_CHECKING:
    # Scripted agents need neither torch nor Gymnasium.
    from gymnasium import Space

    from sonarium.models.contract import Learner

Memory = Any
"""Arrays or tensors with one row per slot, in dictionaries, tuples or dataclasses."""
Info = Mapping[str, Any]
"""The environment's `info`: arrays with one row per slot."""


class Agent(ABC):
    """Chooses actions."""

    generator_kind: Literal["numpy", "torch"] = "torch"
    """Which kind of random generator `act` takes."""

    @abstractmethod
    def initial(self, slots: int) -> Memory:
        """The memory at the beginning of an episode in each slot."""

    @abstractmethod
    def act(
        self, memory: Memory, observation: Any, first: Bool[np.ndarray, " slot"], generator: Any, info: Info
    ) -> tuple[Memory, Shaped[np.ndarray, "slot *action"], dict[str, Any]]:
        """The next memory, one action per slot, and extras to store with the step (log-probabilities, values).

        `first` marks the slots whose observation is the first of an episode; their memory is ignored."""


def alone(
    agent: Agent, memory: Memory, observation: Any, first: bool, generator: Any, info: Info
) -> tuple[Memory, Any, dict[str, Any]]:
    """`act` in a single environment, which has no axis of slots: the memory is that of `initial(1)`."""
    rows = {name: np.asarray(value)[None] for name, value in info.items()}
    if isinstance(observation, Mapping):
        batch: Any = {name: np.asarray(value)[None] for name, value in observation.items()}
    else:
        batch = np.asarray(observation)[None]
    memory, action, extras = agent.act(memory, batch, np.array([first]), generator, rows)
    return memory, action[0], extras


@dataclass(frozen=True)
class AgentEntry:
    """A learning agent, in the catalogue: its learner is an `Agent`, too."""

    summary: str
    build: Callable[[Any, "Space", "Space"], "Learner"]
    """From a configuration, the observation space and the action space of one environment."""
    presets: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Configurations by name; `default` among them."""
    main: tuple[str, ...] = ()
    """The flags that matter first."""
