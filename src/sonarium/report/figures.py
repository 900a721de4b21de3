"""Figures of a learner's outputs: reconstructions, samples of the prior, and traversals of its codes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from sonarium.report.style import (
    BODY,
    FAINT,
    FIELD,
    INK,
    LINES,
    SMALL,
    bare,
    field_colours,
    limits,
    panels,
    pixels,
    sheet,
    tidy,
)
from sonarium.report.view import View

EXCERPT = 0.01
"""Seconds of the wave drawn: enough periods to show its shape."""
FAINTER = 0.25
"""Fraction of the maximum power of such a piece above which the middle of a clip is drawn."""
MOVING_DOTS = 84
"""Pixels per inch of animations, in which every frame is a picture."""
LOUDEST_DOWN = 70.0
"""Dynamic range of a song in decibels below the loudest bin."""
NARROW = 0.012
"""Width of a letter as a fraction of a song's width."""
DEEPEST = -100.0
"""Lower limit of a spectrum in decibels."""


@dataclass(frozen=True)
class Shown:
    """A clip for a figure: its bins, and its waveform if it is sound."""

    bins: Float[np.ndarray, "row column"]
    wave: Float[np.ndarray, " time"] | None = None


@dataclass(frozen=True)
class Row:
    """Traversal of one code."""

    name: str
    note: str
    alive: bool
    steps: tuple[str, ...]
    own: int
    bins: Float[np.ndarray, "step row column"]


def draw_field(axes: Axes, bins: Float[np.ndarray, "row column"], view: View) -> AxesImage:
    """Draw bins in the view's colours; sound has its low bands at the bottom."""
    if not view.sound:
        return axes.imshow(bins, cmap="gray", vmin=view.low, vmax=view.high, aspect="equal")
    extent = (0.0, view.seconds or 1.0, -0.5, len(bins) - 0.5)
    return axes.imshow(
        bins, cmap=FIELD, vmin=view.low, vmax=view.high, aspect="auto", origin="lower", extent=extent
    )


def mark_bands(axes: Axes, view: View) -> None:
    axes.set_yticks([row for row, _ in view.bands], [mark for _, mark in view.bands])


def spectrum(wave: Float[np.ndarray, " time"], rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Spectrum of a whole clip under a Hann window: kilohertz, and decibels relative to a sine of amplitude 1."""
    window = np.hanning(len(wave))
    magnitude = np.abs(np.fft.rfft(wave * window)) / (window.sum() / 2)
    level = 20 * np.log10(np.maximum(magnitude, 10 ** (DEEPEST / 20)))
    return np.fft.rfftfreq(len(wave), 1 / rate) / 1000, level


def telling(wave: Float[np.ndarray, " time"], rate: int) -> slice:
    """A short, representative piece of the wave: the middle or, if that is faint, the loudest piece."""
    count = min(len(wave), max(2, round(EXCERPT * rate)))
    energy = np.cumsum(np.append(0.0, np.square(wave, dtype=np.float64)))
    power = energy[count:] - energy[:-count]
    middle = (len(wave) - count) // 2
    start = middle if power[middle] >= FAINTER * power.max() else int(power.argmax())
    return slice(start, start + count)


def reconstruction(title: str, original: Shown, made: Shown, view: View, rate: int) -> Figure:
    """One sound and its reconstruction side by side: a piece of the wave, the spectrum, the bands over time.

    A reconstruction that cannot be inverted to sound has only its bands.
    """
    figure = sheet(5.6, 5.2)
    figure.suptitle(title, fontsize=BODY + 1.5, color=INK, x=0.01, ha="left", fontweight="bold")
    grid = panels(figure, 3, 2)
    waves = [shown.wave for shown in (original, made) if shown.wave is not None]
    piece = telling(waves[0], rate) if waves else slice(0)
    for column, (name, shown) in enumerate((("original", original), ("reconstruction", made))):
        wave, levels, field = (grid[row][column] for row in range(3))
        image = draw_field(field, shown.bins, view)
        mark_bands(field, view)
        tidy(field, "" if shown.wave is not None else name, "time (s)", "frequency (kHz)")
        if shown.wave is None:
            wave.set_visible(False)
            levels.set_visible(False)
            continue
        milliseconds = np.arange(piece.start, piece.stop) / rate * 1000
        wave.plot(milliseconds, shown.wave[piece], color=LINES[column], linewidth=1.0)
        wave.set(ylim=limits([one[piece] for one in waves]), xlim=(milliseconds[0], milliseconds[-1]))
        tidy(wave, name, "time (ms)", "amplitude", grid=True)
        levels.plot(*spectrum(shown.wave, rate), color=LINES[column], linewidth=0.7)
        levels.set(ylim=(DEEPEST, 5), xlim=(0, rate / 2000))
        tidy(levels, "", "frequency (kHz)", "level (dB)", grid=True)
    add_key(figure, image, grid[2], view)
    return figure


def add_key(figure: Figure, image: AxesImage, beside: Sequence[Axes], view: View) -> None:
    """Add the colour bar."""
    key = figure.colorbar(image, ax=list(beside), pad=0.02, aspect=18)
    key.set_label(view.unit, fontsize=SMALL, color=FAINT)
    key.ax.tick_params(labelsize=SMALL, colors=FAINT, length=3)
    key.outline.set_linewidth(0.4)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]


def pictures(titles: Sequence[str], originals: Sequence[Shown], made: Sequence[Shown], view: View) -> Figure:
    """Pictures in the top row, their reconstructions below."""
    figure = sheet(max(3.0, 0.85 * len(titles)), 2.3)
    grid = panels(figure, 2, len(titles))
    for column, title in enumerate(titles):
        for axes, shown in ((grid[0][column], originals[column]), (grid[1][column], made[column])):
            draw_field(axes, shown.bins, view)
            bare(axes)
        grid[0][column].set_title(title, fontsize=SMALL, color=INK)
    for row, name in enumerate(("original", "reconstruction")):
        grid[row][0].set_ylabel(name, fontsize=SMALL, color=FAINT)
    return figure


def tiles(
    rows: Sequence[Float[np.ndarray, "_step row column"]],
    view: View,
    faint: Sequence[bool] = (),
    room: float = 0.06,
) -> tuple[Float[np.ndarray, "down across colour"], tuple[int, int]]:
    """Many fields as one image on paper, and its pitch: one image is drawn far faster than a hundred axes.

    Rows may differ in length. The top left bin of tile (r, c) lies at (r, c) times the pitch.
    """
    height, width = rows[0].shape[1:]
    down = height + max(1, round(max(room, 0.06) * height))
    across = width + max(1, round(0.06 * width))
    most = max(len(row) for row in rows)
    paper = np.ones((len(rows) * down, most * across, 3))
    colours = field_colours(FIELD if view.sound else "gray")
    for number, row in enumerate(rows):
        for column, bins in enumerate(row):
            level = (bins - view.low) / (view.high - view.low)
            tile = colours(level[::-1] if view.sound else level)[..., :3]
            if faint and faint[number]:
                tile = 1 - 0.4 * (1 - tile)
            top, left = number * down, column * across
            paper[top : top + height, left : left + width] = tile
    return paper[: len(rows) * down - (down - height), : most * across - (across - width)], (down, across)


def lay(axes: Axes, paper: Float[np.ndarray, "row column colour"], view: View) -> AxesImage:
    """Draw an image of tiles without a frame."""
    image = axes.imshow(paper, aspect="auto" if view.sound else "equal", interpolation="antialiased")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=SMALL, colors=INK)
    return image


def song(
    bands: Float[np.ndarray, "band frame"],
    seconds: float,
    highest: float,
    marks: Sequence[tuple[float, float, str]],
) -> Figure:
    """A spectrogram in decibels, with its segments as bars above it; segments with the same label share a
    colour."""
    figure = sheet(5.6, 2.2)
    axes = panels(figure, 1, 1)[0][0]
    top = float(bands.max())
    extent = (0.0, seconds, -0.5, len(bands) - 0.5)
    axes.imshow(bands, cmap=FIELD, aspect="auto", origin="lower", extent=extent, vmin=top - LOUDEST_DOWN, vmax=top)
    tidy(axes, "", "s", f"mel band, to {highest / 1000:g} kHz")
    names = sorted({label for _, _, label in marks})
    above = len(bands) * 1.04
    for start, stop, label in marks:
        colour = LINES[names.index(label) % len(LINES)]
        middle = (start + min(stop, seconds)) / 2
        axes.plot([start, min(stop, seconds)], [above] * 2, color=colour, linewidth=3, clip_on=False)
        if len(label) == 1 or len(label) * NARROW <= (stop - start) / seconds:
            axes.text(
                middle, above * 1.03, label, fontsize=SMALL - 1, color=INK, ha="center", va="bottom", clip_on=False
            )
    axes.set(xlim=(0, seconds), ylim=(-0.5, len(bands) - 0.5))
    return figure


def samples(fields: Float[np.ndarray, "clip row column"], view: View, across: int) -> Figure:
    """Clips drawn from the prior; sounds are numbered."""
    rows = [fields[start : start + across] for start in range(0, len(fields), across)]
    size = (1.75, 1.6) if view.sound else (0.7, 0.7)
    figure = sheet(max(3.0, size[0] * across), size[1] * len(rows))
    axes = panels(figure, 1, 1)[0][0]
    paper, (down, along) = tiles(rows, view, room=0.14 if view.sound else 0.06)
    lay(axes, paper, view)
    axes.set(xticks=[], yticks=[])
    if view.sound:
        for clip in range(len(fields)):
            at = (clip % across * along, clip // across * down - 0.5 - 0.02 * down)
            axes.text(*at, f"sample {clip + 1}", fontsize=SMALL, color=INK, va="bottom")
    return figure


def traversals(rows: Sequence[Row], view: View) -> Figure:
    """One row per code, one column per step; dead codes are faint, and the clip itself is framed."""
    most = max(len(row.steps) for row in rows)
    own_marks = len({row.steps for row in rows}) > 1
    tall = (0.82 if view.sound else 0.78) * (1.3 if own_marks else 1)
    figure = sheet(1.1 + 0.8 * most, tall * len(rows) + 0.3)
    axes = panels(figure, 1, 1)[0][0]
    bins = [row.bins for row in rows]
    height, width = bins[0].shape[1:]
    paper, (down, across) = tiles(bins, view, [not row.alive for row in rows], 0.32 if own_marks else 0.1)
    lay(axes, paper, view)
    axes.set_yticks([number * down + height / 2 for number in range(len(rows))], [label(row) for row in rows])
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color(INK if row.alive else FAINT)
    for number, row in enumerate(rows):
        corner = (row.own * across - 0.5, number * down - 0.5)
        axes.add_patch(Rectangle(corner, width, height, fill=False, color=LINES[1], linewidth=2, clip_on=False))
        for column, step in enumerate(row.steps if own_marks or number == 0 else ()):
            at = (column * across + width / 2, number * down - 0.5 - 0.03 * down)
            axes.text(*at, step, fontsize=SMALL, color=FAINT, ha="center", va="bottom")
    axes.set_xticks([])
    return figure


def label(row: Row) -> str:
    return f"{row.name}\n{row.note}" + ("" if row.alive else "\ndead")


def moving(rows: Sequence[Row], view: View) -> list[UInt8[np.ndarray, "row column colour"]]:
    """Frames of an animation in which all codes are traversed simultaneously, each independently, there and
    back."""
    across = min(len(rows), 4)
    grid = [rows[start : start + across] for start in range(0, len(rows), across)]
    figure = sheet(1.9 * across, 1.75 * len(grid), MOVING_DOTS)
    axes = panels(figure, 1, 1)[0][0]
    most = max(len(row.steps) for row in rows)
    frames, image, marks = [], None, []
    for step in range(most):
        at = [[round(step * (len(row.steps) - 1) / max(1, most - 1)) for row in line] for line in grid]
        fields = [
            np.stack([row.bins[here] for row, here in zip(line, places, strict=True)])
            for line, places in zip(grid, at, strict=True)
        ]
        paper, (down, along) = tiles(fields, view, room=0.2)
        if image is None:
            image = lay(axes, paper, view)
            axes.set(xticks=[], yticks=[])
            marks = [
                axes.text(
                    column * along, number * down - 0.5 - 0.03 * down, "", fontsize=SMALL, color=INK, va="bottom"
                )
                for number, line in enumerate(grid)
                for column in range(len(line))
            ]
        image.set_data(paper)
        flat = [
            (row, here)
            for line, places in zip(grid, at, strict=True)
            for row, here in zip(line, places, strict=True)
        ]
        for mark, (row, here) in zip(marks, flat, strict=True):
            mark.set_text(f"{row.name}   {row.steps[here]}")
        frames.append(pixels(figure))
        figure.set_layout_engine("none")  # laid out once, or the panels would tremble
    return [*frames, *frames[-2:0:-1]]
