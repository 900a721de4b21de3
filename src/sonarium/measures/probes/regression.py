"""Linear regression of numbers on codes: R² on groups that the line was not fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int, Shaped

from sonarium.measures.probes.classifiers import least_squares_path, scale_of
from sonarium.measures.probes.frames import checked_codes
from sonarium.measures.splits import Split, check_split

STRENGTHS = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)
"""Strengths of ridge regression to choose from, per row."""


@dataclass(frozen=True)
class Regression:
    """How well a line predicts a number on groups that it was not fitted on."""

    r2: float
    """Coefficient of determination on the test rows: 1 − mean squared error over their variance."""
    strength: float
    rows: tuple[int, int, int]
    """Training, validation and test rows."""


def regress(
    codes: Float[np.ndarray, "row code"],
    numbers: Float[np.ndarray, " row"],
    groups: Shaped[np.ndarray, " row"],
    split: Split[np.ndarray],
    strengths: Sequence[float] = STRENGTHS,
) -> Regression:
    """Fit on the training rows, choose on the validation rows, fit again on both, score on the test rows."""
    check_split(groups, split)
    values = checked_codes(codes, {"numbers": numbers, "groups": groups})
    for part, rows in split.items():
        if np.ptp(numbers[rows]) == 0:
            raise ValueError(
                f"the {part} part has only one value, {numbers[rows][0]:g}: there is nothing to predict"
            )
    falling = tuple(sorted(strengths, reverse=True))
    tried = r2_scores(values, numbers, split.train, split.validation, falling)
    strength = falling[int(np.argmax(np.round(tried, 12)))]
    both = np.concatenate([split.train, split.validation])
    [r2] = r2_scores(values, numbers, both, split.test, (strength,))
    return Regression(r2, strength, (len(split.train), len(split.validation), len(split.test)))


def r2_scores(
    codes: Float[np.ndarray, "row code"],
    numbers: Float[np.ndarray, " row"],
    fitted: Int[np.ndarray, " fitted"],
    scored: Int[np.ndarray, " scored"],
    strengths: tuple[float, ...],
) -> list[float]:
    """R² of a line of each strength on the scored rows."""
    scale, middle, spread = scale_of(codes[fitted]), numbers[fitted].mean(), numbers[fitted].std()
    targets = rearrange((numbers[fitted] - middle) / spread, "row -> row 1")
    true, x = numbers[scored], scale(codes[scored])
    lines = least_squares_path(scale(codes[fitted]), targets, strengths)
    return [float(1 - np.mean((true - middle - spread * line(x)[:, 0]) ** 2) / true.var()) for line in lines]
