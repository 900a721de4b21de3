"""Unsupervised types of syllables: clusters of their embeddings, whose number is inferred, and the same labels for
songs of later days.

Principal components are partly whitened and clustered by HDBSCAN (Campello et al., 2013). Noise points, and every
syllable of another day, get the label of their nearest neighbour; the certainty says how much nearer that is than
the nearest syllable with another label.
"""

from collections import Counter
from dataclasses import dataclass
from string import ascii_letters
from typing import Annotated, Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from sklearn.cluster import HDBSCAN
from sklearn.neighbors import NearestNeighbors

from sonarium.config import Range, check_ranges
from sonarium.measures.sequence.clusters import NOISE

UNIT = 1e-9
"""Lower bound of the standard deviation by which a component is divided."""


@dataclass(frozen=True)
class ClusterConfig:
    """Clusters of syllables."""

    dimensions: Annotated[int, Range(1)] = 12
    """Number of principal components that are clustered."""
    whitening: Annotated[float, Range(0, 1)] = 0.3
    """Whitening exponent of the principal components: 0 leaves them, 1 whitens fully."""
    smallest: Annotated[int, Range(2)] = 8
    """Minimum cluster size (HDBSCAN's min_cluster_size)."""
    neighbours: Annotated[int, Range(1)] = 3
    """Neighbours that estimate the density (HDBSCAN's min_samples)."""
    apart: Annotated[float, Range(0, 1)] = 0.7
    """Split threshold: a segment is split if its pieces are closer to known syllables than this fraction of its
    own distance from them; 0 never splits."""
    grammar: Annotated[float, Range(0, 1)] = 0.25
    """Weight of the context: standard deviation of a syllable within its type, as a fraction of the distance
    between types. Larger values give more weight to the neighbouring syllables, 0 gives none."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Repertoire:
    """Labelled syllables of a bird, by which others are labelled."""

    mean: Float[np.ndarray, " code"]
    components: Float[np.ndarray, "code component"]
    """Projection onto the principal components, whitened as configured."""
    points: Float[np.ndarray, "syllable component"]
    labels: Shaped[np.ndarray, " syllable"]

    def project(self, embedded: Float[np.ndarray, "some code"]) -> Float[np.ndarray, "some component"]:
        if embedded.shape[1] != len(self.mean):
            raise ValueError(
                f"embeddings have {embedded.shape[1]} values, those of the repertoire {len(self.mean)}: use the "
                "same run and settings for both"
            )
        return (embedded - self.mean) @ self.components

    def assign(self, embedded: Float[np.ndarray, "some code"]) -> "Assigned":
        """The label of the nearest syllable, and its certainty."""
        return nearest(self.project(embedded), self.points, self.labels)


@dataclass(frozen=True)
class Assigned:
    labels: Shaped[np.ndarray, " some"]
    certainty: Float[np.ndarray, " some"]
    """From 0, where another label is as near, to 1."""


@dataclass(frozen=True)
class Clustered:
    """Result of clustering a set of syllables."""

    repertoire: Repertoire
    certainty: Float[np.ndarray, " syllable"]
    noise: Bool[np.ndarray, " syllable"]
    """Noise points of HDBSCAN, labelled by their nearest neighbour."""


def cluster(embedded: Float[np.ndarray, "syllable code"], config: ClusterConfig = ClusterConfig()) -> Clustered:
    """Cluster syllables into types, named a, b, c … by decreasing frequency; one type if no two are found."""
    if len(embedded) == 0 or not np.isfinite(embedded).all():
        raise ValueError(f"{len(embedded)} embeddings: give at least one, of finite numbers")
    mean = embedded.mean(0)
    _, _, axes = np.linalg.svd(embedded - mean, full_matrices=False)
    axes = axes[: config.dimensions]
    spread = ((embedded - mean) @ axes.T).std(0)
    components = axes.T / np.maximum(spread, UNIT) ** config.whitening
    points = (embedded - mean) @ components
    found = np.full(len(points), NOISE)
    if len(points) >= 2 * config.smallest:
        hdbscan: Any = HDBSCAN
        found = hdbscan(config.smallest, min_samples=config.neighbours, copy=True).fit_predict(points)
    noise = found == NOISE
    if noise.all():
        labels = np.full(len(points), names(1)[0])
    else:
        labels = named(found)
        labels[noise] = nearest(points[noise], points[~noise], labels[~noise]).labels
    return Clustered(Repertoire(mean, components, points, labels), certainties(points, labels), noise)


def named(found: Int[np.ndarray, " syllable"]) -> Shaped[np.ndarray, " syllable"]:
    """Letters for cluster numbers, by decreasing frequency."""
    counts = Counter(found[found != NOISE].tolist())
    order = sorted(counts, key=lambda number: (-counts[number], number))
    letters = dict(zip(order, names(len(order)), strict=True)) | {NOISE: ""}
    return np.array([letters[number] for number in found.tolist()])


def names(count: int) -> list[str]:
    """One letter each while letters last: every annotation format can hold these."""
    return [*ascii_letters[:count], *(f"type{number}" for number in range(len(ascii_letters) + 1, count + 1))]


def nearest(
    points: Float[np.ndarray, "some component"],
    known: Float[np.ndarray, "syllable component"],
    labels: Shaped[np.ndarray, " syllable"],
) -> Assigned:
    """The label of the nearest known syllable, and how much nearer it is than the nearest with another label."""
    if not len(points):
        return Assigned(labels[:0], np.empty(0))
    distances, kinds = to_each_label(points, known, labels)
    best = distances.argmin(1)
    return Assigned(kinds[best], margin(distances, best))


def certainties(
    points: Float[np.ndarray, "syllable component"], labels: Shaped[np.ndarray, " syllable"]
) -> Float[np.ndarray, " syllable"]:
    """How much nearer each syllable is to another with its label than to one with a different label."""
    distances, kinds = to_each_label(points, points, labels, other_than_itself=True)
    return margin(distances, np.searchsorted(kinds, labels))


def to_each_label(
    points: np.ndarray, known: np.ndarray, labels: np.ndarray, other_than_itself: bool = False
) -> tuple[Float[np.ndarray, "some label"], Shaped[np.ndarray, " label"]]:
    """Distance to the nearest syllable of each label; infinite where there is no other."""
    kinds = np.unique(labels)
    found = np.full((len(points), len(kinds)), np.inf)
    for place, kind in enumerate(kinds):
        own = known[labels == kind]
        count = min(2 if other_than_itself else 1, len(own))
        distances, _ = NearestNeighbors(n_neighbors=count).fit(own).kneighbors(points)
        found[:, place] = distances[:, 0]
        if other_than_itself:
            inside = labels == kind
            # The nearest neighbour of a known syllable is itself.
            found[inside, place] = distances[inside, 1] if count == 2 else np.inf
    return found, kinds


def margin(
    distances: Float[np.ndarray, "some label"], own: Int[np.ndarray, " some"]
) -> Float[np.ndarray, " some"]:
    """From −1 through 0, where another label is as near as the assigned one, to 1; 1 where there is no other
    label."""
    rows = np.arange(len(distances))
    mine = distances[rows, own]
    others = distances.copy()
    others[rows, own] = np.inf
    other = others.min(1, initial=np.inf)
    near, far = np.minimum(mine, other), np.maximum(mine, other)
    ratio = np.divide(near, far, out=np.ones_like(near), where=np.isfinite(far) & (far > 0))
    ratio = np.where(np.isinf(far) & np.isfinite(near), 0.0, ratio)
    return np.where(mine <= other, 1 - ratio, ratio - 1)
