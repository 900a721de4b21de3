"""What listeners hear as they move, in many rooms at once.

Two clocks. In `clip` mode every call renders each sound whole, from its beginning. In `stream` mode time passes:
every call renders the next window, the sounds go round for ever, and the reverberation of what was heard before
carries over. A step of the listener changes all impulse responses at once; for 8 ms the old ones give way to the
new, so that nothing clicks. While nobody moves, the windows are exactly the pieces of one long convolution.

Convolution is by overlap and save: the last samples of every block that a Fourier transform holds are right.
Images are made when a source is placed; a step costs beams, arrivals and a few transforms.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.rooms.arrivals import LEAD
from sonarium.rooms.bands import audible_bands, filters, half_length
from sonarium.rooms.bank import Bank
from sonarium.rooms.geometry import Room
from sonarium.rooms.images import audible, find_images
from sonarium.rooms.slots import Slots
from sonarium.rooms.transforms import block_size, next_fast

Clock = Literal["stream", "clip"]
Head = Literal["none", "sphere"]
FADE = 0.008
"""Seconds in which the responses of the last step give way to those of this one."""
CHUNK = 2**21
"""Bytes of impulse responses that are made at a time, so that they stay in the cache."""
MAP_CHUNK = 256
"""Points of a map whose responses are made at a time."""
NEVER = 2**62


@dataclass(frozen=True)
class Echo:
    """An image that somebody hears, for pictures."""

    source: int
    place: tuple[float, float]
    order: int
    amplitude: float


class Acoustics:
    """Rooms with their sources, one room a slot, and the two ears that listen in each."""

    def __init__(
        self,
        slots: int,
        sources: int,
        rate: int,
        window: int,
        order: int,
        ear_distance: float = 0.2,
        clock: Clock = "stream",
        head: Head = "none",
        bands: Sequence[float] = (),
        threads: int | None = None,
    ):
        if min(slots, sources, rate, window) < 1 or order < 0 or ear_distance < 0:
            raise ValueError(
                f"got {slots} slots, {sources} sources, rate {rate}, window {window}, order {order}, ear distance "
                f"{ear_distance}: give positive counts, and an order and a distance of 0 or more"
            )
        if head == "sphere" and not bands:
            bands = tuple(125.0 * 2**octave for octave in range(7))
        used = audible_bands(tuple(bands), rate)
        self.slots = Slots(slots, sources, order, rate, used)
        self.bank = Bank(slots, sources)
        self.rate, self.window, self.order, self.clock = rate, window, order, clock
        self.ear_distance, self.head = ear_distance, head
        self.slots.head[:] = ear_distance / 2 if head == "sphere" else 0.0
        self.filters = torch.from_numpy(filters(used, rate).astype(np.float32)) if used else None
        self.lead = LEAD + half_length(used, rate)
        self.fade = min(round(FADE * rate), window) if clock == "stream" else 0
        rising = np.sin(np.pi / 2 * (np.arange(self.fade) + 0.5) / max(1, self.fade)) ** 2
        self.rising = rising.astype(np.float32)
        self.time = np.zeros(slots, np.int64)
        self.ends = np.full((slots, sources), NEVER)
        self.tails = np.zeros((slots, 2, self.fade), np.float32)
        self.threads = threads or len(os.sched_getaffinity(0))
        self.pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        self.rooms: dict[int, Room] = {}
        self.places: dict[tuple[int, int], Float[np.ndarray, " axis"]] = {}
        self.length = 0
        self.spectra: dict[int, Tensor] = {}

    def enter(
        self,
        slot: int,
        room: Room,
        places: Float[np.ndarray, "source axis"],
        sounds: Sequence[Float[np.ndarray, " time"]],
        offsets: Int[np.ndarray, " source"] | None = None,
    ) -> None:
        """A new room in this slot, its sources placed and all of them sounding; its clock begins anew.

        In stream mode a sound goes round, begins at its offset, and has been going for ever."""
        if len(places) != self.slots.sources or len(sounds) != self.slots.sources:
            raise ValueError(
                f"got {len(places)} places and {len(sounds)} sounds: {self.slots.sources} of each are expected"
            )
        if room.bands and audible_bands(room.bands, self.rate) != self.slots.bands:
            raise ValueError(f"got a room with bands {room.bands}: this listener has {self.slots.bands}")
        self.slots.enter(slot, room)
        self.rooms[slot] = room
        for source, (place, sound) in enumerate(zip(places, sounds, strict=True)):
            self.put(slot, source, place)
            row = self.bank.play(slot, source, sound, 0 if offsets is None else int(offsets[source]))
            self.spectra.pop(row, None)
        self.time[slot], self.ends[slot] = 0, NEVER
        self.resize()

    def move(self, slot: int, source: int, place: Float[np.ndarray, " axis"]) -> None:
        """Put a source elsewhere in its room; what it has sounded so far is heard from there too."""
        self.put(slot, source, place)
        self.resize()

    def put(self, slot: int, source: int, place: Float[np.ndarray, " axis"]) -> None:
        room = self.rooms[slot]
        self.slots.place(slot, source, find_images(room, place, self.order), room)
        self.places[slot, source] = place

    def switch_off(self, slot: int, source: int) -> None:
        """Stop a source: at once in clip mode, in stream mode from now on, so that it rings out."""
        if self.clock == "clip":
            self.slots.heard[slot, source] = False
        else:
            self.ends[slot, source] = min(self.ends[slot, source], self.time[slot])

    def hear(
        self, places: Float[np.ndarray, "slot axis"], headings: Float[np.ndarray, " slot"]
    ) -> Float[np.ndarray, "slot 2 window"]:
        """What the left and the right ear hear, in every slot. In stream mode time passes."""
        ears = self.ears(places, headings)
        if self.clock == "stream":
            # A source is gone when its last sound is older than the longest response.
            rung_out = self.ends < self.time[:, None] - self.length - self.fade
            self.slots.heard &= ~rung_out
        heard = np.empty((len(places), 2, self.window), np.float32)
        chunk = max(1, CHUNK // (self.slots.sources * 2 * self.slots.columns * self.size * 4))
        for start in range(0, len(places), chunk):
            here = slice(start, min(start + chunk, len(places)))
            spectrum = self.response_spectra(ears[here], here)
            heard[here] = self.stream(spectrum, here) if self.clock == "stream" else self.clips(spectrum, here)
        if self.clock == "stream":
            self.time += self.window
        return heard

    def ears(
        self, places: Float[np.ndarray, "slot axis"], headings: Float[np.ndarray, " slot"]
    ) -> Float[np.ndarray, "slot 2 5"]:
        """Place and outward direction of the left and the right ear."""
        found = np.zeros((len(places), 2, 5))
        left = np.stack([-np.sin(headings), np.cos(headings)], axis=1)
        found[:, :, : places.shape[1]] = places[:, None]
        found[:, 0, 3:], found[:, 1, 3:] = left, -left
        if self.head == "none":
            found[:, :, :2] += self.ear_distance / 2 * found[:, :, 3:]
        return found

    def resize(self) -> None:
        """Fit the transforms to the longest response that any slot has had."""
        length = self.slots.length() + 2 * (self.lead - LEAD)
        if length <= self.length:
            return
        # Room to spare: the next room may be a little larger, and would make all spectra anew.
        self.length = length + length // 8
        if self.clock == "stream":
            self.size = next_fast(self.length + self.window + self.fade - 1)
        else:
            self.size = block_size(self.length, self.window)
        self.spectra.clear()
        self.filter_spectra = None if self.filters is None else torch.fft.rfft(self.filters, self.size)
        self.responses = np.zeros(0, np.float32)

    def response_spectra(self, ears: Float[np.ndarray, "slots ear 5"], here: slice) -> Tensor:
        """Spectra of all impulse responses, (slot, source, ear, bin)."""
        shape = (len(ears), self.slots.sources, ears.shape[1], self.slots.columns, self.size)
        if self.responses.size < np.prod(shape):
            self.responses = np.empty(np.prod(shape), np.float32)
        out = self.responses[: np.prod(shape)].reshape(shape)
        self.slots.responses(ears, self.size, here, self.pool, self.threads, out)
        spectrum = torch.fft.rfft(torch.from_numpy(out))
        if self.filter_spectra is None:
            return spectrum[..., 0, :]
        return (spectrum * self.filter_spectra).sum(dim=-2)

    def stream(self, spectrum: Tensor, here: slice) -> Float[np.ndarray, "slots 2 window"]:
        """The next window of some slots, faded in over the end that the last responses gave it."""
        before = self.length - 1
        needed = before + self.window + self.fade
        past = self.bank.segments(here, self.time[here] - before, self.ends[here], needed, self.size)
        mixed = (torch.fft.rfft(torch.from_numpy(past))[:, :, None] * spectrum).sum(dim=1)
        heard = torch.fft.irfft(mixed, self.size)[..., before:needed].numpy()
        begun = self.time[here] > 0
        rising, faded = self.rising, heard[..., : self.fade]
        faded[begun] = rising * faded[begun] + (1 - rising) * self.tails[here][begun]
        self.tails[here] = heard[..., self.window :]
        return heard[..., : self.window]

    def clips(self, spectrum: Tensor, here: slice) -> Float[np.ndarray, "slots 2 window"]:
        """The sounds of some slots, whole, block after block."""
        rows = self.bank.rows[here]
        for row in np.unique(rows):
            if int(row) not in self.spectra:
                self.spectra[int(row)] = self.blocks(int(row))
        sounds = torch.stack([torch.stack([self.spectra[int(row)] for row in pair]) for pair in rows])
        mixed = (sounds[:, :, None] * spectrum[:, :, :, None]).sum(dim=1)
        heard = torch.fft.irfft(mixed, self.size)[..., self.length - 1 :]
        joined = rearrange(heard, "slot ear block sample -> slot ear (block sample)")
        return joined[..., : self.window].numpy()

    def blocks(self, row: int) -> Tensor:
        """Spectra of the overlapping blocks of a sound, (block, bin)."""
        before, hop = self.length - 1, self.size - self.length + 1
        count = -(-self.window // hop)
        padded = torch.zeros(before + count * hop)
        sound = self.bank.sound(row)[: self.window]
        padded[before : before + len(sound)] = torch.from_numpy(sound)
        return torch.fft.rfft(padded.unfold(0, self.size, hop))

    def levels(self, slot: int, points: Float[np.ndarray, "point axis"]) -> Float[np.ndarray, " point"]:
        """Decibels at these places, of all sources that are on; 0 dB is direct sound at one metre."""
        energy = np.zeros(len(points))
        here, on = slice(slot, slot + 1), self.ends[slot] == NEVER
        for start in range(0, len(points), MAP_CHUNK):
            part = points[start : start + MAP_CHUNK]
            places = np.zeros((1, len(part), 5))
            places[0, :, : part.shape[1]] = part
            found = self.slots.responses(places, self.length, here)[0]
            energy[start : start + len(part)] = np.square(found[on]).mean(axis=2).sum(axis=(0, 2))
        with np.errstate(divide="ignore"):
            return 10 * np.log10(energy)

    def echoes(self, slot: int, place: Float[np.ndarray, " axis"]) -> list[Echo]:
        """Which images of the plan are heard from a place."""
        room, found = self.rooms[slot], []
        for source in range(self.slots.sources):
            if not self.slots.heard[slot, source]:
                continue
            images = find_images(room, self.places[slot, source], self.order)
            for beam in np.flatnonzero(audible(room, images, place[None])[0]):
                x, y = images.apex[beam]
                amplitude = float(images.gain[beam].mean()) / max(
                    0.01, float(np.hypot(x - place[0], y - place[1]))
                )
                found.append(Echo(source, (float(x), float(y)), int(images.depth[beam]), amplitude))
        return found
