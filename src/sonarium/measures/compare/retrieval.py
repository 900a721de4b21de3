"""Retrieval of clips of the same label by nearest neighbours.

Each clip in turn is the query, and the others are ranked by cosine; a clip of the same label is relevant. Ties are
in random order: precision and recall are expectations over their orders, so that codes without information score
chance, regardless of the order of the clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import gammaln

from sonarium.measures.probes.frames import checked_codes

BLOCK = 256
"""Number of queries processed at a time."""
SAME = 1e-12
"""Tolerance for ties of cosines: rounding must not order them."""


@dataclass(frozen=True)
class Retrieval:
    """How well clips of the same label are retrieved."""

    mean_average_precision: float
    """Mean over queries of the average precision."""
    recall: dict[int, float]
    """Fraction of queries with a relevant clip among their k nearest."""
    chance: float
    """Mean over queries of the expected average precision of a random order."""
    asked: int
    """Number of queries; clips without any relevant clip are not queries."""


def retrieval(
    codes: Float[np.ndarray, "clip code"],
    labels: Shaped[np.ndarray, " clip"],
    groups: Shaped[np.ndarray, " clip"] | None = None,
    nearest: Sequence[int] = (1, 5, 10),
) -> Retrieval:
    """Scores with every clip as a query among all others; with `groups` (such as speakers), among other groups."""
    directions, label, group = prepared(codes, labels, groups)
    precision, recalled, chances = [], [], []
    for start in range(0, len(codes), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(codes)))
        cosines, allowed = compared(directions, group, rows)
        for row, cosine, others in zip(rows, cosines, allowed, strict=True):
            alike = label[others] == label[row]
            if alike.any():
                ends, finds = ranked(cosine[others], alike)
                precision.append(average_precision(ends, finds))
                recalled.append([chance_of_find(ends, finds, k) for k in nearest])
                chances.append(chance_precision(len(alike), int(alike.sum())))
    if not precision:
        raise ValueError("no clip has another of its label: give at least two clips of a label")
    recall = dict(zip(nearest, np.mean(recalled, axis=0).tolist(), strict=True))
    return Retrieval(float(np.mean(precision)), recall, float(np.mean(chances)), len(precision))


def neighbours(
    codes: Float[np.ndarray, "clip code"],
    asking: Int[np.ndarray, " query"],
    count: int,
    groups: Shaped[np.ndarray, " clip"] | None = None,
) -> tuple[Int[np.ndarray, "query near"], Float[np.ndarray, "query near"]]:
    """Nearest clips of each query, the nearest first, and their cosines."""
    directions, _, group = prepared(codes, np.zeros(len(codes), int), groups)
    cosines, allowed = compared(directions, group, asking)
    least = int(allowed.sum(axis=1).min())
    if not 1 <= count <= least:
        raise ValueError(f"got count={count}, but a clip has only {least} others: give 1 to {least}")
    found = np.argsort(np.where(allowed, -cosines, np.inf), axis=1, kind="stable")[:, :count]
    return found, np.take_along_axis(cosines, found, axis=1)


def prepared(
    codes: np.ndarray, labels: np.ndarray, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of norm 1, and labels and groups as indices; by default each clip is a separate group."""
    values = checked_codes(codes, {"labels": labels, "groups": groups})
    if len(values) < 2:
        raise ValueError("one clip has no neighbours: give at least two")
    length = np.linalg.norm(values, axis=1, keepdims=True)
    alone = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    return values / np.where(length > 0, length, 1.0), np.unique(labels, return_inverse=True)[1], alone


def compared(
    directions: np.ndarray, group: np.ndarray, rows: np.ndarray
) -> tuple[Float[np.ndarray, "query clip"], Bool[np.ndarray, "query clip"]]:
    """Cosines of these clips with all clips, and the mask of candidates: those of other groups."""
    return directions[rows] @ directions.T, group[rows][:, None] != group


def ranked(
    cosines: Float[np.ndarray, " other"], alike: Bool[np.ndarray, " other"]
) -> tuple[Int[np.ndarray, " tie"], Int[np.ndarray, " tie"]]:
    """Ranking with ties grouped: number of clips, and of relevant clips, up to the end of each tie."""
    order = np.argsort(-cosines, kind="stable")
    steps = -np.diff(cosines[order])
    last = np.append(np.flatnonzero(steps > SAME), len(order) - 1)
    return last + 1, np.cumsum(alike[order])[last]


def average_precision(ends: Int[np.ndarray, " tie"], finds: Int[np.ndarray, " tie"]) -> float:
    """Average precision: precision at each relevant clip, averaged; its expectation over the orders of ties.

    A place within a tie is relevant with a probability of the tie's fraction of relevant clips; the places of the
    tie before it then hold the expected number of its other relevant clips.
    """
    size, good = np.diff(ends, prepend=0), np.diff(finds, prepend=0)
    place = np.arange(1, ends[-1] + 1)
    ahead = place - 1 - np.repeat(ends - size, size)
    others = np.repeat((good - 1) / np.maximum(size - 1, 1), size)
    precision = (np.repeat(finds - good, size) + 1 + ahead * others) / place
    return float(np.sum(np.repeat(good / size, size) * precision) / finds[-1])


def chance_precision(others: int, relevant: int) -> float:
    """Expected average precision of a random order: [H + (R − 1) / (N − 1) · (N − H)] / N, H = Σ 1 / n."""
    harmonic = float(np.sum(1 / np.arange(1, others + 1)))
    return (harmonic + (relevant - 1) / max(others - 1, 1) * (others - harmonic)) / others


def chance_of_find(ends: Int[np.ndarray, " tie"], finds: Int[np.ndarray, " tie"], k: int) -> float:
    """Probability that at least one of the k nearest is relevant, with ties in random order."""
    if k >= ends[-1]:
        return 1.0
    tie = int(np.searchsorted(ends, k, side="right"))  # all earlier ties are among the nearest k
    before, found = (int(ends[tie - 1]), int(finds[tie - 1])) if tie else (0, 0)
    if found:
        return 1.0
    size, good, drawn = int(ends[tie]) - before, int(finds[tie]) - found, k - before
    if drawn > size - good:
        return 1.0
    return float(1 - np.exp(_log_choose(size - good, drawn) - _log_choose(size, drawn)))


def _log_choose(all_: int, drawn: int) -> float:
    return float(gammaln(all_ + 1) - gammaln(drawn + 1) - gammaln(all_ - drawn + 1))
