"""Scores of codes whose clips share one factor: BetaVAE, FactorVAE, and interventional robustness.

BetaVAE score: Higgins et al. 2017 (ICLR). FactorVAE score: Kim & Mnih 2018 (arXiv:1802.05983). IRS:
Suter et al. 2019 (arXiv:1811.00007). The first two need clips that share the value of one factor and
differ in the others: made on demand by a world, or drawn from a table in which values repeat.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float, Int

from sonarium.measures.probes.logistic import fit_logistic

Sampler = Callable[[int, int, int, np.random.Generator], Float[np.ndarray, "group clip code"]]
"""(factor, groups, clips, random source) to the codes of groups of clips, of which all of one group
share the value of that factor."""


@dataclass(frozen=True)
class Draws:
    """Numbers of draws for the BetaVAE and FactorVAE scores."""

    votes: int = 800
    """Training groups of clips; as many again are scored."""
    clips: int = 64
    """Clips in a group (FactorVAE), pairs of clips in a difference (BetaVAE)."""


def beta_vae(sampler: Sampler, factors: int, draws: Draws, seed: int) -> float:
    """Accuracy of predicting, from the mean |difference| of pairs that share a factor, which one it is."""
    rng = np.random.default_rng([seed, 0xBE])
    shared = rng.integers(0, factors, size=2 * draws.votes)
    differences = None
    for factor in range(factors):
        mine = np.flatnonzero(shared == factor)
        pairs = sampler(factor, len(mine) * draws.clips, 2, rng)
        mean = np.abs(pairs[:, 0] - pairs[:, 1]).reshape(len(mine), draws.clips, -1).mean(axis=1)
        if differences is None:
            differences = np.zeros((len(shared), mean.shape[1]))
        differences[mine] = mean
    assert differences is not None
    learn, score = slice(0, draws.votes), slice(draws.votes, None)
    spread = differences[learn].std(axis=0)
    scaled = (differences - differences[learn].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    logits = fit_logistic(scaled[learn], shared[learn, None] == np.arange(factors))(scaled[score])
    return float(np.mean(logits.argmax(axis=1) == shared[score]))


def factor_vae(
    sampler: Sampler, spread: Float[np.ndarray, " code"], factors: int, draws: Draws, seed: int
) -> float:
    """Accuracy of predicting, from the code that varies least in a group, the factor that the group shares.

    `spread` is each code's standard deviation over all clips; dead codes are not among them.
    """
    rng = np.random.default_rng([seed, 0xFA])
    shared = rng.integers(0, factors, size=2 * draws.votes)
    stillest = np.zeros(len(shared), np.int64)
    for factor in range(factors):
        mine = np.flatnonzero(shared == factor)
        groups = sampler(factor, len(mine), draws.clips, rng) / spread
        stillest[mine] = groups.var(axis=1).argmin(axis=1)
    learn, score = slice(0, draws.votes), slice(draws.votes, None)
    votes = np.zeros((len(spread), factors), np.int64)
    np.add.at(votes, (stillest[learn], shared[learn]), 1)
    return float(np.mean(votes.argmax(axis=1)[stillest[score]] == shared[score]))


def from_table(codes: Float[np.ndarray, "clip code"], factors: Float[np.ndarray, "clip factor"]) -> Sampler | str:
    """Draw from the given clips, where most values repeat; else say which factor's do not."""
    orders, firsts, sizes = [], [], []
    for factor in range(factors.shape[1]):
        _, value, size = np.unique(factors[:, factor], return_inverse=True, return_counts=True)
        if size[size > 1].sum() < len(factors) / 2:
            return f"most clips have a value of factor {factor} that no other clip has"
        orders.append(np.argsort(value, kind="stable"))
        firsts.append((np.cumsum(size) - size)[size > 1])
        sizes.append(size[size > 1])

    def sample(factor: int, groups: int, clips: int, rng: np.random.Generator) -> np.ndarray:
        size = sizes[factor]
        value = rng.choice(len(size), size=groups, p=size / size.sum())
        # steps of 1 to size - 1 from one clip to the next: no two neighbours are the same clip
        step = rng.integers(1, size[value, None], size=(groups, clips))
        place = (rng.integers(0, size[value, None]) + np.cumsum(step, axis=1)) % size[value, None]
        return codes[orders[factor][firsts[factor][value, None] + place]]

    return sample


def from_world(
    generate: Callable[[np.ndarray], Float[np.ndarray, "clip code"]],
    factors: Float[np.ndarray, "clip factor"],
    at_once: int = 4096,
) -> Sampler:
    """Make clips on demand; each factor is drawn from its values in the table, apart from the others."""

    def sample(factor: int, groups: int, clips: int, rng: np.random.Generator) -> np.ndarray:
        drawn = np.empty((groups, clips, factors.shape[1]))
        for other in range(factors.shape[1]):
            size = (groups, 1) if other == factor else (groups, clips)
            drawn[..., other] = rng.choice(factors[:, other], size=size)
        flat = drawn.reshape(-1, factors.shape[1])
        made = [generate(flat[first : first + at_once]) for first in range(0, len(flat), at_once)]
        return np.concatenate(made).reshape(groups, clips, -1)

    return sample


def irs(
    codes: Float[np.ndarray, "clip code"],
    factor_bins: Int[np.ndarray, "clip factor"],
    factor_sizes: Int[np.ndarray, " factor"],
) -> float:
    """How little a code moves while its factor is held and all others change, by its widest swing.

    Of each code and factor: 1 − (mean over values of the greatest deviation from the mean at that
    value) / (greatest deviation from the mean); the best factor of each code; codes weigh by their
    greatest deviation.
    """
    mean = codes.mean(axis=0)
    widest = np.maximum(codes.max(axis=0) - mean, mean - codes.min(axis=0))
    moved = np.stack(
        [_swing(codes, factor_bins[:, factor], size) for factor, size in enumerate(factor_sizes)], axis=1
    )
    robust = 1 - moved / widest[:, None]
    return float(np.average(robust.max(axis=1), weights=widest))


@numba.njit(cache=True, nogil=True)
@no_type_check
def _swing(codes, bins, size):
    """The greatest deviation from the mean within each bin, a mean over the bins that have clips."""
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
