"""Sequences of different lengths in blocks without padding: frame 0 of all, then frame 1 of those that have one, …

Within a block the longest sequence comes first, so that the sequences that go on at time t are the first of those
at time t − 1, and each step of a recursion takes one contiguous stretch of rows. Blocks bound the memory: what is
computed for all frames and states at once is computed for one block after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

CELLS = 1 << 22
"""Frames × states of a block: 32 MB of numbers in float64."""


@dataclass(frozen=True)
class Block:
    """Where the frames of some sequences are, in the order in which they are computed."""

    source: Int[Tensor, " frame"]
    """The row of each frame in the order in which they were given."""
    sequence: Int[Tensor, " frame"]
    """The place of its sequence within the block."""
    sizes: tuple[int, ...]
    """How many sequences have a frame at time 0, 1, …"""
    previous: Int[Tensor, " later"]
    """The row of the frame before, for each frame after time 0."""
    numbers: Int[Tensor, " sequence"]
    """Which of the given sequences they are."""

    @property
    def even(self) -> bool:
        """Whether all sequences are equally long."""
        return self.sizes[0] == self.sizes[-1]


def lengths_of(frames: int, lengths: Sequence[int] | np.ndarray | None) -> Int[np.ndarray, " sequence"]:
    """Lengths of sequences that make up so many frames; without any, all frames are one sequence."""
    if lengths is None:
        return np.array([frames])
    given = np.asarray(lengths)
    if given.ndim != 1 or not len(given) or not np.issubdtype(given.dtype, np.integer) or (given < 1).any():
        raise ValueError(f"lengths={lengths}: give a whole number of at least 1 for each sequence")
    if given.sum() != frames:
        raise ValueError(f"the lengths sum to {given.sum()}, but there are {frames} frames: give every frame once")
    return given.astype(np.int64)


def pack(lengths: Int[np.ndarray, " sequence"], width: int, device: torch.device | str = "cpu") -> list[Block]:
    """Blocks of sequences of similar length, each of at most `CELLS` frames × `width`, or of one sequence."""
    order = np.argsort(-lengths, kind="stable")
    starts = np.cumsum(lengths) - lengths
    blocks, first = [], 0
    while first < len(order):
        running = np.cumsum(lengths[order[first:]])
        count = max(1, int(np.searchsorted(running, CELLS // width, side="right")))
        blocks.append(block(lengths, starts, order[first : first + count], device))
        first += count
    return blocks


def block(lengths: np.ndarray, starts: np.ndarray, numbers: np.ndarray, device: torch.device | str) -> Block:
    own = lengths[numbers]
    time, sequence = np.nonzero(np.arange(own[0])[:, None] < own)
    sizes = np.bincount(time)
    offsets = np.cumsum(sizes) - sizes
    later = time > 0

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    return Block(
        source=tensor(starts[numbers][sequence] + time),
        sequence=tensor(sequence),
        sizes=tuple(sizes.tolist()),
        previous=tensor(offsets[time[later] - 1] + sequence[later]),
        numbers=tensor(numbers),
    )
