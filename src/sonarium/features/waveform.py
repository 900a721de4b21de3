"""The front end of learners that hear samples: nothing but the level is changed."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonarium.worlds.contract import Signal

SILENCE = 1e-3
"""Root mean square (−60 dB of full scale) below which a clip is left quiet rather than amplified."""


@dataclass(frozen=True)
class WaveformConfig:
    level: Literal["kept", "fixed", "clip"] = "clip"
    """What becomes of the level: `kept` leaves the samples as they are, `fixed` divides all by the root mean
    square of the training sound, so that loud and soft stay different, `clip` divides each clip by its own, down
    to silence at −60 dB, so that the distance to the microphone does not count."""

    def __post_init__(self) -> None:
        if self.level not in ("kept", "fixed", "clip"):
            raise ValueError(f"level={self.level!r}: give kept, fixed or clip")


def sounding(time: int, lengths: Int[Tensor, " clip"]) -> Tensor:
    """Which of `time` places of each clip lie within its length, as (clip, time)."""
    return torch.arange(time, device=lengths.device) < rearrange(lengths, "clip -> clip 1")


class Waveform(nn.Module):
    """Samples at a level that suits a network. What lies beyond a clip's length becomes zero, whatever it was."""

    scale: Tensor

    def __init__(self, config: WaveformConfig, signal: Signal):
        super().__init__()
        if signal.kind != "wave" or signal.rate is None:
            raise ValueError("a front end of samples came for pictures: choose a world of sound")
        self.config, self.rate = config, signal.rate
        self.register_buffer("scale", torch.ones(()))

    def forward(
        self,
        wave: Float[Tensor, "clip time"],
        lengths: Int[Tensor, " clip"] | None = None,
        power: Float[Tensor, " clip"] | None = None,
    ) -> Float[Tensor, "clip time"]:
        """`power` is the mean square of what the clips are parts of, where it should set the level."""
        if lengths is not None:
            wave = wave.masked_fill(~sounding(wave.shape[1], lengths), 0)
        if self.config.level != "clip":
            return wave / self.scale
        samples = wave.shape[1] if lengths is None else rearrange(lengths, "clip -> clip 1").clamp(min=1)
        own = wave.square().sum(1, keepdim=True) / samples
        heard = own if power is None else rearrange(power, "clip -> clip 1")
        return wave / (heard + SILENCE**2).sqrt()

    def fit(self, waves: Iterable[Tensor], lengths: Iterable[Tensor | None] = repeat(None)) -> None:
        """Measure the level of the training sound."""
        if self.config.level != "fixed":
            return
        power, samples = 0.0, 0
        for wave, own in zip(waves, lengths, strict=False):
            power += float(wave.double().square().sum())
            samples += wave.numel() if own is None else int(own.sum())
        if power == 0:
            raise ValueError("all the sound to learn from is silent: give other recordings")
        self.scale.fill_((power / samples) ** 0.5)
