"""From impulse responses and sounds to what the ears hear, by Fourier transforms.

Overlap and save: of every block that a transform holds, the samples are right before which a whole response lies.
A stream takes one block a step, a clip several, whose spectra are kept. On a CPU the arrays are NumPy's and the
transforms SciPy's, so that every thread works by itself on rooms of its own; on a GPU they are torch's.
"""

import threading
from typing import Any, no_type_check

import numpy as np
import scipy.fft
import torch
from einops import rearrange
from jaxtyping import Float, Int

from sonarium.rooms.arrivals import swift
from sonarium.rooms.bands import filters
from sonarium.rooms.bank import Bank
from sonarium.rooms.remote import Remote
from sonarium.rooms.slots import Slots
from sonarium.rooms.transforms import block_size, next_fast

CHUNK = {"cpu": 2**20, "cuda": 2**29}
"""Bytes of impulse responses that are made at a time: on a CPU they stay in the cache."""

Array = Any
"""Of NumPy on a CPU, of torch elsewhere: both take the same operators."""


class Convolver:
    """Convolution on one device."""

    def __init__(self, slots: Slots, bank: Bank, rate: int, window: int, fade: int, device: torch.device):
        self.slots, self.bank, self.window, self.fade, self.device = slots, bank, window, fade, device
        self.remote = None if device.type == "cpu" else Remote(slots, bank, device)
        self.responses = slots.responses if self.remote is None else self.remote.responses
        self.segments = bank.segments if self.remote is None else self.remote.segments
        transforms: Any = scipy.fft if self.remote is None else torch.fft
        self.rfft, self.irfft = transforms.rfft, transforms.irfft
        self.stack = np.stack if self.remote is None else torch.stack
        self.filters = self.there(filters(slots.bands, rate).astype(np.float32)) if slots.bands else None
        share = (np.arange(fade) + 0.5) / max(1, fade)
        self.rising = np.sin(np.pi / 2 * share, dtype=np.float32) ** 2
        self.tails = self.there(np.zeros((slots.count, 2, fade), np.float32))
        self.kept: dict[tuple[int, int], Array] = {}
        self.lock = threading.Lock()

    def there(self, array: np.ndarray) -> Array:
        """An array on the device."""
        return array if self.remote is None else torch.from_numpy(array).to(self.device)

    def here(self, array: Array) -> np.ndarray:
        """An array for the user."""
        return array if self.remote is None else array.cpu().numpy()

    def changed(self, slot: int) -> None:
        """A room has other sources, or is another."""
        if self.remote is not None:
            self.remote.changed(slot)

    def forget(self, row: int) -> None:
        """A row of the bank holds another sound."""
        self.kept = {key: spectra for key, spectra in self.kept.items() if key[0] != row}

    def size(self, length: int) -> int:
        """Of the transforms for responses of this length."""
        return next_fast(length + self.window + self.fade - 1) if self.fade else block_size(length, self.window)

    def chunk(self, length: int) -> int:
        """How many rooms are heard at a time."""
        return max(1, CHUNK[self.device.type] // (8 * self.slots.sources * self.slots.columns * self.size(length)))

    def response_spectra(
        self, slots: Int[np.ndarray, " chosen"], ears: Float[np.ndarray, "chosen ear 5"], length: int
    ) -> Array:
        """Spectra of the impulse responses in some slots, (chosen, source, ear, bin)."""
        size = self.size(length)
        spectrum = self.rfft(self.responses(slots, ears, size))
        if self.filters is None:
            return spectrum[..., 0, :]
        return (spectrum * self.rfft(self.filters, size)).sum(-2)

    def stream(
        self,
        slots: Int[np.ndarray, " chosen"],
        ears: Float[np.ndarray, "chosen ear 5"],
        length: int,
        time: Int[np.ndarray, " chosen"],
        ends: Int[np.ndarray, "chosen source"],
    ) -> Float[np.ndarray, "chosen ear window"]:
        """The next window of some slots, faded in over the end that the last responses gave it."""
        before = length - 1
        needed = before + self.window + self.fade
        past = self.rfft(self.segments(slots, time - before, ends, needed, self.size(length)))
        mixed = self.mix(past[:, :, None], self.response_spectra(slots, ears, length))
        heard = self.irfft(mixed[:, :, 0], self.size(length))[..., before:needed]
        # At the first step there is nothing to fade from.
        rising = self.there(np.where(time[:, None, None] > 0, self.rising, np.float32(1)))
        heard[..., : self.fade] *= rising
        heard[..., : self.fade] += (1 - rising) * self.tails[slots]
        self.tails[slots] = heard[..., self.window :]
        return self.here(heard[..., : self.window])

    def clips(
        self,
        slots: Int[np.ndarray, " chosen"],
        ears: Float[np.ndarray, "chosen ear 5"],
        length: int,
        time: Int[np.ndarray, " chosen"],
        ends: Int[np.ndarray, "chosen source"],
    ) -> Float[np.ndarray, "chosen ear window"]:
        """The sounds of some slots, whole, block after block."""
        responses = self.response_spectra(slots, ears, length)
        heard = np.empty((len(slots), ears.shape[1], self.window), np.float32)
        for number, slot in enumerate(slots):
            sounds = self.stack([self.blocks(int(row), length) for row in self.bank.rows[slot]])
            mixed = self.mix(sounds[None], responses[number : number + 1])[0]
            blocks = self.irfft(mixed, self.size(length))[..., length - 1 :]
            joined = rearrange(blocks, "ear block sample -> ear (block sample)")
            heard[number] = self.here(joined[..., : self.window])
        return heard

    def mix(self, sounds: Array, responses: Array) -> Array:
        """What all sources send to each ear: sounds (chosen, source, block, bin), responses (chosen, source, ear,
        bin), their products (chosen, ear, block, bin)."""
        if self.remote is not None:
            return (sounds[:, :, None] * responses[:, :, :, None]).sum(1)
        shape = (len(sounds), responses.shape[2], *sounds.shape[2:])
        out = np.empty(shape, np.complex64)
        add_products(out, sounds, responses)
        return out

    def blocks(self, row: int, length: int) -> Array:
        """Spectra of the overlapping blocks of a sound, (block, bin)."""
        with self.lock:
            if (row, length) not in self.kept:
                size, before = self.size(length), length - 1
                hop = size - before
                count = -(-self.window // hop)
                padded = np.zeros(before + count * hop, np.float32)
                sound = self.bank.sound(row)[: self.window]
                padded[before : before + len(sound)] = sound
                blocks = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
                self.kept[row, length] = self.rfft(self.there(blocks.copy()))
            return self.kept[row, length]


@swift
@no_type_check
def add_products(out, sounds, responses):
    for chosen in range(out.shape[0]):
        for ear in range(out.shape[1]):
            for block in range(out.shape[2]):
                mixed = out[chosen, ear, block]
                for source in range(sounds.shape[1]):
                    sound, response = sounds[chosen, source, block], responses[chosen, source, ear]
                    if source == 0:
                        for point in range(len(mixed)):
                            mixed[point] = sound[point] * response[point]
                    else:
                        for point in range(len(mixed)):
                            mixed[point] += sound[point] * response[point]
