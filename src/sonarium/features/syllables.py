"""Fixed-size embeddings of syllables of any length, from frames of any kind: built-in ones, or codes of a model.

The built-in frames are decibels in mel bands. An embedding consists of the syllable's frames at evenly spaced
places between onset and offset, and the logarithm of its duration.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

from sonarium.config import Range, check_ranges
from sonarium.features.mel import mel_filters
from sonarium.worlds.contract import Mark

SILENT = 1e-12
"""Power added before the logarithm, 120 dB below full scale."""
AT_ONCE = 1 << 14
"""Number of frames that are transformed at once."""


@dataclass(frozen=True)
class BandsConfig:
    """Decibels in mel bands, frame by frame."""

    window: Annotated[float, Range(0, 1, above=True)] = 0.016
    """Window length in seconds."""
    frame_rate: Annotated[float, Range(1, 10_000)] = 500.0
    """Frame rate in Hz."""
    bands: Annotated[int, Range(1, 512)] = 32
    """Number of mel bands."""
    lowest: Annotated[float, Range(0)] = 500.0
    """Lower edge of the lowest band in Hz."""
    highest: Annotated[float, Range(1)] = 10_000.0
    """Upper edge of the highest band in Hz; no more than half of the sampling rate is used."""

    def __post_init__(self) -> None:
        check_ranges(self)


def band_levels(
    wave: Float[np.ndarray, " time"], rate: int, config: BandsConfig = BandsConfig()
) -> Float[np.ndarray, "frame band"]:
    """Level of each band in dB re full scale; frame k is centred on k / frame_rate seconds."""
    highest = min(config.highest, rate / 2)
    if config.lowest >= highest:
        raise ValueError(f"a rate of {rate} Hz holds no sound from {config.lowest:g} Hz on: lower the edge")
    size = max(round(config.window * rate), 2)
    fft = 1 << (size - 1).bit_length()
    window = np.hanning(size + 1)[:-1]
    filters = mel_filters(rate, fft, config.bands, config.lowest, highest)
    filters = filters / np.maximum(filters.sum(1, keepdims=True), 1e-12)
    padded = np.pad(wave.astype(np.float64), (size // 2, size))
    starts = np.arange(0, len(wave), rate / config.frame_rate).astype(np.int64)
    starts = starts[starts < len(wave)]
    views = np.lib.stride_tricks.sliding_window_view(padded, size)
    found = [
        np.abs(np.fft.rfft(views[part] * window, fft)) ** 2 @ filters.T
        for part in np.split(starts, range(AT_ONCE, len(starts), AT_ONCE))
    ]
    return 10 * np.log10(np.concatenate(found) / (window**2).sum() + SILENT)


def embed(
    frames: Float[np.ndarray, "frame feature"],
    rate: float,
    marks: Sequence[Mark],
    places: int = 16,
    first: float = 0.0,
) -> Float[np.ndarray, "syllable place feature"]:
    """Frames of each syllable at evenly spaced places; `first` is the time of the centre of frame 0."""
    return sampled(frames, marks, np.arange(1, places + 1) / (places + 1), rate, first)


def sampled(
    frames: Float[np.ndarray, "frame feature"],
    marks: Sequence[Mark],
    share: Float[np.ndarray, " place"],
    rate: float,
    first: float,
) -> Float[np.ndarray, "syllable place feature"]:
    """Frames at these fractions of each syllable, by linear interpolation."""
    times = np.array([(start, stop) for start, stop, _ in marks]).reshape(-1, 2)
    seconds = times[:, :1] + (times[:, 1:] - times[:, :1]) * share
    at = np.clip((seconds - first) * rate, 0, len(frames) - 1)
    low = np.floor(at).astype(np.int64)
    part = (at - low)[..., None]
    return frames[low] * (1 - part) + frames[np.minimum(low + 1, len(frames) - 1)] * part


def contrasted(
    levels: Float[np.ndarray, "syllable place band"], contrast: float = 25.0
) -> Float[np.ndarray, "syllable place band"]:
    """Levels relative to the loudest cell of each syllable, scaled from 0 at `contrast` dB below it to 1, so that
    loudness and noise make no difference."""
    loudest = levels.max((1, 2), keepdims=True)
    return np.maximum(levels - loudest, -contrast) / contrast + 1


def relative_levels(
    levels: Float[np.ndarray, "frame band"], loud: float = 0.98, deepest: float = 65.0
) -> Float[np.ndarray, "frame band"]:
    """Levels in tens of dB relative to loud song of the recording, so that they are invariant to its gain."""
    return np.maximum(levels - np.quantile(levels.max(1), loud), -deepest) / 10


def with_duration(
    embedded: Float[np.ndarray, "syllable place feature"], marks: Sequence[Mark]
) -> Float[np.ndarray, "syllable code"]:
    """Embeddings as rows, with the logarithm of the duration in seconds as the last column."""
    durations = np.array([np.log(max(stop - start, 1e-4)) for start, stop, _ in marks])
    return np.concatenate([embedded.reshape(len(embedded), -1), durations[:, None]], 1)
