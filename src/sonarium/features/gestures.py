"""Gestures from sound: the pressure and tension with which a model of the syrinx reproduces a recording.

Inversion of Mindlin's model (after Perl et al., 2011, and Boari et al., 2015): where the sound is periodic, its
spectrum determines the pressure α of each note, and its fundamental frequency the tension β, both by tables of the
model; the envelope follows its level, and the turbulence its aperiodicity. The sound is synthesised once, to
correct the envelope by the level of the result.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from sonarium.features.pitch import PitchConfig, track
from sonarium.worlds.songbird import syrinx

FRAME_RATE = 1000
"""Frames of gestures per second."""
SHORTEST = 0.05
"""Minimum duration of a recording in seconds."""
SILENT = 1e-4
"""Peak amplitude below which a recording is silent; full scale is 1."""
ABOVE_NOISE, BELOW_PEAK = 8.0, 35.0
"""A frame sounds if its level is this many dB above the noise floor, and no more than this many below the peak."""
PERIODIC = 0.35
"""Aperiodicity below which a frame has a pitch."""
SMOOTHING = 0.004
"""Window in seconds over which levels are averaged."""
REST = 0.15
"""Pressure between notes."""
USUAL, SPREAD = -0.16, 0.03
"""Mean and standard deviation of the prior of the pressure, where spectra are known to 1 dB."""
WINDOW = 0.012
"""Window in seconds in which partials are measured."""
PRESSURES = np.linspace(-0.26, -0.14, 13)
FREQUENCIES = np.geomspace(320.0, 6000.0, 36)
PARTIALS = 12
FRAMES_AT_ONCE = 1 << 12
"""Number of frames whose partials are measured together, which bounds the memory."""
HIGHEST = 7000.0
"""Frequency in Hz up to which partials are compared."""
LEAST = -45.0
"""Level of a partial in dB re the strongest at which it counts as absent."""
HOARSEST = 0.97
"""Maximum fraction of the power that is noise."""


@dataclass(frozen=True)
class Gestures:
    """Control parameters of a syrinx at the times i / FRAME_RATE."""

    pressure: Float[np.ndarray, " frame"]
    """α: REST between notes."""
    tension: Float[np.ndarray, " frame"]
    """β."""
    envelope: Float[np.ndarray, " frame"]
    turbulence: Float[np.ndarray, " frame"]
    hertz: Float[np.ndarray, " frame"]
    """Estimated fundamental frequency."""
    voiced: Bool[np.ndarray, " frame"]
    """Whether the frame has a fundamental frequency."""

    def sing(self, rate: int, samples: int) -> Float[np.ndarray, " time"]:
        """Synthesise the sound of these gestures."""
        paths = (path[None] for path in (self.pressure, self.tension, self.envelope))
        settings = {"frame_rate": FRAME_RATE, "rate": rate, "lengths": [samples]}
        return syrinx.sing(*paths, turbulence=self.turbulence[None], **settings)[0].numpy()


def fit(wave: Float[np.ndarray, " time"], rate: int, config: PitchConfig = PitchConfig()) -> Gestures:
    """Gestures that reproduce a recording of one bird."""
    check(wave, rate)
    pitch = track(wave, rate, config)
    frames = len(pitch.hertz)
    level = levels(wave, rate, frames)
    sounding = np.asarray(ndimage.binary_opening(level > threshold(level), iterations=5))
    if not sounding.any():
        raise ValueError("nothing in the recording stands out from its noise: give one with song")
    voiced = np.logical_and(sounding, pitch.aperiodicity < PERIODIC)
    voiced = np.asarray(ndimage.binary_opening(voiced, iterations=3))
    hertz = bridged(pitch.hertz, voiced)
    alpha = pressures(partials(wave, rate, hertz), rate, hertz, voiced, sounding)
    tension = syrinx.tension_of(hertz[:, None], alpha)[:, 0]
    noisy = np.clip(ndimage.uniform_filter1d(pitch.aperiodicity, 5), 0, HOARSEST)
    tone = loudness(alpha, hertz)
    envelope = np.where(sounding, level * np.sqrt(1 - noisy) / tone, 0.0)
    turbulence = np.sqrt(noisy / (1 - noisy)) * tone / hiss()
    spread = ndimage.grey_dilation(sounding, size=9)
    made = Gestures(np.where(spread, alpha, REST), tension, envelope, turbulence, hertz, voiced)
    again = levels(made.sing(rate, len(wave)), rate, frames)
    right = np.clip(level / np.maximum(again, 1e-9), 0.2, 5.0)
    return Gestures(made.pressure, tension, envelope * right, turbulence, hertz, voiced)


def check(wave: Float[np.ndarray, " time"], rate: int) -> None:
    if len(wave) < SHORTEST * rate:
        raise ValueError(f"the recording lasts {len(wave) / rate:.3f} s: give at least {SHORTEST} s")
    if not np.isfinite(wave).all():
        raise ValueError("the recording holds samples that are not finite: repair it")
    if np.abs(wave).max() < SILENT:
        raise ValueError(f"the recording is silent, its peak is {np.abs(wave).max():.1e}: give one with song")


def levels(wave: Float[np.ndarray, " time"], rate: int, frames: int) -> Float[np.ndarray, " frame"]:
    """Root mean square around each frame."""
    smooth = ndimage.uniform_filter1d(
        wave.astype(np.float64) ** 2, max(round(SMOOTHING * rate), 1), mode="constant"
    )
    at = np.minimum(np.round(np.arange(frames) * (rate / FRAME_RATE)).astype(np.int64), len(wave) - 1)
    return np.sqrt(np.maximum(smooth[at], 0))


def threshold(level: Float[np.ndarray, " frame"]) -> float:
    """Level above which a frame sounds."""
    floor = float(np.quantile(level, 0.1)) * 10 ** (ABOVE_NOISE / 20)
    return max(min(floor, float(level.max()) / 2), float(level.max()) * 10 ** (-BELOW_PEAK / 20))


def bridged(hertz: Float[np.ndarray, " frame"], voiced: Bool[np.ndarray, " frame"]) -> Float[np.ndarray, " frame"]:
    """Pitch of voiced frames, interpolated linearly in its logarithm in between."""
    at = np.flatnonzero(voiced)
    if not len(at):
        return np.full(len(hertz), 600.0)
    return np.exp(np.interp(np.arange(len(hertz)), at, np.log(hertz[at])))


def pressures(
    levels: Float[np.ndarray, "frame partial"],
    rate: int,
    hertz: Float[np.ndarray, " frame"],
    voiced: Bool[np.ndarray, " frame"],
    sounding: Bool[np.ndarray, " frame"],
) -> Float[np.ndarray, " frame"]:
    """Pressure of each note: the one whose tabulated spectrum is nearest to the note's, given the prior."""
    labelled: Any = ndimage.label(sounding)
    notes, count = labelled
    apart = distances(levels, rate, hertz)
    doubt = ((PRESSURES - USUAL) / SPREAD) ** 2
    alpha = np.full(len(hertz), USUAL)
    for note in range(1, count + 1):
        own = (notes == note) & voiced
        if own.any():
            alpha[notes == note] = PRESSURES[(apart[own].mean(0) + doubt).argmin()]
    return alpha


def distances(
    levels: Float[np.ndarray, "frame partial"], rate: int, hertz: Float[np.ndarray, " frame"]
) -> Float[np.ndarray, "frame pressure"]:
    """Mean squared difference in dB, up to a gain, between the partials of each frame and those of the model."""
    table = spectra()[0]
    rows, weight = syrinx.places(hertz, FREQUENCIES)
    expected = table[:, rows] * (1 - weight)[:, None] + table[:, rows + 1] * weight[:, None]
    counted = np.arange(1, PARTIALS + 1) * hertz[:, None] < min(HIGHEST, 0.45 * rate)
    many = np.maximum(counted.sum(1), 1)
    gap = np.where(counted, levels - expected, 0.0)
    gap = np.where(counted, gap - gap.sum(2, keepdims=True) / many[:, None], 0.0)
    return ((gap**2).sum(2) / many).T


def partials(
    wave: Float[np.ndarray, " time"], rate: int, hertz: Float[np.ndarray, " frame"]
) -> Float[np.ndarray, "frame partial"]:
    """Levels in dB of the partials of each frame re the strongest, measured with a Hann window.

    The sound is demodulated by its pitch, so that the partials of a sweep are as narrow as those of a tone.
    """
    half = round(WINDOW / 2 * rate)
    times = np.arange(-half, len(wave) + half) * (FRAME_RATE / rate)
    phase = 2 * np.pi / rate * np.cumsum(np.interp(times, np.arange(len(hertz)), hertz))
    centres = np.minimum(np.round(np.arange(len(hertz)) * (rate / FRAME_RATE)).astype(np.int64), len(wave) - 1)
    padded, window = np.pad(wave.astype(np.float64), half), np.hanning(2 * half + 1)
    turn, power, found = np.exp(-1j * phase), padded.astype(np.complex128), []
    for _ in range(PARTIALS):
        power = power * turn
        views = sliding_window_view(power, 2 * half + 1)
        parts = np.split(centres, range(FRAMES_AT_ONCE, len(centres), FRAMES_AT_ONCE))
        found.append(np.concatenate([np.abs(views[part] @ window) for part in parts]))
    decibels = 20 * np.log10(np.maximum(np.stack(found, 1), 1e-12))
    return np.maximum(decibels - decibels.max(1, keepdims=True), LEAST)


@cache
def spectra() -> tuple[Float[np.ndarray, "pressure hertz partial"], Float[np.ndarray, "pressure hertz"]]:
    """Partials of the model in dB re the strongest, and root mean square, at each pressure and frequency."""
    rate, seconds = 32_000, 0.06
    alpha, hertz = (part.ravel() for part in np.meshgrid(PRESSURES, FREQUENCIES, indexing="ij"))
    beta = syrinx.tension_of(hertz[:, None], alpha)
    steady = np.ones((1, round(seconds * FRAME_RATE) + 1))
    waves = syrinx.sing(
        alpha[:, None] * steady, beta * steady, steady.repeat(len(alpha), 0), frame_rate=1000, rate=rate
    )
    middle = round(0.7 * seconds * FRAME_RATE)
    found = [partials(wave, rate, f0 * steady[0])[middle] for wave, f0 in zip(waves.numpy(), hertz, strict=True)]
    strength = waves[:, waves.shape[1] // 3 :].double().square().mean(1).sqrt().numpy()
    shape = (len(PRESSURES), len(FREQUENCIES))
    return np.stack(found).reshape(*shape, PARTIALS), strength.reshape(shape)


def loudness(
    alpha: Float[np.ndarray, " frame"], hertz: Float[np.ndarray, " frame"]
) -> Float[np.ndarray, " frame"]:
    """Root mean square of the model at envelope 1."""
    table = spectra()[1]
    (row, up), (column, on) = syrinx.places(alpha, PRESSURES), syrinx.places(hertz, FREQUENCIES)
    low, high = (table[at, column] * (1 - on) + table[at, column + 1] * on for at in (row, row + 1))
    return (1 - up) * low + up * high


@cache
def hiss() -> float:
    """Root mean square of the turbulence noise at level 1 with the labia at rest."""
    steady = np.ones((1, 501))
    paths = {"alpha": 0.15 * steady, "beta": 0.15 * steady, "envelope": steady, "turbulence": steady}
    wave = syrinx.sing(**paths, frame_rate=FRAME_RATE, rate=16_000)[0].double()
    return math.sqrt(float(wave[1600:].square().mean()))


def pitch_error(found: Gestures, sung: Float[np.ndarray, " time"], rate: int) -> float | None:
    """Median relative difference between the pitch of a recording and of the sound of its gestures, where both are
    voiced."""
    again = track(sung, rate)
    both = found.voiced & (again.aperiodicity < PERIODIC)
    return float(np.median(np.abs(again.hertz / found.hertz - 1)[both])) if both.any() else None
