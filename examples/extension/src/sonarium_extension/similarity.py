"""A measure: representational similarity (Kriegeskorte, Mur and Bandettini 2008).

Whether clips with similar factors have similar codes: Spearman's rank correlation of the distances between the
codes of all pairs of clips with the distances between their factors. 1 for codes that are the factors, 0 for codes
that have nothing to do with them.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

from sonarium.measures.contract import Meaning, MeasureEntry

MOST = 500
"""Clips whose pairs are compared; of more, a random subset."""


def similarity(
    codes: Float[np.ndarray, "clip code"],
    factors: Float[np.ndarray, "clip factor"],
    discrete: tuple[bool, ...],
    seed: int,
) -> Mapping[str, float]:
    rows = np.sort(np.random.default_rng(seed).permutation(len(codes))[:MOST])
    columns = [distances(factors[rows, column], named) for column, named in enumerate(discrete)]
    of_codes, of_factors = pdist(codes[rows]), np.sum(columns, axis=0)
    # Where all distances are equal there is no order to agree on.
    if np.ptp(of_codes) == 0 or np.ptp(of_factors) == 0:
        return {"rsa": 0.0}
    correlation = np.corrcoef(rankdata(of_codes), rankdata(of_factors))[0, 1]
    # Rounding may carry it beyond its bounds.
    return {"rsa": float(np.clip(correlation, -1, 1))}


def distances(values: Float[np.ndarray, " clip"], named: bool) -> Float[np.ndarray, " pair"]:
    """0 to 1: categories differ or not, numbers by as much of their range."""
    apart = pdist(values[:, None])
    return (apart > 0).astype(float) if named else apart / (np.ptp(values) or 1.0)


MEANING = Meaning(
    "representational similarity",
    "Whether clips with similar factors have similar codes: the rank correlation of the distances between clips.",
    low=-1.0,
)
SIMILARITY = MeasureEntry(
    "rank correlation of distances between codes and between factors", similarity, {"rsa": MEANING}
)
