"""Octave bands of an impulse response put together: filters that sum to one, a fixed time long.

Neighbouring bands cross over on a raised cosine between their centres, on a logarithmic scale; the lowest and the
highest take all that lies beyond. Their impulse responses are cut by one Hann window, so that equal gains in all
bands still give back the response unchanged.
"""

import numpy as np
from jaxtyping import Float

PERIODS = 2
"""Of the lowest band that a filter reaches to either side."""


def half_length(bands: tuple[float, ...], rate: int) -> int:
    """Samples of a filter on either side of its middle; they come before a response in time."""
    return round(PERIODS * rate / bands[0]) if bands else 0


def audible_bands(bands: tuple[float, ...], rate: int) -> tuple[float, ...]:
    """The octaves whose centres lie below half the rate."""
    return tuple(band for band in bands if band < rate / 2)


def filters(bands: tuple[float, ...], rate: int) -> Float[np.ndarray, "band tap"]:
    """One linear-phase filter a band, of 2 · half_length + 1 taps."""
    half = half_length(bands, rate)
    points = 8 * half
    frequency = np.fft.rfftfreq(points, 1 / rate)
    with np.errstate(divide="ignore"):
        octave = np.log2(frequency)
    centres = np.log2(np.array(bands))
    shares = np.zeros((len(bands), len(frequency)))
    # Between two centres one band gives way to the next; `position` counts them.
    position = np.interp(octave, centres, np.arange(len(bands)))
    lower = np.minimum(position.astype(int), len(bands) - 1)
    rising = 0.5 - 0.5 * np.cos(np.pi * (position - lower))
    columns = np.arange(len(frequency))
    shares[lower, columns] += 1 - rising
    shares[np.minimum(lower + 1, len(bands) - 1), columns] += rising
    centred = np.fft.irfft(shares, points)
    taps = np.concatenate([centred[:, -half:], centred[:, : half + 1]], axis=1)
    return taps * np.hanning(2 * half + 3)[1:-1]
