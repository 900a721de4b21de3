"""Listeners in many rooms at once: which of their steps are free, and how far each has still to go.

The plans of paths.py side by side in arrays, filled up with sides of no length, which nothing crosses.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from sonarium.rooms.seek.paths import Plan, crosses, inside, tours, ways

TIE = 1e-6
"""Metres by which two ways may differ and be the same, of which then the one with the farther bend is told."""


class Walking:
    """One plan a slot. Arrays grow when a room comes that has more sides."""

    def __init__(self, slots: int, sources: int) -> None:
        self.slots, self.every_slot = slots, np.arange(slots)
        self.floor, self.barrier = np.zeros((slots, 3, 4)), np.zeros((slots, 3, 4))
        self.bends = np.zeros((slots, 0, 2))
        self.from_bends = np.zeros((slots, 0, sources))
        self.bent = np.zeros(slots, bool)
        self.sources = np.zeros((slots, sources, 2))
        self.tours = np.zeros((slots, sources, 2**sources))

    def enter(self, slot: int, plan: Plan, sources: Float[np.ndarray, "source 2"]) -> None:
        """A new room in this slot."""
        self.floor = with_sides(self.floor, slot, plan.corners)
        self.barrier = with_sides(self.barrier, slot, plan.barrier)
        bends = len(plan.bends)
        if bends > self.bends.shape[1]:
            more = ((0, 0), (0, bends - self.bends.shape[1]), (0, 0))
            self.bends = np.pad(self.bends, more)
            self.from_bends = np.pad(self.from_bends, more, constant_values=np.inf)
        lengths = ways(plan, sources)
        # Bends that are not there lie at no distance, from which no way leads on.
        self.bends[slot], self.from_bends[slot] = 0, np.inf
        self.bends[slot, :bends], self.from_bends[slot, :bends] = plan.bends, lengths[:bends]
        self.bent[slot] = bends > 0
        self.sources[slot], self.tours[slot] = sources, tours(lengths[bends:])

    def free(
        self, starts: Float[np.ndarray, "slot 2"], ends: Float[np.ndarray, "slot 2"]
    ) -> Bool[np.ndarray, " slot"]:
        """Whether the step of each slot stays in its plan."""
        allowed = inside(ends, self.floor[..., :2], self.floor[..., 2:])
        rows = np.flatnonzero(self.bent & allowed)
        if len(rows):
            barrier = self.barrier[rows]
            allowed[rows] = ~crosses(starts[rows], ends[rows], barrier[..., :2], barrier[..., 2:])
        return allowed

    def ahead(
        self, places: Float[np.ndarray, "row 2"], rows: Int[np.ndarray, " row"]
    ) -> tuple[Float[np.ndarray, "row source"], Float[np.ndarray, "row source 2"]]:
        """From places in some slots: the length of the shortest path to each source, and where it bends first,
        which is at the source itself where that is in sight."""
        waypoints = self.sources[rows]
        lengths = np.linalg.norm(waypoints - places[:, None], axis=-1)
        at = np.flatnonzero(self.bent[rows])
        if len(at):
            lengths[at], waypoints[at] = self.round_corners(places[at], rows[at], lengths[at])
        return lengths, waypoints

    def round_corners(
        self,
        places: Float[np.ndarray, "row 2"],
        rows: Int[np.ndarray, " row"],
        straight: Float[np.ndarray, "row source"],
    ) -> tuple[Float[np.ndarray, "row source"], Float[np.ndarray, "row source 2"]]:
        """The same in rooms that are not convex."""
        goals = np.concatenate([self.sources[rows], self.bends[rows]], axis=1)
        barrier = self.barrier[rows, None]
        starts = np.broadcast_to(places[:, None], goals.shape)
        hidden = crosses(starts, goals, barrier[..., :2], barrier[..., 2:])
        sources = straight.shape[1]
        to_bend = np.linalg.norm(self.bends[rows] - places[:, None], axis=-1)
        around = np.where(hidden[:, sources:], np.inf, to_bend)[..., None] + self.from_bends[rows]
        shortest = around.min(axis=1)
        # At a bend itself the way goes on to the next one.
        tied = np.where(around <= shortest[:, None] + TIE, to_bend[..., None], -1.0)
        by_bend = np.take_along_axis(goals[:, sources:], tied.argmax(axis=1)[..., None], axis=1)
        seen = ~hidden[:, :sources] | ~np.isfinite(shortest)
        lengths = np.where(seen, straight, shortest)
        return lengths, np.where(seen[..., None], goals[:, :sources], by_bend)

    def left(
        self,
        lengths: Float[np.ndarray, "row source"],
        on: Bool[np.ndarray, "row source"],
        rows: Int[np.ndarray, " row"],
    ) -> Float[np.ndarray, " row"]:
        """The length of the shortest path through all sources that are on; 0 where none is."""
        bits = 1 << np.arange(on.shape[1])
        rest = (on @ bits)[:, None] & ~bits
        through = np.where(on, lengths + self.tours[rows[:, None], np.arange(len(bits)), rest], np.inf)
        return np.where(on.any(axis=1), through.min(axis=1), 0.0)


def with_sides(
    sides: Float[np.ndarray, "slot side 4"], slot: int, corners: Float[np.ndarray, "corner 2"]
) -> np.ndarray:
    """The sides of a polygon put into their row, which the others follow in length."""
    if len(corners) > sides.shape[1]:
        sides = np.pad(sides, ((0, 0), (0, len(corners) - sides.shape[1]), (0, 0)))
    sides[slot, : len(corners)] = np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1)
    sides[slot, len(corners) :] = 0
    return sides
