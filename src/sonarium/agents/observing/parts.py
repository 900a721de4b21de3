"""Encoders of the parts of an observation (numbers, categories, pictures, sounds), and their reconstruction from a
decoder's outputs.

Numbers are input as they are or standardised, categories as one-hot vectors, pictures and sounds through three
strided convolutions. With a sampling rate, binaural sound is first converted to log-mel bands and interaural
differences.
"""

from abc import ABC, abstractmethod
from itertools import pairwise

import numpy as np
import torch
from einops import rearrange
from gymnasium import spaces
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from sonarium.agents.networks import RunningMeanStd
from sonarium.agents.spaces import sizes_of
from sonarium.features.ears import Ears, EarsConfig

CHANNELS = (16, 32, 32)
"""Output channels of the three convolutions."""


class Perceived(nn.Module, ABC):
    """Encoder of one part of an observation."""

    width: int

    @property
    def target_width(self) -> int:
        """Dimension of a target."""
        return self.width

    @abstractmethod
    def forward(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]: ...

    def prepared(self, rows: Shaped[Tensor, "row *observed"]) -> Shaped[Tensor, "row *made"]:
        """Non-trainable preprocessing, computed once per observation; its output is the input of `forward`."""
        return rows

    def target(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        """Reconstruction target of a prepared observation: the inputs of the first trainable layer."""
        return self(rows)

    def decoder(self, given: int) -> nn.Module:
        """Decoder from vectors of dimension `given` to the target."""
        return nn.Linear(given, self.target_width)

    @abstractmethod
    def restored(self, targets: Float[Tensor, "time number"]) -> Shaped[np.ndarray, "time *observed"]:
        """Consecutive observations, from their targets."""

    def learn(self, rows: Shaped[Tensor, "row *observed"]) -> None:
        """Update running statistics."""


class Numbers(Perceived):
    def __init__(self, space: spaces.Box | spaces.MultiBinary, standardise: bool):
        super().__init__()
        self.shape, self.width = space.shape, int(np.prod(space.shape))
        self.standard = RunningMeanStd(self.width) if standardise and isinstance(space, spaces.Box) else None

    def prepared(self, rows: Shaped[Tensor, "row *observed"]) -> Shaped[Tensor, "row *made"]:
        return rows if self.standard is None else self.standard(rows.reshape(len(rows), self.width))

    def forward(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        return rows.reshape(len(rows), self.width).float()

    def restored(self, targets: Float[Tensor, "time number"]) -> Shaped[np.ndarray, "time *observed"]:
        rows = targets if self.standard is None else self.standard.undone(targets)
        return rows.cpu().numpy().reshape(-1, *self.shape)

    def learn(self, rows: Shaped[Tensor, "row *observed"]) -> None:
        if self.standard is not None:
            self.standard.learn(rows.reshape(len(rows), self.width))


class Categories(Perceived):
    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete):
        super().__init__()
        self.sizes, self.start = sizes_of(space)
        self.width = sum(self.sizes)

    def forward(self, rows: Int[Tensor, "row *observed"]) -> Float[Tensor, "row number"]:
        each = rows.reshape(len(rows), len(self.sizes)).long().unbind(1)
        starts = self.start.reshape(-1).tolist()
        parts = zip(each, starts, self.sizes, strict=True)
        return torch.cat([functional.one_hot(one - start, size).float() for one, start, size in parts], 1)

    def restored(self, targets: Float[Tensor, "time number"]) -> Shaped[np.ndarray, "time *observed"]:
        chosen = torch.stack([one.argmax(1) for one in targets.split(self.sizes, 1)], 1)
        return chosen.cpu().numpy().reshape(-1, *self.start.shape) + self.start


class Convolutions(Perceived):
    """Three convolutions with ReLUs, and a linear layer."""

    def __init__(self, space: spaces.Box, width: int, rate: int, ears: EarsConfig):
        super().__init__()
        self.space, self.width, shape = space, width, space.shape
        self.whole = 255.0 if space.dtype == np.uint8 else 1.0
        self.picture = len(shape) == 3 or space.dtype == np.uint8
        self.channels_last = self.picture and len(shape) == 3 and shape[-1] < shape[0]
        self.ears = Ears(ears, rate) if rate and not self.picture else None
        inside, layer = (8, 4) if self.ears is None and not self.picture else (3, 2), nn.Conv1d
        if self.picture:
            inside, layer = (3, 2), nn.Conv2d
        example = self.arranged(torch.zeros(1, *shape))
        self.shape = example.shape[1:]
        self.convolve, made = convolutions(example, layer, *inside)
        self.join = nn.Linear(made, width)

    def arranged(self, rows: Shaped[Tensor, "row *observed"]) -> Float[Tensor, "row channel *place"]:
        rows = rows.float() / self.whole
        if self.picture:
            rows = rows[:, None] if rows.ndim == 3 else rows
            return rows.movedim(-1, 1) if self.channels_last else rows
        return rows if self.ears is None else self.ears(rows)

    def prepared(self, rows: Shaped[Tensor, "row *observed"]) -> Shaped[Tensor, "row *made"]:
        return rows if self.ears is None else self.arranged(rows)

    def shown(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row channel *place"]:
        return rows if self.ears is not None else self.arranged(rows)

    def target(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        return self.shown(rows).flatten(1)

    @property
    def target_width(self) -> int:
        return self.shape.numel()

    def decoder(self, given: int) -> nn.Module:
        return Painted(given, self.shape) if self.picture else super().decoder(given)

    def restored(self, targets: Float[Tensor, "time number"]) -> Shaped[np.ndarray, "time *observed"]:
        shown = targets.unflatten(1, self.shape)
        if self.ears is not None:
            return sounding(self.ears, shown, self.space.shape[1]).cpu().numpy()
        shown = shown.movedim(1, -1) if self.channels_last else shown
        rows = (shown * self.whole).cpu().numpy().reshape(-1, *self.space.shape)
        return rows.clip(0, 255).round().astype(np.uint8) if self.whole > 1 else rows

    def forward(self, rows: Shaped[Tensor, "row *made"]) -> Float[Tensor, "row number"]:
        return self.join(self.convolve(self.shown(rows))).relu()


def sounding(ears: Ears, shown: Float[Tensor, "time row frame"], samples: int) -> Float[Tensor, "time 2 sample"]:
    """Sound of consecutive windows of `samples` samples each, from their features."""
    hop = ears.config.hop
    if samples % hop or samples < 2 * hop:
        return ears.invert(shown, samples)
    # Where two windows meet, the frame of each covers only its own half: the mean of its neighbours replaces both.
    inner = shown[..., 1:-1]
    seams = torch.cat([inner[:1, :, 0], (inner[:-1, :, -1] + inner[1:, :, 0]) / 2])
    frames = rearrange(torch.cat([seams[..., None], inner], 2), "time row frame -> 1 row (time frame)")
    wave = ears.invert(torch.cat([frames, inner[None, -1, :, -1:]], 2), samples * len(shown))[0]
    return rearrange(wave, "ear (time sample) -> time ear sample", time=len(shown))


def convolutions(
    example: Float[Tensor, "1 channel *place"], layer: type[nn.Conv1d] | type[nn.Conv2d], kernel: int, stride: int
) -> tuple[nn.Sequential, int]:
    """Three convolutions with ReLUs, and the size of their flattened output."""
    sizes = [example.shape[1], *CHANNELS]
    layers = [(layer(a, b, kernel, stride, padding=kernel // 2), nn.ReLU()) for a, b in pairwise(sizes)]
    network = nn.Sequential(*(one for pair in layers for one in pair), nn.Flatten())
    with torch.no_grad():
        return network, network(example).shape[1]


class Painted(nn.Module):
    """Decoder of a picture by three transposed convolutions; its output is flattened."""

    def __init__(self, given: int, shape: torch.Size):
        super().__init__()
        self.shape = shape
        channels, *size = shape
        # Each layer doubles the size, and the output is cropped to the picture.
        self.small = [-(-side // 2 ** len(CHANNELS)) for side in size]
        self.spread = nn.Linear(given, CHANNELS[-1] * int(np.prod(self.small)))
        sizes = [*reversed(CHANNELS), channels]
        layers = [(nn.ReLU(), nn.ConvTranspose2d(a, b, 4, 2, padding=1)) for a, b in pairwise(sizes)]
        self.paint = nn.Sequential(*(one for pair in layers for one in pair))

    def forward(self, rows: Float[Tensor, "row number"]) -> Float[Tensor, "row pixel"]:
        made = self.paint(self.spread(rows).unflatten(1, (CHANNELS[-1], *self.small)))
        return made[..., : self.shape[1], : self.shape[2]].flatten(1)
