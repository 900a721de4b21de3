"""Bins, informations and the scores read off them, beside brute force, closed forms and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import mutual_info_score

from sonarium.measures.disentanglement import information
from sonarium.measures.disentanglement.binning import bin_columns, joint_counts


def table_of(codes: np.ndarray, factors: np.ndarray) -> information.Information:
    """From columns of small whole numbers from 0."""
    sizes = codes.max(axis=0) + 1, factors.max(axis=0) + 1
    return information.information(joint_counts(codes, factors, *sizes)[0], *sizes)


whole = hnp.arrays(np.int64, st.tuples(st.integers(2, 60), st.just(3)), elements=st.integers(0, 5))


@settings(max_examples=60, deadline=None)
@given(whole, st.randoms(use_true_random=False))
def test_informations_equal_those_of_scikit_learn(codes: np.ndarray, random) -> None:
    order = list(range(len(codes)))
    random.shuffle(order)
    factors = codes[order][:, ::-1]
    table = table_of(codes, factors)
    for code in range(3):
        own = mutual_info_score(codes[:, code], codes[:, code])
        assert table.code[code] == pytest.approx(own, abs=1e-9)
        for factor in range(3):
            pair = codes[:, code], factors[:, factor]
            assert table.mutual[code, factor] == pytest.approx(mutual_info_score(*pair), abs=1e-9)
            both = 10 * pair[0] + pair[1]
            assert table.joint[code, factor] == pytest.approx(mutual_info_score(both, both), abs=1e-9)


def test_a_noisy_binary_channel_has_its_closed_form() -> None:
    # exactly 90 of 100 symbols arrive: I = ln 2 − H(0.1), for uniform symbols
    sent = np.repeat([0, 1], 100)
    received = sent.copy()
    received[:10], received[100:110] = 1, 0
    other = np.tile([0, 1], 100)  # tells nothing of what was sent, or received
    told = np.log(2) + 0.9 * np.log(0.9) + 0.1 * np.log(0.1)
    table = table_of(np.stack([received, other], 1), sent[:, None])
    assert table.mutual[0, 0] == pytest.approx(told)
    assert information.mig(table) == pytest.approx(told / np.log(2))
    expected = 1 - (2 * np.log(2) - 2 * told) / (np.log(2) + np.log(20))
    assert information.jemmig(table, bins=20) == pytest.approx(expected)


def test_a_code_that_holds_two_factors_is_what_the_joint_entropy_punishes() -> None:
    first, second = np.repeat(np.arange(4), 25 * 4), np.tile(np.repeat(np.arange(4), 25), 4)
    factors = np.stack([first, second], 1)
    table = table_of((4 * first + second)[:, None], factors)
    assert information.mig(table) == pytest.approx(1.0)  # the gap does not see it
    worse = 1 - np.log(4) / (np.log(4) + np.log(16))
    assert information.jemmig(table, bins=16) == pytest.approx(worse)
    assert information.modularity(table) == pytest.approx(0.0)
    assert information.dcimig(table) == pytest.approx(0.0)


@settings(max_examples=60, deadline=None)
@given(whole)
def test_scores_stay_between_0_and_1(values: np.ndarray) -> None:
    factors = np.stack([np.arange(len(values)) % 2, np.arange(len(values)) % 3], 1)[:, : len(values) - 1]
    table = table_of(values, factors)
    scores = information.mig(table), information.jemmig(table, 6), information.dcimig(table)
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in (*scores, information.modularity(table)))


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float64, st.integers(2, 80), elements=st.integers(-1000, 1000).map(float)))
def test_bins_are_those_of_numpy_or_the_values_themselves(values: np.ndarray) -> None:
    binned, sizes = bin_columns(values[:, None], 7)
    distinct, inverse = np.unique(values, return_inverse=True)
    if len(distinct) <= 7:
        assert sizes[0] == len(distinct)
        np.testing.assert_array_equal(binned[:, 0], inverse)
    else:
        width = (values.max() - values.min()) / 7
        middle = values.min() + (binned[:, 0] + 0.5) * width
        assert sizes[0] == 7
        assert np.all(np.abs(values - middle) <= width * (0.5 + 1e-9))
        assert binned[values.argmax(), 0] == 6


def test_a_category_keeps_its_values_however_many() -> None:
    values = np.repeat(np.arange(40.0), 3)[:, None]
    binned, sizes = bin_columns(values, 20, keep=(True,))
    assert sizes[0] == 40
    np.testing.assert_array_equal(binned, values)


def test_chance_is_the_information_of_shuffled_clips() -> None:
    rng = np.random.default_rng(0)
    codes, factors = rng.integers(0, 6, (500, 1)), rng.integers(0, 5, (500, 1))
    shuffled = [table_of(rng.permutation(codes), factors) for _ in range(300)]
    told = np.array([table.mutual[0, 0] for table in shuffled])
    assert told.mean() == pytest.approx(shuffled[0].chance[0, 0], rel=0.1)
    assert np.mean(told > shuffled[0].limit[0, 0]) < 0.02
