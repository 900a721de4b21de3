"""What listeners hear as they move, in many rooms at once.

Two clocks. In `clip` mode every call renders each sound whole, from its beginning. In `stream` mode time passes:
every call renders the next window, the sounds go round for ever, and the reverberation of what was heard before
carries over. A step of the listener changes all impulse responses at once; for 8 ms the old ones give way to the
new, so that nothing clicks. While nobody moves, the windows are exactly the pieces of one long convolution.

Convolution is by overlap and save: the last samples of every block that a Fourier transform holds are right.
Images are made when a source is placed; a step costs beams, arrivals and a few transforms.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Complex, Float, Int
from torch import Tensor

from sonarium.rooms.arrivals import LEAD
from sonarium.rooms.bands import audible_bands, filters, half_length
from sonarium.rooms.bank import Bank
from sonarium.rooms.geometry import Room
from sonarium.rooms.images import audible, find_images
from sonarium.rooms.remote import Remote
from sonarium.rooms.slots import Slots
from sonarium.rooms.transforms import block_size, next_fast

Clock = Literal["stream", "clip"]
Head = Literal["none", "sphere"]
FADE = 0.008
"""Seconds in which the responses of the last step give way to those of this one."""
CHUNK = {"cpu": 2**21, "cuda": 2**29}
"""Bytes of impulse responses that are made at a time: on a CPU they stay in the cache."""
LENGTH_STEP = 512
"""Samples by which the lengths of responses differ."""
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
        device: str = "cpu",
    ):
        if min(slots, sources, rate, window) < 1 or order < 0 or ear_distance < 0:
            raise ValueError(
                f"got {slots} slots, {sources} sources, rate {rate}, window {window}, order {order}, ear distance "
                f"{ear_distance}: give positive counts, and an order and a distance of 0 or more"
            )
        if head == "sphere" and not bands:
            bands = tuple(125.0 * 2**octave for octave in range(7))
        used = audible_bands(tuple(bands), rate)
        self.rate, self.window, self.order, self.clock = rate, window, order, clock
        self.ear_distance, self.head = ear_distance, head
        self.slots = Slots(slots, sources, order, rate, used, threads=threads or len(os.sched_getaffinity(0)))
        self.slots.head[:] = ear_distance / 2 if head == "sphere" else 0.0
        self.bank = Bank(slots, sources)
        self.device = torch.device(device)
        self.chunk = CHUNK[self.device.type]
        self.remote = None if self.device.type == "cpu" else Remote(self.slots, self.bank, self.device)
        self.filters = torch.from_numpy(filters(used, rate).astype(np.float32)).to(device) if used else None
        self.lead = LEAD + half_length(used, rate)
        self.fade = min(round(FADE * rate), window) if clock == "stream" else 0
        rising = torch.sin(math.pi / 2 * (torch.arange(self.fade) + 0.5) / max(1, self.fade)) ** 2
        self.rising = rising.to(device)
        self.tails = torch.zeros(slots, 2, self.fade, device=device)
        self.time, self.ends = np.zeros(slots, np.int64), np.full((slots, sources), NEVER)
        self.lengths = np.zeros(slots, np.int64)
        self.rooms: dict[int, Room] = {}
        self.places: dict[tuple[int, int], Float[np.ndarray, " axis"]] = {}
        self.spectra: dict[tuple[int, int], Tensor] = {}

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
            new = self.bank.play(slot, source, sound, 0 if offsets is None else int(offsets[source]))
            if new is not None:
                self.spectra = {key: kept for key, kept in self.spectra.items() if key[0] != new}
        self.time[slot], self.ends[slot] = 0, NEVER

    def move(self, slot: int, source: int, place: Float[np.ndarray, " axis"]) -> None:
        """Put a source elsewhere in its room; what it has sounded so far is heard from there too."""
        self.put(slot, source, place)

    def put(self, slot: int, source: int, place: Float[np.ndarray, " axis"]) -> None:
        room = self.rooms[slot]
        self.slots.place(slot, source, find_images(room, place, self.order), room)
        self.places[slot, source] = place
        # In steps, so that rooms of about one size are convolved together, and from this room alone, so that a
        # room sounds the same to the last bit whatever its neighbours are.
        needed = self.slots.length(slot) + 2 * (self.lead - LEAD)
        self.lengths[slot] = -(-needed // LENGTH_STEP) * LENGTH_STEP
        if self.remote is not None:
            self.remote.changed(slot)

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
            self.slots.heard &= self.ends >= (self.time - self.lengths - self.fade)[:, None]
        heard = np.zeros((len(places), 2, self.window), np.float32)
        for length in np.unique(self.lengths[self.lengths > 0]):
            size = self.size(int(length))
            chunk = max(1, self.chunk // (self.slots.sources * self.slots.columns * size * 8))
            alike = np.flatnonzero(self.lengths == length)
            for chosen in np.split(alike, range(chunk, len(alike), chunk)):
                spectrum = self.response_spectra(chosen, ears[chosen], size)
                convolve = self.stream if self.clock == "stream" else self.clips
                heard[chosen] = convolve(chosen, spectrum, int(length), size).cpu().numpy()
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

    def size(self, length: int) -> int:
        """Of the transforms for responses of this length."""
        if self.clock == "stream":
            return next_fast(length + self.window + self.fade - 1)
        return block_size(length, self.window)

    def response_spectra(
        self, chosen: Int[np.ndarray, " chosen"], ears: Float[np.ndarray, "chosen ear 5"], size: int
    ) -> Complex[Tensor, "chosen source ear bin"]:
        """Spectra of the impulse responses in some slots."""
        if self.remote is None:
            responses = torch.from_numpy(self.slots.responses(chosen, ears, size))
        else:
            responses = self.remote.responses(chosen, ears, size)
        spectrum = torch.fft.rfft(responses)
        if self.filters is None:
            return spectrum[..., 0, :]
        return (spectrum * torch.fft.rfft(self.filters, size)).sum(dim=-2)

    def stream(
        self,
        chosen: Int[np.ndarray, " chosen"],
        spectrum: Complex[Tensor, "chosen source ear bin"],
        length: int,
        size: int,
    ) -> Float[Tensor, "chosen ear window"]:
        """The next window of some slots, faded in over the end that the last responses gave it."""
        before = length - 1
        needed = before + self.window + self.fade
        cut = (chosen, self.time[chosen] - before, self.ends[chosen], needed, size)
        past = torch.from_numpy(self.bank.segments(*cut)) if self.remote is None else self.remote.segments(*cut)
        mixed = (torch.fft.rfft(past)[:, :, None] * spectrum).sum(dim=1)
        heard = torch.fft.irfft(mixed, size)[..., before:needed]
        slots = torch.from_numpy(chosen).to(self.device)
        begun = torch.from_numpy(self.time[chosen] > 0).to(self.device)
        rising = torch.where(begun[:, None, None], self.rising, 1.0)
        heard[..., : self.fade].mul_(rising).add_((1 - rising) * self.tails[slots])
        self.tails[slots] = heard[..., self.window :]
        return heard[..., : self.window]

    def clips(
        self,
        chosen: Int[np.ndarray, " chosen"],
        spectrum: Complex[Tensor, "chosen source ear bin"],
        length: int,
        size: int,
    ) -> Float[Tensor, "chosen ear window"]:
        """The sounds of some slots, whole, block after block."""
        rows = self.bank.rows[chosen]
        for row in np.unique(rows).tolist():
            if (row, length) not in self.spectra:
                self.spectra[row, length] = self.blocks(row, length, size)
        sounds = torch.stack([torch.stack([self.spectra[row, length] for row in pair]) for pair in rows.tolist()])
        mixed = (sounds[:, :, None] * spectrum[:, :, :, None]).sum(dim=1)
        heard = torch.fft.irfft(mixed, size)[..., length - 1 :]
        joined = rearrange(heard, "chosen ear block sample -> chosen ear (block sample)")
        return joined[..., : self.window]

    def blocks(self, row: int, length: int, size: int) -> Complex[Tensor, "block bin"]:
        """Spectra of the overlapping blocks of a sound."""
        before, hop = length - 1, size - length + 1
        count = -(-self.window // hop)
        padded = torch.zeros(before + count * hop)
        sound = self.bank.sound(row)[: self.window]
        padded[before : before + len(sound)] = torch.from_numpy(sound)
        return torch.fft.rfft(padded.unfold(0, size, hop).to(self.device))

    def levels(self, slot: int, points: Float[np.ndarray, "point axis"]) -> Float[np.ndarray, " point"]:
        """Decibels at these places, of all sources that are on; 0 dB is direct sound at one metre."""
        energy = np.zeros(len(points))
        here, on = np.array([slot]), self.slots.heard[slot] & (self.ends[slot] == NEVER)
        for start in range(0, len(points), MAP_CHUNK):
            part = points[start : start + MAP_CHUNK]
            places = np.zeros((1, len(part), 5))
            places[0, :, : part.shape[1]] = part
            found = self.slots.responses(here, places, int(self.lengths[slot]))[0]
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
