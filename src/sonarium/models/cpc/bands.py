"""Loudness in mel bands in the place of the first layers of an encoder, where there is little sound to learn from.

Filters of samples are what takes predictive coding most sound and most arithmetic to learn. The bands are those of
Davis and Mermelstein (1980); they have nothing to learn. Each window's Fourier transform is a product with a
matrix, which every runtime has.
"""

import math
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from sonarium.features.mel import mel_filters

WINDOW, HOP = 0.025, 0.010
"""Seconds under a Hann window, and from one window to the next."""
QUIET = 4e-4
"""Power added to each band (of white noise at the level of the sound it is 1): 34 dB below is silence."""
SPREAD = 3.0
"""Natural logarithms by which the loudness is divided, which brings speech at a fixed level to about ±1."""
Count = TypeVar("Count", int, Tensor)


class Bands(nn.Module):
    """From samples to frames of loudness."""

    transform: Tensor
    filters: Tensor

    def __init__(self, bands: int, rate: int):
        super().__init__()
        self.window, self.hop = max(2, round(WINDOW * rate)), max(1, round(HOP * rate))
        self.padding = (self.window - self.hop) // 2
        points = 2 ** (self.window - 1).bit_length()
        hann = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(self.window) / self.window)
        angle = 2 * math.pi * np.outer(np.arange(self.window), np.arange(points // 2 + 1)) / points
        waves = np.concatenate([np.cos(angle), np.sin(angle)], 1) * (hann / np.sqrt((hann**2).sum()))[:, None]
        # Each band is the mean of its bins, so that white noise is equally loud in all.
        weights = mel_filters(rate, points, bands, 0.0, rate / 2)
        sums = weights.sum(1, keepdims=True)
        if not (sums > 0).all():
            raise ValueError(
                f"bands={bands} at {rate} samples a second leave bands without a frequency: give fewer"
            )
        kind = torch.get_default_dtype()
        self.register_buffer("transform", torch.from_numpy(waves).to(kind), persistent=False)
        self.register_buffer("filters", torch.from_numpy((weights / sums).T.copy()).to(kind), persistent=False)

    def frames(self, samples: Count) -> Count:
        """How many frames so many samples make; 0 of those that are too few, and of none."""
        made = (samples + 2 * self.padding - self.window) // self.hop + 1
        if isinstance(made, Tensor):
            return made.clamp(min=0) * (samples > 0)
        return max(0, made) if samples > 0 else 0

    def forward(
        self, sound: Float[Tensor, "clip time 1"], inside: Bool[Tensor, "clip frame"] | None
    ) -> Float[Tensor, "clip frame band"]:
        with torch.autocast(sound.device.type, enabled=False):
            wave = functional.pad(sound[..., 0].to(self.transform.dtype), (self.padding, self.padding))
            cosine, sine = (wave.unfold(1, self.window, self.hop) @ self.transform).chunk(2, -1)
            power = (cosine.square() + sine.square()) @ self.filters
            made = (power + QUIET).log() / SPREAD + 1
        return made if inside is None else made * inside[..., None]
