"""Labels of whole songs: syllables that run into each other, and syllables between two types."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonarium.evaluation.songs import (
    Segments,
    cluster_segments,
    counted,
    label_segments,
    partition,
)
from sonarium.evaluation.syllables import ClusterConfig
from sonarium.features.segmentation import Pieces

CODES = 12
CENTRES = 4 * np.random.default_rng(7).standard_normal((5, CODES))
"""Centres of types 0 to 3, and of a syllable with a dip, whose pieces resemble no type."""
LENGTH = 0.05


def sung(order: list[int], joined: set[int], rng: np.random.Generator) -> Segments:
    """A song of syllables of .05 s; those at `joined` run into the next. Joined syllables have an embedding like
    no other, and syllable 4 has a dip."""
    pieces, rows, at = [], [], 0
    while at < len(order):
        kinds = [order[at]]
        while at in joined and at + 1 < len(order):
            at += 1
            kinds.append(order[at])
        at += 1
        start = 0.1 * at
        parts = [CENTRES[kind] + 0.3 * rng.standard_normal(CODES) for kind in kinds]
        whole = parts[0] if len(parts) == 1 else 4 * rng.standard_normal(CODES)
        if kinds == [4]:
            parts, kinds = [4 * rng.standard_normal(CODES) for _ in range(2)], [4, 4]
        edges = np.linspace(start, start + LENGTH * len(kinds), len(kinds) + 1).tolist()
        spans = [] if len(kinds) == 1 else [(one, one + 1) for one in range(len(kinds))]
        spans.append((0, len(kinds)))
        pieces.append(Pieces(spans, [(edges[one], edges[other], "segment") for one, other in spans]))
        rows.append(np.stack([*(parts if len(kinds) > 1 else []), whole]))
    return Segments(pieces, rows)


def bird(seed: int, songs: int = 12) -> tuple[list[Segments], np.ndarray, int]:
    """Songs in a fixed order of types; one syllable in ten runs into the next."""
    rng = np.random.default_rng(seed)
    order = [0, 1, 2, 4, 3, 1, 0, 4]
    heard, true, together = [], [], 0
    for _ in range(songs):
        joined = {at for at in range(7) if rng.random() < 0.1 and 4 not in order[at : at + 2]}
        together += len(joined)
        heard.append(sung(order, joined, rng))
        true += order
    return heard, np.array(true), together


def test_what_runs_together_is_cut_and_what_has_a_dip_is_not():
    heard, true, together = bird(0)
    assert together and sum(len(song.pieces) for song in heard) == len(true) - together
    found = cluster_segments(heard)
    assert sum(len(song.pieces) for song in found.songs) == len(true)
    assert len(set(zip(true.tolist(), found.labels.tolist(), strict=True))) == 5 == len(set(found.labels))
    assert (found.certainty > 0).all()
    for song in found.songs:
        times = [(start, stop) for start, stop, _ in song.marks]
        assert times == sorted(times) and song.embedded.shape == (len(times), CODES)
    # Songs of another day have the same labels; with apart=0 nothing is cut.
    later, others, _ = bird(1)
    assert dict(zip(others.tolist(), label_segments(later, found.repertoire).labels, strict=True)) == dict(
        zip(true.tolist(), found.labels, strict=True)
    )
    whole = cluster_segments(heard, ClusterConfig(apart=0))
    assert [len(song.pieces) for song in whole.songs] == [len(song.pieces) for song in heard]


def test_context_decides_between_two_types():
    rng = np.random.default_rng(0)
    heard = [sung([0, 1, 2, 3, 0, 1, 2, 3], set(), rng) for _ in range(12)]
    # After a 0 comes a 1: here a sound between 1 and 2, a little nearer to 2.
    heard[5].rows[1][0] = 0.47 * CENTRES[1] + 0.53 * CENTRES[2]
    found = cluster_segments(heard)
    alone = cluster_segments(heard, ClusterConfig(grammar=0))
    labels = found.labels.reshape(12, 8)
    assert (labels == labels[0]).all() and found.certainty[5 * 8 + 1] < 0
    assert alone.labels.reshape(12, 8)[5, 1] == labels[0, 2] and (alone.certainty >= 0).all()


def test_few_syllables_are_of_one_type_and_stay_whole():
    rng = np.random.default_rng(0)
    found = cluster_segments([sung([0, 1, 2, 3], {0}, rng)])
    assert set(found.labels) == {"a"} and [len(song.pieces) for song in found.songs] == [3]
    assert np.isfinite(found.certainty).all()


@given(st.integers(1, 6), st.data())
def test_partition_is_the_best_of_all(edges, data):
    spans = [(one, other) for one, other in combinations(range(edges + 1), 2) if (one, other) != (0, edges)]
    distances = data.draw(
        st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0]), min_size=len(spans), max_size=len(spans))
    )
    pieces = Pieces([*spans, (0, edges)], [(0.0, 1.0, "")] * (len(spans) + 1))
    chosen = partition(pieces, np.array([*distances, 9.0]), 2.5)
    possible = []
    for count in range(1, edges):
        for inner in combinations(range(1, edges), count):
            ends = [0, *inner, edges]
            own = [spans.index(span) for span in pairwise(ends)]
            if all(distances[at] < 2.5 for at in own):
                possible.append((len(own), sum(distances[at] for at in own)))
    if not possible:
        assert chosen == []
    else:
        assert (len(chosen), sum(distances[at] for at in chosen)) == min(possible)
        assert [spans[at][1] for at in chosen[:-1]] == [spans[at][0] for at in chosen[1:]]


def test_transitions_are_counted_within_songs():
    chain = counted([np.array([0, 1, 1]), np.array([2])], 3)
    assert chain.start.tolist() == pytest.approx([1.1 / 2.3, 0.1 / 2.3, 1.1 / 2.3])
    assert chain.transitions[0].tolist() == pytest.approx([0.1 / 1.3, 1.1 / 1.3, 0.1 / 1.3])
    assert chain.transitions[2].tolist() == pytest.approx([1 / 3] * 3)
