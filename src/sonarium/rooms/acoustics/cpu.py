"""Responses, sounds and their convolution on a CPU: what `remote.py` does on a GPU, in compiled loops."""

import numpy as np
from jaxtyping import Float, Int

from sonarium.rooms.acoustics import fourier
from sonarium.rooms.acoustics.slots import Slots
from sonarium.rooms.acoustics.soundbank import Bank


class Local:
    """Rooms and sounds where they are."""

    def __init__(self, slots: Slots, bank: Bank, filters: Float[np.ndarray, "band tap"]):
        self.slots, self.bank, self.filters = slots, bank, filters
        self.shapes: dict[int, Float[np.ndarray, "band 2 size"]] = {}

    def there(self, array: np.ndarray) -> np.ndarray:
        """An array on the device."""
        return array

    def here(self, array: np.ndarray) -> np.ndarray:
        """An array for the user."""
        return array

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return np.zeros(shape, dtype)

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.empty(shape, np.float32)

    def changed(self, slot: int) -> None:
        """Nothing is kept elsewhere."""

    def segments(
        self,
        chosen: Int[np.ndarray, " chosen"],
        start: Int[np.ndarray, " chosen"],
        ends: Int[np.ndarray, "chosen source"],
        count: int,
        size: int,
    ) -> Float[np.ndarray, "segment size"]:
        """As `Bank.segments`, one source after the other."""
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
        """Fill these rows with what the ears hear of the blocks of sound that each source plays."""
        responses = self.slots.responses(slots, ears, length)
        fourier.convolve(out, rows, responses, self.shaped(sounds.shape[-1]), sounds, playing)

    def shaped(self, size: int) -> Float[np.ndarray, "band 2 size"]:
        """Spectra of the filters of all bands."""
        if size not in self.shapes:
            taps = np.zeros((len(self.filters), size), np.float32)
            taps[:, : self.filters.shape[1]] = size * self.filters
            self.shapes[size] = fourier.spectra(taps)
        return self.shapes[size]
