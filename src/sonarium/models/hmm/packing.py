"""Sequences of different lengths in blocks without padding: frame 0 of all, then frame 1 of those that have one, …

Sequences of a block are sorted by decreasing length, so that those that continue at time t are the first of those
at time t − 1, and each step of a recursion takes contiguous rows. Blocks bound the memory: arrays over all frames
and states are computed for one block at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

CELLS = 1 << 22
"""Maximum frames × states of a block: 32 MB in float64."""


@dataclass(frozen=True)
class Block:
    """Indices of the frames of some sequences, in the order of computation."""

    source: Int[Tensor, " frame"]
    """Row of each frame in the original order."""
    sequence: Int[Tensor, " frame"]
    """Index of each frame's sequence within the block."""
    sizes: tuple[int, ...]
    """Number of sequences that have a frame at time 0, 1, …"""
    previous: Int[Tensor, " later"]
    """Row of the preceding frame within the block, for each frame after time 0."""
    numbers: Int[Tensor, " sequence"]
    """Indices of the sequences among all that were given."""

    @property
    def even(self) -> bool:
        """Whether all sequences are equally long."""
        return self.sizes[0] == self.sizes[-1]


def lengths_of(frames: int, lengths: Sequence[int] | np.ndarray | None) -> Int[np.ndarray, " sequence"]:
    """Validated lengths of sequences, which sum to `frames`; by default, all frames are one sequence."""
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
