"""Sound at two ears, as another run hears it: the codes of an encoder."""

import numpy as np
import torch
from einops import rearrange
from gymnasium import spaces
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from sonarium.agents.contract import Hearing
from sonarium.agents.observing.parts import Perceived, convolutions
from sonarium.features.ears import Ears, EarsConfig
from sonarium.models.framing import with_gradient

HEARD_AT_ONCE = 256
"""Sounds that are encoded in one batch, where no gradient is wanted."""


class EncodedEars(Perceived):
    """The codes of either ear by an encoder of sound, and what an encoder of one channel does not tell: the levels
    of both ears and the differences between them."""

    def __init__(self, space: spaces.Box, width: int, hearing: Hearing, trained: bool):
        super().__init__()
        self.width, self.trained = width, trained
        # Of encoder and learner, which may be one, the learner's weights are kept.
        self.learner, self.hearing = hearing.learner.eval().requires_grad_(trained), hearing
        self.differences = Ears(EarsConfig(loudness="none"), hearing.rate)
        self.levels = Ears(EarsConfig(bands=1), hearing.rate)
        frames = int(hearing.encoder.code_lengths(torch.tensor(space.shape[1:])))
        if not frames:
            raise ValueError(f"{space.shape[1]} samples are too few for a code of --ears: choose another run")
        cues = self.cues(torch.zeros(1, *space.shape))
        codes = torch.zeros(1, 2 * hearing.width, frames)
        self.sizes = codes[0].shape, cues[0].shape
        self.hear, heard = convolutions(codes, nn.Conv1d, 3, 2)
        self.compare, compared = convolutions(cues, nn.Conv1d, 3, 2)
        self.join = nn.Linear(heard + compared, width)

    def target(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        return self.encoded(rows) if self.trained else rows

    @property
    def target_width(self) -> int:
        return sum(size.numel() for size in self.sizes)

    def restored(self, targets: Float[Tensor, "time number"]) -> Shaped[np.ndarray, "time *observed"]:
        raise ValueError("the codes of --ears cannot be heard: train with --sound-rate in the place of --ears")

    def train(self, mode: bool = True) -> "EncodedEars":
        """The encoder is the same while it is heard with as when it was learnt."""
        super().train(mode)
        self.learner.eval()
        return self

    def coded(self, rows: Float[Tensor, "row 2 time"]) -> Float[Tensor, "row code frame"]:
        """The codes of both ears, one below the other."""
        ears, encoder = rows.flatten(0, 1), self.hearing.encoder
        if self.trained and torch.is_grad_enabled():
            # The recurrent kernels of cuDNN have no gradient while a network is evaluated.
            with torch.backends.cudnn.flags(enabled=False):
                codes = with_gradient(encoder, ears)
        else:
            codes = torch.cat([encoder.encode(part) for part in ears.split(HEARD_AT_ONCE)])
        return rearrange(codes, "(row ear) frame code -> row (ear code) frame", ear=2)

    def cues(self, rows: Float[Tensor, "row 2 time"]) -> Float[Tensor, "row cue frame"]:
        return torch.cat([self.levels(rows)[:, :2], self.differences(rows)], 1)

    @torch.no_grad()
    def encoded(self, rows: Float[Tensor, "row 2 time"]) -> Float[Tensor, "row number"]:
        """Codes and cues in a row."""
        return torch.cat([self.coded(rows).flatten(1), self.cues(rows).flatten(1)], 1)

    def prepared(self, rows: Shaped[Tensor, "row *observed"]) -> Shaped[Tensor, "row *made"]:
        rows = rows.float()
        return rows if self.trained else self.encoded(rows)

    def forward(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        if self.trained:
            codes, cues = self.coded(rows), self.cues(rows)
        else:
            parts = rows.split([size.numel() for size in self.sizes], 1)
            codes, cues = (part.unflatten(1, size) for part, size in zip(parts, self.sizes, strict=True))
        return self.join(torch.cat([self.hear(codes), self.compare(cues)], 1)).relu()
