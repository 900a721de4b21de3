"""Interface of agents: from a batch of observations, one per episode, to one action in each.

An agent keeps no state between calls: its memory is passed in and returned, so that it can be stored with the
steps it belongs to, cut, and restarted. One agent acts in many environments at once, one slot each.
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
"""The environment's `info`: arrays of numbers, booleans or strings with one row per slot. Entries that only some
slots have, or whose shapes differ, are left out."""


@runtime_checkable
class HearingConfig(Protocol):
    """Configuration of an agent that can take binaural sound."""

    @property
    def sound_rate(self) -> int:
        """Sampling rate in Hz of the sound that is input as features; 0 is none."""
        ...


class Agent(ABC):
    """Chooses actions."""

    generator_kind: Literal["numpy", "torch"] = "torch"
    """Kind of random generator that `act` takes; both follow the seed."""

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
        """The memory updated with the reward of the last action; unchanged unless the agent uses it."""
        return memory


class Stochastic:
    """Samples its actions from a policy."""

    greedy: bool = False
    """Take the most probable action instead of sampling."""


class NotObservable(ValueError):
    """Imagined states cannot be decoded to observations; the message says why, and what to do instead."""


class Imaginer(ABC):
    """Predicts the outcome of actions with a world model."""

    @abstractmethod
    def imagined(self, memory: Memory, actions: Shaped[np.ndarray, "step slot *action"], generator: Any) -> States:
        """States, (step, slot, number), after each of these actions, of which the memory holds the first."""

    @abstractmethod
    def expected(self, states: States) -> tuple[Float[np.ndarray, "*rows"], Float[np.ndarray, "*rows"]]:
        """Expected reward on arriving at states, and the probability that the episode continues from there."""

    @abstractmethod
    def observed_in(self, states: States) -> Any:
        """Observations decoded from consecutive states, (time, number), one row each; raises `NotObservable` where
        the agent cannot decode them."""


@dataclass(frozen=True)
class Separated:
    """Consecutive windows of binaural sound, and a separator's estimates of the sources."""

    mixture: Float[np.ndarray, "window 2 time"]
    sources: Float[np.ndarray, "window source 2 time"]
    masks: Float[np.ndarray, "frame bin source"]
    """Mask of each source in each bin of the spectrum, from the first window to the last; the mean of both
    ears."""
    rate: int
    """Sampling rate in Hz."""
    carried: bool
    """Whether the separator's state is carried from window to window; otherwise each is separated on its own."""


class SourceListener(ABC):
    """Separates the sound that it observes into sources."""

    @property
    def latency(self) -> int:
        """Delay of the estimated sources behind the sound in samples."""
        return 0

    @abstractmethod
    def sources(
        self, memory: Memory, observation: Any, first: Bool[np.ndarray, " slot"]
    ) -> tuple[Float[np.ndarray, "slot 2 time"], Float[np.ndarray, "slot source 2 time"]]:
        """The observed sound, and the estimates of the sources that it acts on at this observation."""

    @abstractmethod
    def separated(self, observation: Any) -> Separated:
        """Estimates and masks of the sources at the beginning of an episode, from one observation per row, for
        figures and sounds."""


def alone(
    agent: Agent, memory: Memory, observation: Any, first: bool, generator: Any, info: Info
) -> tuple[Memory, Any, dict[str, Any]]:
    """`act` in a single environment, without an axis of slots; the memory is that of `initial(1)`."""
    rows = stacked([observation])
    memory, action, extras = agent.act(memory, rows, np.array([first]), generator, stacked_info([info]))
    return memory, action[0], extras


def stacked(observations: Sequence[Any]) -> Any:
    """Observations stacked to one array with a row for each, or to a dictionary or tuple of such arrays where each
    observation is one."""
    if isinstance(observations[0], Mapping):
        return {name: stacked([one[name] for one in observations]) for name in observations[0]}
    if isinstance(observations[0], tuple):
        return tuple(stacked(parts) for parts in zip(*observations, strict=True))
    return np.stack(observations)


def stacked_info(infos: Sequence[Info]) -> dict[str, Any]:
    """The `info` of all slots, stacked as `act` takes it."""
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
        except ValueError:  # Ragged, or of different shapes in the slots.
            continue
        if column.dtype.kind in "biufU":
            rows[name] = column
    return rows


@dataclass(frozen=True)
class Hearing:
    """A sound encoder that an agent hears through."""

    learner: "Learner"
    """The module whose weights the agent keeps."""
    encoder: "FrameEncoder"
    """The learner itself, or a wrapper that makes frames of its codes."""
    rate: int
    """Sampling rate of its input in Hz."""
    width: int
    """Dimension of a code."""
    differentiable: bool | None = None
    """Whether its codes have a gradient; None if unknown because its weights are not loaded yet."""


@dataclass(frozen=True)
class Separation:
    """A separator that an agent hears through."""

    learner: "Learner"
    """The module whose weights the agent keeps."""
    separator: "Separator"
    """The learner itself."""
    rate: int
    """Sampling rate of its input in Hz."""
    differentiable: bool | None = None
    """Whether its sources have a gradient; None if unknown because its weights are not loaded yet."""
    consecutive: bool = True
    """Whether the windows of an episode are consecutive in time."""


@dataclass(frozen=True)
class AgentEntry:
    """A learning agent in the catalogue; its learner is also an `Agent`."""

    summary: str
    build: Callable[..., "Learner"]
    """Builds the learner from a configuration, the observation space and the action space of one environment, and
    a `Hearing` or `Separation` if it hears through the encoder or separator of another run."""
    presets: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Configurations by name; `default` among them."""
    main: tuple[str, ...] = ()
    """Names of the main flags; `--help` shows the rest under advanced."""
    recipes: Mapping[str, "AgentRecipe"] = field(default_factory=dict)
    """Training defaults by preset, where they differ."""
    complete: Callable[[Any, int], Any] = lambda config, steps: config
    """Fills in what depends on the number of steps of a new run, such as the end of a schedule."""
    hears: bool = False
    """Whether it can hear through the encoder or separator of another run."""


@dataclass(frozen=True)
class AgentRecipe:
    """Training settings of a preset besides its configuration; every value is the default of a flag."""

    steps: int = 2000
    """Training steps, each of one rollout."""
    rollouts: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the rollouts, such as the number of environments."""
