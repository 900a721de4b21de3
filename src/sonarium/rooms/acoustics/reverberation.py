"""Reverberation time: RT60 by Sabine and Eyring and its inverse, and T30, T20 and EDT of an impulse response.

RT60 is the time in which the energy falls by 60 dB, with one reflection per mean free path, 4V/S in three
dimensions and πA/P in two. Decay curves are Schroeder's (1965) backward integral, as in ISO 3382-1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.signal
from jaxtyping import Float

from sonarium.rooms.acoustics.geometry import Room

SIXTY_DECIBELS = 6 * np.log(10)
KNEE_ROUNDS = 5
"""Iterations of the search for the knee, where the decay meets the noise floor; three usually suffice."""
MARGIN = 3.0
"""Minimum distance in dB between the evaluated range and the noise floor. ISO 3382-1 requires 10 dB where the
integral is truncated; here the truncated part is compensated, and 3 dB suffice for T30 within a few per cent."""


def mean_free_path(room: Room) -> float:
    """Mean free path in metres."""
    if room.height is None:
        return np.pi * room.area / room.perimeter
    return 4 * room.area * room.height / (2 * room.area + room.perimeter * room.height)


def absorption_for(
    room: Room, seconds: float | Sequence[float], formula: Literal["sabine", "eyring"] = "eyring"
) -> Float[np.ndarray, "wall band"]:
    """The uniform absorption coefficient that gives the room this RT60 (one value, or one per band), with air
    absorption accounted for."""
    if formula not in ("sabine", "eyring"):
        raise ValueError(f"got formula '{formula}': choose sabine or eyring")
    wanted = np.atleast_1d(np.asarray(seconds, np.float64))
    if not (np.isfinite(wanted).all() and (wanted > 0).all()):
        raise ValueError(f"got a reverberation time of {seconds}: give positive seconds")
    nepers = SIXTY_DECIBELS / (room.speed * wanted) - 2 * room.air_absorption
    lost = nepers * mean_free_path(room)
    fraction = lost if formula == "sabine" else 1 - np.exp(-lost)
    if (fraction > 1).any() or (fraction < 0).any():
        shortest = SIXTY_DECIBELS * mean_free_path(room) / room.speed
        raise ValueError(
            f"a reverberation time of {seconds} s is impossible by {formula} in this room: it needs an absorption "
            f"of {np.round(fraction, 2).tolist()}; fully absorbing walls give {shortest:.2f} s by Sabine, and air "
            "absorption limits the longest time"
        )
    return np.broadcast_to(fraction, (room.walls, room.absorption.shape[1])).copy()


def reverberation_time(room: Room, formula: Literal["sabine", "eyring"] = "eyring") -> Float[np.ndarray, " band"]:
    """RT60 in seconds by the formula, in each band."""
    lengths = np.linalg.norm(room.next_corners - room.corners, axis=1)
    surfaces = lengths if room.height is None else np.r_[lengths * room.height, room.area, room.area]
    mean = surfaces @ room.absorption / surfaces.sum()
    with np.errstate(divide="ignore"):
        lost = mean if formula == "sabine" else -np.log1p(-mean)
        return SIXTY_DECIBELS / (room.speed * (lost / mean_free_path(room) + 2 * room.air_absorption))


@dataclass(frozen=True, eq=False)
class Decay:
    """Decay times in seconds, extrapolated to 60 dB, in each band. NaN where the noise floor or the end of the
    response cuts off the evaluated range."""

    t30: Float[np.ndarray, " band"]
    """From −5 to −35 dB."""
    t20: Float[np.ndarray, " band"]
    """From −5 to −25 dB."""
    edt: Float[np.ndarray, " band"]
    """Early decay time: from 0 to −10 dB."""


def measure_decay(response: Float[np.ndarray, " time"], rate: int, bands: Sequence[float] = ()) -> Decay:
    """Decay times of an impulse response, in octave bands, or broadband if none are given."""
    found = np.asarray(response, np.float64)
    if found.ndim != 1 or not np.isfinite(found).all() or not found.any():
        raise ValueError(
            f"got a response of shape {found.shape}: finite samples of one ear, not all 0, are expected"
        )
    too_high = [band for band in bands if not 0 < band * np.sqrt(2) < rate / 2]
    if too_high:
        raise ValueError(f"got bands {too_high} at rate {rate}: an octave must end below half the rate")
    # Onset: the first sample within 20 dB of the peak.
    begin = int(np.argmax(np.abs(found) >= 0.1 * np.abs(found).max()))
    rows = [octave(found, band, rate) for band in bands] or [found]
    ranges = ((-5.0, -35.0), (-5.0, -25.0), (0.0, -10.0))
    curves = [decay_curve(np.square(row[begin:]), rate) for row in rows]
    times = [[fall(curve, floor, rate, *part) for curve, floor in curves] for part in ranges]
    return Decay(*(np.array(row) for row in times))


def octave(response: Float[np.ndarray, " time"], centre: float, rate: int) -> Float[np.ndarray, " time"]:
    """An octave-band Butterworth filter applied backwards in time, so that its own decay is not measured
    (Jacobsen & Rindel, 1987)."""
    edges = centre / np.sqrt(2), centre * np.sqrt(2)
    sections = scipy.signal.butter(3, edges, "bandpass", fs=rate, output="sos")
    return np.asarray(scipy.signal.sosfilt(sections, response[::-1]))[::-1]


def decay_curve(energy: Float[np.ndarray, " time"], rate: int) -> tuple[Float[np.ndarray, " curve"], float]:
    """Schroeder's integral in dB up to the knee, and the noise floor (Lundeby, 1995). The integral is
    compensated for its truncation at the knee, so that the curve keeps its slope to the end."""
    knee, noise, slope = knee_of(energy, rate)
    kept = np.maximum(energy[:knee] - noise, 0)
    rest = noise / (-slope * np.log(10) / 10) if slope < 0 else 0.0
    left = np.cumsum(kept[::-1])[::-1] + rest
    left = left[left > 0]
    # For an exponential decay, the remaining integral at the knee is to the whole as the noise is to the sound.
    floor = 10 * np.log10((rest or left[-1]) / left[0])
    return 10 * np.log10(left / left[0]), floor


def knee_of(energy: Float[np.ndarray, " time"], rate: int) -> tuple[int, float, float]:
    """Sample of the knee, energy of the noise floor, and slope of the late decay in dB per sample."""
    step = max(1, rate // 50)
    noise = float(energy[-max(1, len(energy) // 10) :].mean())
    knee, slope = len(energy), 0.0
    for _ in range(KNEE_ROUNDS):
        blocks = energy[: len(energy) // step * step].reshape(-1, step).mean(axis=1)
        if len(blocks) < 4 or noise <= 1e-12 * blocks.max():
            return len(energy), 0.0, 0.0
        level, above = 10 * np.log10(np.maximum(blocks, 1e-300)), 10 * np.log10(noise)
        first = int(level.argmax())
        # The late decay: from 10 dB above the noise up to 30 dB above, or to the top.
        low = first + int(np.argmax(np.append(level[first:], -np.inf) < above + 10))
        high = first + int(np.argmax(level[first:] <= max(above + 30, level[low - 1])))
        if low - high < 3:
            high, low = first, max(low, first + 3)
        slope, at_zero = np.polyfit((np.arange(high, low) + 0.5) * step, level[high:low], 1)
        if slope >= 0:
            return len(energy), 0.0, 0.0
        knee = int(np.clip((above - at_zero) / slope, step, len(energy)))
        # Noise is estimated from where the decay would be 10 dB below it, over at least a tenth of the response.
        quiet = min(knee + int(-10 / slope), len(energy) - max(1, len(energy) // 10))
        noise = float(energy[quiet:].mean())
        step = int(np.clip(-3 / slope, rate // 200, rate // 10))
    return knee, noise, float(slope)


def fall(curve: Float[np.ndarray, " curve"], floor: float, rate: int, high: float, low: float) -> float:
    """Decay time by linear regression on a range of the curve, extrapolated to 60 dB."""
    part = np.flatnonzero((curve <= high) & (curve >= low))
    if floor > low - MARGIN or curve[-1] > low or len(part) < 3:
        return float("nan")
    return -60 / float(np.polyfit(part / rate, curve[part], 1)[0])
