"""Training charts of an agent: training episodes, validation, and metrics of the updates, against environment
steps and against time.

Runs that differ only in their seed are drawn as one: the median over seeds, with a band from the lower to the
upper quartile.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from sonarium.report.charts import MULTIPLES, Records, multiples, points, scale, title_of
from sonarium.report.style import BODY, LINES, panels, sheet, tidy

EPISODES = {
    "episodes/return": "return of an episode",
    "episodes/success": "share of successes",
    "episodes/length": "steps of an episode",
    "episodes/reward": "reward of a step",
}
"""Metrics of training episodes, with their names and units."""
VALIDATION = "validation/return"
SMOOTHED = 0.05
"""Window of the smoothing as a fraction of the training."""
GRID = 200
"""Number of points at which seeds are compared."""
UNEVEN = 10.0
"""Ratio of the agents' ranges beyond which an axis is logarithmic."""
UNITS = ((2 * 3600, 3600, "hours"), (180, 60, "minutes"), (0, 1, "seconds"))
"""Time units: seconds from which on a unit is used, its length in seconds, and its name."""

Curve = tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]
"""Positions on an axis, and values."""


@dataclass(frozen=True)
class Seed:
    """Records of one training run."""

    metrics: Records
    clock: Records
    """Number of items of the source so far at some steps, `items`, and the seconds, `wall_s`; empty if not
    known."""


@dataclass(frozen=True)
class Axis:
    """Horizontal axis of curves."""

    name: str
    key: str
    """Key in a record of the clock."""
    unit: float = 1.0

    @property
    def timed(self) -> bool:
        return self.key.endswith("_s")

    def at(self, seed: Seed, steps: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
        """Position of training steps on this axis."""
        if not self.key:
            return steps
        known = [(one["step"], one[self.key]) for one in seed.clock]
        return np.interp(steps, *np.array([(0, 0), *known], float).T) / self.unit


@dataclass(frozen=True)
class Chart:
    title: str
    caption: str
    figure: Figure
    folded: bool = False
    """Whether it is collapsed until requested."""


def charts(seeds: Sequence[Seed]) -> Iterator[Chart]:
    """Charts of one agent, trained with each seed."""
    over = axes_of(seeds)
    episodes = episodes_chart(seeds, over)
    if episodes is not None:
        yield Chart("Episodes", caption(seeds), episodes)
    for number, axis in enumerate(over):
        figure = updates_chart(seeds, axis)
        if figure is not None:
            title = f"Losses and other metrics against {axis.name.partition(' (')[0]}"
            yield Chart(title, UPDATES + (f" {SEVERAL}" if len(seeds) > 1 else ""), figure, number > 0)


SEVERAL = "The line is the median over seeds, the band goes from the lower to the upper quartile."
UPDATES = "Each metric is the mean since the point before, and the line is smoothed over 5 % of the training."
BESIDE = (
    "The return of the episodes in which each agent was trained, smoothed over 5 % of the training. Where there "
    "are several seeds, the line is their median, and the band goes from the lower to the upper quartile."
)


def caption(seeds: Sequence[Seed]) -> str:
    said = [
        "Episodes in which the agent was trained, random actions included; each point is the mean of those that "
        "ended since the point before, and the line is smoothed over 5 % of the training."
    ]
    if len(seeds) > 1:
        said.append(SEVERAL)
    if any(len(points(seed.metrics, VALIDATION)) for seed in seeds):
        said.append(
            "Diamonds are validation by the most probable actions, in episodes apart from training, and a star "
            "marks the best weights, which are kept."
        )
    return " ".join(said)


def axes_of(seeds: Sequence[Seed]) -> list[Axis]:
    """Environment steps and wall-clock time, if known for all seeds; otherwise training steps."""
    found = []
    if all(seed.clock for seed in seeds):
        found.append(Axis("steps of the environment", "items"))
    else:
        found.append(Axis("training steps", ""))
    if all(seed.clock and all("wall_s" in one for one in seed.clock) for seed in seeds):
        longest = max(one["wall_s"] for seed in seeds for one in seed.clock)
        found.append(next(Axis(f"wall-clock time ({name})", "wall_s", n) for least, n, name in UNITS
                          if longest >= least))  # fmt: skip
    return found


def curve(seed: Seed, name: str, axis: Axis) -> Curve:
    """A metric as it was recorded."""
    steps, values = points(seed.metrics, name).T
    return axis.at(seed, steps), values


def smoothed(values: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    """Centred moving average over a twentieth of all points; at the ends the window shrinks, and stays
    symmetric."""
    count = len(values)
    reach = np.minimum(np.minimum(np.arange(count), np.arange(count)[::-1]), round(SMOOTHED * count / 2))
    # Relative to the first value, so that rounding does not move a constant.
    sums, here = np.concatenate([[0.0], np.cumsum(values - values[:1])]), np.arange(count)
    return values[:1] + (sums[here + reach + 1] - sums[here - reach]) / (2 * reach + 1)


def quartiles(curves: Sequence[Curve]) -> tuple[Float[np.ndarray, " place"], Float[np.ndarray, "3 place"]] | None:
    """Lower quartile, median and upper quartile over curves, on the grid where all have values; None if there is
    none."""
    low, high = max(places[0] for places, _ in curves), min(places[-1] for places, _ in curves)
    if low >= high:
        return None
    grid = np.linspace(low, high, GRID)
    return grid, np.quantile([np.interp(grid, *one) for one in curves], (0.25, 0.5, 0.75), axis=0)


def draw(
    axes: Axes, seeds: Sequence[Seed], name: str, axis: Axis, colour: str = LINES[0], label: str = ""
) -> bool:
    """Draw a metric over all seeds that have it; return whether there is one."""
    raw = [one for seed in seeds if len((one := curve(seed, name, axis))[0])]
    smooth = [(places, smoothed(values)) for places, values in raw]
    if not raw:
        return False
    if len(raw) == 1:
        [(places, values)] = raw
        if not label and (smooth[0][1] != values).any():
            axes.plot(places, values, color=colour, linewidth=0.7, alpha=0.35, label="as recorded")
        # A line of one point would be invisible.
        mark = "o" if len(places) == 1 else ""
        axes.plot(*smooth[0], color=colour, linewidth=1.4, marker=mark, label=label or "smoothed")
        return True
    for number, one in enumerate(smooth if not label else ()):
        axes.plot(*one, color=colour, linewidth=0.6, alpha=0.4, label="" if number else "each seed")
    if (found := quartiles(smooth)) is not None:
        grid, (low, middle, high) = found
        axes.fill_between(
            grid, low, high, color=colour, alpha=0.2, linewidth=0, label="" if label else "interquartile range"
        )
        axes.plot(grid, middle, color=colour, linewidth=1.6, label=label or f"median of {len(raw)} seeds")
    return True


def validated(axes: Axes, seeds: Sequence[Seed], axis: Axis) -> None:
    """Draw the validation returns, and the best of each seed."""
    for number, seed in enumerate(seeds):
        places, values = curve(seed, VALIDATION, axis)
        if not len(places):
            continue
        names = ("", "") if number else ("validation", "best in validation")
        axes.plot(places, values, "D", color=LINES[1], markersize=3, alpha=0.8, label=names[0])
        best = int(values.argmax())
        axes.plot(places[best], values[best], "*", color=LINES[4], markeredgecolor="#1d232b", markeredgewidth=0.6,
                  markersize=11, label=names[1])  # fmt: skip


def episodes_chart(seeds: Sequence[Seed], over: Sequence[Axis]) -> Figure | None:
    """One row per metric of episodes, one column per axis."""
    names = told_apart(seeds)
    if not names:
        return None
    figure = sheet(3.6 * len(over) + 0.4, 1.9 * len(names) + 0.5)
    grid = panels(figure, len(names), len(over))
    for row, name in zip(grid, names, strict=True):
        for axes, axis in zip(row, over, strict=True):
            draw(axes, seeds, name, axis)
            if name == next(iter(EPISODES)):
                validated(axes, seeds, axis)
            below, left = row is grid[-1], axes is row[0]
            tidy(axes, "", axis.name if below else "", EPISODES[name] if left else "", grid=True)
            readable(axes, axis)
            if name.endswith("/success"):
                axes.set_ylim(-0.03, 1.03)
    legend(figure, grid[0][0])
    return figure


def told_apart(seeds: Sequence[Seed]) -> list[str]:
    """Recorded metrics of episodes, without duplicates and, after the first, without constant ones."""
    names, known = [], []
    for name in EPISODES:
        values = [points(seed.metrics, name)[:, 1].tolist() for seed in seeds]
        varied = len({value for own in values for value in own}) > 1
        first = not names and any(values)
        if (varied or first) and values not in known:
            names.append(name)
            known.append(values)
    return names


def updates_chart(seeds: Sequence[Seed], axis: Axis) -> Figure | None:
    """A small panel for each metric that is not of episodes or validation."""
    every = {name for seed in seeds for record in seed.metrics for name in record} - {"step"}
    names = sorted(name for name in every if name.split("/")[0] not in ("episodes", "validation"))
    if not names:
        return None
    figure, flat = multiples(len(names), True)
    for axes, name in zip(flat, names, strict=True):
        draw(axes, seeds, name, axis)
        tidy(axes, title_of(name), axis.name if axes in flat[-MULTIPLES:] else "", "", grid=True)
        readable(axes, axis)
        scale(axes, np.concatenate([points(seed.metrics, name)[:, 1] for seed in seeds]))
    legend(figure, flat[0])
    return figure


def beside_each_other(agents: Mapping[str, Sequence[Seed]], over: Sequence[Axis] | None = None) -> Figure | None:
    """Returns of several agents in one environment; None if none had an episode."""
    over = over or axes_of([seed for seeds in agents.values() for seed in seeds])
    figure = sheet(3.6 * len(over) + 0.4, 2.9)
    [row] = panels(figure, 1, len(over))
    name, drawn = next(iter(EPISODES)), False
    for axes, axis in zip(row, over, strict=True):
        for number, (agent, seeds) in enumerate(agents.items()):
            drawn |= draw(axes, seeds, name, axis, LINES[number % len(LINES)], agent)
        tidy(axes, "", axis.name, EPISODES[name] if axes is row[0] else "", grid=True)
        readable(axes, axis)
        if uneven(list(agents.values()), axis):
            # One agent may need minutes where another needs seconds.
            axes.set_xscale("log")
            axes.autoscale(axis="x")
            axes.xaxis.set_major_formatter("{x:g}" if axis.timed else EngFormatter(sep=""))
    legend(figure, row[0])
    return figure if drawn else None


def uneven(agents: Sequence[Sequence[Seed]], axis: Axis) -> bool:
    """Whether the agents' ranges on this axis differ by more than UNEVEN."""
    last = [[points(seed.metrics, "step")[-1:, 1] for seed in seeds] for seeds in agents]
    went = [
        max((float(at) for seed, own in zip(seeds, each, strict=True) for at in axis.at(seed, own)), default=0.0)
        for seeds, each in zip(agents, last, strict=True)
    ]
    return max(went, default=0.0) > UNEVEN * min(went, default=0.0) > 0


def readable(axes: Axes, axis: Axis) -> None:
    """Start the axis at 0, with thousands and millions abbreviated."""
    axes.set_xlim(left=0)
    if not axis.timed:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(5))


def legend(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=5, fontsize=BODY, frameon=False)
