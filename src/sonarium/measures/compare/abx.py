"""ABX discriminability: is X, of the category of A, nearer to A than to B, of another category?

The test of Schatz and others (2013), as in the Zero Resource challenges: within speakers, all three are of one
speaker; across speakers, A and B are of one and X is of another. Items are compared frame by frame along the
cheapest alignment, and the error is averaged over items, then over contexts (across speakers with the speakers of
X), then over the speakers of A and B, then over pairs of categories, so that frequent ones do not dominate. Chance
is .5.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Literal, no_type_check

import numpy as np
from jaxtyping import Float, Int, Shaped

from sonarium.config import Range, check_ranges
from sonarium.cores import usable_cores
from sonarium.jit import compiled
from sonarium.measures.probes.frames import checked_codes, clip_means

SAME = 1e-7
"""Tolerance for ties of distances: the precision with which a small angle is known from its cosine."""
NULL = 1e-12
"""Value in the last column of a frame: too small to change a cosine, large enough to separate all-zero frames."""
CELLS = 1 << 20
"""Number of distances between frames that a thread holds at a time, because clips may last minutes."""


@dataclass(frozen=True)
class ABXConfig:
    """Which items are compared, and how."""

    speakers: Literal["within", "across"] = "within"
    """Whether X is of the speaker of A and B, or of another."""
    distance: Literal["angular", "cosine"] = "angular"
    """Distance between frames: the angle as a fraction of π, or 1 − cosine."""
    align: Literal["dtw", "mean"] = "dtw"
    """Whether items are compared along the cheapest alignment of their frames, or by their mean frames."""
    most: Annotated[int | None, Range(2)] = 10
    """Maximum number of items per category, speaker and context, drawn at random from more; None for all."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class ABX:
    """ABX error: the fraction of triples with X nearer to B than to A."""

    error: float
    pairs: Float[np.ndarray, "category category"] = field(repr=False)
    """The error for each category of A and X against that of B; NaN where there is no triple."""
    categories: Shaped[np.ndarray, " category"] = field(repr=False)
    triples: int = 0


def abx(
    frames: Float[np.ndarray, "frame code"],
    item: Int[np.ndarray, " frame"],
    categories: Shaped[np.ndarray, " item"],
    speakers: Shaped[np.ndarray, " item"],
    generator: np.random.Generator,
    config: ABXConfig = ABXConfig(),
    contexts: Shaped[np.ndarray, " item"] | None = None,
) -> ABX:
    """ABX error over all triples of items; `item` is the index, from 0, of the item of each frame, in order.

    With `contexts` (such as the phones to either side) only items of the same context are compared.
    """
    codes = checked_codes(frames, {"item": item})
    check_items(item, categories, speakers, contexts)
    names, category = np.unique(categories, return_inverse=True)
    speaker = np.unique(speakers, return_inverse=True)[1]
    context = np.zeros(len(category), int) if contexts is None else np.unique(contexts, return_inverse=True)[1]
    if config.align == "mean":
        codes, item = clip_means(codes, item)[0], np.arange(len(category))
    directions = unit(codes)
    starts = np.searchsorted(item, np.arange(len(category) + 1))
    shape, triples = (int(speaker.max()) + 1, len(names), len(names)), 0
    score, cells = np.zeros(shape), np.zeros(shape, int)
    taken = sampled(category, speaker, context, generator, config.most)
    for block in blocks(taken, speaker, context, config):
        distance = item_distances(directions, starts, block, config.distance)
        for one in np.unique(speaker[block]):
            within = config.speakers == "within"
            wins, asked = ask(distance, category[block], speaker[block], int(one), within, len(names))
            met = asked > 0
            score[: len(wins)] += np.divide(wins, asked, out=np.zeros_like(wins), where=met)
            cells[: len(wins)] += met
            triples += int(asked.sum())
    if not triples:
        raise ValueError(
            f"there is no triple {config.speakers} speakers: two categories are needed, one of them said "
            "twice by a speaker (within) or by two (across), in one context"
        )
    of_speakers = np.where(cells > 0, 1 - score / np.maximum(cells, 1), 0.0)
    asking = (cells > 0).sum(axis=0)
    pairs = np.where(asking > 0, of_speakers.sum(axis=0) / np.maximum(asking, 1), np.nan)
    return ABX(float(np.nanmean(pairs)), pairs, names, triples)


def check_items(
    item: np.ndarray, categories: np.ndarray, speakers: np.ndarray, contexts: np.ndarray | None
) -> None:
    """Raise ValueError for items without frames, frames out of order, and columns of other lengths."""
    count = len(categories)
    lengths = [len(column) for column in (speakers, contexts) if column is not None]
    if lengths != [count] * len(lengths) or not np.array_equal(np.unique(item), np.arange(count)):
        raise ValueError(
            f"got frames of {len(np.unique(item))} items for {count} categories and {len(speakers)} speakers: "
            "number items from 0, give each a frame, a category and a speaker"
        )
    if (np.diff(item) < 0).any():
        raise ValueError(
            "frames of items are mixed: give the frames of item 0 first, then those of item 1, and so on"
        )


def unit(codes: Float[np.ndarray, "frame code"]) -> Float[np.ndarray, "frame code_and_null"]:
    """Frames of norm 1. With cosines clipped to [−1, 1], an extra column puts an all-zero frame at the maximum
    distance from all others, and at distance 0 from other all-zero frames, as in the Zero Resource challenges."""
    length = np.linalg.norm(codes, axis=1, keepdims=True)
    null = np.where(length > 0, NULL, -2 / NULL)
    return np.hstack([codes / np.where(length > 0, length, 1.0), null])


def sampled(
    category: np.ndarray,
    speaker: np.ndarray,
    context: np.ndarray,
    generator: np.random.Generator,
    most: int | None,
) -> Int[np.ndarray, " taken"]:
    """Random sample of at most `most` items of each category, speaker and context."""
    shuffled = generator.permutation(len(category))
    if most is None:
        return np.sort(shuffled)
    key = np.unique(np.stack([context, speaker, category]), axis=1, return_inverse=True)[1].ravel()[shuffled]
    order = np.argsort(key, kind="stable")
    place = np.arange(len(key)) - np.searchsorted(key[order], key[order])
    return np.sort(shuffled[order[place < most]])


def blocks(
    taken: np.ndarray, speaker: np.ndarray, context: np.ndarray, config: ABXConfig
) -> Iterator[Int[np.ndarray, " member"]]:
    """Groups of items that are compared with each other: of one context, and of one speaker if within speakers."""
    apart = np.stack([context, speaker if config.speakers == "within" else np.zeros_like(speaker)])[:, taken]
    keys = np.unique(apart, axis=1, return_inverse=True)[1].ravel()
    for key in range(keys.max() + 1):
        members = taken[keys == key]
        yield members[np.argsort(speaker[members], kind="stable")]


def item_distances(
    directions: Float[np.ndarray, "frame code"],
    starts: Int[np.ndarray, " bound"],
    items: Int[np.ndarray, " member"],
    kind: Literal["angular", "cosine"],
) -> Float[np.ndarray, "member member"]:
    """Pairwise distances of these items; each pair is computed once."""
    own = [directions[starts[one] : starts[one + 1]] for one in items]
    everything = np.concatenate(own)
    bounds = np.cumsum([0] + [len(frames) for frames in own])
    distance = np.zeros((len(items), len(items)))

    def one_row(row: int) -> None:
        later = everything[bounds[row] :]
        cost, steps = np.full(len(later), np.inf), np.zeros(len(later), np.int64)
        at_once = max(1, CELLS // len(later))
        for first in range(0, len(own[row]), at_once):
            cosine = np.clip(own[row][first : first + at_once] @ later.T, -1, 1)
            apart = np.arccos(cosine) / np.pi if kind == "angular" else 1 - cosine
            align_with_each(apart, bounds[row:] - bounds[row], cost, steps, first == 0)
        ends = bounds[row + 1 :] - bounds[row] - 1
        distance[row, row:] = cost[ends] / steps[ends]

    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        list(pool.map(one_row, range(len(items))))
    return distance + distance.T - np.diag(distance.diagonal())


@compiled()
@no_type_check
def align_with_each(apart, bounds, cost, steps, begin):
    """Continue the alignment paths of one item with each of the others, whose frames are the columns, in order."""
    for other in range(len(bounds) - 1):
        first, last = bounds[other], bounds[other + 1]
        go_on(apart[:, first:last], cost[first:last], steps[first:last], begin)


@compiled()
@no_type_check
def go_on(apart, cost, steps, begin):
    """Cost and length, in place, of the cheapest path (of ties, the shortest) from the first frames to each column
    of the last row. On entry `cost` and `steps` hold the row before this part of the rows."""
    for row in range(len(apart)):
        top = begin and row == 0
        diagonal_cost, diagonal_steps = np.inf, 0
        for column in range(apart.shape[1]):
            best, length = (0.0, 0) if top and column == 0 else (diagonal_cost, diagonal_steps)
            if not top:
                best, length = cheaper(best, length, cost[column], steps[column])
            if column > 0:
                best, length = cheaper(best, length, cost[column - 1], steps[column - 1])
            diagonal_cost, diagonal_steps = cost[column], steps[column]
            cost[column] = best + apart[row, column]
            steps[column] = length + 1


@compiled()
@no_type_check
def cheaper(cost, steps, other_cost, other_steps):
    if other_cost < cost or (other_cost == cost and other_steps < steps):
        return other_cost, other_steps
    return cost, steps


@compiled()
@no_type_check
def ask(distance, category, speaker, of_x, within, categories):
    """Wins and numbers of triples for X of one speaker, by speaker of A and B, category of A, and category of B.

    Items must be sorted by speaker.
    """
    wins = np.zeros((speaker.max() + 1, categories, categories))
    asked = np.zeros((speaker.max() + 1, categories, categories), np.int64)
    first = np.searchsorted(speaker, np.arange(speaker.max() + 2))
    for x in range(len(category)):
        if speaker[x] != of_x:
            continue
        for a in range(len(category)):
            if a == x or category[a] != category[x] or (speaker[a] == of_x) != within:
                continue
            for b in range(first[speaker[a]], first[speaker[a] + 1]):
                if category[b] == category[x]:
                    continue
                gap = distance[b, x] - distance[a, x]
                wins[speaker[a], category[x], category[b]] += 1.0 if gap > SAME else 0.5 if gap >= -SAME else 0.0
                asked[speaker[a], category[x], category[b]] += 1
    return wins, asked
