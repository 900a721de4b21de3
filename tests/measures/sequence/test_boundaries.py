"""One-to-one matching of boundaries, edit distances and agreement of clusters against SciPy and brute force."""

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from sonarium.measures.sequence.boundaries import (
    Counts,
    edits,
    longest_overlap,
    matched,
    syllable_error_rate,
)
from sonarium.measures.sequence.clusters import agreement

TIMES = st.lists(st.integers(0, 60), max_size=12)
WORDS = st.text("abc", max_size=6)


@given(TIMES, TIMES, st.integers(0, 20))
@settings(max_examples=60)
def test_as_many_pairs_as_can_be_matched(ours, theirs, tolerance):
    found = matched(np.array(ours) / 1000, np.array(theirs) / 1000, tolerance / 1000)
    near = np.abs(np.subtract.outer(ours, theirs)) <= tolerance
    most = 0
    if near.size:
        most = int((maximum_bipartite_matching(csr_array(near.astype(int))) >= 0).sum())
    assert found == Counts(most, len(ours), len(theirs))


def test_one_boundary_is_never_matched_twice():
    found = matched(np.array([0.100, 0.101, 0.102]), np.array([0.101]), 0.01)
    assert (found.precision, found.recall, found.f1) == (1 / 3, 1, 0.5)
    nothing = matched(np.empty(0), np.empty(0), 0.01)
    assert (nothing.precision, nothing.recall, nothing.f1) == (1, 1, 1)
    assert (nothing + found).f1 == 0.5


@given(WORDS, WORDS)
@settings(max_examples=60)
def test_edits_are_the_fewest(one, other):
    @cache
    def fewest(at: int, to: int) -> int:
        if min(at, to) == 0:
            return max(at, to)
        same = fewest(at - 1, to - 1) + (one[at - 1] != other[to - 1])
        return min(same, fewest(at - 1, to) + 1, fewest(at, to - 1) + 1)

    assert edits(one, other) == fewest(len(one), len(other))


def test_the_error_rate_is_of_all_syllables():
    assert syllable_error_rate(["ab", "c"], ["abcd", "d"]) == 3 / 5
    with pytest.raises(ValueError, match="no sequence annotated has a syllable"):
        syllable_error_rate([""], [""])
    with pytest.raises(ValueError, match="1 sequences found for 2 annotated"):
        syllable_error_rate([""], ["a", "b"])


def test_the_longest_overlap():
    ours = np.array([[0.0, 1.0], [2.0, 3.0], [5.0, 6.0]])
    theirs = np.array([[0.9, 2.2], [2.2, 3.5]])
    assert longest_overlap(ours, theirs).tolist() == [0, 1, -1]
    assert longest_overlap(ours, theirs[:0]).tolist() == [-1] * 3


def test_agreement_counts_pairs():
    clusters, labels = np.array([0, 0, 1, 1, 1, -1]), np.array(list("aabbab"))
    pairs = list(combinations(range(6), 2))
    ours, theirs = ({(i, j) for i, j in pairs if x[i] == x[j]} for x in (clusters, labels))
    expected = len(ours) * len(theirs) / len(pairs)
    found = agreement(clusters, labels)
    rand = (len(ours & theirs) - expected) / ((len(ours) + len(theirs)) / 2 - expected)
    assert found.ari == pytest.approx(rand)
    assert (found.noise, found.clusters, found.labels) == (pytest.approx(1 / 6), 2, 2)
    assert found.v == pytest.approx(
        2 * found.homogeneity * found.completeness / (found.homogeneity + found.completeness)
    )
    perfect = agreement(np.array([1, 1, 0]), np.array(["a", "a", "b"]))
    assert (perfect.ari, perfect.ami, perfect.v) == (1, pytest.approx(1), 1)
    with pytest.raises(ValueError, match="0 clusters for 0 labels"):
        agreement(np.array([], int), np.array([], str))
