"""Scores of the next label of continuations against simulation and closed forms."""

import itertools

import numpy as np
import pytest

from sonarium.measures.sequence.continuation import as_planted, confusion, next_label

PLANTED = np.array([[0.5, 0.25, 0.25, 0.0], [0.0, 1.0, 0.0, 0.0]])


def test_continuations_that_follow_the_grammar_miss_nothing():
    counts = (8000 * PLANTED).astype(int)
    found = next_label(counts, 8000, PLANTED, np.array([0, 1]))
    assert found["excess bits"] == pytest.approx(0, abs=2e-3)
    assert found["entropy in bits"] == pytest.approx(0.75, abs=1e-3)
    # Eight draws without replacement from so many are practically independent.
    assert found["coverage of 8"] == pytest.approx((1 - 0.5**8 + 1) / 2, abs=1e-4)


def test_what_never_comes_costs_bits_and_so_does_silence():
    uniform = next_label(np.full((2, 4), 8), 32, PLANTED, np.array([0, 1]))
    assert uniform["excess bits"] == pytest.approx(0.5 * (2 - 1.5) + 0.5 * 2, abs=0.1)
    silent = next_label(np.zeros((2, 4), int), 32, PLANTED, np.array([0, 1]))
    # Half a count for each label, of 34.5 in all.
    assert silent["excess bits"] == pytest.approx(np.log2(34.5 / 0.5) - 0.75)
    assert silent["coverage of 8"] == 0 == silent["entropy in bits"]


def test_coverage_is_the_share_of_all_subsets_with_the_true_label():
    counts = np.array([[3, 7, 0, 2]])
    labels = [0] * 3 + [1] * 7 + [3] * 2
    for true in range(4):
        subsets = list(itertools.combinations(labels, 8))
        share = np.mean([true in one for one in subsets])
        found = next_label(counts, 12, np.full((1, 4), 0.25), np.array([true]))
        assert found["coverage of 8"] == pytest.approx(share)


def test_draws_from_the_grammar_itself():
    rng = np.random.default_rng(0)
    planted = rng.dirichlet(np.ones(5), 200)
    exact = as_planted(planted, 32)
    made = [
        next_label(rng.multinomial(32, planted), 32, planted, np.array([rng.choice(5, p=row) for row in planted]))
        for _ in range(20)
    ]
    for name in ("entropy in bits", "coverage of 8", "excess bits"):
        assert np.mean([one[name] for one in made]) == pytest.approx(exact[name], abs=0.03)


def test_draws_from_the_grammar_as_a_probe_hears_them():
    """Against labels that are drawn, and then misrecognised, one by one."""
    rng = np.random.default_rng(1)
    planted = rng.dirichlet(np.ones(4), 100)
    heard = np.array([[0.9, 0.05, 0, 0], [0.1, 0.6, 0.3, 0], [0, 0, 1, 0], [0, 0, 0.2, 0.7]])
    exact, made = as_planted(planted, 32, heard), []
    law = np.hstack([heard, 1 - heard.sum(1, keepdims=True)])
    for _ in range(20):
        counts = np.zeros((100, 5), int)
        for moment, row in enumerate(planted):
            for label in rng.choice(4, 32, p=row):
                counts[moment, rng.choice(5, p=law[label])] += 1
        true = np.array([rng.choice(4, p=row) for row in planted])
        made.append(next_label(counts[:, :4], 32, planted, true))
    for name in ("entropy in bits", "coverage of 8", "excess bits"):
        assert np.mean([one[name] for one in made]) == pytest.approx(exact[name], abs=0.03)
    assert as_planted(planted, 32, np.eye(4)) == pytest.approx(as_planted(planted, 32))
    silent = as_planted(planted, 32, np.zeros((4, 4)))
    assert silent["coverage of 8"] == 0 == silent["entropy in bits"]


def test_the_confusion_of_labels_counts_none_and_leaves_what_was_never_heard():
    found = confusion(np.array([0, 0, 0, 0, 2]), np.array([0, 1, -1, 0, -1]), 3)
    np.testing.assert_array_equal(found, [[0.5, 0.25, 0], [0, 1, 0], [0, 0, 0]])
