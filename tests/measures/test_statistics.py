"""Statistics over seeds and runs against SciPy and rliable, and the actual coverage of intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sonarium.measures.statistics import (
    bootstrap,
    interquartile_mean,
    interval,
    optimality_gap,
    paired,
    prediction_interval,
    probability_of_improvement,
    rank_correlation,
)

scores = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=2, max_size=12)


@settings(max_examples=50, deadline=None)
@given(scores)
def test_intervals_are_those_of_scipy(values: list[float]) -> None:
    ours = interval(values)
    assert ours.mean == pytest.approx(np.mean(values))
    if ours.std == 0:
        assert ours.low == ours.high == pytest.approx(ours.mean)
        return
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (ours.low, ours.high) == pytest.approx(expected)


def test_paired_comparisons_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=7)
    second = first + 0.3 + 0.1 * rng.normal(size=7)
    ours, expected = paired(list(first), list(second)), stats.ttest_rel(first, second)
    assert ours.p == pytest.approx(expected.pvalue)
    limits = expected.confidence_interval(0.95)
    assert (ours.difference.low, ours.difference.high) == pytest.approx((limits.low, limits.high))


def test_an_interval_holds_the_mean_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(0)
    drawn = [interval(list(rng.normal(size=5))) for _ in range(2000)]
    held = np.mean([one.low <= 0 <= one.high for one in drawn if one.low is not None and one.high is not None])
    assert held == pytest.approx(0.95, abs=0.02)


def test_one_seed_has_a_mean_and_no_interval() -> None:
    assert (interval([0.25]).mean, interval([0.25]).std, interval([0.25]).low) == (0.25, None, None)
    assert str(interval([0.25])) == "0.250"
    assert paired([1.0], [0.5]).p is None
    assert str(interval([0.2, 0.3])) == "0.250 [-0.385, 0.885]"


def test_equal_differences_are_certain() -> None:
    assert paired([1.0, 2.0], [0.5, 1.5]).p == 0.0
    assert paired([1.0, 2.0], [1.0, 2.0]).p == 1.0


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="2 and 3 scores"):
        paired([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="at least one"):
        interval([])
    with pytest.raises(ValueError, match="finite"):
        interval([1.0, float("nan")])
    with pytest.raises(ValueError, match="confidence=95"):
        interval([1.0, 2.0], 95)


def test_one_more_value_lies_in_the_prediction_interval_with_its_confidence() -> None:
    draws = np.random.default_rng(0).normal(size=(2000, 6))
    found = [(prediction_interval(first, 0.8), last) for *first, last in draws.tolist()]
    inside = [one.low is not None and one.high is not None and one.low <= last <= one.high for one, last in found]
    assert np.mean(inside) == pytest.approx(0.8, abs=0.036)  # four standard errors
    assert prediction_interval([0.5]).low is None


def test_statistics_of_runs_on_tasks_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(5, 3)).round(1), rng.normal(size=(7, 3)).round(1)
    assert interquartile_mean(first) == pytest.approx(stats.trim_mean(first.ravel(), 0.25))
    assert optimality_gap(first, 0.5) == pytest.approx(np.maximum(0.5 - first, 0).mean())
    ranked = [stats.mannwhitneyu(one, other).statistic / 35 for one, other in zip(first.T, second.T, strict=True)]
    assert probability_of_improvement(first, second) == pytest.approx(np.mean(ranked))
    assert interquartile_mean(np.array([[0.0, 1.0], [3.0, 100.0]])) == 2.0
    assert probability_of_improvement(first, first - 9) == 1.0
    # Leading axes are draws.
    both = np.stack([first, 2 * first])
    assert interquartile_mean(both).tolist() == pytest.approx([float(interquartile_mean(one)) for one in both])


FIRST = np.array([[0.9, 0.1, 1.4], [0.7, 0.5, 2.0], [1.1, 0.3, -0.2], [0.7, 0.9, 0.6], [0.2, 0.4, 1.0]])
SECOND = np.array([[0.8, 0.4, 1.0], [0.7, 0.6, 0.3], [0.1, 0.2, 0.6], [0.5, 0.9, -1.0]])
"""Scores of five and of four runs on three tasks, some of them equal."""


def test_statistics_are_those_of_rliable() -> None:
    """Numbers of rliable 1.2.0: `aggregate_iqm`, `aggregate_optimality_gap`, `probability_of_improvement`."""
    for scores, middle, gap, lower in (
        (FIRST, 0.6666666666666666, 0.3933333333333333, 0.11333333333333329),
        (SECOND, 0.5166666666666666, 0.575, 0.20833333333333331),
    ):
        assert interquartile_mean(scores) == pytest.approx(middle, rel=1e-12)
        assert optimality_gap(scores) == pytest.approx(gap, rel=1e-12)
        assert optimality_gap(scores, 0.5) == pytest.approx(lower, rel=1e-12)
    assert probability_of_improvement(FIRST, SECOND) == pytest.approx(0.6166666666666667, rel=1e-12)
    assert probability_of_improvement(SECOND, FIRST) == pytest.approx(0.3833333333333333, rel=1e-12)
    assert probability_of_improvement(FIRST, FIRST) == 0.5


def test_intervals_of_the_bootstrap_are_those_of_rliable() -> None:
    """`get_interval_estimates` with 50,000 draws, and 4,000 for two methods; our random numbers differ."""
    middle = bootstrap(interquartile_mean, FIRST, draws=50_000)
    assert (middle.low, middle.high) == pytest.approx((0.42222222, 0.88888889), abs=0.01)
    better = bootstrap(probability_of_improvement, FIRST, SECOND, draws=20_000)
    assert (better.low, better.high) == pytest.approx((0.40833333, 0.80833333), abs=0.02)


def test_the_bootstrap_draws_runs_within_tasks() -> None:
    # All ways to draw two runs of each of two tasks, equally likely.
    scores = np.array([[0.0, 10.0], [1.0, 30.0]])
    means = np.array([[(a + b + c + d) / 4 for a in (0, 1) for b in (0, 1)] for c in (10, 30) for d in (10, 30)])
    found = bootstrap(lambda rows: rows.mean((-2, -1)), scores, draws=4000)
    assert (found.mean, found.count) == (10.25, 2)
    assert found.std == pytest.approx(means.std(), rel=0.05)
    assert (found.low, found.high) == (means.min(), means.max())
    # With many runs, the interval of the mean is that of a normal distribution.
    many = np.random.default_rng(0).normal(size=(400, 1))
    wide = bootstrap(lambda rows: rows.mean((-2, -1)), many)
    error = stats.sem(many[:, 0])
    assert (wide.low, wide.high) == pytest.approx(stats.norm.interval(0.95, many.mean(), error), abs=0.1 * error)
    assert bootstrap(interquartile_mean, many) == bootstrap(interquartile_mean, many)
    both = bootstrap(probability_of_improvement, scores, scores)
    assert both.mean == 0.5 and both.low is not None and both.low < 0.5


def test_what_cannot_be_drawn_from_is_refused() -> None:
    assert bootstrap(interquartile_mean, np.ones((1, 3))).low is None
    for wrong in (np.zeros((0, 2)), np.array([[np.nan]])):
        with pytest.raises(ValueError, match="finite numbers of"):
            bootstrap(interquartile_mean, wrong)
    with pytest.raises(ValueError, match="got scores of shape nothing"):
        bootstrap(interquartile_mean)
    with pytest.raises(ValueError, match="confidence=2"):
        bootstrap(interquartile_mean, np.ones((2, 2)), confidence=2)


def test_rank_correlations_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    for count in (3, 5, 40):
        one, other = rng.integers(0, 6, (2, count)).tolist()
        ours = rank_correlation(one, other)
        assert ours is not None and ours.mean == pytest.approx(stats.spearmanr(one, other)[0])
        assert (ours.low is None) == (count < 4) and ours.count == count
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    same = rank_correlation([1.0, 2.0, 3.0, 9.0], [1.0, 4.0, 5.0, 6.0])
    assert same is not None and (same.mean, same.low, same.high) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="3 and 2 numbers"):
        rank_correlation([1.0, 2.0, 3.0], [1.0, 2.0])


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_the_interval_of_a_rank_correlation_holds_it_as_often_as_it_claims(correlation: float) -> None:
    """Spearman's coefficient of normal variables is 6 / π arcsin(r / 2)."""
    rng, expected, held = np.random.default_rng(2), 6 / np.pi * np.arcsin(correlation / 2), []
    for _ in range(1000):
        one, noise = rng.normal(size=(2, 30))
        found = rank_correlation(one.tolist(), (correlation * one + (1 - correlation**2) ** 0.5 * noise).tolist())
        assert found is not None and found.low is not None and found.high is not None
        held.append(found.low <= expected <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.025)
