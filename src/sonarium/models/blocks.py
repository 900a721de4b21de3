"""Layers that the autoencoders share: encoders and decoders between a picture of sound and a vector.

`syntone` is the network of SynTone's VAEDeep (Brima et al., arXiv 2402.10547), layer for layer; `dense`
is the multilayer perceptron used on MNIST; `convolutional` is plain; `locating`, Sonarium's own, is in its
own file.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from sonarium.models.locating import LocatingDecoder, LocatingEncoder
from sonarium.models.perceptron import perceptron

Network = Literal["locating", "convolutional", "syntone", "dense"]


@dataclass(frozen=True)
class Canvas:
    """The form of a clip's features: one channel of rows by frames; the last rows may tell the level."""

    rows: int
    frames: int
    level_rows: int = 0


class Coder(nn.Module):
    """An encoder or a decoder: convolutions on one side, a multilayer perceptron on the other."""

    def __init__(self, layers: nn.Sequential, padded: tuple[int, int], cropped: tuple[int, int]):
        super().__init__()
        # Convolutions are faster with the channels last, on a CPU and on tensor cores.
        self.layers = layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.padded, self.cropped = padded, cropped

    def forward(self, given: Float[Tensor, "clip *given"]) -> Float[Tensor, "clip *made"]:
        if given.dim() == 4:
            bands, frames = given.shape[-2:]
            margin = (0, self.padded[1] - frames, 0, self.padded[0] - bands)
            return self.layers(functional.pad(given, margin) if any(margin) else given)
        made = self.layers(given)
        return made[..., : self.cropped[0], : self.cropped[1]]


def mean_squared_error(
    made: Float[Tensor, "clip channel band frame"],
    features: Float[Tensor, "clip channel band frame"],
    own: Bool[Tensor, "clip 1 1 frame"] | None,
) -> Float[Tensor, ""]:
    """Over the cells of each clip's own frames."""
    if own is None:
        return functional.mse_loss(made, features)
    squares = (made - features).square().where(own, 0)
    return squares.sum() / own.expand_as(squares).sum()


def coders(network: Network, canvas: Canvas, width: int, made: int) -> tuple[nn.Module, nn.Module]:
    """An encoder from features on `canvas` to `made` numbers, and a decoder from `width` numbers."""
    if network == "locating":
        bands, frames = canvas.rows - canvas.level_rows, canvas.frames
        return (
            LocatingEncoder(bands, canvas.level_rows, frames, made),
            LocatingDecoder(bands, canvas.level_rows, frames, width),
        )
    build = {"convolutional": convolutional, "syntone": syntone, "dense": dense}[network]
    return build((1, canvas.rows, canvas.frames), width, made)


def padded_to(shape: tuple[int, int, int], multiple: int) -> tuple[int, int]:
    rows, frames = (-(-size // multiple) * multiple for size in shape[1:])
    return rows, frames


def syntone(shape: tuple[int, int, int], width: int, made: int) -> tuple[Coder, Coder]:
    """Three stages of 16, 32, 64 channels; 128 and 64 units; the mirror image ends in a sigmoid."""
    padded, channels = padded_to(shape, 8), [shape[0], 16, 32, 64]
    bottom = (64, padded[0] // 8, padded[1] // 8)
    cells = bottom[0] * bottom[1] * bottom[2]
    encoder: list[nn.Module] = []
    decoder: list[nn.Module] = []
    for low, high in pairwise(channels):
        # The ReLU rises everywhere, so after the pooling it gives the same at a quarter of the cost.
        encoder += [nn.Conv2d(low, high, 3, padding=1), nn.MaxPool2d(2), nn.LeakyReLU(0.01)]
        up = nn.ConvTranspose2d(high, low, 3, stride=2, padding=1, output_padding=1)
        decoder = [up, nn.LeakyReLU(0.01) if decoder else nn.Sigmoid(), *decoder]
    encoder += [nn.Flatten(), *perceptron([cells, 128, 64], 0.01, final=True), nn.Linear(64, made)]
    decoder = [*perceptron([width, 64, 128, cells], 0.01, final=True), nn.Unflatten(1, bottom), *decoder]
    return Coder(nn.Sequential(*encoder), padded, shape[1:]), Coder(nn.Sequential(*decoder), padded, shape[1:])


def dense(shape: tuple[int, int, int], width: int, made: int) -> tuple[Coder, Coder]:
    """Two hidden layers of 400 units on either side."""
    cells = shape[0] * shape[1] * shape[2]
    encoder = nn.Sequential(nn.Flatten(), *perceptron([cells, 400, 400, made], 0.2))
    decoder = nn.Sequential(*perceptron([width, 400, 400, cells], 0.2), nn.Unflatten(1, shape))
    return Coder(encoder, shape[1:], shape[1:]), Coder(decoder, shape[1:], shape[1:])


def convolutional(shape: tuple[int, int, int], width: int, made: int) -> tuple[Coder, Coder]:
    """Four strided stages of 32, 64, 128, 128 channels, then 256 units."""
    padded, channels = padded_to(shape, 16), [shape[0], 32, 64, 128, 128]
    bottom = (128, padded[0] // 16, padded[1] // 16)
    cells = bottom[0] * bottom[1] * bottom[2]
    encoder: list[nn.Module] = []
    decoder: list[nn.Module] = []
    for low, high in pairwise(channels):
        encoder += [nn.Conv2d(low, high, 4, stride=2, padding=1), nn.LeakyReLU(0.1)]
        up: list[nn.Module] = [nn.ConvTranspose2d(high, low, 4, stride=2, padding=1)]
        decoder = [*up, *([nn.LeakyReLU(0.1)] if decoder else []), *decoder]
    encoder += [nn.Flatten(), *perceptron([cells, 256, made], 0.1)]
    decoder = [*perceptron([width, 256, cells], 0.1, final=True), nn.Unflatten(1, bottom), *decoder]
    return Coder(nn.Sequential(*encoder), padded, shape[1:]), Coder(nn.Sequential(*decoder), padded, shape[1:])
