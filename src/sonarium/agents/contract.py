"""The contract of an agent: from the observations of many episodes at once to one action in each.

An agent keeps nothing between calls: its memory is a value that goes in and comes out, so that it can be stored
with the steps it belongs to, cut, and restarted. One agent acts in many environments at once, one slot each.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Shaped

if TYPE_CHECKING:
    # Scripted agents need no torch.
    from sonarium.models.contract import FrameEncoder, Learner, Separator

Memory = Any
"""Arrays or tensors with one row per slot, in dictionaries, lists, tuples or dataclasses; the structure is that of
`initial` at every step."""
States = Any
"""A tensor of floating-point numbers, (…, number)."""
Info = Mapping[str, Any]
"""The environment's `info`: arrays of numbers, booleans or strings with one row per slot. What only some slots
have, or not in one shape, is left out."""


@runtime_checkable
class HearingConfig(Protocol):
    """The configuration of an agent that may hear."""

    @property
    def sound_rate(self) -> int:
        """Samples a second of the sound that it takes as features; 0 of none."""
        ...


class Agent(ABC):
    """Chooses actions."""

    generator_kind: Literal["numpy", "torch"] = "torch"
    """Which kind of random generator `act` takes; either follows the seed."""

    @abstractmethod
    def initial(self, slots: int) -> Memory:
        """The memory at the beginning of an episode in each slot."""

    @abstractmethod
    def act(
        self, memory: Memory, observation: Any, first: Bool[np.ndarray, " slot"], generator: Any, info: Info
    ) -> tuple[Memory, Shaped[np.ndarray, "slot *action"], dict[str, Any]]:
        """The next memory, one action per slot, and extras to store with the step (log-probabilities, values).

        `first` marks the slots whose observation is the first of an episode; their memory is ignored."""

    def rewarded(self, memory: Memory, reward: Float[np.ndarray, " slot"]) -> Memory:
        """The memory once the reward of the last action is known; unchanged unless the agent needs it."""
        return memory


class Stochastic:
    """Draws its actions from a policy."""

    greedy: bool = False
    """Take the most probable action in place of a drawn one."""


class NotObservable(ValueError):
    """Why states that are imagined cannot be brought back to what is observed, and what to do instead."""


class Imaginer(ABC):
    """Imagines what its actions lead to."""

    @abstractmethod
    def imagined(self, memory: Memory, actions: Shaped[np.ndarray, "step slot *action"], generator: Any) -> States:
        """States, (step, slot, number), after each of these actions, the first of which the memory ends with."""

    @abstractmethod
    def expected(self, states: States) -> tuple[Float[np.ndarray, "*rows"], Float[np.ndarray, "*rows"]]:
        """The reward on arriving at states, and the probability that the episode goes on from there."""

    @abstractmethod
    def observed_in(self, states: States) -> Any:
        """What is observed in states that follow one another, (time, number), with a row for each; `NotObservable`
        where that is unknown."""


@dataclass(frozen=True)
class Separated:
    """Windows of sound at two ears that follow one another, and what a separator makes of them."""

    mixture: Float[np.ndarray, "window 2 time"]
    sources: Float[np.ndarray, "window source 2 time"]
    masks: Float[np.ndarray, "frame bin source"]
    """What each source keeps of each bin of the spectrum, from the first window to the last; the mean of both
    ears."""
    rate: int
    """Samples a second."""
    carried: bool
    """Whether the separator goes on from window to window; else each is separated by itself."""


class SourceListener(ABC):
    """Hears each source by itself."""

    @property
    def latency(self) -> int:
        """Samples by which the sources come later than the sound."""
        return 0

    @abstractmethod
    def sources(
        self, memory: Memory, observation: Any, first: Bool[np.ndarray, " slot"]
    ) -> tuple[Float[np.ndarray, "slot 2 time"], Float[np.ndarray, "slot source 2 time"]]:
        """The sound that is observed, and what it hears of each source, as it acts on this observation."""

    @abstractmethod
    def separated(self, observation: Any) -> Separated:
        """What it hears of each source as an episode begins, of observations one a row, to be seen and heard."""


def alone(
    agent: Agent, memory: Memory, observation: Any, first: bool, generator: Any, info: Info
) -> tuple[Memory, Any, dict[str, Any]]:
    """`act` in a single environment, which has no axis of slots: the memory is that of `initial(1)`."""
    rows = stacked([observation])
    memory, action, extras = agent.act(memory, rows, np.array([first]), generator, stacked_info([info]))
    return memory, action[0], extras


def stacked(observations: Sequence[Any]) -> Any:
    """Observations as one array with a row for each, or a dictionary or tuple of such arrays where each
    observation is one."""
    if isinstance(observations[0], Mapping):
        return {name: stacked([one[name] for one in observations]) for name in observations[0]}
    if isinstance(observations[0], tuple):
        return tuple(stacked(parts) for parts in zip(*observations, strict=True))
    return np.stack(observations)


def stacked_info(infos: Sequence[Info]) -> dict[str, Any]:
    """The `info` of each slot as `act` takes it."""
    rows: dict[str, Any] = {}
    for name in infos[0]:
        if not all(name in info for info in infos):
            continue
        values = [info[name] for info in infos]
        if all(isinstance(value, Mapping) for value in values):
            rows[name] = stacked_info(values)
            continue
        try:
            column = np.stack([np.asarray(value) for value in values])
        except ValueError:  # Ragged, or another shape in each slot.
            continue
        if column.dtype.kind in "biufU":
            rows[name] = column
    return rows


@dataclass(frozen=True)
class Hearing:
    """An encoder of sound that an agent hears with."""

    learner: "Learner"
    """Whose weights the agent keeps."""
    encoder: "FrameEncoder"
    """The learner itself, or what makes frames of its codes."""
    rate: int
    """Samples a second of the sound that it takes."""
    width: int
    """Numbers in a code."""
    differentiable: bool | None = None
    """Whether its codes have a gradient; None if that is not known, for it has no weights yet."""


@dataclass(frozen=True)
class Separation:
    """A separator that an agent hears with."""

    learner: "Learner"
    """Whose weights the agent keeps."""
    separator: "Separator"
    """The learner itself."""
    rate: int
    """Samples a second of the sound that it takes."""
    differentiable: bool | None = None
    """Whether its sources have a gradient; None if that is not known, for it has no weights yet."""
    consecutive: bool = True
    """Whether the windows of an episode that it hears follow one another in time."""


@dataclass(frozen=True)
class AgentEntry:
    """A learning agent, in the catalogue: its learner is an `Agent`, too."""

    summary: str
    build: Callable[..., "Learner"]
    """From a configuration, the observation space and the action space of one environment; of an agent that hears
    with the encoder or the separator of another run, a `Hearing` or a `Separation`, too."""
    presets: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Configurations by name; `default` among them."""
    main: tuple[str, ...] = ()
    """The flags that matter first."""
    recipes: Mapping[str, "AgentRecipe"] = field(default_factory=dict)
    """By preset, where it wants other defaults of the training."""
    complete: Callable[[Any, int], Any] = lambda config, steps: config
    """The configuration with what depends on the number of steps of a new run, such as the end of a schedule."""
    hears: bool = False
    """Whether it can hear with the encoder or the separator of another run."""


@dataclass(frozen=True)
class AgentRecipe:
    """What a preset wants of the training besides its own configuration; every value is the default of a flag."""

    steps: int = 2000
    """Training steps, each of one rollout."""
    rollouts: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the rollouts, such as the copies of the environment."""
