"""Interfaces of learners: their base class, and abstract classes of optional capabilities.

Every learner has `update`. It declares further capabilities by inheriting from their abstract classes, and generic
code tests `isinstance(learner, Encoder)`, never for a concrete model.
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
    """Base class of trainable models, which support `copy.deepcopy`. Final: no learner inherits from another."""

    minimum_batch_size: int = 1
    """Minimum global batch size in training."""
    validated_by: str = ""
    """Validation metric (lower is better) that selects the best weights; by default the first that `update`
    returns."""
    threads: int | None = None
    """Maximum number of CPU threads in training; None sets no limit. Small networks are faster with one."""

    def check(self, source: Source) -> Sequence[str]:
        """Refuse a source that it cannot train on, before anything is written; return remarks for the user."""
        return ()

    def prepare(self, source: Source, engine: Engine) -> None:
        """Estimate statistics and set initial state before the first step of a run; not called on resuming."""

    @abstractmethod
    def update(self, data: Any, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        """Train on one batch; return metrics to log, named `group/name`."""

    def end_pass(self, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        """Called after the last batch of a pass through the source, e.g. for an M-step; returns metrics to log."""
        return {}

    def remarks(self, metrics: Mapping[str, float]) -> Sequence[str]:
        """Warnings for the user from the metrics since the last record; each line is shown once."""
        return ()

    def restart(self) -> None:
        """Reset schedules, when training starts from the weights of another run."""

    def weights_of(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Tensors from another program's file under this model's parameter names; a ValueError, whose message
        omits the file name, if it does not support such files or these tensors."""
        raise ValueError(f"{type(self).__name__} begins with the weights of run folders alone: name one")

    def parts(self) -> dict[str, Stateful]:
        """State that checkpoints keep besides the module's own: optimisers, replay, random states."""
        return {}


class FeatureLearner(ABC):
    """Learner that uses only the features of its front end, which can therefore be precomputed."""

    front: FrontEnd

    @abstractmethod
    def features(self, batch: Batch) -> Float[Tensor, "clip *feature"]:
        """Output of the front end, or `batch.features` if precomputed (the batch then has no signal)."""


class Encoder(ABC):
    """Maps a signal to codes, one frame per clip."""

    dead_below: float = 0.0
    """Standard deviation over clips at or below which a code is dead: it carries no information."""

    @abstractmethod
    def encode(self, signal: Float[Tensor, "clip *shape"]) -> Float[Tensor, "clip frame code"]:
        """Codes of clips, independent of the other clips in the batch."""


class FrameEncoder(ABC):
    """Maps a signal of any length to code frames at a constant rate."""

    code_rate: float
    """Frame rate in Hz."""
    code_first: float
    """Time of the middle of the first frame, in seconds from the beginning of the sound."""

    @abstractmethod
    def encode(
        self,
        signal: Float[Tensor, "clip time *rest"],
        lengths: Int[Tensor, " clip"] | None = None,
        *,
        power: Float[Tensor, " clip"] | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        """Codes of clips of these lengths, independent of the rest of the batch and of padding, zeros beyond the
        end of a clip; `power` is the mean square of the whole sound that a clip is part of."""

    @abstractmethod
    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Number of frames of clips of these lengths in samples."""


class Decoder(ABC):
    decodes: bool = True
    """Whether this instance has a decoder, which may be left out in training."""

    @abstractmethod
    def decode(self, codes: Float[Tensor, "clip frame code"]) -> Float[Tensor, "clip *feature"]:
        """Features of codes, which the front end may invert to sound."""


class Sampler(ABC):
    @abstractmethod
    def sample(self, clips: int, generator: torch.Generator) -> Float[Tensor, "clip frame code"]:
        """Codes sampled from the model's prior."""


class Synthesiser(ABC):
    """Maps code frames to sound of any length."""

    @abstractmethod
    def sound(
        self,
        codes: Float[Tensor, "clip frame code"],
        samples: int | None = None,
        phase: Float[Tensor, "clip bin column"] | None = None,
        iterations: int = 32,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "clip time"]:
        """Sound of these codes, with `samples` samples, by default as many as the codes cover; the phase is that
        of the Griffin-Lim algorithm unless given."""

    @abstractmethod
    def phase(self, signal: Float[Tensor, "clip time"]) -> Float[Tensor, "clip bin column"]:
        """Phase of sounds in radians, an input of `sound` together with the codes of the same sounds."""


class SequenceSampler(ABC):
    @abstractmethod
    def sample_frames(
        self, clips: int, frames: int, generator: torch.Generator, temperature: float = 1.0
    ) -> Float[Tensor, "clip frame code"]:
        """Sampled sequences of `frames` code frames, including the first, in the code space of the training data;
        a temperature above 1 flattens the distribution, below 1 sharpens it."""


class MarkovChain(ABC):
    @abstractmethod
    def chain(self) -> tuple[Float[np.ndarray, " state"], Float[np.ndarray, "state state"]]:
        """Fraction of time spent in each state, and the transition probabilities given that a state is left."""


@dataclass(frozen=True)
class Forecast:
    """Sampled continuations."""

    codes: Float[Tensor, "sample clip frame code"]
    log_probability: Float[Tensor, "sample clip frame"]
    """Log-probability of each sampled state given those before it, in nats."""


class Forecaster(FrameEncoder, ABC):
    """Sequence model that tracks a state of the input, predicts coming frames, and continues without input."""

    actions: Actions
    """Actions that condition each frame; an empty `Actions` if there are none."""
    entries: int = 0
    """Number of classes of each discrete state variable; 0 if there is none."""
    part_names: tuple[str, ...] = ()
    """Names of the parts that `encode_part` returns."""
    burn_in: int
    """Number of initial frames whose states lack context."""

    @abstractmethod
    def states(
        self,
        signal: Float[Tensor, "clip time *rest"],
        *,
        actions: Float[Tensor, "clip frame action"] | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        """State after each frame, in the form that a decoder takes; actions are unknown unless given."""

    def encode_part(
        self, signal: Float[Tensor, "clip time *rest"], lengths: Int[Tensor, " clip"] | None, part: str
    ) -> Float[Tensor, "clip frame code"]:
        """The same as `encode`, for the part of a state with this name."""
        raise ValueError(f"there is no part '{part}': choose of {', '.join(self.part_names) or 'none'}")

    def classes(self, states: Float[Tensor, "clip frame code"]) -> Int[Tensor, "clip frame variable"]:
        """Class index of each discrete state variable."""
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
        """Sample `samples` continuations of these states; `actions` cover the states and the future frames. A
        temperature below 1 sharpens the distribution, above 1 flattens it."""

    @abstractmethod
    def surprise(
        self,
        signal: Float[Tensor, "clip time *rest"],
        others: Float[Tensor, "other number"],
        *,
        actions: Float[Tensor, "clip frame action"] | None = None,
    ) -> dict[str, Float[Tensor, "clip frame"]]:
        """Surprise of each frame in nats, by name of the measure; `others` are alternative frames (negatives), as
        output by the front end."""

    def expectations(
        self,
        signal: Float[Tensor, "clip time *rest"],
        *,
        actions: Float[Tensor, "clip frame action"] | None = None,
    ) -> dict[str, Float[Tensor, "clip frame"]]:
        """Per frame, in nats: `log prior`, the log-probability of its state under the distribution that futures
        are sampled from, and the entropies of the `prior` and the `posterior`; empty if states have none."""
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
        """Sample the frames after the end of the signal; `actions` cover the past and the future."""
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
    """Codes of clips, and how informative each code is."""

    values: Float[np.ndarray, "clip code"]
    """Code values; for a codebook, the index of the entry."""
    names: tuple[str, ...]
    worth: Float[np.ndarray, " code"]
    """Informativeness of each code, by which codes are ordered."""
    notes: tuple[str, ...]
    """Informativeness of each code as text."""
    alive: Bool[np.ndarray, " code"]
    entries: int | None = None
    """Number of entries of each codebook; None for continuous codes."""

    @property
    def order(self) -> list[int]:
        """Code indices, the most informative first, dead codes last."""
        return np.lexsort((-self.worth, ~self.alive)).tolist()


@dataclass(frozen=True)
class Traversal:
    """Latent traversal: one code of one clip moved through `steps`, all others fixed."""

    name: str
    note: str
    alive: bool
    steps: tuple[str, ...]
    own: int
    """Index of the step at which the code is unchanged."""
    codes: Float[Tensor, "step frame code"]


class Describer(ABC):
    """Describes how informative its codes are, and traverses each of them."""

    @abstractmethod
    def describe(self, batches: Sequence[Batch]) -> tuple[Description, int, tuple[Traversal, ...]]:
        """Codes of these clips, the index of the most central clip, and a traversal of each of its codes."""


class Separator(ABC):
    """Separates a binaural mixture into its sources, each as received at the two ears."""

    sources: int
    """Number of sources."""

    @abstractmethod
    def masks(self, signal: Float[Tensor, "clip time 2"]) -> Float[Tensor, "clip frame bin source 2"]:
        """Mask of each source, for each bin of the spectrum at each ear."""

    @abstractmethod
    def separate(self, signal: Float[Tensor, "clip time 2"]) -> Float[Tensor, "clip time source 2"]:
        """Sources of whole clips, in an order that is constant within a clip."""


State = Any
"""State of a separator between windows: nested tuples of tensors with one row per clip."""


class StreamSeparator(Separator, ABC):
    """Separates a stream window by window, with the same result as on the whole sound."""

    latency: int
    """Delay of the output in samples."""

    @abstractmethod
    def begin(self, clips: int) -> State:
        """Initial state."""

    @abstractmethod
    def go_on(
        self, window: Float[Tensor, "clip time 2"], state: State
    ) -> tuple[Float[Tensor, "clip time source 2"], State]:
        """Sources, with as many samples as the window, and the next state."""


@dataclass(frozen=True)
class Recipe:
    """Training settings of a preset besides its configuration; every value is the default of a flag."""

    steps: int = 2000
    """Training steps."""
    clips: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the source of clips, such as the batch size."""
    world: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the world, such as the sampling rate; those that a world lacks are ignored."""


@dataclass(frozen=True)
class ModelEntry:
    """Catalogue entry of a model."""

    summary: str
    build: Callable[[Any, Signal], Learner]
    """Builds a learner from a configuration and a signal; weights are initialised from torch's generator."""
    presets: Mapping[str, Callable[[SignalKind], Any]]
    """Preset configurations (frozen dataclasses) by name, for a kind of signal; includes `default`."""
    kinds: tuple[SignalKind, ...] = ("wave", "picture")
    """Kinds of signal that the model can train on."""
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    """Recipes of presets that change the defaults of the training."""
    main: tuple[str, ...] = ()
    """Names of the main flags; `--help` shows the rest under advanced."""
    trains: bool = True
    """Whether it is trained; an encoder from a file is not, and has no untrained control."""
    cut: Literal["piece", "whole"] = "piece"
    """Default training data: pieces (random crops of the clips) or whole clips."""
    drop_last: bool = True
    """Whether an epoch drops its last, smaller batch; a pass of EM or k-means must not."""
    complete: Callable[[Any, World, int], Any] = lambda config, world, steps: config
    """Fills in settings that depend on the world or the number of steps, such as the index of a label."""
