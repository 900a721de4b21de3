"""Splits of rows or clips by group: train, validation and test parts of which no two share a group.

A group is what must not be in two parts: a speaker, a bird, a session, a recording, a fold.
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
    """Indices of the rows that a model is fitted on, chosen on and scored on."""

    train: Rows
    validation: Rows
    test: Rows

    def items(self) -> tuple[tuple[str, Rows], ...]:
        return ("train", self.train), ("validation", self.validation), ("test", self.test)


def deal(
    groups: Shaped[np.ndarray, " row"], generator: np.random.Generator, validation: float = 0.2, test: float = 0.2
) -> Split[np.ndarray]:
    """Whole groups dealt at random; the fractions are of groups.

    As far as there are enough groups, a part with a fraction above 0 has at least one: train first, then test.
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
    """The rows of these groups for validation and test, all others for training."""
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
    """Refuse an empty part, and a group in two parts."""
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
    """Two parts that have groups in common, and which; None where no two have."""
    held = [(part, np.unique(groups[np.asarray(rows)])) for part, rows in split.items()]
    for place, (other, later) in enumerate(held):
        for one, earlier in held[:place]:
            if len(names := np.intersect1d(earlier, later)):
                return one, other, names.tolist()
    return None


def folds(
    groups: Shaped[np.ndarray, " row"], rows: Int[np.ndarray, " chosen"], most: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on and rows to choose on: each group, or each of `most` lots of groups, is left out once."""
    names = np.unique(groups[rows])
    for lot in np.array_split(names, min(most, len(names))):
        left_out = np.isin(groups[rows], lot)
        yield rows[~left_out], rows[left_out]


def listed(names: Collection[Any] | np.ndarray) -> str:
    """The first five names, and the number of the others."""
    few = ", ".join(str(name) for name in list(names)[:5])
    return few + (f" and {len(names) - 5} more" if len(names) > 5 else "")
