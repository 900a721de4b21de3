"""Linear regression of numbers on codes: R² on held-out groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int, Shaped

from sonarium.measures.probes.classifiers import least_squares_path, scale_of
from sonarium.measures.probes.frames import checked_codes
from sonarium.measures.splits import Split, check_split, to_choose

STRENGTHS = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)
"""Strengths of ridge regression to choose from, per row."""


@dataclass(frozen=True)
class Regression:
    """How well a linear regression predicts a number on held-out groups."""

    r2: float
    """Coefficient of determination on the test rows: 1 − mean squared error over their variance."""
    strength: float
    validated: float
    """1 − mean squared error over the variance of all rows on which the strength was chosen."""
    rows: tuple[int, int, int]
    """Numbers of training, validation and test rows."""


def regress(
    codes: Float[np.ndarray, "row code"],
    numbers: Float[np.ndarray, " row"],
    groups: Shaped[np.ndarray, " row"],
    split: Split[np.ndarray],
    strengths: Sequence[float] = STRENGTHS,
    lots: int = 5,
) -> Regression:
    """Fit on the training rows, choose the strength on the validation rows or by cross-validation over groups,
    refit on both, score on the test rows."""
    check_split(groups, split, may_lack_validation=True)
    values = checked_codes(codes, {"numbers": numbers, "groups": groups})
    if not np.isfinite(numbers).all():
        raise ValueError(f"{np.sum(~np.isfinite(numbers))} of the numbers are not finite: leave their rows out")
    for part, rows in split.items():
        if len(rows) and np.ptp(numbers[rows]) == 0:
            raise ValueError(
                f"the {part} part has only one value, {numbers[rows][0]:g}: there is nothing to predict"
            )
    falling = tuple(sorted(strengths, reverse=True))
    parts = to_choose(groups, split, lots)
    watched = np.concatenate([rows for _, rows in parts])
    tried = np.sum([squared_errors(values, numbers, *part, falling) for part in parts], axis=0)
    worth = 1 - tried / (len(watched) * numbers[watched].var())
    best = int(np.argmax(np.round(worth, 12)))
    both = np.concatenate([split.train, split.validation])
    [error] = squared_errors(values, numbers, both, split.test, (falling[best],))
    r2 = 1 - error / (len(split.test) * numbers[split.test].var())
    sizes = (len(split.train), len(watched), len(split.test))
    return Regression(float(r2), falling[best], float(worth[best]), sizes)


def squared_errors(
    codes: Float[np.ndarray, "row code"],
    numbers: Float[np.ndarray, " row"],
    fitted: Int[np.ndarray, " fitted"],
    scored: Int[np.ndarray, " scored"],
    strengths: tuple[float, ...],
) -> list[float]:
    """Sum of squared errors on the scored rows of a regression of each strength."""
    scale, middle = scale_of(codes[fitted]), numbers[fitted].mean()
    # If all numbers of a fold are the same, the prediction is constant.
    spread = numbers[fitted].std() or 1.0
    targets = rearrange((numbers[fitted] - middle) / spread, "row -> row 1")
    true, x = numbers[scored], scale(codes[scored])
    lines = least_squares_path(scale(codes[fitted]), targets, strengths)
    return [float(np.sum((true - middle - spread * line(x)[:, 0]) ** 2)) for line in lines]
