"""Grammars against brute force over all sequences, and against songs sampled from them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonarium.worlds.grammar import Grammar, draw_grammar

LETTERS = tuple("abcdefghijkl")


def drawn(syllables: int, order: int, seed: int, **settings) -> Grammar:
    return draw_grammar(LETTERS[:syllables], order, np.random.default_rng(seed), **settings)


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(0, 99))
def test_probabilities_of_all_sequences_sum_to_1(syllables, order, repeats, seed):
    grammar = drawn(syllables, order, seed, repeats=min(repeats, syllables))
    every = itertools.product(grammar.labels, repeat=4)
    assert sum(math.exp(grammar.log_probability(one)) for one in every) == pytest.approx(1)


@settings(max_examples=10)
@given(st.integers(2, 4), st.integers(1, 2), st.integers(0, 99))
def test_the_hidden_markov_model_gives_the_same_probabilities(syllables, order, seed):
    grammar = drawn(syllables, order, seed, repeats=1)
    begin, transition, emission = grammar.hidden_markov()
    np.testing.assert_allclose(transition.sum(1), 1)
    for sequence in itertools.product(range(syllables), repeat=4):
        forward = begin * emission[:, sequence[0]]
        for label in sequence[1:]:
            forward = (forward @ transition) * emission[:, label]
        expected = math.exp(grammar.log_probability([grammar.labels[label] for label in sequence]))
        assert forward.sum() == pytest.approx(expected)


def test_the_entropy_rate_is_that_of_closed_forms():
    coin = Grammar(("a", "b"), np.full((1, 2), 0.5), np.zeros((1, 2), int))
    assert coin.entropy_rate() == pytest.approx(1)
    p, q = 0.1, 0.3
    chain = Grammar(("a", "b"), np.array([[1 - p, p], [q, 1 - q]]), np.array([[0, 1], [0, 1]]))
    h = [-x * math.log2(x) - (1 - x) * math.log2(1 - x) for x in (p, q)]
    assert chain.entropy_rate() == pytest.approx((q * h[0] + p * h[1]) / (p + q))
    cycle = Grammar(("a", "b"), np.eye(2)[::-1].copy(), np.array([[0, 1], [0, 1]]))
    assert cycle.entropy_rate() == 0


@pytest.mark.parametrize(("order", "repeats"), [(1, 0), (2, 0), (3, 0), (1, 2)])
def test_long_songs_have_the_entropy_rate(order, repeats):
    grammar = drawn(6, order, 4, repeats=repeats)
    song = grammar.sample(30_000, np.random.default_rng(0))
    assert -grammar.log_probability(song) / len(song) / math.log(2) == pytest.approx(
        grammar.entropy_rate(), abs=0.02
    )
    assert set(song) == set(grammar.labels)


def conditional_entropy(song: list[str], order: int) -> float:
    """Empirical conditional entropy in bits per syllable, given the `order` previous syllables."""
    counts: dict[tuple[str, ...], dict[str, int]] = {}
    for at in range(order, len(song)):
        row = counts.setdefault(tuple(song[at - order : at]), {})
        row[song[at]] = row.get(song[at], 0) + 1
    rows = [np.array(list(row.values()), float) for row in counts.values()]
    return sum(float(-(row * np.log2(row / row.sum())).sum()) for row in rows) / (len(song) - order)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_order_is_the_least_that_predicts_as_well_as_the_grammar(order):
    grammar = drawn(5, order, 7)
    song = grammar.sample(40_000, np.random.default_rng(1))
    excess = [conditional_entropy(song, k) - grammar.entropy_rate() for k in range(order + 1)]
    assert abs(excess[order]) < 0.015
    assert all(short > 0.03 for short in excess[:order])


def test_no_low_order_knows_how_often_a_syllable_was_repeated():
    grammar = drawn(5, 1, 3, repeats=2)
    song = grammar.sample(40_000, np.random.default_rng(1))
    assert conditional_entropy(song, 1) > grammar.entropy_rate() + 0.1
    assert conditional_entropy(song, 2) > grammar.entropy_rate() + 0.05


def test_flat_grammar_draws_all_labels_alike_and_keeps_the_memory():
    grammar = drawn(5, 2, 0)
    assert grammar.flattened(1).entropy_rate() == pytest.approx(math.log2(5))
    rates = [grammar.flattened(share).entropy_rate() for share in (0, 0.3, 0.6, 1)]
    assert rates == sorted(rates) and grammar.flattened(0).entropy_rate() == grammar.entropy_rate()


def test_one_syllable_has_no_entropy():
    grammar = drawn(1, 2, 0)
    assert (
        grammar.entropy_rate() == pytest.approx(0, abs=1e-12)
        and grammar.sample(3, np.random.default_rng(0)) == ["a"] * 3
    )


def test_the_same_random_numbers_give_the_same_grammar():
    one, other = drawn(5, 2, 3), drawn(5, 2, 3)
    assert np.array_equal(one.emission, other.emission)
    assert not np.array_equal(one.emission, drawn(5, 2, 4).emission)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ("a", "a")}, "each once"),
        ({"emission": np.full((1, 2), 0.4)}, "sum to 1"),
        ({"successor": np.ones((1, 2), int)}, "none of the 1 states"),
    ],
)
def test_what_is_no_grammar_is_refused(change, message):
    parts = {"labels": ("a", "b"), "emission": np.full((1, 2), 0.5), "successor": np.zeros((1, 2), int)} | change
    with pytest.raises(ValueError, match=message):
        Grammar(**parts)
    with pytest.raises(ValueError, match="no syllable is called 'z'"):
        drawn(2, 1, 0).log_probability(["z"])
    with pytest.raises(ValueError, match="order=0"):
        drawn(2, 0, 0)
