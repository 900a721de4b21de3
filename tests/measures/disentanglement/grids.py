"""The grid of factors of the world of tones, shared by the tests of measures."""

import itertools

import numpy as np

CATEGORY_FIRST = (True, False, False)


def grid(frequencies: int = 100, amplitudes: int = 10) -> np.ndarray:
    """All combinations of waveform (a category), frequency and amplitude."""
    values = (range(4), np.linspace(440, 8000, frequencies), np.linspace(0.1, 1, amplitudes))
    return np.array(list(itertools.product(*values)), dtype=float)


def standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / values.std(axis=0)
