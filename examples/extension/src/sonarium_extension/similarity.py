"""A measure: representational similarity (Kriegeskorte, Mur and Bandettini 2008).

Whether clips with similar factors have similar codes: Spearman's rank correlation of the distances between the
codes of all pairs of clips with the distances between their factors. 1 for codes that equal the factors, about 0
for codes that are independent of them.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

from sonarium.measures.contract import Meaning, MeasureEntry

MOST = 500
"""Maximum number of clips whose pairs are compared; of more clips, a random subset is used."""


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
    # Rounding may exceed the bounds.
    return {"rsa": float(np.clip(correlation, -1, 1))}


def distances(values: Float[np.ndarray, " clip"], named: bool) -> Float[np.ndarray, " pair"]:
    """Distances of all pairs from 0 to 1: whether categories differ; for numbers, as a fraction of their range."""
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
