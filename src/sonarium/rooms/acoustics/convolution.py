"""Convolution of sounds with impulse responses by overlap-save.

In each block only the samples after a whole impulse response are valid. A stream needs one block per step, a clip
several, whose spectra are cached. On a CPU every thread renders different rooms, in compiled loops (`CpuBackend`);
on a GPU all rooms form one tensor (`cuda.py`).
"""

import threading
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from sonarium.rooms.acoustics import fourier
from sonarium.rooms.acoustics.cuda import CudaBackend
from sonarium.rooms.acoustics.filterbank import filters
from sonarium.rooms.acoustics.slots import Slots
from sonarium.rooms.acoustics.soundbank import Bank

CHUNK = {"cpu": 2**20, "cuda": 2**29}
"""Bytes of impulse responses that are computed at a time: on a CPU they stay in the cache."""

Array = Any
"""NumPy arrays on a CPU, torch tensors elsewhere: both have the same operators."""


class Convolver:
    """Overlap-save convolution on one device."""

    def __init__(self, slots: Slots, bank: Bank, rate: int, window: int, fade: int, device: torch.device):
        self.slots, self.bank, self.window, self.fade, self.device = slots, bank, window, fade, device
        bands = filters(slots.bands, rate).astype(np.float32) if slots.bands else np.zeros((0, 1), np.float32)
        local = device.type == "cpu"
        self.backend: Any = CpuBackend(slots, bank, bands) if local else CudaBackend(slots, bank, bands, device)
        fraction = (np.arange(fade) + 0.5) / max(1, fade)
        self.rising = np.sin(np.pi / 2 * fraction, dtype=np.float32) ** 2
        self.tails = self.new_tails()
        self.kept: dict[int, Array] = {}
        self.filled: dict[int, set[int]] = {}
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, lock=threading.Lock())

    def new_tails(self) -> Array:
        """Silent tails: in each slot, the fade-out of the last responses in the next window."""
        return self.backend.there(np.zeros((self.slots.count, 2, self.fade), np.float32))

    @property
    def alone(self) -> bool:
        """Whether one thread renders all rooms, because the device has its own parallelism."""
        return self.device.type != "cpu"

    def changed(self, slot: int) -> None:
        """Invalidate what is cached of a slot whose room or sources have changed."""
        self.backend.changed(slot)

    def forget(self, row: int) -> None:
        """Invalidate the spectra of a row of the bank, which holds a new sound."""
        for rows in self.filled.values():
            rows.discard(row)

    def size(self, length: int) -> int:
        """FFT size for responses of this length."""
        if self.fade:
            return fourier.fitting(length + self.window + self.fade - 1)
        return fourier.block_size(length, self.window, self.slots.sources * self.slots.columns)

    def chunk(self, length: int) -> int:
        """Number of rooms rendered at a time."""
        return max(1, CHUNK[self.device.type] // (8 * self.slots.sources * self.slots.columns * self.size(length)))

    def stream(
        self,
        slots: Int[np.ndarray, " chosen"],
        ears: Float[np.ndarray, "chosen ear 5"],
        length: int,
        time: Int[np.ndarray, " chosen"],
        ends: Int[np.ndarray, "chosen source"],
    ) -> Float[np.ndarray, "chosen ear window"]:
        """The next window of some slots, cross-faded with the tail of the last responses."""
        before, needed = length - 1, self.window + self.fade
        past = self.backend.segments(slots, time - before, ends, before + needed, self.size(length))
        sounds = self.backend.spectra(past)[:, None]
        playing = np.arange(len(past)).reshape(len(slots), -1)
        heard = self.backend.empty((len(slots), 2, needed))
        self.backend.convolve(heard, np.arange(len(slots)), slots, ears, length, sounds, playing)
        # The first step has nothing to fade from.
        rising = self.backend.there(np.where(time[:, None, None] > 0, self.rising, np.float32(1)))
        heard[..., : self.fade] *= rising
        heard[..., : self.fade] += (1 - rising) * self.tails[slots]
        self.tails[slots] = heard[..., self.window :]
        return self.backend.here(heard[..., : self.window])

    def clips(
        self,
        out: Float[np.ndarray, "row ear window"],
        rows: Int[np.ndarray, " chosen"],
        slots: Int[np.ndarray, " chosen"],
        ears: Float[np.ndarray, "chosen ear 5"],
        length: int,
    ) -> None:
        """Render the whole sounds of some slots into rows `rows` of `out`, block by block."""
        playing = self.bank.rows[slots]
        sounds = self.blocks(set(playing.ravel().tolist()), length)
        self.backend.convolve(out, rows, slots, ears, length, sounds, playing)

    def blocks(self, rows: set[int], length: int) -> Array:
        """Spectra of the blocks of the bank's sounds, (row, block, …), valid in at least these rows."""
        with self.lock:
            filled = self.filled.setdefault(length, set())
            if length not in self.kept or len(self.kept[length]) < len(self.bank.users):
                self.kept[length] = self.more(length)
            for row in rows - filled:
                self.kept[length][row] = self.backend.spectra(self.cut(row, length))
            filled |= rows
            return self.kept[length]

    def more(self, length: int) -> Array:
        """An array for the spectra of all sounds in the bank, with those already computed."""
        like = self.backend.spectra(self.cut(0, length))
        grown = self.backend.zeros((len(self.bank.users), *like.shape), like.dtype)
        if length in self.kept:
            grown[: len(self.kept[length])] = self.kept[length]
        return grown

    def cut(self, row: int, length: int) -> Array:
        """Overlapping blocks of a sound, (block, time)."""
        size, before = self.size(length), length - 1
        hop = size - before
        count = -(-self.window // hop)
        padded = np.zeros(before + count * hop, np.float32)
        sound = self.bank.sound(row)[: self.window]
        padded[before : before + len(sound)] = sound
        blocks = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
        return self.backend.there(blocks.copy())


class CpuBackend:
    """Impulse responses, sounds and their convolution in compiled loops, with the interface of `CudaBackend`."""

    def __init__(self, slots: Slots, bank: Bank, filters: Float[np.ndarray, "band tap"]):
        self.slots, self.bank, self.filters = slots, bank, filters
        self.shapes: dict[int, Float[np.ndarray, "band 2 size"]] = {}

    def there(self, array: np.ndarray) -> np.ndarray:
        """The array on the device: itself."""
        return array

    def here(self, array: np.ndarray) -> np.ndarray:
        """The array in main memory: itself."""
        return array

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return np.zeros(shape, dtype)

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.empty(shape, np.float32)

    def changed(self, slot: int) -> None:
        """Do nothing, because nothing is cached."""

    def segments(
        self,
        chosen: Int[np.ndarray, " chosen"],
        start: Int[np.ndarray, " chosen"],
        ends: Int[np.ndarray, "chosen source"],
        count: int,
        size: int,
    ) -> Float[np.ndarray, "segment size"]:
        """`Bank.segments`, flattened over sources."""
        return self.bank.segments(chosen, start, ends, count, size).reshape(-1, size)

    def spectra(self, signals: Float[np.ndarray, "signal size"]) -> Float[np.ndarray, "signal 2 size"]:
        return fourier.spectra(signals)

    def convolve(
        self,
        out: Float[np.ndarray, "row 2 time"],
        rows: Int[np.ndarray, " chosen"],
        slots: Int[np.ndarray, " chosen"],
        ears: Float[np.ndarray, "chosen 2 5"],
        length: int,
        sounds: Float[np.ndarray, "sound block 2 size"],
        playing: Int[np.ndarray, "chosen source"],
    ) -> None:
        """Render the binaural signals of the blocks that each source plays into rows `rows` of `out`."""
        responses = self.slots.responses(slots, ears, length)
        fourier.convolve(out, rows, responses, self.shaped(sounds.shape[-1]), sounds, playing)

    def shaped(self, size: int) -> Float[np.ndarray, "band 2 size"]:
        """Spectra of the filterbank at this FFT size."""
        if size not in self.shapes:
            taps = np.zeros((len(self.filters), size), np.float32)
            taps[:, : self.filters.shape[1]] = size * self.filters
            self.shapes[size] = fourier.spectra(taps)
        return self.shapes[size]
