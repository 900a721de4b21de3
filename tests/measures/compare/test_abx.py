"""ABX against enumeration of all paths and triples, and for codes whose error is known."""

import tracemalloc
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typechecking import unchecked

from sonarium.measures.compare.abx import ABXConfig, abx, go_on, item_distances, unit


def fresh(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def paths(rows: int, columns: int):
    """All alignment paths of single steps from the first cell to the last."""
    if rows == columns == 1:
        yield ((0, 0),)
    for down, right in ((1, 0), (0, 1), (1, 1)):
        if rows > down and columns > right:
            for path in paths(rows - down, columns - right):
                yield (*path, (rows - 1, columns - 1))


def by_paths(apart: np.ndarray) -> float:
    costs = [(sum(apart[cell] for cell in path), len(path)) for path in paths(*apart.shape)]
    cost, length = min((round(cost, 9), length) for cost, length in costs)
    return cost / length


@settings(max_examples=60)
@given(
    data=st.data(), rows=st.integers(1, 5), columns=st.integers(1, 5), seed=st.integers(0, 999), ties=st.booleans()
)
def test_the_alignment_is_the_cheapest_of_all_paths(data, rows, columns, seed, ties) -> None:
    apart = fresh(seed).integers(0, 3, (rows, columns)) / 1.0 if ties else fresh(seed).random((rows, columns))
    cost, steps = np.full(columns, np.inf), np.zeros(columns, np.int64)
    # In two blocks of rows, as for long clips.
    cut = data.draw(st.integers(1, rows))
    go_on(apart[:cut], cost, steps, True)
    go_on(apart[cut:], cost, steps, False)
    assert cost[-1] / steps[-1] == pytest.approx(by_paths(apart), abs=1e-8)
    assert (cost[0], steps[0]) == (pytest.approx(apart[:, 0].sum()), rows)


def long_clips(frames: int) -> tuple:
    draw, items = fresh(), 4
    categories, speakers = np.array(["a", "b"] * 2), np.array(["ann"] * items)
    return draw.normal(size=(items * frames, 3)), np.arange(items).repeat(frames), categories, speakers, fresh()


def test_long_clips_are_compared_part_by_part(monkeypatch) -> None:
    frames, starts, items = unit(fresh().normal(size=(90, 3))), np.array([0, 40, 50, 90]), np.arange(3)
    whole = item_distances(frames, starts, items, "angular")
    monkeypatch.setattr("sonarium.measures.compare.abx.CELLS", 500)
    np.testing.assert_allclose(item_distances(frames, starts, items, "angular"), whole, rtol=1e-12)
    assert (whole == whole.T).all() and whole[0, 1] != whole[0, 2]


def test_memory_does_not_grow_with_the_square_of_a_clip(monkeypatch) -> None:
    monkeypatch.setattr("sonarium.measures.compare.abx.CELLS", 1 << 16)
    clips = long_clips(1500)
    tracemalloc.start()
    try:
        abx(*clips)
        # All distances of one clip from the others would be 54 MB, and as much again for their cosines.
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def frame_distance(one: np.ndarray, other: np.ndarray, kind: str) -> float:
    cosine = float(one @ other / np.sqrt((one @ one) * (other @ other)))
    return np.arccos(np.clip(cosine, -1, 1)) / np.pi if kind == "angular" else 1 - cosine


def item_distance(one: np.ndarray, other: np.ndarray, config: ABXConfig) -> float:
    if config.align == "mean":
        return frame_distance(one.mean(0), other.mean(0), config.distance)
    return by_paths(np.array([[frame_distance(a, b, config.distance) for b in other] for a in one]))


def by_triples(items, categories, speakers, contexts, config: ABXConfig) -> float:
    """Error over all triples: mean over items, then over contexts and speakers of X, then over speakers of A, then
    over pairs of categories."""
    cells: dict = {}
    for a, b, x in product(range(len(items)), repeat=3):
        same = len({a, b, x}) == 3 and categories[a] == categories[x] != categories[b]
        whose = speakers[a] == speakers[b] and (speakers[x] == speakers[a]) == (config.speakers == "within")
        if same and whose and contexts[a] == contexts[b] == contexts[x]:
            gap = item_distance(items[b], items[x], config) - item_distance(items[a], items[x], config)
            pair, where = (categories[a], categories[b]), (speakers[x], contexts[a])
            of_speaker = cells.setdefault(pair, {}).setdefault(speakers[a], {})
            of_speaker.setdefault(where, []).append(gap < 0)
    pairs = [
        np.mean([np.mean([np.mean(one) for one in of_speaker.values()]) for of_speaker in of_pair.values()])
        for of_pair in cells.values()
    ]
    return float(np.mean(pairs))


def some_items(seed: int, count: int = 9):
    draw = fresh(seed)
    items = [draw.normal(size=(draw.integers(1, 4), 3)) for _ in range(count)]
    return (
        items,
        draw.choice(["p", "t", "k"], count),
        draw.choice(["ann", "bob"], count),
        draw.integers(0, 2, count),
    )


@pytest.mark.parametrize("speakers", ["within", "across"])
@pytest.mark.parametrize(("distance", "align"), [("angular", "dtw"), ("cosine", "dtw"), ("angular", "mean")])
@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_that_of_all_triples(speakers, distance, align, seed) -> None:
    items, categories, whose, contexts = some_items(seed, 12)
    config = ABXConfig(speakers, distance, align, most=None)
    flat, item = np.concatenate(items), np.repeat(np.arange(12), [len(one) for one in items])
    for context in (None, contexts):
        expected = by_triples(items, categories, whose, np.zeros(12) if context is None else context, config)
        assert abx(flat, item, categories, whose, fresh(), config, context).error == pytest.approx(expected)


def square(frames: int = 2, each: int = 3):
    """Items of two categories by two speakers: item of each frame, category and speaker of each item."""
    category, speaker = np.repeat([0, 1, 0, 1], each), np.repeat([0, 0, 1, 1], each)
    return np.repeat(np.arange(4 * each), frames), category, speaker


@pytest.mark.parametrize("speakers", ["within", "across"])
@pytest.mark.parametrize("distance", ["angular", "cosine"])
@pytest.mark.parametrize("align", ["dtw", "mean"])
def test_where_the_answer_is_known(speakers, distance, align) -> None:
    item, category, speaker = square()
    config = ABXConfig(speakers, distance, align)
    for codes, expected in (
        (np.eye(2)[category], 0.0),  # the category alone
        (np.ones((12, 5)), 0.5),  # nothing
        (np.zeros((12, 5)), 0.5),
        (np.eye(2)[speaker], 0.5),  # the speaker alone
        (fresh().normal(size=(2, 256))[speaker] * 1e-3, 0.5),
    ):
        assert abx(codes[item], item, category, speaker, fresh(), config).error == expected


def test_a_code_of_speakers_confounds_across_them_alone() -> None:
    """Categories of one speaker are separable, but one speaker's 'a' equals the other's 'b'."""
    item, category, speaker = square()
    codes = np.eye(2)[category ^ speaker][item]
    assert abx(codes, item, category, speaker, fresh(), ABXConfig("within")).error == 0
    assert abx(codes, item, category, speaker, fresh(), ABXConfig("across")).error == 1


def test_codes_at_random_are_near_one_half() -> None:
    item, category, speaker = square(3, 12)
    frames = fresh(1).normal(size=(len(item), 20))
    found = abx(frames, item, category, speaker, fresh(), ABXConfig(most=None))
    assert found.error == pytest.approx(0.5, abs=0.06)
    assert found.triples == 4 * 12 * 11 * 12
    assert np.isnan(found.pairs.diagonal()).all() and found.categories.tolist() == [0, 1]
    assert np.nanmean(found.pairs) == pytest.approx(found.error)


def test_frequent_categories_weigh_no_more_than_rare_ones() -> None:
    category = np.array([0] * 10 + [1] * 2 + [2] * 2)
    codes = np.eye(3)[np.where(category == 2, 1, category)]  # 1 and 2 sound alike
    found = abx(codes, np.arange(14), category, np.zeros(14, int), fresh())
    np.testing.assert_allclose(found.pairs, [[np.nan, 0, 0], [0, np.nan, 0.5], [0, 0.5, np.nan]])
    assert found.error == pytest.approx(1 / 6)


def test_a_speaker_of_many_contexts_weighs_no_more_than_one_of_few() -> None:
    # ann tells the categories apart in three contexts, bob confuses them in one
    category = np.array([0, 0, 1] * 4)
    speaker, context = np.array([0] * 9 + [1] * 3), np.array([0] * 3 + [1] * 3 + [2] * 3 + [0] * 3)
    codes = np.eye(2)[np.where(speaker == 0, category, 0)]
    found = abx(codes, np.arange(12), category, speaker, fresh(), contexts=context)
    assert found.pairs[0, 1] == pytest.approx((0 + 0.5) / 2)


def test_frames_of_zeros_are_farthest_from_all_others_and_at_one_place() -> None:
    frames = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 2.0], [0.0, 0.0]])
    kinds: list[tuple[Any, float]] = [("angular", 1.0), ("cosine", 2.0)]
    for kind, farthest in kinds:
        found = item_distances(unit(frames), np.arange(5), np.arange(4), kind)
        assert found[0, 3] == 0
        np.testing.assert_allclose(found[[0, 0, 3], [1, 2, 2]], farthest, atol=1e-7)
        plain = frame_distance(frames[1], frames[2], kind)
        assert found[1, 2] == pytest.approx(plain, abs=1e-12)


def test_at_most_so_many_items_are_taken_by_the_generator() -> None:
    item, category, speaker = square(2, 9)
    frames = fresh(1).normal(size=(len(item), 4))
    config = ABXConfig(most=3)
    found = [abx(frames, item, category, speaker, fresh(seed), config) for seed in (0, 0, 1)]
    assert found[0].triples == 4 * 3 * 2 * 3
    assert found[0].error == found[1].error != found[2].error
    every = abx(frames, item, category, speaker, fresh(), replace(config, most=None))
    assert every.error == abx(frames, item, category, speaker, fresh(), replace(config, most=9)).error


ITEM, CATEGORY, SPEAKER = square()
FRAMES = fresh().normal(size=(24, 3))


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: abx(FRAMES, ITEM, CATEGORY[:-1], SPEAKER, fresh()), "got frames of 12 items for 11 categories"),
        (lambda: abx(FRAMES, ITEM[::-1].copy(), CATEGORY, SPEAKER, fresh()), "frames of items are mixed"),
        (lambda: abx(FRAMES, ITEM + 1, CATEGORY, SPEAKER, fresh()), "number items from 0"),
        (lambda: abx(FRAMES, ITEM, CATEGORY, np.arange(12), fresh()), "there is no triple within speakers"),
        (lambda: abx(FRAMES, ITEM, CATEGORY * 0, SPEAKER, fresh()), "there is no triple"),
        (lambda: abx(FRAMES * np.nan, ITEM, CATEGORY, SPEAKER, fresh()), "not finite in 24 row"),
        (lambda: ABXConfig("between"), "speakers='between': give within or across"),  # pyright: ignore
        (lambda: ABXConfig(most=1), "most=1: give a whole number of at least 2"),
    ],
)
def test_what_cannot_be_asked_is_refused(ask, says) -> None:
    with unchecked(), pytest.raises(ValueError, match=says):
        ask()
