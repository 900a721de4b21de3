"""Learners of one code a clip, made to take sound of any length: a code for each piece, end to end.

The pieces are as long as the clips that were learnt from.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from sonarium.features.waveform import sounding
from sonarium.models.contract import FrameEncoder, Learner, can
from sonarium.worlds.contract import Signal

PIECES = 64
"""Pieces that are encoded at once."""


class Pieces:
    """A learner whose code of each piece is a frame."""

    def __init__(self, learner: Learner, signal: Signal):
        assert signal.rate is not None and can(learner, "encode"), (signal, type(learner))
        self.able: Any = learner
        self.piece = signal.shape[0]
        self.code_rate = signal.rate / self.piece
        self.code_first = self.piece / 2 / signal.rate

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Pieces of clips of so many samples; a rest counts if it is half a piece, or all there is."""
        pieces = (2 * lengths + self.piece) // (2 * self.piece)
        return pieces.clamp(min=1) * (lengths > 0)

    @torch.no_grad()
    def encode(
        self,
        wave: Float[Tensor, "clip time"],
        lengths: Int[Tensor, " clip"] | None = None,
        *,
        power: Float[Tensor, " clip"] | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        """Silence fills the last piece of a clip; codes after a clip's own are zero. `power` is not asked for."""
        samples = wave.shape[1]
        if lengths is None:
            lengths = torch.full((len(wave),), samples, device=wave.device)
        counts = self.code_lengths(lengths)
        sound = wave.where(sounding(samples, lengths), 0)
        # A negative padding leaves out what no piece holds.
        filled = functional.pad(sound, (0, int(counts.max()) * self.piece - samples))
        parts = rearrange(filled, "clip (frame time) -> clip frame time", time=self.piece)
        own = sounding(parts.shape[1], counts)
        codes = torch.cat([self.able.encode(several) for several in parts[own].split(PIECES)])
        made = codes.new_zeros(*own.shape, codes.shape[2])
        made[own] = rearrange(codes, "piece 1 code -> piece code")
        return made


def in_frames(learner: Learner, signal: Signal) -> FrameEncoder:
    """The learner itself, if its codes are frames, or its code of each piece as one."""
    return learner if isinstance(learner, FrameEncoder) else Pieces(learner, signal)
