"""The mel scales and their filter banks, in double precision.

Two scales are in use. Slaney's (Auditory Toolbox, 1998) is linear to 1 kHz and logarithmic above; the
scale of O'Shaughnessy (1987), which the HTK book made popular, is logarithmic throughout. The filters are
triangles whose corners lie at equal steps of the scale, each of unit area over frequency. The linear
"scale" is frequency itself.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float

Scale = Literal["slaney", "htk", "linear"]

LINEAR_STEP = 200 / 3
"""Hertz per mel below the corner of Slaney's scale."""
CORNER = 1000.0
"""Frequency in Hz where Slaney's scale changes from linear to logarithmic."""
LOGARITHMIC_STEP = np.log(6.4) / 27
"""Natural logarithm of the ratio of frequencies that are one mel apart above the corner."""


def hertz_to_mel(hertz: Float[np.ndarray, "*any"], scale: Scale = "slaney") -> Float[np.ndarray, "*any"]:
    """Mel values of frequencies in Hz."""
    if scale == "linear":
        return hertz
    if scale == "htk":
        return 2595 * np.log10(1 + hertz / 700)
    above = np.log(np.maximum(hertz, CORNER) / CORNER) / LOGARITHMIC_STEP
    return np.minimum(hertz, CORNER) / LINEAR_STEP + above


def mel_to_hertz(mel: Float[np.ndarray, "*any"], scale: Scale = "slaney") -> Float[np.ndarray, "*any"]:
    """Frequencies in Hz of mel values."""
    if scale == "linear":
        return mel
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    corner = CORNER / LINEAR_STEP
    return np.minimum(mel, corner) * LINEAR_STEP * np.exp(np.maximum(mel - corner, 0) * LOGARITHMIC_STEP)


def hertz_to_octave(hertz: Float[np.ndarray, "*any"], reference: float = 27.5) -> Float[np.ndarray, "*any"]:
    """Octaves above the reference; the lowest A of the piano (27.5 Hz) makes concert A octave 4."""
    return np.log2(hertz / reference)


def mel_corners(
    bands: int, lowest: float, highest: float, scale: Scale = "slaney"
) -> Float[np.ndarray, " corner"]:
    """Frequencies of the corners: band i rises from corner i, peaks at i + 1 and ends at i + 2."""
    ends = hertz_to_mel(np.array([lowest, highest], dtype=float), scale)
    return mel_to_hertz(np.linspace(ends[0], ends[1], bands + 2), scale)


def mel_filters(
    rate: float, fft: int, bands: int, lowest: float, highest: float, scale: Scale = "slaney"
) -> Float[np.ndarray, "band bin"]:
    """Weights of the bins of an FFT of `fft` points in each band: triangles of unit area."""
    bins = np.arange(fft // 2 + 1) * (rate / fft)
    corners = mel_corners(bands, lowest, highest, scale)[:, None]
    left, peak, right = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (bins - left) / (peak - left), (right - bins) / (right - peak)
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (right - left))
