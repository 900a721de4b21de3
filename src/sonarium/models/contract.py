"""What a learner promises.

A learner has `update`, owns its front end and its optimisers, and defines only those of `encode`,
`decode`, `sample` and `forecast` that it can do; measures ask with `can`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sonarium.worlds.contract import Batch, Signal, SignalKind


@runtime_checkable
class Engine(Protocol):
    """What a learner may ask of the machinery that trains it."""

    generator: torch.Generator
    """The source of every random number of an update; saved with the checkpoint."""
    clips: int
    """How many clips there are to learn from."""

    def autocast(self) -> Any:
        """A context in which the forward pass takes the precision of the run."""
        ...

    def descend(self, loss: Float[Tensor, ""], optimiser: torch.optim.Optimizer) -> None:
        """Clear the gradients of `optimiser`, differentiate `loss`, and take one step."""
        ...


class Learner(nn.Module, ABC):
    """A model that learns from batches. Final classes only: no learner extends another."""

    front: nn.Module
    """Waveform to features; part of the learner and saved with it, so that it takes raw sound."""
    capabilities: ClassVar[tuple[str, ...]]
    """Which of encode, decode, sample, forecast this learner defines."""
    dead_below: ClassVar[float] = 0.0
    """A code whose deviation over clips is no greater carries nothing."""
    least_batch: int = 1
    """Clips without which an update makes no sense."""

    @abstractmethod
    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """By name, made once by the learner; the checkpoint keeps their state."""

    @abstractmethod
    def update(self, batch: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        """Learn from one batch; return what to log, each under `group/name`."""

    @abstractmethod
    def features(self, batch: Batch) -> Float[Tensor, "clip *feature"]:
        """What the front end makes of the batch, computed here or beforehand."""


@runtime_checkable
class FrameEncoder(Protocol):
    """A learner whose codes are frames at a rate, so that it takes sound of any length."""

    code_rate: float
    """Frames a second."""
    code_first: float
    """Seconds from the beginning of the sound to the middle of the first frame."""

    def encode(
        self, wave: Tensor, lengths: Tensor | None = None, *, power: Tensor | None = None
    ) -> Float[Tensor, "clip frame code"]:
        """Codes of clips of these lengths; `power` is the mean square of the sound that they are parts of."""
        ...

    def code_lengths(self, lengths: Tensor) -> Tensor:
        """Frames of clips of so many samples."""
        ...


def can(learner: Learner, ability: str) -> bool:
    """Whether this learner defines `encode`, `decode`, `sample` or `forecast`."""
    return ability in learner.capabilities


@dataclass(frozen=True)
class Entry:
    """One line of the table of models."""

    summary: str
    build: Callable[[Any, Signal], Learner]
    """From a configuration and the form of the signal; the weights are drawn from torch's generator."""
    presets: dict[str, Callable[[SignalKind], Any]]
    """Configurations by name, each a frozen dataclass for this form of signal; `default` among them."""
    kinds: tuple[SignalKind, ...] = ("wave", "picture")
    """Forms of signal that it learns from."""
