"""White noise: independent at each ear, and as the sound of a point source.

All noise is read from one table of Gaussian samples, from offsets that each episode draws: sampling noise at every
step would cost more than the room acoustics.
"""

from functools import lru_cache
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float32, Int

from sonarium.rooms.acoustics.jit import compiled

TABLE = 2**18
"""Samples after which noise repeats, half a minute at 8 kHz."""


@lru_cache(2)
def white(level: float) -> Float32[np.ndarray, " sample"]:
    """The table, scaled to a root mean square of `level` dB relative to full scale."""
    table = np.random.default_rng(0x0153).standard_normal(TABLE, np.float32)
    return table * np.float32(10 ** (level / 20) / np.sqrt(np.mean(np.square(table, dtype=np.float64))))


def drawn_starts(random: np.random.Generator) -> Int[np.ndarray, "2"]:
    """Random offsets of the noise of each ear in the table, at least a quarter of it apart."""
    left = int(random.integers(TABLE))
    return np.array([left, (left + int(random.integers(TABLE // 4, 3 * TABLE // 4))) % TABLE])


def add_noise(heard: Float[np.ndarray, "slot 2 time"], level: float, starts: Int[np.ndarray, "slot 2"]) -> None:
    """Add one window of noise, from these samples of the table on."""
    add(heard, white(level), starts)


@compiled
@no_type_check
def add(heard, table, starts):
    for slot in range(heard.shape[0]):
        for ear in range(2):
            position = starts[slot, ear] % len(table)
            done = 0
            while done < heard.shape[2]:
                step = min(heard.shape[2] - done, len(table) - position)
                for sample in range(step):
                    heard[slot, ear, done + sample] += table[position + sample]
                done += step
                position = 0
