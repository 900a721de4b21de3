"""What a learner promises, and the abilities that it may have.

A learner has `update`. What else it can do it declares by type: it extends the abstract classes of its abilities,
and everything generic asks `isinstance(learner, Encoder)`, never which model it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sonarium.features.contract import FrontEnd
from sonarium.models.actions import Actions
from sonarium.training.contract import Engine, Source, Stateful
from sonarium.worlds.contract import Batch, Signal, SignalKind, World

__all__ = [
    "Decoder", "Density", "Describer", "Encoder", "Engine", "FeatureLearner", "Forecast", "Forecaster",
    "FrameEncoder", "Learner", "MarkovChain", "ModelEntry", "Recipe", "Sampler", "Separator", "SequenceSampler",
    "Source", "Stateful", "StreamSeparator", "Synthesiser",
]  # fmt: skip


class Learner(nn.Module, ABC):
    """A model that learns from batches, and that `copy.deepcopy` copies. Final classes only: no learner extends
    another."""

    minimum_batch_size: int = 1
    """Smallest global batch that it can train on."""
    validated_by: str = ""
    """Which of its metrics, on held-out clips, tells the best weights: the less, the better. By default the first
    that `update` returns."""

    def check(self, source: Source) -> Sequence[str]:
        """Refuse a source that it cannot learn from, before anything is written; return remarks for the user."""
        return ()

    def prepare(self, source: Source, engine: Engine) -> None:
        """Before the first step of a run: take statistics, set a first state. Not called on resuming."""

    @abstractmethod
    def update(self, data: Any, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        """Learn from one batch; return what to log, each under `group/name`."""

    def end_pass(self, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        """After the last batch of a pass through the source: an M-step, say. Logged like an update."""
        return {}

    def remarks(self, metrics: Mapping[str, float]) -> Sequence[str]:
        """What the metrics since the last record say that the user should know; each line is told once."""
        return ()

    def restart(self) -> None:
        """Begin schedules anew: the weights are those of another run."""

    def weights_of(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights in a file of another program by the names of this model; a ValueError without the name of
        the file, where it takes none or not these."""
        raise ValueError(f"{type(self).__name__} begins with the weights of run folders alone: name one")

    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint must keep besides the module's own state: optimisers, replay, random states."""
        return {}


class FeatureLearner(ABC):
    """Learns from the features of its front end alone, so that they can be computed once and kept."""

    front: FrontEnd

    @abstractmethod
    def features(self, batch: Batch) -> Float[Tensor, "clip *feature"]:
        """What the front end makes of the batch, or `batch.features` where they were computed beforehand (the
        signal is then left out of the batch)."""


class Encoder(ABC):
    """From a signal to codes, one frame a clip."""

    dead_below: float = 0.0
    """A code whose standard deviation over clips is no greater carries no information."""

    @abstractmethod
    def encode(self, signal: Float[Tensor, "clip *shape"]) -> Float[Tensor, "clip frame code"]:
        """Codes of clips, independent of their batch mates."""


class FrameEncoder(ABC):
    """From a signal of any length to codes that are frames at a rate."""

    code_rate: float
    """Frames a second."""
    code_first: float
    """Seconds from the beginning of the sound to the middle of the first frame."""

    @abstractmethod
    def encode(
        self,
        signal: Float[Tensor, "clip time *rest"],
        lengths: Int[Tensor, " clip"] | None = None,
        *,
        power: Float[Tensor, " clip"] | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        """Codes of clips of these lengths, independent of batch mates and padding, zeros beyond a clip's own;
        `power` is the mean square of the sound that they are parts of."""

    @abstractmethod
    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Frames of clips of these lengths in samples."""


class Decoder(ABC):
    decodes: bool = True
    """Whether this one can: a decoder may have been left out."""

    @abstractmethod
    def decode(self, codes: Float[Tensor, "clip frame code"]) -> Float[Tensor, "clip *feature"]:
        """Features, which the front end may invert to sound."""


class Sampler(ABC):
    @abstractmethod
    def sample(self, clips: int, generator: torch.Generator) -> Float[Tensor, "clip frame code"]:
        """Codes drawn from the model's prior."""


class Synthesiser(ABC):
    """From codes at a rate to sound of any length."""

    @abstractmethod
    def sound(
        self,
        codes: Float[Tensor, "clip frame code"],
        samples: int | None = None,
        phase: Float[Tensor, "clip bin column"] | None = None,
        iterations: int = 32,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "clip time"]:
        """Sounds of these codes, of `samples` samples, by default of as many as the codes cover; the phase by the
        Griffin-Lim algorithm unless given."""

    @abstractmethod
    def phase(self, signal: Float[Tensor, "clip time"]) -> Float[Tensor, "clip bin column"]:
        """The phase of sounds in radians, which `sound` takes with the codes of the same sounds."""


class SequenceSampler(ABC):
    @abstractmethod
    def sample_frames(
        self, clips: int, frames: int, generator: torch.Generator, temperature: float = 1.0
    ) -> Float[Tensor, "clip frame code"]:
        """Sequences of so many frames of the codes that it is trained on, the first of them drawn, too; a
        temperature above 1 flattens what is drawn from, below 1 sharpens it."""


class MarkovChain(ABC):
    @abstractmethod
    def chain(self) -> tuple[Float[np.ndarray, " state"], Float[np.ndarray, "state state"]]:
        """The share of the time spent in each state, and the probability of each other state once one is left."""


@dataclass(frozen=True)
class Forecast:
    """Futures, drawn several times."""

    codes: Float[Tensor, "sample clip frame code"]
    log_probability: Float[Tensor, "sample clip frame"]
    """Of each drawn state given those before it, in nats."""


class Forecaster(FrameEncoder, ABC):
    """Keeps a state of what was heard, expects the frames to come, and goes on without sound."""

    actions: Actions
    """What each frame may be made with; of no action, an empty one."""
    entries: int = 0
    """Classes of each discrete variable of a state; 0 where there is none."""
    part_names: tuple[str, ...] = ()
    """What `encode_part` gives besides, by name."""
    burn_in: int
    """Frames at the beginning of a sound whose states do not know yet what was before."""

    @abstractmethod
    def states(
        self,
        signal: Float[Tensor, "clip time *rest"],
        *,
        actions: Float[Tensor, "clip frame action"] | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        """The state after each frame, as a decoder takes it; actions are unknown unless given."""

    def encode_part(
        self, signal: Float[Tensor, "clip time *rest"], lengths: Int[Tensor, " clip"] | None, part: str
    ) -> Float[Tensor, "clip frame code"]:
        """Of a state, the part of this name; as `encode`."""
        raise ValueError(f"there is no part '{part}': choose of {', '.join(self.part_names) or 'none'}")

    def classes(self, states: Float[Tensor, "clip frame code"]) -> Int[Tensor, "clip frame variable"]:
        """The class of each discrete variable of states."""
        return torch.zeros(*states.shape[:2], 0, dtype=torch.int64)

    @abstractmethod
    def go_on(
        self,
        states: Float[Tensor, "clip frame code"],
        frames: int,
        samples: int,
        generator: torch.Generator,
        *,
        actions: Float[Tensor, "clip all action"] | None = None,
        temperature: float = 1.0,
    ) -> Forecast:
        """The states after these, drawn `samples` times; actions are those of the states and of the frames to
        come. A temperature below 1 keeps to what is likely, above 1 strays from it."""

    @abstractmethod
    def surprise(
        self,
        signal: Float[Tensor, "clip time *rest"],
        others: Float[Tensor, "other number"],
        *,
        actions: Float[Tensor, "clip frame action"] | None = None,
    ) -> dict[str, Float[Tensor, "clip frame"]]:
        """How unexpected each frame is, in nats, by the name of the measure; `others` are frames, as the front end
        gives them, that could have come instead."""

    def expectations(
        self,
        signal: Float[Tensor, "clip time *rest"],
        *,
        actions: Float[Tensor, "clip frame action"] | None = None,
    ) -> dict[str, Float[Tensor, "clip frame"]]:
        """Of each frame in nats: `log prior`, the log-probability of its state by what futures are drawn from, and
        the entropies of the `prior` and the `posterior`; empty where states have none."""
        return {}

    def forecast(
        self,
        signal: Float[Tensor, "clip time *rest"],
        frames: int,
        samples: int,
        generator: torch.Generator,
        *,
        actions: Float[Tensor, "clip all action"] | None = None,
        temperature: float = 1.0,
    ) -> Forecast:
        """The frames after the end of the signal; actions are those of the past and of the future."""
        past = int(self.code_lengths(torch.tensor([signal.shape[1]])))
        own = None if actions is None else actions[:, :past]
        states = self.states(signal, actions=own)
        return self.go_on(states, frames, samples, generator, actions=actions, temperature=temperature)


class Density(ABC):
    @abstractmethod
    def log_weights(self, batch: Batch, draws: int, generator: torch.Generator) -> Float[Tensor, "draw clip"]:
        """log p(x, z) − log q(z|x) for samples of q: their mean is the ELBO, their log-mean-exp IWAE's bound."""


@dataclass(frozen=True)
class Description:
    """The codes of clips, and what each carries."""

    values: Float[np.ndarray, "clip code"]
    """Numbers; or, of a codebook, the position of the entry that was used."""
    names: tuple[str, ...]
    worth: Float[np.ndarray, " code"]
    """What a code carries, by which codes are ordered."""
    notes: tuple[str, ...]
    """The same in words."""
    alive: Bool[np.ndarray, " code"]
    entries: int | None = None
    """Entries of each codebook, where codes are entries."""

    @property
    def order(self) -> list[int]:
        """The codes that carry most first, the dead ones last."""
        return np.lexsort((-self.worth, ~self.alive)).tolist()


@dataclass(frozen=True)
class Traversal:
    """One code of one clip moved through `steps`, all others held."""

    name: str
    note: str
    alive: bool
    steps: tuple[str, ...]
    own: int
    """The step at which the clip is as it was."""
    codes: Float[Tensor, "step frame code"]


class Describer(ABC):
    """Describes what its codes carry, and traverses each of them."""

    @abstractmethod
    def describe(self, batches: Sequence[Batch]) -> tuple[Description, int, tuple[Traversal, ...]]:
        """The codes of these clips, which clip is the most ordinary, and a traversal of each of its codes."""


class Separator(ABC):
    """From sound at two ears to the sources that it is a sum of, each as it is heard there."""

    sources: int
    """How many it separates."""

    @abstractmethod
    def masks(self, signal: Float[Tensor, "clip time 2"]) -> Float[Tensor, "clip frame bin source 2"]:
        """What each source keeps of each bin of the spectrum at each ear."""

    @abstractmethod
    def separate(self, signal: Float[Tensor, "clip time 2"]) -> Float[Tensor, "clip time source 2"]:
        """The sources of whole clips, in an order that holds throughout a clip."""


State = Any
"""Tensors of a separator between two windows, nested in tuples, each with one row per clip."""


class StreamSeparator(Separator, ABC):
    """Separates sound window by window as it comes, with the same result as on the whole."""

    latency: int
    """Samples by which the sources come later than the sound."""

    @abstractmethod
    def begin(self, clips: int) -> State:
        """The state before the first window."""

    @abstractmethod
    def go_on(
        self, window: Float[Tensor, "clip time 2"], state: State
    ) -> tuple[Float[Tensor, "clip time source 2"], State]:
        """As many samples of the sources as the window has, and the state after it."""


@dataclass(frozen=True)
class Recipe:
    """What a preset wants of the training besides its own configuration; every value is the default of a flag."""

    steps: int = 2000
    """Training steps."""
    clips: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the source of clips, such as the batch size."""
    world: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the world, as far as it has them, such as the sampling rate."""


@dataclass(frozen=True)
class ModelEntry:
    """A model in the catalogue."""

    summary: str
    build: Callable[[Any, Signal], Learner]
    """From a configuration and the form of the signal; the weights are drawn from torch's generator."""
    presets: Mapping[str, Callable[[SignalKind], Any]]
    """Configurations by name, each a frozen dataclass for this form of signal; `default` among them."""
    kinds: tuple[SignalKind, ...] = ("wave", "picture")
    """Forms of signal that it learns from."""
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    """By preset, where it wants other defaults of the training."""
    main: tuple[str, ...] = ()
    """The flags that matter first, by their names; `--help` shows the rest under advanced."""
    trains: bool = True
    """Whether it learns; an encoder from a file does not, and has no untrained control."""
    cut: Literal["piece", "whole"] = "piece"
    """Whether it trains on crops of the clips or on whole clips, where the user does not say."""
    drop_last: bool = True
    """Whether an epoch may leave out its last, smaller batch; a pass of EM or k-means may not."""
    complete: Callable[[Any, World, int], Any] = lambda config, world, steps: config
    """The configuration with what depends on the world or the number of steps, such as the number of a label."""
