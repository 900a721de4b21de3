"""How well a model predicts sequences of symbols, and how far its grammar is from the planted one."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sonarium.measures.sequence.entropy import Rate, stationary


def bits_per_symbol(
    log_probabilities: Float[np.ndarray, " symbol"], lengths: Sequence[int] | np.ndarray, skip: int = 0
) -> Rate:
    """Bits per symbol from log p (in nats) of each symbol given those before it in its sequence, with the standard
    error over sequences. The first `skip` symbols of each sequence are left out."""
    own = np.asarray(lengths)
    if own.sum() != len(log_probabilities) or (own < 1).any():
        raise ValueError(
            f"lengths sum to {own.sum()}, there are {len(log_probabilities)} symbols: give every one once"
        )
    parts = np.split(log_probabilities, np.cumsum(own)[:-1])
    bits = np.array([-part[skip:].sum() / np.log(2) for part in parts if len(part) > skip])
    counts = np.array([len(part) - skip for part in parts if len(part) > skip])
    if not len(counts):
        raise ValueError(f"no sequence has more than {skip} symbols: skip fewer")
    mean = float(bits.sum() / counts.sum())
    if len(counts) == 1:
        return Rate(mean, float("nan"))
    # Standard error of a ratio, because sequences differ in length (Cochran 1977).
    spread = (bits - mean * counts).std(ddof=1)
    return Rate(mean, float(spread / counts.mean() / len(counts) ** 0.5))


def excess_bits(bits: Rate, planted: Rate) -> Rate:
    """Bits per symbol above the planted entropy rate: what the model misses."""
    return Rate(bits.mean - planted.mean, float(np.hypot(bits.error, planted.error)))


def total_variation(
    planted: Float[np.ndarray, "state choice"],
    found: Float[np.ndarray, "state choice"],
    occupancy: Float[np.ndarray, " state"] | None = None,
) -> float:
    """Total variation between the rows of two grammars, weighted by the occupancy of their states, so that rare
    states, whose rows cannot be estimated, count little. By default the occupancy is that of the planted
    transitions."""
    if planted.shape != found.shape:
        raise ValueError(f"grammars of {planted.shape} and {found.shape}: match their states first")
    weight = stationary(planted) if occupancy is None else occupancy / occupancy.sum()
    return float(weight @ (0.5 * np.abs(planted - found).sum(1)))
