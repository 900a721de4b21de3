"""Codes whose scores are known: identity, zeros, copies, rotations, noise, permutations."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from grids import CATEGORY_FIRST, grid, standard

import sonarium.measures
from sonarium.measures.disentanglement import scores as module
from sonarium.measures.disentanglement.forest import ForestConfig
from sonarium.measures.disentanglement.interventions import Draws

KEYS = {
    "mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness", "modularity",
    "explicitness", "jemmig", "dcimig", "beta_vae", "factor_vae", "irs", "dead_codes", "notes", "noise",
}  # fmt: skip
SCORES = KEYS - {"dead_codes", "notes", "noise"}
GRID = grid()
FEW = {"draws": Draws(100, 16), "forest": ForestConfig(trees=5)}


def disentangle(codes, factors, discrete: Any = False, **given: Any):
    """Scores without those of noise, which are tested separately."""
    options: dict[str, Any] = {"permutations": 0, **given}
    return module.disentangle(codes, factors, discrete, **options)


NOISE = np.random.default_rng(1).normal(size=(len(GRID), 5))


@pytest.fixture(scope="module")
def identity() -> dict:
    return disentangle(GRID, GRID, discrete=CATEGORY_FIRST)


def test_identity_is_perfect_in_everything_that_can_be(identity: dict) -> None:
    assert set(identity) == KEYS
    assert identity["dead_codes"] == 0
    assert identity["notes"] == []
    for name in SCORES - {"irs", "explicitness"}:
        assert identity[name] == pytest.approx(1.0, abs=1e-9), name
    # 100 frequencies in 20 bins vary a little within a bin; see the closed form of IRS
    assert 0.95 < identity["irs"] <= 1
    # no linear classifier separates the middle two of 4 categories on one axis: 2·AUC − 1 is 1/3 for those
    assert identity["explicitness"] == pytest.approx((2 / 3 + 1 + 1) / 3, abs=0.02)


def test_a_category_in_one_hot_codes_is_wholly_explicit() -> None:
    codes = np.concatenate([np.eye(4)[GRID[:, 0].astype(int)], GRID[:, 1:]], axis=1)
    assert disentangle(codes, GRID, CATEGORY_FIRST)["explicitness"] > 0.999


def test_scores_are_plain_numbers(identity: dict) -> None:
    assert json.loads(json.dumps(identity)) == identity


def test_dead_codes_are_counted_and_score_nothing() -> None:
    scores = disentangle(np.full((len(GRID), 6), 0.1), GRID, CATEGORY_FIRST)
    assert set(scores) == KEYS
    assert scores["dead_codes"] == 6
    assert {scores[name] for name in SCORES} == {0.0}
    assert scores["notes"]


def test_dead_codes_beside_perfect_ones_change_nothing(identity: dict) -> None:
    codes = np.concatenate([np.zeros((len(GRID), 2)), GRID, np.full((len(GRID), 1), 7.3)], axis=1)
    scores = disentangle(codes, GRID, CATEGORY_FIRST)
    assert scores.pop("dead_codes") == 3
    for name in SCORES:
        assert scores[name] == pytest.approx(identity[name], abs=1e-9), name


def test_collapsed_codes_are_dead_below_the_limit_that_is_set() -> None:
    codes = np.concatenate([standard(GRID), 0.01 * NOISE], axis=1)
    assert disentangle(codes, GRID, CATEGORY_FIRST)["dead_codes"] == 0
    assert disentangle(codes, GRID, CATEGORY_FIRST, dead_below=0.05)["dead_codes"] == 5


def test_copied_codes_have_no_gap_and_half_the_completeness() -> None:
    codes = np.concatenate([GRID, GRID, 2 * GRID[:, :1] - 1, np.exp(standard(GRID)[:, :1])], axis=1)[:, :6]
    scores = disentangle(codes, GRID, CATEGORY_FIRST)
    assert scores["mig"] == pytest.approx(0, abs=1e-9)
    assert scores["sap"] == pytest.approx(0, abs=1e-9)
    assert scores["dci_completeness"] == pytest.approx(1 - np.log(2) / np.log(6), abs=1e-6)
    for name in ("dci_disentanglement", "dci_informativeness", "modularity", "dcimig", "beta_vae"):
        assert scores[name] == pytest.approx(1, abs=1e-9), name


def test_two_numbers_rotated_by_45_degrees_have_no_separation() -> None:
    causes = standard(GRID[:, 1:])
    codes = causes @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
    scores = disentangle(codes, GRID[:, 1:])
    assert scores["sap"] == pytest.approx(0, abs=1e-9)
    assert scores["mig"] < 0.05
    assert scores["dcimig"] < 0.1
    assert scores["modularity"] < 0.2
    assert scores["dci_disentanglement"] < 0.1
    assert scores["dci_informativeness"] > 0.98
    assert scores["explicitness"] > 0.98  # a rotation is linear, as are the classifiers


def test_noise_codes_tell_nothing() -> None:
    scores = disentangle(NOISE, GRID, CATEGORY_FIRST)
    for name in SCORES - {"irs", "beta_vae", "factor_vae", "jemmig"}:
        assert scores[name] < 0.03, name
    assert scores["jemmig"] < 0.2
    assert scores["beta_vae"] == pytest.approx(1 / 3, abs=0.06)  # chance among three factors
    assert scores["factor_vae"] == pytest.approx(1 / 3, abs=0.06)


def test_noise_codes_do_not_drag_perfect_ones_down() -> None:
    scores = disentangle(np.concatenate([standard(GRID), NOISE], axis=1), GRID, CATEGORY_FIRST)
    for name in SCORES - {"irs", "explicitness"}:
        assert scores[name] > 0.985, name


def test_the_order_of_codes_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    codes = standard(GRID) @ rng.normal(size=(3, 5)) + 0.2 * NOISE
    plain = disentangle(codes, GRID, CATEGORY_FIRST)
    moved = disentangle(codes[:, rng.permutation(5)], GRID, CATEGORY_FIRST)
    for name in SCORES:
        # in small nodes of a forest two codes may split equally well, and the first is taken
        allowed = 3e-3 if name.startswith("dci_") else 1e-9
        assert moved[name] == pytest.approx(plain[name], abs=allowed), name


def test_a_monotone_code_keeps_what_reads_ranks_and_loses_what_reads_lines() -> None:
    straight, bent = standard(GRID), np.sinh(1.2 * standard(GRID))
    scores = disentangle(bent, GRID, CATEGORY_FIRST)
    for name in ("dci_disentanglement", "dci_completeness", "dci_informativeness", "modularity"):
        assert scores[name] == pytest.approx(1, abs=1e-6), name
    line = [np.corrcoef(bent[:, one], straight[:, one])[0, 1] ** 2 for one in (1, 2)]
    assert scores["sap"] == pytest.approx((1 + sum(line)) / 3, abs=1e-9)


def test_negated_codes_are_as_good(identity: dict) -> None:
    scores = disentangle(-GRID, GRID, CATEGORY_FIRST)
    for name in SCORES - {"explicitness"}:
        assert scores[name] == pytest.approx(identity[name], abs=0.02), name


def test_the_same_seed_gives_the_same_numbers_and_tensors_are_arrays() -> None:
    codes = standard(GRID) + 0.5 * NOISE[:, :3]
    once = disentangle(codes, GRID, discrete=[0], seed=5)
    tensors = torch.tensor(codes, requires_grad=True), torch.tensor(GRID)
    bools = [True, False, False]
    assert sonarium.measures.disentangle(*tensors, discrete=bools, seed=5, permutations=0) == once
    assert disentangle(codes, GRID, discrete=[0], seed=6) != once


def test_one_factor_leaves_out_what_any_codes_would_score() -> None:
    for codes in (GRID[:, 1:2], NOISE[:, :2]):
        scores = disentangle(codes, GRID[:, 1:2], **FEW)
        lacking = {"dci_disentanglement", "modularity", "beta_vae", "factor_vae"}
        lacking |= {"dci_completeness"} if codes.shape[1] == 1 else set()
        assert SCORES - scores.keys() == lacking
        assert all(np.isfinite(scores[name]) for name in SCORES - lacking)
        assert all(any(name in note for note in scores["notes"]) for name in lacking)


def test_one_live_code_leaves_out_completeness() -> None:
    codes = np.concatenate([NOISE[:, :1], np.zeros((len(GRID), 3))], 1)
    scores = disentangle(codes, GRID, CATEGORY_FIRST, **FEW)
    assert "dci_completeness" not in scores
    assert "dci_completeness is left out: with one live code any code is perfect" in scores["notes"]


def test_every_score_stands_beside_that_of_noise() -> None:
    some = np.random.default_rng(0).permutation(len(GRID))[:300]
    codes = np.concatenate([standard(GRID), NOISE], 1)[some]
    found = disentangle(codes, GRID[some], CATEGORY_FIRST, permutations=3, **FEW)
    assert found["noise"].keys() == found.keys() & SCORES >= {"mig", "modularity", "explicitness"}
    assert json.loads(json.dumps(found)) == found
    for name, noise in found["noise"].items():
        assert noise["count"] == 3 and 0 <= noise["low"] <= noise["mean"] <= noise["high"] <= 1
        assert found[name] > noise["high"], name
    # The noise is permuted codes: its mean score is that of codes permuted by another seed.
    blind = disentangle(np.random.default_rng(1).permutation(codes), GRID[some], CATEGORY_FIRST, **FEW)
    for name in ("mig", "jemmig", "irs", "dcimig"):
        assert blind[name] == pytest.approx(found["noise"][name]["mean"], abs=0.05), name


@pytest.mark.parametrize("case", ["20 clips", "50 clips", "two clips a value", "heavy tails", "rare binary codes"])
def test_scores_that_noise_has_are_left_out(case) -> None:
    rng = np.random.default_rng(4)
    clips = {"20 clips": 20, "50 clips": 50}.get(case, 200)
    factors, codes = rng.uniform(size=(clips, 2)), rng.normal(size=(clips, 4))
    discrete = case == "two clips a value"
    if discrete:
        factors = np.stack([rng.permutation(clips) // 2 for _ in range(2)], 1) * 1.0
    if case == "heavy tails":
        codes = np.exp(3 * codes)
    if case == "rare binary codes":
        factors, codes = rng.integers(0, 2, (clips, 2)) * 1.0, (rng.uniform(size=(clips, 4)) < 0.03) * 1.0
    out = "jemmig" if case == "rare binary codes" else "irs"
    scores = disentangle(codes, factors, discrete, permutations=3, **FEW)
    assert out not in scores and out not in scores["noise"]
    assert any(note.startswith(f"{out} is left out: codes that know nothing") for note in scores["notes"])
    assert out in disentangle(codes, factors, discrete, **FEW)


def test_a_rare_class_is_in_both_halves_or_has_no_part() -> None:
    rng = np.random.default_rng(0)
    codes, other = rng.normal(size=(1000, 3)), rng.integers(0, 3, 1000)
    for rare in (1, 2):
        factors = np.stack([np.arange(1000) < rare, other], 1) * 1.0
        for seed in range(3):
            scores = disentangle(codes, factors, True, seed=seed, **FEW)
            assert all(np.isfinite(scores[name]) for name in SCORES & scores.keys())
            said = "factor 0 has no part in sap, dci and explicitness: it does not vary in both halves"
            assert (said in scores["notes"]) == (rare == 1) == ("dci_disentanglement" not in scores)
    alone = disentangle(codes, (np.arange(1000) < 1)[:, None] * 1.0, True, **FEW)
    assert {"sap", "dci_informativeness", "explicitness"}.isdisjoint(alone)


def test_an_offset_is_no_death() -> None:
    codes = NOISE[:, :2] + 1e7
    assert disentangle(codes, GRID, CATEGORY_FIRST, **FEW)["dead_codes"] == 0
    # float32 has no digits left at this offset
    assert disentangle(codes.astype(np.float32), GRID, CATEGORY_FIRST, **FEW)["dead_codes"] == 2
    constant = np.full((len(GRID), 1), 0.1) + 1e7
    assert disentangle(np.concatenate([codes, constant], 1), GRID, CATEGORY_FIRST, **FEW)["dead_codes"] == 1


def test_bfloat16_is_read_as_the_numbers_that_it_holds() -> None:
    codes = torch.tensor(standard(GRID)[::7]).bfloat16()
    plain = disentangle(codes.double(), GRID[::7], CATEGORY_FIRST, **FEW)
    assert disentangle(codes, GRID[::7], CATEGORY_FIRST, **FEW) == plain
