"""Interface of front ends: from raw signals to the input features of a network, and back where possible.

A front end is a part of its model and saved with it, so that the model takes raw sound. `FrontEnd` is common to
all of them; `PictureFrontEnd` adds what autoencoders and plots need: features of rows and frames that can be
drawn.
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
    """Map from signals to features."""

    @abstractmethod
    def forward(self, signal: Float[Tensor, "clip *shape"]) -> Float[Tensor, "clip *feature"]: ...

    @abstractmethod
    def shape(self, samples: int) -> tuple[int, ...]:
        """Shape of the features of one clip of N samples (of a picture: rows)."""

    def frames(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"] | None:
        """Number of frames of clips of these lengths; None if features have no time axis."""
        return None

    def fit(
        self,
        signals: Iterable[Float[Tensor, "_clip *_shape"]],
        lengths: Iterable[Int[Tensor, " _clip"] | None] = repeat(None),
    ) -> None:
        """Estimate the scale from batches of the training split, padding excluded; by default does nothing."""

    def fit_batches(self, batches: Iterable[Batch]) -> None:
        """Call `fit` with one batch in memory at a time."""
        signals, lengths = tee(batches)
        self.fit((batch.signal for batch in signals), (batch.lengths for batch in lengths))


@dataclass(frozen=True)
class Axes:
    """How features are plotted: meaning of the colours and of the rows."""

    low: float
    high: float
    """Values drawn darkest and brightest."""
    unit: str
    """Unit of the colour scale, such as dB re full scale."""
    hertz: Float[np.ndarray, " row"] | None = None
    """Frequency in Hz of each drawn row; None if rows are not frequencies."""


class PictureFrontEnd(FrontEnd, ABC):
    """Front end with features of shape (channel, row, frame) that can be drawn and may be invertible to sound."""

    level_rows: int = 0
    """Number of rows at the end that hold only the frame's level."""
    window_length: int = 1
    """Length in samples of the shortest clip that has a frame."""

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
        """Features in the unit of the axes; values beyond `low` and `high` are drawn as these limits."""

    @property
    def invertible(self) -> bool:
        """Whether `invert` can convert features to sound."""
        return False

    def invert(
        self,
        features: Float[Tensor, "clip channel row frame"],
        length: int,
        iterations: int = 32,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "clip time"]:
        """Waveforms of `length` samples with these features."""
        raise ValueError(f"{type(self).__name__} cannot be inverted to sound: choose a front end that can")


class FrontEndConfig(ABC):
    """Base of the frozen dataclasses that configure front ends."""

    @abstractmethod
    def build(self, signal: Signal) -> FrontEnd:
        """Front end for signals of this form; raises ValueError if it does not suit them."""


@dataclass(frozen=True)
class FrontEndEntry:
    """A front end in the catalogue."""

    summary: str
    Config: type[FrontEndConfig]
    kinds: tuple[SignalKind, ...] = ("wave",)
    """Kinds of signal that it accepts."""
