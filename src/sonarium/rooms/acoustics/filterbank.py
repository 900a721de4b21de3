"""Octave-band filterbank with perfect reconstruction: linear-phase FIR filters that sum to a unit impulse.

Neighbouring bands cross over as raised cosines of log frequency; the lowest and the highest band extend to 0 Hz
and to the Nyquist frequency. All filters share one Hann window, so that equal gains in all bands leave a signal
unchanged.
"""

import numpy as np
from jaxtyping import Float

PERIODS = 2
"""Half the length of a filter in periods of the lowest band."""


def half_length(bands: tuple[float, ...], rate: int) -> int:
    """Samples of a filter on either side of its centre; the first half precedes a response in time."""
    return round(PERIODS * rate / bands[0]) if bands else 0


def audible_bands(bands: tuple[float, ...], rate: int) -> tuple[float, ...]:
    """The bands whose centres lie below the Nyquist frequency."""
    return tuple(band for band in bands if band < rate / 2)


def filters(bands: tuple[float, ...], rate: int) -> Float[np.ndarray, "band tap"]:
    """One linear-phase filter per band, of 2 · half_length + 1 taps."""
    half = half_length(bands, rate)
    points = 8 * half
    frequency = np.fft.rfftfreq(points, 1 / rate)
    with np.errstate(divide="ignore"):
        octave = np.log2(frequency)
    centres = np.log2(np.array(bands))
    weights = np.zeros((len(bands), len(frequency)))
    # Fractional band number: between two centres one band crosses over to the next.
    position = np.interp(octave, centres, np.arange(len(bands)))
    lower = np.minimum(position.astype(int), len(bands) - 1)
    rising = 0.5 - 0.5 * np.cos(np.pi * (position - lower))
    columns = np.arange(len(frequency))
    weights[lower, columns] += 1 - rising
    weights[np.minimum(lower + 1, len(bands) - 1), columns] += rising
    centred = np.fft.irfft(weights, points)
    taps = np.concatenate([centred[:, -half:], centred[:, : half + 1]], axis=1)
    return taps * np.hanning(2 * half + 3)[1:-1]
