"""How features of a front end are shown and made audible: decibels over hertz and seconds, or pixels."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sonarium.features.contract import PictureFrontEnd
from sonarium.worlds.contract import Signal

MARKED = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)
"""Frequencies in hertz marked on an axis of bands."""
CLOSEST = 0.09
"""Minimum distance between marks as a fraction of the axis; closer marks are left out."""


@dataclass(frozen=True)
class View:
    """Axes and colour scale of a field of bins."""

    low: float
    high: float
    """Values shown darkest and brightest."""
    unit: str
    """Unit of the colour scale."""
    seconds: float | None = None
    """Time from the first column to the last; None for pictures."""
    bands: tuple[tuple[float, str], ...] = ()
    """Rows with a frequency mark, and the text of the mark."""

    @property
    def sound(self) -> bool:
        return self.seconds is not None


def view_of(front: PictureFrontEnd, signal: Signal) -> View:
    """View that fits this front end."""
    axes = front.axes
    if signal.steps_per_second is None:
        return View(axes.low, axes.high, axes.unit)
    seconds = signal.shape[0] / signal.steps_per_second
    return View(axes.low, axes.high, axes.unit, seconds, () if axes.hertz is None else frequency_marks(axes.hertz))


def frequency_marks(hertz: Float[np.ndarray, " row"]) -> tuple[tuple[float, str], ...]:
    """Row and text of each marked frequency between the first row and the last."""
    at = np.interp(MARKED, hertz, np.arange(len(hertz)), left=np.nan, right=np.nan)
    marks: list[tuple[float, str]] = []
    for row, mark in zip(at.tolist(), MARKED, strict=True):
        near = marks and row - marks[-1][0] < CLOSEST * len(hertz)
        if np.isfinite(row) and not near:
            marks.append((row, f"{mark / 1000:g}"))
    return tuple(marks)


def hear(
    front: PictureFrontEnd,
    features: Float[Tensor, "clip 1 row frame"],
    length: int,
    iterations: int,
    generator: torch.Generator,
) -> Float[np.ndarray, "clip time"]:
    """Invert features to sounds of `length` samples, from the beginning of the features."""
    frames = front.shape(length)[2]
    return front.invert(features[..., :frames], length, iterations, generator).float().cpu().numpy()
