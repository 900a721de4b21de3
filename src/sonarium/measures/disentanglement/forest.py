"""Random forests, fast on few columns: Breiman 2001 with every code tried at every node.

A class is a column of zeros and ones, and the Gini impurity is the sum of the variances of these
columns, so one tree serves numbers and categories. The importance of a code is the impurity decrease of its
splits, as a fraction in each tree; codes that split a node equally well get equal parts, which is the
expectation of choosing among them at random: two copies of a code have the same importance.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int, UInt32

from sonarium.config import Range, check_ranges
from sonarium.cores import usable_cores
from sonarium.measures.disentanglement.tree import add_prediction, grow_tree


@dataclass(frozen=True)
class ForestConfig:
    """The size of a forest."""

    trees: Annotated[int, Range(1, 10**5)] = 20
    """Trees whose predictions are averaged."""
    depth: Annotated[int, Range(1, 60)] = 14
    """The longest path from the root to a leaf."""
    leaf: Annotated[int, Range(1)] = 3
    """The fewest distinct clips in a leaf."""

    def __post_init__(self) -> None:
        check_ranges(self)


Tree = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Arrays over nodes: code to split on, greatest value that goes left, first child, value."""


@dataclass(frozen=True)
class Forest:
    """Fitted trees; they predict the class with the largest mean fraction, or the mean number."""

    trees: list[Tree]
    classes: Float[np.ndarray, " class_"] | None
    """Values of a category; None for a number."""
    importance: Float[np.ndarray, " code"]
    """Importances that sum to 1, or zeros if no tree has a split."""

    def predict(self, codes: Float[np.ndarray, "clip code"]) -> Float[np.ndarray, " clip"]:
        sums = np.zeros((len(codes), self.trees[0][-1].shape[1]))
        for tree in self.trees:
            add_prediction(codes, *tree, sums)
        return sums[:, 0] / len(self.trees) if self.classes is None else self.classes[sums.argmax(axis=1)]


@dataclass(frozen=True)
class Sorted:
    """Sorted codes, prepared once for all forests that are fitted on them."""

    rank: UInt32[np.ndarray, "code clip"]
    """Rank of each clip among the distinct values of each code."""
    clips: UInt32[np.ndarray, "code clip"]
    """Clip indices, sorted by each code."""
    values: Float[np.ndarray, " value"]
    """Sorted distinct values of each code, concatenated."""
    first: Int[np.ndarray, " code"]
    """Index in `values` of the first value of each code."""

    def midway(self, feature: Int[np.ndarray, " node"], cut: Int[np.ndarray, "node 2"]) -> np.ndarray:
        """Midpoints between the values at two ranks of a code."""
        return self.values[self.first[feature][:, None] + cut].mean(axis=1)


def in_order(codes: Float[np.ndarray, "clip code"]) -> Sorted:
    """Sort the clips by each code."""
    values, ranks = zip(*(np.unique(column, return_inverse=True) for column in codes.T), strict=True)
    rank = np.stack(ranks).astype(np.uint32)  # unsigned: an index that cannot be negative is faster
    first = np.cumsum([0] + [len(of_code) for of_code in values[:-1]])
    clips = np.argsort(rank, axis=1, kind="stable").astype(np.uint32)
    return Sorted(rank, clips, np.concatenate(values), first)


def grow(
    codes: Sorted, target: Float[np.ndarray, " clip"], is_category: bool, config: ForestConfig, seed: int
) -> Forest:
    """Fit a forest that predicts `target`, a category or a number, from codes."""
    clips = len(target)
    if is_category:
        classes, slot = np.unique(target, return_inverse=True)
        centre, amount, slots = 0.0, np.ones(clips), len(classes)
    else:
        classes, slot, slots = None, np.zeros(clips, np.int64), 1
        centre = float(target.mean())  # sums of squares lose digits far from 0
        amount = target - centre
    drawn = np.random.default_rng([seed, 0xF0]).integers(0, clips, size=(config.trees, clips))

    def one(draw: np.ndarray) -> tuple[Tree, np.ndarray]:
        weight = np.bincount(draw, minlength=clips).astype(np.float64)
        feature, cut, child, value, importance = grow_tree(
            codes.rank, codes.clips, slot.astype(np.uint32), amount, weight, slots, config.depth, config.leaf
        )
        tree = feature, codes.midway(feature, cut), child, value + centre
        return tree, importance / (importance.sum() or 1.0)

    with ThreadPoolExecutor(max_workers=min(config.trees, usable_cores())) as pool:
        grown = list(pool.map(one, drawn))
    importance = np.sum([importance for _, importance in grown], axis=0)
    return Forest([tree for tree, _ in grown], classes, importance / (importance.sum() or 1.0))
