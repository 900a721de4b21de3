"""Joining of recorded segments into one sound: each is faded into the quietest noise of the same recordings."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

FADE = 0.003
"""Duration in seconds of the fade at either end of a segment."""
PIECE = 0.03
"""Duration in seconds of one piece of noise."""


def pieces(wave: Float[np.ndarray, " time"], size: int) -> list[Float[np.ndarray, " piece"]]:
    """A sound cut into pieces of equal size; the remainder is dropped."""
    return [wave[first : first + size].copy() for first in range(0, len(wave) - size + 1, size)]


def quietest(noise: Sequence[Float[np.ndarray, " piece"]], share: float) -> list[Float[np.ndarray, " piece"]]:
    """The quietest pieces: this fraction of them, at least one if there is any."""
    powers = np.array([float(piece.astype(np.float64) @ piece) for piece in noise])
    return [noise[at] for at in np.argsort(powers, kind="stable")[: max(round(share * len(noise)), 1)]]


def fading(samples: int, fade: int) -> Float[np.ndarray, " time"]:
    """Window of 1 with a quarter sine at both ends, which meet if there is no room for a middle."""
    fade = min(fade, samples // 2)
    ramp = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / fade)
    weight = np.ones(samples, np.float32)
    weight[:fade], weight[samples - fade :] = ramp, ramp[::-1]
    return weight


def noise_bed(
    noise: Sequence[Float[np.ndarray, " piece"]], samples: int, fade: int, rng: np.random.Generator
) -> Float[np.ndarray, " time"]:
    """Random pieces of noise in sequence, cross-faded with equal power."""
    size = len(noise[0])
    step = size - fade
    bed, weight = np.zeros(samples + 2 * size, np.float32), fading(size, fade)
    for first in range(0, samples + size, step):
        bed[first : first + size] += weight * noise[int(rng.integers(len(noise)))]
    return bed[fade : fade + samples]


def joined(
    wave: Float[np.ndarray, " time"],
    parts: Iterable[tuple[Float[np.ndarray, " _part"], int]],
    fade: int,
) -> Float[np.ndarray, " time"]:
    """The sound with segments faded into it (in place) with equal power, each from its first sample on; parts
    beyond either end are cut."""
    for sound, first in parts:
        begin, end = max(first, 0), min(first + len(sound), len(wave))
        weight = fading(len(sound), fade)[begin - first : end - first]
        wave[begin:end] = np.sqrt(1 - weight**2) * wave[begin:end] + weight * sound[begin - first : end - first]
    return wave


def hash_of(names: list[str]) -> str:
    return hashlib.blake2b("\n".join(names).encode(), digest_size=8).hexdigest()
