"""The image sources of many rooms in arrays, one slot per room, so that one compiled loop renders them all."""

import threading
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from sonarium.rooms.acoustics.arrivals import HALF, TAPS, respond, sinc_table
from sonarium.rooms.acoustics.geometry import Room
from sonarium.rooms.acoustics.images import Images, lattice, mirrored


class PerThread(threading.local):
    """Thread-local values; a copy starts empty."""

    def __reduce__(self) -> tuple[type["PerThread"], tuple[()]]:
        return PerThread, ()


@dataclass
class Slots:
    """Images of all sources of all rooms. Arrays grow on demand."""

    count: int
    sources: int
    order: int
    rate: int
    bands: tuple[float, ...]
    """Centre frequencies of the octave bands; () for frequency-independent gains."""
    dtype: type = np.float32
    """Data type of the responses."""
    columns: int = field(init=False)

    def __post_init__(self) -> None:
        self.columns = max(1, len(self.bands))
        both = (self.count, self.sources)
        self.apex, self.lines = np.zeros((*both, 1, 2)), np.zeros((*both, 6, 1), self.dtype)
        self.links = np.zeros((*both, 1, 3), np.int32)
        self.gain = np.zeros((*both, 1, self.columns))
        self.beams = np.zeros(both, np.int64)
        self.heights, self.height_gain = np.zeros((*both, 1)), np.ones((*both, 1, self.columns))
        self.corners = np.zeros((self.count, 3, 4))
        self.walls, self.convex = np.zeros(self.count, np.int64), np.ones(self.count, bool)
        self.air, self.speed = np.zeros((self.count, self.columns)), np.ones(self.count)
        self.tops = np.zeros(self.count)
        """Heights of the rooms; 0 for two-dimensional ones."""
        self.head = np.zeros(self.count)
        self.heard = np.zeros(both, bool)
        self.reach = np.zeros(both)
        self.taps = sinc_table(self.dtype)
        self.own = PerThread()
        self.centres = np.array(self.bands or (1000.0,))

    def enter(self, slot: int, room: Room) -> None:
        """Put a room into a slot; its sources are placed afterwards."""
        walls = np.concatenate([room.corners, room.next_corners], axis=1)
        self.corners = at_least(self.corners, 1, len(walls))
        self.corners[slot, : len(walls)] = walls
        self.walls[slot], self.convex[slot] = len(walls), room.convex
        # Bands above half the rate have no columns.
        self.tops[slot] = room.height or 0.0
        self.air[slot], self.speed[slot] = room.air_absorption[: self.columns], room.speed

    def place(self, slot: int, source: int, images: Images, room: Room) -> None:
        """Place the images of one source."""
        beams, levels = len(images.apex), len(images.heights)
        self.lines = at_least(self.lines, 3, beams)
        for name in ("apex", "links", "gain"):
            setattr(self, name, at_least(getattr(self, name), 2, beams))
        for name in ("heights", "height_gain"):
            setattr(self, name, at_least(getattr(self, name), 2, levels))
        here = (slot, source, slice(beams))
        self.apex[here], self.links[here] = images.apex, images.links
        self.gain[here] = images.gain[:, : self.columns]
        self.lines[slot, source, :, :beams] = images.lines()
        self.beams[slot, source] = beams
        self.heights[slot, source, :levels] = images.heights
        self.height_gain[slot, source, :levels] = images.height_gain[:, : self.columns]
        # A two-dimensional room may follow one with a height in this slot.
        self.height_gain[slot, source, levels:] = 0
        self.heard[slot, source] = True
        self.reach[slot, source] = images.reach(room) / room.speed

    def shift(
        self,
        slot: Int[np.ndarray, " moved"],
        source: Int[np.ndarray, " moved"],
        place: Float[np.ndarray, "moved 2"],
    ) -> None:
        """Move sources in rectangular floor plans with a complete lattice of images, with the arithmetic of
        `box_lattice` and `Images.reach`."""
        (across, up), depth = lattice(self.order)
        low, high = self.corners[slot, 0, :2], self.corners[slot, 2, :2]
        apex = np.stack(
            [
                mirrored(number, low[:, axis, None], high[:, axis, None], place[:, axis, None])[0]
                for axis, number in enumerate((across, up))
            ],
            axis=-1,
        )
        self.apex[slot, source, : len(across)] = apex
        plan = np.maximum(np.abs(apex - low[:, None]), np.abs(apex - high[:, None]))
        tall = self.tops[slot] > 0
        reach = np.hypot(plan[..., 0], plan[..., 1]).max(axis=1)
        if tall.any():
            slots, sources = slot[tall], source[tall]
            heights, top = self.heights[slots, sources, : 2 * self.order + 1], self.tops[slots, None]
            farthest = np.maximum.accumulate(np.maximum(np.abs(heights), np.abs(heights - top)), axis=1)
            tallest = farthest[:, 2 * (self.order - depth)]
            x, y = plan[tall, :, 0], plan[tall, :, 1]
            reach[tall] = np.sqrt(x**2 + y**2 + tallest**2).max(axis=1)
        self.reach[slot, source] = reach / self.speed[slot]

    def length(self, slot: int) -> int:
        """Length in samples of a response that holds the farthest image in this slot."""
        return int(self.lengths(np.array([slot]))[0])

    def lengths(self, slots: Int[np.ndarray, " slot"]) -> Int[np.ndarray, " slot"]:
        """The same for several slots."""
        return np.ceil(self.reach[slots].max(axis=1) * self.rate).astype(np.int64) + TAPS + HALF

    def responses(
        self, chosen: Int[np.ndarray, " chosen"], ears: Float[np.ndarray, "chosen ear 5"], length: int
    ) -> Float[np.ndarray, "chosen source ear band {length}"]:
        """Impulse responses in some slots. An ear is a position (x, y, z) and an outward direction (x, y)."""
        shape = (len(chosen), self.sources, ears.shape[1], self.columns, length)
        out = self.space(shape)
        respond(
            out, chosen, ears, self.apex, self.lines, self.links, self.gain, self.beams, self.heights,
            self.height_gain, self.order, self.corners, self.walls, self.convex, self.air, self.speed, self.rate,
            self.heard, self.head, self.centres, self.taps,
        )  # fmt: skip
        return out

    def space(self, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
        """A buffer for responses, reused by each thread: allocation costs more than the computation."""
        size = int(np.prod(shape))
        if getattr(self.own, "buffer", np.empty(0)).size < size:
            self.own.buffer = np.empty(size, self.dtype)
        return self.own.buffer[:size].reshape(shape)


def at_least(array: np.ndarray, axis: int, size: int) -> np.ndarray:
    """The array, extended along an axis to at least this size, with headroom."""
    if array.shape[axis] >= size:
        return array
    shape = list(array.shape)
    shape[axis] = size if shape[axis] <= 3 else size + size // 4
    grown = np.zeros(shape, array.dtype)
    grown[tuple(slice(length) for length in array.shape)] = array
    return grown
