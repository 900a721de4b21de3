"""Front end of models of raw samples: only the level is changed."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonarium.config import check_ranges
from sonarium.features.contract import FrontEnd, FrontEndConfig, FrontEndEntry
from sonarium.worlds.contract import Signal

SILENCE = 1e-3
"""Root mean square (−60 dB re full scale) below which a clip is left quiet rather than amplified."""


@dataclass(frozen=True)
class WaveformConfig(FrontEndConfig):
    level_normalisation: Literal["kept", "fixed", "clip"] = "clip"
    """Level normalisation: kept (none), fixed (divide by the root mean square of the training sound, which keeps
    level differences between clips), or clip (divide each clip by its own root mean square, down to −60 dB, which
    removes the distance to the microphone)."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, signal: Signal) -> "Waveform":
        return Waveform(self, signal)


def sounding(time: int, lengths: Int[Tensor, " clip"]) -> Bool[Tensor, "clip time"]:
    """Mask of the `time` positions of each clip: true within its length."""
    return torch.arange(time, device=lengths.device) < rearrange(lengths, "clip -> clip 1")


def at_one_level(
    signal: Float[Tensor, "clip time"],
    lengths: Int[Tensor, " clip"] | None = None,
    power: Float[Tensor, " clip"] | None = None,
) -> Float[Tensor, "clip time"]:
    """Clips (zero beyond their lengths) divided by their root mean square, down to −60 dB; `power` replaces their
    mean square, such as by that of the whole sound that they are cut from."""
    samples = signal.shape[1] if lengths is None else rearrange(lengths, "clip -> clip 1").clamp(min=1)
    own = signal.square().sum(1, keepdim=True) / samples
    mean_square = own if power is None else rearrange(power, "clip -> clip 1")
    return signal / (mean_square + SILENCE**2).sqrt()


class Waveform(FrontEnd):
    """Samples at a level that suits a network. Padding beyond a clip's length is set to zero."""

    scale: Tensor

    def __init__(self, config: WaveformConfig, signal: Signal):
        super().__init__()
        if signal.kind != "wave" or signal.rate is None:
            raise ValueError(
                f"the waveform front end takes waves, but these signals are of the kind {signal.kind}: choose a "
                "world of sound"
            )
        self.config, self.rate = config, signal.rate
        self.register_buffer("scale", torch.ones(()))

    def forward(
        self,
        signal: Float[Tensor, "clip time"],
        lengths: Int[Tensor, " clip"] | None = None,
        power: Float[Tensor, " clip"] | None = None,
    ) -> Float[Tensor, "clip time"]:
        """Samples at the configured level; `power` is the mean square of the whole sound, if it should set it."""
        if lengths is not None:
            signal = signal.masked_fill(~sounding(signal.shape[1], lengths), 0)
        if self.config.level_normalisation != "clip":
            return signal / self.scale
        return at_one_level(signal, lengths, power)

    def shape(self, samples: int) -> tuple[int]:
        return (samples,)

    def frames(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Every sample is a frame."""
        return lengths

    def fit(self, signals: Iterable[Tensor], lengths: Iterable[Tensor | None] = repeat(None)) -> None:
        """Measure the root mean square of the training sound, if the level is `fixed`."""
        if self.config.level_normalisation != "fixed":
            return
        power, samples = 0.0, 0
        for wave, own in zip(signals, lengths, strict=False):
            power += float(wave.double().square().sum())
            samples += wave.numel() if own is None else int(own.sum())
        if power == 0:
            raise ValueError("all training sound is silent: give other recordings")
        self.scale.fill_((power / samples) ** 0.5)


WAVEFORM = FrontEndEntry("samples, at a fixed or normalised level", WaveformConfig)
