"""Entropies, bits per symbol and n-grams against closed forms."""

import numpy as np
import pytest
from typechecking import unchecked

from sonarium.measures.sequence.entropy import (
    Rate,
    grammar_entropies,
    hidden_entropy_rate,
    markov_entropy_rate,
    stationary,
)
from sonarium.measures.sequence.ngrams import NGrams, markov_order
from sonarium.measures.sequence.prediction import bits_per_symbol, excess_bits, total_variation

FLIP = np.array([[0.9, 0.1], [0.3, 0.7]])


def binary(p):
    return float(-p * np.log2(p) - (1 - p) * np.log2(1 - p))


def test_stationary_occupancy_and_entropy_rate_of_two_states():
    np.testing.assert_allclose(stationary(FLIP), [0.75, 0.25])
    assert markov_entropy_rate(FLIP) == pytest.approx(0.75 * binary(0.1) + 0.25 * binary(0.3))
    assert markov_entropy_rate(np.eye(3)[[1, 2, 0]]) == pytest.approx(0)


def test_a_hidden_chain_whose_states_are_seen_has_the_rate_of_the_chain():
    found = hidden_entropy_rate(FLIP, np.eye(2), 5000)
    assert abs(found.mean - markov_entropy_rate(FLIP)) < 4 * found.error and found.error < 0.02


def test_states_that_emit_alike_hide_the_chain():
    """Both states emit from the same distribution, whose entropy is the entropy rate."""
    found = hidden_entropy_rate(FLIP, np.array([[0.2, 0.8], [0.2, 0.8]]), 5000)
    assert abs(found.mean - binary(0.2)) < 4 * found.error


def test_grammar_entropies():
    found = grammar_entropies(np.array([0.5, 0.5]), FLIP, np.array([[0.5, 0.5], [1.0, 0.0]]))
    assert found == pytest.approx({"start": 1.0, "transition": markov_entropy_rate(FLIP), "emission": 0.75})


def test_bits_a_symbol_skip_the_beginning_of_each_sequence():
    logs = np.log([0.5, 0.25, 0.25, 0.5, 0.125])
    assert bits_per_symbol(logs, [3, 2]).mean == pytest.approx((1 + 2 + 2 + 1 + 3) / 5)
    assert bits_per_symbol(logs, [3, 2], skip=1).mean == pytest.approx((2 + 2 + 3) / 3)
    assert excess_bits(Rate(2.0, 0.3), Rate(1.5, 0.4)) == Rate(0.5, 0.5)
    with pytest.raises(ValueError, match="lengths sum to 4"):
        bits_per_symbol(logs, [2, 2])
    with pytest.raises(ValueError, match="no sequence has more than 3"):
        bits_per_symbol(logs, [3, 2], skip=3)


def test_the_standard_error_covers_the_entropy_rate():
    """A fair coin has exactly 1 bit per symbol, and a biased one its entropy within the error."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 30, size=200)
    heads = rng.random(lengths.sum()) < 0.2
    found = bits_per_symbol(np.log(np.where(heads, 0.2, 0.8)), lengths)
    assert abs(found.mean - binary(0.2)) < 4 * found.error < 0.1
    assert bits_per_symbol(np.full(10, np.log(0.5)), [5, 5]) == Rate(1.0, 0.0)


def test_total_variation_is_weighted_by_occupancy():
    other = np.array([[0.5, 0.5], [0.3, 0.7]])
    assert total_variation(FLIP, FLIP) == 0
    assert total_variation(FLIP, other) == pytest.approx(0.75 * 0.4)
    assert total_variation(FLIP, other, np.array([0.0, 2.0])) == 0
    with unchecked(), pytest.raises(ValueError, match="match their states first"):
        total_variation(FLIP, np.eye(3))


def test_witten_bell_by_hand():
    """a b a a: `a` is followed by b and a once each, two distinct of two; the sequence has three a and one b."""
    model = NGrams(1, 2).fit([np.array([0, 1, 0, 0])])
    single = (np.array([3, 1]) + 2 * 0.5) / (4 + 2)
    np.testing.assert_allclose(model.following(()), single)
    np.testing.assert_allclose(model.following((0,)), (np.array([1, 1]) + 2 * single) / 4)
    assert np.isclose(model.following((1,)).sum(), 1) and np.isclose(model.following((7,)).sum(), 1)
    (logs,) = model.log_probabilities([np.array([0, 1])])
    np.testing.assert_allclose(logs, np.log([model.following((-1,))[0], model.following((0,))[1]]))


def some_song(rng, order, length, table):
    song = list(rng.integers(3, size=order))
    while len(song) < length:
        song.append(rng.choice(3, p=table[tuple(song[len(song) - order :])]))
    return np.array(song)


@pytest.mark.parametrize("order", [1, 2])
def test_the_order_of_a_planted_grammar_is_found(order):
    rng = np.random.default_rng(order)
    table = {tuple(key): rng.dirichlet([0.3] * 3) for key in np.ndindex(*[3] * order)}
    songs = [some_song(rng, order, 60, table) for _ in range(60)]
    found, bits = markov_order(songs[:45], songs[45:], 3, most=4)
    assert found == order and bits[order] < bits[order - 1]


def test_songs_that_are_all_alike_have_the_order_that_predicts_them():
    songs = [np.array([0, 1, 2] * 4)] * 15
    found, bits = markov_order(songs[:10], songs[10:], 3, most=2)
    assert found == int(np.argmin(bits)) >= 1
