"""How many labels it takes: the score of a probe against the number of labelled rows of each class.

As in the few-label tests of representation learning (Hénaff and others, 2020). The labels by which a setting is
chosen are as few as those that are fitted: a validation part with all its labels would be no test of few.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from sonarium.measures.probes.parts import Parts, check_parts
from sonarium.measures.probes.probe import ProbeConfig, choose, drawn_seed, judge, only_setting, table_of
from sonarium.measures.statistics import Interval, interval


@dataclass(frozen=True)
class FewLabels:
    """A curve: the balanced accuracy for each number of labels a class, over several draws of the labels."""

    counts: tuple[int, ...]
    """Labels of each class that were fitted; as many more of the validation groups served to choose."""
    scores: Float[np.ndarray, "draw count"]
    chance: float

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """Over draws of the labels, not over trainings of the encoder."""
        return tuple(interval(column.tolist()) for column in self.scores.T)


def few_labels(
    codes: Float[np.ndarray, "row code"],
    labels: Shaped[np.ndarray, " row"],
    groups: Shaped[np.ndarray, " row"],
    parts: Parts,
    generator: np.random.Generator,
    counts: Sequence[int] = (1, 2, 5, 10, 20, 50),
    draws: int = 5,
    config: ProbeConfig = ProbeConfig(),
) -> FewLabels:
    """Fit probes on a few rows of each class, drawn anew each time; the larger lots hold the smaller ones.

    Counts of which no class has as many train rows are left out, and a class with fewer gives all it has.
    """
    table = table_of(codes, labels, groups)
    check_parts(groups, parts, may_lack_validation=only_setting(config) is not None)
    most = int(np.bincount(table.label[parts.train]).max())
    used = tuple(sorted({count for count in counts if 1 <= count <= most}))
    if not used or draws < 1:
        raise ValueError(
            f"got counts={tuple(counts)} and draws={draws} for classes of at most {most} train rows: "
            "give at least one count that a class has, and at least one draw"
        )
    scores = np.zeros((draws, len(used)))
    for draw in range(draws):
        train = in_random_order(table.label, parts.train, generator)
        validation = in_random_order(table.label, parts.validation, generator)
        seed = drawn_seed(generator)
        for place, count in enumerate(used):
            fitted, chosen = train.first(count), validation.first(count)
            setting = choose(table, [(fitted, chosen)], config, seed)
            learnt = np.concatenate([fitted, chosen]) if config.refit else fitted
            score = judge(table, learnt, len(chosen), parts.test, setting, config, seed)
            scores[draw, place] = score.balanced
    return FewLabels(used, scores, 1 / len(np.unique(table.label[parts.test])))


@dataclass(frozen=True)
class Deck:
    """Rows in random order, each with its place among those of its class."""

    rows: Int[np.ndarray, " row"]
    place: Int[np.ndarray, " row"]

    def first(self, count: int) -> Int[np.ndarray, " drawn"]:
        """So many rows of each class."""
        return self.rows[self.place < count]


def in_random_order(
    label: Int[np.ndarray, " any_row"], rows: Int[np.ndarray, " row"], generator: np.random.Generator
) -> Deck:
    shuffled = generator.permutation(rows)
    place = np.zeros(len(rows), np.int64)
    for one in np.unique(label[rows]):
        own = label[shuffled] == one
        place[own] = np.arange(own.sum())
    return Deck(shuffled, place)
