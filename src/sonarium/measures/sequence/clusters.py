"""Agreement of clusters with labels, always with the number of clusters and the fraction of noise.

V alone favours many small clusters, ARI alone says nothing about rare labels, and both are easily raised by
leaving out hard items: therefore the fraction left out as noise and the number of clusters are reported as well.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    homogeneity_completeness_v_measure,
)

NOISE = -1
"""Cluster index of items that belong to no cluster."""


@dataclass(frozen=True)
class Agreement:
    """How well clusters agree with labels; noise counts as one more cluster."""

    ari: float
    """Adjusted Rand index (Hubert and Arabie, 1985): 1 for identical partitions, 0 by chance."""
    ami: float
    """Adjusted mutual information (Vinh et al., 2010)."""
    v: float
    """V-measure (Rosenberg and Hirschberg, 2007)."""
    homogeneity: float
    completeness: float
    noise: float
    """Fraction of items in no cluster."""
    clusters: int
    """Number of clusters, without noise."""
    labels: int


def agreement(clusters: Int[np.ndarray, " item"], labels: Shaped[np.ndarray, " item"]) -> Agreement:
    """Agreement of clusters with the labels of the same items."""
    if len(clusters) != len(labels) or not len(labels):
        raise ValueError(f"{len(clusters)} clusters for {len(labels)} labels: give one of each for every item")
    homogeneity, completeness, v = homogeneity_completeness_v_measure(labels, clusters)
    return Agreement(
        float(adjusted_rand_score(labels, clusters)),
        float(adjusted_mutual_info_score(labels, clusters)),
        float(v),
        float(homogeneity),
        float(completeness),
        float(np.mean(clusters == NOISE)),
        len(set(clusters.tolist()) - {NOISE}),
        len(set(labels.tolist())),
    )
