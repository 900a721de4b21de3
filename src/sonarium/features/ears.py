"""Binaural features as rows over time: log-mel bands, and interaural differences of phase and level.

The cues are those of binaural hearing (Rayleigh, 1907): phase localises below about 1.5 kHz, level above it. Phase
differences of neighbouring bins are averaged on the circle, weighted by their magnitudes, so that a band's vector
(sin, cos) is short where its frequencies disagree and (0, 0) in silence.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sonarium.config import Range, check_ranges
from sonarium.features.inversion import griffin_lim, spread_bands
from sonarium.features.spectrogram import Spectrogram, SpectrogramConfig

NOTHING = 1e-30
"""Floor of the product of powers before its square root is taken."""


@dataclass(frozen=True)
class EarsConfig:
    """The defaults suit windows of a quarter of a second at 8 kHz."""

    fft: Annotated[int, Range(2, 2**17)] = 256
    """FFT size and Hann window length in samples."""
    hop: Annotated[int, Range(1, 2**24)] = 125
    """Hop length in samples."""
    bands: Annotated[int, Range(1, 1024)] = 32
    """Number of mel bands."""
    loudness: Literal["both", "mean", "none"] = "both"
    """Log-mel rows: both (one set per ear), mean (of the power of both ears), or none."""
    resolution: Literal["band", "bin"] = "band"
    """Resolution of the interaural differences: mel band, or FFT bin."""
    floor_db: Annotated[float, Range(-1000, 0, below=True)] = -100.0
    """Floor in decibels re a sine of amplitude 1, −1 on the scale of the rows; full scale is 1."""
    level_unit: Annotated[float, Range(0, above=True)] = 6.0
    """Interaural level difference in decibels that maps to 1 on the scale of the rows."""
    level_limit: Annotated[float, Range(0, above=True)] = 24.0
    """Interaural level differences are clipped to ± this many decibels."""

    def __post_init__(self) -> None:
        check_ranges(self)


class Ears(nn.Module):
    """Binaural features of about unit range from sound at two ears (ear 0 is the left one); no parameters.

    Rows, in order: log-mel bands (left, then right; or of the mean power), sine, then cosine of the phase lead of
    the left ear, then the level of the left ear relative to the right one.
    """

    def __init__(self, config: EarsConfig, rate: int):
        super().__init__()
        self.config, self.rate = config, rate
        plain = SpectrogramConfig(
            fft=config.fft, hop=config.hop, mels=config.bands, floor_db=config.floor_db, scaling="none"
        )
        self.spectrogram = Spectrogram(plain, rate)
        self.stft = self.spectrogram.stft
        self.compared = config.bands if config.resolution == "band" else config.fft // 2 + 1
        # An inaudible power that keeps all quotients finite.
        self.silence = self.spectrogram.full_scale * 10 ** (config.floor_db / 10)

    def forward(self, wave: Float[Tensor, "clip ear time"]) -> Float[Tensor, "clip row frame"]:
        self.check(wave)
        with torch.autocast(wave.device.type, enabled=False):
            planes = self.planes(wave.to(self.stft.window.dtype))
            pooled = self.banded(planes) if self.config.resolution == "band" else planes
            rows = [*self.loudness(planes, pooled), *self.phase(pooled), self.level(pooled)]
            return rearrange(torch.cat(rows, -1), "clip frame row -> clip row frame").contiguous()

    def shape(self, samples: int) -> tuple[int, int]:
        """Rows and frames of the features of a clip of N samples."""
        loud = {"both": 2, "mean": 1, "none": 0}[self.config.loudness] * self.config.bands
        return loud + 3 * self.compared, self.stft.frames(samples)

    def check(self, wave: Tensor) -> None:
        """Raise ValueError for input whose features would be meaningless."""
        if wave.ndim != 3 or wave.shape[1] != 2:
            raise ValueError(
                f"got waves of shape {tuple(wave.shape)}, expected (clip, 2 ears, time): "
                "give a batch of two-channel sounds, wave[None] for a single one"
            )
        self.spectrogram.check(rearrange(wave, "clip ear time -> (clip ear) time"))

    def planes(self, wave: Float[Tensor, "clip ear time"]) -> Float[Tensor, "5 clip frame bin"]:
        """Power of each ear, and real part, imaginary part and magnitude of their cross-spectrum."""
        spectra = torch.view_as_real(self.stft(rearrange(wave, "clip ear time -> (clip ear) time")))
        # Contiguous real and imaginary parts: the arithmetic below is several times slower on strided data.
        real, imag = rearrange(spectra, "(clip ear) frame bin part -> part ear clip frame bin", ear=2).contiguous()
        left, right = torch.addcmul(real * real, imag, imag)
        across = torch.addcmul(real[0] * real[1], imag[0], imag[1])
        ahead = torch.addcmul(imag[0] * real[1], real[0], imag[1], value=-1)
        # The square root has no finite gradient at 0.
        return torch.stack([left, right, across, ahead, (left * right).clamp(min=NOTHING).sqrt()])

    def banded(self, bins: Float[Tensor, "*any bin"]) -> Float[Tensor, "*any band"]:
        """Weighted sums over the bins of each mel band."""
        blocks, filters = self.spectrogram.blocks, self.spectrogram.filters
        assert filters is not None, "the ears' spectrogram has mel bands"
        return torch.cat([bins[..., covered] @ filters[bands, covered].T for bands, covered in blocks], -1)

    def loudness(
        self, planes: Float[Tensor, "5 clip frame bin"], pooled: Float[Tensor, "5 clip frame compared"]
    ) -> list[Float[Tensor, "clip frame band"]]:
        """Levels of the bands in decibels, scaled from −1 at the floor to 1 at full scale."""
        if self.config.loudness == "none":
            return []
        powers = pooled[:2] if self.config.resolution == "band" else self.banded(planes[:2])
        if self.config.loudness == "mean":
            powers = powers.mean(0, keepdim=True)
        return list(1 - 2 * self.spectrogram.decibels(powers) / self.config.floor_db)

    def phase(
        self, pooled: Float[Tensor, "5 clip frame compared"]
    ) -> tuple[Float[Tensor, "clip frame compared"], Float[Tensor, "clip frame compared"]]:
        """Magnitude-weighted means of sine and cosine of the phase lead of the left ear."""
        _, _, across, ahead, magnitude = pooled
        weight = magnitude + self.silence
        return ahead / weight, across / weight

    def level(self, pooled: Float[Tensor, "5 clip frame compared"]) -> Float[Tensor, "clip frame compared"]:
        """Level of the left ear relative to the right one, clipped, in units of `level_unit` decibels."""
        above, below = pooled[:2] + self.silence
        limit = self.config.level_limit
        return (10 * (above / below).log10()).clamp(-limit, limit) / self.config.level_unit

    @torch.no_grad()
    def invert(
        self,
        rows: Float[Tensor, "clip row frame"],
        samples: int,
        iterations: int = 32,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "clip ear time"]:
        """Binaural sound with these levels in each ear and these interaural phase differences; the phase of the
        left ear is found by the Griffin-Lim algorithm. Requires loudness both."""
        config, bands = self.config, self.config.bands
        if config.loudness != "both":
            raise ValueError(f"loudness={config.loudness!r}: the levels of both ears are needed; give both")
        if rows.shape[1:] != self.shape(samples):
            raise ValueError(
                f"got rows of shape {tuple(rows.shape[1:])} for {samples} samples, expected {self.shape(samples)}"
            )
        filters = self.spectrogram.filters
        assert filters is not None, "the ears' spectrogram has mel bands"
        frames = rearrange(rows, "clip row frame -> clip frame row").to(filters.dtype)
        loud, sine, cosine, _ = frames.split([2 * bands, *[self.compared] * 3], -1)
        decibels = (loud.clamp(-1, 1) - 1) / 2 * -config.floor_db
        powers = (self.spectrogram.raised(decibels) - self.silence).clamp(min=0)
        left, right = (spread_bands(one, filters).sqrt() for one in powers.split(bands, -1))
        if config.resolution == "band":
            # Each bin takes the phase difference of the bands that cover it.
            sine, cosine = sine @ filters, cosine @ filters
        one = griffin_lim(left, self.stft, samples, iterations, generator)
        phase = self.stft(one).angle() - torch.atan2(sine, cosine)
        return torch.stack([one, self.stft.inverse(torch.polar(right, phase), samples)], 1)
