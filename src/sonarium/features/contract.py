"""What a front end is: from raw signals to what a network learns from, and back where that can be.

A front end is a part of its learner and saved with it, so that a learner takes raw sound. `FrontEnd` is all that
every one promises; `PictureFrontEnd` adds what autoencoders and pictures need: features of rows and frames that
can be drawn.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat, tee

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonarium.worlds.contract import Batch, Signal, SignalKind


class FrontEnd(nn.Module, ABC):
    """From signals to features."""

    @abstractmethod
    def forward(self, signal: Float[Tensor, "clip *shape"]) -> Float[Tensor, "clip *feature"]: ...

    @abstractmethod
    def shape(self, samples: int) -> tuple[int, ...]:
        """Shape of the features of one clip of N samples (of a picture: rows)."""

    def frames(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"] | None:
        """Frames of clips of these lengths; None where features have no time axis."""
        return None

    def fit(
        self,
        signals: Iterable[Float[Tensor, "_clip *_shape"]],
        lengths: Iterable[Int[Tensor, " _clip"] | None] = repeat(None),
    ) -> None:
        """Estimate the scale from batches of the training split, padding left out; nothing by default."""

    def fit_batches(self, batches: Iterable[Batch]) -> None:
        """`fit`, with one batch in memory at a time."""
        signals, lengths = tee(batches)
        self.fit((batch.signal for batch in signals), (batch.lengths for batch in lengths))


@dataclass(frozen=True)
class Axes:
    """How features are drawn: what the colours and the rows mean."""

    low: float
    high: float
    """Values drawn darkest and brightest."""
    unit: str
    """What the colours mean, such as dB re full scale."""
    hertz: Float[np.ndarray, " row"] | None = None
    """Frequency of each row that is drawn; None where rows are no frequencies."""


class PictureFrontEnd(FrontEnd, ABC):
    """Features of the shape (channel, row, frame), which can be drawn and may be inverted to sound."""

    level_rows: int = 0
    """The number of rows, the last ones, that hold the frame's level alone."""
    window_length: int = 1
    """Samples in the shortest clip that has a frame."""

    @abstractmethod
    def forward(self, signal: Float[Tensor, "clip *shape"]) -> Float[Tensor, "clip channel row frame"]: ...

    @abstractmethod
    def shape(self, samples: int) -> tuple[int, int, int]:
        """Channels, rows and frames of the features of a clip of N samples (of a picture: rows)."""

    @property
    @abstractmethod
    def axes(self) -> Axes: ...

    @abstractmethod
    def drawn(
        self, features: Float[Tensor, "clip channel row frame"]
    ) -> Float[np.ndarray, "clip drawn_row column"]:
        """Features in the unit of the axes; values beyond `low` and `high` are drawn as these."""

    @property
    def invertible(self) -> bool:
        """Whether `invert` makes sound of features."""
        return False

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
        """The front end for signals of this form; a ValueError where it does not suit them."""


@dataclass(frozen=True)
class FrontEndEntry:
    """A front end in the catalogue."""

    summary: str
    Config: type[FrontEndConfig]
    kinds: tuple[SignalKind, ...] = ("wave",)
    """Forms of signal that it takes."""
