"""Segmentation of sound into syllables by its level: onsets and offsets, without labels.

The level is the smoothed power, in decibels, of the band in which birds sing. Sound is what exceeds a threshold
that adapts to the recording: the higher of a level above its noise floor and a level below its loud song. Very
short sounds are dropped, short gaps closed, and bouts that are soft throughout are dropped as noise of the cage.
One setting serves all recordings; `scripts/songbird_syllables.py` says how it was chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import minimum_filter1d
from scipy.signal import butter, fftconvolve, sosfiltfilt

from sonarium.config import Range, check_ranges
from sonarium.worlds.contract import Mark

LEVEL_RATE = 1000
"""Values of the level per second."""
NYQUIST = 0.45
"""Maximum upper edge of the band as a fraction of the sampling rate."""
FLOOR_QUANTILE, LOUD_QUANTILE = 0.1, 0.98
"""Quantiles of the level that estimate its noise floor and its loud song."""
DIP_APART, DIP_FROM_END = 12, 20
"""Minimum milliseconds between two dips, and between a dip and either end of its segment."""
DIPS_SPANNED = 4
"""Maximum number of dips inside a piece of a segment."""
LABEL = "segment"
"""Label of segments of which only onset and offset are known."""
SILENT = 1e-14
"""Power added before the logarithm, 140 dB below full scale."""


@dataclass(frozen=True)
class SegmentationConfig:
    """Onsets and offsets from the level of a recording."""

    lowest: Annotated[float, Range(0, above=True)] = 800.0
    """Lower edge in Hz of the band whose level is taken."""
    highest: Annotated[float, Range(0, above=True)] = 12_000.0
    """Upper edge in Hz of the band whose level is taken."""
    smoothing: Annotated[float, Range(0, 1, above=True)] = 0.01
    """Length in seconds of the Hann window that smooths the power."""
    above_floor: Annotated[float, Range(0)] = 7.0
    """Threshold in dB above the noise floor of the recording."""
    below_loud: Annotated[float, Range(0)] = 34.0
    """Threshold in dB below the loud song of the recording; the higher of the two thresholds is used."""
    shortest_sound: Annotated[float, Range(0)] = 0.012
    """Stretches above the threshold shorter than this, in seconds, are dropped before gaps are closed."""
    shortest_gap: Annotated[float, Range(0)] = 0.008
    """Gaps shorter than this, in seconds, are closed, unless the level falls to the noise floor in them."""
    least_gap: Annotated[float, Range(0)] = 0.004
    """Gaps shorter than this, in seconds, are closed in any case."""
    near_floor: Annotated[float, Range(0)] = 3.0
    """Level in dB above the noise floor up to which a gap counts as silent."""
    shortest: Annotated[float, Range(0)] = 0.02
    """Minimum duration of a segment in seconds."""
    bout_gap: Annotated[float, Range(0)] = 0.2
    """Gap in seconds that ends a bout."""
    soft: Annotated[float, Range(0)] = 16.0
    """Bouts that stay this far below loud song, in dB, are noise."""
    dip: Annotated[float, Range(0, above=True)] = 5.0
    """Depth in dB of a dip of the level at which a segment may turn out to be two syllables."""
    onset_delay: Annotated[float, Range(0, 0.1)] = 0.002
    """Seconds between crossing of the threshold and onset; people place onsets a little later."""
    offset_delay: Annotated[float, Range(0, 0.1)] = 0.004
    """Seconds between crossing of the threshold and offset."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.lowest >= self.highest:
            raise ValueError(f"lowest={self.lowest:g}, highest={self.highest:g}: give a band from low to high")


def segment(
    wave: Float[np.ndarray, " time"], rate: int, config: SegmentationConfig = SegmentationConfig()
) -> list[Mark]:
    """Onset and offset in seconds of each segment, in order; an empty list if nothing is above the noise."""
    duration = np.floor(len(wave) / rate * 1e6) / 1e6
    if not np.isfinite(wave).all():
        raise ValueError("the sound holds NaN or infinite samples: repair it or leave it out")
    values = level(wave, rate, config)
    if len(values) < 2:
        return []
    starts, stops = stretches(values, config)
    return [
        (start, stop, LABEL)
        for start, stop in zip(
            (np.round(starts / LEVEL_RATE + config.onset_delay, 6)).tolist(),
            np.round(np.minimum(stops / LEVEL_RATE + config.offset_delay, duration), 6).tolist(),
            strict=True,
        )
        if start < stop
    ]


@dataclass(frozen=True)
class Pieces:
    """Pieces into which a segment can be cut, each between two of its edges: its onset, the dips of its level, and
    its offset. The last piece is the whole segment."""

    spans: list[tuple[int, int]]
    """First and last edge of each piece."""
    marks: list[Mark]

    @classmethod
    def one(cls, mark: Mark) -> "Pieces":
        return cls([(0, 1)], [mark])

    @property
    def whole(self) -> Mark:
        return self.marks[-1]


def pieces(
    wave: Float[np.ndarray, " time"],
    rate: int,
    marks: Sequence[Mark],
    config: SegmentationConfig = SegmentationConfig(),
) -> list[Pieces]:
    """Pieces into which each segment can be cut; none is shorter than the minimum duration of segments."""
    values = level(wave, rate, config)
    found = []
    for start, stop, label in marks:
        first = round((start - config.onset_delay) * LEVEL_RATE)
        at = first + dips(values[first : round((stop - config.offset_delay) * LEVEL_RATE)], config.dip)
        starts = [start, *np.round(at / LEVEL_RATE + config.onset_delay, 6).tolist()]
        stops = [*(at / LEVEL_RATE).tolist(), stop]
        spans = [
            (one, other)
            for one in range(len(starts))
            for other in range(one + 1, min(one + DIPS_SPANNED + 1, len(stops)) + 1)
            if other - one < len(stops) and stops[other - 1] - starts[one] >= config.shortest
        ]
        spans.append((0, len(stops)))
        found.append(Pieces(spans, [(starts[one], stops[other - 1], label) for one, other in spans]))
    return found


def dips(values: Float[np.ndarray, " frame"], depth: float) -> Int[np.ndarray, " dip"]:
    """Minima at least `depth` dB below the highest level on either side."""
    before = np.maximum.accumulate(values)
    behind = np.maximum.accumulate(values[::-1])[::-1]
    lowest = minimum_filter1d(values, DIP_APART + 1)
    low = np.flatnonzero((values == lowest) & (values <= np.minimum(before, behind) - depth))
    low = low[(low >= DIP_FROM_END) & (low < len(values) - DIP_FROM_END)]
    return low[np.diff(low, prepend=-DIP_APART) >= DIP_APART]


def level(wave: Float[np.ndarray, " time"], rate: int, config: SegmentationConfig) -> Float[np.ndarray, " frame"]:
    """Smoothed power of the band in dB re full scale, at every millisecond."""
    highest = min(config.highest, NYQUIST * rate)
    if config.lowest >= highest:
        raise ValueError(
            f"a rate of {rate} Hz holds no sound from {config.lowest:g} Hz on: lower the edge of the band, or "
            "give a recording with a higher rate"
        )
    band = butter(4, [config.lowest, highest], "band", fs=rate, output="sos")
    window = np.hanning(max(int(config.smoothing * rate), 1) + 2)[1:-1]
    if len(wave) <= max(len(window), 64):
        return np.empty(0)
    power = sosfiltfilt(band, wave.astype(np.float64), padlen=min(3 * 27, len(wave) - 1)) ** 2
    smooth = fftconvolve(power, window / window.sum(), "same").clip(min=0)
    centres = np.arange(0, len(wave), rate / LEVEL_RATE).astype(np.int64)
    # By rounding, the last one may be the end itself.
    centres = centres[centres < len(wave)]
    return 10 * np.log10(smooth[centres] + SILENT)


def stretches(values: Float[np.ndarray, " frame"], config: SegmentationConfig) -> tuple[np.ndarray, np.ndarray]:
    """First frame of each segment, and the frame after its last one."""
    floor, loud = np.quantile(values, (FLOOR_QUANTILE, LOUD_QUANTILE))
    threshold = max(floor + config.above_floor, loud - config.below_loud)
    edges = np.diff(np.concatenate(([0], values > threshold, [0])).astype(np.int64))
    starts, stops = np.flatnonzero(edges > 0), np.flatnonzero(edges < 0)
    starts, stops = chosen(starts, stops, stops - starts >= config.shortest_sound * LEVEL_RATE)
    starts, stops = closed(starts, stops, values, floor + config.near_floor, config)
    starts, stops = chosen(starts, stops, stops - starts >= config.shortest * LEVEL_RATE)
    if not len(starts):
        return starts, stops
    peaks = np.array([values[start:stop].max() for start, stop in zip(starts, stops, strict=True)])
    bout = np.concatenate(([0], np.cumsum(starts[1:] - stops[:-1] > config.bout_gap * LEVEL_RATE)))
    loudest = np.full(bout[-1] + 1, -np.inf)
    np.maximum.at(loudest, bout, peaks)
    return chosen(starts, stops, loudest[bout] >= loud - config.soft)


def chosen(starts: np.ndarray, stops: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return starts[kept], stops[kept]


def closed(
    starts: np.ndarray, stops: np.ndarray, values: np.ndarray, silent: float, config: SegmentationConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Merge stretches that are separated by a short gap, unless the gap is silent."""
    gaps = starts[1:] - stops[:-1]
    deepest = [values[stop:start].min() for stop, start in zip(stops[:-1], starts[1:], strict=True)]
    parted = (gaps >= config.shortest_gap * LEVEL_RATE) | (
        (gaps >= config.least_gap * LEVEL_RATE) & (np.array(deepest) <= silent)
    )
    first, last = np.concatenate(([True], parted)), np.concatenate((parted, [True]))
    return starts[first[: len(starts)]], stops[last[: len(stops)]]
