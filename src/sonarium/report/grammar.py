"""Figures of song syntax: the grammar as a graph, and development by day."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from sonarium.evaluation.development import PARTS, Development
from sonarium.report.style import BODY, FAINT, INK, LINES, SMALL, panels, sheet, tidy

RARE_STATE, RARE_MOVE = 0.003, 0.08
"""Minimum fraction of the time of a drawn state, and minimum probability of a drawn transition."""
CROWD = 16
"""Number of states beyond which circles become smaller."""
WIDEST = 4.0
"""Line width in points of a transition with probability 1."""
CAUSES = {"spectrum": "spectrum (emission)", "timing": "timing (duration)", "grammar": "grammar (transition)"}


def grammar_graph(
    occupancy: Float[np.ndarray, " state"], moves: Float[np.ndarray, "state state"], names: Sequence[str]
) -> Figure:
    """States around a circle, larger the more often they occur; transitions are wider the more probable they
    are."""
    figure = sheet(5.2, 5.2)
    draw_graph(panels(figure, 1, 1)[0][0], occupancy, moves, names)
    return figure


def draw_graph(
    axes: Axes,
    occupancy: Float[np.ndarray, " state"],
    moves: Float[np.ndarray, "state state"],
    names: Sequence[str],
    title: str = "",
    shown: Sequence[int] | None = None,
) -> None:
    kept = ordered(moves, occupancy) if shown is None else list(shown)
    angle = np.pi / 2 - 2 * np.pi * np.arange(len(kept)) / max(len(kept), 1)
    at = np.stack([np.cos(angle), np.sin(angle)], 1)
    room = min(1.0, CROWD / max(len(kept), 1))
    radius = np.array([room * (0.05 + 0.16 * min(1.0, float(occupancy[one])) ** 0.5) for one in kept])
    for row, state in enumerate(kept):
        for column, other in enumerate(kept):
            chance = float(moves[state, other])
            if chance >= RARE_MOVE:
                arrow(axes, at[row], at[column], radius[row], radius[column], chance, row == column)
    for place, size, state in zip(at, radius, kept, strict=True):
        axes.add_artist(circle(place, float(size)))
        axes.text(
            float(place[0]),
            float(place[1]),
            names[state],
            ha="center",
            va="center",
            fontsize=SMALL,
            color="#ffffff",
            zorder=4,
        )
    axes.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal")
    tidy(axes, title)
    axes.axis("off")


def ordered(moves: Float[np.ndarray, "state state"], occupancy: Float[np.ndarray, " state"]) -> list[int]:
    """States that occur, each placed after the one that it follows most often, as far as possible."""
    left = {int(one) for one in np.flatnonzero(occupancy >= RARE_STATE)}
    if not left:
        return []
    found = [max(left, key=lambda one: occupancy[one])]
    left.remove(found[0])
    while left:
        found.append(max(left, key=lambda one: moves[found[-1], one]))
        left.remove(found[-1])
    return found


def circle(place: Float[np.ndarray, "2"], size: float):
    from matplotlib.patches import Circle

    return Circle((float(place[0]), float(place[1])), size, color=LINES[0], zorder=3)


def arrow(
    axes: Axes,
    start: Float[np.ndarray, "2"],
    end: Float[np.ndarray, "2"],
    begin: float,
    stop: float,
    chance: float,
    itself: bool,
) -> None:
    """Draw an arrow from the edge of one state to that of another; for a self-transition, a loop outside the
    circle."""
    bend = "arc3,rad=0.18"
    if itself:
        outward = start / max(float(np.hypot(*start)), 1e-9)
        side = np.array([-outward[1], outward[0]])
        start, end = (start + begin * (0.7 * outward + one * 0.7 * side) for one in (1, -1))
        bend = "arc3,rad=-1.6"
    else:
        way = (end - start) / max(float(np.hypot(*(end - start))), 1e-9)
        start, end = start + begin * way, end - stop * way
    made = FancyArrowPatch(
        (float(start[0]), float(start[1])), (float(end[0]), float(end[1])), connectionstyle=bend, arrowstyle="-|>",
        mutation_scale=7 + 4 * chance, linewidth=max(0.5, WIDEST * chance), color=INK, alpha=0.25 + 0.6 * chance,
        shrinkA=0, shrinkB=0, zorder=2,
    )  # fmt: skip
    axes.add_patch(made)


def development_chart(development: Development) -> Figure:
    """Each part of the divergence by day, with its interval and its floor, and the entropies of the grammar."""
    days = [day for day in development.days if day.day != development.reference]
    figure = sheet(2.6 * 4, 2.5)
    row = panels(figure, 1, 4)[0]
    at, labels = places([day.day for day in days])
    for axes, part, colour in zip(row, PARTS, LINES, strict=False):
        values = np.array([day.parts[part].value for day in days])
        lows, highs = (
            np.array([value if end is None else end for value, end in zip(values, ends, strict=True)])
            for ends in ([day.parts[part].low for day in days], [day.parts[part].high for day in days])
        )
        axes.fill_between(at, lows, highs, color=colour, alpha=0.2, linewidth=0)
        axes.plot(at, values, color=colour, linewidth=1.4, marker="o", markersize=3.5)
        floor = development.floor[part]
        if floor is not None:
            axes.axhline(floor, color=FAINT, linewidth=0.9, linestyle="--")
        unit = "syllable" if development.unit == "syllables" else "frame"
        tidy(axes, CAUSES[part], "day", f"bits a {unit}" if part == PARTS[0] else "", grid=True)
        axes.set_ylim(0, None)
        axes.set_xticks(at, labels)
    entropies = row[3]
    for name, colour in zip(("start", "transition"), LINES[3:], strict=False):
        entropies.plot(
            at,
            [day.entropies[name] for day in days],
            color=colour,
            linewidth=1.4,
            marker="o",
            markersize=3.5,
            label=name,
        )
        own = next(day for day in development.days if day.day == development.reference)
        entropies.axhline(own.entropies[name], color=colour, linewidth=0.9, linestyle="--")
    tidy(entropies, "entropy (bits)", "day", "", grid=True)
    entropies.set_ylim(0, None)
    entropies.set_xticks(at, labels)
    entropies.legend(fontsize=SMALL, frameon=False)
    if development.bird:
        figure.suptitle(development.bird, fontsize=BODY, color=INK, x=0.01, ha="left")
    return figure


def places(days: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Positions of days on the axis: their numbers, if each has one and they rise; otherwise evenly spaced."""
    numbers = ["".join(letter for letter in day if letter.isdecimal()) for day in days]
    if all(numbers) and max(map(len, numbers)) < 5 and sorted(set(map(int, numbers))) == list(map(int, numbers)):
        return np.array(numbers, float), numbers
    return np.arange(len(days), dtype=float), [str(day) for day in days]


def grammars_by_day(development: Development, most: int = 4) -> Figure:
    """Grammars of some days, including the first and the last, and of the reference; states keep their places."""
    days = [day for day in development.days if day.day != development.reference]
    chosen = [days[round(at)] for at in np.linspace(0, len(days) - 1, min(most - 1, len(days)))]
    reference = next(day for day in development.days if day.day == development.reference)
    shown = ordered(reference.transitions, reference.occupancy)
    figure = sheet(3.0 * (len(chosen) + 1), 3.2)
    for axes, day in zip(panels(figure, 1, len(chosen) + 1)[0], [*chosen, reference], strict=True):
        draw_graph(axes, day.occupancy, day.transitions, development.names, day.day, shown)
    return figure
