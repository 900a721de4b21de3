"""Shared parts of mask-based separators: binaural spectra and their inverse, interaural cues, and the loss.

Frames are causal: the newest ends with the newest sample, so that processing can continue window by window. The
analysis and synthesis windows are the square root of a Hann window (Griffin and Lim, 1984). The loss is the
negative signal-to-noise ratio of the time signals at both ears together: a loss that is invariant to the gain of
each estimate, such as SI-SDR, ignores the level difference between the ears. The estimates are matched with the
references once per clip, over both ears (permutation-invariant training; Yu et al. 2017, arXiv 1607.00325).
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations
from math import log
from typing import Annotated, Any

import torch
from einops import rearrange, repeat
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.models.contract import Engine, Separator
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.worlds.contract import Batch, Signal

SILENCE = 1e-10
"""Floor of the mean square of a source, summed over both ears: −100 dB re full scale."""
BEST_SNR = 30.0
"""Soft ceiling of the SNR in decibels, so that easy clips do not outweigh hard ones (Wisdom et al. 2020)."""
EARS_APART = 1e-3
"""Largest interaural time difference in seconds of the directions."""
LEVEL_LIMIT = 3.0
"""Limit to which the interaural level difference is clipped, in nepers of power: 13 dB."""

Spectra = Complex[Tensor, "clip 2 frame bin"]
Sources = Float[Tensor, "clip time source 2"]


class Parts:
    """Complex numbers as two real tensors, with the operations of complex tensors that separators use. Exported
    programs contain these, since ONNX has no complex numbers."""

    def __init__(self, real: Tensor, imag: Tensor):
        self.real, self.imag, self.shape = real, imag, real.shape

    def __getitem__(self, at: Any) -> "Parts":
        return Parts(self.real[at], self.imag[at])

    def __mul__(self, other: Any) -> "Parts":
        if not isinstance(other, Parts):
            return Parts(self.real * other, self.imag * other)
        real = self.real * other.real - self.imag * other.imag
        return Parts(real, self.real * other.imag + self.imag * other.real)

    def conj(self) -> "Parts":
        return Parts(self.real, -self.imag)


def two_parts(numbers: Complex[Tensor, "*shape"] | Parts) -> Float[Tensor, "*shape 2"]:
    """Real and imaginary parts along a last axis."""
    if isinstance(numbers, Parts):
        return torch.stack([numbers.real, numbers.imag], -1)
    return torch.view_as_real(numbers)


class Spectrum(nn.Module):
    """Short-time Fourier transform of binaural sound, with frames every `hop` samples, and its inverse."""

    window: Tensor

    def __init__(self, fft: int, hop: int):
        super().__init__()
        if fft % hop or fft < 2 * hop:
            raise ValueError(f"fft={fft}, hop={hop}: give an fft that is a multiple of the hop, at least twice it")
        self.fft, self.hop, self.bins = fft, hop, fft // 2 + 1
        self.past = fft - hop
        """Samples of a frame that precede its newest `hop`."""
        self.register_buffer("window", torch.hann_window(fft).sqrt(), persistent=False)

    def frames(self, samples: int) -> int:
        """Number of complete frames in this many samples, of which the first `past` are context."""
        return max(0, samples - self.past) // self.hop

    def forward(self, sound: Float[Tensor, "clip time 2"]) -> Spectra:
        """Spectra of the complete frames of the sound."""
        if not self.frames(sound.shape[1]):
            return sound.new_zeros(sound.shape[0], 2, 0, self.bins, dtype=torch.complex64)
        cut = rearrange(sound, "clip time ear -> clip ear time").unfold(2, self.fft, self.hop)
        spectra = torch.fft.rfft(cut * self.window)
        if not torch.compiler.is_exporting():
            return spectra
        parts: Any = Parts(*torch.view_as_real(spectra).unbind(-1))
        return parts

    def around(self, sound: Float[Tensor, "clip time 2"]) -> Spectra:
        """Spectra of all frames that overlap a whole clip, zero-padded at both ends."""
        end = self.past + -sound.shape[1] % self.hop
        return self(functional.pad(sound, (0, 0, self.past, end)))

    def overlap(
        self, spectra: Complex[Tensor, "clip source 2 frame bin"], tail: Float[Tensor, "clip past source 2"]
    ) -> tuple[Float[Tensor, "clip time source 2"], Float[Tensor, "clip past source 2"]]:
        """Overlap-add: the `hop` samples that each frame completes, which lie `past` samples before the newest of
        the frame, and the tail to which the next frames are added."""
        count = spectra.shape[3]
        if not count:
            return tail[:, :0], tail
        pieces = rearrange(
            self.waves(spectra) * (self.window * (2 * self.hop / self.fft)),
            "clip source ear frame (piece hop) -> piece clip frame hop source ear", hop=self.hop,
        )  # fmt: skip
        total = functional.pad(
            rearrange(tail, "clip (frame hop) source ear -> clip frame hop source ear", hop=self.hop),
            (0, 0, 0, 0, 0, 0, 0, count),
        )
        for offset, piece in enumerate(pieces):
            shape = (0, 0, 0, 0, 0, 0, offset, len(pieces) - 1 - offset)
            total = total + functional.pad(piece, shape)
        wave = rearrange(total, "clip frame hop source ear -> clip (frame hop) source ear")
        return wave[:, : count * self.hop], wave[:, count * self.hop :]

    def waves(self, spectra: Complex[Tensor, "*frames bin"]) -> Float[Tensor, "*frames sample"]:
        """Inverse transform of each frame, before the synthesis window."""
        if isinstance(spectra, Parts):
            spectra = torch.view_as_complex(two_parts(spectra).contiguous())
        return torch.fft.irfft(spectra, n=self.fft)

    def sound(self, spectra: Complex[Tensor, "clip source 2 frame bin"], samples: int) -> Sources:
        """Sound of whole clips from the spectra of all their frames (`around`)."""
        tail = spectra.real.new_zeros(spectra.shape[0], self.past, spectra.shape[1], 2)
        return self.overlap(spectra, tail)[0][:, self.past : self.past + samples]


def masked(spectra: Spectra, masks: Float[Tensor, "clip frame bin source 2"]) -> Tensor:
    """Masked spectra of each source, (clip, source, ear, frame, bin)."""
    return spectra[:, None] * rearrange(masks, "clip frame bin source ear -> clip source ear frame bin")


def both_ears(masks: Float[Tensor, "clip frame bin source"]) -> Float[Tensor, "clip frame bin source 2"]:
    """The same mask at both ears, which preserves interaural differences of time and level."""
    return repeat(masks, "clip frame bin source -> clip frame bin source 2")


def ideal_shares(spectrum: Spectrum, sources: Sources) -> Float[Tensor, "clip frame bin source"]:
    """The ideal ratio mask: the share of each source in the magnitudes of both ears together."""
    alone = torch.stack([power(spectrum.around(one)).sum(1).sqrt() for one in sources.unbind(2)], -1)
    return alone / (alone.sum(-1, keepdim=True) + SILENCE)


def power(spectra: Complex[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return spectra.real.square() + spectra.imag.square()


def cues(
    spectra: Spectra, loudness: Float[Tensor, "clip frame"]
) -> tuple[Float[Tensor, "clip frame bin"], Float[Tensor, "clip frame bin 3"]]:
    """Cues per bin, of about unit range: log power of both ears relative to the loudness; and cosine and sine of
    the phase by which the left ear leads, with the level of the left ear relative to the right one."""
    left, right = power(spectra).unbind(1)
    quiet = SILENCE + 1e-5 * rearrange(loudness, "clip frame -> clip frame 1")
    level = (left + right + quiet).log() - rearrange(loudness + SILENCE, "clip frame -> clip frame 1").log()
    cross = spectra[:, 0] * spectra[:, 1].conj()
    phase = two_parts(cross) / (power(cross) + quiet.square()).sqrt()[..., None]
    above = ((left + quiet) / (right + quiet)).log().clamp(-LEVEL_LIMIT, LEVEL_LIMIT) / LEVEL_LIMIT
    return (level - log(1e-2)) / 4, torch.cat([phase, above[..., None]], -1)


def steering(bins: int, rate: float, directions: int) -> Float[Tensor, "bin direction 2"]:
    """Cosine and sine of the phase by which the left ear leads at each bin, for sound from each direction;
    directions are evenly spaced in time difference, from right to left."""
    hertz = torch.arange(bins) * rate / (2 * (bins - 1))
    turns = 2 * torch.pi * hertz[:, None] * torch.linspace(-EARS_APART, EARS_APART, directions)
    return torch.stack([turns.cos(), turns.sin()], -1)


def loudness_so_far(
    spectra: Spectra, before: tuple[Tensor, Tensor]
) -> tuple[Float[Tensor, "clip frame"], tuple[Tensor, Tensor]]:
    """Running mean power of the bins over all frames up to each, and the new state; `before` is the state: the sum
    and the number of earlier frames."""
    sums = before[0][:, None] + power(spectra).sum(1).mean(-1).double().cumsum(1)
    counts = before[1][:, None] + torch.arange(1, sums.shape[1] + 1, device=sums.device)
    if not sums.shape[1]:
        return sums.float(), before
    return (sums / counts).float(), (sums[:, -1], counts[:, -1])


def snr_of_pairs(
    references: Sources, estimates: Float[Tensor, "clip time estimate 2"]
) -> Float[Tensor, "clip source estimate"]:
    """SNR in decibels of each pair of reference and estimate, over both ears together."""
    wanted, found = (
        rearrange(sound, "clip time source ear -> clip source (time ear)") for sound in (references, estimates)
    )
    energy = wanted.square().sum(2, keepdim=True) + SILENCE * references.shape[1]
    apart = energy + found.square().sum(2)[:, None] - 2 * wanted @ found.mT
    return 10 * torch.log10(energy / (apart.clamp(min=0) + 10 ** (-BEST_SNR / 10) * energy))


def best_orders(references: Sources, estimates: Sources) -> tuple[Tensor, Int[Tensor, "clip source"]]:
    """Mean SNR of each clip under its best permutation, and the index of the estimate of each reference."""
    sources = references.shape[2]
    orders = torch.tensor(list(permutations(range(sources))), device=references.device)
    each = torch.arange(sources, device=references.device)
    best = snr_of_pairs(references, estimates)[:, each, orders].mean(2).max(1)
    return best.values, orders[best.indices]


class MaskSeparator(Separator, ABC):
    """A separator that multiplies the spectra of whole clips by masks."""

    spectrum: Spectrum

    @abstractmethod
    def shares(self, spectra: Spectra) -> Float[Tensor, "clip frame bin source 2"]:
        """Masks of spectra, with gradients."""

    def estimates(self, signal: Float[Tensor, "clip time 2"]) -> Sources:
        """Estimated sources of whole clips, with gradients."""
        spectra = self.spectrum.around(signal)
        return self.spectrum.sound(masked(spectra, self.shares(spectra)), signal.shape[1])

    @torch.no_grad()
    def masks(self, signal: Float[Tensor, "clip time 2"]) -> Float[Tensor, "clip frame bin source 2"]:
        return self.shares(self.spectrum.around(signal))

    @torch.no_grad()
    def separate(self, signal: Float[Tensor, "clip time 2"]) -> Sources:
        return self.estimates(signal)


def with_gradient(separator: Separator, signal: Float[Tensor, "clip time 2"]) -> Sources:
    """Estimated sources of clips with gradients, for a differentiable separator."""
    # Unwrapping gives the method without its decorator `torch.no_grad`.
    return inspect.unwrap(type(separator).separate)(separator, signal)


def separated_from(signal: Signal) -> int:
    """Number of sources of a binaural mixture; ValueError for any other signal."""
    if signal.kind != "binaural" or not signal.sources:
        raise ValueError(f"a separator learns from mixtures at two ears, not from {signal.kind}s: choose mixtures")
    return signal.sources


def fit(estimates: Sources, data: Batch) -> Float[Tensor, ""]:
    """Mean SNR of the estimates over the sources of a batch, under the best permutation per clip."""
    assert data.sources is not None, "a world whose signal has sources gives them"
    return best_orders(data.sources, estimates)[0].mean()


@dataclass(frozen=True)
class DescentConfig:
    optimiser: AdamConfig = AdamConfig(learning_rate=2e-3)
    """Adam."""
    schedule: ScheduleConfig = ScheduleConfig("cosine")
    """Learning-rate schedule."""
    gradient_clip: Annotated[float, Range(0, above=True)] = 5.0
    """Gradient clipping norm."""

    def __post_init__(self) -> None:
        check_ranges(self)


class Descent(nn.Module):
    """Adam with a learning-rate schedule, which counts its steps."""

    done: Tensor

    def __init__(self, config: DescentConfig, parameters: Iterable[nn.Parameter]):
        super().__init__()
        self.config = config
        self.optimiser = config.optimiser.build(parameters)
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))

    def step(self, loss: Float[Tensor, ""], engine: Engine) -> None:
        rate = self.config.optimiser.learning_rate * self.config.schedule.fraction(int(self.done))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        engine.descend(loss, self.optimiser, self.config.gradient_clip)
        self.done += 1
