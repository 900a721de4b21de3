"""The floor plan of a room: walls, sources with their radius, trajectory, head and ears.

Drawn on a fast canvas (canvas.py), because an environment that renders draws thousands of pictures; the static
background is cached.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from sonarium.rooms.acoustics.geometry import Room
from sonarium.rooms.draw import canvas
from sonarium.rooms.draw.canvas import Canvas, View
from sonarium.rooms.draw.overlay import SoundField, draw_colour_bar, draw_images, ground_of
from sonarium.rooms.seek.episode import Scene

SMALLEST, LARGEST = 64, 4096
WALL = 4
"""Margin in pixels for walls at the edge of the view."""
SHADES = 12
"""Number of segments of the trajectory, paler the older."""
HEAD = 0.021
"""Minimum radius of the drawn head as a fraction of the picture."""
TICK = (((-0.5, 0.05), (-0.1, 0.45), (0.5, -0.4)),)
CROSS = ((-0.4, -0.4), (0.4, 0.4)), ((-0.4, 0.4), (0.4, -0.4))
AROUND = 1.0
"""Sum of the margins on both sides, as a fraction of the room's size, if image sources are drawn."""


def picture(
    scene: Scene,
    size: int = 480,
    field: SoundField | None = None,
    images: int = 0,
    hide: bool = False,
    alike: bool = False,
) -> UInt8[np.ndarray, "row column 3"]:
    """The scene as a square of `size` pixels.

    `field` (overlay.sound_field) is drawn below it with a colour bar. `images` draws the image sources up to this
    order, and the reflection paths of those that are audible. `hide` leaves out the sources that are still on;
    `alike` does not tell distractors from targets until they are found.
    """
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"got a picture of {size} pixels: give from {SMALLEST} to {LARGEST}")
    view = view_of_room(scene.room, size, field is not None, AROUND if images else 0.0)
    drawn = Canvas(ground(scene.room, view, size, field), view)
    if images:
        draw_images(drawn, scene, images, beams=field is None)
    draw_sources(drawn, scene, hide, alike)
    draw_way(drawn, scene.trajectory)
    draw_listener(drawn, scene.pose, scene.ear_distance, HEAD * size)
    finished = drawn.finished()
    letter(finished, scene, view, size)
    if field is not None:
        draw_colour_bar(finished, field, size)
    return canvas.pixels(finished)


def view_of_room(room: Room, size: int, bar: bool, around: float) -> View:
    low, high = room.corners.min(axis=0), room.corners.max(axis=0)
    more = around * (high - low) / 2
    edge = max(8, round(0.035 * size))
    strip = max(20, round(0.065 * size))
    return canvas.view_of(low - more, high + more, size, (edge, strip, edge + bar * round(0.11 * size), strip))


@lru_cache(maxsize=16)
def ground(room: Room, view: View, size: int, field: SoundField | None) -> Image.Image:
    """The static background: the floor with a grid, or the sound field, and the walls."""
    large = size * canvas.OVERSAMPLING
    image = Image.new("RGB", (large, large), canvas.OUTSIDE)
    finer = view.finer()
    inside = Image.new("L", image.size, 0)
    ImageDraw.Draw(inside).polygon(finer.place(room.corners), 255)
    if field is not None:
        image.paste(ground_of(field, finer, large), (0, 0), inside)
    else:
        floor = Image.new("RGB", image.size, canvas.PAPER)
        draw_grid(floor, room, finer)
        image.paste(floor, (0, 0), inside)
    walls = Canvas(image, view)
    # The line starts and ends in the middle of a wall, so that every corner is a joint.
    middle = (room.corners[:1] + room.corners[-1:]) / 2
    walls.line(np.concatenate([middle, room.corners, middle]), canvas.INK, max(1.5, size / 160))
    return walls.image


def draw_grid(image: Image.Image, room: Room, view: View) -> None:
    """A faint grid with a round spacing in metres."""
    low, high = room.corners.min(axis=0), room.corners.max(axis=0)
    step = canvas.round_length(float((high - low).max()) / 6)
    pen = ImageDraw.Draw(image)
    for axis in (0, 1):
        for at in np.arange(np.ceil(low[axis] / step), np.floor(high[axis] / step) + 1) * step:
            ends = np.array([low, high])
            ends[:, axis] = at
            pen.line(view.place(ends), canvas.mixed(canvas.GRID, canvas.PAPER, 0.6), canvas.OVERSAMPLING)


def draw_sources(drawn: Canvas, scene: Scene, hide: bool, alike: bool) -> None:
    """Each source with its radius; found ones are grey, targets with a tick and distractors with a cross."""
    reach = scene.radius * drawn.view.scale / canvas.OVERSAMPLING
    body = max(7.0, drawn.image.width / canvas.OVERSAMPLING / 60)
    for number, (place, on) in enumerate(zip(scene.sources[:, :2], scene.on, strict=True)):
        wrong = number >= scene.targets
        if on and hide:
            continue
        if on:
            colour = canvas.PURPLE if wrong and not alike else canvas.ORANGE
            halo = canvas.ring(place, scene.radius)
            drawn.veil(halo, colour, 0.22)
            drawn.disc(place, reach, None, colour, 1.5)
            drawn.disc(place, body, colour, canvas.INK, 1.2)
        else:
            drawn.disc(place, reach, None, canvas.mixed(canvas.GREYED, canvas.PAPER, 0.5), 1.0)
            drawn.disc(place, body, canvas.GREYED, canvas.FAINT, 1.2)
            for stroke in CROSS if wrong else TICK:
                mark(drawn, place, body, stroke)


def mark(drawn: Canvas, place: Float[np.ndarray, "2"], body: float, stroke: Sequence[tuple[float, float]]) -> None:
    """A stroke on a source, in units of its size."""
    fine_x, fine_y = drawn.view.place(place[None])[0]
    x, y = fine_x / canvas.OVERSAMPLING, fine_y / canvas.OVERSAMPLING
    drawn.strokes(
        [(x + body * right, y + body * down) for right, down in stroke], canvas.PAPER, max(1.5, body / 4.5)
    )


def draw_way(drawn: Canvas, trajectory: Float[np.ndarray, "step 3"]) -> None:
    """The trajectory, paler the older."""
    places = trajectory[:, :2]
    moved = np.r_[True, (np.diff(places, axis=0) != 0).any(axis=1)]
    places = places[moved]
    legs = len(places) - 1
    ends = np.unique(np.linspace(0, legs, min(SHADES, legs) + 1).round().astype(int))
    for number, (first, last) in enumerate(pairwise(ends.tolist())):
        fraction = 0.25 + 0.75 * (number + 1) / (len(ends) - 1)
        drawn.line(places[first : last + 1], canvas.mixed(canvas.GREEN, canvas.PAPER, fraction), 2.2)
    if legs > 0:
        drawn.disc(places[0], 3.0, canvas.PAPER, canvas.mixed(canvas.GREEN, canvas.PAPER, 0.6), 1.5)


def draw_listener(drawn: Canvas, pose: Float[np.ndarray, "3"], ear_distance: float, least: float) -> None:
    """A head with a nose along the heading and two ears in their colours, to scale if large enough."""
    place, heading = pose[:2], float(pose[2])
    per_pixel = canvas.OVERSAMPLING / drawn.view.scale
    body = max(ear_distance / 2, least * per_pixel)
    ahead = np.array([np.cos(heading), np.sin(heading)])
    left = np.array([-np.sin(heading), np.cos(heading)])
    nose = place + body * np.stack([1.6 * ahead, 0.5 * ahead + 0.6 * left, 0.5 * ahead - 0.6 * left])
    drawn.polygon(nose, canvas.INK)
    for side, colour in ((left, canvas.LEFT), (-left, canvas.RIGHT)):
        drawn.disc(place + body * side, 0.52 * body / per_pixel, colour, canvas.PAPER, 1.0)
    drawn.disc(place, 0.78 * body / per_pixel, canvas.INK)


def letter(image: Image.Image, scene: Scene, view: View, size: int) -> None:
    """Labels: above, step and sources found; below, a scale bar and a legend of the ears."""
    type_size, edge = max(9, size // 36), max(8, round(0.035 * size))
    found, total = scene.tally
    strip = max(20, round(0.065 * size))
    above, below = strip / 2, size - strip / 2
    pen = ImageDraw.Draw(image)
    # Cover image sources behind the text.
    for top in (0, size - strip + WALL):
        pen.rectangle((0, top, size, top + strip - WALL), canvas.OUTSIDE)
    canvas.write(image, (edge, above), f"step {len(scene.trajectory) - 1}", type_size, anchor="lm")
    canvas.write(image, (size - edge, above), f"found {found} of {total}", type_size, anchor="rm")
    metres = canvas.round_length(0.25 * size / view.scale)
    end = edge + metres * view.scale
    pen.line([(edge, below), (end, below)], canvas.FAINT, 2)
    for x in (edge, end):
        pen.line([(x, below - 3), (x, below + 3)], canvas.FAINT, 2)
    canvas.write(image, (end + 6, below), f"{metres:g} m", type_size, canvas.FAINT, "lm")
    x = size - edge
    for name, colour in (("right ear", canvas.RIGHT), ("left ear", canvas.LEFT)):
        canvas.write(image, (x, below), name, type_size, canvas.FAINT, "rm")
        x -= round(canvas.type_of(type_size).getlength(name)) + type_size
        radius = type_size / 3
        pen.ellipse((x - radius, below - radius, x + radius, below + radius), colour)
        x -= type_size
