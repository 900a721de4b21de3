"""Entropies, in bits, of Markov chains and hidden Markov chains that generate sequences of symbols.

The entropy rate is the minimum number of bits per symbol with which the sequences can be predicted; bits above it
are what a model misses. For a hidden chain it has no closed form: it is estimated by −log₂ p of a long sequence
(Shannon, McMillan and Breiman), with a standard error from stretches of it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

STRETCHES = 50
"""Number of parts of a simulated sequence whose means give the standard error."""


@dataclass(frozen=True)
class Rate:
    """A mean, and its standard error, which is 0 if the mean is exact."""

    mean: float
    error: float


def entropy(rows: Float[np.ndarray, "*rows choice"]) -> Float[np.ndarray, "*rows"]:
    """Entropy in bits of the distributions along the last axis."""
    safe = np.where(rows > 0, rows, 1)
    return np.asarray(-(rows * np.log2(safe)).sum(-1))


def stationary(transitions: Float[np.ndarray, "state state"]) -> Float[np.ndarray, " state"]:
    """Stationary distribution of a Markov chain; one of several if the chain is reducible."""
    check_rows(transitions, "transitions")
    states = len(transitions)
    system = np.vstack([transitions.T - np.eye(states), np.ones(states)])
    found = np.linalg.lstsq(system, np.append(np.zeros(states), 1), rcond=None)[0].clip(min=0)
    return found / found.sum()


def markov_entropy_rate(transitions: Float[np.ndarray, "state state"]) -> float:
    """Bits per symbol of a Markov chain whose states are observed, or follow from the symbols so far."""
    return float(stationary(transitions) @ entropy(transitions))


def hidden_entropy_rate(
    transitions: Float[np.ndarray, "state state"],
    emissions: Float[np.ndarray, "state symbol"],
    symbols: int = 20_000,
    seed: int = 0,
) -> Rate:
    """Bits per symbol of a hidden Markov chain, estimated from a sequence of `symbols` symbols."""
    check_rows(transitions, "transitions")
    check_rows(emissions, "emissions")
    rng = np.random.default_rng(seed)
    occupancy = stationary(transitions)
    moves, emits = np.cumsum(transitions, 1), np.cumsum(emissions, 1)
    chance = rng.random((symbols, 2))
    state = min(int(np.searchsorted(np.cumsum(occupancy), rng.random())), len(occupancy) - 1)
    belief, bits = occupancy, np.empty(symbols)
    for at, (one, other) in enumerate(chance):
        symbol = min(int(np.searchsorted(emits[state], one, side="right")), emissions.shape[1] - 1)
        joint = belief * emissions[:, symbol]
        total = joint.sum()
        bits[at] = -np.log2(total)
        belief = (joint / total) @ transitions
        state = min(int(np.searchsorted(moves[state], other, side="right")), len(occupancy) - 1)
    means = np.array([part.mean() for part in np.array_split(bits[symbols // 10 :], STRETCHES)])
    return Rate(float(means.mean()), float(means.std(ddof=1) / STRETCHES**0.5))


def grammar_entropies(
    start: Float[np.ndarray, " state"],
    transitions: Float[np.ndarray, "state state"],
    emissions: Float[np.ndarray, "state symbol"] | None = None,
) -> dict[str, float]:
    """Entropies in bits of the first state, of a transition, and of a symbol given its state, the latter two
    averaged over the occupancy of states."""
    occupancy = stationary(transitions)
    found = {"start": float(entropy(start)), "transition": float(occupancy @ entropy(transitions))}
    if emissions is not None:
        found["emission"] = float(occupancy @ entropy(emissions))
    return found


def check_rows(rows: np.ndarray, name: str) -> None:
    if not (rows >= 0).all() or not np.allclose(rows.sum(1), 1, atol=1e-6):
        raise ValueError(
            f"{name}: rows of probabilities that sum to 1 are expected, got sums {rows.sum(1).tolist()}"
        )
