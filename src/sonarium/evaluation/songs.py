"""Joint labelling of all songs of a bird: syllables that run together are cut apart by the bird's repertoire, and
a syllable between two types gets the label that its context makes more likely.

A level threshold alone merges two syllables with a short gap into one segment. Such a segment is unlike all
others, or like others that are several syllables too, while its pieces are like syllables that the bird sings
alone. It is therefore cut at the dips of its level into the fewest pieces that are each much nearer to a known
syllable than the whole. A type is not a syllable if many of its segments can be cut into other types.

Labels are the most likely path through a song (Viterbi): each syllable has a normal density about its nearest
neighbour of each type, and transitions are recounted in the labels of all songs in each round.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped

from sonarium.evaluation.syllables import (
    ClusterConfig,
    Repertoire,
    cluster,
    margin,
    to_each_label,
)
from sonarium.features.segmentation import Pieces
from sonarium.models.hmm.inference import Chain, viterbi
from sonarium.models.hmm.packing import pack
from sonarium.worlds.contract import Mark

ROUNDS = 3
"""Rounds of counting transitions and relabelling the songs by them."""
UNSEEN = 0.1
"""Pseudocount of each initial label and each transition."""
SEVERAL = 0.2
"""Share of a type's segments that can be cut into others, from which on it is not a syllable."""


@dataclass(frozen=True)
class Segments:
    """Segments of a song: candidate pieces of each, the last of which is the whole segment, and their
    embeddings."""

    pieces: list[Pieces]
    rows: list[Float[np.ndarray, "_piece code"]]

    @property
    def marks(self) -> list[Mark]:
        return [pieces.whole for pieces in self.pieces]

    @property
    def embedded(self) -> Float[np.ndarray, "segment code"]:
        return np.stack([rows[-1] for rows in self.rows])


@dataclass(frozen=True)
class Labelled:
    """Songs with segments cut where syllables ran together, and the label of each segment, concatenated over
    songs."""

    songs: list[Segments]
    repertoire: Repertoire
    """Without the uncut segments of types that are several syllables."""
    labels: Shaped[np.ndarray, " segment"]
    certainty: Float[np.ndarray, " segment"]
    """How much nearer each is to another syllable with its label than to one with a different label; negative
    where only context supports the label."""


def cluster_segments(songs: Sequence[Segments], config: ClusterConfig = ClusterConfig()) -> Labelled:
    """Label songs of a bird whose repertoire is unknown, by clustering their segments."""
    first = cluster(np.concatenate([song.embedded for song in songs]), config)
    points, labels = first.repertoire.points, first.repertoire.labels
    if first.noise.all():
        return in_context(songs, first.repertoire, config, np.full(len(points), True))
    distances, kinds = to_each(songs, first.repertoire)
    others, _ = to_each_label(points, points, labels, other_than_itself=True)
    for values, other in zip(distances, others, strict=True):
        # The nearest neighbour of a segment is itself.
        values[-1] = other
    own = np.searchsorted(kinds, labels)
    single = types_of_one(songs, distances, own, config)
    cut, counts = cut_at(songs, [values[:, single].min(1) for values in distances], config)
    rows = np.concatenate([song.embedded for song in cut])
    known = np.repeat(single[own] | (counts > 1), counts)
    return in_context(cut, cluster(rows[known], config).repertoire, config, known)


def label_segments(
    songs: Sequence[Segments], repertoire: Repertoire, config: ClusterConfig = ClusterConfig()
) -> Labelled:
    """Label songs of a bird whose repertoire is known."""
    distances, _ = to_each(songs, repertoire)
    cut, _ = cut_at(songs, [values.min(1) for values in distances], config)
    return in_context(cut, repertoire, config)


def to_each(
    songs: Sequence[Segments], repertoire: Repertoire
) -> tuple[list[Float[np.ndarray, "_piece type"]], Shaped[np.ndarray, " type"]]:
    """Distances of the pieces of each segment to the nearest syllable of each type, and the types."""
    rows = [one for song in songs for one in song.rows]
    found, kinds = to_each_label(repertoire.project(np.concatenate(rows)), repertoire.points, repertoire.labels)
    return np.split(found, np.cumsum([len(one) for one in rows])[:-1]), kinds


def cut_at(
    songs: Sequence[Segments], nearest: Sequence[Float[np.ndarray, " _piece"]], config: ClusterConfig
) -> tuple[list[Segments], Int[np.ndarray, " segment"]]:
    """Songs with their segments cut, and the number of pieces of each segment; `nearest` holds the distances of
    pieces to known syllables."""
    left, cut, counts = iter(nearest), [], []
    for song in songs:
        parts = []
        for pieces, rows in zip(song.pieces, song.rows, strict=True):
            distances = next(left)
            chosen = partition(pieces, distances, config.apart * distances[-1]) or [len(rows) - 1]
            parts += [(Pieces.one(pieces.marks[at]), rows[at : at + 1]) for at in chosen]
            counts.append(len(chosen))
        cut.append(Segments([piece for piece, _ in parts], [row for _, row in parts]))
    return cut, np.array(counts)


def types_of_one(
    songs: Sequence[Segments],
    distances: Sequence[Float[np.ndarray, "_piece type"]],
    own: Int[np.ndarray, " segment"],
    config: ClusterConfig,
) -> Bool[np.ndarray, " type"]:
    """Mask of the types that are single syllables: those of which few segments can be cut into other types, tested
    from the longest on."""
    pieces = [one for song in songs for one in song.pieces]
    single = np.full(distances[0].shape[1], True)
    durations = np.array([stop - start for start, stop, _ in (one.whole for one in pieces)])
    for kind in sorted(range(len(single)), key=lambda kind: -np.median(durations[own == kind])):
        others = single & (np.arange(len(single)) != kind)
        if not others.any():
            break
        cut = []
        for at in np.flatnonzero(own == kind).tolist():
            most = config.apart * distances[at][-1, single].min()
            cut.append(bool(partition(pieces[at], distances[at][:, others].min(1), most)))
        single[kind] = np.mean(cut) < SEVERAL
    return single


def partition(pieces: Pieces, distances: Float[np.ndarray, " piece"], most: float) -> list[int]:
    """Fewest pieces that make up the segment, each nearer to known syllables than `most`; ties are broken by the
    sum of distances. Empty if there is only the whole."""
    last = pieces.spans[-1][1]
    best: dict[int, tuple[int, float, list[int]]] = {0: (0, 0.0, [])}
    for piece, (start, stop) in sorted(enumerate(pieces.spans[:-1]), key=lambda one: one[1]):
        if start in best and distances[piece] < most:
            count, total, before = best[start]
            found = (count + 1, total + float(distances[piece]), [*before, piece])
            best[stop] = min(best.get(stop, found), found)
    return best[last][2] if last in best else []


def in_context(
    songs: Sequence[Segments],
    repertoire: Repertoire,
    config: ClusterConfig,
    known: Bool[np.ndarray, " segment"] | None = None,
) -> Labelled:
    """Label songs by sound and context; `known` marks the segments that make up the repertoire."""
    points, labels = repertoire.points, repertoire.labels
    rows = np.concatenate([song.embedded for song in songs])
    distances, kinds = to_each_label(repertoire.project(rows), points, labels)
    others, _ = to_each_label(points, points, labels, other_than_itself=True)
    if known is not None:
        # The nearest neighbour of a known syllable is itself.
        distances[known] = others
    others[np.arange(len(others)), np.searchsorted(kinds, labels)] = np.inf
    spread = config.grammar * float(np.median(others.min(1)))
    found = distances.argmin(1)
    if 0 < spread < np.inf:
        lengths = np.array([len(song.pieces) for song in songs])
        density = torch.from_numpy(-0.5 * (distances / spread) ** 2)
        blocks = pack(lengths, len(kinds))
        for _ in range(ROUNDS):
            chain = counted(np.split(found, np.cumsum(lengths)[:-1]), len(kinds))
            for block in blocks:
                path, _ = viterbi(chain, density[block.source], block)
                found[block.source] = path
    return Labelled(list(songs), repertoire, kinds[found], margin(distances, found))


def counted(songs: Sequence[Int[np.ndarray, " _syllable"]], types: int) -> Chain:
    """Markov chain of smoothed frequencies: of the first type of a song, and of transitions."""
    start, moves = np.full(types, UNSEEN), np.full((types, types), UNSEEN)
    for song in songs:
        start[song[0]] += 1
        np.add.at(moves, (song[:-1], song[1:]), 1)
    return Chain(torch.from_numpy(start / start.sum()), torch.from_numpy(moves / moves.sum(1, keepdims=True)))
