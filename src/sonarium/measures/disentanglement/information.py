"""Mutual information of codes and factors, in nats, and the scores computed from it.

MIG: Chen et al. 2018 (arXiv:1802.04942). JEMMIG: Do & Tran 2020 (arXiv:1908.09961). DCIMIG:
Sepliarskaia et al. 2019 (arXiv:1910.05587). Modularity: Ridgeway & Mozer 2018 (arXiv:1802.05312).
All use the same joint counts; entropies are those of the counts, without correction for bias, except that
modularity uses information beyond that of permuted clips.
"""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float, Int

from sonarium.jit import compiled

PERMUTATIONS = 99
"""Number of permutations of the independence test: independent codes pass it in one of a hundred tables."""
SAME = 1e-9
"""Tolerance, in nats, for ties of mutual information."""


@dataclass(frozen=True)
class Information:
    """Entropies and mutual information of all pairs of a code and a factor."""

    mutual: Float[np.ndarray, "code factor"]
    joint: Float[np.ndarray, "code factor"]
    """Joint entropy of each pair."""
    code: Float[np.ndarray, " code"]
    factor: Float[np.ndarray, " factor"]


@dataclass(frozen=True)
class Chance:
    """Mutual information by chance of independent codes and factors with the same values and number of clips."""

    mutual: Float[np.ndarray, "code factor"]
    """Mean mutual information over permutations of the clips."""
    exceeded: Bool[np.ndarray, "code factor"]
    """Whether a pair has more information than any pair of any permutation, each in its standard deviations."""


def information(counts: Int[np.ndarray, "code factor code_bin factor_bin"]) -> Information:
    """Entropies and mutual information from joint counts."""
    clips = int(counts[0, 0].sum())
    joint = _entropy(counts.reshape(*counts.shape[:2], -1), clips)
    code = _entropy(counts[:, 0].sum(axis=-1), clips)
    factor = _entropy(counts[0].sum(axis=-2), clips)
    mutual = np.maximum(code[:, None] + factor - joint, 0.0)
    return Information(mutual, joint, code, factor)


def chance(
    table: Information,
    code_bins: Int[np.ndarray, "clip code"],
    factor_bins: Int[np.ndarray, "clip factor"],
    seed: int,
    permutations: int = PERMUTATIONS,
) -> Chance:
    """Permutation test of all pairs at once, by the maximum standardised information (Westfall & Young 1993).

    It keeps its false-positive rate even if the joint counts are sparse, unlike the chi-squared approximation.
    """
    generator, clips = np.random.default_rng([seed, 0x3D]), len(code_bins)
    weighted = np.arange(clips + 1) * np.log(np.maximum(np.arange(clips + 1), 1))
    counts = np.zeros((int(code_bins.max()) + 1, int(factor_bins.max()) + 1), np.int64)
    joint = np.zeros((permutations, *table.joint.shape))
    for one in joint:
        _add_joint_entropies(code_bins, factor_bins, generator.permutation(clips), weighted, counts, one)
    mutual = table.code[:, None] + table.factor - joint
    # The original order counts as one of the permutations: only then each is equally likely to have the maximum.
    every = np.concatenate([mutual, table.mutual[None]])
    spread = every.std(axis=0)
    scaled = (every - every.mean(axis=0)) / np.where(spread > SAME, spread, np.inf)
    return Chance(mutual.mean(axis=0), scaled[-1] > scaled[:-1].max())


@compiled()
@no_type_check
def _add_joint_entropies(code_bins, factor_bins, order, weighted, counts, entropies):
    """Add the joint entropies of codes and factors, these in this order; `weighted` is k log k, `counts` zeros."""
    clips = len(order)
    for code in range(code_bins.shape[1]):
        for factor in range(factor_bins.shape[1]):
            total = 0.0
            for clip in range(clips):
                here, there = code_bins[clip, code], factor_bins[order[clip], factor]
                count = counts[here, there]
                total += weighted[count + 1] - weighted[count]
                counts[here, there] = count + 1
            for clip in range(clips):
                counts[code_bins[clip, code], factor_bins[order[clip], factor]] = 0
            entropies[code, factor] += np.log(clips) - total / clips


def mig(table: Information) -> float:
    """Mutual information gap between the best code of a factor and the next, over H(factor)."""
    best, second = top_two(table.mutual)
    return float(np.mean((best - second) / table.factor))


def jemmig(table: Information, bins: int) -> float:
    """1 − [H(v,c*) − I(v;c*) + I(v;c°)] / [H(v) + log bins], for the best code c* and the next, c°.

    The joint entropy penalises information of the best code on anything else. A factor on which no code has
    information scores 0: the formula would reward a code for being constant. Of codes with equal information
    on a factor, the one with the lowest joint entropy counts, regardless of their order.
    """
    best, second = top_two(table.mutual)
    joint = np.where(table.mutual >= best - SAME, table.joint, np.inf).min(axis=0)
    score = 1 - (joint - best + second) / (table.factor + np.log(bins))
    return float(np.mean(np.where(best > 0, score, 0.0)))


def dcimig(table: Information) -> float:
    """Gap of each code between its best factor and the next; sum of the best gaps of factors over the sum of H."""
    best, second = top_two(table.mutual.T)
    gap = np.zeros_like(table.mutual)
    gap[np.arange(len(gap)), table.mutual.argmax(axis=1)] = best - second
    return float(gap.max(axis=0).sum() / table.factor.sum())


def modularity(table: Information, chance: Chance) -> float:
    """1 − Σ I(c;other)² / [I(c;best)² (factors − 1)], a mean over codes; I is information beyond chance.

    A code counts if its information on any factor is significant, and is weighted by its best one: the ratio of a
    noise code is a ratio of two random numbers, and must not affect the mean. Requires two factors or more.
    """
    counted = chance.exceeded.any(axis=1)
    if not counted.any():
        return 0.0
    mutual = np.maximum(table.mutual - chance.mutual, 0.0)[counted]
    best = mutual.max(axis=1)
    score = 1 - ((mutual**2).sum(axis=1) - best**2) / (best**2 * (mutual.shape[1] - 1))
    return float(np.average(score, weights=best))


def top_two(
    scores: Float[np.ndarray, "row column"],
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, " column"]]:
    """Largest and second largest value of each column; the second of a single row is 0."""
    if len(scores) == 1:
        return scores[0], np.zeros_like(scores[0])
    ordered = np.sort(scores, axis=0)
    return ordered[-1], ordered[-2]


def _entropy(counts: Int[np.ndarray, "*table bin"], clips: int) -> Float[np.ndarray, "*table"]:
    weighted = counts * np.log(np.maximum(counts, 1))
    return np.log(clips) - weighted.sum(axis=-1) / clips
