"""Speaker verification: equal error rate, detection cost (minDCF), and the detection error trade-off.

A trial is a pair of clips with a similarity score; it is accepted where its score reaches a threshold. Cost and
normalisation are those of NIST's speaker recognition evaluations; the curve is that of Martin
and others (1997).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.stats import norm

from sonarium.measures.probes.frames import checked_codes


@dataclass(frozen=True)
class Trials:
    """Pairs of clips: their similarity, and whether they are of the same speaker."""

    scores: Float[np.ndarray, " trial"]
    same: Bool[np.ndarray, " trial"]


@dataclass(frozen=True)
class Costs:
    """Costs of errors, and the prior of target trials."""

    miss: float = 1.0
    """Cost of a miss: a target trial rejected."""
    false_alarm: float = 1.0
    """Cost of a false alarm: a non-target trial accepted."""
    prior: float = 0.01
    """Prior probability of a target trial."""

    def __post_init__(self) -> None:
        if not (0 < self.prior < 1 and self.miss > 0 and self.false_alarm > 0):
            raise ValueError(f"got {self}: give positive costs and a prior between 0 and 1")


@dataclass(frozen=True)
class Errors:
    """Both error rates at every distinct threshold, in ascending order; the last one rejects all trials."""

    threshold: Float[np.ndarray, " point"]
    miss: Float[np.ndarray, " point"]
    """Miss rate: the fraction of target trials that are rejected."""
    false_alarm: Float[np.ndarray, " point"]
    """False alarm rate: the fraction of non-target trials that are accepted."""


def clip_trials(
    codes: Float[np.ndarray, "clip code"],
    speakers: Shaped[np.ndarray, " clip"],
    mean: Float[np.ndarray, " code"] | None = None,
    recordings: Shaped[np.ndarray, " clip"] | None = None,
) -> Trials:
    """Trials of every pair of clips, scored by the cosine similarity of their codes.

    `mean`, over clips of other speakers, is subtracted from the codes first: cosines of codes that share a large
    mean are all near 1. With `recordings`, pairs of one recording are left out, since they share a channel.
    """
    values = checked_codes(codes, {"speakers": speakers, "recordings": recordings})
    centred = values if mean is None else values - mean
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    directions = centred / np.where(length > 0, length, 1.0)
    first, second = np.triu_indices(len(codes), k=1)
    if recordings is not None:
        apart = recordings[first] != recordings[second]
        first, second = first[apart], second[apart]
    # Speakers as indices: long names are slow to compare.
    who = np.unique(speakers, return_inverse=True)[1]
    return Trials((directions @ directions.T)[first, second], who[first] == who[second])


def errors(trials: Trials) -> Errors:
    """Miss and false alarm rates with every distinct score as the threshold."""
    scores, same = trials.scores, trials.same
    own, others = np.sort(scores[same]), np.sort(scores[~same])
    if not len(own) or not len(others):
        raise ValueError(
            f"got {len(own)} trials of one speaker and {len(others)} of two: both kinds are needed; give at least "
            "two clips of a speaker, and two speakers"
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores hold values that are not finite: correct what scored the trials")
    threshold = np.append(np.unique(scores), np.inf)
    miss = np.searchsorted(own, threshold) / len(own)
    false_alarm = 1 - np.searchsorted(others, threshold) / len(others)
    return Errors(threshold, miss, false_alarm)


def thinned(found: Errors, apart: float = 0.02) -> Errors:
    """Subset of points, of possibly millions, that suffices to draw the same curve on normal-deviate scales."""
    across, up = (np.clip(norm.ppf(rate) / apart, -1e6, 1e6).round() for rate in (found.false_alarm, found.miss))
    new = (np.diff(across, prepend=np.inf) != 0) | (np.diff(up, prepend=np.inf) != 0)
    # The last point in a place is kept as well as the first, so that a step remains a step.
    kept = new | np.append(new[1:], True)
    return Errors(found.threshold[kept], found.miss[kept], found.false_alarm[kept])


def equal_error_rate(trials: Trials) -> float:
    """Rate at which misses equal false alarms, interpolated linearly between two thresholds."""
    found = errors(trials)
    gap = found.miss - found.false_alarm
    after = int(np.argmax(gap >= 0))  # never 0: the lowest threshold accepts all
    before = after - 1
    fraction = -gap[before] / (gap[after] - gap[before])
    return float(found.miss[before] + fraction * (found.miss[after] - found.miss[before]))


def least_cost(trials: Trials, costs: Costs = Costs()) -> float:
    """Minimum detection cost over thresholds (minDCF), over the lesser of the costs of accepting all and none."""
    found = errors(trials)
    missed, alarmed = costs.miss * costs.prior, costs.false_alarm * (1 - costs.prior)
    cost = missed * found.miss + alarmed * found.false_alarm
    return float(cost.min() / min(missed, alarmed))
