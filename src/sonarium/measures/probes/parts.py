"""Rows for learning, choosing and judging, so that no group lies on two sides.

A group is what must not be seen in learning and asked in judging: a speaker, a bird, a session, a fold.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped


@dataclass(frozen=True)
class Parts:
    """Numbers of rows: those that a probe is fitted on, those that it is chosen on, those that it is scored on."""

    train: Int[np.ndarray, " train"]
    validation: Int[np.ndarray, " validation"]
    test: Int[np.ndarray, " test"]

    def items(self) -> tuple[tuple[str, np.ndarray], ...]:
        return ("train", self.train), ("validation", self.validation), ("test", self.test)


def parts_of(groups: Shaped[np.ndarray, " row"], validation: Collection[Any], test: Collection[Any]) -> Parts:
    """The rows of these groups for choosing and for judging; all others are learnt from."""
    for name, named in (("validation", validation), ("test", test)):
        unknown = [one for one in named if not (groups == one).any()]
        if unknown:
            raise ValueError(
                f"the {name} groups {listed(unknown)} are in no row: there are {listed(np.unique(groups))}"
            )
    in_validation, in_test = np.isin(groups, list(validation)), np.isin(groups, list(test))
    rows = np.arange(len(groups))
    parts = Parts(rows[~in_validation & ~in_test], rows[in_validation], rows[in_test])
    check_parts(groups, parts, may_lack_validation=not validation)
    return parts


def dealt(
    groups: Shaped[np.ndarray, " row"], generator: np.random.Generator, validation: float = 0.2, test: float = 0.2
) -> Parts:
    """Whole groups dealt at random; at least one group to each part."""
    names = np.unique(groups)
    if len(names) < 3:
        raise ValueError(f"got {len(names)} group(s), {listed(names)}: three parts need at least three")
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise ValueError(f"got shares validation={validation}, test={test}: give two that sum to less than 1")
    shuffled = generator.permutation(names)
    tests = min(max(1, round(test * len(names))), len(names) - 2)
    validations = min(max(1, round(validation * len(names))), len(names) - tests - 1)
    return parts_of(groups, shuffled[tests : tests + validations].tolist(), shuffled[:tests].tolist())


def check_parts(groups: Shaped[np.ndarray, " row"], parts: Parts, may_lack_validation: bool = False) -> None:
    """Refuse an empty part, and a group on two sides."""
    held: dict[Any, str] = {}
    for part, rows in parts.items():
        if not len(rows) and not (may_lack_validation and part == "validation"):
            raise ValueError(f"the {part} part is empty: give each part at least one group")
        names = np.unique(groups[rows]).tolist()
        shared = [name for name in names if name in held]
        if shared:
            raise ValueError(
                f"group(s) {listed(shared)} lie in {held[shared[0]]} and in {part}: what is learnt of a "
                "group must not help in judging it, so give each group to one part"
            )
        held |= dict.fromkeys(names, part)


def folds(
    groups: Shaped[np.ndarray, " row"], rows: Int[np.ndarray, " chosen"], most: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit and rows to choose on: each group, or each of `most` lots of groups, is left out once."""
    names = np.unique(groups[rows])
    for lot in np.array_split(names, min(most, len(names))):
        left_out = np.isin(groups[rows], lot)
        yield rows[~left_out], rows[left_out]


def listed(names: Collection[Any]) -> str:
    """A few of the names, and how many more there are."""
    few = ", ".join(str(name) for name in list(names)[:5])
    return few + (f" and {len(names) - 5} more" if len(names) > 5 else "")
