"""Recorded segments joined into one sound: each is faded into the quietest noise of the same recordings."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

FADE = 0.003
"""Seconds in which a segment is faded into the noise at either end."""
PIECE = 0.03
"""Seconds of one piece of noise."""


def pieces(wave: Float[np.ndarray, " time"], size: int) -> list[Float[np.ndarray, " piece"]]:
    """A stretch of sound in pieces of one size; what is left over is dropped."""
    return [wave[first : first + size].copy() for first in range(0, len(wave) - size + 1, size)]


def quietest(noise: Sequence[Float[np.ndarray, " piece"]], share: float) -> list[Float[np.ndarray, " piece"]]:
    """This share of the pieces, at least one, if there is any."""
    powers = np.array([float(piece.astype(np.float64) @ piece) for piece in noise])
    return [noise[at] for at in np.argsort(powers, kind="stable")[: max(round(share * len(noise)), 1)]]


def fading(samples: int, fade: int) -> Float[np.ndarray, " time"]:
    """1 in the middle, with half a cosine at both ends, which meet where there is no room for a middle."""
    fade = min(fade, samples // 2)
    ramp = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / fade)
    weight = np.ones(samples, np.float32)
    weight[:fade], weight[samples - fade :] = ramp, ramp[::-1]
    return weight


def noise_bed(
    noise: Sequence[Float[np.ndarray, " piece"]], samples: int, fade: int, rng: np.random.Generator
) -> Float[np.ndarray, " time"]:
    """Random pieces of noise one after the other, each faded into the next with equal power."""
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
    """The sound with segments faded into it with equal power, each from its sample on; those that reach beyond the
    ends are cut."""
    for sound, first in parts:
        begin, end = max(first, 0), min(first + len(sound), len(wave))
        weight = fading(len(sound), fade)[begin - first : end - first]
        wave[begin:end] = np.sqrt(1 - weight**2) * wave[begin:end] + weight * sound[begin - first : end - first]
    return wave


def hash_of(names: list[str]) -> str:
    return hashlib.blake2b("\n".join(names).encode(), digest_size=8).hexdigest()
