"""Free space and shortest paths.

The centre of the head keeps a margin from walls: it moves in the floor plan shrunk by that margin (a polygon
offset with mitred corners). Shortest paths in a polygon bend at reflex corners only (visibility graph,
Lozano-Pérez and Wesley, 1979), so paths between these corners and the sources are computed once per episode, and
the path from anywhere is the shortest of those that begin in line of sight.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sonarium.rooms.acoustics.geometry import Room, cross

SLACK = 1e-4
"""Tolerance in metres by which lines of sight may leave the free space, so that a path along its edge or round its
corner is not blocked."""
MOST_PLACES = 10**6
"""Maximum number of places searched for a path of steps, which takes seconds."""
TIE = 1e-6
"""Tolerance in metres for paths of equal length, of which the one with the farther bend is chosen."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The free space of the centre of the head, and the corners at which shortest paths bend."""

    corners: Float[np.ndarray, "corner 2"]
    """Corners of the free space, counter-clockwise."""
    barrier: Float[np.ndarray, "edge 2"]
    """The polygon that a step must not cross: the free space with a tolerance."""
    bends: Float[np.ndarray, "bend 2"]
    """Reflex corners of the free space; a convex room has none."""

    def holds(self, points: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
        """Whether points lie in the free space."""
        return inside(points, *edges(self.corners))

    def free(
        self, starts: Float[np.ndarray, "point 2"], ends: Float[np.ndarray, "point 2"]
    ) -> Bool[np.ndarray, " point"]:
        """Whether the segment between points of the free space stays in it."""
        if not len(self.bends):
            return np.ones(len(starts), bool)
        return ~crosses(starts, ends, *edges(self.barrier))


def plan_of(room: Room, margin: float) -> Plan:
    """The free space of a room; raises ValueError if a part of it is too narrow to walk through."""
    corners = shrunk(room.corners, margin)
    before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
    bends = corners[cross(before, after) < -1e-9]
    # In a convex plan every segment is free.
    barrier = shrunk(room.corners, margin - min(SLACK, margin / 2)) if len(bends) else corners
    return Plan(corners, barrier, bends)


def shrunk(corners: Float[np.ndarray, "corner 2"], margin: float) -> Float[np.ndarray, "smaller 2"]:
    """The polygon offset inward by `margin`; sides that vanish are removed."""
    along = np.roll(corners, -1, axis=0) - corners
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    inward = np.stack([-along[:, 1], along[:, 0]], axis=1)
    offset = (inward * corners).sum(axis=1)
    kept = np.arange(len(corners))
    while len(kept) >= 3:
        line, before = inward[kept], np.roll(kept, 1)
        straight = np.flatnonzero(np.abs(cross(inward[before], line)) < 1e-9)
        if len(straight):
            # Of two consecutive parallel walls, the one farther inside stays.
            first, second = before[straight[0]], kept[straight[0]]
            kept = kept[kept != (first if offset[first] < offset[second] else second)]
            continue
        found = meetings(line, offset[kept] + margin)
        smaller = side_lengths(found, along[kept])
        if (smaller > 1e-9).all():
            if not_nearer(found, corners, margin):
                return found
            break
        # The side that vanishes first is removed first; its neighbours then meet.
        lengths = side_lengths(meetings(line, offset[kept]), along[kept])
        rate = np.maximum(lengths - smaller, 1e-12) / margin
        kept = np.delete(kept, np.where(smaller > 1e-9, np.inf, lengths / rate).argmin())
    raise ValueError(
        f"a part of the room is narrower than {2 * margin:g} m, so that an agent that keeps {margin:g} m away "
        "from walls cannot pass: widen it, or reduce ear_distance"
    )


def meetings(line: Float[np.ndarray, "side 2"], offset: Float[np.ndarray, " side"]) -> Float[np.ndarray, "side 2"]:
    """The intersection of each line n · x = offset with the one before it."""
    before, before_offset = np.roll(line, 1, axis=0), np.roll(offset, 1)
    determinant = cross(before, line)
    x = (before_offset * line[:, 1] - offset * before[:, 1]) / determinant
    y = (before[:, 0] * offset - line[:, 0] * before_offset) / determinant
    return np.stack([x, y], axis=1)


def side_lengths(
    corners: Float[np.ndarray, "side 2"], along: Float[np.ndarray, "side 2"]
) -> Float[np.ndarray, " side"]:
    """Signed lengths: negative for a side that runs backwards."""
    return ((np.roll(corners, -1, axis=0) - corners) * along).sum(axis=1)


def not_nearer(
    smaller: Float[np.ndarray, "smaller 2"], corners: Float[np.ndarray, "corner 2"], margin: float
) -> bool:
    """Whether a polygon is simple, lies inside another, and keeps the margin from it."""
    wall, side = edges(corners), edges(smaller)
    if not inside(smaller, *wall).all() or crosses(*side, *side).any():
        return False
    gaps = to_edges(smaller, *wall).min(), to_edges(corners, *side).min()
    return bool(min(gaps) >= margin * (1 - 1e-9) - 1e-12)


def edges(
    corners: Float[np.ndarray, "corner 2"],
) -> tuple[Float[np.ndarray, "corner 2"], Float[np.ndarray, "..."]]:
    """Start and end points of the sides."""
    return corners, np.roll(corners, -1, axis=0)


def inside(
    points: Float[np.ndarray, "*slots 2"], start: Float[np.ndarray, "*rows 2"], end: Float[np.ndarray, "*rows 2"]
) -> Bool[np.ndarray, "*slots"]:
    """Whether each point lies in a polygon: one for all points, (edge 2), or one per point, (point edge 2)."""
    x, y = points[..., None, 0], points[..., None, 1]
    straddles = (start[..., 1] > y) != (end[..., 1] > y)
    turns = (end[..., 0] - start[..., 0]) * (y - start[..., 1]) - (x - start[..., 0]) * (
        end[..., 1] - start[..., 1]
    )
    # Left of a side that goes up is right of one that goes down.
    hit = straddles & ((turns > 0) == (end[..., 1] < start[..., 1]))
    return np.asarray(hit.sum(axis=-1) % 2 == 1)


def crosses(
    from_: Float[np.ndarray, "*slots 2"],
    to: Float[np.ndarray, "*slots 2"],
    start: Float[np.ndarray, "*rows 2"],
    end: Float[np.ndarray, "*rows 2"],
) -> Bool[np.ndarray, "*slots"]:
    """Whether each segment properly crosses any side: one set for all, (edge 2), or one each, (segment edge 2)."""
    px, py = from_[..., None, 0], from_[..., None, 1]
    wx, wy = to[..., None, 0] - px, to[..., None, 1] - py
    ax, ay = start[..., 0] - px, start[..., 1] - py
    bx, by = end[..., 0] - px, end[..., 1] - py
    # The ends of the side lie on opposite sides of the segment, and the ends of the segment on those of the side.
    one, other = wx * ay - wy * ax, wx * by - wy * bx
    area = ax * by - ay * bx
    apart = one * other < 0
    return np.asarray((apart & (area * (area + one - other) < 0)).any(axis=-1))


def to_edges(
    points: Float[np.ndarray, "point 2"], start: Float[np.ndarray, "edge 2"], end: Float[np.ndarray, "edge 2"]
) -> Float[np.ndarray, "point edge"]:
    along = end - start
    offset = points[:, None] - start
    fraction = np.clip((offset * along).sum(axis=-1) / (along * along).sum(axis=-1), 0, 1)
    return np.linalg.norm(offset - fraction[..., None] * along, axis=-1)


def ways(plan: Plan, sources: Float[np.ndarray, "source 2"]) -> Float[np.ndarray, "node source"]:
    """Lengths of the shortest paths from each bend, then from each source, to each source."""
    nodes = np.concatenate([plan.bends, sources])
    lengths = np.linalg.norm(nodes[:, None] - nodes, axis=-1)
    if len(plan.bends):
        starts, ends = np.broadcast_arrays(nodes[:, None], nodes[None])
        lengths = np.where(crosses(starts, ends, *edges(plan.barrier)), np.inf, lengths)
        for bend in range(len(plan.bends)):
            lengths = np.minimum(lengths, lengths[:, bend, None] + lengths[None, bend])
    return lengths[:, len(plan.bends) :]


def tours(between: Float[np.ndarray, "*rooms source source"]) -> Float[np.ndarray, "*rooms source subset"]:
    """Length of the shortest path from each source through every subset of the others (Held and Karp, 1962); a
    subset is a bit mask."""
    count = between.shape[-1]
    lengths = np.zeros((*between.shape[:-1], 2**count))
    for subset in range(1, 2**count):
        first = [source for source in range(count) if subset >> source & 1]
        rest = lengths[..., first, [subset & ~(1 << source) for source in first]]
        lengths[..., subset] = (between[..., first] + rest[..., None, :]).min(axis=-1)
    return lengths


def check_places(count: int) -> None:
    if count > MOST_PLACES:
        raise ValueError(
            f"more than {MOST_PLACES:,} places lie a step from each other in this room: lengthen the step, or use "
            "smaller rooms"
        )


def reached(
    plan: Plan, start: Float[np.ndarray, "2"], step: float, directions: Float[np.ndarray, " direction"]
) -> Float[np.ndarray, "point 2"]:
    """Points reachable by steps of one length in some directions, in radians. Points within a quarter of a step
    of each other are merged, which makes their number finite for any directions."""
    moves = step * np.stack([np.cos(directions), np.sin(directions)], axis=1)
    frontier, all_places = start[None], [start[None]]
    seen = {(0, 0)}
    while len(frontier):
        ends = (frontier[:, None] + moves).reshape(-1, 2)
        starts = np.repeat(frontier, len(moves), axis=0)
        cells = np.rint((ends - start) / (0.25 * step)).astype(int)
        free = plan.holds(ends) & plan.free(starts, ends)
        fresh = []
        for row in np.flatnonzero(free):
            cell = (int(cells[row, 0]), int(cells[row, 1]))
            if cell not in seen:
                seen.add(cell)
                fresh.append(row)
        check_places(len(seen))
        frontier = ends[fresh]
        all_places.append(frontier)
    return np.concatenate(all_places)


def grid_reached(
    plan: Plan, start: Float[np.ndarray, "2"], step: float, heading: float
) -> Float[np.ndarray, "point 2"]:
    """The same for steps in four directions at right angles: a connected component of a square grid."""
    axes = step * np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
    span = ((plan.corners - start) @ axes.T) / step**2
    low, high = np.floor(span.min(axis=0)).astype(int), np.ceil(span.max(axis=0)).astype(int)
    check_places(int(np.prod(high - low + 1.0)))
    columns, rows = np.meshgrid(*(np.arange(low[axis], high[axis] + 1) for axis in (0, 1)), indexing="ij")
    points = start + columns[..., None] * axes[0] + rows[..., None] * axes[1]
    # The start is on the grid, and may be on the edge of the free space.
    usable = plan.holds(points.reshape(-1, 2)).reshape(columns.shape)
    usable[-low[0], -low[1]] = True
    number = np.arange(columns.size).reshape(columns.shape)
    links = []
    for one, other in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        both = usable[one] & usable[other]
        starts, ends = points[one][both], points[other][both]
        links.append(np.stack([number[one][both], number[other][both]])[:, plan.free(starts, ends)])
    first, second = np.concatenate(links, axis=1)
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(columns.size, columns.size))
    part = connected_components(graph, directed=False)[1]
    return points.reshape(-1, 2)[part == part[number[-low[0], -low[1]]]]


class Walking:
    """Free space and shortest paths of many rooms, one per slot, in arrays padded with sides of length 0, which
    nothing crosses. Arrays grow on demand."""

    def __init__(self, slots: int, sources: int, moving: bool = False) -> None:
        self.slots, self.every_slot, self.moving = slots, np.arange(slots), moving
        self.between_bends = np.zeros((slots, 0, 0))
        self.floor, self.barrier = np.zeros((slots, 3, 4)), np.zeros((slots, 3, 4))
        self.bends = np.zeros((slots, 0, 2))
        self.from_bends = np.zeros((slots, 0, sources))
        self.bent = np.zeros(slots, bool)
        self.sources = np.zeros((slots, sources, 2))
        self.tours = np.zeros((slots, sources, 2**sources))

    def enter(self, slot: int, plan: Plan, sources: Float[np.ndarray, "source 2"]) -> None:
        """Put a new room into a slot."""
        self.floor = with_sides(self.floor, slot, plan.corners)
        self.barrier = with_sides(self.barrier, slot, plan.barrier)
        bends = len(plan.bends)
        if bends > self.bends.shape[1]:
            more = ((0, 0), (0, bends - self.bends.shape[1]), (0, 0))
            self.bends = np.pad(self.bends, more)
            self.from_bends = np.pad(self.from_bends, more, constant_values=np.inf)
            self.between_bends = np.pad(self.between_bends, (*more[:2], more[1]), constant_values=np.inf)
        lengths = ways(plan, sources)
        # Padded bends have infinite distances to every source.
        self.bends[slot], self.from_bends[slot] = 0, np.inf
        self.bends[slot, :bends], self.from_bends[slot, :bends] = plan.bends, lengths[:bends]
        self.between_bends[slot] = np.inf
        if self.moving and bends:
            self.between_bends[slot, :bends, :bends] = ways(plan, plan.bends)[:bends]
        self.bent[slot] = bends > 0
        self.sources[slot], self.tours[slot] = sources, tours(lengths[bends:])

    def move(self, sources: Float[np.ndarray, "slot source 2"]) -> None:
        """Update the source positions of all rooms, and the paths between them."""
        self.sources = sources
        between = np.linalg.norm(sources[:, :, None] - sources[:, None], axis=-1)
        rows = np.flatnonzero(self.bent)
        if len(rows):
            between[rows] = self.move_round_corners(rows, sources[rows], between[rows])
        self.tours = tours(between)

    def move_round_corners(
        self,
        rows: Int[np.ndarray, " row"],
        sources: Float[np.ndarray, "row source 2"],
        straight: Float[np.ndarray, "row source source"],
    ) -> Float[np.ndarray, "row source source"]:
        """Lengths of the shortest paths between sources in non-convex rooms; also updates those from bends."""
        bends, barrier = self.bends[rows], self.barrier[rows, None, None]
        goals = np.concatenate([sources, bends], axis=1)[:, None]
        starts, goals = np.broadcast_arrays(sources[:, :, None], goals)
        hidden = crosses(starts, goals, barrier[..., :2], barrier[..., 2:])
        count = sources.shape[1]
        to_bend = np.linalg.norm(starts[:, :, count:] - goals[:, :, count:], axis=-1)
        to_bend = np.where(hidden[:, :, count:], np.inf, to_bend)
        # From each bend to each source, via the last bend before it.
        from_bends = (self.between_bends[rows, :, None] + to_bend[:, None]).min(axis=-1)
        self.from_bends[rows] = from_bends
        around = (to_bend[..., None] + from_bends[:, None]).min(axis=2)
        return np.where(hidden[:, :, :count] & np.isfinite(around), around, straight)

    def free(
        self, starts: Float[np.ndarray, "slot 2"], ends: Float[np.ndarray, "slot 2"]
    ) -> Bool[np.ndarray, " slot"]:
        """Whether the step of each slot stays in its free space."""
        allowed = inside(ends, self.floor[..., :2], self.floor[..., 2:])
        rows = np.flatnonzero(self.bent & allowed)
        if len(rows):
            barrier = self.barrier[rows]
            allowed[rows] = ~crosses(starts[rows], ends[rows], barrier[..., :2], barrier[..., 2:])
        return allowed

    def ahead(
        self, places: Float[np.ndarray, "row 2"], rows: Int[np.ndarray, " row"]
    ) -> tuple[Float[np.ndarray, "row source"], Float[np.ndarray, "row source 2"]]:
        """From points in some slots: length of the shortest path to each source, and its first waypoint, which
        is the source itself if it is in line of sight."""
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
        """`ahead` in non-convex rooms."""
        goals = np.concatenate([self.sources[rows], self.bends[rows]], axis=1)
        barrier = self.barrier[rows, None]
        starts = np.broadcast_to(places[:, None], goals.shape)
        hidden = crosses(starts, goals, barrier[..., :2], barrier[..., 2:])
        sources = straight.shape[1]
        to_bend = np.linalg.norm(self.bends[rows] - places[:, None], axis=-1)
        around = np.where(hidden[:, sources:], np.inf, to_bend)[..., None] + self.from_bends[rows]
        shortest = around.min(axis=1)
        # At a bend itself the path continues to the next one.
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
        """Length of the shortest path through all sources that are on; 0 where none is."""
        bits = 1 << np.arange(on.shape[1])
        rest = (on @ bits)[:, None] & ~bits
        through = np.where(on, lengths + self.tours[rows[:, None], np.arange(len(bits)), rest], np.inf)
        return np.where(on.any(axis=1), through.min(axis=1), 0.0)


def with_sides(
    sides: Float[np.ndarray, "slot side 4"], slot: int, corners: Float[np.ndarray, "corner 2"]
) -> np.ndarray:
    """Write the sides of a polygon into their row, extending all rows on demand."""
    if len(corners) > sides.shape[1]:
        sides = np.pad(sides, ((0, 0), (0, len(corners) - sides.shape[1]), (0, 0)))
    sides[slot, : len(corners)] = np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1)
    sides[slot, len(corners) :] = 0
    return sides
