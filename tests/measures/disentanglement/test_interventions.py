"""Scores of clips that share a factor: samplers, chance level and perfect codes, and IRS by brute force."""

import numpy as np
import pytest
from grids import CATEGORY_FIRST, grid, standard
from scipy.stats import chisquare

from sonarium.measures import disentangle
from sonarium.measures.disentanglement.halves import halves
from sonarium.measures.disentanglement.interventions import (
    Draws,
    Samplers,
    _subsets,
    beta_vae,
    factor_vae,
    from_table,
    from_world,
    irs,
)

GRID = grid(frequencies=20)


def test_a_table_gives_groups_of_different_clips_that_share_one_factor_out_of_one_half() -> None:
    number, half = np.arange(len(GRID), dtype=float)[:, None], halves(GRID, 0)
    samplers = from_table(number, GRID, half, 64)
    assert isinstance(samplers, Samplers) and samplers.clips == 20  # half of the 40 clips of a frequency
    for part, sampler in enumerate((samplers.learn, samplers.score)):
        for factor in range(3):
            clips = sampler(factor, 50, 8, np.random.default_rng(0))[..., 0].astype(int)
            causes = GRID[clips]
            assert np.all(half[clips] == part)
            assert np.all(causes[..., factor] == causes[:, :1, factor])
            assert np.all(np.diff(np.sort(clips, axis=1)) > 0)
            others = [one for one in range(3) if one != factor]
            assert np.all(causes[..., others].std(axis=(0, 1)) > 0)
            assert len(np.unique(causes[:, 0, factor])) > 2  # not always the same value


def test_every_subset_is_as_likely() -> None:
    drawn = _subsets(np.full(20_000, 5), 3, np.random.default_rng(0))
    _, count = np.unique(np.sort(drawn, axis=1), axis=0, return_counts=True)
    assert len(count) == 10 and chisquare(count).pvalue > 1e-3


def test_both_halves_have_every_value_that_two_clips_have() -> None:
    rng = np.random.default_rng(0)
    factors = np.stack([rng.geometric(0.3, 400), rng.integers(0, 60, 400), rng.uniform(size=400)], 1).astype(float)
    half = halves(factors, 3)
    assert abs(half.sum() - 200) <= 4
    for column in factors.T[:2]:
        for value in np.unique(column):
            mine = half[column == value]
            assert len(mine) == 1 or set(mine) == {0, 1}
            assert abs(2 * mine.sum() - len(mine)) <= max(2, 0.4 * len(mine))


@pytest.mark.parametrize("clips", [40, 100, 400])
@pytest.mark.parametrize("kind", ["normal", "heavy tails"])
def test_codes_that_know_nothing_are_at_chance_in_a_table_of_any_size(clips, kind) -> None:
    """Three factors of 4 values each, and of 2, 5 and 10 values: no clip is used for both training and scoring."""
    found = []
    for seed in range(24):
        rng = np.random.default_rng([seed, clips])
        codes = rng.normal(size=(clips, 6))
        codes[:, 3:] = np.exp(2 * codes[:, 3:]) if kind == "heavy tails" else codes[:, 3:]
        factors = np.stack([rng.integers(0, k, clips) for k in ((4, 4, 4) if seed % 2 else (2, 5, 10))], 1) * 1.0
        samplers = from_table(codes / codes.std(axis=0), factors, halves(factors, seed), 16)
        assert isinstance(samplers, Samplers)
        draws = Draws(votes=150, clips=16)
        found.append([beta_vae(samplers, 3, draws, seed), factor_vae(samplers, 3, draws, seed)])
    error = np.std(found, axis=0) / len(found) ** 0.5
    assert np.all(np.abs(np.mean(found, axis=0) - 1 / 3) < 4 * error)
    assert np.all(error < 0.03)


def test_tables_whose_values_do_not_repeat_in_each_half_are_left_out() -> None:
    factors = np.stack([np.arange(60) // 2, np.arange(60) % 3], 1) * 1.0
    found = from_table(factors, factors, halves(factors, 0), 64)
    assert found == "in one half, most clips have a value of factor 0 that no other clip has"


def test_a_world_is_asked_for_the_values_of_the_table_in_modest_calls() -> None:
    asked = []

    def generate(causes: np.ndarray) -> np.ndarray:
        asked.append(causes)
        return causes

    made = from_world(generate, GRID, 7, at_once=100).score(1, 30, 7, np.random.default_rng(0))
    assert made.shape == (30, 7, 3)
    assert max(len(causes) for causes in asked) == 100
    assert np.all(made[..., 1] == made[:, :1, 1])
    assert set(np.concatenate(asked)[:, 1]) <= set(GRID[:, 1])


def test_scores_from_a_world_where_no_value_repeats() -> None:
    rng = np.random.default_rng(0)
    factors = rng.uniform(size=(500, 3))

    def encode(causes: np.ndarray) -> np.ndarray:
        return np.concatenate([causes**2, 0 * causes[:, :1]], axis=1)

    without = disentangle(encode(factors), factors, permutations=0)
    assert {"beta_vae", "factor_vae"}.isdisjoint(without)
    assert "generate" in without["notes"][0]
    few = Draws(votes=150, clips=16)
    scores = disentangle(encode(factors), factors, generate=encode, draws=few, permutations=2)
    for name in ("beta_vae", "factor_vae"):
        assert scores["noise"][name]["mean"] == pytest.approx(1 / 3, abs=0.12)
    assert scores["beta_vae"] > 0.98
    assert scores["factor_vae"] > 0.98
    with pytest.raises(ValueError, match=r"made codes of shape \(\d+, 3\)"):
        disentangle(encode(factors), factors, generate=lambda causes: causes, draws=few)


def test_factor_vae_counts_the_majority_vote_per_code() -> None:
    # one code encodes factor 0, the other is noise: all votes of the latter go to factor 1
    codes = standard(np.stack([GRID[:, 1], np.random.default_rng(0).normal(size=len(GRID))], axis=1))
    samplers = from_table(codes, GRID[:, 1:], halves(GRID, 0), 64)
    assert isinstance(samplers, Samplers)
    # factor 0 fixed: code 0 is constant. Factor 1 fixed: either may vary least, so half the votes are lost
    assert factor_vae(samplers, 2, Draws(), seed=0) == pytest.approx(0.75, abs=0.08)


def test_codes_that_are_equally_still_share_a_vote_whatever_their_order() -> None:
    # A code of each factor, and one that is never constant; in a group of two, both factors may be constant.
    factors = np.stack([np.arange(40) % 2, np.arange(40) // 2 % 2], 1) * 1.0
    codes = np.concatenate([standard(factors), np.random.default_rng(0).normal(size=(40, 1))], 1)
    found = []
    for order in ([0, 1, 2], [2, 1, 0]):
        samplers = from_table(codes[:, order], factors, halves(factors, 0), 2)
        assert isinstance(samplers, Samplers)
        found.append(factor_vae(samplers, 2, Draws(votes=400), seed=0))
    # the value of the other factor is shared by 4 of the 9 other clips: then half of the vote is lost
    assert found[0] == pytest.approx(found[1]) == pytest.approx(1 - 4 / 9 / 2, abs=0.06)


def test_irs_of_held_and_free_codes_has_its_closed_form() -> None:
    # two balanced factors of values −1, 1; codes a, b and a + b/2
    a, b = np.repeat([-1.0, 1.0], 20), np.tile([-1.0, 1.0], 20)
    bins = np.stack([a > 0, b > 0], axis=1).astype(np.int64)
    codes = np.stack([a, b, a + b / 2], axis=1)
    # the mixture deviates by at most 1.5, and by 0.5 with a fixed
    expected = (1 * 1 + 1 * 1 + 1.5 * (1 - 0.5 / 1.5)) / 3.5
    assert irs(codes, bins, np.array([2, 2])) == pytest.approx(expected)


def test_irs_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    codes, bins = rng.normal(size=(300, 4)), rng.integers(0, 5, (300, 2))
    bins[:, 1] = np.where(bins[:, 1] == 3, 2, bins[:, 1])  # an empty bin does not count
    robust = np.zeros((4, 2))
    for code in range(4):
        swing = np.abs(codes[:, code] - codes[:, code].mean()).max()
        for factor in range(2):
            held = [codes[bins[:, factor] == one, code] for one in np.unique(bins[:, factor])]
            robust[code, factor] = 1 - np.mean([np.abs(z - z.mean()).max() for z in held]) / swing
    weights = np.abs(codes - codes.mean(axis=0)).max(axis=0)
    expected = np.average(robust.max(axis=1), weights=weights)
    assert irs(codes, bins, np.array([5, 5])) == pytest.approx(expected)


def test_irs_of_values_finer_than_bins_is_short_of_1_by_their_width() -> None:
    frequency = np.tile(np.arange(100.0), 4)[:, None]
    # 5 values per bin: they deviate by 2, and the whole code by 49.5
    assert disentangle(frequency, frequency, permutations=0)["irs"] == pytest.approx(1 - 2 / 49.5)


def test_half_entangled_codes_lie_between_chance_and_certainty() -> None:
    codes = standard(GRID)
    codes = np.stack([codes[:, 0], codes[:, 1] + codes[:, 2], codes[:, 1] - codes[:, 2]], axis=1)
    scores = disentangle(codes, GRID, CATEGORY_FIRST, permutations=0)
    assert 0.5 < scores["factor_vae"] < 0.85
    assert 0.5 < scores["beta_vae"] < 0.9
