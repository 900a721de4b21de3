"""Slow modulation of tones: pitch and level vary, each as a sum of a few slow sines drawn per clip.

A walk is Σ a sin(2π(ft + φ)) with equal a. The band up to the highest rate is divided into equal parts with one
frequency in each, so that every walk has slow and fast components. It never exceeds the sum of the a, so that
partials are guaranteed to stay below half the sampling rate. The pitch deviates up and down from the frequency of
the tone, the level only down from its amplitude, which remains the peak.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.worlds import counter

SINES = 3
"""Number of sines in a walk."""
NEPERS = math.log(10) / 20
"""Nepers per decibel."""
OCTAVES = 1 / 12
"""Octaves per semitone."""

Walk = Float[Tensor, "clip _ 3"]
"""Frequency in Hz, phase in periods, and amplitude in semitones or dB of each sine. No sines: no modulation."""


@dataclass(frozen=True)
class Modulation:
    """Pitch and level modulation of a batch of tones."""

    pitch: Walk
    level: Walk

    def to(self, device: torch.device) -> "Modulation":
        return Modulation(self.pitch.to(device), self.level.to(device))

    def semitones(self, time: Float[Tensor, " time"]) -> Float[Tensor, "clip time"]:
        """Deviation of the pitch from the tone's frequency."""
        return walked(self.pitch, time)

    def decibels(self, time: Float[Tensor, " time"]) -> Float[Tensor, "clip time"]:
        """Deviation of the level from the tone's amplitude, at most 0."""
        return walked(self.level, time) - extent(self.level)[:, None]

    def highest(self) -> Float[Tensor, " clip"]:
        """Maximum ratio of the modulated frequency to the tone's."""
        return torch.exp2(extent(self.pitch) * OCTAVES)

    def sidebands(self, nyquist: float) -> Float[Tensor, " clip"]:
        """Hz above the highest momentary frequency beyond which all sidebands are below −60 dB, as in
        `oscillator.order_limit`; for the level, the sidebands I_n(β) of exp(β sin)."""
        pitch, level = fastest(self.pitch), fastest(self.level)
        swing = nyquist * (self.highest() - 1) / pitch.clamp(min=1e-9)
        depth = NEPERS * extent(self.level)
        return pitch * (3 * swing ** (1 / 3) + 3) + level * (depth + 3 * depth ** (1 / 3) + 3)


def none(clips: int) -> Modulation:
    empty = torch.zeros(clips, 0, 3, dtype=torch.float64)
    return Modulation(empty, empty)


def drawn(streams: Int[Tensor, " clip"], semitones: float, decibels: float, rate: float) -> Modulation:
    """Draw the modulation of clips from their random streams: pitch up and down by at most `semitones`, level
    within `decibels`, no faster than `rate` in Hz."""
    # Separate from the counters of the noise, which begin at the stream itself.
    numbers = counter.uniform(counter.mix(streams), 4 * SINES).unflatten(1, (2, 2, SINES))
    empty = none(len(streams)).pitch

    def walk(own: Float[Tensor, "clip 2 sine"], most: float) -> Walk:
        if most == 0:
            return empty
        place = torch.arange(SINES) + own[:, 0]
        return torch.stack([rate * place / SINES, own[:, 1], torch.full_like(place, most / SINES)], 2)

    return Modulation(walk(numbers[:, 0], semitones), walk(numbers[:, 1], decibels / 2))


def walked(walk: Walk, time: Float[Tensor, " time"]) -> Float[Tensor, "clip time"]:
    total = walk.new_zeros(len(walk), len(time))
    for frequency, phase, amplitude in walk.permute(1, 2, 0)[..., None]:
        total = total + amplitude * torch.sin(2 * math.pi * (frequency * time + phase))
    return total


def extent(walk: Walk) -> Float[Tensor, " clip"]:
    """Upper bound of a walk."""
    return walk[..., 2].sum(1)


def fastest(walk: Walk) -> Float[Tensor, " clip"]:
    """Highest frequency in a walk; 0 if it has no sines."""
    return walk[..., 0].amax(1) if walk.shape[1] else walk.new_zeros(len(walk))
