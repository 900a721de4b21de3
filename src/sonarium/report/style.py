"""One plain style for every figure: sizes, and colours that colour-blind readers can distinguish.

Lines take the colours of Okabe and Ito (2008); fields take matplotlib's perceptually uniform maps. Each figure has
its own canvas, so that no state is shared and nothing depends on the user's settings.
"""

import io
import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from sonarium.files import printable

PAPER, INK, FAINT, GRID = "#ffffff", "#1d232b", "#5b6673", "#d9dee4"
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
FIELD = "magma"
SHARE = "cividis"
BODY, SMALL = 9.0, 8.0
"""Font sizes in points; figures are drawn at the size at which they are read."""
DOTS = 120
"""Pixels per inch."""


def sheet(width: float, height: float, dots: int = DOTS) -> Figure:
    """An empty figure of this size in inches, with its own canvas."""
    figure = Figure(figsize=(width, height), dpi=dots, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(figure: Figure, rows: int, columns: int, shared: bool = False) -> list[list[Axes]]:
    """A grid of axes, always as a list of rows."""
    return figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared).tolist()


def tidy(axes: Axes, title: str = "", across: str = "", up: str = "", grid: bool = False) -> None:
    """Set titles and units in the common style, and hide unneeded parts of the frame."""
    axes.set_title(title, fontsize=BODY, color=INK, loc="left")
    axes.set_xlabel(across, fontsize=SMALL, color=FAINT)
    axes.set_ylabel(up, fontsize=SMALL, color=FAINT)
    axes.tick_params(labelsize=SMALL, colors=FAINT, length=3, width=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color=FAINT, linewidth=0.6)
    if grid:
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)


def bare(axes: Axes) -> None:
    """Style axes as a thumbnail: a field with a thin frame, without ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=GRID, linewidth=0.6)


def readable_on(fraction: float) -> str:
    """Text colour for a number on the colour at this fraction of the map."""
    return "#ffffff" if fraction < 0.55 else "#10151a"


def field_colours(name: str = FIELD) -> ListedColormap:
    """The named colour map as a table of its 256 colours."""
    from matplotlib import colormaps

    return ListedColormap(colormaps[name](np.linspace(0, 1, 256)), name=name)


def png(figure: Figure) -> bytes:
    """PNG file of the figure with at most 256 colours: a third of the size, without a visible difference."""
    buffer = io.BytesIO()
    drawn = Image.fromarray(pixels(figure))
    drawn.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def pixels(figure: Figure) -> UInt8[np.ndarray, "row column colour"]:
    """RGB pixels of the figure."""
    for text in figure.findobj(Text):
        # Labels are data: a dollar in one is not a formula, and a name may hold bytes that are not text.
        text.set_parse_math(False)
        text.set_text("\n".join(map(printable, text.get_text().split("\n"))))
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg), type(canvas)
    with warnings.catch_warnings():
        # A script that the font lacks is drawn as boxes; the page also has the labels as text.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def limits(lines: Sequence[Float[np.ndarray, " point"]], margin: float = 0.05) -> tuple[float, float]:
    """Limits that contain all lines, so that adjacent panels are comparable."""
    low, high = min(float(line.min()) for line in lines), max(float(line.max()) for line in lines)
    room = margin * (high - low) or 1.0
    return low - room, high + room
