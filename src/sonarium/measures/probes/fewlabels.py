"""Label efficiency: the score of a probe as a function of the number of labelled rows per class.

As in the few-label tests of representation learning (Hénaff and others, 2020). Hyperparameters are chosen on as
few labels as the probe is fitted on: with a fully labelled validation split it would not be a test of few labels.
Without validation groups, each draw uses the next fold of the training groups instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from sonarium.measures.probes.probe import ProbeConfig, choose, drawn_seed, fit_and_score, only_setting, table_of
from sonarium.measures.splits import Split, check_split, to_choose
from sonarium.measures.statistics import Interval, interval


@dataclass(frozen=True)
class FewLabels:
    """Balanced accuracy as a function of the number of labels per class, for several draws of the labels."""

    counts: tuple[int, ...]
    """Training labels per class; as many more from the validation groups choose the hyperparameters, and
    are then fitted to as well, with `refit`."""
    scores: Float[np.ndarray, "draw count"]
    chance: float

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """Intervals over draws of the labels, not over trainings of the encoder."""
        return tuple(interval(column.tolist()) for column in self.scores.T)


def few_labels(
    codes: Float[np.ndarray, "row code"],
    labels: Shaped[np.ndarray, " row"],
    groups: Shaped[np.ndarray, " row"],
    split: Split[np.ndarray],
    generator: np.random.Generator,
    counts: Sequence[int] = (1, 2, 5, 10, 20, 50),
    draws: int = 5,
    config: ProbeConfig = ProbeConfig(),
) -> FewLabels:
    """Fit probes on a few rows per class, redrawn each time; larger samples contain the smaller ones.

    Counts above the training rows of the largest class are left out; of a class with fewer rows all are used.
    """
    table = table_of(codes, labels, groups)
    check_split(groups, split, may_lack_validation=True)
    alone = only_setting(config) is not None and not len(split.validation)
    parts = [(split.train, split.validation)] if alone else to_choose(groups, split, config.lots, table.label)
    most = int(np.bincount(table.label[split.train]).max())
    used = tuple(sorted({count for count in counts if 1 <= count <= most}))
    if not used or draws < 1:
        raise ValueError(
            f"got counts={tuple(counts)} and draws={draws} for classes of at most {most} train rows: "
            "give at least one count that a class has, and at least one draw"
        )
    scores = np.zeros((draws, len(used)))
    for draw in range(draws):
        train, validation = (in_random_order(table.label, rows, generator) for rows in parts[draw % len(parts)])
        seed = drawn_seed(generator)
        for place, count in enumerate(used):
            fitted, chosen = train.first(count), validation.first(count)
            choice = choose(table, [(fitted, chosen)], config, seed)
            learnt = np.concatenate([fitted, chosen]) if config.refit else fitted
            made = fit_and_score(table, learnt, len(chosen), split.test, choice, config, seed)
            scores[draw, place] = made.balanced
    return FewLabels(used, scores, 1 / len(np.unique(table.label[split.test])))


@dataclass(frozen=True)
class Deck:
    """Rows in random order, each with its position among the rows of its class."""

    rows: Int[np.ndarray, " row"]
    place: Int[np.ndarray, " row"]

    def first(self, count: int) -> Int[np.ndarray, " drawn"]:
        """The first `count` rows of each class."""
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
