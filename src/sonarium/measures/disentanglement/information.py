"""Mutual information of codes and factors, in nats, and the scores computed from that table.

MIG: Chen et al. 2018 (arXiv:1802.04942). JEMMIG: Do & Tran 2020 (arXiv:1908.09961). DCIMIG:
Sepliarskaia et al. 2019 (arXiv:1910.05587). Modularity: Ridgeway & Mozer 2018 (arXiv:1802.05312).
All read the same joint counts; entropies are those of the counts, without correction for bias.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import chdtri


@dataclass(frozen=True)
class Information:
    """Entropies and mutual information of all pairs of a code and a factor."""

    mutual: Float[np.ndarray, "code factor"]
    joint: Float[np.ndarray, "code factor"]
    """Entropy of the pair."""
    code: Float[np.ndarray, " code"]
    factor: Float[np.ndarray, " factor"]
    chance: Float[np.ndarray, "code factor"]
    """The expected mutual information of independent variables in as few clips as these."""
    limit: Float[np.ndarray, "code factor"]
    """Critical value: independent variables exceed it, for any pair of the table, once in a thousand tables."""


def information(
    counts: Int[np.ndarray, "code factor code_bin factor_bin"],
    code_sizes: Int[np.ndarray, " code"],
    factor_sizes: Int[np.ndarray, " factor"],
) -> Information:
    """The table from joint counts."""
    clips = int(counts[0, 0].sum())
    joint = _entropy(counts.reshape(*counts.shape[:2], -1), clips)
    code = _entropy(counts[:, 0].sum(axis=-1), clips)
    factor = _entropy(counts[0].sum(axis=-2), clips)
    mutual = np.maximum(code[:, None] + factor - joint, 0.0)
    # 2n times the information of independent variables is chi-squared with this many degrees of freedom
    freedom = np.outer(code_sizes - 1, factor_sizes - 1)
    limit = chdtri(freedom, 0.001 / freedom.size) / (2 * clips)
    return Information(mutual, joint, code, factor, freedom / (2 * clips), limit)


def mig(table: Information) -> float:
    """Mutual information gap between the best code of a factor and the next, over H(factor)."""
    best, second = top_two(table.mutual)
    return float(np.mean((best - second) / table.factor))


def jemmig(table: Information, bins: int) -> float:
    """1 − [H(v,c*) − I(v;c*) + I(v;c°)] / [H(v) + log bins], for the best code c* and the next, c°.

    The joint entropy penalises information of the best code on anything else. A factor that no code has
    information on scores 0: the formula would reward a code for being constant.
    """
    best, second = top_two(table.mutual)
    columns = np.arange(table.mutual.shape[1])
    joint = table.joint[table.mutual.argmax(axis=0), columns]
    score = 1 - (joint - best + second) / (table.factor + np.log(bins))
    return float(np.mean(np.where(best > 0, score, 0.0)))


def dcimig(table: Information) -> float:
    """The gap of each code between its best factor and the next; the best gap of each factor over H."""
    best, second = top_two(table.mutual.T)
    gap = np.zeros_like(table.mutual)
    gap[np.arange(len(gap)), table.mutual.argmax(axis=1)] = best - second
    return float(gap.max(axis=0).sum() / table.factor.sum())


def modularity(table: Information) -> float:
    """1 − Σ I(c;other)² / [I(c;best)² (factors − 1)], a mean over codes.

    A code counts if its information on some factor is significant, and is weighted by its information
    beyond chance: the ratio of a code of noise is a ratio of two accidents, and must not affect the mean.
    """
    factors = table.mutual.shape[1]
    counted = (table.mutual > table.limit).any(axis=1)
    if not counted.any():
        return 0.0
    if factors == 1:
        return 1.0
    mutual = table.mutual[counted]
    best = (mutual**2).max(axis=1)
    score = 1 - ((mutual**2).sum(axis=1) - best) / (best * (factors - 1))
    return float(np.average(score, weights=(mutual - table.chance[counted]).max(axis=1)))


def top_two(
    scores: Float[np.ndarray, "row column"],
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, " column"]]:
    """The greatest and the next of each column; the next to a single row is 0."""
    if len(scores) == 1:
        return scores[0], np.zeros_like(scores[0])
    ordered = np.sort(scores, axis=0)
    return ordered[-1], ordered[-2]


def _entropy(counts: Int[np.ndarray, "*table bin"], clips: int) -> Float[np.ndarray, "*table"]:
    weighted = counts * np.log(np.maximum(counts, 1))
    return np.log(clips) - weighted.sum(axis=-1) / clips
