"""Two halves of the clips: models are fitted on half 0 and scored on half 1.

The halves are stratified as by Sechidis et al. 2011 (ECML PKDD): values are assigned one after the other, the
rarest first, so that a value with two or more clips is in both halves, always with one factor, mostly with more.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int


def halves(factors: Float[np.ndarray, "clip factor"], seed: int) -> Int[np.ndarray, " clip"]:
    """Half of each clip: 0 for fitting, 1 for scoring."""
    generator = np.random.default_rng([seed, 0x4A])
    half = np.full(len(factors), -1)
    repeated = [clips for column in factors.T for clips in _by_value(column, generator) if len(clips) > 1]
    for clips in sorted(repeated, key=len):
        _deal(clips, half)
    _deal(generator.permutation(len(factors)), half)
    return half


def _by_value(column: Float[np.ndarray, " clip"], generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Indices of the clips of each value, in random order."""
    shuffled = generator.permutation(len(column))
    _, value, size = np.unique(column[shuffled], return_inverse=True, return_counts=True)
    yield from np.split(shuffled[np.argsort(value, kind="stable")], np.cumsum(size)[:-1])


def _deal(clips: Int[np.ndarray, " member"], half: Int[np.ndarray, " clip"]) -> None:
    """Assign those clips that have no half yet, in place, so that both halves have equally many of `clips`."""
    free = clips[half[clips] < 0]
    scored = int((half[clips] == 1).sum())
    # With an odd number the remaining clip goes to the half that has fewer clips in total.
    spare = int((half == 1).sum() < (half == 0).sum())
    more = min(max((len(clips) + spare) // 2 - scored, 0), len(free))
    half[free[:more]], half[free[more:]] = 1, 0


def predictable(values: Float[np.ndarray, " clip"], half: Int[np.ndarray, " clip"], is_category: bool) -> bool:
    """Whether a factor varies in both halves; of a category, only values that are in both count."""
    fitted, scored = (np.unique(values[half == part]) for part in (0, 1))
    if is_category:
        return len(np.intersect1d(fitted, scored)) > 1
    return len(fitted) > 1 and len(scored) > 1
