"""Errors of verification against closed forms, enumeration of all thresholds, and scikit-learn's ROC curve."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_curve
from typechecking import unchecked

from sonarium.measures.compare.verification import Costs, Trials, clip_trials, equal_error_rate, errors, least_cost

some_trials = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({same for _, same in pairs}) == 2
)


def of_pairs(pairs) -> Trials:
    scores, same = zip(*pairs, strict=True)
    return Trials(np.array(scores, float) / 3, np.array(same))


def gaussians(shift: float, count: int = 20000) -> Trials:
    """Scores at evenly spaced quantiles, so that the closed form holds without random draws."""
    steps = norm.ppf((np.arange(count) + 0.5) / count)
    return Trials(np.concatenate([steps + shift, steps]), np.arange(2 * count) < count)


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.5, 2.0, 4.0])
def test_the_equal_error_rate_of_two_gaussians(shift) -> None:
    assert equal_error_rate(gaussians(shift)) == pytest.approx(norm.cdf(-shift / 2), abs=1e-4)


@pytest.mark.parametrize("costs", [Costs(), Costs(10, 1, 0.01), Costs(1, 2, 0.5), Costs(1, 1, 0.9)])
def test_the_least_cost_of_two_gaussians(costs) -> None:
    """At the best threshold, the likelihood ratio equals the ratio of the costs times priors."""
    shift = 2.0
    missed, alarmed = costs.miss * costs.prior, costs.false_alarm * (1 - costs.prior)
    threshold = shift / 2 + np.log(alarmed / missed) / shift
    cost = missed * norm.cdf(threshold - shift) + alarmed * norm.sf(threshold)
    assert least_cost(gaussians(shift), costs) == pytest.approx(cost / min(missed, alarmed), abs=6e-3)


def by_hand(trials: Trials) -> list[tuple[float, float]]:
    """Miss and false-alarm rates with each score as the threshold, and with one above all scores."""
    thresholds = [*sorted(set(trials.scores.tolist())), np.inf]
    found = []
    for threshold in thresholds:
        refused = [score < threshold for score in trials.scores]
        own = [no for no, same in zip(refused, trials.same, strict=True) if same]
        others = [not no for no, same in zip(refused, trials.same, strict=True) if not same]
        found.append((sum(own) / len(own), sum(others) / len(others)))
    return found


@given(some_trials)
def test_errors_are_those_of_every_threshold_tried(pairs) -> None:
    trials = of_pairs(pairs)
    found, expected = errors(trials), by_hand(trials)
    np.testing.assert_allclose(np.stack([found.miss, found.false_alarm], 1), expected, atol=1e-12)
    cost = min(0.01 * miss + 0.99 * alarm for miss, alarm in expected) / 0.01
    assert least_cost(trials) == pytest.approx(cost)


@given(some_trials)
def test_the_equal_error_rate_is_where_the_lines_cross(pairs) -> None:
    """Found by a fine grid along the curve."""
    trials = of_pairs(pairs)
    corners = np.array(by_hand(trials))
    along = np.linspace(0, len(corners) - 1, 20001)
    miss, alarm = (np.interp(along, np.arange(len(corners)), column) for column in corners.T)
    crossing = int(np.argmin(np.abs(miss - alarm)))
    assert equal_error_rate(trials) == pytest.approx((miss[crossing] + alarm[crossing]) / 2, abs=2e-3)


@given(some_trials)
def test_the_curve_is_that_of_scikit_learn(pairs) -> None:
    trials = of_pairs(pairs)
    alarm, hit, _ = roc_curve(trials.same, trials.scores, drop_intermediate=False)
    found = errors(trials)
    np.testing.assert_allclose(found.false_alarm[::-1], alarm, atol=1e-12)
    np.testing.assert_allclose(1 - found.miss[::-1], hit, atol=1e-12)


@given(some_trials, st.floats(0.1, 9), st.floats(-9, 9))
def test_only_the_order_of_scores_matters(pairs, factor, shift) -> None:
    trials = of_pairs(pairs)
    moved = Trials(np.exp(factor * trials.scores) + shift, trials.same)
    if len(np.unique(moved.scores)) == len(np.unique(trials.scores)):
        assert equal_error_rate(moved) == equal_error_rate(trials)


@pytest.mark.parametrize(
    ("scores", "rate", "cost"), [([3, 2, 1, 0], 0, 0), ([0, 0, 0, 0], 0.5, 1), ([0, 1, 2, 3], 1, 1)]
)
def test_the_best_the_blind_and_the_worst(scores, rate, cost) -> None:
    trials = Trials(np.array(scores, float), np.array([True, True, False, False]))
    assert equal_error_rate(trials) == pytest.approx(rate)
    assert least_cost(trials) == pytest.approx(cost)


@given(seed=st.integers(0, 99), clips=st.integers(2, 9), centre=st.booleans(), told=st.booleans())
def test_trials_are_all_pairs_by_their_cosine(seed, clips, centre, told) -> None:
    draw = np.random.default_rng(seed)
    codes, speakers = draw.normal(size=(clips, 3)) + 4, draw.choice(["ann", "bob"], clips)
    recordings = draw.integers(0, 3, clips)
    mean = draw.normal(size=3) if centre else np.zeros(3)
    expected = {}
    for one in range(clips):
        for other in range(one + 1, clips):
            if not told or recordings[one] != recordings[other]:
                a, b = codes[one] - mean, codes[other] - mean
                cosine = a @ b / np.sqrt((a @ a) * (b @ b))
                expected[round(float(cosine), 9)] = speakers[one] == speakers[other]
    found = clip_trials(codes, speakers, mean if centre else None, recordings if told else None)
    assert dict(zip(found.scores.round(9).tolist(), found.same.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: errors(Trials(np.zeros(3), np.ones(3, bool))), "got 3 trials of one speaker and 0 of two"),
        (lambda: errors(Trials(np.array([0, np.nan]), np.array([True, False]))), "not finite"),
        (lambda: clip_trials(np.ones((3, 2)), np.arange(2)), r"speakers has shape \(2,\) for 3 rows"),
        (lambda: Costs(prior=0), "give positive costs and a prior between 0 and 1"),
    ],
)
def test_what_cannot_be_judged_is_refused(ask, says) -> None:
    with unchecked(), pytest.raises(ValueError, match=says):
        ask()
