"""A canvas in metres: drawing primitives and the style of all pictures of rooms.

Shapes are anti-aliased by drawing them at twice the size, at a tenth of the cost of a plotting library; text is
drawn afterwards, at the final size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageChops, ImageDraw, ImageFont

# The colours of report/style.py, which rooms may not import.
PAPER, INK, FAINT, GRID = "#ffffff", "#1d232b", "#5b6673", "#d9dee4"
BLUE, VERMILION, GREEN, PURPLE, ORANGE = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"
LEFT, RIGHT = BLUE, VERMILION
"""Colours of the left and the right ear."""
OUTSIDE = "#eef1f4"
GREYED = "#a3acb6"
OVERSAMPLING = 2

Point = tuple[float, float]
Colour = str | tuple[int, int, int]


@dataclass(frozen=True)
class View:
    """Coordinate transform from metres, y upwards, to pixels."""

    left: float
    top: float
    """Position in metres of the upper left corner of the picture."""
    scale: float
    """Pixels per metre."""

    def place(self, points: Float[np.ndarray, "point 2"]) -> list[Point]:
        x, y = (points[:, 0] - self.left) * self.scale, (self.top - points[:, 1]) * self.scale
        return list(zip(x.tolist(), y.tolist(), strict=True))

    def finer(self) -> "View":
        """The same view on the oversampled canvas."""
        return View(self.left, self.top, self.scale * OVERSAMPLING)


def view_of(
    low: Float[np.ndarray, "2"], high: Float[np.ndarray, "2"], size: int, margins: tuple[int, int, int, int]
) -> View:
    """The view that centres a bounding box in a square picture; margins left, top, right, bottom."""
    left, top, right, below = margins
    width, height = size - left - right, size - top - below
    scale = float(min(width / (high[0] - low[0]), height / (high[1] - low[1])))
    middle = (low + high) / 2
    return View(
        float(middle[0] - (left + width / 2) / scale), float(middle[1] + (top + height / 2) / scale), scale
    )


class Canvas:
    """Shapes in metres and in pixels; `finished` downsamples the picture."""

    def __init__(self, ground: Image.Image, view: View):
        """Start from a copy of an oversampled picture."""
        self.image, self.view = ground.copy(), view.finer()
        self.pen = ImageDraw.Draw(self.image)

    def line(self, points: Float[np.ndarray, "point 2"], colour: Colour, width: float) -> None:
        self.pen.line(self.view.place(points), colour, round(width * OVERSAMPLING), joint="curve")

    def polygon(self, points: Float[np.ndarray, "point 2"], fill: Colour) -> None:
        self.pen.polygon(self.view.place(points), fill)

    def disc(
        self,
        centre: Float[np.ndarray, "2"],
        radius: float,
        fill: Colour | None,
        outline: Colour | None = None,
        width: float = 1.0,
    ) -> None:
        """A disc; radius and width in pixels of the picture."""
        x, y = self.view.place(centre[None])[0]
        reach = radius * OVERSAMPLING
        box = (x - reach, y - reach, x + reach, y + reach)
        self.pen.ellipse(box, fill, outline, round(width * OVERSAMPLING))

    def strokes(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """A polyline in pixels of the picture."""
        fine = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
        self.pen.line(fine, colour, round(width * OVERSAMPLING), joint="curve")

    def veil(
        self,
        shape: Float[np.ndarray, "point 2"],
        colour: Colour,
        fraction: float,
        within: Float[np.ndarray, "corner 2"] | None = None,
    ) -> None:
        """A polygon with opacity `fraction`, clipped to the polygon `within`."""
        places = np.array(self.view.place(shape))
        limits = np.array([(0, 0), self.image.size])
        low, high = (np.clip(end, *limits).astype(int) for end in (places.min(0) - 1, places.max(0) + 2))
        if (high <= low).any():
            return
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        mask = stencil(size, places - low, round(255 * fraction))
        if within is not None:
            room = stencil(size, np.array(self.view.place(within)) - low, 255)
            mask = ImageChops.multiply(mask, room)
        self.image.paste(colour, (int(low[0]), int(low[1])), mask)

    def finished(self) -> Image.Image:
        return self.image.reduce(OVERSAMPLING)


def stencil(size: tuple[int, int], places: Float[np.ndarray, "point 2"], value: int) -> Image.Image:
    """A mask of `value` inside a polygon and 0 outside."""
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).polygon([(x, y) for x, y in places.tolist()], value)
    return mask


@lru_cache(maxsize=8)
def type_of(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def write(
    image: Image.Image, at: Point, text: str, size: int = 12, colour: Colour = INK, anchor: str = "ls"
) -> None:
    """Text at a pixel; the anchor is Pillow's: l, m or r horizontally, then a, m or s (the baseline)
    vertically."""
    ImageDraw.Draw(image).text(at, text, fill=colour, font=type_of(size), anchor=anchor)


def mixed(colour: str, other: str, fraction: float) -> tuple[int, int, int]:
    """Blend of two colours: `fraction` of the first, the rest of the second."""
    first, second = (np.array([int(name[at : at + 2], 16) for at in (1, 3, 5)]) for name in (colour, other))
    red, green, blue = np.rint(fraction * first + (1 - fraction) * second).astype(int).tolist()
    return red, green, blue


def round_length(most: float) -> float:
    """The largest of 1, 2, 5, 10, … that is at most `most`."""
    ten = 10.0 ** np.floor(np.log10(most))
    return float(max(step * ten for step in (1, 2, 5) if step * ten <= most * (1 + 1e-9)))


def pixels(image: Image.Image) -> UInt8[np.ndarray, "row column 3"]:
    return np.asarray(image.convert("RGB")).copy()


def ring(centre: Float[np.ndarray, "2"], radius: float) -> Float[np.ndarray, "point 2"]:
    """A circle as a polygon, in metres."""
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
