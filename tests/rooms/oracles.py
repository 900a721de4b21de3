"""Independent image sources: pyroomacoustics, and a search through all sequences of walls in plain Python.

The search uses no beams: it mirrors the source in every sequence of walls, floor and ceiling included, and traces
the path back from the listener; a segment that misses its wall or meets another discards the image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyroomacoustics as pra
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from typechecking import unchecked

from sonarium.rooms.acoustics.geometry import Room, polygon
from sonarium.rooms.acoustics.images import audible, find_images

pra.constants.set("rir_hpf_enable", False)
pra.constants.set("num_threads", 1)

EDGE = 1e-4
"""Distance in metres from the edge of a beam within which its audibility is undecided."""
ELL = ((0, 0), (6, 0), (6, 3), (3, 3), (3, 6), (0, 6))
TEE = ((0, 0), (2, 0), (2, 3), (4, 3), (4, 5), (-2, 5), (-2, 3), (0, 3))
CUP = ((0, 0), (7, 0), (7, 5), (5, 5), (5, 2), (2, 2), (2, 5), (0, 5))


@dataclass(frozen=True)
class Heard:
    """Images audible to one listener."""

    places: np.ndarray
    gains: np.ndarray


def ours(room: Room, source: np.ndarray, listener: np.ndarray, order: int, lattice: bool | None = None) -> Heard:
    """Images by `find_images` and `audible`, one for each beam and height."""
    images = find_images(room, np.asarray(source, float), order, lattice)
    beams = np.flatnonzero(audible(room, images, np.asarray(listener, float)[None])[0])
    places, gains = [], []
    for beam, levels in zip(beams, images.levels()[beams], strict=True):
        for level in range(levels):
            gain = images.gain[beam, 0] * images.height_gain[level, 0]
            if gain > 0:
                height = [] if room.height is None else [images.heights[level]]
                places.append([*images.apex[beam], *height])
                gains.append(gain)
    return Heard(np.array(places).reshape(-1, room.dimension), np.array(gains))


def peer(room: Room, sources: ArrayLike, ears: ArrayLike, rate: int, order: int) -> Any:
    """A new room of pyroomacoustics with its impulse responses."""
    found = imagined(room, sources, ears, order, rate)
    found.compute_rir()
    return found


def imagined(room: Room, sources: ArrayLike, ears: ArrayLike, order: int, rate: int = 8000) -> Any:
    """A new room of pyroomacoustics with its images; its responses fail where an ear receives no image."""
    materials = [pra.Material(float(share)) for share in room.absorption[:, 0]]
    if room.box and not room.corners[0].any():
        names = ("south", "east", "north", "west", "floor", "ceiling")
        size = [*room.corners[2], *([] if room.height is None else [room.height])]
        named = dict(zip(names, materials, strict=False))
        found = pra.ShoeBox(size, fs=rate, max_order=order, materials=named, air_absorption=False)
    else:
        plan = materials[: len(room.corners)]
        found = pra.Room.from_corners(room.corners.T, fs=rate, max_order=order, materials=plan)
        if room.height is not None:
            found.extrude(room.height, materials={"floor": materials[-2], "ceiling": materials[-1]})
    found.set_sound_speed(room.speed)
    for source in np.asarray(sources, float):
        found.add_source(source)
    found.add_microphone_array(np.asarray(ears, float).T)
    found.image_source_model()
    return found


def heard_by_peer(found: Any, source: int, ear: int) -> Heard:
    seen = found.visibility[source][ear].astype(bool)
    images, damping = found.sources[source].images[:, seen].T, found.sources[source].damping[0, seen]
    audible = damping > 0
    return Heard(images[audible].astype(float), damping[audible].astype(float))


def searched(room: Room, source: np.ndarray, listener: np.ndarray, order: int) -> Heard:
    """Images by a brute-force search through all sequences of walls."""
    places, gains = [], []
    for image, chain, gain in sequences(walls_of(room), np.asarray(source, float), room.gains[:, 0], order):
        if walk_back(walls_of(room), np.asarray(listener, float), image, chain):
            places.append(image[-1])
            gains.append(gain)
    return Heard(np.array(places).reshape(-1, room.dimension), np.array(gains))


@dataclass(frozen=True)
class Wall:
    """A segment of a line or part of a plane; `inner` is the normal that points into the room."""

    corner: np.ndarray
    inner: np.ndarray
    along: np.ndarray
    """Vector to the far corner; the outline for floor and ceiling."""
    top: float | None
    flat: bool = False


def walls_of(room: Room) -> list[Wall]:
    found = []
    for start, end in zip(room.corners, np.roll(room.corners, -1, axis=0), strict=True):
        along = end - start
        inner = np.array([-along[1], along[0]]) / np.hypot(*along)
        if room.height is not None:
            start, along, inner = (np.append(part, 0.0) for part in (start, along, inner))
        found.append(Wall(start, inner, along, room.height))
    if room.height is not None:
        for height, up in ((0.0, 1.0), (room.height, -1.0)):
            corner, inner = np.array([0, 0, height]), np.array([0, 0, up])
            found.append(Wall(corner, inner, room.corners, None, flat=True))
    return found


def sequences(
    walls: list[Wall], source: np.ndarray, gains: np.ndarray, order: int
) -> Iterator[tuple[list[np.ndarray], list[int], float]]:
    """All sequences of walls, each as its images (the source first), its wall numbers and its gain."""
    waiting = [([source], [], 1.0)]
    while waiting:
        images, chain, gain = waiting.pop()
        yield images, chain, gain
        if len(chain) == order:
            continue
        for number, wall in enumerate(walls):
            if gains[number] > 0 and (not chain or number != chain[-1]):
                behind = images[-1] - 2 * ((images[-1] - wall.corner) @ wall.inner) * wall.inner
                waiting.append(([*images, behind], [*chain, number], gain * gains[number]))


def walk_back(walls: list[Wall], listener: np.ndarray, images: list[np.ndarray], chain: list[int]) -> bool:
    here, left = listener, None
    for image, number in zip(images[:0:-1], reversed(chain), strict=True):
        share = hit(walls[number], here, image)
        if share is None or not 0 < share < 1:
            return False
        there = here + share * (image - here)
        if met(walls, here, there, (left, number)):
            return False
        here, left = there, number
    return not met(walls, here, images[0], (left,))


def hit(wall: Wall, start: np.ndarray, end: np.ndarray) -> float | None:
    """Fraction of the segment at which it meets the wall; None if it does not."""
    rise = (end - start) @ wall.inner
    if rise == 0:
        return None
    share = float((wall.corner - start) @ wall.inner / rise)
    place = start + share * (end - start)
    if wall.flat:
        return share if within_outline(wall.along, place) else None
    part = (place - wall.corner) @ wall.along / (wall.along @ wall.along)
    high = wall.top is None or 0 <= place[2] <= wall.top
    return share if 0 <= part <= 1 and high else None


def within_outline(corners: np.ndarray, place: np.ndarray) -> bool:
    """Whether a point is inside: the signed angles that the sides subtend sum to a full turn."""
    toward = corners - place[:2]
    after = np.roll(toward, -1, axis=0)
    turned = np.arctan2(
        toward[:, 0] * after[:, 1] - toward[:, 1] * after[:, 0],
        toward[:, 0] * after[:, 0] + toward[:, 1] * after[:, 1],
    )
    return bool(abs(turned.sum()) > np.pi)


def met(walls: list[Wall], start: np.ndarray, end: np.ndarray, apart_from: tuple[int | None, ...]) -> bool:
    for number, wall in enumerate(walls):
        if number in apart_from:
            continue
        share = hit(wall, start, end)
        if share is not None and 1e-9 < share < 1 - 1e-9:
            return True
    return False


def responded(heard: Heard, listener: np.ndarray, rate: int, speed: float, length: int) -> np.ndarray:
    """The impulse response by its formula: an 81-sample Hann-windowed sinc for every image."""
    response = np.zeros(length)
    for place, gain in zip(heard.places, heard.gains, strict=True):
        distance = np.linalg.norm(place - listener)
        arrival = distance / speed * rate
        for tap in range(81):
            sample = int(arrival) + tap
            if sample < length:
                window = 0.5 - 0.5 * np.cos(2 * np.pi * tap / 80)
                response[sample] += gain / distance * window * np.sinc(tap - 40 - (arrival - int(arrival)))
    return response


def unmatched(first: Heard, second: Heard, near: float = 1e-4) -> tuple[np.ndarray, np.ndarray, float]:
    """Images only in the first, images only in the second, and the largest relative gain difference of matches."""
    free, lonely, worst = list(range(len(second.places))), [], 0.0
    for place, gain in zip(first.places, first.gains, strict=True):
        close = [at for at in free if np.abs(second.places[at] - place).max() <= near]
        if not close:
            lonely.append(place)
            continue
        best = min(close, key=lambda at: abs(second.gains[at] - gain))
        worst = max(worst, abs(second.gains[best] / gain - 1))
        free.remove(best)
    shape = (-1, first.places.shape[1])
    return np.array(lonely).reshape(shape), second.places[free].reshape(shape), worst


def near_edge(room: Room, source: np.ndarray, listener: np.ndarray, order: int, place: np.ndarray) -> bool:
    """Whether moving the listener by 1 or 1.5 times `EDGE` changes whether the image is audible."""
    votes = set()
    for angle in np.arange(8) * np.pi / 4:
        for reach in (1, 1.5):
            aside = np.array(listener, float)
            aside[:2] += reach * EDGE * np.array([np.cos(angle), np.sin(angle)])
            heard = ours(room, source, aside, order).places
            votes.add(int((np.abs(heard - place).max(axis=1) < 1e-4).sum()))
    return len(votes) > 1


def starlike(count: int, radii: list[float], shift: list[float]) -> np.ndarray:
    """A star-shaped polygon: all corners are visible from (0, 0)."""
    angle = 2 * np.pi * (np.arange(count) + 0.6 * np.array(shift)) / count
    return np.array(radii)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


@st.composite
def rooms(draw: st.DrawFn, dimension: int = 2, shapes: tuple[str, ...] = ()) -> Room:
    """Strategy for rooms of all shapes, each wall with its own absorption."""
    kind = draw(st.sampled_from(shapes or ("box", "regular", "ellipse", "ell", "tee", "cup", "star")))
    height = None if dimension == 2 else draw(st.floats(2.2, 4.0))
    corners = draw(plans(kind))
    walls = len(corners) + (0 if height is None else 2)
    shares = draw(st.lists(st.floats(0.02, 0.7), min_size=walls, max_size=walls))
    # Checks of array shapes draw from the random state that Hypothesis monitors.
    with unchecked():
        return polygon(corners, height, shares)


@st.composite
def plans(draw: st.DrawFn, kind: str) -> np.ndarray:
    if kind == "box":
        x, y = draw(st.floats(2.5, 7.0)), draw(st.floats(2.5, 7.0))
        return np.array([(0, 0), (x, 0), (x, y), (0, y)])
    if kind == "regular":
        count = draw(st.integers(3, 8))
        return draw(st.floats(2.5, 5)) * (1 + starlike(count, [1.0] * count, [0.0] * count))
    if kind in ("ellipse", "star"):
        count = draw(st.integers(4, 7))
        shift = draw(st.lists(st.floats(0, 1), min_size=count, max_size=count))
        lengths = st.lists(st.floats(1.5, 4.5), min_size=count, max_size=count)
        return starlike(count, draw(lengths) if kind == "star" else [3.0] * count, shift) * (1, 0.7)
    stretch = (draw(st.floats(0.7, 1.4)), draw(st.floats(0.7, 1.4)))
    return np.array({"ell": ELL, "tee": TEE, "cup": CUP}[kind]) * stretch


def placed(room: Room, random: np.random.Generator, count: int, clearance: float = 0.15) -> np.ndarray:
    """Random points in the room, at a distance from walls and from each other."""
    low, high = room.bounds
    found: list[np.ndarray] = []
    while len(found) < count:
        point = random.uniform(low, high)
        flat = room.clearance(point[None])[0]
        up = np.inf if room.height is None else min(point[2], room.height - point[2])
        apart = min((float(np.linalg.norm(point - other)) for other in found), default=np.inf)
        if min(flat, up) > clearance and apart > 0.2:
            found.append(point)
    return np.array(found)
