"""From samples to frames: the encoder of predictive coding (van den Oord et al. 2018, arXiv 1807.03748).

Strided convolutions, each followed by a normalisation and a ReLU. The channels come last throughout, in which form
matrix products and normalisations are quickest. Between the layers, what lies beyond the end of a clip is set to
zero, so that a clip among longer ones is encoded as it would be alone.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.features.waveform import sounding
from sonarium.models.cpc import polyphase
from sonarium.models.cpc.bands import Bands

Norm = Literal["batch", "channel", "none"]
Count = TypeVar("Count", int, Tensor)


@dataclass(frozen=True)
class EncoderConfig:
    filters: tuple[int, ...] = (64, 96, 128, 128, 128)
    """Channels that each layer makes; one number stands for all layers."""
    kernels: tuple[int, ...] = (10, 8, 4, 4, 4)
    """Samples, and then frames, that each layer sees at a time."""
    strides: tuple[int, ...] = (5, 4, 2, 2, 2)
    """From one place to the next in each layer; their product is the samples from one frame to the next."""
    paddings: tuple[int, ...] = (3, 2, 1, 1, 1)
    """Zeros before and after what each layer is given."""
    norm: Norm = "channel"
    """Normalisation after each layer: batch (each channel over the batch), channel (the channels of each frame, so
    that nothing leaks from clip to clip or from later to earlier), or none."""
    bias: bool = True
    """Whether the convolutions add a constant."""
    bands: int = 0
    """Mel bands whose loudness, a hundred times a second, the layers are given; 0 gives them the samples."""

    def __post_init__(self) -> None:
        layers = len(self.kernels)
        demands = [
            ("kernels", layers > 0 and min(self.kernels) >= 1, "one or more whole numbers of at least 1"),
            (
                "strides",
                len(self.strides) == layers and min(self.strides) >= 1,
                f"{layers}, one a kernel, from 1 up",
            ),
            (
                "paddings",
                len(self.paddings) == layers
                and all(0 <= p < k for p, k in zip(self.paddings, self.kernels, strict=True)),
                f"{layers}, one a kernel, each less than it",
            ),
            (
                "filters",
                len(self.filters) in (1, layers) and min(self.filters) >= 1,
                f"one, or {layers}, from 1 up",
            ),
            ("bands", self.bands >= 0, "a whole number of at least 0"),
            ("norm", self.norm in ("batch", "channel", "none"), "batch, channel or none"),
        ]
        for name, met, expected in demands:
            if not met:
                raise ValueError(f"{name}={getattr(self, name)!r}: give {expected}")

    @property
    def widths(self) -> tuple[int, ...]:
        return self.filters * len(self.kernels) if len(self.filters) == 1 else self.filters


class Layer(nn.Module):
    """One convolution with its normalisation and ReLU, channels last."""

    def __init__(self, given: int, made: int, kernel: int, stride: int, padding: int, norm: Norm, bias: bool):
        super().__init__()
        self.convolution = nn.Conv1d(given, made, kernel, stride, padding, bias=bias)
        norms = {"batch": nn.BatchNorm1d, "channel": nn.LayerNorm}
        self.norm = norms[norm](made) if norm in norms else nn.Identity()

    def frames(self, samples: Count) -> Count:
        """How many frames so many samples make; 0 of those that are too few, and of none."""
        convolution = self.convolution
        room = samples + 2 * int(convolution.padding[0]) - convolution.kernel_size[0]
        made = room // convolution.stride[0] + 1
        if isinstance(made, Tensor):
            return made.clamp(min=0) * (samples > 0)
        return max(0, made) if samples > 0 else 0

    def forward(
        self, sound: Float[Tensor, "clip time given"], inside: Bool[Tensor, "clip frame"] | None
    ) -> Float[Tensor, "clip frame made"]:
        made = self.convolve(sound)
        if self.convolution.bias is not None:
            made = made + self.convolution.bias.to(made.dtype)
        if isinstance(self.norm, nn.BatchNorm1d) and self.training:
            made = self.over_batch(self.norm, made, inside)
        elif isinstance(self.norm, nn.BatchNorm1d):
            made = functional.relu(self.norm(made.transpose(1, 2)).transpose(1, 2))
        else:
            made = functional.relu(self.norm(made))
        return made if inside is None else made * rearrange(inside, "clip frame -> clip frame 1")

    @staticmethod
    def over_batch(
        norm: nn.BatchNorm1d, made: Float[Tensor, "clip frame made"], inside: Bool[Tensor, "clip frame"] | None
    ) -> Float[Tensor, "clip frame made"]:
        """Statistics are of what is sound; padding does not shift them."""
        rows = rearrange(made, "clip frame made -> (clip frame) made")
        if inside is None:
            # In place, for the first layer makes a hundred megabytes.
            return functional.relu(norm(rows), inplace=True).view(made.shape)
        sounding_rows = inside.flatten()
        normal = functional.relu(norm(rows[sounding_rows])).to(rows.dtype)
        return torch.zeros_like(rows).index_put((sounding_rows,), normal).view(made.shape)

    def convolve(self, sound: Float[Tensor, "clip time given"]) -> Float[Tensor, "clip frame made"]:
        convolution, kind = self.convolution, sound.device.type
        kernel, stride, padding = convolution.kernel_size[0], convolution.stride[0], int(convolution.padding[0])
        precise = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else sound.dtype
        sound, weight = sound.to(precise), convolution.weight.to(precise)
        if sound.shape[2] == 1:
            windows = functional.pad(sound[..., 0], (padding, padding)).unfold(1, kernel, stride)
            return functional.linear(windows, weight[:, 0])
        if kind == "cpu" and kernel == 2 * stride and torch.is_grad_enabled():
            return polyphase.convolve(sound, weight, stride, padding)
        if torch.compiler.is_exporting():
            made = functional.conv1d(sound.transpose(1, 2), weight, None, stride, padding)
            return made.transpose(1, 2)
        picture = rearrange(sound, "clip time given -> clip given 1 time")
        flat = rearrange(weight, "made given kernel -> made given 1 kernel")
        made = functional.conv2d(
            picture, flat.contiguous(memory_format=torch.channels_last), None, (1, stride), (0, padding)
        )
        return rearrange(made, "clip made 1 frame -> clip frame made")


class Encoder(nn.Module):
    """Waveforms in, frames of latent codes out."""

    def __init__(self, config: EncoderConfig, rate: int = 16_000):
        super().__init__()
        self.config, self.width = config, config.widths[-1]
        self.bands = Bands(config.bands, rate) if config.bands else None
        channels = pairwise((config.bands or 1, *config.widths))
        shapes = zip(channels, config.kernels, config.strides, config.paddings, strict=True)
        self.layers = nn.ModuleList(
            Layer(given, made, kernel, stride, padding, config.norm, config.bias)
            for (given, made), kernel, stride, padding in shapes
        )

    @property
    def stages(self) -> "list[Bands | Layer]":
        """From the samples to the codes."""
        found: list[Bands | Layer] = [] if self.bands is None else [self.bands]
        for layer in self.layers:
            assert isinstance(layer, Layer)
            found.append(layer)
        return found

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(self.config.strides) * (1 if self.bands is None else self.bands.hop)

    @property
    def centre(self) -> float:
        """The sample in the middle of those that the first frame is made of."""
        first, seen, step = 0, 1, 1
        config = self.config
        shapes = list(zip(config.kernels, config.strides, config.paddings, strict=True))
        if self.bands is not None:
            shapes.insert(0, (self.bands.window, self.bands.hop, self.bands.padding))
        for kernel, stride, padding in shapes:
            first, seen, step = first - padding * step, seen + (kernel - 1) * step, step * stride
        return first + (seen - 1) / 2

    def frames(self, samples: Count) -> Count:
        """How many frames a clip of so many samples makes."""
        count = samples
        for stage in self.stages:
            count = stage.frames(count)
        return count

    def forward(
        self, wave: Float[Tensor, "clip time"], lengths: Int[Tensor, " clip"] | None = None
    ) -> Float[Tensor, "clip frame code"]:
        sound = rearrange(wave, "clip time -> clip time 1")
        for stage in self.stages:
            lengths = None if lengths is None else stage.frames(lengths)
            inside = None if lengths is None else sounding(stage.frames(sound.shape[1]), lengths)
            sound = stage(sound, inside)
        return sound
