"""Binning, mutual information and the scores based on it, against brute force, closed forms and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

from sonarium.measures import disentangle
from sonarium.measures.disentanglement import information
from sonarium.measures.disentanglement.binning import bin_columns, joint_counts


def table_of(codes: np.ndarray, factors: np.ndarray) -> information.Information:
    """Information of columns of small whole numbers from 0."""
    sizes = codes.max(axis=0) + 1, factors.max(axis=0) + 1
    return information.information(joint_counts(codes, factors, *sizes)[0])


def modularity(codes: np.ndarray, factors: np.ndarray) -> float:
    table = table_of(codes, factors)
    return information.modularity(table, information.chance(table, codes, factors, 0))


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
    other = np.tile([0, 1], 100)  # independent of both
    told = np.log(2) + 0.9 * np.log(0.9) + 0.1 * np.log(0.1)
    table = table_of(np.stack([received, other], 1), sent[:, None])
    assert table.mutual[0, 0] == pytest.approx(told)
    assert information.mig(table) == pytest.approx(told / np.log(2))
    expected = 1 - (2 * np.log(2) - 2 * told) / (np.log(2) + np.log(20))
    assert information.jemmig(table, bins=20) == pytest.approx(expected)


def test_a_code_that_holds_two_factors_is_what_the_joint_entropy_punishes() -> None:
    first, second = np.repeat(np.arange(4), 25 * 4), np.tile(np.repeat(np.arange(4), 25), 4)
    factors = np.stack([first, second], 1)
    both = (4 * first + second)[:, None]
    table = table_of(both, factors)
    assert information.mig(table) == pytest.approx(1.0)  # which the gap does not detect
    worse = 1 - np.log(4) / (np.log(4) + np.log(16))
    assert information.jemmig(table, bins=16) == pytest.approx(worse)
    assert modularity(both, factors) == pytest.approx(0.0, abs=1e-2)
    assert information.dcimig(table) == pytest.approx(0.0)


@settings(max_examples=60, deadline=None)
@given(whole)
def test_scores_stay_between_0_and_1(values: np.ndarray) -> None:
    factors = np.stack([np.arange(len(values)) % 2, np.arange(len(values)) % 3], 1)
    table = table_of(values, factors)
    scores = information.mig(table), information.jemmig(table, 6), information.dcimig(table)
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in (*scores, modularity(values, factors)))


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
        assert np.all(np.abs(values - middle) <= width * (0.5 + 1e-4))
        assert binned[values.argmax(), 0] == 6


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 90), st.integers(2, 24), st.floats(0.01, 100), st.floats(-10, 10))
def test_evenly_spaced_numbers_have_the_same_bins_however_they_are_scaled(values, bins, scale, offset) -> None:
    """Half of their values may lie on bin edges, where rounding must not decide."""
    even = np.random.default_rng(0).permutation(np.arange(values).repeat(2)).astype(float)
    binned, sizes = bin_columns(np.stack([even, -even, scale * even + offset, offset - scale * even], 1), bins)
    assert (sizes == sizes[0]).all()
    for column in (0, 2):
        assert (binned[:, column] == binned[:, 0]).all() and (
            binned[:, column + 1] == sizes[0] - 1 - binned[:, 0]
        ).all()
    assert (np.diff(binned[np.argsort(even), 0]) >= 0).all()


def test_the_information_on_evenly_spaced_numbers_does_not_depend_on_their_scale() -> None:
    factor = np.random.default_rng(0).permutation(np.arange(41.0).repeat(10))[:, None]
    whole = [disentangle(code, factor, permutations=0)["mig"] for code in (factor, -factor, 0.7 * factor + 0.1)]
    assert whole == pytest.approx([1.0, 1.0, 1.0], abs=1e-9)


def test_jemmig_takes_the_simpler_of_two_codes_that_predict_a_factor_fully() -> None:
    factor, other = np.repeat(np.arange(4), 100), np.tile(np.arange(5), 80)
    codes = np.stack([5 * factor + other, factor], 1)
    found = [information.jemmig(table_of(codes[:, order], factor[:, None]), 20) for order in ([0, 1], [1, 0])]
    # H(v, c*) = H(v), and both mutual informations are H(v)
    assert found == pytest.approx([1 - np.log(4) / (np.log(4) + np.log(20))] * 2)


def test_a_category_keeps_its_values_however_many() -> None:
    values = np.repeat(np.arange(40.0), 3)[:, None]
    binned, sizes = bin_columns(values, 20, keep=(True,))
    assert sizes[0] == 40
    np.testing.assert_array_equal(binned, values)


def test_chance_is_the_expectation_over_all_permutations() -> None:
    """Against the closed form (Vinh et al. 2010) of scikit-learn."""
    rng = np.random.default_rng(0)
    codes, factors = rng.integers(0, 12, (150, 2)), rng.integers(0, 5, (150, 2))
    codes[:, 1] = np.minimum(rng.geometric(0.4, 150), 9)
    found = information.chance(table_of(codes, factors), codes, factors, 0, permutations=400)
    for code in range(2):
        for factor in range(2):
            counts = contingency_matrix(codes[:, code], factors[:, factor], sparse=True)
            assert found.mutual[code, factor] == pytest.approx(expected_mutual_information(counts, 150), rel=0.03)


def noise_of(kind: str, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    if kind == "uniform":
        return rng.uniform(size=shape)
    normal = rng.normal(size=shape)
    return {
        "normal": normal,
        "skewed": np.exp(2 * normal),
        "rare": np.append(normal[1:] > 2, 1 | (normal[:1] > 9), 0),
    }[kind].astype(float)


@pytest.mark.parametrize("kind", ["uniform", "normal", "skewed", "rare"])
def test_independent_codes_pass_the_test_of_independence_once_in_a_hundred_tables(kind) -> None:
    """Dense and sparse counts: numbers, and a category of 50 values."""
    passed = []
    for seed in range(60):
        rng = np.random.default_rng([seed, 9])
        codes = bin_columns(noise_of(kind, rng, (200, 6)), 20)[0]
        for factors in (bin_columns(rng.normal(size=(200, 2)), 20)[0], rng.integers(0, 50, (200, 1))):
            passed.append(information.chance(table_of(codes, factors), codes, factors, seed).exceeded.any())
    # 120 tables: more than 6 at a rate of .01 has a probability of 2e-4
    assert sum(passed) <= 6


@pytest.mark.parametrize("clips", [50, 400])
def test_dependence_is_found_in_few_clips(clips) -> None:
    numbers = np.random.default_rng(0).uniform(size=(clips, 3))
    assert modularity(*[bin_columns(numbers, 20)[0]] * 2) > 0.99


def test_modularity_by_brute_force() -> None:
    rng = np.random.default_rng(1)
    factors = rng.integers(0, 4, (400, 3))
    mixed = np.where(rng.random(400) < 0.7, factors[:, 0], factors[:, 1])
    codes = np.stack([factors[:, 0], mixed, rng.integers(0, 4, 400)], 1)
    scores, weights = [], []
    for code in codes.T[:2]:  # the third is noise
        told = [
            mutual_info_score(code, factor)
            - expected_mutual_information(contingency_matrix(code, factor, sparse=True), 400)
            for factor in factors.T
        ]
        best, *others = sorted(np.maximum(told, 0), reverse=True)
        scores.append(1 - sum(other**2 for other in others) / (2 * best**2))
        weights.append(best)
    assert modularity(codes, factors) == pytest.approx(np.average(scores, weights=weights), abs=2e-3)
