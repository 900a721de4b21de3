"""Bins for numbers, and the joint counts of every code with every factor in one pass.

The bins of a column are its distinct values if there are no more of them than bins, and always for a category;
any other column gets bins of equal width between its minimum and its maximum. A value that lies on an edge, up to
rounding, belongs to the bin nearer the middle, and one exactly in the middle has a separate bin: a column, its
negative and its multiples have the same bins.
"""

from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int

from sonarium.jit import compiled

EDGE = 1e-5
"""Maximum distance from an edge, as a fraction of a bin's width, of a value that lies on it."""


def bin_columns(
    values: Float[np.ndarray, "clip column"], bins: int, keep: tuple[bool, ...] | None = None
) -> tuple[Int[np.ndarray, "clip column"], Int[np.ndarray, " column"]]:
    """Bin index of every value, from 0, and the number of bins of each column.

    The bins of a column for which `keep` is true are its distinct values, regardless of their number.
    """
    binned, sizes = _bin_all(values, bins)
    for column, kept in enumerate(keep or ()):
        if kept and sizes[column] >= bins:  # as many as there are bins, or more that were cut
            distinct, inverse = np.unique(values[:, column], return_inverse=True)
            binned[:, column], sizes[column] = inverse, len(distinct)
    return binned, sizes


def joint_counts(
    code_bins: Int[np.ndarray, "clip code"],
    factor_bins: Int[np.ndarray, "clip factor"],
    code_sizes: Int[np.ndarray, " code"],
    factor_sizes: Int[np.ndarray, " factor"],
    half: Int[np.ndarray, " clip"] | None = None,
) -> Int[np.ndarray, "half code factor code_bin factor_bin"]:
    """Joint counts of each code's bins and each factor's bins, separately for the clips of half 0 and half 1."""
    side = np.zeros(len(code_bins), np.int64) if half is None else half
    shape = (int(side.max()) + 1, code_bins.shape[1], factor_bins.shape[1])
    counts = np.zeros((*shape, int(code_sizes.max()), int(factor_sizes.max())), np.int64)
    _count(code_bins, factor_bins, side, counts)
    return counts


@compiled()
@no_type_check
def _bin_all(values, bins):
    clips, columns = values.shape
    binned = np.empty((columns, clips), np.int64).T
    sizes = np.empty(columns, np.int64)
    for column in range(columns):
        own = few_values(values[:, column], bins)
        if len(own) <= bins:
            sizes[column] = len(own)
            for clip in range(clips):
                binned[clip, column] = _place(own, len(own), values[clip, column])
        else:
            sizes[column] = _equal_widths(values[:, column], bins, binned[:, column])
    return binned, sizes


@compiled()
@no_type_check
def _equal_widths(values, bins, binned):
    """Write the bins of one column to `binned`; return their number, one more if values lie in the very middle."""
    low, high = values.min(), values.max()
    middle = 0
    for clip in range(len(values)):
        place = (values[clip] - low) / (high - low) * bins
        edge = int(place + 0.5)
        if abs(place - edge) > EDGE:
            binned[clip] = int(place)
        elif 2 * edge == bins:
            binned[clip] = -1
            middle = 1
        else:
            binned[clip] = edge if 2 * edge < bins else edge - 1
    if middle:
        for clip in range(len(values)):
            if binned[clip] < 0:
                binned[clip] = bins // 2
            elif 2 * binned[clip] >= bins:
                binned[clip] += 1
    return bins + middle


@compiled()
@no_type_check
def few_values(values, most):
    """Sorted distinct values; stops with most + 1 of them if there are more than `most`."""
    found = np.empty(most + 1, np.float64)
    count = 0
    for value in values:
        place = _place(found, count, value)
        if place < count and found[place] == value:
            continue
        for later in range(count, place, -1):
            found[later] = found[later - 1]
        found[place] = value
        count += 1
        if count > most:
            break
    return found[:count]


@compiled()
@no_type_check
def _place(ordered, count, value):
    """Number of the first `count` values that are less than `value`."""
    if count <= 32:  # counting them all has no branch to mispredict
        less = 0
        for one in range(count):
            less += ordered[one] < value
        return less
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled()
@no_type_check
def _count(code_bins, factor_bins, half, counts):
    clips, codes = code_bins.shape
    factors = factor_bins.shape[1]
    for code in range(codes):
        for factor in range(factors):
            for clip in range(clips):
                counts[half[clip], code, factor, code_bins[clip, code], factor_bins[clip, factor]] += 1
