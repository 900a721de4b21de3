"""How near forecasts come to what really followed, by horizon, and what surprises.

Distances are the root of the mean square over all numbers of the tokens up to a horizon. Of several samples the
nearest one counts: a good set of futures has the true one among them, and need not know which it is. The coverage
sets it beside as many stretches of real sound, drawn at random: 1/2 is what these reach themselves.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def distances(
    made: Float[np.ndarray, "*some token number"],
    true: Float[np.ndarray, "token number"],
    horizons: Sequence[int],
) -> Float[np.ndarray, "*some horizon"]:
    """From each sequence of tokens to the true one, up to each horizon in tokens."""
    each = np.square(made - true, dtype=np.float64).mean(-1)
    total = np.cumsum(each, axis=-1)
    return np.stack([np.sqrt(total[..., horizon - 1] / horizon) for horizon in horizons], -1)


def coverage(samples: Float[np.ndarray, " sample"], others: Float[np.ndarray, " other"]) -> float:
    """The probability that as many others, drawn at random, all come less near to the truth than the nearest
    sample; where the nearest of them is as near, one half of it."""
    nearest, count = samples.min(), len(samples)
    further, as_far = (float(np.mean(which)) for which in (others > nearest, others >= nearest))
    return (further**count + as_far**count) / 2


def nearer(samples: Float[np.ndarray, " sample"], other: float) -> float:
    """The share of samples that come nearer to the truth than something else does."""
    return float(np.mean(samples < other))


def exceedances(values: Float[np.ndarray, " frame"], threshold: float) -> list[tuple[int, int]]:
    """First and last frame of each stretch above a threshold; NaN is not above."""
    above = np.concatenate([[False], values > threshold, [False]]).astype(int)
    change = np.diff(above)
    starts, stops = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    return [(int(start), int(stop) - 1) for start, stop in zip(starts, stops, strict=True)]
