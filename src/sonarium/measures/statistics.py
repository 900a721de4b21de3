"""Statistics over training seeds: a mean with its interval, and the paired comparison of two methods.

Student's t throughout: the standard deviation over few seeds is itself uncertain, and t accounts for that.
Two methods trained on the same seeds are compared by their paired differences.

For agents, whose returns have outliers, the interquartile mean over runs and tasks complements the mean, with an
interval by the stratified bootstrap: runs are resampled within each task (Agarwal et al. 2021, arXiv 2108.13264).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import special
from scipy.stats import rankdata


@dataclass(frozen=True)
class Interval:
    """A mean over seeds. One seed has no spread, so `std`, `low` and `high` are then None."""

    mean: float
    std: float | None
    low: float | None
    high: float | None
    count: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Comparison:
    """Mean difference of two methods over the same seeds, its interval, and its two-sided p-value."""

    difference: Interval
    p: float | None
    """Probability of a mean difference this far from 0 if the methods were equal; None for one seed."""


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean, sample standard deviation, and confidence interval of the mean."""
    scores = _checked(values)
    if not 0 < confidence < 1:
        raise ValueError(f"got confidence={confidence}: a fraction between 0 and 1 is expected, such as 0.95")
    mean, count = float(scores.mean()), len(scores)
    if count == 1:
        return Interval(mean, None, None, None, 1)
    std = float(scores.std(ddof=1))
    half = float(special.stdtrit(count - 1, (1 + confidence) / 2)) * std / count**0.5
    return Interval(mean, std, mean - half, mean + half, count)


def prediction_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean, sample standard deviation, and prediction interval of one more value."""
    mean = interval(values, confidence)
    if mean.low is None or mean.high is None:
        return mean
    wider = (mean.count + 1) ** 0.5
    return replace(
        mean, low=mean.mean - wider * (mean.mean - mean.low), high=mean.mean + wider * (mean.high - mean.mean)
    )


def paired(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Comparison:
    """Paired comparison: `first` minus `second` for each seed."""
    if len(first) != len(second):
        raise ValueError(
            f"got {len(first)} and {len(second)} scores: both methods need one of each of the same seeds"
        )
    difference = interval((_checked(first) - _checked(second)).tolist(), confidence)
    if difference.std is None:
        return Comparison(difference, None)
    if difference.std == 0:
        return Comparison(difference, 1.0 if difference.mean == 0 else 0.0)
    t = difference.mean / (difference.std / difference.count**0.5)
    return Comparison(difference, float(2 * special.stdtr(difference.count - 1, -abs(t))))


def rank_correlation(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Spearman's ρ of pairs, with its interval by Fisher's transformation (Bonett and Wright 2000) for at least
    four pairs; None if either is constant."""
    if len(first) != len(second):
        raise ValueError(f"got {len(first)} and {len(second)} numbers: a correlation is of pairs")
    one, other = (rankdata(_checked(values)) for values in (first, second))
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    count, found = len(one), float(np.clip(np.corrcoef(one, other)[0, 1], -1, 1))
    if count < 4:
        return Interval(found, None, None, None, count)
    spread = ((1 + found**2 / 2) / (count - 3)) ** 0.5
    half = float(special.ndtri((1 + confidence) / 2)) * spread
    with np.errstate(divide="ignore"):
        middle = np.arctanh(found)
    return Interval(found, None, float(np.tanh(middle - half)), float(np.tanh(middle + half)), count)


Scores = Float[np.ndarray, "*draw run task"]
LARGEST = 2**22
"""Number of values that the bootstrap draws at once."""


def interquartile_mean(scores: Scores) -> Float[np.ndarray, "*draw"]:
    """Mean of the middle half of all runs on all tasks; a fractional quarter is rounded down."""
    every = np.sort(scores.reshape(*scores.shape[:-2], -1), -1)
    cut = every.shape[-1] // 4
    return np.asarray(every[..., cut : every.shape[-1] - cut].mean(-1))


def optimality_gap(scores: Scores, target: float = 1.0) -> Float[np.ndarray, "*draw"]:
    """Mean shortfall of the scores below a target; scores above it do not compensate."""
    return np.asarray(target - np.minimum(scores, target).mean((-2, -1)))


def probability_of_improvement(
    first: Float[np.ndarray, "*draw run task"], second: Float[np.ndarray, "*draw other task"]
) -> Float[np.ndarray, "*draw"]:
    """Probability that a run of the first method is better than one of the second on the same task, averaged over
    tasks; ties count half (Mann and Whitney 1947)."""
    one, other = first[..., :, None, :], second[..., None, :, :]
    return np.asarray(((one > other) + 0.5 * (one == other)).mean((-3, -2, -1)))


def bootstrap(
    statistic: Callable[..., np.ndarray],
    *scores: Float[np.ndarray, "_ task"],
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Statistic of the scores (run, task) of one or several methods, with its percentile interval by the
    stratified bootstrap; a single run has no interval."""
    if not scores or not all(one.ndim == 2 and one.size and np.isfinite(one).all() for one in scores):
        raise ValueError(
            f"got scores of shape {', '.join(str(one.shape) for one in scores) or 'nothing'}: finite numbers of "
            "(run, task) are expected, at least one"
        )
    if not 0 < confidence < 1 or draws < 1:
        raise ValueError(
            f"got confidence={confidence} and draws={draws}: a fraction between 0 and 1 and a whole number of at "
            "least 1 are expected"
        )
    found, count = float(statistic(*(np.asarray(one, float) for one in scores))), min(map(len, scores))
    if count == 1:
        return Interval(found, None, None, None, 1)
    random, drawn = np.random.default_rng(seed), []
    at_once = max(1, LARGEST // math.prod(one.size for one in scores))
    for start in range(0, draws, at_once):
        some = min(at_once, draws - start)
        chosen = [random.integers(len(one), size=(some, *one.shape)) for one in scores]
        anew = [np.take_along_axis(one[None], rows, 1) for one, rows in zip(scores, chosen, strict=True)]
        drawn.append(statistic(*anew))
    values = np.concatenate(drawn)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(found, float(values.std()), float(low), float(high), count)


def within(score: Interval, low: float | None, high: float | None) -> Interval:
    """Interval clipped to the range of a score; None is no limit."""
    if score.low is None or score.high is None:
        return score
    least, most = (-math.inf if low is None else low), (math.inf if high is None else high)
    return replace(score, low=max(least, score.low), high=min(most, score.high))


def _checked(values: Sequence[float]) -> np.ndarray:
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or len(scores) == 0 or not np.isfinite(scores).all():
        raise ValueError(f"got {list(values)}: one finite score per seed is expected, at least one")
    return scores
