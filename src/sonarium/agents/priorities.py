"""Priorities of the replay (Schaul et al. 2016, arXiv 1511.05952)."""

import numpy as np
from jaxtyping import Float, Int

LEAST_PRIORITY = 1e-6
"""Added to every priority, so that every step can be drawn."""


def sequence_priority(
    errors: Float[np.ndarray, "step sequence"], weight: Float[np.ndarray, "step sequence"], largest: float = 0.9
) -> Float[np.ndarray, " sequence"]:
    """Priority of a sequence: a mixture of its largest and its mean absolute error (Kapturowski et al.)."""
    sizes = np.abs(errors) * weight
    mean = sizes.sum(0) / np.maximum(weight.sum(0), 1)
    return largest * sizes.max(0) + (1 - largest) * mean


class SumTree:
    """Sum tree over non-negative numbers, each of which is drawn in proportion to its size. Every node is the sum
    of its two children, so that it depends on the leaves alone, not on the order in which they were set."""

    def __init__(self, leaves: int):
        self.size = 1 << max(1, leaves - 1).bit_length()
        self.sums = np.zeros(2 * self.size)

    @property
    def total(self) -> float:
        return float(self.sums[1])

    def __getitem__(self, leaves: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        return self.sums[self.size + leaves]

    def set(self, leaves: Int[np.ndarray, " some"], values: Float[np.ndarray, " some"] | float) -> None:
        if not len(leaves):
            return
        at = self.size + leaves
        self.sums[at] = values
        while at[0] > 1:
            at = np.unique(at >> 1)
            self.sums[at] = self.sums[2 * at] + self.sums[2 * at + 1]

    def find(self, targets: Float[np.ndarray, " some"]) -> Int[np.ndarray, " some"]:
        """Leaves at which the cumulative sum exceeds these targets, which lie below the total."""
        at = np.ones(len(targets), np.int64)
        while at[0] < self.size:
            left, right = self.sums[2 * at], self.sums[2 * at + 1]
            # Rounding must not lead into a subtree of sum 0.
            go = (targets >= left) & (right > 0)
            targets = np.where(go, targets - left, targets)
            at = 2 * at + go
        return at - self.size
