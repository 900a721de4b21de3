"""Splits of rows or clips by group: train, validation and test parts that share no group.

A group is a unit that must not be in two parts: a speaker, a bird, a session, a recording, a fold.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Int, Shaped
from torch import Tensor

Rows = TypeVar("Rows", np.ndarray, Tensor)
"""Indices of rows as an array, or of a world's clips as a tensor."""


@dataclass(frozen=True)
class Split(Generic[Rows]):
    """Indices of the rows on which a model is fitted, chosen and scored."""

    train: Rows
    validation: Rows
    test: Rows

    def items(self) -> tuple[tuple[str, Rows], ...]:
        return ("train", self.train), ("validation", self.validation), ("test", self.test)


def deal(
    groups: Shaped[np.ndarray, " row"], generator: np.random.Generator, validation: float = 0.2, test: float = 0.2
) -> Split[np.ndarray]:
    """Random split by whole groups; `validation` and `test` are fractions of groups.

    If there are enough groups, a part with a fraction above 0 has at least one; train has priority, then test.
    """
    if not (0 <= test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise ValueError(
            f"fractions test={test} and validation={validation} leave nothing to train on: "
            "give fractions in [0, 1) that sum to less than 1"
        )
    names = np.unique(groups)
    order, spare = generator.permutation(names), len(names) - 1
    tests = min(max(1, round(test * len(names))), spare) if test else 0
    validations = min(max(1, round(validation * len(names))), spare - tests) if validation else 0
    return of_groups(groups, order[tests : tests + validations], order[:tests])


def of_groups(
    groups: Shaped[np.ndarray, " row"],
    validation: Collection[Any] | np.ndarray,
    test: Collection[Any] | np.ndarray,
) -> Split[np.ndarray]:
    """Split with these groups for validation and test, and all others for training."""
    for name, named in (("validation", validation), ("test", test)):
        found = np.isin(np.asarray(list(named)), groups)
        if unknown := [one for one, there in zip(named, found, strict=True) if not there]:
            raise ValueError(
                f"the {name} groups {listed(unknown)} are in no row: there are {listed(np.unique(groups))}"
            )
    in_validation, in_test = (np.isin(groups, np.asarray(list(named))) for named in (validation, test))
    rows = np.arange(len(groups))
    return Split(rows[~in_validation & ~in_test], rows[in_validation], rows[in_test])


def check_split(
    groups: Shaped[np.ndarray, " row"], split: Split[np.ndarray], may_lack_validation: bool = False
) -> None:
    """Raise ValueError for an empty part, and for a group in two parts."""
    for part, rows in split.items():
        if not len(rows) and not (may_lack_validation and part == "validation"):
            raise ValueError(f"the {part} part is empty: give each part at least one group")
    if leak := shared(groups, split):
        one, other, names = leak
        raise ValueError(
            f"group(s) {listed(names)} lie in {one} and in {other}: what is learnt of a group must not help to "
            "predict it, so give each group to one part"
        )


def shared(groups: Shaped[np.ndarray, " row"], split: Split[Any]) -> tuple[str, str, list[Any]] | None:
    """Two parts that have groups in common, and those groups; None if there are no such parts."""
    held = [(part, np.unique(groups[np.asarray(rows)])) for part, rows in split.items()]
    for place, (other, later) in enumerate(held):
        for one, earlier in held[:place]:
            if len(names := np.intersect1d(earlier, later)):
                return one, other, names.tolist()
    return None


def folds(
    groups: Shaped[np.ndarray, " row"],
    rows: Int[np.ndarray, " chosen"],
    most: int,
    label: Int[np.ndarray, " row"] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Training and validation rows of a cross-validation: each of at most `most` folds of groups is left out once.

    The folds are deterministic, and stratified by label as far as whole groups allow it.
    """
    fold = fold_of_each(groups[rows], most, None if label is None else label[rows])
    for one in range(int(fold.max()) + 1):
        yield rows[fold != one], rows[fold == one]


def fold_of_each(
    groups: Shaped[np.ndarray, " row"], most: int, label: Int[np.ndarray, " row"] | None = None
) -> Int[np.ndarray, " row"]:
    """Fold of each row: groups are assigned from the largest on, each to the fold that has least of its labels."""
    names, group = np.unique(groups, return_inverse=True)
    classes = np.zeros(len(group), int) if label is None else np.unique(label, return_inverse=True)[1]
    counts = np.zeros((len(names), classes.max() + 1))
    np.add.at(counts, (group, classes), 1)
    shares, sizes = counts / counts.sum(0), counts.sum(1)
    held, fold = np.zeros((min(most, len(names)), shares.shape[1])), np.zeros(len(names), int)
    filled = np.zeros(len(held))
    for one in np.argsort(-sizes, kind="stable"):
        # Increase of the sum of squared shares, up to a constant: smallest where the shares stay most even.
        fold[one] = np.lexsort((filled, np.round(held @ shares[one], 12)))[0]
        held[fold[one]] += shares[one]
        filled[fold[one]] += sizes[one]
    return fold[group]


def to_choose(
    groups: Shaped[np.ndarray, " row"],
    split: Split[np.ndarray],
    most: int,
    label: Int[np.ndarray, " row"] | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of training and validation rows to choose a setting: those of the split or, if it has no validation
    rows, of a cross-validation over the training groups."""
    if len(split.validation):
        return [(split.train, split.validation)]
    if len(np.unique(groups[split.train])) < 2:
        raise ValueError("the train part has one group alone, so that nothing can be chosen on another: give two")
    return list(folds(groups, split.train, most, label))


def listed(names: Collection[Any] | np.ndarray) -> str:
    """First five names, and the number of the others."""
    few = ", ".join(str(name) for name in list(names)[:5])
    return few + (f" and {len(names) - 5} more" if len(names) > 5 else "")
