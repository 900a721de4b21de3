"""Features without learning, as controls: log-mel frames, and MFCC with deltas.

Mel-frequency cepstra are those of Davis and Mermelstein (1980), the slopes (deltas) those of Furui (1986): the
first and second derivatives of polynomials fitted to nine frames. The conventions are librosa's, so that the
numbers agree with it. Padding beyond a clip's length has no influence.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonarium.config import Range, check_ranges
from sonarium.features.spectrogram import Spectrogram, SpectrogramConfig
from sonarium.features.waveform import at_one_level, sounding

QUIETEST = 1e-10
"""Floor of the power of a band: 100 decibels below 1."""
REACH = 9
"""Number of frames to which a delta is fitted, if a clip has that many."""


@dataclass(frozen=True)
class LogMelConfig:
    """Log-mel frames; times are in seconds so that they suit any sampling rate."""

    window: Annotated[float, Range(0, 60, above=True, example=0.025)] = 0.025
    """Hann window length in seconds."""
    hop: Annotated[float, Range(0, 60, above=True, example=0.01)] = 0.010
    """Hop length in seconds."""
    fft: Annotated[int | None, Range(2, 2**17)] = None
    """FFT size in samples; by default the smallest power of two that holds the window."""
    bands: Annotated[int, Range(1, 1024, example=40)] = 40
    """Number of mel bands."""
    fmin: Annotated[float, Range(0)] = 0.0
    """Lowest frequency of the bands in Hz."""
    fmax: Annotated[float | None, Range(0, above=True)] = None
    """Highest frequency of the bands in Hz; by default half the sampling rate."""
    equal_levels: bool = False
    """Divide each clip by its root mean square first, down to −60 dB, as learners of samples do."""
    range_db: Annotated[float | None, Range(0, above=True, example=80)] = 80.0
    """Dynamic range: bins more than this many decibels below the clip's loudest are raised; None keeps them."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def spectrogram(self, rate: int) -> SpectrogramConfig:
        """Configuration of the spectrogram at a sampling rate."""
        window = max(2, round(self.window * rate))
        return SpectrogramConfig(
            fft=2 ** (window - 1).bit_length() if self.fft is None else self.fft,
            window_length=window,
            hop=max(1, round(self.hop * rate)),
            mels=self.bands,
            fmin=self.fmin,
            fmax=self.fmax,
            compression="none",
            scaling="none",
        )


@dataclass(frozen=True)
class MfccConfig:
    """Mel-frequency cepstral coefficients."""

    mel: LogMelConfig = LogMelConfig()
    """The log-mel frames that are transformed."""
    coefficients: Annotated[int, Range(1, 1024)] = 13
    """Number of coefficients, the zeroth included."""
    slopes: Annotated[int, Range(0, 2)] = 2
    """0 for the coefficients alone, 1 with deltas, 2 with deltas and delta-deltas."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.coefficients > self.mel.bands:
            raise ValueError(f"coefficients={self.coefficients}: give from 1 to bands={self.mel.bands}")


class LogMel(nn.Module):
    """Log-mel frames in decibels; no parameters."""

    def __init__(self, config: LogMelConfig, rate: int):
        super().__init__()
        self.config, self.rate = config, rate
        self.spectrogram = Spectrogram(config.spectrogram(rate), rate)
        self.width = config.bands
        self.code_rate = rate / self.spectrogram.config.hop

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Number of frames of clips of these lengths in samples."""
        return self.spectrogram.stft.frames(lengths)

    def forward(
        self, wave: Float[Tensor, "clip time"], lengths: Int[Tensor, " clip"] | None = None
    ) -> Float[Tensor, "clip frame band"]:
        """Log-mel frames; those beyond a clip's length are zero."""
        counts = self.code_lengths(checked_lengths(wave, lengths))
        sound = wave if lengths is None else wave.where(sounding(wave.shape[1], lengths), 0)
        if self.config.equal_levels:
            sound = at_one_level(sound, lengths)
        missing = self.spectrogram.window_length - wave.shape[1]
        power = self.spectrogram.magnitudes(nn.functional.pad(sound, (0, max(0, missing))))
        decibels = 10 * power.clamp(min=QUIETEST).log10()
        frames = rearrange(decibels, "clip band frame -> clip frame band")[:, : int(counts.max())]
        own = sounding(frames.shape[1], counts)[..., None]
        if self.config.range_db is not None:
            loudest = frames.where(own, -math.inf).amax((1, 2), keepdim=True)
            frames = torch.maximum(frames, loudest - self.config.range_db)
        return frames.where(own, 0)


class Mfcc(nn.Module):
    """Mel-frequency cepstral coefficients, their deltas, then their delta-deltas; no parameters."""

    transform: Tensor

    def __init__(self, config: MfccConfig, rate: int):
        super().__init__()
        self.config, self.rate = config, rate
        self.mel = LogMel(config.mel, rate)
        rows = cosines(config.coefficients, config.mel.bands).to(torch.get_default_dtype())
        self.register_buffer("transform", rows, persistent=False)
        self.width = config.coefficients * (1 + config.slopes)
        self.code_rate = self.mel.code_rate

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Number of frames of clips of these lengths in samples."""
        return self.mel.code_lengths(lengths)

    def forward(
        self, wave: Float[Tensor, "clip time"], lengths: Int[Tensor, " clip"] | None = None
    ) -> Float[Tensor, "clip frame cepstrum"]:
        """Cepstral coefficients and deltas; frames beyond a clip's length are zero."""
        bands = self.mel(wave, lengths)
        counts = self.code_lengths(checked_lengths(wave, lengths))
        cepstra = bands @ self.transform.T
        parts = [cepstra] + [slope(cepstra, counts, order) for order in range(1, self.config.slopes + 1)]
        return torch.cat(parts, -1)


def cosines(coefficients: int, bands: int) -> Float[Tensor, "coefficient band"]:
    """Rows of the orthonormal discrete cosine transform of type II."""
    order = torch.arange(coefficients, dtype=torch.float64)[:, None]
    place = torch.arange(bands, dtype=torch.float64) + 0.5
    rows = (math.pi / bands * order * place).cos() * math.sqrt(2 / bands)
    rows[0] /= math.sqrt(2)
    return rows


def slope(
    frames: Float[Tensor, "clip frame code"], counts: Int[Tensor, " clip"], order: int = 1
) -> Float[Tensor, "clip frame code"]:
    """Deltas: derivatives of this order of polynomials of this order, fitted to the nine frames around each.

    At either end the first or last nine frames are fitted. A shorter clip uses the largest odd number of frames
    that it has; with fewer than three frames, deltas are zero.
    """
    slopes = torch.zeros_like(frames)
    reach = (counts - 1 - (counts - 1) % 2).clamp(max=REACH - 1) + 1
    for width in reach.unique().tolist():
        if width < 3:
            continue
        own = reach == width
        slopes[own] = _slope(frames[own], counts[own], order, width)
    return slopes


def _slope(
    frames: Float[Tensor, "clip frame code"], counts: Int[Tensor, " clip"], order: int, width: int
) -> Float[Tensor, "clip frame code"]:
    half = width // 2
    places = torch.arange(-half, half + 1, dtype=torch.float64)
    # The derivative of the same order as the polynomial is constant: its leading coefficient times order!.
    weights = math.factorial(order) * torch.linalg.pinv(torch.vander(places, order + 1, increasing=True))[order]
    fitted = frames.unfold(1, width, 1) @ weights.to(frames)
    places_of_frames = torch.arange(frames.shape[1], device=frames.device)
    first = (places_of_frames - half).clamp(min=0).minimum((counts - width)[:, None])
    slopes = fitted.gather(1, repeat(first, "clip frame -> clip frame code", code=frames.shape[2]))
    return slopes.where(sounding(frames.shape[1], counts)[..., None], 0)


def checked_lengths(
    wave: Float[Tensor, "clip time"], lengths: Int[Tensor, " clip"] | None
) -> Int[Tensor, " clip"]:
    """Lengths, by default those of whole clips; raises ValueError if they are impossible."""
    if lengths is None:
        return torch.full((len(wave),), wave.shape[1], device=wave.device)
    if len(lengths) != len(wave) or bool((lengths < 1).any()) or bool((lengths > wave.shape[1]).any()):
        raise ValueError(
            f"got lengths {lengths.tolist()[:8]} for {len(wave)} clips of up to {wave.shape[1]} samples: "
            "give each clip a length from 1 to the samples of the batch"
        )
    return lengths
