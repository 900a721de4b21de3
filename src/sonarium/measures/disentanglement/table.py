"""Codes and factors as one checked table, the input of every disentanglement measure.

A code is dead if it is the same for every clip (up to the resolution of its data type), or if its standard
deviation does not exceed a limit that the caller sets; codes under a standard normal prior are commonly called
dead below 0.05. Dead codes are counted and left out of every measure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from torch import Tensor

from sonarium.measures.disentanglement.binning import few_values

FEWEST_CLIPS = 20


@dataclass(frozen=True)
class Table:
    """The live codes of clips, and the factors of the same clips."""

    codes: Float[np.ndarray, "clip live"]
    live: Bool[np.ndarray, " code"]
    """Mask of the given codes that are not dead."""
    factors: Float[np.ndarray, "clip factor"]
    discrete: tuple[bool, ...]
    """Whether each factor is a category (else a number)."""

    @property
    def code_count(self) -> int:
        """Number of given codes, dead ones included."""
        return len(self.live)

    def of(self, factors: Sequence[int]) -> "Table":
        """Table of the same clips with only these factors."""
        kept = tuple(self.discrete[factor] for factor in factors)
        return replace(self, factors=self.factors[:, list(factors)], discrete=kept)

    @property
    def dead_codes(self) -> int:
        return int((~self.live).sum())


def checked(
    codes: ArrayLike | Tensor,
    factors: ArrayLike | Tensor,
    discrete: bool | Sequence[bool] | Sequence[int],
    dead_below: float,
) -> Table:
    """Table without dead codes; raises ValueError for input that cannot be measured."""
    code_values, factor_values = matrix(codes, "codes"), matrix(factors, "factors")
    if len(code_values) != len(factor_values):
        raise ValueError(
            f"codes have {len(code_values)} rows and factors {len(factor_values)}: "
            "row i of both must belong to the same clip"
        )
    if len(code_values) < FEWEST_CLIPS:
        raise ValueError(
            f"got {len(code_values)} clips, too few to measure anything: give at least {FEWEST_CLIPS}"
        )
    categories = which_discrete(discrete, factor_values.shape[1])
    for position, is_category in enumerate(categories):
        _check_factor(factor_values[:, position], position, is_category)
    if not dead_below >= 0:
        raise ValueError(f"got dead_below={dead_below}: a standard deviation is expected, 0 or more")
    live = code_values.std(axis=0) > np.maximum(resolution(codes) * np.abs(code_values).max(axis=0), dead_below)
    return Table(np.asfortranarray(code_values[:, live]), live, factor_values, categories)


def matrix(values: ArrayLike | Tensor, name: str) -> Float[np.ndarray, "clip column"]:
    """Two-dimensional array of finite numbers; raises ValueError if it is anything else."""
    array = as_array(values)
    if array.ndim != 2:
        raise ValueError(f"{name} have shape {array.shape}: two axes are expected, one row a clip")
    if array.shape[1] == 0:
        raise ValueError(f"{name} have no columns (shape {array.shape}): at least one is needed")
    if np.iscomplexobj(array):
        raise ValueError(
            f"{name} are of type {array.dtype}: real numbers are expected; give real and imaginary parts, or "
            "magnitudes, as columns"
        )
    try:
        numbers = array.astype(np.float64, order="F")  # sums over clips are several times faster in this order
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} are of type {array.dtype}: numbers are expected; give a category by the position "
            "of its value, as np.unique(..., return_inverse=True) does"
        ) from None
    bad = ~np.isfinite(numbers)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{name} hold {int(bad.sum())} value(s) that are NaN or infinite, the first in row {row}, "
            f"column {column}: remove those clips, or correct what made them"
        )
    return numbers


def as_array(values: ArrayLike | Tensor) -> np.ndarray:
    """NumPy array; bfloat16, which NumPy lacks, is converted to float32 without loss."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    plain = values.detach().cpu()
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()


def resolution(values: ArrayLike | Tensor) -> float:
    """Relative resolution (machine epsilon) of this data type, but no finer than that of sums over clips."""
    finest = 16 * float(np.finfo(np.float64).eps)
    if isinstance(values, Tensor):
        return max(torch.finfo(values.dtype).eps, finest) if values.dtype.is_floating_point else finest
    kind = np.asarray(values).dtype
    return max(float(np.finfo(kind).eps), finest) if np.issubdtype(kind, np.floating) else finest


def which_discrete(discrete: bool | Sequence[bool] | Sequence[int], count: int) -> tuple[bool, ...]:
    """One bool per factor, from one bool for all, a bool for each, or the indices of the categories."""
    if isinstance(discrete, (bool, np.bool_)):
        return (bool(discrete),) * count
    if discrete is None or isinstance(discrete, str) or np.ndim(discrete) != 1:
        raise ValueError(misunderstood(discrete))
    given = list(discrete)
    if given and all(isinstance(one, (bool, np.bool_)) for one in given):
        if len(given) != count:
            raise ValueError(f"discrete has {len(given)} bools for {count} factors: give one for each")
        return tuple(bool(one) for one in given)
    positions = set()
    for one in given:
        is_position = isinstance(one, (int, np.integer)) and not isinstance(one, bool)
        if not is_position:
            raise ValueError(misunderstood(discrete))
        if not -count <= one < count:
            raise ValueError(f"discrete names factor {one}, but factors are numbered 0 to {count - 1}")
        positions.add(int(one) % count)
    if len(positions) < len(given) or (len(given) == count and set(given) <= {0, 1}):
        raise ValueError(
            f"discrete={discrete} may mean positions or one value a factor: give bools, such as "
            f"{[bool(one) for one in given]}, or each position once"
        )
    return tuple(position in positions for position in range(count))


def misunderstood(discrete: object) -> str:
    return (
        f"discrete={discrete!r} is not understood: give one bool, a bool for each factor, or the positions of the "
        "factors that are categories"
    )


def _check_factor(values: Float[np.ndarray, " clip"], position: int, is_category: bool) -> None:
    if values.min() == values.max():
        raise ValueError(
            f"factor {position} has the value {values[0]:g} in all {len(values)} clips: "
            "a constant factor cannot be recovered, leave its column out"
        )
    if not is_category:
        return
    most = len(values) // 2
    if len(few_values(values, most)) > most:
        raise ValueError(
            f"factor {position} is said to be a category but has over {most} values in {len(values)} "
            "clips: leave it out of `discrete` if it is a number, or give more clips of each value"
        )
