"""The short-time Fourier transform and its inverse (Griffin and Lim, 1984, least squares).

Frames are centred on multiples of the hop, the sound is padded with zeros at its ends, and the window is a
periodic Hann window, as in librosa; without centring, frames lie within the sound. Framing is implemented here
because it is two and a half times as fast on a CPU as `torch.stft`, which copies the frames once more.
"""

from typing import TypeVar

import torch
from einops import rearrange
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

AUDIBLE = 1e-8
"""Overlap, as a fraction of the window's energy, below which the inverse sets a sample to zero."""
FAINT = 0.1
"""Fraction of the full overlap below which uncentred sound fades, so that errors do not grow at its ends."""
Count = TypeVar("Count", int, Tensor)


class Stft(nn.Module):
    """Complex spectra of `fft // 2 + 1` bins at every `hop` samples, and their inverse."""

    window: Tensor

    def __init__(self, fft: int, window_length: int, hop: int, centred: bool = True):
        super().__init__()
        self.fft, self.hop = fft, hop
        self.margin = fft // 2 if centred else 0
        """Zero padding in samples before and after the sound."""
        left = (fft - window_length) // 2
        hann = torch.hann_window(window_length, periodic=True, dtype=torch.float64)
        padded = functional.pad(hann, (left, fft - window_length - left))
        self.register_buffer("window", padded.to(torch.get_default_dtype()), persistent=False)

    def frames(self, samples: Count) -> Count:
        """Number of frames of clips of N samples."""
        return 1 + (samples + 2 * self.margin - self.fft) // self.hop

    def forward(self, wave: Float[Tensor, "clip time"]) -> Complex[Tensor, "clip frame bin"]:
        padded = functional.pad(wave, (self.margin, self.margin))
        return torch.fft.rfft(padded.unfold(1, self.fft, self.hop) * self.window)

    def inverse(self, spectrum: Complex[Tensor, "clip frame bin"], length: int) -> Float[Tensor, "clip time"]:
        """Waveform of `length` samples whose STFT is nearest to the given spectrum."""
        frames = torch.fft.irfft(spectrum, n=self.fft) * self.window
        weight = self.overlap_add(self.window.square().expand(1, spectrum.shape[1], -1), length)
        wave = self.overlap_add(frames, length)
        covered = weight > AUDIBLE * self.window.square().sum()
        if not self.margin:
            weight = weight.clamp(min=FAINT * float(weight.max()))
        return torch.where(covered, wave / weight.where(covered, 1), 0)

    def overlap_add(self, frames: Float[Tensor, "clip frame point"], length: int) -> Float[Tensor, "clip time"]:
        """Overlap-add the frames, and keep the `length` samples of the clip."""
        pieces = -(-self.fft // self.hop)
        tail = pieces * self.hop - self.fft
        cut = rearrange(
            functional.pad(frames, (0, tail)), "clip frame (piece hop) -> piece clip frame hop", piece=pieces
        )
        clips, count = frames.shape[:2]
        total = frames.new_zeros(clips, count + pieces, self.hop)
        for offset, piece in enumerate(cut):
            total[:, offset : offset + count] += piece
        wave = rearrange(total, "clip frame hop -> clip (frame hop)")[:, self.margin : self.margin + length]
        return functional.pad(wave, (0, length - wave.shape[1]))
