"""Scores from clips that share the value of one factor: BetaVAE, FactorVAE, and interventional robustness (IRS).

BetaVAE score: Higgins et al. 2017 (ICLR). FactorVAE score: Kim & Mnih 2018 (arXiv:1802.05983). IRS:
Suter et al. 2019 (arXiv:1811.00007). The first two need clips that share the value of one factor and
differ in the others: generated on demand by a world, or drawn from a table in which values repeat.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int

from sonarium.jit import compiled
from sonarium.measures.probes.logistic import fit_logistic

STILL = 1e-12
"""Tolerance for ties of variances, of codes with a standard deviation of 1."""
Sampler = Callable[[int, int, int, np.random.Generator], Float[np.ndarray, "group clip code"]]
"""Function of (factor, groups, clips, random generator) that returns the codes of groups of clips; all
clips of a group share the value of that factor."""


@dataclass(frozen=True)
class Draws:
    """Numbers of draws for the BetaVAE and FactorVAE scores."""

    votes: int = 800
    """Number of training groups of clips; as many again are scored."""
    clips: int = 64
    """Maximum number of clips in a group (FactorVAE); pairs of clips in a mean difference (BetaVAE)."""


@dataclass(frozen=True)
class Samplers:
    """Sources of groups of clips: to learn from, and to score; from a table, each draws from one half."""

    learn: Sampler
    score: Sampler
    clips: int
    """Number of clips in a group."""


def beta_vae(samplers: Samplers, factors: int, draws: Draws, seed: int) -> float:
    """Accuracy of predicting, from the mean |difference| of pairs that share a factor, which factor it is."""
    rng = np.random.default_rng([seed, 0xBE])

    def pairs(sampler: Sampler, factor: int, votes: int) -> np.ndarray:
        found = sampler(factor, votes * draws.clips, 2, rng)
        return np.abs(found[:, 0] - found[:, 1]).reshape(votes, draws.clips, -1).mean(axis=1)

    learn, learnt = _votes(pairs, samplers.learn, factors, draws.votes, rng)
    score, scored = _votes(pairs, samplers.score, factors, draws.votes, rng)
    spread = learn.std(axis=0)
    learn, score = ((one - learn.mean(axis=0)) / np.where(spread > 0, spread, 1.0) for one in (learn, score))
    logits = fit_logistic(learn, learnt[:, None] == np.arange(factors))(score)
    return float(np.mean(logits.argmax(axis=1) == scored))


def factor_vae(samplers: Samplers, factors: int, draws: Draws, seed: int) -> float:
    """Accuracy of predicting, from the code that varies least in a group, the factor that the group shares.

    Codes must have a standard deviation of 1 over all clips. Codes that vary equally little share a vote.
    """
    rng = np.random.default_rng([seed, 0xFA])

    def stillest(sampler: Sampler, factor: int, votes: int) -> np.ndarray:
        spread = sampler(factor, votes, samplers.clips, rng).var(axis=1)
        least = spread <= spread.min(axis=1, keepdims=True) + STILL
        return least / least.sum(axis=1, keepdims=True)

    learn, learnt = _votes(stillest, samplers.learn, factors, draws.votes, rng)
    score, scored = _votes(stillest, samplers.score, factors, draws.votes, rng)
    called = (learn.T @ np.eye(factors)[learnt]).argmax(axis=1)
    return float(np.mean(np.sum(score * (called == scored[:, None]), axis=1)))


def _votes(
    ask: Callable[[Sampler, int, int], np.ndarray],
    sampler: Sampler,
    factors: int,
    votes: int,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "vote code"], Int[np.ndarray, " vote"]]:
    """Results of `ask` for groups that share a factor drawn at random, and the index of that factor."""
    shared = np.sort(rng.integers(0, factors, size=votes))
    counts = np.bincount(shared, minlength=factors)
    return np.concatenate([ask(sampler, factor, int(count)) for factor, count in enumerate(counts)]), shared


def from_table(
    codes: Float[np.ndarray, "clip code"],
    factors: Float[np.ndarray, "clip factor"],
    half: Int[np.ndarray, " clip"],
    most: int,
) -> Samplers | str:
    """Samplers from the given clips, if in each half most values repeat; else a text that names a factor at fault.

    All groups have the same number of distinct clips, regardless of the factor that they share: otherwise this
    number alone, on which the minimum variance among codes depends, would reveal the factor.
    """
    sizes = [[_group_size(factors[half == part, factor]) for factor in range(factors.shape[1])] for part in (0, 1)]
    clips = min(most, *map(min, sizes))
    if clips < 2:
        lacking = int(np.min(sizes, axis=0).argmin())
        return f"in one half, most clips have a value of factor {lacking} that no other clip has"
    learn, score = (_draw_from(codes[half == part], factors[half == part]) for part in (0, 1))
    return Samplers(learn, score, clips)


def _group_size(column: Float[np.ndarray, " clip"]) -> int:
    """Largest n such that half of the clips have a value that is shared by at least n clips."""
    sizes = np.sort(np.unique(column, return_counts=True)[1])[::-1]
    return int(sizes[np.searchsorted(np.cumsum(sizes), len(column) / 2)])


def _draw_from(codes: Float[np.ndarray, "clip code"], factors: Float[np.ndarray, "clip factor"]) -> Sampler:
    by_value = []
    for column in factors.T:
        _, value, size = np.unique(column, return_inverse=True, return_counts=True)
        by_value.append((np.argsort(value, kind="stable"), np.cumsum(size) - size, size))

    def sample(factor: int, groups: int, clips: int, rng: np.random.Generator) -> np.ndarray:
        order, first, size = by_value[factor]
        known = np.flatnonzero(size >= clips)
        value = known[rng.choice(len(known), size=groups, p=size[known] / size[known].sum())]
        return codes[order[first[value, None] + _subsets(size[value], clips, rng)]]

    return sample


def _subsets(
    size: Int[np.ndarray, " group"], clips: int, rng: np.random.Generator
) -> Int[np.ndarray, "group clip"]:
    """Random subset of `clips` distinct indices below each size, all equally likely (Floyd; Bentley 1987)."""
    chosen = np.full((len(size), clips), -1)
    for place in range(clips):
        last = size - clips + place
        drawn = rng.integers(0, last + 1)
        taken = (chosen[:, :place] == drawn[:, None]).any(axis=1)
        chosen[:, place] = np.where(taken, last, drawn)
    return chosen


def from_world(
    generate: Callable[[np.ndarray], Float[np.ndarray, "clip code"]],
    factors: Float[np.ndarray, "clip factor"],
    clips: int,
    at_once: int = 4096,
) -> Samplers:
    """Samplers that generate clips on demand; each factor is drawn independently from its values in the table."""

    def sample(factor: int, groups: int, clips: int, rng: np.random.Generator) -> np.ndarray:
        drawn = np.empty((groups, clips, factors.shape[1]))
        for other in range(factors.shape[1]):
            size = (groups, 1) if other == factor else (groups, clips)
            drawn[..., other] = rng.choice(factors[:, other], size=size)
        flat = drawn.reshape(-1, factors.shape[1])
        made = [generate(flat[first : first + at_once]) for first in range(0, len(flat), at_once)]
        return np.concatenate(made).reshape(groups, clips, -1)

    return Samplers(sample, sample, clips)


def from_nothing(codes: Float[np.ndarray, "clip code"], clips: int) -> Samplers:
    """Samplers of random groups of clips, which share no factor: the uninformative control of `from_world`."""

    def sample(factor: int, groups: int, clips: int, rng: np.random.Generator) -> np.ndarray:
        return codes[rng.integers(0, len(codes), size=(groups, clips))]

    return Samplers(sample, sample, clips)


def irs(
    codes: Float[np.ndarray, "clip code"],
    factor_bins: Int[np.ndarray, "clip factor"],
    factor_sizes: Int[np.ndarray, " factor"],
) -> float:
    """How little a code varies while its factor is fixed and all others change, by its maximum deviation.

    For each code and factor: 1 − (mean over values of the maximum deviation from the mean at that
    value) / (maximum deviation from the mean); the best factor of each code; codes are weighted by
    their maximum deviation.
    """
    mean = codes.mean(axis=0)
    widest = np.maximum(codes.max(axis=0) - mean, mean - codes.min(axis=0))
    moved = np.stack(
        [_swing(codes, factor_bins[:, factor], size) for factor, size in enumerate(factor_sizes)], axis=1
    )
    robust = 1 - moved / widest[:, None]
    return float(np.average(robust.max(axis=1), weights=widest))


@compiled()
@no_type_check
def _swing(codes, bins, size):
    """Maximum deviation from the mean within each bin, averaged over the bins that have clips."""
    clips, columns = codes.shape
    total, count = np.zeros((size, columns)), np.zeros(size)
    least, most = np.full((size, columns), np.inf), np.full((size, columns), -np.inf)
    for clip in range(clips):
        count[bins[clip]] += 1
    for column in range(columns):
        for clip in range(clips):
            one, value = bins[clip], codes[clip, column]
            total[one, column] += value
            least[one, column] = min(least[one, column], value)
            most[one, column] = max(most[one, column], value)
    swing, held = np.zeros(columns), 0
    for one in range(size):
        if count[one] > 0:
            held += 1
            for column in range(columns):
                mean = total[one, column] / count[one]
                swing[column] += max(most[one, column] - mean, mean - least[one, column])
    return swing / held
