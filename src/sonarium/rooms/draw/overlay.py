"""Overlays of a floor plan: the sound field, and image sources with their reflection paths.

The field is a contour map of the level in dB. Paths are traced back from the listener toward the image, and from
the wall of the last reflection toward the image of the next lower order (Allen & Berkley, 1979).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from sonarium.rooms.acoustics.geometry import Room, cross
from sonarium.rooms.acoustics.images import EVERYWHERE, Images, find_images
from sonarium.rooms.draw import canvas
from sonarium.rooms.draw.canvas import Canvas, View
from sonarium.rooms.seek.episode import Scene

STEP, STEPS = 3.0, 10
"""Step of the contour levels in dB, and their number."""
RAMP = ("#ffffff", "#dcebf5", "#a9d0e6", "#6aaed3", "#2f83bb", "#08519c")
"""Colour map from quiet to loud."""
SILENCE = -300.0
"""Level in dB of silence."""
LOUDEST_QUANTILE = 0.995
"""Quantile of the levels at which the colour map ends: at a source itself the level diverges."""
OPAQUE = 0.08
"""Opacity of a beam."""
RANGE = 30.0
"""Level in dB below the loudest image at which an image is drawn at its faintest."""
MOST_ORDER = 3
"""Maximum order of images that are drawn; more paths are indistinguishable."""


@dataclass(frozen=True, eq=False)
class SoundField:
    """Level in dB on a regular grid of cells over the bounding box of a room."""

    decibels: Float[np.ndarray, "row column"]
    """The first row is at the bottom."""
    low: Float[np.ndarray, "2"]
    high: Float[np.ndarray, "2"]
    loudest: float
    """Level in dB of the last colour."""


def sound_field(scene: Scene, cells: int = 56, loudest: float | None = None) -> SoundField:
    """The level of all sources that are on. The colour map ends at `loudest`, or at a quantile of the levels."""
    if cells < 2:
        raise ValueError(f"got {cells} cells: give at least 2 along the longer side of the room")
    low, high = scene.room.corners.min(axis=0), scene.room.corners.max(axis=0)
    counts = np.maximum(2, np.rint(cells * (high - low) / (high - low).max())).astype(int)
    x, y = (low[axis] + (np.arange(counts[axis]) + 0.5) * (high - low)[axis] / counts[axis] for axis in (0, 1))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    within = scene.room.inside(lifted(scene, grid))
    decibels = np.full(len(grid), SILENCE)
    if scene.on.any() and within.any():
        decibels[within] = np.maximum(scene.level_map(lifted(scene, grid[within])), SILENCE)
    if loudest is None:
        heard = decibels[decibels > SILENCE]
        loudest = STEP * float(np.ceil(np.quantile(heard, LOUDEST_QUANTILE) / STEP)) if len(heard) else 0.0
    # Cells outside the room have no level to smooth with.
    decibels[~within] = np.nan if within.any() else SILENCE
    return SoundField(smoothed(filled(decibels.reshape(counts[1], counts[0]))), low, high, loudest)


def lifted(scene: Scene, plan: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point axis"]:
    """Points of the floor plan at the height of the ears."""
    if scene.room.height is None:
        return plan
    return np.column_stack([plan, np.full(len(plan), scene.ear_height)])


def filled(decibels: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """Extrapolate to cells outside the walls by the mean of their neighbours, for interpolation across cells."""
    known = np.isfinite(decibels)
    values = np.where(known, decibels, 0.0)
    while not known.all():
        around, count = np.zeros_like(values), np.zeros_like(values)
        padded, there = np.pad(values, 1), np.pad(known.astype(float), 1)
        for row in range(3):
            for column in range(3):
                cut = slice(row, row + values.shape[0]), slice(column, column + values.shape[1])
                around += padded[cut] * there[cut]
                count += there[cut]
        grown = ~known & (count > 0)
        values[grown] = around[grown] / count[grown]
        known = known | grown
    return values


def smoothed(decibels: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """Smoothed with the kernel (1, 2, 1) / 4 along both axes, so that contours do not follow single cells."""
    for axis in (0, 1):
        before, after = np.roll(decibels, 1, axis), np.roll(decibels, -1, axis)
        mean = (before + 2 * decibels + after) / 4
        edge = np.arange(decibels.shape[axis]) % (decibels.shape[axis] - 1) == 0
        decibels = np.where(np.expand_dims(edge, 1 - axis), decibels, mean)
    return decibels


def colours() -> UInt8[np.ndarray, "step 3"]:
    """The colours of the contour levels, from quiet to loud."""
    ends = np.array([[int(name[at : at + 2], 16) for at in (1, 3, 5)] for name in RAMP], float)
    at = np.linspace(0, len(RAMP) - 1, STEPS)
    return np.stack([np.interp(at, np.arange(len(RAMP)), ends[:, one]) for one in range(3)], -1).astype(np.uint8)


def ground_of(field: SoundField, view: View, size: int) -> Image.Image:
    """The field as a picture of `size` pixels in this view, with filled contours."""
    cells = Image.fromarray(field.decibels[::-1].astype(np.float32))
    (left, below), (right, top) = view.place(np.stack([field.low, field.high]))
    box = (round(left), round(top), round(right), round(below))
    smooth = cells.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BICUBIC)
    steps = STEPS - 1 - np.floor((field.loudest - np.asarray(smooth)) / STEP)
    drawn = colours()[np.clip(steps, 0, STEPS - 1).astype(int)]
    image = Image.new("RGB", (size, size), canvas.OUTSIDE)
    image.paste(Image.fromarray(drawn), box[:2])
    return image


def draw_colour_bar(image: Image.Image, field: SoundField, size: int) -> None:
    """A colour bar at the right edge."""
    edge, strip = max(8, round(0.035 * size)), max(20, round(0.065 * size))
    width, type_size = round(0.028 * size), max(9, size // 42)
    left = size - edge - width
    top, below = strip + 1.5 * type_size, size - strip - 0.5 * type_size
    pen = ImageDraw.Draw(image)
    pen.rectangle((left - 3 * type_size, strip, size, size - strip), canvas.OUTSIDE)
    tall = (below - top) / STEPS
    for number, colour in enumerate(colours()[::-1].tolist()):
        pen.rectangle((left, top + number * tall, left + width, top + (number + 1) * tall), tuple(colour))
        if number % 2 == 0:
            text = f"{field.loudest - number * STEP:.0f}"
            canvas.write(image, (left - 5, top + number * tall), text, type_size, canvas.FAINT, "rm")
    pen.rectangle((left, top, left + width, below), outline=canvas.FAINT)
    canvas.write(image, (left + width, top - 0.5 * type_size), "dB", type_size, canvas.FAINT, "rs")


def draw_images(drawn: Canvas, scene: Scene, order: int, beams: bool) -> None:
    """Image sources as dots sized by level, with the reflection paths of audible ones; `beams` adds the beams of
    first-order reflections (more beams would hide everything else)."""
    room, ear = scene.room, scene.pose[:2].astype(float)
    plan = Room(room.corners, None, room.absorption[: len(room.corners)], room.bands, speed=room.speed)
    far = 4 * float(np.ptp(room.corners, axis=0).max())
    for source, on in zip(scene.sources[:, :2].astype(float), scene.on, strict=True):
        if not on:
            continue
        images = find_images(plan, source, min(order, MOST_ORDER), lattice=False)
        ways = [way(plan, images, beam, ear) for beam in range(len(images.apex))]
        amplitude = images.gain.mean(axis=1) / np.maximum(np.linalg.norm(images.apex - ear, axis=1), 0.1)
        fraction = np.clip(1 + 20 * np.log10(amplitude / amplitude.max()) / RANGE, 0.1, 1)
        for beam in np.argsort(-images.depth, kind="stable").tolist():
            if beams and images.depth[beam] == 1 and ways[beam] is not None:
                drawn.veil(wedge(images, beam, far), canvas.ORANGE, OPAQUE, room.corners)
            draw_image(drawn, images, beam, ways[beam], float(fraction[beam]))


def draw_image(
    drawn: Canvas,
    images: Images,
    beam: int,
    found: Float[np.ndarray, "point 2"] | None,
    fraction: float,
) -> None:
    """One image, and its path if it is audible."""
    dot = 1.5 + 4.5 * fraction
    if found is None:
        drawn.disc(images.apex[beam], dot, canvas.GREYED, canvas.OUTSIDE, 0.8)
        return
    width = max(0.6, 2.2 * fraction) if images.depth[beam] < 2 else 0.5
    drawn.line(found, canvas.mixed(canvas.VERMILION, canvas.PAPER, max(0.3, fraction)), width)
    if images.depth[beam] > 0:
        beyond = np.stack([found[1], images.apex[beam]])
        drawn.line(beyond, canvas.mixed(canvas.VERMILION, canvas.OUTSIDE, 0.35), 0.5)
        drawn.disc(images.apex[beam], dot, canvas.VERMILION, canvas.OUTSIDE, 0.8)


def wedge(images: Images, beam: int, far: float) -> Float[np.ndarray, "4 2"]:
    """The polygon of a beam, from the wall that it passes through to beyond the room."""
    right, left = images.edges[beam, :2], images.edges[beam, 2:]
    away = [edge - images.apex[beam] for edge in (right, left)]
    ends = [edge + far * toward / np.linalg.norm(toward) for edge, toward in zip((right, left), away, strict=True)]
    return np.stack([right, ends[0], ends[1], left])


def way(room: Room, images: Images, beam: int, ear: Float[np.ndarray, "2"]) -> Float[np.ndarray, "point 2"] | None:
    """The reflection path of an image, from the ear to the source; None if it is not audible."""
    points, at = [np.asarray(ear, float)], beam
    while images.wall[at] != EVERYWHERE:
        apex, wall = images.apex[at], int(images.wall[at])
        start, along = room.corners[wall], room.next_corners[wall] - room.corners[wall]
        toward = apex - points[-1]
        slope = float(cross(toward, along))
        if slope == 0:
            return None
        offset = start - points[-1]
        here, on_wall = float(cross(offset, along)) / slope, float(cross(offset, toward)) / slope
        if not (0 < here < 1 and 0 <= on_wall <= 1):
            return None
        points.append(points[-1] + here * toward)
        at = int(images.parent[at])
    points.append(images.apex[0])
    found = np.stack(points)
    # Segments begin and end on walls, which must not count as obstructions.
    legs = found[1:] - found[:-1]
    clear = room.in_sight(found[:-1] + 1e-6 * legs, found[1:] - 1e-6 * legs)
    return found if bool(clear.all()) else None
