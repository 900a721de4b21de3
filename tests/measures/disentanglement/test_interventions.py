"""Scores of clips that share a factor: samplers, chance and certainty, and IRS by brute force."""

import numpy as np
import pytest
from grids import CATEGORY_FIRST, grid, standard

from sonarium.measures import disentangle
from sonarium.measures.disentanglement.interventions import Draws, factor_vae, from_table, from_world, irs

GRID = grid(frequencies=20)


def test_a_table_gives_groups_that_share_one_factor_and_no_clip_beside_itself() -> None:
    number = np.arange(len(GRID), dtype=float)[:, None]
    sampler = from_table(number, GRID)
    assert not isinstance(sampler, str)
    for factor in range(3):
        clips = sampler(factor, 50, 8, np.random.default_rng(0))[..., 0].astype(int)
        causes = GRID[clips]
        assert np.all(causes[..., factor] == causes[:, :1, factor])
        assert np.all(clips[:, 1:] != clips[:, :-1])
        others = [one for one in range(3) if one != factor]
        assert np.all(causes[..., others].std(axis=(0, 1)) > 0)
        assert len(np.unique(causes[:, 0, factor])) > 2  # not always the same value


def test_a_world_is_asked_for_the_values_of_the_table_in_modest_calls() -> None:
    asked = []

    def generate(causes: np.ndarray) -> np.ndarray:
        asked.append(causes)
        return causes

    made = from_world(generate, GRID, at_once=100)(1, 30, 7, np.random.default_rng(0))
    assert made.shape == (30, 7, 3)
    assert max(len(causes) for causes in asked) == 100
    assert np.all(made[..., 1] == made[:, :1, 1])
    assert set(np.concatenate(asked)[:, 1]) <= set(GRID[:, 1])


def test_scores_from_a_world_where_no_value_repeats() -> None:
    rng = np.random.default_rng(0)
    factors = rng.uniform(size=(500, 3))

    def encode(causes: np.ndarray) -> np.ndarray:
        return np.concatenate([causes**2, 0 * causes[:, :1]], axis=1)

    without = disentangle(encode(factors), factors)
    assert {"beta_vae", "factor_vae"}.isdisjoint(without)
    assert "generate" in without["notes"][0]
    few = Draws(votes=150, clips=16)
    scores = disentangle(encode(factors), factors, generate=encode, draws=few)
    assert scores["beta_vae"] > 0.98
    assert scores["factor_vae"] > 0.98
    with pytest.raises(ValueError, match=r"made codes of shape \(\d+, 3\)"):
        disentangle(encode(factors), factors, generate=lambda causes: causes, draws=few)


def test_factor_vae_counts_the_majority_vote_per_code() -> None:
    # one code holds factor 0, the other tells nothing: all votes for it go to factor 1
    codes = np.stack([GRID[:, 1], np.random.default_rng(0).normal(size=len(GRID))], axis=1)
    sampler = from_table(codes, GRID[:, 1:])
    assert not isinstance(sampler, str)
    score = factor_vae(sampler, codes.std(axis=0), 2, Draws(), seed=0)
    # factor 0 held: code 0 is still. Factor 1 held: either of both, so half the votes are lost
    assert score == pytest.approx(0.75, abs=0.08)


def test_irs_of_held_and_free_codes_has_its_closed_form() -> None:
    # two balanced factors of values −1, 1; codes a, b and a + b/2
    a, b = np.repeat([-1.0, 1.0], 20), np.tile([-1.0, 1.0], 20)
    bins = np.stack([a > 0, b > 0], axis=1).astype(np.int64)
    codes = np.stack([a, b, a + b / 2], axis=1)
    # the mixture swings to 1.5 at most, and to 0.5 with a held
    expected = (1 * 1 + 1 * 1 + 1.5 * (1 - 0.5 / 1.5)) / 3.5
    assert irs(codes, bins, np.array([2, 2])) == pytest.approx(expected)


def test_irs_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    codes, bins = rng.normal(size=(300, 4)), rng.integers(0, 5, (300, 2))
    bins[:, 1] = np.where(bins[:, 1] == 3, 2, bins[:, 1])  # a bin without a clip does not count
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
    # 5 values a bin: they deviate by 2 of the 49.5 that the code swings
    assert disentangle(frequency, frequency)["irs"] == pytest.approx(1 - 2 / 49.5)


def test_half_entangled_codes_lie_between_chance_and_certainty() -> None:
    codes = standard(GRID)
    codes = np.stack([codes[:, 0], codes[:, 1] + codes[:, 2], codes[:, 1] - codes[:, 2]], axis=1)
    scores = disentangle(codes, GRID, CATEGORY_FIRST)
    assert 0.5 < scores["factor_vae"] < 0.85
    assert 0.5 < scores["beta_vae"] < 0.9
