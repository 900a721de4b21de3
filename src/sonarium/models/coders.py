"""Encoders and decoders of the autoencoders, between a picture of sound and a vector.

`syntone` is the network of SynTone's VAEDeep (Brima et al., arXiv 2402.10547), layer for layer; `dense`
is the multilayer perceptron used on MNIST; `convolutional` is a plain strided network; `locating`,
Sonarium's own, is in `locating.py`.
"""

from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sonarium.features.contract import PictureFrontEnd
from sonarium.models.blocks import perceptron
from sonarium.models.locating import LocatingDecoder, LocatingEncoder
from sonarium.worlds.contract import Signal

Network = Literal["locating", "convolutional", "syntone", "dense"]
Shape = tuple[int, int, int]
"""Channels, rows and frames."""


class Coder(nn.Module):
    """Encoder or decoder of pictures: zero-pads its input to a multiple of the strides, or crops its output."""

    def __init__(self, layers: nn.Sequential, padded: tuple[int, int], cropped: tuple[int, int]):
        super().__init__()
        # Convolutions are faster with the channels last, on a CPU and on tensor cores.
        self.layers = layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.padded, self.cropped = padded, cropped

    def forward(self, given: Float[Tensor, "clip *given"]) -> Float[Tensor, "clip *made"]:
        if given.dim() == 4:
            rows, frames = given.shape[-2:]
            margin = (0, self.padded[1] - frames, 0, self.padded[0] - rows)
            return self.layers(functional.pad(given, margin) if any(margin) else given)
        made = self.layers(given)
        return made[..., : self.cropped[0], : self.cropped[1]]


def coders(
    network: Network, front: PictureFrontEnd, signal: Signal, width: int, made: int
) -> tuple[nn.Module, nn.Module]:
    """An encoder from a clip's features to `made` numbers, and a decoder from `width` numbers to features."""
    shape = front.shape(signal.shape[0])
    if network == "locating":
        below, frames = front.level_rows, shape[2]
        bands = shape[1] - below
        encoder = LocatingEncoder(bands, below, frames, width, made)
        return encoder, LocatingDecoder(bands, below, frames, width)
    build = {"convolutional": convolutional, "syntone": syntone, "dense": dense}[network]
    return build(shape, width, made)


def padded_to(shape: Shape, multiple: int) -> tuple[int, int]:
    rows, frames = (-(-size // multiple) * multiple for size in shape[1:])
    return rows, frames


def syntone(shape: Shape, width: int, made: int) -> tuple[Coder, Coder]:
    """Three stages of 16, 32, 64 channels, then 128 and 64 units; the mirrored decoder ends in a sigmoid."""
    padded, channels = padded_to(shape, 8), [shape[0], 16, 32, 64]
    bottom = (64, padded[0] // 8, padded[1] // 8)
    units = bottom[0] * bottom[1] * bottom[2]
    encoder: list[nn.Module] = []
    decoder: list[nn.Module] = []
    for low, high in pairwise(channels):
        # A leaky ReLU is increasing and commutes with max pooling; after it, it costs a quarter.
        encoder += [nn.Conv2d(low, high, 3, padding=1), nn.MaxPool2d(2), nn.LeakyReLU(0.01)]
        up = nn.ConvTranspose2d(high, low, 3, stride=2, padding=1, output_padding=1)
        decoder = [up, nn.LeakyReLU(0.01) if decoder else nn.Sigmoid(), *decoder]
    encoder += [nn.Flatten(), *perceptron([units, 128, 64], 0.01, final=True), nn.Linear(64, made)]
    decoder = [*perceptron([width, 64, 128, units], 0.01, final=True), nn.Unflatten(1, bottom), *decoder]
    return Coder(nn.Sequential(*encoder), padded, shape[1:]), Coder(nn.Sequential(*decoder), padded, shape[1:])


def dense(shape: Shape, width: int, made: int) -> tuple[Coder, Coder]:
    """Two hidden layers of 400 units in the encoder and in the decoder."""
    units = shape[0] * shape[1] * shape[2]
    encoder = nn.Sequential(nn.Flatten(), *perceptron([units, 400, 400, made], 0.2))
    decoder = nn.Sequential(*perceptron([width, 400, 400, units], 0.2), nn.Unflatten(1, shape))
    return Coder(encoder, shape[1:], shape[1:]), Coder(decoder, shape[1:], shape[1:])


def convolutional(shape: Shape, width: int, made: int) -> tuple[Coder, Coder]:
    """Four strided stages of 32, 64, 128, 128 channels, then 256 units."""
    padded, channels = padded_to(shape, 16), [shape[0], 32, 64, 128, 128]
    bottom = (128, padded[0] // 16, padded[1] // 16)
    units = bottom[0] * bottom[1] * bottom[2]
    encoder: list[nn.Module] = []
    decoder: list[nn.Module] = []
    for low, high in pairwise(channels):
        encoder += [nn.Conv2d(low, high, 4, stride=2, padding=1), nn.LeakyReLU(0.1)]
        up: list[nn.Module] = [nn.ConvTranspose2d(high, low, 4, stride=2, padding=1)]
        decoder = [*up, *([nn.LeakyReLU(0.1)] if decoder else []), *decoder]
    encoder += [nn.Flatten(), *perceptron([units, 256, made], 0.1)]
    decoder = [*perceptron([width, 256, units], 0.1, final=True), nn.Unflatten(1, bottom), *decoder]
    return Coder(nn.Sequential(*encoder), padded, shape[1:]), Coder(nn.Sequential(*decoder), padded, shape[1:])
