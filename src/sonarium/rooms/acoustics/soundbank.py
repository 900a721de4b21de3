"""The sounds of the sources: each stored once, regardless of how many sources play it, and cut into windows."""

import hashlib
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int

from sonarium.rooms.acoustics.jit import compiled


class Bank:
    """Rows of samples, with the row and the offset that each source of each slot plays."""

    def __init__(self, slots: int, sources: int):
        self.samples = np.zeros((1, 1), np.float32)
        self.lengths = np.ones(1, np.int64)
        self.users = np.zeros(1, np.int64)
        self.keys: dict[bytes, int] = {}
        self.rows = np.full((slots, sources), -1, np.int64)
        self.offsets = np.zeros((slots, sources), np.int64)
        self.version = 0

    def play(self, slot: int, source: int, sound: Float[np.ndarray, " time"], offset: int) -> int | None:
        """Assign a sound to a source; returns the row that was filled, if the sound is new."""
        kept = np.ascontiguousarray(sound, np.float32)
        if kept.ndim != 1 or len(kept) == 0 or not np.isfinite(kept).all():
            raise ValueError(f"got a sound of shape {np.shape(sound)}: finite samples of one channel are expected")
        key = hashlib.blake2b(kept.tobytes(), digest_size=16).digest()
        old = self.rows[slot, source]
        row = self.keys.get(key)
        new = row is None
        if row is None:
            row = self.free_row(len(kept))
            self.samples[row, : len(kept)], self.lengths[row] = kept, len(kept)
            self.keys[key] = row
            self.version += 1
        self.users[row] += 1
        if old >= 0:
            self.users[old] -= 1
            if self.users[old] == 0:
                self.keys = {key: used for key, used in self.keys.items() if used != old}
        self.rows[slot, source], self.offsets[slot, source] = row, offset % len(kept)
        return row if new else None

    def free_row(self, length: int) -> int:
        """An unused row that is long enough."""
        free = np.flatnonzero(self.users == 0)
        rows = len(self.users) if len(free) else 2 * len(self.users)
        if length > self.samples.shape[1] or not len(free):
            grown = np.zeros((rows, max(length, self.samples.shape[1])), np.float32)
            grown[: len(self.samples), : self.samples.shape[1]] = self.samples
            self.samples = grown
            more = rows - len(self.users)
            self.lengths = np.r_[self.lengths, np.ones(more, np.int64)]
            self.users = np.r_[self.users, np.zeros(more, np.int64)]
            free = np.flatnonzero(self.users == 0)
        return int(free[0])

    def sound(self, row: int) -> Float[np.ndarray, " time"]:
        return self.samples[row, : self.lengths[row]]

    def segments(
        self,
        chosen: Int[np.ndarray, " chosen"],
        start: Int[np.ndarray, " chosen"],
        ends: Int[np.ndarray, "chosen source"],
        count: int,
        size: int,
    ) -> Float[np.ndarray, "chosen source {size}"]:
        """`count` samples of each looping sound from `start`, silent from `ends`; zero-padded to `size`."""
        out = np.empty((len(chosen), self.rows.shape[1], size), np.float32)
        cut(out, self.samples, self.lengths, chosen, self.rows, self.offsets, start, ends, count)
        return out


@compiled
@no_type_check
def cut(out, samples, lengths, chosen, rows, offsets, start, ends, count):
    for number in range(len(chosen)):
        for source in range(rows.shape[1]):
            row = rows[chosen[number], source]
            length = lengths[row]
            position = (offsets[chosen[number], source] + start[number]) % length
            sounding = max(0, min(count, ends[number, source] - start[number]))
            done = 0
            while done < sounding:
                step = min(sounding - done, length - position)
                out[number, source, done : done + step] = samples[row, position : position + step]
                done += step
                position = 0
            out[number, source, sounding:] = 0.0
