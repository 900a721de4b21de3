"""What a world is: sound, with what is known of its causes.

A rendered world makes clip `i` from its index and its seed alone, so it takes no disk, and the clip
has the same samples in any batch, in any order, on any worker. A recorded world reads them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

SignalKind = Literal["wave", "picture"]


@dataclass(frozen=True)
class Factor:
    """One cause of a sound: a category with named values, or a number with the values it takes."""

    name: str
    values: tuple[str, ...] | tuple[float, ...]
    unit: str = ""

    @property
    def discrete(self) -> bool:
        return isinstance(self.values[0], str)


@dataclass(frozen=True)
class Signal:
    """The form of one clip: a waveform of `shape` (time,) at `rate`, or a picture (row, column)."""

    kind: SignalKind
    shape: tuple[int, ...]
    rate: int | None = None


@dataclass(frozen=True)
class Batch:
    """Clips with their causes. A category's cause is the position of its value in the factor."""

    index: Int[Tensor, " clip"]
    signal: Float[Tensor, "clip *shape"]
    factors: Float[Tensor, "clip factor"]
    features: Float[Tensor, "clip *feature"] | None = None
    """The front end's output, where it was computed beforehand."""
    lengths: Int[Tensor, " clip"] | None = None
    """Samples of each clip that are sound, where clips differ; zeros follow, which no loss or measure may see."""


class World(ABC):
    """Anything that yields sound with what is known of its causes."""

    name: str
    signal: Signal
    factors: tuple[Factor, ...]
    pieces: bool = False
    """Whether one learns from random pieces of the clips, which `draw` cuts."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch: ...

    def draw(self, index: Int[Tensor, " clip"], seed: int, step: int, device: torch.device | str = "cpu") -> Batch:
        """What to learn from in this step: the clips, or pieces of them that follow from seed and step alone."""
        return self.batch(index, device)

    def portions(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " portion"]:
        """What an epoch goes through: each clip once, or as often as it has room for a piece."""
        return index

    def group(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """The group (speaker, bird, session) of each clip; no group may lie on both sides of a split."""
        return index


@dataclass(frozen=True)
class Split:
    """Clip indices for learning, for choosing and for judging; whole groups to each."""

    train: Int[Tensor, " train"]
    validation: Int[Tensor, " validation"]
    test: Int[Tensor, " test"]


def split(world: World, seed: int, test: float = 0.2, validation: float = 0.0) -> Split:
    """Deal whole groups at random into three parts, of which two have these shares of the groups.

    Where there are enough groups, a part that is asked for has at least one.
    """
    if not (0 <= test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise ValueError(
            f"shares test={test} and validation={validation} leave nothing to train on: "
            "give shares in [0, 1) that sum to less than 1"
        )
    everything = torch.arange(len(world))
    group_of_clip = world.group(everything)
    groups = torch.unique(group_of_clip).numpy()
    order = torch.from_numpy(np.random.default_rng([seed, 0x5B117]).permutation(groups))
    spare = len(groups) - 1
    tests = min(max(1, round(test * len(groups))), spare) if test else 0
    validations = min(max(1, round(validation * len(groups))), spare - tests) if validation else 0
    parts = {
        "test": order[:tests],
        "validation": order[tests : tests + validations],
        "train": order[tests + validations :],
    }
    if test and not tests:
        raise ValueError(
            f"the test part of world '{world.name}' is empty: it has {len(groups)} group(s), no part of "
            "which may be on both sides; use more clips, or another --group of recordings, such as file, or "
            "--test 0, which learns from all and judges nothing"
        )
    return Split(**{part: everything[torch.isin(group_of_clip, of)] for part, of in parts.items()})
