"""Curves of evaluations: accuracy against number of labels, and detection error trade-off.

The trade-off is drawn on normal deviate scales (Martin and others, 1997), where two Gaussians give a straight
line.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import Bbox
from scipy.stats import norm

from sonarium.config import fits, short
from sonarium.evaluation.meanings import control
from sonarium.measures.compare.verification import Errors
from sonarium.measures.probes.fewlabels import FewLabels
from sonarium.measures.statistics import Interval, interval
from sonarium.report.futures import by_horizon
from sonarium.report.style import FAINT, LINES, SMALL, panels, sheet, tidy

RATES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Error rates at the ticks of the axes, which span the first to the last."""
BEYOND = (-9.0, 9.0)
"""Normal deviates for error rates of 0 and 1, far outside the picture."""
BY_HORIZON = {
    "near": (
        "Next tokens found among their neighbours",
        "share",
        "The true token ahead against those up to three before and after it.",
    ),
    "group": (
        "Next tokens found in the same group",
        "share",
        "The true token ahead against 20 of other pieces of the same group (speaker, bird).",
    ),
    "all": ("Next tokens found among all", "share", "The true token ahead against 20 of any clips."),
    "likelihood": ("Likelihood of the next tokens", "nats a number", "By a Gaussian about each forecast."),
    "distance": (
        "Distance of the next tokens",
        "root mean square",
        "Of the forecast from the true token; less is better.",
    ),
}
"""Title, axis and caption of curves by horizon."""
OWN = "codes"
"""Label of the learner in legends, next to its controls."""


def drawn(scored: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, Figure]]:
    """Title, caption and figure of each curve in the evaluations of runs that differ only in their seed."""
    for key in dict.fromkeys(key for scores in scored for key in scores.get("curves", {})):
        kind, _, label = key.partition("/")
        label = label.replace("_", " ")
        found = [scores["curves"][key] for scores in scored if key in scores.get("curves", {})]
        if kind == "few-labels":
            over = "training seeds" if len(found) > 1 else "draws of the labels"
            caption = (
                f"Balanced accuracy of probes fitted on this number of labelled clips per {label}; as many more "
                "choose the setting, and are then fitted to as well. Bands hold the 95 % interval of the mean "
                f"over {over}."
            )
            title = f"{label.capitalize()} from few labels"
            figure = few_labels_chart({known_as(name): few(found, name) for name in found[0]}, title)
            yield title, caption, figure
        if kind == "errors":
            caption = (
                f"Verification of the {label} of two clips by the cosine of their codes: miss rate against false "
                "alarm rate at every threshold. On the dotted line both are equal."
            ) + (" The first of the seeds is drawn." if len(found) > 1 else "")
            rates = {known_as(name): both(one) for name, one in found[0].items()}
            title = f"{label.capitalize()} verification"
            yield title, caption, error_chart(rates, title)
        if kind == "horizons" and label in BY_HORIZON:
            title, up, caption = BY_HORIZON[label]
            lines = {known_as(name): horizons_of(one) for name, one in found[0].items()}
            more = " The first of the seeds is drawn." if len(found) > 1 else ""
            seconds = next(iter(lines.values()))[0]
            if any(one[0] != seconds for one in lines.values()):
                raise damaged(found[0])
            yield (
                title,
                caption + more,
                by_horizon(seconds, {name: one[1] for name, one in lines.items()}, title, up),
            )


def horizons_of(values: Any) -> tuple[list[float], list[float]]:
    """Seconds and values, as read from scores.json."""
    seconds: Any = values.get("seconds") if isinstance(values, Mapping) else None
    numbers: Any = values.get("values") if isinstance(values, Mapping) else None
    kind = tuple[float, ...]
    if fits(kind, seconds) and fits(kind, numbers) and len(seconds) == len(numbers) > 0 and min(seconds) > 0:
        return list(seconds), list(numbers)
    raise damaged(values)


def known_as(name: str) -> str:
    return OWN if name == "scores" else control(name)


def few(found: Sequence[Mapping[str, Any]], name: str) -> list[FewLabels]:
    """Curves of all seeds, at the counts that all have."""
    read = [few_of(curves.get(name)) for curves in found]
    shared = set.intersection(*(set(curve.counts) for curve in read))
    made = []
    for own in read:
        columns = [place for place, count in enumerate(own.counts) if count in shared]
        counts = tuple(own.counts[place] for place in columns)
        made.append(FewLabels(counts, own.scores[:, columns], own.chance))
    return made


def few_of(values: Any) -> FewLabels:
    """A curve, as read from scores.json."""
    counts: Any = values.get("counts") if isinstance(values, Mapping) else None
    if isinstance(values, Mapping) and fits(tuple[int, ...], counts):
        scores, chance = fractions(values.get("scores"), 2), fractions(values.get("chance"), 0)
        if scores.shape[1] == len(counts) and min(counts, default=0) >= 1 and len(scores):
            return FewLabels(tuple(counts), scores, float(chance))
    raise damaged(values)


def both(rates: Any) -> Errors:
    if not isinstance(rates, Mapping):
        raise damaged(rates)
    miss, false_alarm = (fractions(rates.get(name), 1) for name in ("miss", "false_alarm"))
    if miss.shape != false_alarm.shape:
        raise damaged(rates)
    return Errors(np.arange(len(miss), dtype=float), miss, false_alarm)


def fractions(values: Any, axes: int) -> np.ndarray:
    """Array of numbers from 0 to 1 with this number of axes."""
    hint: Any = float
    for _ in range(axes):
        hint = tuple[hint, ...]
    if not fits(hint, values) or (axes == 2 and len({len(row) for row in values}) > 1):
        raise damaged(values)
    found = np.array(values, float)
    if found.ndim != axes or not bool(((found >= 0) & (found <= 1)).all()):
        raise damaged(values)
    return found


def damaged(values: Any) -> ValueError:
    return ValueError(f"the curves in scores.json are damaged ({short(values)}): score the run again")


def few_labels_chart(curves: Mapping[str, Sequence[FewLabels]], title: str = "") -> Figure:
    """Balanced accuracy against labels per class; a band shows the interval.

    Each name has a curve for every training seed, and the interval is over seeds; with a single curve it is over
    draws of the labels.
    """
    if not curves or not all(curves.values()):
        raise ValueError("no curves came: give each name at least one")
    figure = sheet(5.4, 3.4)
    axes = panels(figure, 1, 1)[0][0]
    counts: set[int] = set()
    for number, (name, seeds) in enumerate(curves.items()):
        if len({seed.counts for seed in seeds}) > 1:
            raise ValueError(f"the curves of '{name}' have different counts: draw all seeds with the same ones")
        counts |= set(seeds[0].counts)
        colour, dashes = LINES[number % len(LINES)], "-" if number < len(LINES) else "--"
        _band(axes, seeds[0].counts, summary(seeds), name, colour, dashes)
    chance = max(seed.chance for seeds in curves.values() for seed in seeds)
    axes.axhline(100 * chance, color=FAINT, linewidth=0.9, linestyle=":", label="chance")
    tidy(axes, title, "labels per class", "balanced accuracy (%)", grid=True)
    axes.set_xscale("log")
    axes.set_xticks(sorted(counts), [str(count) for count in sorted(counts)])
    axes.minorticks_off()
    axes.set_ylim(0, 102)
    figure.legend(loc="outside right upper", fontsize=SMALL, frameon=False)
    return figure


def summary(seeds: Sequence[FewLabels]) -> list[Interval]:
    """Interval at each count: over seeds, or over draws if there is one seed."""
    if len(seeds) == 1:
        return list(seeds[0].intervals)
    means = np.array([seed.scores.mean(axis=0) for seed in seeds])
    return [interval(column.tolist()) for column in means.T]


def _band(
    axes: Axes, counts: Sequence[int], found: Sequence[Interval], name: str, colour: str, dashes: str
) -> None:
    mean = 100 * np.array([one.mean for one in found])
    low = 100 * np.array([one.mean if one.low is None else one.low for one in found])
    high = 100 * np.array([one.mean if one.high is None else one.high for one in found])
    axes.plot(counts, mean, dashes, color=colour, linewidth=1.4, marker="o", markersize=3.5, label=name)
    axes.fill_between(counts, np.clip(low, 0, 100), np.clip(high, 0, 100), color=colour, alpha=0.15, linewidth=0)


def error_chart(curves: Mapping[str, Errors], title: str = "") -> Figure:
    """Misses against false alarms; on the dotted line both are equal."""
    if not curves:
        raise ValueError("no curves came: give at least one")
    figure = sheet(4.2, 4.4 + 0.2 * len(curves))
    axes = panels(figure, 1, 1)[0][0]
    ends = norm.ppf([RATES[0], RATES[-1]])
    chart = Bbox.from_extents(ends[0], ends[0], ends[1], ends[1])
    for number, (name, found) in enumerate(curves.items()):
        across, up = (np.clip(norm.ppf(rate), *BEYOND) for rate in (found.false_alarm, found.miss))
        seen = Path(np.stack([across, up], 1)).intersects_bbox(chart, filled=False)
        said = name if seen else f"{name} (not on the chart: {beyond(found)})"
        dashes = "-" if number < len(LINES) else "--"
        axes.plot(across, up, dashes, color=LINES[number % len(LINES)], linewidth=1.4, label=said)
    axes.plot(ends, ends, color=FAINT, linewidth=0.9, linestyle=":")
    tidy(axes, title, "false alarms (%)", "misses (%)", grid=True)
    ticks, limits = norm.ppf(RATES), (ends[0], ends[1])
    axes.set_xticks(ticks, [f"{100 * rate:g}" for rate in RATES])
    axes.set_yticks(ticks, [f"{100 * rate:g}" for rate in RATES])
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    # A name with a note takes the width of two.
    columns = 1 if any(len(name) > 24 for name in axes.get_legend_handles_labels()[1]) else 2
    figure.legend(loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False)
    return figure


def beyond(rates: Errors) -> str:
    """Position of a curve outside the chart, in words."""
    worst = float(np.maximum(rates.miss, rates.false_alarm).min())
    if worst == 0:
        return "no errors"
    return f"below {100 * RATES[0]:g} %" if worst < RATES[0] else f"above {100 * RATES[-1]:g} %"
