"""n-grams with Witten-Bell smoothing (1991): a baseline model of sequences, and the order of a Markov grammar.

A context that was seen n times with d distinct symbols after it gives those the weight n / (n + d), and the
shorter context the rest. The order is the smallest one that predicts held-out sequences not significantly worse
than the best order.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

Symbols = Int[np.ndarray, " _symbol"]


class NGrams:
    """Model of symbols given up to `order` symbols before them; the start of a sequence is a separate symbol."""

    def __init__(self, order: int, symbols: int):
        if order < 0 or symbols < 1:
            raise ValueError(
                f"order={order}, symbols={symbols}: give an order of at least 0 and at least 1 symbol"
            )
        self.order, self.symbols = order, symbols
        self.counts: dict[tuple[int, ...], np.ndarray] = {}

    def fit(self, sequences: Sequence[Symbols]) -> "NGrams":
        for sequence in sequences:
            padded = [-1] * self.order + sequence.tolist()
            for at in range(self.order, len(padded)):
                for size in range(self.order + 1):
                    context = tuple(padded[at - size : at])
                    if context not in self.counts:
                        self.counts[context] = np.zeros(self.symbols)
                    self.counts[context][padded[at]] += 1
        return self

    def following(self, context: tuple[int, ...]) -> Float[np.ndarray, " symbol"]:
        """Probability of each symbol after this context."""
        found = np.full(self.symbols, 1 / self.symbols)
        for size in range(len(context) + 1):
            counts = self.counts.get(context[len(context) - size :])
            if counts is not None:
                total, distinct = counts.sum(), (counts > 0).sum()
                found = (counts + distinct * found) / (total + distinct)
        return found

    def log_probabilities(self, sequences: Sequence[Symbols]) -> list[Float[np.ndarray, " _symbol"]]:
        """log p of each symbol given those before it, in nats."""
        known: dict[tuple[int, ...], np.ndarray] = {}
        found = []
        for sequence in sequences:
            padded = [-1] * self.order + sequence.tolist()
            logs = np.empty(len(sequence))
            for at in range(self.order, len(padded)):
                context = tuple(padded[at - self.order : at])
                if context not in known:
                    known[context] = np.log(self.following(context))
                logs[at - self.order] = known[context][padded[at]]
            found.append(logs)
        return found


def markov_order(
    train: Sequence[Symbols], held: Sequence[Symbols], symbols: int, most: int = 5, level: float = 0.05
) -> tuple[int, list[float]]:
    """Order of a Markov grammar, and bits per symbol of the held-out sequences at every order from 0 to `most`.
    The order is the smallest one that a paired test over sequences does not find worse than the best."""
    if len(held) < 2:
        raise ValueError(f"{len(held)} held-out sequence: give at least 2, so that their spread is known")
    each = []
    for order in range(most + 1):
        logs = NGrams(order, symbols).fit(train).log_probabilities(held)
        each.append(np.array([-one.sum() / np.log(2) for one in logs]))
    bits = [float(one.sum() / sum(map(len, held))) for one in each]
    best = int(np.argmin(bits))
    for order in range(best):
        losses = each[order] - each[best]
        if np.ptp(losses) == 0:
            worse = losses[0] > 0
        else:
            test: Any = stats.ttest_1samp(losses, 0, alternative="greater")
            worse = test.pvalue < level
        if not worse:
            return order, bits
    return best, bits
