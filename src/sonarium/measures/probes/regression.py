"""Numbers told from codes: what part of their variance a line, fitted on some groups, explains in others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int, Shaped

from sonarium.measures.probes.classifiers import least_squares_path, scale_of
from sonarium.measures.probes.frames import checked_codes
from sonarium.measures.probes.parts import Parts, check_parts

STRENGTHS = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)
"""Strengths of ridge regression to choose from, counted a row."""


@dataclass(frozen=True)
class Explained:
    """How well a line tells a number of groups that it was not fitted on."""

    share: float
    """1 − the mean squared error over the variance of the test rows: 1 is perfect, their mean has 0."""
    strength: float
    rows: tuple[int, int, int]
    """Rows that were fitted, that the strength was chosen on, and that were scored."""


def explained(
    codes: Float[np.ndarray, "row code"],
    numbers: Float[np.ndarray, " row"],
    groups: Shaped[np.ndarray, " row"],
    parts: Parts,
    strengths: Sequence[float] = STRENGTHS,
) -> Explained:
    """Fit on the train rows, choose on the validation rows, fit on both together, score on the test rows."""
    check_parts(groups, parts)
    values = checked_codes(codes, {"numbers": numbers, "groups": groups})
    for part, rows in parts.items():
        if np.ptp(numbers[rows]) == 0:
            raise ValueError(
                f"the {part} part has one number alone, {numbers[rows][0]:g}: there is nothing to tell"
            )
    falling = tuple(sorted(strengths, reverse=True))
    tried = shares(values, numbers, parts.train, parts.validation, falling)
    strength = falling[int(np.argmax(np.round(tried, 12)))]
    both = np.concatenate([parts.train, parts.validation])
    [share] = shares(values, numbers, both, parts.test, (strength,))
    return Explained(share, strength, (len(parts.train), len(parts.validation), len(parts.test)))


def shares(
    codes: Float[np.ndarray, "row code"],
    numbers: Float[np.ndarray, " row"],
    fitted: Int[np.ndarray, " fitted"],
    asked: Int[np.ndarray, " asked"],
    strengths: tuple[float, ...],
) -> list[float]:
    """What a line of each strength explains of the rows that are asked."""
    scale, middle, spread = scale_of(codes[fitted]), numbers[fitted].mean(), numbers[fitted].std()
    targets = rearrange((numbers[fitted] - middle) / spread, "row -> row 1")
    true, x = numbers[asked], scale(codes[asked])
    lines = least_squares_path(scale(codes[fitted]), targets, strengths)
    return [float(1 - np.mean((true - middle - spread * line(x)[:, 0]) ** 2) / true.var()) for line in lines]
