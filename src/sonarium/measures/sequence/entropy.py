"""Entropies of what generates sequences of symbols, in bits: of a Markov chain, and of one that is hidden.

The entropy rate is the least number of bits a symbol with which the sequences can be predicted; bits a symbol
above it are what a model misses. That of a hidden chain has no closed form: it is estimated by −log₂ p of a long
sequence (Shannon, McMillan and Breiman), with a standard error from stretches of it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

STRETCHES = 50
"""Parts of a simulated sequence, over whose means the standard error is taken."""


@dataclass(frozen=True)
class Rate:
    """A mean, and its standard error; 0 where it is exact."""

    mean: float
    error: float


def entropy(rows: Float[np.ndarray, "*rows choice"]) -> Float[np.ndarray, "*rows"]:
    """Of probabilities along the last axis, in bits."""
    safe = np.where(rows > 0, rows, 1)
    return np.asarray(-(rows * np.log2(safe)).sum(-1))


def stationary(transitions: Float[np.ndarray, "state state"]) -> Float[np.ndarray, " state"]:
    """The occupancy that transitions leave unchanged; of a chain that falls apart, one of them."""
    check_rows(transitions, "transitions")
    states = len(transitions)
    system = np.vstack([transitions.T - np.eye(states), np.ones(states)])
    found = np.linalg.lstsq(system, np.append(np.zeros(states), 1), rcond=None)[0].clip(min=0)
    return found / found.sum()


def markov_entropy_rate(transitions: Float[np.ndarray, "state state"]) -> float:
    """Bits a symbol of a Markov chain whose states are seen, or follow from the symbols so far."""
    return float(stationary(transitions) @ entropy(transitions))


def hidden_entropy_rate(
    transitions: Float[np.ndarray, "state state"],
    emissions: Float[np.ndarray, "state symbol"],
    symbols: int = 20_000,
    seed: int = 0,
) -> Rate:
    """Bits a symbol of a chain of which only what the states emit is seen, from a sequence of so many symbols."""
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
    """Bits of the first state, of a transition, and of a symbol given its state, each state as often as it
    occurs."""
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
