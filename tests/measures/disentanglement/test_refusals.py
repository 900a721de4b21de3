"""Unsuitable tables and settings are refused with the value given, the value expected, and the remedy."""

import numpy as np
import pytest
import torch
from grids import grid
from typechecking import unchecked

from sonarium.measures import disentangle

GRID = grid(frequencies=10)
FULL = np.array(GRID)
FULL[7, 1] = np.nan
HUGE = np.array(GRID)
HUGE[:2, 2] = np.inf
CONSTANT = np.array(GRID)
CONSTANT[:, 2] = 3.0


@pytest.mark.parametrize(
    ("codes", "factors", "discrete", "says"),
    [
        (FULL, GRID, False, "codes hold 1 value.* row 7, column 1"),
        (GRID, HUGE, False, "factors hold 2 value.* row 0, column 2"),
        (GRID[:, 0], GRID, False, r"codes have shape \(400,\)"),
        (GRID, GRID[None], False, r"factors have shape \(1, 400, 3\)"),
        (GRID[:, :0], GRID, False, "codes have no columns"),
        (GRID, GRID[:, :0], False, "factors have no columns"),
        (GRID[:-1], GRID, False, "399 rows and factors 400"),
        (GRID[:7], GRID[:7], False, "7 clips, too few"),
        (GRID[:0], GRID[:0], False, "0 clips, too few"),
        (GRID, CONSTANT, False, "factor 2 has the value 3 in all 400 clips"),
        (GRID, GRID.astype(str).astype(object) + "x", False, "numbers are expected"),
        (GRID, GRID, [True, False], "2 bools for 3 factors"),
        (GRID, GRID, [3], "factor 3, but factors are numbered 0 to 2"),
        (GRID, GRID, [0.5], "is not understood"),
        (GRID, GRID, None, "discrete=None is not understood"),
        (GRID, GRID, "no", "discrete='no' is not understood"),
        (GRID, GRID, 1, "discrete=1 is not understood"),
        (GRID, GRID, [0, 0, 1], r"may mean positions or one value a factor: give bools"),
        (GRID, GRID, [1, 0, 1], r"give bools, such as \[True, False, True\], or each position once"),
        (GRID, GRID[:, 1:], [0, 1], "may mean positions or one value a factor"),
        (GRID, GRID[:, 1:], [1, 1], "may mean positions or one value a factor"),
        (1j * GRID, GRID, False, "codes are of type complex128: real numbers are expected"),
        (torch.tensor(1j * GRID), GRID, False, "codes are of type complex128: real numbers are expected"),
        (GRID, 1j * GRID, False, "factors are of type complex128"),
        (GRID, np.arange(400.0)[:, None], True, "said to be a category"),
    ],
)
def test_bad_tables(codes: np.ndarray, factors: np.ndarray, discrete, says: str) -> None:
    with unchecked(), pytest.raises(ValueError, match=says):
        disentangle(codes, factors, discrete)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"protocol": "ours"}, "protocol='ours'"),
        ({"bins": 1}, "bins=1"),
        ({"bins": 2.5}, "bins=2.5"),
        ({"dead_below": -1}, "dead_below=-1"),
        ({"permutations": 1}, "permutations=1"),
    ],
)
def test_bad_settings(setting: dict, says: str) -> None:
    with unchecked(), pytest.raises(ValueError, match=says):
        disentangle(GRID, GRID, **setting)


def test_few_clips_are_measured_with_a_note() -> None:
    scores = disentangle(GRID[:80], GRID[:80, 1:], permutations=0)
    assert any("overestimated" in note for note in scores["notes"])
