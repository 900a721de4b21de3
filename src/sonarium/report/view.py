"""How a front end's features are seen and heard: decibels over hertz and seconds, or pixels."""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sonarium.features.spectrogram import Spectrogram
from sonarium.worlds.contract import Signal

MARKED = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)
"""Hertz that are marked on an axis of bands."""
DARKEST = -80.0
"""Decibels that are drawn darkest."""
CLOSEST = 0.09
"""Share of the axis by which marks lie apart, or one is left out."""


@dataclass(frozen=True)
class View:
    """The axes and the colours of a field of cells."""

    low: float
    high: float
    """Values shown darkest and brightest."""
    unit: str
    """What the colours mean."""
    seconds: float | None = None
    """Time from the first column to the last; none for pictures."""
    bands: tuple[tuple[float, str], ...] = ()
    """Rows that bear a frequency, with what is written there."""

    @property
    def sound(self) -> bool:
        return self.seconds is not None


def view_of(front: nn.Module, signal: Signal) -> View:
    """The view that suits this front end."""
    if not isinstance(front, Spectrogram):
        return View(0.0, 1.0, "brightness")
    assert signal.rate is not None, signal
    where = "dB below the frame's loudest cell" if front.config.scaling == "frame" else "dB re full scale"
    seconds = signal.shape[0] / signal.rate
    return View(DARKEST, 0.0, where, seconds, frequency_marks(front))


def frequency_marks(front: Spectrogram) -> tuple[tuple[float, str], ...]:
    """At which row each marked frequency lies, for those that lie between the first row and the last."""
    hertz = np.arange(front.config.fft // 2 + 1) * front.rate / front.config.fft
    if front.filters is not None:
        weights = front.filters.cpu().double().numpy()
        hertz = weights @ hertz / weights.sum(1)
    at = np.interp(MARKED, hertz, np.arange(len(hertz)), left=np.nan, right=np.nan)
    marks: list[tuple[float, str]] = []
    for row, mark in zip(at.tolist(), MARKED, strict=True):
        near = marks and row - marks[-1][0] < CLOSEST * len(hertz)
        if np.isfinite(row) and not near:
            marks.append((row, f"{mark / 1000:g}"))
    return tuple(marks)


def cells(front: nn.Module, features: Float[Tensor, "clip 1 band frame"]) -> Float[np.ndarray, "clip row column"]:
    """What is drawn of features: decibels, whatever the front end's scale, or pixels."""
    if not isinstance(front, Spectrogram):
        return rearrange(features, "clip 1 row column -> clip row column").float().cpu().numpy()
    loudest = 1.0 if front.config.scaling == "frame" else front.full_scale
    decade = 20 / front.config.power
    magnitudes = front.unscale(features)
    if front.config.level_rows:
        magnitudes = magnitudes - front.floor(features)
    magnitudes = magnitudes / loudest
    return (decade * magnitudes.clamp(min=10 ** (DARKEST / decade)).log10()).float().cpu().numpy()


def audible(front: nn.Module) -> bool:
    """Whether features can be made into sound again."""
    return isinstance(front, Spectrogram) and 2 * front.config.hop <= front.window_length


def hear(
    front: nn.Module,
    features: Float[Tensor, "clip 1 band frame"],
    length: int,
    iterations: int,
    generator: torch.Generator,
) -> Float[np.ndarray, "clip time"]:
    """The sounds of so many samples whose features begin as these do."""
    assert isinstance(front, Spectrogram) and audible(front), type(front)
    frames = front.shape(length)[2]
    return front.invert(features[..., :frames], length, iterations, generator).float().cpu().numpy()
