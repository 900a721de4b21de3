"""Binaural rendering for moving listeners in many rooms in parallel.

There are two clocks. In `clip` mode every call renders each sound from its beginning to its end. In `stream` mode
every call renders the next window, sounds loop, and reverberation carries over. A step of the listener changes all
impulse responses at once; the old ones are cross-faded into the new ones over 8 ms to avoid clicks. While nothing
moves, the windows are exactly the segments of one long convolution.

Image sources are computed when a source is placed; a step costs beam tests, arrivals and a few Fourier transforms.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, get_args, no_type_check

import numpy as np
from jaxtyping import Bool, Float, Int

from sonarium.config import Range, check_number
from sonarium.cores import usable_cores
from sonarium.rooms.acoustics.absorption import check_bands
from sonarium.rooms.acoustics.arrivals import LEAD
from sonarium.rooms.acoustics.convolution import Convolver
from sonarium.rooms.acoustics.filterbank import audible_bands, half_length
from sonarium.rooms.acoustics.geometry import Room
from sonarium.rooms.acoustics.images import find_images
from sonarium.rooms.acoustics.jit import compiled
from sonarium.rooms.acoustics.limits import LONGEST_RESPONSE, MOST_IMAGES, check_length, checked_device
from sonarium.rooms.acoustics.slots import Slots
from sonarium.rooms.acoustics.soundbank import Bank

Clock = Literal["stream", "clip"]
Head = Literal["none", "sphere"]
FADE = 0.008
"""Duration in seconds of the cross-fade from the responses of the last step to those of this one."""
LENGTH_STEP = 128
"""Lengths of responses are multiples of this number of samples."""
MAP_CHUNK = 256
"""Number of points of a level map whose responses are computed at a time."""
NEVER = 2**62


class Acoustics:
    """Rooms with their sources, one room per slot, and a binaural listener in each."""

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
        most_images: int = MOST_IMAGES,
        longest_response: float = LONGEST_RESPONSE,
        apart: bool = False,
    ):
        for name, value in {"slots": slots, "sources": sources, "rate": rate, "window": window}.items():
            check_number(name, value, Range(1), whole=True)
        check_number("order", order, Range(0), whole=True)
        check_number("ear_distance", ear_distance, Range(0))
        if threads is not None:
            check_number("threads", threads, Range(1, 1024), whole=True)
        if clock not in get_args(Clock) or head not in get_args(Head):
            raise ValueError(f"got clock '{clock}' and head '{head}': choose stream or clip, and none or sphere")
        if head == "sphere" and not bands:
            bands = tuple(125.0 * 2**octave for octave in range(7))
        check_bands(tuple(bands))
        used = audible_bands(tuple(bands), rate)
        self.rate, self.window, self.order, self.clock = rate, window, order, clock
        self.slots, self.bank = Slots(slots, sources, order, rate, used), Bank(slots, sources)
        self.slots.head[:] = ear_distance / 2 if head == "sphere" else 0.0
        # With a head, an ear's signal is that at the centre of the head, delayed and shadowed.
        self.aside = 0.0 if head == "sphere" else ear_distance / 2
        self.fade = min(round(FADE * rate), window) if clock == "stream" else 0
        self.lead = LEAD + half_length(used, rate)
        self.most_images, self.longest_response = most_images, longest_response
        self.threads = threads or usable_cores()
        self.pool: tuple[int, ThreadPoolExecutor] | None = None
        """Id of the process that owns the threads, and the threads: a forked process has none of them."""
        self.convolver = Convolver(self.slots, self.bank, rate, window, self.fade, checked_device(device))
        self.images = np.zeros((slots, sources, 2, window), np.float32) if apart else None
        """Last output of `hear` for each source alone, with its reverberation; None without `apart`."""
        self.tails = [self.convolver.new_tails() for _ in range(sources if apart else 0)]
        """Cross-fade tails of each source alone; empty without `apart`."""
        self.time, self.ends = np.zeros(slots, np.int64), np.full((slots, sources), NEVER)
        self.lengths, self.dimensions = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
        self.rooms: dict[int, Room] = {}
        self.places: dict[tuple[int, int], Float[np.ndarray, " axis"]] = {}

    def enter(
        self,
        slot: int,
        room: Room,
        places: Float[np.ndarray, "source axis"],
        sounds: Sequence[Float[np.ndarray, " _"]],
        offsets: Int[np.ndarray, " source"] | None = None,
    ) -> None:
        """Put a new room into a slot, with all its sources on; its clock restarts.

        In stream mode a sound loops, starts at its offset, and has been playing forever."""
        if len(places) != self.slots.sources or len(sounds) != self.slots.sources:
            raise ValueError(
                f"got {len(places)} places and {len(sounds)} sounds: {self.slots.sources} of each are expected"
            )
        if not 0 <= slot < self.slots.count:
            raise ValueError(f"got slot {slot}: there are {self.slots.count}, counted from 0")
        if room.bands and audible_bands(room.bands, self.rate) != self.slots.bands:
            raise ValueError(f"got a room with bands {room.bands}: this listener has {self.slots.bands}")
        self.slots.enter(slot, room)
        self.rooms[slot] = room
        for source, place in enumerate(places):
            self.put(slot, source, place)
        self.resize(np.array([slot]))
        for source, sound in enumerate(sounds):
            filled = self.bank.play(slot, source, sound, 0 if offsets is None else int(offsets[source]))
            if filled is not None:
                self.convolver.forget(filled)
        self.time[slot], self.ends[slot], self.dimensions[slot] = 0, NEVER, room.dimension

    def move(self, slot: int, source: int, place: Float[np.ndarray, " axis"]) -> None:
        """Move a source; its past sound is rendered from the new position too."""
        self.trace(slot, source, place)
        self.resize(np.array([slot]))

    def trace(self, slot: int, source: int, place: Float[np.ndarray, " axis"]) -> None:
        """Recompute the images of a source; one that is off stays off."""
        heard = self.slots.heard[slot, source]
        self.put(slot, source, place)
        self.slots.heard[slot, source] = heard

    def follow(
        self, moving: Bool[np.ndarray, "slot source"], places: Float[np.ndarray, "slot source axis"]
    ) -> None:
        """Move many sources at once, among the first ones of each slot. In a rectangle the images of a source that
        keeps its height are shifted with it; elsewhere beams are retraced, one source after the other."""
        whole = self.slots.beams[:, : moving.shape[1]] == 2 * self.order * (self.order + 1) + 1
        boxes = np.array([room is not None and room.box for room in map(self.rooms.get, range(self.slots.count))])
        together = moving & boxes[:, None] & whole
        if places.shape[2] == 3:
            together &= self.slots.heights[:, : moving.shape[1], 0] == places[..., 2]
        for slot, source in np.argwhere(moving & ~together).tolist():
            self.trace(slot, source, places[slot, source])
        slot, source = np.nonzero(together)
        moved = places[slot, source]
        if len(slot):
            self.slots.shift(slot, source, moved[:, :2])
        for one, other, place in zip(slot.tolist(), source.tolist(), moved, strict=True):
            self.places[one, other] = place
        if moving.any():
            self.resize(np.flatnonzero(moving.any(1)))

    def put(self, slot: int, source: int, place: Float[np.ndarray, " axis"]) -> None:
        room = self.rooms[slot]
        images = find_images(room, place, self.order, most=self.most_images)
        self.slots.place(slot, source, images, room)
        self.places[slot, source] = place

    def resize(self, slots: Int[np.ndarray, " changed"]) -> None:
        """Update the response lengths of slots whose sources were placed, for the farthest image."""
        lengths = self.slots.lengths(slots)
        check_length(int(lengths.max()), self.rate, self.longest_response)
        # Rounded, so that rooms of similar size are convolved together; computed from this room alone, so that its
        # audio is bitwise independent of the other rooms.
        needed = lengths + 2 * (self.lead - LEAD)
        self.lengths[slots] = -(-needed // LENGTH_STEP) * LENGTH_STEP
        for slot in slots.tolist():
            self.convolver.changed(slot)

    def stop(self, slot: int, sources: slice, time: int) -> None:
        """Let sources fall silent at a sample of the stream; their reverberation decays."""
        assert self.clock == "stream", "a clip has no time"
        self.ends[slot, sources] = time

    def silence(self, sources: Bool[np.ndarray, "slot source"]) -> None:
        """Switch off many sources at once in clip mode."""
        self.slots.heard &= ~sources

    def switch_off(self, slot: int, source: int) -> None:
        """Switch off a source: at once in clip mode; in stream mode from now on, so that its reverberation
        decays."""
        if self.clock == "clip":
            self.slots.heard[slot, source] = False
        else:
            self.ends[slot, source] = min(self.ends[slot, source], self.time[slot])

    def hear(
        self,
        places: Float[np.ndarray, "chosen axis"],
        headings: Float[np.ndarray, " chosen"],
        slots: Int[np.ndarray, " chosen"] | None = None,
    ) -> Float[np.ndarray, "chosen 2 window"]:
        """The signals at the left and right ear, in all slots or in those chosen; time advances only there."""
        chosen = np.arange(self.slots.count) if slots is None else slots
        ears = place_ears(places, headings, chosen, self.dimensions, self.aside)
        if self.clock == "stream":
            # A source is over when its last sample is older than the longest response.
            self.slots.heard &= self.ends >= (self.time - self.lengths - self.fade)[:, None]
        heard = self.rendered(chosen, ears)
        if self.images is not None:
            self.images[chosen] = self.apart(chosen, ears)
        if self.clock == "stream":
            self.time[chosen] += self.window
        return heard

    def rendered(
        self, chosen: Int[np.ndarray, " chosen"], ears: Float[np.ndarray, "chosen 2 5"]
    ) -> Float[np.ndarray, "chosen 2 window"]:
        """The sum of the signals of all sources at both ears."""
        heard = np.empty((len(chosen), 2, self.window), np.float32)

        def work(rows):
            self.convolve(heard, rows, chosen[rows], ears[rows])

        jobs = self.jobs(self.lengths[chosen])
        if self.threads == 1 or self.convolver.alone or len(jobs) == 1:
            list(map(work, jobs))
        else:
            list(self.workers().map(work, jobs))
        return heard

    def apart(
        self, chosen: Int[np.ndarray, " chosen"], ears: Float[np.ndarray, "chosen 2 5"]
    ) -> Float[np.ndarray, "chosen source 2 window"]:
        """The signals of each source alone: all others are silent, and it has its own cross-fade tail."""
        heard, tails, found = self.slots.heard, self.convolver.tails, []
        try:
            for source, own in enumerate(self.tails):
                self.slots.heard = heard & (np.arange(self.slots.sources) == source)
                self.convolver.tails = own
                found.append(self.rendered(chosen, ears))
        finally:
            self.slots.heard, self.convolver.tails = heard, tails
        return np.stack(found, 1)

    def __getstate__(self) -> dict[str, Any]:
        # A copy starts its own threads.
        return vars(self) | {"pool": None}

    def workers(self) -> ThreadPoolExecutor:
        """The thread pool of this process, created on demand."""
        if self.pool is None or self.pool[0] != os.getpid():
            self.pool = os.getpid(), ThreadPoolExecutor(self.threads)
        return self.pool[1]

    def convolve(
        self,
        out: Float[np.ndarray, "chosen 2 window"],
        rows: Int[np.ndarray, " some"],
        slots: Int[np.ndarray, " some"],
        ears: Float[np.ndarray, "some 2 5"],
    ) -> None:
        """Render slots whose responses have the same length into rows `rows` of `out`."""
        length = int(self.lengths[slots[0]])
        if self.clock == "clip":
            self.convolver.clips(out, rows, slots, ears, length)
        else:
            out[rows] = self.convolver.stream(slots, ears, length, self.time[slots], self.ends[slots])

    def jobs(self, lengths: Int[np.ndarray, " chosen"]) -> list[Int[np.ndarray, " some"]]:
        """Rows of the rooms that are rendered together: as many at a time as fit into the cache, in equal parts
        for all threads. A single room takes less time than waking a thread."""
        found: list[Int[np.ndarray, " some"]] = []
        for length in set(lengths.tolist()):
            alike = np.flatnonzero(lengths == length)
            parts = -(-len(alike) // self.convolver.chunk(length))
            if len(alike) >= 2 * self.threads:
                parts = -(-parts // self.threads) * self.threads
            found += np.array_split(alike, parts) if parts > 1 else [alike]
        return found

    def levels(self, slot: int, points: Float[np.ndarray, "point axis"]) -> Float[np.ndarray, " point"]:
        """Level in dB of all sources that are on, at each point, relative to the direct sound of one at 1 m."""
        energy = np.zeros(len(points))
        here, on = np.array([slot]), self.slots.heard[slot] & (self.ends[slot] > self.time[slot])
        for start in range(0, len(points), MAP_CHUNK):
            part = points[start : start + MAP_CHUNK]
            places = np.zeros((1, len(part), 5))
            places[0, :, : part.shape[1]] = part
            found = self.slots.responses(here, places, int(self.lengths[slot]))[0]
            energy[start : start + len(part)] = np.square(found[on]).mean(axis=2).sum(axis=(0, 2))
        with np.errstate(divide="ignore"):
            return 10 * np.log10(energy)


def place_ears(
    places: Float[np.ndarray, "listener axis"],
    headings: Float[np.ndarray, " listener"],
    slots: Int[np.ndarray, " slot"],
    dimensions: Int[np.ndarray, " room"],
    aside: float,
) -> Float[np.ndarray, "listener 2 5"]:
    """Position (x, y, z) and outward direction (x, y) of the left and right ear, `aside` metres from the
    centre."""
    found = np.zeros((len(slots), 2, 5))
    middle, turn = np.asarray(places, np.float64), np.asarray(headings, np.float64)
    told = len(places) == len(headings) == len(slots)
    if not (told and lay(found, middle, turn, slots, dimensions, aside)):
        refuse(places, headings, slots, dimensions)
    return found


def refuse(places: np.ndarray, headings: np.ndarray, slots: np.ndarray, dimensions: np.ndarray) -> None:
    """Raise the ValueError that explains which pose is invalid."""
    empty = slots[dimensions[slots] == 0]
    if len(empty):
        raise ValueError(f"slot {empty[0]} has no room: enter one first")
    axes = int(dimensions[slots].max(initial=2))
    if len(places) != len(slots) or len(headings) != len(slots) or places.shape[1] < axes:
        raise ValueError(
            f"got places of shape {places.shape} and {len(headings)} headings for {len(slots)} slots: give each "
            f"slot {axes} coordinates and a heading"
        )
    raise ValueError("positions or headings hold NaN or infinite values: give metres and radians")


@compiled
@no_type_check
def lay(found, places, headings, slots, dimensions, aside):
    for number in range(len(slots)):
        dimension = dimensions[slots[number]]
        if dimension == 0 or dimension > places.shape[1]:
            return False
        left_x, left_y = -np.sin(headings[number]), np.cos(headings[number])
        for ear in range(2):
            side = 1.0 - 2.0 * ear
            here = found[number, ear]
            # A two-dimensional room has no heights.
            here[:dimension] = places[number, :dimension]
            here[0] += aside * side * left_x
            here[1] += aside * side * left_y
            here[3], here[4] = side * left_x, side * left_y
            if not np.isfinite(here).all():
                return False
    return True
