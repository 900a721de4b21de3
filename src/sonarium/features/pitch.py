"""Fundamental frequency: YIN (de Cheveigné & Kawahara, 2002) with a Viterbi search for the path through its
minima.

Each frame has several candidates, the minima of the cumulative mean normalised difference function; the cost of a
path penalises aperiodicity, jumps and, slightly, long periods, because every multiple of a period is a period,
too. Sound of a low sampling rate is resampled first, so that short periods are resolved.
"""

import math
from dataclasses import dataclass

import numpy as np
import soxr
from jaxtyping import Float, Int
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft

RESOLVED = 64_000
"""Minimum sampling rate in Hz at which periods are measured."""
CANDIDATES = 12
"""Number of minima kept per frame, the best ones."""
NO_MINIMUM = 2.0
"""Depth assigned to lags that are not minima."""


@dataclass(frozen=True)
class PitchConfig:
    """The defaults suit songbirds."""

    fmin: float = 300.0
    """Lowest frequency in Hz."""
    fmax: float = 8000.0
    """Highest frequency in Hz."""
    window: float = 0.006
    """Seconds compared with those one period later; at least one and a half of the longest period."""
    hop: float = 0.001
    """Seconds from frame to frame."""
    jump: float = 0.6
    """Cost of a jump by one octave between frames, where the cost of full aperiodicity is 1."""
    octave: float = 0.06
    """Cost of a period twice as long."""

    def __post_init__(self) -> None:
        if not 0 < self.fmin < self.fmax < math.inf:
            raise ValueError(f"fmin={self.fmin}, fmax={self.fmax}: give finite numbers above 0, fmin the smaller")
        if self.window * self.fmin < 1.5 or not 0 < self.hop < math.inf:
            raise ValueError(
                f"window={self.window}, hop={self.hop}, fmin={self.fmin}: give a hop above 0, and a window of at "
                f"least {1.5 / self.fmin:.4f} s"
            )


@dataclass(frozen=True)
class Pitch:
    """A pitch track, at the times i · hop."""

    hertz: Float[np.ndarray, " frame"]
    """Best fundamental frequency in every frame, even in silence."""
    aperiodicity: Float[np.ndarray, " frame"]
    """0 for a periodic sound, about 1 for noise; 1 in silence."""


def track(wave: Float[np.ndarray, " time"], rate: int, config: PitchConfig = PitchConfig()) -> Pitch:
    """Fundamental frequency of a monophonic sound."""
    count = max(math.ceil(len(wave) / rate / config.hop), 1)
    fine = -(-RESOLVED // rate) * rate if rate < RESOLVED else rate
    sound = wave.astype(np.float64)
    if fine != rate:
        sound = soxr.resample(sound, rate, fine)
    shortest, longest = max(math.floor(fine / config.fmax), 2), math.ceil(fine / config.fmin) + 1
    window = round(config.window * fine)
    half = (window + longest) // 2
    padded = np.concatenate([np.zeros(half), sound, np.zeros(window + longest + 1)])
    starts = np.minimum(np.round(np.arange(count) * config.hop * fine).astype(np.int64), len(sound))
    # In blocks, so that memory does not grow with the length of the sound.
    blocks = [
        candidates(normalised(padded, block, window, longest), shortest, config.octave)
        for block in np.array_split(starts, max(len(starts) // 1000, 1))
    ]
    periods, depths = (np.concatenate(part) for part in zip(*blocks, strict=True))
    chosen = best_path(np.log2(periods), depths, config)
    rows = np.arange(count)
    found, depth = periods[rows, chosen], np.clip(depths[rows, chosen], 0, 1)
    # The centre of the two compared windows is earlier for shorter periods.
    middles = np.maximum.accumulate(rows * config.hop - (longest - found) / (2 * fine))
    hertz = np.exp(np.interp(rows * config.hop, middles, np.log(fine / found)))
    return Pitch(hertz, np.interp(rows * config.hop, middles, depth))


def normalised(
    sound: Float[np.ndarray, " time"], starts: Int[np.ndarray, " frame"], window: int, longest: int
) -> Float[np.ndarray, "frame lag"]:
    """Cumulative mean normalised difference function at the lags 0 to `longest`; 1 in silence."""
    frames = sliding_window_view(sound, window + longest)[starts]
    size = fft.next_fast_len(window + longest, real=True)
    head = np.fft.rfft(frames[:, :window], size)
    product = np.fft.irfft(head.conj() * np.fft.rfft(frames, size), size)[:, : longest + 1]
    energy = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), 1)
    shifted = energy[:, window : window + longest + 1] - energy[:, : longest + 1]
    difference = np.maximum(shifted[:, :1] + shifted - 2 * product, 0)
    mean = np.cumsum(difference[:, 1:], 1) / np.arange(1, longest + 1)
    silent = mean <= 1e-12
    found = np.ones_like(difference)
    found[:, 1:] = np.where(silent, 1, difference[:, 1:] / np.where(silent, 1, mean))
    return found


def candidates(
    function: Float[np.ndarray, "frame lag"], shortest: int, octave: float
) -> tuple[Float[np.ndarray, "frame candidate"], Float[np.ndarray, "frame candidate"]]:
    """Best minima of each frame by parabolic interpolation: period in samples, and depth."""
    left, middle, right = function[:, shortest - 1 : -2], function[:, shortest:-1], function[:, shortest + 1 :]
    minima = (middle < left) & (middle <= right)
    curve = np.where(minima, left - 2 * middle + right, 1.0)
    shift = np.where(minima, np.clip(0.5 * (left - right) / curve, -1, 1), 0.0)
    depth = np.where(minima, middle - 0.25 * (left - right) * shift, NO_MINIMUM)
    period = np.arange(shortest, shortest + depth.shape[1]) + shift
    # Without interpolation a minimum between two lags is too shallow, and loses to multiples of its period.
    at = np.argsort(depth + octave * np.log2(period), 1, kind="stable")[:, :CANDIDATES]
    return np.take_along_axis(period, at, 1), np.take_along_axis(depth, at, 1)


def best_path(
    octaves: Float[np.ndarray, "frame candidate"],
    depths: Float[np.ndarray, "frame candidate"],
    config: PitchConfig,
) -> Int[np.ndarray, " frame"]:
    """Candidate of each frame on the path of lowest cost (Viterbi, 1967)."""
    cost = np.clip(depths, 0, None) + config.octave * (octaves - octaves.min())
    total, back = cost[0], np.zeros(octaves.shape, np.int64)
    for frame in range(1, len(cost)):
        jumps = total[:, None] + config.jump * np.abs(octaves[frame - 1][:, None] - octaves[frame])
        back[frame] = jumps.argmin(0)
        total = jumps[back[frame], np.arange(jumps.shape[1])] + cost[frame]
    path = np.empty(len(cost), np.int64)
    path[-1] = total.argmin()
    for frame in range(len(cost) - 1, 0, -1):
        path[frame - 1] = back[frame, path[frame]]
    return path
