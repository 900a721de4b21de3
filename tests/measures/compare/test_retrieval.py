"""Retrieval against scikit-learn, and against all orders of ties."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors
from typechecking import unchecked

from sonarium.measures.compare import retrieval as module
from sonarium.measures.compare.retrieval import neighbours, retrieval


def blobs(clips: int, noise: float, seed: int = 0):
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 4, clips)
    return draw.normal(size=(4, 6))[label] + noise * draw.normal(size=(clips, 6)), np.array(list("abcd"))[label]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_are_those_reckoned_clip_by_clip(grouped, seed, monkeypatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 7)
    codes, labels = blobs(40, 0.8, seed)
    groups = np.arange(40) // 3 if grouped else np.arange(40)
    similarity = cosine_similarity(codes)
    precision, recall = [], {1: [], 5: []}
    for row in range(40):
        others = groups != groups[row]
        alike = labels[others] == labels[row]
        if alike.any():
            precision.append(average_precision_score(alike, similarity[row, others]))
            nearest = alike[np.argsort(-similarity[row, others])]
            for k, found in recall.items():
                found.append(nearest[:k].any())
    found = retrieval(codes, labels, groups if grouped else None, nearest=(1, 5))
    assert found.mean_average_precision == pytest.approx(np.mean(precision))
    assert found.recall == {k: pytest.approx(np.mean(one)) for k, one in recall.items()}
    assert found.asked == len(precision)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=6), st.integers(1, 7))
def test_ties_count_by_all_their_orders(pairs, k) -> None:
    near, alike = (np.array(column) for column in zip(*pairs, strict=True))
    if not alike.any():
        return
    found, precision = [], []
    for order in permutations(range(len(pairs))):
        ranks = sorted(order, key=lambda one: -near[one])  # keeps the order of ties
        found.append(alike[ranks[:k]].any())
        places = np.flatnonzero(alike[ranks])
        precision.append(np.mean(np.arange(1, len(places) + 1) / (places + 1)))
    ends, finds = module.ranked(near / 3, alike)
    assert module.chance_of_find(ends, finds, k) == pytest.approx(np.mean(found))
    assert module.average_precision(ends, finds) == pytest.approx(np.mean(precision))


@pytest.mark.parametrize(("others", "relevant"), [(1, 1), (5, 1), (5, 3), (6, 6)])
def test_chance_is_the_mean_over_all_orders(others, relevant) -> None:
    orders = {tuple(order) for order in permutations([1] * relevant + [0] * (others - relevant))}
    precision = [average_precision_score(order, -np.arange(others)) for order in orders]
    assert module.chance_precision(others, relevant) == pytest.approx(np.mean(precision))


def test_codes_of_noise_score_chance() -> None:
    draw = np.random.default_rng(0)
    found = [retrieval(draw.normal(size=(40, 8)), draw.integers(0, 8, 40)) for _ in range(40)]
    score, chance, share = (np.array(one) for one in zip(
        *[(one.mean_average_precision, one.chance, 1 / 8) for one in found], strict=True))  # fmt: skip
    assert np.mean(score - chance) == pytest.approx(0, abs=4 * np.std(score - chance) / 40**0.5)
    assert np.mean(chance - share) > 0.05  # average precision of a random order exceeds the share of its label


def test_codes_that_tell_nothing_score_chance_in_any_order() -> None:
    labels = np.repeat([0, 1], 20)  # sorted, which favours a ranking that keeps the order of ties
    found = retrieval(np.ones((40, 3)), labels, nearest=(1,))
    assert found.mean_average_precision == pytest.approx(found.chance) and found.chance > 19 / 39
    assert found.recall[1] == pytest.approx(19 / 39)


def test_what_is_alike_is_found() -> None:
    codes, labels = blobs(50, 1e-3)
    found = retrieval(codes, labels, nearest=(1, 10))
    assert found.mean_average_precision == pytest.approx(1) and found.recall == {1: 1, 10: 1}


def test_groups_keep_a_clip_from_its_own_recording() -> None:
    """Codes that only identify the recording retrieve nothing from others."""
    recording = np.arange(60) // 6
    codes = np.random.default_rng(0).normal(size=(10, 8))[recording]
    labels = recording % 5
    assert retrieval(codes, labels).recall[1] == pytest.approx(1)
    assert retrieval(codes, labels, recording).recall[1] < 0.6


def test_a_clip_without_its_like_does_not_ask() -> None:
    found = retrieval(np.random.default_rng(0).normal(size=(4, 2)), np.array(["a", "a", "b", "c"]))
    assert found.asked == 2


def test_neighbours_are_those_of_scikit_learn() -> None:
    codes, _ = blobs(60, 1.0)
    peer = NearestNeighbors(n_neighbors=5, metric="cosine").fit(codes)
    distance, index = peer.kneighbors(codes[[3, 50]])
    found, cosine = neighbours(codes, np.array([3, 50]), 4)
    assert (found == index[:, 1:]).all()
    np.testing.assert_allclose(cosine, 1 - distance[:, 1:], atol=1e-12)
    apart, _ = neighbours(codes, np.array([3]), 4, groups=np.arange(60) % 2)
    assert (apart % 2 == 0).all()


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: retrieval(np.eye(3), np.arange(3)), "no clip has another of its label"),
        (lambda: retrieval(np.eye(3), np.zeros(3, int), np.zeros(3, int)), "no clip has another of its label"),
        (lambda: retrieval(np.eye(1), np.arange(1)), "one clip has no neighbours"),
        (lambda: neighbours(np.eye(3), np.array([0]), 3), "got count=3, but a clip has only 2 others"),
        (lambda: retrieval(np.eye(3), np.arange(4)), r"labels has shape \(4,\) for 3 rows"),
    ],
)
def test_what_cannot_be_found_is_refused(ask, says) -> None:
    with unchecked(), pytest.raises(ValueError, match=says):
        ask()
