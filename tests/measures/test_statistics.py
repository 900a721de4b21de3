"""Intervals over seeds and paired comparisons, beside SciPy, and as often right as they claim."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sonarium.measures.statistics import interval, paired, prediction_interval

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
