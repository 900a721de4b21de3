"""Measures of forecasts against brute force, simulation and SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from sonarium.measures.forecasts import chance_of, coverage, distances, exceedances, gaussian, nearer, retrieved


def test_distances_are_root_mean_squares_up_to_each_horizon():
    random = np.random.default_rng(0)
    made, true = random.standard_normal((2, 3, 5, 4)), random.standard_normal((5, 4))
    found = distances(made, true, (1, 3, 5))
    assert found.shape == (2, 3, 3)
    for at, horizon in enumerate((1, 3, 5)):
        error = made[1, 2, :horizon] - true[:horizon]
        assert found[1, 2, at] == pytest.approx(np.sqrt((error**2).sum() / error.size))


def test_coverage_is_the_probability_over_draws_of_others():
    random = np.random.default_rng(1)
    samples, others = random.random(4) + 0.15, random.random(30).round(1)
    drawn = np.array([random.permutation(others)[:4].min() for _ in range(50_000)])
    expected = (drawn > samples.min()).mean() + (drawn == samples.min()).mean() / 2
    assert coverage(samples, others) == pytest.approx(expected, abs=0.01)
    again = random.choice(others[:3], (200_000, 4)).min(1)
    expected = (again > samples.min()).mean() + (again == samples.min()).mean() / 2
    assert coverage(samples, others[:3]) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("count", [2000, 20])
def test_real_sound_at_random_covers_one_half(count):
    """Also with many equal distances, as of silence, and with few other stretches."""
    random = np.random.default_rng(2)
    for digits in (9, 1):
        found = [coverage(*np.split(random.random(8 + count).round(digits), [8])) for _ in range(3000)]
        assert np.mean(found) == pytest.approx(0.5, abs=0.03)
    assert coverage(np.array([0.1, 9.0]), np.array([1.0, 2.0])) == 1
    assert coverage(np.array([3.0]), np.array([1.0, 2.0])) == 0


def test_the_share_of_nearer_samples():
    assert nearer(np.array([1.0, 2.0, 3.0, 4.0]), 3.0) == 0.5


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, float("nan")]), max_size=12))
def test_stretches_above_a_threshold(values):
    found = exceedances(np.array(values, float), 0.5)
    inside = [False] * len(values)
    for first, last in found:
        assert first <= last and all(not inside[max(0, at - 1)] for at in (first,))
        inside[first : last + 1] = [True] * (last + 1 - first)
    assert inside == [value > 0.5 for value in values]


def test_a_true_token_is_retrieved_where_no_other_is_nearer():
    nan = float("nan")
    true = np.array([1.0, 2.0, 1.0, 5.0])
    others = np.array([[2.0, 3.0, nan], [1.0, 9.0, 9.0], [1.0, 1.0, 2.0], [nan, nan, nan]])
    assert retrieved(true, others) == pytest.approx((1 + 0 + 1 / 3) / 3)
    assert chance_of(others) == pytest.approx((1 / 3 + 1 / 4 + 1 / 4) / 3)
    assert np.isnan(retrieved(true, np.full((4, 2), nan))) and np.isnan(chance_of(np.full((4, 2), nan)))


def test_codes_that_know_nothing_are_at_chance():
    random = np.random.default_rng(4)
    true, others = random.random(20_000), random.random((20_000, 6))
    assert retrieved(true, others) == pytest.approx(1 / 7, abs=0.01)
    assert retrieved(np.ones(9), np.ones((9, 6))) == pytest.approx(chance_of(np.ones((9, 6))))


def test_the_likelihood_is_that_of_scipy():
    random = np.random.default_rng(5)
    true, made, spread = random.standard_normal((7, 3)), random.standard_normal((7, 3)), random.random(3) + 0.1
    assert gaussian(true, made, spread) == pytest.approx(norm.logpdf(true, made, spread).mean())
