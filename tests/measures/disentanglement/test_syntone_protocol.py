"""SynTone's protocol against the scores of its evaluator for known codes, and brute force."""

import numpy as np
import pytest
from grids import CATEGORY_FIRST, grid, standard
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mutual_info_score

from sonarium.measures import disentangle


def test_three_perfect_codes_of_eight_score_as_the_evaluator_scored_them() -> None:
    causes = grid(frequencies=400, amplitudes=20)
    noise = np.random.default_rng(0).normal(size=(len(causes), 5))
    scores = disentangle(
        np.concatenate([standard(causes), noise], axis=1), causes, CATEGORY_FIRST, protocol="syntone"
    )
    assert set(scores) == {"mig", "sap", "dcimig", "jemmig", "modularity", "dead_codes", "notes", "noise"}
    assert scores["mig"] == pytest.approx(0.375, abs=0.002)
    assert scores["sap"] == pytest.approx(0.375, abs=0.002)
    assert scores["jemmig"] == pytest.approx(0.375, abs=0.005)
    assert scores["dcimig"] == pytest.approx(0.424, abs=0.02)  # depends on the extremes of the noise
    assert scores["modularity"] == pytest.approx(1.0, abs=1e-3)


def test_as_called_by_brute_force() -> None:
    causes, rng = grid(frequencies=25), np.random.default_rng(0)
    codes = standard(causes) @ rng.normal(size=(3, 4)) + 0.5 * rng.normal(size=(len(causes), 4))
    codes[:, 3] = 0.0
    scores = disentangle(codes, causes, protocol="syntone")
    cut = [plain_digits(column) for column in codes.T], [plain_digits(column) for column in causes.T]
    mutual = np.array([[mutual_info_score(z, v) for v in cut[1]] for z in cut[0]])
    label_entropy = np.array([mutual_info_score(v, v) for v in cut[1]])
    code_entropy = np.array([mutual_info_score(z, z) for z in cut[0]])
    ratio = np.sort(mutual / label_entropy, axis=1)
    assert scores["mig"] == pytest.approx(np.mean(ratio[:, -1] - ratio[:, -2]))
    rewards = []
    for code in range(4):
        order = np.argsort(mutual[code].round(12), kind="stable")
        joint = 100 * cut[0][code] + cut[1][order[-1]]
        excess = mutual_info_score(joint, joint) - mutual[code, order[-1]] + mutual[code, order[-2]]
        rewards.append(1 - excess / (code_entropy[code] + np.log(10)))
    assert scores["jemmig"] == pytest.approx(np.mean(rewards))
    gap = np.zeros_like(mutual)
    for label in range(3):
        order = np.argsort(mutual[:, label])
        gap[order[-1], label] = mutual[order[-1], label] - mutual[order[-2], label]
    assert scores["dcimig"] == pytest.approx(gap.max(axis=1).sum() / code_entropy.sum())
    compact = [np.sort(mutual[:, label] ** 2) for label in range(3)]
    assert scores["modularity"] == pytest.approx(1 - np.mean([c[:-1].sum() / (3 * c[-1]) for c in compact]))
    fits = [[LinearRegression().fit(causes[:, [v]], z).score(causes[:, [v]], z) for v in range(3)]
            for z in codes.T[:3]]  # fmt: skip
    gaps = [np.sort(fit)[-1] - np.sort(fit)[-2] for fit in fits]
    assert scores["sap"] == pytest.approx(sum(gaps) / 4)  # the dead code explains nothing
    assert scores["dead_codes"] == 1


def test_dead_codes_alone_score_0() -> None:
    causes = grid(frequencies=10)
    scores = disentangle(np.zeros((len(causes), 4)), causes, CATEGORY_FIRST, protocol="syntone")
    assert scores["dead_codes"] == 4
    assert scores["mig"] == scores["modularity"] == scores["dcimig"] == scores["jemmig"] == 0.0


def plain_digits(column: np.ndarray) -> np.ndarray:
    """Ten equal-width bins, even for a column with fewer values than that."""
    if column.min() == column.max():
        return np.zeros(len(column), int)
    return np.minimum((10 * (column - column.min()) / np.ptp(column)).astype(int), 9)
