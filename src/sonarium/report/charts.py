"""Charts of what codes encode of factors, of codebook use, and of training metrics."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sonarium.measures.disentanglement.binning import bin_columns, joint_counts
from sonarium.measures.disentanglement.information import information
from sonarium.models.contract import Description
from sonarium.report.style import BODY, FAINT, INK, LINES, SHARE, SMALL, panels, readable_on, sheet, tidy
from sonarium.worlds.contract import Factor

BINS = 20
"""Number of bins for values with more levels, as in the measures."""
MOST_CODES = 24
"""Maximum number of codes in a chart; the least informative are left out."""

VALIDATION = "validation/"
"""Prefix of metrics on held-out clips."""

MULTIPLES = 4
"""Number of small panels per row."""

Records = Sequence[Mapping[str, float]]


def shared(
    codes: Description, values: Float[np.ndarray, "clip factor"], factors: Sequence[Factor]
) -> Float[np.ndarray, "factor code"]:
    """Mutual information of each factor with each code, as a fraction of the factor's entropy.

    A factor with one value in these clips has no entropy: its row is zero, as is the column of a dead code.
    """
    fractions = np.zeros((len(factors), codes.values.shape[1]))
    varied = np.flatnonzero(np.ptp(values, axis=0) > 0)
    living = np.flatnonzero(codes.alive & (np.ptp(codes.values, axis=0) > 0))
    if not len(varied) or not len(living):
        return fractions
    keep = (codes.entries is not None,) * len(living)
    categories = tuple(factors[int(factor)].discrete for factor in varied)
    code_bins, code_sizes = bin_columns(np.asfortranarray(codes.values[:, living]), BINS, keep)
    factor_bins, factor_sizes = bin_columns(np.asfortranarray(values[:, varied]), BINS, categories)
    counts = joint_counts(code_bins, factor_bins, code_sizes, factor_sizes)[0]
    table = information(counts)
    fractions[np.ix_(varied, living)] = (table.mutual / table.factor).T
    return fractions


def information_map(
    codes: Description, values: Float[np.ndarray, "clip factor"], factors: Sequence[Factor]
) -> Figure:
    """Fraction of each factor's entropy that each code encodes, the most informative codes first."""
    order = codes.order[:MOST_CODES]
    fractions = shared(codes, values, factors)[:, order]
    figure = sheet(max(4.2, 1.9 + 0.52 * len(order)), 1.5 + 0.42 * len(factors))
    axes = panels(figure, 1, 1)[0][0]
    image = axes.imshow(fractions, cmap=SHARE, vmin=0, vmax=1, aspect="auto")
    left_out = len(codes.names) - len(order)
    across = "codes, those that carry most first" + (f"; {left_out} more left out" if left_out else "")
    tidy(axes, "", across, "")
    axes.set_yticks(range(len(factors)), [factor.name.replace("_", " ") for factor in factors])
    axes.set_xticks(range(len(order)), [codes.names[code].split()[-1] for code in order])
    for tick, code in zip(axes.get_xticklabels(), order, strict=True):
        tick.set_color(INK if codes.alive[code] else FAINT)
    for row in range(len(factors)):
        for column, code in enumerate(order):
            share = fractions[row, column]
            mark = f"{100 * share:.0f}" if codes.alive[code] else "dead" if row == 0 else ""
            axes.text(column, row, mark, ha="center", va="center", fontsize=SMALL, color=readable_on(share))
    key = figure.colorbar(image, ax=axes, pad=0.02, format=lambda share, _: f"{100 * share:.0f} %")
    key.set_label("fraction of the factor's entropy", fontsize=SMALL, color=FAINT)
    key.ax.tick_params(labelsize=SMALL, colors=FAINT, length=3)
    return figure


def codebook_use(codes: Description) -> Figure:
    """For each slot, the fraction of clips that use each entry, the most used first."""
    assert codes.entries is not None, codes.names
    order = codes.order[:MOST_CODES]
    across = min(4, len(order))
    down = -(-len(order) // across)
    figure = sheet(2.4 * across + 0.6, 1.55 * down + 0.3)
    flat = [axes for row in panels(figure, down, across, shared=True) for axes in row]
    for axes in flat[len(order) :]:
        axes.set_visible(False)
    for position, (axes, code) in enumerate(zip(flat, order, strict=False)):
        uses = np.bincount(codes.values[:, code].astype(int), minlength=codes.entries)
        fractions = np.sort(uses)[::-1] / uses.sum()
        axes.fill_between(range(codes.entries), 100 * fractions, step="mid", color=LINES[0], linewidth=0)
        axes.axhline(100 / codes.entries, color=LINES[1], linewidth=0.9, linestyle="--")
        below, beside = position // across == down - 1, position % across == 0
        title = f"{codes.names[code]} · {codes.notes[code]}"
        tidy(axes, title, "entry, most used first" if below else "", "clips (%)" if beside else "", grid=True)
        axes.title.set_fontsize(SMALL)
        axes.set(xlim=(-0.5, codes.entries - 0.5), ylim=(0, None))
    return figure


def curves(runs: Mapping[str, Records]) -> Figure | None:
    """Every metric in its own panel, group by group, with a line for each run; None if nothing was recorded.

    A chance-level loss is dotted in the panel of the loss that it is compared with; a validation metric is drawn
    with points in the panel of the training metric.
    """
    names = {name for records in runs.values() for record in records for name in record if name != "step"}
    if not names:
        return None
    chances = {name for name in names if name.endswith("/chance") and with_loss(name) in names}
    beside = {name for name in names if name.startswith(VALIDATION) and name.removeprefix(VALIDATION) in names}
    alone = names - chances - beside
    ordered = sorted(alone, key=lambda name: (name.split("/")[0], name.split("/")[-1] != "total", name))
    figure, flat = multiples(len(ordered), len(runs) > 1 or bool(beside))
    for axes, name in zip(flat, ordered, strict=True):
        every = [line(axes, records, name, number) for number, records in enumerate(runs.values())]
        every += [
            line(axes, records, VALIDATION + name, number, "o")
            for number, records in enumerate(runs.values() if VALIDATION + name in beside else ())
        ]
        for chance in (other for other in chances if with_loss(other) == name):
            for records in runs.values():
                axes.plot(*points(records, chance).T, color=FAINT, linewidth=0.9, linestyle=":")
        tidy(axes, title_of(name), "steps" if axes in flat[-MULTIPLES:] else "", "", grid=True)
        scale(axes, np.concatenate(every))
    handles = list(zip(flat[0].get_lines(), runs, strict=False)) if len(runs) > 1 else []
    if beside:
        validated = Line2D([], [], color=INK, marker="o", markersize=3, linewidth=0.8, alpha=0.7)
        handles.append((validated, "validation"))
    if handles:
        figure.legend(
            *zip(*handles, strict=True), loc="outside lower center", ncols=5, fontsize=BODY, frameon=False
        )
    return figure


def multiples(count: int, legend: bool) -> tuple[Figure, list[Axes]]:
    """A figure of `count` small panels in rows, with room for a legend below."""
    across = min(MULTIPLES, count)
    down = -(-count // across)
    figure = sheet(2.75 * across + 0.2, 1.9 * down + 0.15 + 0.25 * legend)
    flat = [axes for row in panels(figure, down, across) for axes in row]
    for axes in flat[count:]:
        axes.set_visible(False)
    return figure, flat[:count]


def title_of(name: str) -> str:
    """Title of a metric, group/name, in words."""
    group, _, rest = name.rpartition("/")
    return f"{group} · {rest}".removeprefix(" · ").replace("_", " ")


def scale(axes: Axes, values: Float[np.ndarray, " point"]) -> None:
    """Set a scale on which these values can be distinguished, without exaggerating differences."""
    if wide(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    elif still(values):
        middle = float(values.mean())
        axes.set_ylim(*sorted((0.98 * middle, 1.02 * middle)))


def points(records: Records, name: str) -> Float[np.ndarray, "point 2"]:
    """Steps and values of a metric."""
    return np.array([(one["step"], one[name]) for one in records if name in one], float).reshape(-1, 2)


def line(axes: Axes, records: Records, name: str, number: int, mark: str = "") -> Float[np.ndarray, " point"]:
    """Draw one run's metric and return its values; a line with markers is thinner than one without."""
    found = points(records, name)
    drawn = Line2D(*found.T, color=LINES[number % len(LINES)], linestyle="-" if number < len(LINES) else "--")
    if mark:
        drawn.set(marker=mark, markersize=3, linewidth=0.8, alpha=0.7)
    else:
        # A line of one point would be invisible.
        drawn.set(marker="o" if len(found) == 1 else "", linewidth=1.2)
    axes.add_line(drawn)
    axes.autoscale_view()
    return found[:, 1]


def with_loss(name: str) -> str:
    """Name of the loss that a chance-level loss belongs to."""
    return f"{name.rpartition('/')[0]}/loss"


def still(values: Float[np.ndarray, " point"]) -> bool:
    """Whether values differ by so little that their own scale would exaggerate it."""
    finite = values[np.isfinite(values)]
    return len(finite) > 1 and 0 < float(np.ptp(finite)) < 0.005 * abs(float(finite.mean()))


def wide(values: Float[np.ndarray, " point"]) -> bool:
    """Whether values span so much that they require a logarithmic scale."""
    finite = values[np.isfinite(values)]
    return len(finite) > 0 and bool(finite.min() > 0 and finite.max() / finite.min() > 1000)
