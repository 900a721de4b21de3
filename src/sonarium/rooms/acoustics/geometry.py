"""Room geometry: a polygonal floor plan, two-dimensional or with a height, and the absorption of each wall.

Lengths are in metres; x points right, y up; corners are in counter-clockwise order, so that the inside is on the
left of every wall. Wall i runs from corner i to corner i + 1; in a room with a height, floor and ceiling come
last.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float

from sonarium.config import Range, check_number
from sonarium.rooms.acoustics.absorption import OCTAVES, Absorption, Air, per_wall
from sonarium.rooms.acoustics.jit import compiled
from sonarium.rooms.acoustics.limits import MOST_CORNERS

SPEED = 343.0
"""Speed of sound in m/s in air at about 20 °C."""
THINNEST = 1e-6
"""Tolerance in metres: points nearer than this coincide."""


@dataclass(frozen=True, eq=False)
class Room:
    """A room; created by `shoebox`, `regular` or `polygon`, which check their arguments."""

    corners: Float[np.ndarray, "corner 2"]
    height: float | None
    """Height in metres; None for a two-dimensional room, with the 1/distance law of three dimensions."""
    absorption: Float[np.ndarray, "wall band"]
    """Energy absorption coefficients."""
    bands: tuple[float, ...] = ()
    """Centre frequencies of the octave bands in Hz; empty for frequency-independent absorption."""
    air: Air | None = None
    """Air absorption; None for walls only."""
    speed: float = SPEED
    next_corners: Float[np.ndarray, "corner 2"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "next_corners", np.roll(self.corners, -1, axis=0))
        for array in (self.corners, self.next_corners, self.absorption):
            array.flags.writeable = False

    @property
    def dimension(self) -> int:
        return 2 if self.height is None else 3

    @property
    def walls(self) -> int:
        return len(self.absorption)

    @property
    def area(self) -> float:
        """Floor area."""
        return signed_area(self.corners)

    @property
    def perimeter(self) -> float:
        return float(np.linalg.norm(self.next_corners - self.corners, axis=1).sum())

    @cached_property
    def bounds(self) -> tuple[Float[np.ndarray, " axis"], Float[np.ndarray, " axis"]]:
        low, high = self.corners.min(axis=0), self.corners.max(axis=0)
        if self.height is None:
            return low, high
        return np.append(low, 0.0), np.append(high, self.height)

    @cached_property
    def convex(self) -> bool:
        along = self.next_corners - self.corners
        return bool((cross(along, np.roll(along, -1, axis=0)) >= -THINNEST).all())

    @cached_property
    def box(self) -> bool:
        """Whether the floor plan is an axis-aligned rectangle whose first corner is the lower left."""
        (left, low), (right, high) = self.corners.min(axis=0), self.corners.max(axis=0)
        rectangle = np.array([[left, low], [right, low], [right, high], [left, high]])
        return self.corners.shape == (4, 2) and bool((self.corners == rectangle).all())

    @cached_property
    def gains(self) -> Float[np.ndarray, "wall band"]:
        """Pressure reflection coefficients."""
        return np.sqrt(1 - self.absorption)

    @property
    def air_absorption(self) -> Float[np.ndarray, " band"]:
        """Air attenuation of sound pressure in nepers per metre."""
        if self.air is None:
            return np.zeros(self.absorption.shape[1])
        return self.air.absorption(np.array(self.bands))

    def inside(self, points: Float[np.ndarray, "point axis"]) -> Bool[np.ndarray, " point"]:
        """Whether points lie inside the room; a point on a wall does not."""
        odd, distance = surrounded(np.asarray(points, np.float64), self.corners, self.next_corners)
        within: Bool[np.ndarray, " point"] = np.logical_and(odd, distance > THINNEST)
        if self.height is not None:
            within &= (points[:, 2] > THINNEST) & (points[:, 2] < self.height - THINNEST)
        return within

    def clearance(self, points: Float[np.ndarray, "point axis"]) -> Float[np.ndarray, " point"]:
        """Signed distance to the nearest wall of the floor plan, negative outside."""
        odd, distance = surrounded(np.asarray(points, np.float64), self.corners, self.next_corners)
        return np.where(odd & (distance > THINNEST), 1, -1) * distance

    def in_sight(
        self, start: Float[np.ndarray, "point 2"], end: Float[np.ndarray, "point 2"]
    ) -> Bool[np.ndarray, " point"]:
        """Line of sight: whether no wall of the floor plan lies between start and end."""
        if self.convex:
            return np.ones(len(start), bool)
        along, wall = (end - start)[:, None], (self.next_corners - self.corners)[None]
        to_wall = self.corners[None] - start[:, None]
        slope = cross(along, wall)
        parallel = np.abs(slope) < 1e-12
        slope = np.where(parallel, 1.0, slope)
        on_sight, on_wall = cross(to_wall, wall) / slope, cross(to_wall, along) / slope
        hit = (on_sight > 0) & (on_sight < 1) & (on_wall >= 0) & (on_wall <= 1) & ~parallel
        return np.logical_not(hit.any(axis=1))


@compiled
@no_type_check
def surrounded(points, starts, ends):
    """Whether a ray from each point crosses an odd number of walls, and the distance to the nearest wall."""
    odd, nearest = np.zeros(len(points), np.bool_), np.full(len(points), np.inf)
    for number in range(len(points)):
        x, y = points[number, 0], points[number, 1]
        for wall in range(len(starts)):
            start_x, start_y = starts[wall, 0], starts[wall, 1]
            along_x, along_y = ends[wall, 0] - start_x, ends[wall, 1] - start_y
            beside_x, beside_y = x - start_x, y - start_y
            if (start_y > y) != (ends[wall, 1] > y) and x < start_x + beside_y / along_y * along_x:
                odd[number] = not odd[number]
            fraction = (beside_x * along_x + beside_y * along_y) / (along_x * along_x + along_y * along_y)
            fraction = min(max(fraction, 0.0), 1.0)
            apart_x, apart_y = beside_x - fraction * along_x, beside_y - fraction * along_y
            nearest[number] = min(nearest[number], np.sqrt(apart_x * apart_x + apart_y * apart_y))
    return odd, nearest


def shoebox(
    size: Sequence[float],
    absorption: Absorption = 0.2,
    bands: Sequence[float] = (),
    air: Air | None = None,
    speed: float = SPEED,
) -> Room:
    """A rectangle (x, y) or a cuboid (x, y, z) with a corner at the origin; walls south, east, north, west."""
    if len(size) not in (2, 3) or not np.isfinite(size).all() or min(size) <= 0:
        raise ValueError(f"got size {tuple(size)}: give two or three positive lengths in metres")
    x, y = float(size[0]), float(size[1])
    height = float(size[2]) if len(size) == 3 else None
    return polygon([(0, 0), (x, 0), (x, y), (0, y)], height, absorption, bands, air, speed)


def regular(
    sides: int,
    radius: float,
    height: float | None = None,
    absorption: Absorption = 0.2,
    bands: Sequence[float] = (),
    air: Air | None = None,
    speed: float = SPEED,
) -> Room:
    """A regular polygon with circumradius `radius`, centred at (radius, radius), its first corner on the right."""
    check_number("sides", sides, Range(3, MOST_CORNERS), whole=True)
    check_number("radius", radius, Range(0, above=True))
    angle = 2 * np.pi * np.arange(sides) / sides
    corners = radius + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return polygon(corners, height, absorption, bands, air, speed)


def polygon(
    corners: Sequence[Sequence[float]] | Float[np.ndarray, "corner 2"],
    height: float | None = None,
    absorption: Absorption = 0.2,
    bands: Sequence[float] = (),
    air: Air | None = None,
    speed: float = SPEED,
) -> Room:
    """A room over any simple polygon. Clockwise corners are reversed, with their walls."""
    plan = np.array(corners, np.float64)
    check_plan(plan)
    if height is not None and not (np.isfinite(height) and height > 0):
        raise ValueError(f"got height {height}: give metres, or None for a two-dimensional room")
    if not (np.isfinite(speed) and speed > 0):
        raise ValueError(f"got speed {speed}: give the speed of sound in metres a second, about 343")
    if air is not None and not bands:
        bands = OCTAVES
    walls = len(plan) + (0 if height is None else 2)
    coefficients = per_wall(absorption, walls, tuple(bands))
    if signed_area(plan) < 0:
        plan = plan[::-1].copy()
        # Reversing the corners reverses the order of the walls of the plan, except for the last.
        turned = np.r_[np.arange(len(plan) - 2, -1, -1), len(plan) - 1, np.arange(len(plan), walls)]
        coefficients = coefficients[turned]
    return Room(plan, height, coefficients, tuple(map(float, bands)), air, float(speed))


def check_plan(plan: Float[np.ndarray, "..."]) -> None:
    """Raise ValueError unless the floor plan is a simple polygon."""
    if plan.ndim != 2 or plan.shape[1] != 2 or len(plan) < 3:
        raise ValueError(f"got corners of shape {plan.shape}: give at least 3 corners (x, y)")
    if len(plan) > MOST_CORNERS:
        raise ValueError(f"got {len(plan)} corners: give at most {MOST_CORNERS}, as of a simpler floor plan")
    if not np.isfinite(plan).all():
        raise ValueError("the corners hold NaN or infinite values: give metres")
    following = np.roll(plan, -1, axis=0)
    lengths = np.linalg.norm(following - plan, axis=1)
    if lengths.min() < THINNEST:
        at = int(lengths.argmin())
        raise ValueError(f"corners {at} and {(at + 1) % len(plan)} are the same point: leave one out")
    size = float(np.ptp(plan, axis=0).max())
    if np.linalg.svd(plan - plan.mean(axis=0), compute_uv=False)[1] < THINNEST * size:
        raise ValueError("the corners enclose no area: they lie on a line")
    check_walls(plan, following)


def check_walls(plan: Float[np.ndarray, "corner 2"], following: Float[np.ndarray, "corner 2"]) -> None:
    """Raise ValueError if walls meet anywhere but at the corner between neighbours."""
    count = len(plan)
    before, after = np.roll(plan, 1, axis=0) - plan, following - plan
    flat = np.abs(cross(before, after)) < THINNEST * np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    # Neighbours touch only if one folds back onto the other.
    folded = flat & ((before * after).sum(axis=1) > 0)
    pairs = [(int(corner - 1) % count, int(corner)) for corner in np.flatnonzero(folded)]
    first, second = np.triu_indices(count, 2)
    apart = (first > 0) | (second < count - 1)
    first, second = first[apart], second[apart]
    near = segment_distance(plan[first], following[first], plan[second], following[second]) < THINNEST
    pairs += zip(first[near].tolist(), second[near].tolist(), strict=True)
    if pairs:
        one, other = sorted(pairs[0])
        raise ValueError(f"walls {one} and {other} cross or touch: give the corners in their order round the room")


def segment_distance(
    a: Float[np.ndarray, "pair 2"],
    b: Float[np.ndarray, "pair 2"],
    c: Float[np.ndarray, "pair 2"],
    d: Float[np.ndarray, "pair 2"],
) -> Float[np.ndarray, " pair"]:
    """Distance between the segments a–b and c–d of each pair."""
    apart = [cross(b - a, c - a) * cross(b - a, d - a), cross(d - c, a - c) * cross(d - c, b - c)]
    ends = [to_segment(*three) for three in ((a, c, d), (b, c, d), (c, a, b), (d, a, b))]
    return np.where(np.maximum(*apart) < 0, 0.0, np.min(ends, axis=0))


def to_segment(
    point: Float[np.ndarray, "pair 2"], start: Float[np.ndarray, "pair 2"], end: Float[np.ndarray, "pair 2"]
) -> Float[np.ndarray, " pair"]:
    along = end - start
    fraction = np.clip(((point - start) * along).sum(axis=1) / (along * along).sum(axis=1), 0, 1)
    return np.linalg.norm(point - start - fraction[:, None] * along, axis=1)


def signed_area(plan: Float[np.ndarray, "corner 2"]) -> float:
    """Positive if the corners are in counter-clockwise order."""
    return 0.5 * float(cross(plan, np.roll(plan, -1, axis=0)).sum())


def cross(left: Float[np.ndarray, "*rows 2"], right: Float[np.ndarray, "*others 2"]) -> Float[np.ndarray, "..."]:
    """The z component of the cross product; rows are broadcast."""
    return np.asarray(left[..., 0] * right[..., 1] - left[..., 1] * right[..., 0])
