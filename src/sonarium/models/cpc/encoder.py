"""Encoder of contrastive predictive coding, from samples to frames (van den Oord et al. 2018, arXiv 1807.03748).

Strided convolutions, each followed by a normalisation and a ReLU. The channels come last throughout, the layout in
which matrix products and normalisations are fastest. Between the layers, positions beyond the end of a clip are
set to zero, so that a clip among longer ones is encoded as it would be alone.

Mel bands may replace the first layers: filters on samples require most of the data and most of the arithmetic. The
bands are those of Davis and Mermelstein (1980) and have no parameters. The Fourier transform of each window is a
matrix product, which every runtime supports.
"""

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.features.mel import mel_filters
from sonarium.features.waveform import sounding
from sonarium.models.blocks import over_ranks
from sonarium.models.cpc import polyphase
from sonarium.training.contract import Engine

Norm = Literal["batch", "channel", "none"]
Count = TypeVar("Count", int, Tensor)

MOST_LAYERS = 64
WINDOW, HOP = 0.025, 0.010
"""Window and hop length of the mel bands in seconds."""
QUIET = 4e-4
"""Power added to each band, 34 dB below that of white noise at the level of the sound, which is 1."""
SPREAD = 3.0
"""Divisor of the natural logarithms, which brings speech at a fixed level to about ±1."""


@dataclass(frozen=True)
class EncoderConfig:
    filters: Annotated[tuple[int, ...], Range(1, 2**14)] = (64, 96, 128, 128, 128)
    """Output channels of each convolution; one number applies to all layers."""
    kernels: Annotated[tuple[int, ...], Range(1, 2**16)] = (10, 8, 4, 4, 4)
    """Kernel size of each convolution."""
    strides: Annotated[tuple[int, ...], Range(1, 2**16)] = (5, 4, 2, 2, 2)
    """Stride of each convolution; their product is the hop length of the codes."""
    paddings: Annotated[tuple[int, ...], Range(0, 2**16)] = (3, 2, 1, 1, 1)
    """Zero padding at either end of each convolution."""
    norm: Norm = "channel"
    """Normalisation after each convolution: batch (batch normalisation), channel (layer normalisation of each
    frame's channels, so that nothing leaks between clips or from later to earlier frames), or none."""
    bias: bool = True
    """Use a bias in the convolutions."""
    mels: Annotated[int, Range(0, 1024)] = 0
    """Number of mel bands, at 100 frames a second, as input of the convolutions in place of samples; 0 takes
    samples."""

    def __post_init__(self) -> None:
        check_ranges(self)
        layers = len(self.kernels)
        demands = [
            ("kernels", 0 < layers <= MOST_LAYERS, f"from 1 to {MOST_LAYERS} whole numbers"),
            ("strides", len(self.strides) == layers, f"{layers} numbers, one per kernel"),
            (
                "paddings",
                len(self.paddings) == layers
                and all(p < k for p, k in zip(self.paddings, self.kernels, strict=True)),
                f"{layers} numbers, one per kernel and less than it",
            ),
            ("filters", len(self.filters) in (1, layers), f"one number, or {layers}"),
        ]
        for name, met, expected in demands:
            if not met:
                raise ValueError(f"{name}={getattr(self, name)!r}: give {expected}")

    @property
    def widths(self) -> tuple[int, ...]:
        return self.filters * len(self.kernels) if len(self.filters) == 1 else self.filters


class Bands(nn.Module):
    """From samples to frames of log-mel energies."""

    transform: Tensor
    filters: Tensor

    def __init__(self, bands: int, rate: int):
        super().__init__()
        self.window, self.hop = max(2, round(WINDOW * rate)), max(1, round(HOP * rate))
        self.padding = (self.window - self.hop) // 2
        points = 2 ** (self.window - 1).bit_length()
        hann = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(self.window) / self.window)
        angle = 2 * math.pi * np.outer(np.arange(self.window), np.arange(points // 2 + 1)) / points
        waves = np.concatenate([np.cos(angle), np.sin(angle)], 1) * (hann / np.sqrt((hann**2).sum()))[:, None]
        # Each band is the mean of its bins, so that white noise has the same power in all.
        weights = mel_filters(rate, points, bands, 0.0, rate / 2)
        sums = weights.sum(1, keepdims=True)
        if not (sums > 0).all():
            raise ValueError(f"mels={bands} at {rate} Hz leave bands without a bin: give fewer")
        kind = torch.get_default_dtype()
        self.register_buffer("transform", torch.from_numpy(waves).to(kind), persistent=False)
        self.register_buffer("filters", torch.from_numpy((weights / sums).T.copy()).to(kind), persistent=False)

    def frames(self, samples: Count) -> Count:
        """Number of frames of N samples; 0 if these are too few, or none."""
        made = (samples + 2 * self.padding - self.window) // self.hop + 1
        if isinstance(made, Tensor):
            return made.clamp(min=0) * (samples > 0)
        return max(0, made) if samples > 0 else 0

    def forward(
        self,
        sound: Float[Tensor, "clip time 1"],
        inside: Bool[Tensor, "clip frame"] | None,
        engine: Engine | None = None,
    ) -> Float[Tensor, "clip frame band"]:
        with torch.autocast(sound.device.type, enabled=False):
            wave = functional.pad(sound[..., 0].to(self.transform.dtype), (self.padding, self.padding))
            cosine, sine = (wave.unfold(1, self.window, self.hop) @ self.transform).chunk(2, -1)
            power = (cosine.square() + sine.square()) @ self.filters
            made = (power + QUIET).log() / SPREAD + 1
        return made if inside is None else made * inside[..., None]


class Layer(nn.Module):
    """One convolution with its normalisation and ReLU, channels last."""

    def __init__(self, given: int, made: int, kernel: int, stride: int, padding: int, norm: Norm, bias: bool):
        super().__init__()
        self.convolution = nn.Conv1d(given, made, kernel, stride, padding, bias=bias)
        norms = {"batch": nn.BatchNorm1d, "channel": nn.LayerNorm}
        self.norm = norms[norm](made) if norm in norms else nn.Identity()

    def frames(self, samples: Count) -> Count:
        """Number of frames of N samples; 0 if these are too few, or none."""
        convolution = self.convolution
        room = samples + 2 * int(convolution.padding[0]) - convolution.kernel_size[0]
        made = room // convolution.stride[0] + 1
        if isinstance(made, Tensor):
            return made.clamp(min=0) * (samples > 0)
        return max(0, made) if samples > 0 else 0

    def forward(
        self,
        sound: Float[Tensor, "clip time given"],
        inside: Bool[Tensor, "clip frame"] | None,
        engine: Engine | None = None,
    ) -> Float[Tensor, "clip frame made"]:
        made = self.convolve(sound)
        if self.convolution.bias is not None:
            made = made + self.convolution.bias.to(made.dtype)
        if isinstance(self.norm, nn.BatchNorm1d) and self.training:
            made = self.over_batch(self.norm, made, inside, engine)
        elif isinstance(self.norm, nn.BatchNorm1d):
            made = functional.relu(self.norm(made.transpose(1, 2)).transpose(1, 2))
        else:
            made = functional.relu(self.norm(made))
        return made if inside is None else made * rearrange(inside, "clip frame -> clip frame 1")

    @staticmethod
    def over_batch(
        norm: nn.BatchNorm1d,
        made: Float[Tensor, "clip frame made"],
        inside: Bool[Tensor, "clip frame"] | None,
        engine: Engine | None,
    ) -> Float[Tensor, "clip frame made"]:
        """Batch normalisation and ReLU, with statistics over all ranks, without padding."""
        rows = rearrange(made, "clip frame made -> (clip frame) made")
        normalise = norm if engine is None or engine.ranks == 1 else partial(over_ranks, norm, engine)
        if inside is None:
            # In place, because the output of the first layer has a hundred megabytes.
            return functional.relu(normalise(rows), inplace=True).view(made.shape)
        sounding_rows = inside.flatten()
        normal = functional.relu(normalise(rows[sounding_rows])).to(rows.dtype)
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
    """From waveforms to frames of latent codes."""

    def __init__(self, config: EncoderConfig, rate: int = 16_000):
        super().__init__()
        self.config, self.width = config, config.widths[-1]
        self.bands = Bands(config.mels, rate) if config.mels else None
        channels = pairwise((config.mels or 1, *config.widths))
        shapes = zip(channels, config.kernels, config.strides, config.paddings, strict=True)
        self.layers = nn.ModuleList(
            Layer(given, made, kernel, stride, padding, config.norm, config.bias)
            for (given, made), kernel, stride, padding in shapes
        )

    @property
    def stages(self) -> "list[Bands | Layer]":
        """Mel bands, if there are any, and the convolutional layers."""
        found: list[Bands | Layer] = [] if self.bands is None else [self.bands]
        for layer in self.layers:
            assert isinstance(layer, Layer)
            found.append(layer)
        return found

    @property
    def hop(self) -> int:
        """Hop length of the codes in samples."""
        return math.prod(self.config.strides) * (1 if self.bands is None else self.bands.hop)

    @property
    def centre(self) -> float:
        """The middle of the receptive field of the first frame, in samples."""
        first, seen, step = 0, 1, 1
        config = self.config
        shapes = list(zip(config.kernels, config.strides, config.paddings, strict=True))
        if self.bands is not None:
            shapes.insert(0, (self.bands.window, self.bands.hop, self.bands.padding))
        for kernel, stride, padding in shapes:
            first, seen, step = first - padding * step, seen + (kernel - 1) * step, step * stride
        return first + (seen - 1) / 2

    def frames(self, samples: Count) -> Count:
        """Number of frames of a clip of N samples."""
        count = samples
        for stage in self.stages:
            count = stage.frames(count)
        return count

    def forward(
        self,
        wave: Float[Tensor, "clip time"],
        lengths: Int[Tensor, " clip"] | None = None,
        engine: Engine | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        """Latent codes of waveforms; training on several ranks requires `engine`."""
        sound = rearrange(wave, "clip time -> clip time 1")
        for stage in self.stages:
            lengths = None if lengths is None else stage.frames(lengths)
            inside = None if lengths is None else sounding(stage.frames(sound.shape[1]), lengths)
            sound = stage(sound, inside, engine)
        return sound
