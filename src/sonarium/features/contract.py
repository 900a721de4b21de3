"""What a front end is: from raw signals to what a network learns from, and back where that can be.

A front end is a part of its learner and saved with it, so that a learner takes raw sound.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonarium.worlds.contract import Signal, SignalKind


@dataclass(frozen=True)
class Axes:
    """How features are drawn: what the colours and the rows mean."""

    low: float
    high: float
    """Values drawn darkest and brightest."""
    unit: str
    """What the colours mean, such as dB re full scale."""
    hertz: Float[np.ndarray, " row"] | None = None
    """Frequency of each row; None where rows are no frequencies."""


class FrontEnd(nn.Module, ABC):
    """Signals to features of the shape (channel, row, frame), and what can be said of them."""

    level_rows: int = 0
    """How many of the last rows tell the level alone."""
    invertible: bool = False
    """Whether `invert` makes sound of features."""
    window_length: int = 1
    """Samples without which there is no frame."""

    @abstractmethod
    def forward(self, signal: Float[Tensor, "clip *shape"]) -> Float[Tensor, "clip channel row frame"]: ...

    @abstractmethod
    def shape(self, samples: int) -> tuple[int, int, int]:
        """Channels, rows and frames of the features of a clip of so many samples (rows, for a picture)."""

    def frames(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"] | None:
        """Frames of clips of so many samples; None where features have no time."""
        return None

    def fit(
        self, signals: Iterable[Float[Tensor, "_clip *_shape"]], lengths: Iterable[Int[Tensor, " _clip"] | None]
    ) -> None:
        """Take statistics from batches of the training split, padding left out."""

    @property
    @abstractmethod
    def axes(self) -> Axes: ...

    @abstractmethod
    def drawn(self, features: Float[Tensor, "clip channel row frame"]) -> Float[np.ndarray, "clip row column"]:
        """What is drawn of features, between the axes' `low` and `high`."""

    def invert(
        self,
        features: Float[Tensor, "clip channel row frame"],
        length: int,
        iterations: int = 32,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "clip time"]:
        """Sounds of `length` samples that have these features."""
        raise ValueError(f"{type(self).__name__} cannot be inverted to sound: choose a front end that can")


class FrontEndConfig(ABC):
    """Base of the frozen dataclasses that configure front ends."""

    @abstractmethod
    def build(self, signal: Signal) -> FrontEnd:
        """The front end for this form of signal, refused where it does not suit it."""


@dataclass(frozen=True)
class FrontEndEntry:
    """A front end in the catalogue."""

    summary: str
    Config: type[FrontEndConfig]
    kinds: tuple[SignalKind, ...] = ("wave",)
