"""Image sources, and the beam in which each is heard (Allen & Berkley, 1979; Borish, 1984).

A reflection is heard as if from the source's mirror image behind the wall. In the plan of a room an image and the
part of the last wall through which it is seen span a beam: a listener hears the image if it stands in the beam,
two vector products. Beams are cut to the walls they reach as they are made, so that nearly all of the images that
nobody can hear never come to be; in a convex room this is exact, else lines of sight are tested besides. Images
depend on the source alone: they are made once, wherever the listener goes.

A room with a height multiplies the plan's images by those of floor and ceiling, which are heard in the same beams.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from sonarium.rooms.acoustics.beams import grow, heard
from sonarium.rooms.acoustics.geometry import Room

EVERYWHERE = -1
"""The wall of a beam that has no edges."""


@dataclass(frozen=True, eq=False)
class Images:
    """All that one source sends into a room, up to an order. Beams are sorted by order; the first is direct."""

    apex: Float[np.ndarray, "beam 2"]
    """The image in the plan."""
    edges: Float[np.ndarray, "beam 4"]
    """Where the beam leaves its wall: x and y of the right end, then of the left, as seen from the image."""
    wall: Int[np.ndarray, " beam"]
    """The last wall; `EVERYWHERE` for direct sound and for the lattice of a box."""
    parent: Int[np.ndarray, " beam"]
    """The beam that was reflected; −1 for direct sound."""
    depth: Int[np.ndarray, " beam"]
    """How many walls of the plan."""
    gain: Float[np.ndarray, "beam band"]
    """What the walls have left of the sound pressure."""
    heights: Float[np.ndarray, " level"]
    """Heights of the images that floor and ceiling make, by order: one of order 0, two of every further one."""
    height_gain: Float[np.ndarray, "level band"]
    order: int

    def levels(self) -> Int[np.ndarray, " beam"]:
        """How many of the heights each beam comes with, so that no image exceeds the order."""
        if len(self.heights) == 1:
            return np.ones(len(self.depth), np.int64)
        return 1 + 2 * (self.order - self.depth.astype(np.int64))

    def lines(self) -> Float[np.ndarray, "6 beam"]:
        """The two edges of each beam as lines: a x + b y + c is not negative for a point between them."""
        found = np.zeros((6, len(self.wall)))
        found[[2, 5]] = 1.0
        bounded = self.wall != EVERYWHERE
        for row, (sign, end) in enumerate(((1.0, self.edges[:, :2]), (-1.0, self.edges[:, 2:]))):
            along = end - self.apex
            along /= np.where(bounded, np.linalg.norm(along, axis=1), 1.0)[:, None]
            normal = sign * np.stack([-along[:, 1], along[:, 0]], axis=1)
            found[3 * row : 3 * row + 2, bounded] = normal[bounded].T
            found[3 * row + 2, bounded] = -(normal * end).sum(axis=1)[bounded]
        return found

    def reach(self, room: Room) -> float:
        """Metres to the farthest image, from wherever in the room it is farthest."""
        low, high = room.bounds
        plan = np.maximum(np.abs(self.apex - low[:2]), np.abs(self.apex - high[:2]))
        if room.height is None:
            return float(np.hypot(plan[:, 0], plan[:, 1]).max())
        tall = np.maximum(np.abs(self.heights), np.abs(self.heights - room.height))
        # The levels of a beam are the first of the list, and their distances grow.
        tallest = np.maximum.accumulate(tall)[self.levels() - 1]
        return float(np.sqrt(plan[:, 0] ** 2 + plan[:, 1] ** 2 + tallest**2).max())


def find_images(room: Room, source: Float[np.ndarray, " axis"], order: int, lattice: bool | None = None) -> Images:
    """The images of a source. `lattice=False` takes the way of all polygons for a box too."""
    if len(source) != room.dimension:
        raise ValueError(f"got a source with {len(source)} coordinates in a room of {room.dimension} dimensions")
    if not room.inside(source[None])[0]:
        raise ValueError(
            f"the source at {np.round(source, 3).tolist()} is not inside the room: move it off the walls"
        )
    if order < 0:
        raise ValueError(f"got order {order}: 0 is direct sound alone, 1 adds first reflections, and so on")
    plan_gains = room.gains[: len(room.corners)]
    if room.box and lattice is not False:
        plan = box_lattice(room, source[:2], order)
    else:
        plan = grow(room.corners, room.next_corners, plan_gains, source[:2], order)
    heights, height_gain = storeys(room, source, order)
    return Images(*plan, heights, height_gain, order)


def storeys(
    room: Room, source: Float[np.ndarray, " axis"], order: int
) -> tuple[Float[np.ndarray, " level"], Float[np.ndarray, "level band"]]:
    """Heights and gains of the images of floor and ceiling; those that nothing is left of come with gain 0."""
    bands = room.absorption.shape[1]
    if room.height is None:
        return np.zeros(1), np.ones((1, bands))
    floor, ceiling = room.gains[-2:]
    count = [0, *(sign * number for number in range(1, order + 1) for sign in (-1, 1))]
    positions, low, high = mirrored(np.array(count), 0.0, room.height, float(source[2]))
    return positions, floor ** low[:, None] * ceiling ** high[:, None]


def mirrored(
    number: Int[np.ndarray, " image"], low: float, high: float, source: float
) -> tuple[Float[np.ndarray, " image"], Int[np.ndarray, " image"], Int[np.ndarray, " image"]]:
    """Between two parallel walls: positions of the images by signed number, and how often either wall took part.
    Positive numbers lie beyond the high wall."""
    span = high - low
    even = number % 2 == 0
    positions = low + number * span + np.where(even, source - low, high - source)
    more, fewer = (np.abs(number) + 1) // 2, np.abs(number) // 2
    return positions, np.where(number > 0, fewer, more), np.where(number > 0, more, fewer)


def box_lattice(
    room: Room, source: Float[np.ndarray, "2"], order: int
) -> tuple[
    Float[np.ndarray, "beam 2"],
    Float[np.ndarray, "beam 4"],
    Int[np.ndarray, " beam"],
    Int[np.ndarray, " beam"],
    Int[np.ndarray, " beam"],
    Float[np.ndarray, "beam band"],
]:
    """The plan's images of a rectangle: a lattice, each of them heard everywhere."""
    number = np.arange(-order, order + 1)
    across, up = (axis.ravel() for axis in np.meshgrid(number, number))
    depth = np.abs(across) + np.abs(up)
    chosen = np.argsort(depth, kind="stable")[: np.sum(depth <= order)]
    across, up, depth = across[chosen], up[chosen], depth[chosen]
    (left, bottom), (right, top) = room.corners[0], room.corners[2]
    x, west, east = mirrored(across, float(left), float(right), float(source[0]))
    y, south, north = mirrored(up, float(bottom), float(top), float(source[1]))
    gains = room.gains
    gain = np.ones((len(depth), gains.shape[1]))
    for wall, times in enumerate((south, east, north, west)):
        gain *= gains[wall] ** times[:, None]
    heard = gain.max(axis=1) > 0
    apex, everywhere = np.stack([x, y], axis=1)[heard], np.full(heard.sum(), EVERYWHERE, np.int32)
    return (
        apex,
        np.zeros((len(apex), 4)),
        everywhere,
        everywhere.copy(),
        depth[heard].astype(np.int32),
        gain[heard],
    )


def audible(
    room: Room, images: Images, listeners: Float[np.ndarray, "listener axis"]
) -> Bool[np.ndarray, "listener beam"]:
    """Which listener hears which beam."""
    found = np.empty((len(listeners), len(images.apex)), bool)
    links = np.stack([images.wall, images.parent, images.depth], axis=1)
    heard(found, images.apex, images.edges, links, room.corners, room.next_corners, room.convex, listeners)
    return found
