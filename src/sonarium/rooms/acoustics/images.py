"""Image-source method with beam tracing (Allen & Berkley, 1979; Borish, 1984).

A specular reflection arrives from the mirror image of the source behind the wall. In the floor plan an image and
the part of the last wall through which it is visible span a beam; the image is audible to a listener in the
beam, a test of two cross products. Beams are clipped to the walls they reach as they are traced, which prunes
nearly all inaudible images; in a convex room the test is exact, in others the path back to the source is also
tested for obstruction. Images do not depend on the listener: they are computed once per source.

In a room with a height, the images of the floor plan are combined with those of floor and ceiling, which are
audible in the same beams.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float, Int

from sonarium.config import Range, check_number
from sonarium.rooms.acoustics.geometry import Room
from sonarium.rooms.acoustics.jit import compiled
from sonarium.rooms.acoustics.limits import MOST_IMAGES, check_images

EVERYWHERE = -1
"""Wall number of a beam without edges, which is audible everywhere."""
ASIDE = 1e-9
"""Distance in metres from the ray in which two beams meet to where they are divided."""
NARROWEST = 1e-9
"""Fraction of a wall below which a beam that falls on it is discarded."""
ENDS = 1e-9
"""Tolerance at both ends of a path segment, as a fraction of its length: segments begin and end on walls."""


@dataclass(frozen=True, eq=False)
class Images:
    """All image sources of one source up to an order. Beams are sorted by order; the first is the direct sound."""

    apex: Float[np.ndarray, "beam 2"]
    """Positions of the images in the floor plan."""
    edges: Float[np.ndarray, "beam 4"]
    """The part of the wall that a beam passes: x and y of its right end, then of the left, as seen from the
    image."""
    links: Int[np.ndarray, "beam 3"]
    """Last wall (`EVERYWHERE` for direct sound and in the lattice of a box), parent beam that was reflected (−1
    likewise), and reflection order in the floor plan."""
    gain: Float[np.ndarray, "beam band"]
    """Product of the walls' pressure reflection coefficients."""
    heights: Float[np.ndarray, " level"]
    """Heights of the images of floor and ceiling by order: one of order 0, two of every higher order."""
    height_gain: Float[np.ndarray, "level band"]
    order: int

    @property
    def wall(self) -> Int[np.ndarray, " beam"]:
        return self.links[:, 0]

    @property
    def parent(self) -> Int[np.ndarray, " beam"]:
        return self.links[:, 1]

    @property
    def depth(self) -> Int[np.ndarray, " beam"]:
        return self.links[:, 2]

    def levels(self) -> Int[np.ndarray, " beam"]:
        """Number of heights of each beam, so that no image exceeds the order."""
        if len(self.heights) == 1:
            return np.ones(len(self.depth), np.int64)
        return 1 + 2 * (self.order - self.depth.astype(np.int64))

    def lines(self) -> Float[np.ndarray, "6 beam"]:
        """The two edges of each beam as lines: a x + b y + c is non-negative for a point between them."""
        return edge_lines(self.apex, self.edges, self.links)

    def reach(self, room: Room) -> float:
        """Maximum distance in metres between an image and any point of the room."""
        low, high = room.bounds
        plan = np.maximum(np.abs(self.apex - low[:2]), np.abs(self.apex - high[:2]))
        if room.height is None:
            return float(np.hypot(plan[:, 0], plan[:, 1]).max())
        tall = np.maximum(np.abs(self.heights), np.abs(self.heights - room.height))
        # A beam has the first levels of the list: the running maximum gives its farthest level.
        tallest = np.maximum.accumulate(tall)[self.levels() - 1]
        return float(np.sqrt(plan[:, 0] ** 2 + plan[:, 1] ** 2 + tallest**2).max())


def find_images(
    room: Room,
    source: Float[np.ndarray, " axis"],
    order: int,
    lattice: bool | None = None,
    most: int = MOST_IMAGES,
) -> Images:
    """The images of a source; ValueError for more than `most`. `lattice=False` traces beams in a rectangle too."""
    if len(source) != room.dimension:
        raise ValueError(f"got a source with {len(source)} coordinates in a room of {room.dimension} dimensions")
    if not room.inside(source[None])[0]:
        raise ValueError(
            f"the source at {np.round(source, 3).tolist()} is not inside the room: move it off the walls"
        )
    check_number("order", order, Range(0), whole=True)
    order = int(order)
    plan_gains = room.gains[: len(room.corners)]
    if room.box and lattice is not False:
        check_images(2 * order * (order + 1) + 1, order, most)
        plan = box_lattice(room, source[:2], order)
    else:
        plan = grow(room.corners, room.next_corners, plan_gains, source[:2], order, most)
    check_images(max(len(plan[0]), 0 if room.height is None else 2 * order + 1), order, most)
    heights, height_gain = storeys(room, source, order)
    images = Images(*plan, heights=heights, height_gain=height_gain, order=order)
    check_images(int(images.levels().sum()), order, most)
    return images


def storeys(
    room: Room, source: Float[np.ndarray, " axis"], order: int
) -> tuple[Float[np.ndarray, " level"], Float[np.ndarray, "level band"]]:
    """Heights and gains of the images of floor and ceiling."""
    bands = room.absorption.shape[1]
    if room.height is None:
        return np.zeros(1), np.ones((1, bands))
    floor, ceiling = room.gains[-2:]
    count = [0, *(sign * number for number in range(1, order + 1) for sign in (-1, 1))]
    positions, low, high = mirrored(np.array(count), 0.0, room.height, float(source[2]))
    return positions, floor ** low[:, None] * ceiling ** high[:, None]


def mirrored(
    number: Int[np.ndarray, " image"],
    low: float | Float[np.ndarray, "source 1"],
    high: float | Float[np.ndarray, "source 1"],
    source: float | Float[np.ndarray, "source 1"],
) -> tuple[Float[np.ndarray, "*sources image"], Int[np.ndarray, " image"], Int[np.ndarray, " image"]]:
    """Images between two parallel walls by signed number: their positions, and the number of reflections at the
    low and at the high wall. Positive numbers lie beyond the high wall. One source, or one per row."""
    span = high - low
    even = number % 2 == 0
    positions = low + number * span + np.where(even, source - low, high - source)
    more, fewer = (np.abs(number) + 1) // 2, np.abs(number) // 2
    return positions, np.where(number > 0, fewer, more), np.where(number > 0, more, fewer)


@lru_cache(8)
def lattice(
    order: int,
) -> tuple[tuple[Int[np.ndarray, " beam"], Int[np.ndarray, " beam"]], Int[np.ndarray, " beam"]]:
    """Signed numbers of reflections along x and y of each image up to an order, and its order, sorted by order."""
    number = np.arange(-order, order + 1)
    across, up = (axis.ravel() for axis in np.meshgrid(number, number))
    depth = np.abs(across) + np.abs(up)
    chosen = np.argsort(depth, kind="stable")[: np.sum(depth <= order)]
    return (across[chosen], up[chosen]), depth[chosen]


def box_lattice(
    room: Room, source: Float[np.ndarray, "2"], order: int
) -> tuple[
    Float[np.ndarray, "beam 2"],
    Float[np.ndarray, "beam 4"],
    Int[np.ndarray, "beam 3"],
    Float[np.ndarray, "beam band"],
]:
    """The images of a rectangular floor plan: a lattice of images that are audible everywhere."""
    (across, up), depth = lattice(order)
    (left, bottom), (right, top) = room.corners[0], room.corners[2]
    x, west, east = mirrored(across, float(left), float(right), float(source[0]))
    y, south, north = mirrored(up, float(bottom), float(top), float(source[1]))
    gains = room.gains
    gain = np.ones((len(depth), gains.shape[1]))
    for wall, times in enumerate((south, east, north, west)):
        gain *= gains[wall] ** times[:, None]
    heard = gain.max(axis=1) > 0
    apex, links = np.stack([x, y], axis=1)[heard], np.full((heard.sum(), 3), EVERYWHERE, np.int32)
    links[:, 2] = depth[heard]
    return apex, np.zeros((len(apex), 4)), links, gain[heard]


def audible(
    room: Room, images: Images, listeners: Float[np.ndarray, "listener axis"]
) -> Bool[np.ndarray, "listener beam"]:
    """Which beams are audible to each listener."""
    found = np.empty((len(listeners), len(images.apex)), bool)
    heard(found, images.apex, images.edges, images.links, room.corners, room.next_corners, room.convex, listeners)
    return found


@compiled
@no_type_check
def lit(corner, far_corner, apex, edges, wall, wall_start, wall_end):
    """The interval of a wall, as fractions of its length, that a beam through another wall illuminates."""
    first, last = 0.0, 1.0
    along_x, along_y = far_corner[0] - corner[0], far_corner[1] - corner[1]
    # The apex must be on the inner side; otherwise the beam hits the wall from behind.
    if along_x * (apex[1] - corner[1]) - along_y * (apex[0] - corner[0]) <= 0.0:
        return 1.0, 0.0
    if wall < 0:
        return first, last
    for side in range(3):
        # Each side of the beam is a line; the cross product that must be positive is linear along the wall.
        if side == 0:
            x, y, toward_x, toward_y = apex[0], apex[1], edges[0] - apex[0], edges[1] - apex[1]
        elif side == 1:
            x, y, toward_x, toward_y = apex[0], apex[1], apex[0] - edges[2], apex[1] - edges[3]
        else:
            x, y = wall_start[0], wall_start[1]
            toward_x, toward_y = wall_end[0] - x, wall_end[1] - y
        at_corner = toward_x * (corner[1] - y) - toward_y * (corner[0] - x)
        change = toward_x * along_y - toward_y * along_x
        if change == 0.0:
            if at_corner <= 0.0:
                return 1.0, 0.0
        elif change > 0.0:
            first = max(first, -at_corner / change)
        else:
            last = min(last, -at_corner / change)
    return first, last


@compiled
@no_type_check
def grow(corners, far_corners, gains, source, order, most):
    """Trace all beams, breadth first: apex, edges, links and gain of each; stops beyond `most`."""
    room = 64
    apex, edges = np.empty((room, 2)), np.empty((room, 4))
    gain = np.empty((room, gains.shape[1]))
    links = np.empty((room, 3), np.int32)
    apex[0], edges[0], gain[0] = source, 0.0, 1.0
    links[0, 0], links[0, 1], links[0, 2] = -1, -1, 0
    count, beam = 1, 0
    while beam < count <= most and links[beam, 2] < order:
        for wall in range(len(corners)):
            last_wall = links[beam, 0]
            if wall == last_wall or not reflects(gain[beam], gains[wall]):
                continue
            first, last = lit(
                corners[wall], far_corners[wall], apex[beam], edges[beam],
                last_wall, corners[last_wall], far_corners[last_wall],
            )  # fmt: skip
            if last - first <= NARROWEST:
                continue
            if count == room:
                room *= 2
                apex, edges, gain, links = longer(apex), longer(edges), longer(gain), longer(links)
            x, y = corners[wall, 0], corners[wall, 1]
            along_x, along_y = far_corners[wall, 0] - x, far_corners[wall, 1] - y
            # Seen from behind the wall, the end of the wall is on the right.
            edges[count, 0], edges[count, 1] = x + last * along_x, y + last * along_y
            edges[count, 2], edges[count, 3] = x + first * along_x, y + first * along_y
            beside = along_x * (apex[beam, 1] - y) - along_y * (apex[beam, 0] - x)
            twice = 2 * beside / (along_x**2 + along_y**2)
            apex[count, 0] = apex[beam, 0] + twice * along_y
            apex[count, 1] = apex[beam, 1] - twice * along_x
            for band in range(gains.shape[1]):
                gain[count, band] = gain[beam, band] * gains[wall, band]
            links[count, 0], links[count, 1], links[count, 2] = wall, beam, links[beam, 2] + 1
            count += 1
        beam += 1
    return apex[:count], edges[:count], links[:count], gain[:count]


@compiled
@no_type_check
def reflects(gain, own):
    """Whether a wall reflects any of a beam, in any band."""
    loudest = 0.0
    for band in range(len(gain)):
        loudest = max(loudest, gain[band] * own[band])
    return loudest > 0.0


@compiled
@no_type_check
def edge_lines(apex, edges, links):
    found = np.zeros((6, len(links)))
    found[2], found[5] = 1.0, 1.0
    for beam in range(len(links)):
        if links[beam, 0] == EVERYWHERE:
            continue
        for side in range(2):
            x, y = edges[beam, 2 * side], edges[beam, 2 * side + 1]
            along_x, along_y = x - apex[beam, 0], y - apex[beam, 1]
            length = np.sqrt(along_x * along_x + along_y * along_y) * (1.0 - 2.0 * side)
            normal_x, normal_y = -along_y / length, along_x / length
            found[3 * side, beam], found[3 * side + 1, beam] = normal_x, normal_y
            found[3 * side + 2, beam] = -(normal_x * x + normal_y * y)
    return found


@compiled
@no_type_check
def longer(rows):
    doubled = np.empty((2 * rows.shape[0], rows.shape[1]), rows.dtype)
    doubled[: rows.shape[0]] = rows
    return doubled


@compiled
@no_type_check
def in_beam(apex_x, apex_y, edges, x, y):
    """Whether a point lies between the two edges: two cross products, compared as in `stand_in`."""
    right = (edges[0] - apex_x) * (y - apex_y) - (edges[1] - apex_y) * (x - apex_x)
    left = (edges[2] - apex_x) * (y - apex_y) - (edges[3] - apex_y) * (x - apex_x)
    first = np.hypot(edges[0] - apex_x, edges[1] - apex_y)
    second = np.hypot(edges[2] - apex_x, edges[3] - apex_y)
    return right >= -ASIDE * first and left <= -ASIDE * second


@compiled
@no_type_check
def unobstructed(beam, apex, wall, parent, corners, far_corners, walls, x, y):
    """Whether the path back from the listener to the source, reflection by reflection, meets no other wall."""
    came_from = np.int64(-1)
    while True:
        toward = np.int64(wall[beam])
        to_x, to_y = apex[beam, 0] - x, apex[beam, 1] - y
        end_x, end_y = x + to_x, y + to_y
        if toward >= 0:
            # The segment ends where the line to the image meets its wall.
            corner_x, corner_y = corners[toward, 0], corners[toward, 1]
            along_x, along_y = far_corners[toward, 0] - corner_x, far_corners[toward, 1] - corner_y
            slope = to_x * along_y - to_y * along_x
            if slope == 0.0:
                return False
            fraction = ((corner_x - x) * along_y - (corner_y - y) * along_x) / slope
            end_x, end_y = x + fraction * to_x, y + fraction * to_y
        for other in range(walls):
            if other in (toward, came_from):
                continue
            if crosses(x, y, end_x, end_y, corners[other], far_corners[other]):
                return False
        if toward < 0:
            return True
        x, y, came_from, beam = end_x, end_y, toward, parent[beam]


@compiled
@no_type_check
def crosses(x, y, end_x, end_y, corner, far_corner):
    """Whether a wall intersects the segment from (x, y) to its end."""
    leg_x, leg_y = end_x - x, end_y - y
    along_x, along_y = far_corner[0] - corner[0], far_corner[1] - corner[1]
    slope = leg_x * along_y - leg_y * along_x
    if slope == 0.0:
        return False
    to_x, to_y = corner[0] - x, corner[1] - y
    on_leg = (to_x * along_y - to_y * along_x) / slope
    on_wall = (to_x * leg_y - to_y * leg_x) / slope
    return ENDS < on_leg < 1.0 - ENDS and 0.0 <= on_wall <= 1.0


@compiled
@no_type_check
def heard(found, apex, edges, links, corners, far_corners, convex, listeners):
    """Which beams are audible to each listener: those it lies in, whose path back is unobstructed."""
    for listener in range(len(listeners)):
        x, y = listeners[listener, 0], listeners[listener, 1]
        for beam in range(len(apex)):
            within = links[beam, 0] < 0 or in_beam(apex[beam, 0], apex[beam, 1], edges[beam], x, y)
            found[listener, beam] = within and (
                convex
                or unobstructed(beam, apex, links[:, 0], links[:, 1], corners, far_corners, len(corners), x, y)
            )
