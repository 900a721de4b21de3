"""Inversion of magnitudes to sound.

Bands are spread over bins by the multiplicative updates of Lee and Seung (2001) for the generalised
Kullback-Leibler divergence, which keep every bin positive and weight quiet bands like loud ones. The missing
phase is found by the fast Griffin-Lim algorithm (Perraudin, Balazs and Sondergaard, 2013).
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from sonarium.features.stft import Stft

MOMENTUM = 0.99
"""Weight of the previous step in the next one; the best value according to Perraudin and others."""
TINY = 1e-16
"""Keeps quotients finite where a bin is silent."""


def spread_bands(
    bands: Float[Tensor, "clip frame band"], filters: Float[Tensor, "band bin"], updates: int = 50
) -> Float[Tensor, "clip frame bin"]:
    """Non-negative bins whose filtered sums best match the given bands.

    Many sets of bins match the bands; from a uniform start the updates find a peaked one, which suits tones. Bins
    that no filter covers are silent.
    """
    F, B = filters, bands
    covered = F.sum(0)
    X = (B / F.sum(1).clamp(min=TINY)) @ F
    for _ in range(updates):
        X = X * ((B / (X @ F.T).clamp(min=TINY)) @ F) / covered.clamp(min=TINY)
    return X


def random_phase(
    magnitudes: Float[Tensor, "clip frame bin"], generator: torch.Generator | None
) -> Complex[Tensor, "clip frame bin"]:
    """Random phase; by default from a generator with a fixed seed, so that results are reproducible."""
    source = generator if generator is not None else torch.Generator().manual_seed(0)
    turns = torch.rand(magnitudes.shape, generator=source, device=source.device).to(magnitudes)
    return torch.polar(torch.ones_like(magnitudes), 2 * torch.pi * turns)


def griffin_lim(
    magnitudes: Float[Tensor, "clip frame bin"],
    stft: Stft,
    length: int,
    iterations: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "clip time"]:
    """Waveform whose short-time spectrum has approximately these magnitudes."""
    estimate = magnitudes * random_phase(magnitudes, generator)
    before = torch.zeros_like(estimate)
    for _ in range(iterations):
        consistent = stft(stft.inverse(estimate, length))
        ahead = torch.sub(consistent, before, alpha=MOMENTUM / (1 + MOMENTUM))
        estimate = with_magnitudes(ahead, magnitudes)
        before = consistent
    return stft.inverse(estimate, length)


def with_magnitudes(
    spectrum: Complex[Tensor, "*bins"], magnitudes: Float[Tensor, "*bins"]
) -> Complex[Tensor, "*bins"]:
    """Spectrum with its phase kept and its magnitudes replaced; real arithmetic is twice as fast on a CPU."""
    power = torch.addcmul(spectrum.real * spectrum.real, spectrum.imag, spectrum.imag)
    gain = magnitudes * power.clamp(min=TINY**2).rsqrt()
    return torch.view_as_complex(torch.view_as_real(spectrum) * gain[..., None])
