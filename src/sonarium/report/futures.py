"""Figures of sampled futures of a sound with the true continuation, and of its surprise."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sonarium.report.style import FAINT, FIELD, INK, LINES, SMALL, panels, sheet, tidy

DEEPEST = 70.0
"""Dynamic range of the figures in decibels below the loudest bin."""
MOST = 5
"""Maximum number of futures drawn."""
TALL = 0.95
"""Height of a future in inches."""


def futures(
    past: Float[np.ndarray, "row past"],
    made: Sequence[tuple[str, Float[np.ndarray, "row _column"]]],
    seconds: float,
    unit: str,
) -> Figure:
    """End of the past followed by another future in each row; `seconds` is the duration of a column."""
    return rows([(name, np.concatenate([past, one], 1)) for name, one in made], past.shape[1], seconds, unit)


def rows(
    fields: Sequence[tuple[str, Float[np.ndarray, "row _column"]]], moment: int, seconds: float, unit: str
) -> Figure:
    """Fields stacked over a common time axis, whose 0 is the column `moment`."""
    figure = sheet(6.2, TALL * len(fields) + 0.6)
    grid = panels(figure, len(fields), 1, shared=True)
    high = max(float(field.max()) for _, field in fields)
    low = max(high - DEEPEST, min(float(field.min()) for _, field in fields))
    longest = max(field.shape[1] for _, field in fields)
    for number, ([axes], (name, field)) in enumerate(zip(grid, fields, strict=True), start=1):
        draw(axes, field, -moment * seconds, seconds, (low, high))
        if moment:
            axes.axvline(0, color="white", linewidth=1)
        axes.set(xlim=(-moment * seconds, (longest - moment) * seconds), yticks=[])
        tidy(axes, "", f"s after the moment; colours in {unit}" if number == len(fields) else "", name)
    return figure


def draw(
    axes: Axes, field: Float[np.ndarray, "row column"], start: float, seconds: float, ends: tuple[float, float]
) -> None:
    extent = (start, start + field.shape[1] * seconds, -0.5, len(field) - 0.5)
    axes.imshow(field, cmap=FIELD, aspect="auto", origin="lower", extent=extent, vmin=ends[0], vmax=ends[1])


def surprise(
    field: Float[np.ndarray, "row column"],
    ends: tuple[float, float],
    tracks: Mapping[str, Float[np.ndarray, " token"]],
    by: str,
    threshold: float,
    marks: Sequence[tuple[float, float, str]],
) -> Figure:
    """A sound with its surprise below it, between two times in seconds; what is above the threshold is shaded."""
    begin, seconds = ends[0], ends[1] - ends[0]
    figure = sheet(6.2, 1.6 + 1.1 * len(tracks))
    grid = panels(figure, 1 + len(tracks), 1)
    high = float(field.max())
    draw(grid[0][0], field, begin, seconds / field.shape[1], (high - DEEPEST, high))
    grid[0][0].set_yticks([])
    tidy(grid[0][0])
    grid[0][0].set_xticklabels([])
    for number, (name, values) in enumerate(tracks.items(), start=1):
        [axes] = grid[number]
        middles = begin + (np.arange(len(values)) + 0.5) * seconds / len(values)
        axes.plot(middles, values, color=LINES[number - 1], linewidth=1.0, drawstyle="steps-mid")
        tidy(axes, "", "s" if number == len(tracks) else "", f"{name} (nats)", grid=True)
        if name == by:
            axes.axhline(threshold, color=FAINT, linewidth=0.8, linestyle="--")
            for start, stop, _ in marks:
                axes.axvspan(start, stop, color=LINES[1], alpha=0.25, linewidth=0)
        axes.set_xlim(*ends)
    return figure


def by_horizon(seconds: Sequence[float], lines: Mapping[str, Sequence[float]], title: str, up: str) -> Figure:
    """Values by horizon in milliseconds, one line per model; the first line is the widest."""
    figure = sheet(6.2, 3.0)
    axes = panels(figure, 1, 1)[0][0]
    for number, (name, values) in enumerate(lines.items()):
        colour, width = LINES[number % len(LINES)], 2.2 if not number else 1.1
        dashes = "-" if number < len(LINES) else "--"
        axes.plot(np.array(seconds) * 1000, values, dashes, color=colour, linewidth=width, marker=".", label=name)
    axes.set_xscale("log")
    axes.set_xticks([1000 * one for one in seconds], [f"{1000 * one:.0f}" for one in seconds])
    axes.minorticks_off()
    tidy(axes, title, "ms after the moment", up, grid=True)
    # Lines of nine models leave no space for it between them.
    figure.legend(loc="outside right upper", fontsize=SMALL, frameon=False, labelcolor=INK)
    return figure


def usage(shares: Float[np.ndarray, "variable entry"]) -> Figure:
    """Relative frequency of the classes of each variable, the most used first."""
    figure = sheet(5.6, 1.0 + 0.16 * len(shares))
    axes = panels(figure, 1, 1)[0][0]
    ordered = -np.sort(-shares, axis=1)
    image = axes.imshow(ordered, cmap="cividis", aspect="auto", vmin=0, vmax=1)
    tidy(axes, "", "classes, the most used first", "variables")
    axes.set(xticks=[], yticks=[])
    key = figure.colorbar(image, ax=axes, pad=0.02, aspect=18)
    key.set_label("share of the tokens", fontsize=SMALL, color=FAINT)
    key.ax.tick_params(labelsize=SMALL, colors=FAINT, length=3)
    return figure
