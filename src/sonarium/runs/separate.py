"""Separation of sound of any length, in memory that does not grow with it.

A streaming separator works window by window, with the same result as on the whole. Any other separates overlapping
pieces: the sources of each are ordered for the best agreement with the previous piece where they overlap, and
cross-faded with it.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from sonarium.measures.separation import best_order
from sonarium.models.contract import Separator, StreamSeparator
from sonarium.worlds.audio.decoder import header_of, opened

PIECE, SHARED = 8.0, 2.0
"""Duration of a piece, and of its overlap with the next, in seconds."""

Ears = Float[np.ndarray, "_ 2"]
Apart = Float[np.ndarray, "_ source 2"]
"""Sources of any length, which differs between parts."""


def ears_of(path: Path, rate: int) -> Iterator[Ears]:
    """Blocks of a two-channel file at this sampling rate; a fault of the file may only be raised at its end."""
    channels = header_of(path).channels
    if channels != 2:
        raise ValueError(
            f"'{path}' has {channels} channel{'s' * (channels > 1)}, and a separator hears with two ears: give a "
            "recording of two channels, left and right"
        )
    with ExitStack() as both:
        left, right = (both.enter_context(opened(path, rate, channel))[1] for channel in (0, 1))
        for pair in zip(left, right, strict=True):
            yield np.stack(pair, 1)


def separated(separator: Separator, blocks: Iterable[Ears], rate: int, device: str = "cpu") -> Iterator[Apart]:
    """The sources, part by part, with as many samples in total as the blocks."""
    if isinstance(separator, StreamSeparator):
        yield from by_windows(separator, blocks, device)
    else:
        yield from by_pieces(separator, blocks, round(PIECE * rate), round(SHARED * rate), device)


def by_windows(separator: StreamSeparator, blocks: Iterable[Ears], device: str) -> Iterator[Apart]:
    """Separate each block as a window, then silence until the last sample is returned (latency)."""
    state, late = separator.begin(1), separator.latency
    silence = np.zeros((separator.latency, 2), np.float32)
    for block in chain(blocks, [silence]):
        made, state = separator.go_on(tensor(block, device)[None], state)
        part, late = made[0, late:], max(0, late - len(block))
        yield part.cpu().numpy()


def by_pieces(
    separator: Separator, blocks: Iterable[Ears], piece: int, shared: int, device: str
) -> Iterator[Apart]:
    held, before = np.zeros((0, 2), np.float32), None

    def apart(sound: Ears) -> Apart:
        made = separator.separate(tensor(sound, device)[None])[0].cpu().numpy()
        return made if before is None else joined(before, made)

    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= 2 * piece:
            made, held = apart(held[:piece]), held[piece - shared :]
            before = made[piece - shared :]
            yield made[: piece - shared]
    if len(held):
        yield apart(held)


def joined(before: Apart, made: Apart) -> Apart:
    """A piece with its sources in the order of the previous piece, whose end is cross-faded into it."""
    shared = len(before)
    alike = np.einsum("tse,tre->sr", before, made[:shared])
    made = made[:, best_order(alike)]
    rise = (np.arange(shared, dtype=np.float32) + 0.5)[:, None, None] / shared
    return np.concatenate([before * (1 - rise) + made[:shared] * rise, made[shared:]])


def tensor(sound: Ears, device: str) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(sound, np.float32)).to(device)
