"""Boundaries and labels of segments compared with annotations: onsets and offsets matched one to one, and the
syllable error rate (Cohen et al., 2022), the edit distance between sequences of labels per annotated
syllable."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

TOLERANCES = (0.005, 0.01, 0.02)
"""Tolerances in seconds within which a boundary counts as found."""
ROUNDING = 1e-9
"""Seconds by which rounded times may exceed the tolerance."""


@dataclass(frozen=True)
class Counts:
    """Numbers of matched, found and annotated boundaries; counts of several recordings can be added."""

    matched: int
    found: int
    annotated: int

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.matched + other.matched, self.found + other.found, self.annotated + other.annotated)

    @property
    def precision(self) -> float:
        return self.matched / self.found if self.found else float(self.annotated == 0)

    @property
    def recall(self) -> float:
        return self.matched / self.annotated if self.annotated else float(self.found == 0)

    @property
    def f1(self) -> float:
        total = self.found + self.annotated
        return 2 * self.matched / total if total else 1.0


def matched(
    found: Float[np.ndarray, " found"], annotated: Float[np.ndarray, " annotated"], tolerance: float
) -> Counts:
    """Maximum one-to-one matching of boundaries that are no farther apart than the tolerance."""
    ours, theirs = np.sort(found).tolist(), np.sort(annotated).tolist()
    one = other = pairs = 0
    # With sorted times, the earliest two that may be paired are a pair of some maximum matching.
    while one < len(ours) and other < len(theirs):
        if abs(ours[one] - theirs[other]) <= tolerance + ROUNDING:
            pairs, one, other = pairs + 1, one + 1, other + 1
        elif ours[one] < theirs[other]:
            one += 1
        else:
            other += 1
    return Counts(pairs, len(ours), len(theirs))


def edits(found: Sequence[Hashable], annotated: Sequence[Hashable]) -> int:
    """Levenshtein distance: minimum number of insertions, deletions and substitutions between two sequences."""
    codes: dict[Hashable, int] = {}
    ours, theirs = (
        np.array([codes.setdefault(symbol, len(codes)) for symbol in symbols], np.int64)
        for symbols in (found, annotated)
    )
    row: Int[np.ndarray, " place"] = np.arange(len(theirs) + 1)
    steps = np.arange(len(theirs) + 1)
    for count, symbol in enumerate(ours, start=1):
        best = np.concatenate(([count], np.minimum(row[1:] + 1, row[:-1] + (theirs != symbol))))
        # Insertions cost 1 per place: take the running minimum of the costs without them.
        row = np.minimum.accumulate(best - steps) + steps
    return int(row[-1])


def syllable_error_rate(found: Sequence[Sequence[Hashable]], annotated: Sequence[Sequence[Hashable]]) -> float:
    """Edits per annotated syllable over all recordings."""
    if len(found) != len(annotated):
        raise ValueError(f"{len(found)} sequences found for {len(annotated)} annotated: give one for each")
    total = sum(map(len, annotated))
    if not total:
        raise ValueError("no sequence annotated has a syllable: the error rate has no meaning")
    return sum(map(edits, found, annotated)) / total


def longest_overlap(
    times: Num[np.ndarray, "segment 2"], others: Num[np.ndarray, "other 2"]
) -> Int[np.ndarray, " segment"]:
    """Index of the one of `others` that each segment overlaps longest; −1 if it overlaps none."""
    best = np.full(len(times), -1, np.int64)
    if not len(others):
        return best
    for at, (start, stop) in enumerate(times):
        shared = np.minimum(others[:, 1], stop) - np.maximum(others[:, 0], start)
        if shared.max() > 0:
            best[at] = int(shared.argmax())
    return best
