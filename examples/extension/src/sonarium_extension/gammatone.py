"""A front end: levels in the bands of a gammatone filter bank, a model of the cochlea (Patterson et al. 1987).

A band is the complex filter t³ exp(−2π b t + 2πi f t), whose bandwidth b is 1.019 ERB(f) (Glasberg and Moore
1990). The power of its output is averaged over each frame and given in decibels, which are then standardised.
The filters are causal and a frame ends before the next begins: a frame depends on nothing after it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Complex64, Float, Int
from torch import Tensor

from sonarium.features.contract import Axes, FrontEndConfig, FrontEndEntry, PictureFrontEnd
from sonarium.features.statistics import Statistics
from sonarium.features.waveform import sounding
from sonarium.worlds.contract import Signal

LASTING = 0.05
"""Length of the impulse responses in seconds: at 50 Hz, the response has decayed to a thousandth."""
FLOOR_DB = -80.0


@dataclass(frozen=True)
class GammatoneConfig(FrontEndConfig):
    bands: int = 32
    """Number of gammatone filters."""
    fmin: float = 100.0
    """Lowest centre frequency in Hz."""
    hop: int = 80
    """Frame length in samples; frames do not overlap."""

    def __post_init__(self) -> None:
        demands = (
            ("bands", self.bands >= 2, "a whole number of at least 2"),
            ("fmin", 50 <= self.fmin < math.inf, "a frequency of at least 50 Hz"),
            ("hop", self.hop >= 1, "a number of samples"),
        )
        for name, met, expected in demands:
            if not met:
                raise ValueError(f"{name}={getattr(self, name)}: give {expected}")

    def build(self, signal: Signal) -> "Gammatone":
        return Gammatone(self, signal)


class Gammatone(PictureFrontEnd):
    filters: Tensor
    offset: Tensor
    spread: Tensor

    def __init__(self, config: GammatoneConfig, signal: Signal):
        super().__init__()
        if signal.kind != "wave" or signal.rate is None:
            raise ValueError(f"a gammatone filter bank takes waves, not {signal.kind}s: choose a world of sound")
        if config.fmin >= 0.9 * signal.rate / 2:
            raise ValueError(
                f"fmin={config.fmin}: give less than {0.45 * signal.rate} Hz, 0.45 of the sampling rate"
            )
        self.config, self.window_length = config, config.hop
        self.hertz = centres(config.fmin, 0.9 * signal.rate / 2, config.bands)
        self.register_buffer("filters", gammatones(self.hertz, signal.rate), persistent=False)
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def forward(self, signal: Float[Tensor, "clip time"]) -> Float[Tensor, "clip 1 row frame"]:
        return rearrange((self.levels(signal) - self.offset) / self.spread, "clip row frame -> clip 1 row frame")

    def levels(self, wave: Float[Tensor, "clip time"]) -> Float[Tensor, "clip row frame"]:
        """Decibels relative to full scale."""
        _, _, frames = self.shape(wave.shape[1])
        own = wave[:, : frames * self.config.hop].float()
        # Padding by the length of the filter makes the convolution linear instead of circular.
        size = own.shape[1] + self.filters.shape[1]
        product = torch.fft.fft(own, size)[:, None] * torch.fft.fft(self.filters, size)
        power = torch.fft.ifft(product)[..., : own.shape[1]].abs().square()
        mean = reduce(power, "clip row (frame hop) -> clip row frame", "mean", hop=self.config.hop)
        return 10 * mean.clamp(min=10 ** (FLOOR_DB / 10)).log10()

    def shape(self, samples: int) -> tuple[int, int, int]:
        if samples < self.config.hop:
            raise ValueError(
                f"clips of {samples} samples are shorter than a frame of {self.config.hop}: lessen --hop"
            )
        return 1, self.config.bands, samples // self.config.hop

    def frames(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return torch.div(lengths, self.config.hop, rounding_mode="floor")

    def fit(
        self,
        signals: Iterable[Float[Tensor, "_clip _time"]],
        lengths: Iterable[Int[Tensor, " _clip"] | None] = repeat(None),
    ) -> None:
        """Set the scale to mean and standard deviation over all bands and frames, without padding."""
        found = Statistics()
        for wave, own in zip(signals, lengths, strict=False):
            levels = rearrange(self.levels(wave), "clip row frame -> clip frame row")
            found.add(levels if own is None else levels[sounding(levels.shape[1], self.frames(own))])
        if not found.count:
            raise ValueError("no clip of the training split has a frame: lessen --hop, or use longer clips")
        offset, spread = found.scale("standard")
        self.offset.fill_(offset)
        self.spread.fill_(spread)

    @property
    def axes(self) -> Axes:
        return Axes(FLOOR_DB, 0.0, "dB re full scale", self.hertz)

    def drawn(self, features: Float[Tensor, "clip 1 row frame"]) -> Float[np.ndarray, "clip row column"]:
        return (features[:, 0] * self.spread + self.offset).float().cpu().numpy()


def centres(low: float, high: float, bands: int) -> Float[np.ndarray, " row"]:
    """Centre frequencies, evenly spaced on the scale of equivalent rectangular bandwidths (ERB)."""
    lowest, highest = 21.4 * np.log10(1 + 4.37e-3 * np.array([low, high]))
    return (10 ** (np.linspace(lowest, highest, bands) / 21.4) - 1) / 4.37e-3


def gammatones(hertz: Float[np.ndarray, " row"], rate: int) -> Complex64[Tensor, "row time"]:
    """Impulse responses; a sine at the centre frequency has the level of its amplitude."""
    seconds = np.arange(1, round(LASTING * rate) + 1) / rate
    bandwidth = 1.019 * 24.7 * (1 + 4.37e-3 * hertz[:, None])
    envelope = seconds**3 * np.exp(-2 * np.pi * bandwidth * seconds)
    response = envelope * np.exp(2j * np.pi * hertz[:, None] * seconds)
    # A real sine has half its amplitude at the positive frequency.
    return torch.from_numpy((2 * response / envelope.sum(1, keepdims=True)).astype(np.complex64))


GAMMATONE = FrontEndEntry("levels in the bands of a gammatone filter bank, in decibels", GammatoneConfig)
