"""Accuracy of forecasts by horizon, and detection of surprising frames.

Distances are root mean squares over all values of the tokens up to a horizon. Of several samples the nearest one
counts: a good set of futures contains the true one, and need not identify it. The coverage compares it with as
many stretches of real sound, drawn at random, which themselves have a coverage of 1/2.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sonarium.measures.contract import Meaning

MEANINGS = {
    "forecast-near": Meaning(
        "near {label}",
        "Share of moments at which the token {label} ahead is nearer to its forecast than those up to three "
        "tokens before and after it.",
    ),
    "forecast-group": Meaning(
        "group {label}",
        "Share of moments at which the token {label} ahead is nearer to its forecast than 20 tokens of other "
        "clips of the same group (speaker, bird).",
    ),
    "forecast-all": Meaning(
        "all {label}",
        "Share of moments at which the token {label} ahead is nearer to its forecast than 20 tokens of any clips.",
    ),
    "forecast-likelihood": Meaning(
        "likelihood {label}",
        "Log-likelihood of the token {label} ahead in nats a number, by a Gaussian about its forecast.",
        None,
        None,
    ),
    "forecast-distance": Meaning(
        "distance {label}",
        "Root mean square difference of the forecast and the token {label} ahead: of sound in dB, of codes in "
        "standard deviations; less is better.",
        0.0,
        None,
        rising=False,
    ),
    "forecast-coverage": Meaning(
        "coverage {label}",
        "Probability that as many real tokens of other pieces, drawn at random, all lie further from the token "
        "{label} ahead than the nearest drawn future does, as the real token that it is nearest to.",
    ),
    "forecast-kernel": Meaning(
        "kernel distance {label}",
        "100 × the kernel distance (KAD) of the tokens drawn up to {label} ahead from real ones, in an embedding "
        "that was fitted to others; less is better.",
        None,
        None,
        rising=False,
    ),
    "forecast-frechet": Meaning(
        "Fréchet distance {label}",
        "Fréchet distance of the tokens drawn up to {label} ahead from real ones, in an embedding that was fitted "
        "to others; less is better.",
        0.0,
        None,
        rising=False,
    ),
    "action-shuffle": Meaning(
        "action shuffle {label}",
        "Mean squared error {label} ahead with the actions of other moments over that with the true ones; 1 if "
        "actions change nothing.",
        0.0,
        None,
    ),
    "steering": Meaning(
        "steering: {label}",
        "Agreement of changes in the forecast with changes of the action, past and noise held fixed: {label}.",
        None,
        None,
    ),
}
"""By kind of score, with the horizon or the name after the slash."""
OF_STATES = {
    "state/divergence in nats": Meaning(
        "KL divergence in nats", "Mean KL divergence of the posterior of a token from its prior.", 0.0, None
    ),
    "state/negative log-likelihood in nats": Meaning(
        "negative log-likelihood in nats",
        "Mean negative log-likelihood of a token given those before it; less is better.",
        None,
        None,
        rising=False,
    ),
    "state/entropy of the prior in nats": Meaning(
        "entropy of the prior in nats",
        "Mean entropy of the prior of a token, summed over its variables.",
        0.0,
        None,
    ),
    "state/entropy of the posterior in nats": Meaning(
        "entropy of the posterior in nats",
        "Mean entropy of the posterior of a token, summed over its variables.",
        0.0,
        None,
    ),
    "state/bits a token": Meaning(
        "bits a token",
        "Minus the log-probability of the discrete state of a token, each variable at its mode, under the prior "
        "that futures are drawn from. Few bits are no merit unless the states are informative: see the probes.",
        0.0,
        None,
    ),
    "state/perplexity of a variable": Meaning(
        "perplexity of a variable",
        "How many classes of a discrete variable are in use: the exponential of the entropy of their shares.",
        1.0,
        None,
    ),
    "state/share of dead classes": Meaning(
        "share of dead classes", "Share of the classes that no token of held-out sound has.", 0.0, None
    ),
}


def distances(
    made: Float[np.ndarray, "*some token number"],
    true: Float[np.ndarray, "token number"],
    horizons: Sequence[int],
) -> Float[np.ndarray, "*some horizon"]:
    """Distance of each sequence of tokens from the true one, up to each horizon in tokens."""
    each = np.square(made - true, dtype=np.float64).mean(-1)
    total = np.cumsum(each, axis=-1)
    return np.stack([np.sqrt(total[..., horizon - 1] / horizon) for horizon in horizons], -1)


def coverage(samples: Float[np.ndarray, " sample"], others: Float[np.ndarray, " other"]) -> float:
    """Probability that as many others, drawn at random, are all further from the truth than the nearest sample;
    ties of the nearest count half. Others are drawn without replacement, because otherwise the mean over few of
    them would be far too large; with replacement only if there are fewer others than samples."""
    nearest, count, total = samples.min(), len(samples), len(others)
    further, as_far = (int(np.sum(which)) for which in (others > nearest, others >= nearest))
    drawn = np.arange(count) if total >= count else np.zeros(count)
    return float(sum(np.prod(np.maximum(some - drawn, 0) / (total - drawn)) for some in (further, as_far)) / 2)


def nearer(samples: Float[np.ndarray, " sample"], other: float) -> float:
    """Fraction of samples that are nearer to the truth than `other`, by their distances."""
    return float(np.mean(samples < other))


def exceedances(values: Float[np.ndarray, " frame"], threshold: float) -> list[tuple[int, int]]:
    """First and last frame of each stretch above a threshold; NaN is not above."""
    above = np.concatenate([[False], values > threshold, [False]]).astype(int)
    change = np.diff(above)
    starts, stops = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    return [(int(start), int(stop) - 1) for start, stop in zip(starts, stops, strict=True)]


def retrieved(true: Float[np.ndarray, " query"], others: Float[np.ndarray, "query other"]) -> float:
    """Fraction of queries whose true token is nearer than all others, by their distances; ties share the hit. NaN
    distances are ignored, and so are queries without any others."""
    there = ~np.isnan(others)
    asked = there.any(1)
    if not asked.any():
        return float("nan")
    own = true[asked, None]
    with np.errstate(invalid="ignore"):
        nearer_ones, as_near = (others[asked] < own).any(1), (others[asked] == own).sum(1)
    return float(np.mean(np.where(nearer_ones, 0.0, 1 / (1 + as_near))))


def chance_of(others: Float[np.ndarray, "query other"]) -> float:
    """Expected result of `retrieved` for uninformative distances."""
    there = (~np.isnan(others)).sum(1)
    return float(np.mean(1 / (1 + there[there > 0]))) if (there > 0).any() else float("nan")


def gaussian(
    true: Float[np.ndarray, "query number"],
    made: Float[np.ndarray, "query number"],
    spread: Float[np.ndarray, " number"],
) -> float:
    """Mean log-likelihood per value of the true tokens in nats, under a Gaussian around each prediction."""
    scaled = np.square((true - made) / spread)
    return float(np.mean(-0.5 * scaled - np.log(spread) - 0.5 * np.log(2 * np.pi)))
