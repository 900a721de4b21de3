"""Noise of a cage: Gaussian, with the spectrum of recordings of zebra finches between their syllables.

Power falls towards high frequencies; room and ventilation contribute most of it below 500 Hz. The values are
medians over five birds, measured by `scripts/songbird_noise.py`.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import fft

OCTAVES = (177.0, 354.0, 707.0, 1414.0, 2828.0, 5657.0, 11314.0)
"""Centre frequencies in Hz of the octaves from 125 Hz to 16 kHz."""
DECIBELS = (26.2, 19.8, 7.6, 3.2, 0.0, -1.1, -1.6)
"""Power density of each octave in dB relative to that from 2 to 4 kHz."""
LOW_CUT = 500.0
"""Frequency in Hz above which noise counts in the signal-to-noise ratio: song lies above it."""
BLOCK = 4096
"""FFT sizes are multiples of it, so that they are fast and few."""


def cage_noise(samples: int, rate: int, rng: np.random.Generator) -> Float[np.ndarray, " time"]:
    """Noise whose part above LOW_CUT has unit power."""
    size = -(-max(samples, 1) // BLOCK) * BLOCK
    # In single precision SciPy is faster than NumPy by half.
    white: Any = fft.rfft(rng.standard_normal(size, np.float32))
    noise: Any = fft.irfft(white * shape(size, rate), size)
    return noise[:samples]


@lru_cache(32)
def shape(size: int, rate: int) -> Float[np.ndarray, " f"]:
    """Gain at each FFT frequency."""
    hertz = np.fft.rfftfreq(size, 1 / rate)
    heights = np.interp(np.log2(np.maximum(hertz, 1.0)), np.log2(OCTAVES), DECIBELS)
    # Recorders attenuate frequencies far below the first octave.
    gain = 10 ** (heights / 20) * hertz / np.hypot(hertz, 60.0)
    audible = np.where(hertz >= LOW_CUT, gain**2, 0.0).sum() / (size / 2)
    return (gain / np.sqrt(audible)).astype(np.float32)
