"""Grammar of song: hidden states emit labels, and state and label determine the next state.

Such an automaton (a unifilar hidden Markov model) represents Markov chains of any order, whose states are the
latest labels, and chains with a memory of no finite order, such as how often a syllable has been repeated. Its
entropy rate is exact: the entropy of the emission, weighted by how often each state is visited (Crutchfield &
Young, 1989).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

ENOUGH = 1e-12
"""Total variation below which the occupancy counts as stationary."""
MOST_ROUNDS = 100_000
SPARSE = 0.6
"""Concentration of the Dirichlet distribution of transitions: below 1, a few dominate."""
REPEATING = (3, 6)
"""Range (end excluded) of the number of repeats after which a repeated syllable is likely to stop."""


@dataclass(frozen=True)
class Grammar:
    """Distribution over label sequences: the emission of each hidden state, and the state that follows."""

    labels: tuple[str, ...]
    emission: Float[np.ndarray, "state label"]
    """Probability of each label in each state."""
    successor: Int[np.ndarray, "state label"]
    """Next state after each label."""
    start: int = 0
    """Initial state of every song."""

    def __post_init__(self) -> None:
        shape = (len(self.emission), len(self.labels))
        if not self.labels or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels {self.labels}: give one or more, each once")
        if self.emission.shape != shape or self.successor.shape != shape:
            raise ValueError(
                f"emission {self.emission.shape} and successor {self.successor.shape}: both should have a row for "
                f"each state and {len(self.labels)} columns, one for each label"
            )
        if not ((self.emission >= 0).all() and np.allclose(self.emission.sum(1), 1)):
            raise ValueError("the emission of a state is not a distribution: give probabilities that sum to 1")
        if not ((self.successor >= 0) & (self.successor < shape[0])).all() or not 0 <= self.start < shape[0]:
            raise ValueError(f"a successor or the start is none of the {shape[0]} states: count them from 0")

    @cached_property
    def occupancy(self) -> Float[np.ndarray, " state"]:
        """Stationary distribution: how often each state is visited in a long song."""
        share = np.zeros(len(self.emission))
        share[self.start] = 1.0
        for _ in range(MOST_ROUNDS):
            # Lazy steps have the same fixed point, and converge even if the chain is periodic.
            after = np.bincount(self.successor.ravel(), (share[:, None] * self.emission).ravel(), len(share))
            after = 0.5 * (share + after)
            apart, share = np.abs(after - share).sum(), after
            if apart < ENOUGH:
                break
        return share / share.sum()

    def entropy_rate(self) -> float:
        """Entropy rate of the labels in bits per syllable, for an observer who knows the grammar."""
        return max(float(self.occupancy @ entropies(self.emission)), 0.0)

    def sample(self, n: int, rng: np.random.Generator) -> list[str]:
        """The first n syllables of a song."""
        state, found = self.start, []
        cumulative = self.cumulative
        for drawn in rng.random(n):
            label = int(np.searchsorted(cumulative[state], drawn, side="right"))
            found.append(self.labels[label])
            state = int(self.successor[state, label])
        return found

    @cached_property
    def cumulative(self) -> Float[np.ndarray, "state label"]:
        made = np.cumsum(self.emission, 1)
        made[made >= made[:, -1:]] = np.inf
        return made

    def log_probability(self, sequence: Sequence[str]) -> float:
        """Natural logarithm of the probability that a song begins with this sequence; −inf if it is 0."""
        number = {label: at for at, label in enumerate(self.labels)}
        state, found = self.start, 0.0
        with np.errstate(divide="ignore"):
            for label in sequence:
                if label not in number:
                    raise ValueError(f"no syllable is called '{label}': the grammar has {', '.join(self.labels)}")
                found += float(np.log(self.emission[state, number[label]]))
                state = int(self.successor[state, number[label]])
        return found

    def following(self, sequence: Sequence[str]) -> Float[np.ndarray, " label"]:
        """Probability of each next label after a song that began with this sequence."""
        state = self.start
        for label in sequence:
            state = int(self.successor[state, self.labels.index(label)])
        return self.emission[state]

    def flattened(self, share: float) -> "Grammar":
        """The same grammar with this share of the syllables drawn uniformly from all labels."""
        if not 0 <= share <= 1:
            raise ValueError(f"share={share}: give a fraction from 0 to 1")
        emission = (1 - share) * self.emission + share / len(self.labels)
        return Grammar(self.labels, emission, self.successor, self.start)

    def hidden_markov(
        self,
    ) -> tuple[Float[np.ndarray, " edge"], Float[np.ndarray, "edge edge"], Float[np.ndarray, "edge label"]]:
        """Initial, transition and emission probabilities of an equivalent hidden Markov model, whose states are
        the pairs of a reachable state and a label that it emits."""
        edges = [(state, label) for state in self.reached for label in np.flatnonzero(self.emission[state])]
        states, labels = np.array(edges).T
        begins = np.where(states == self.start, self.emission[states, labels], 0.0)
        follows = self.successor[states, labels][:, None] == states
        transition = np.where(follows, self.emission[states, labels], 0.0)
        return begins, transition, np.eye(len(self.labels))[labels]

    def transitions(self, state: int) -> dict[str, tuple[float, int]]:
        """Probability of each label that a state emits, and the next state."""
        return {
            self.labels[label]: (float(self.emission[state, label]), int(self.successor[state, label]))
            for label in np.flatnonzero(self.emission[state])
        }

    @cached_property
    def reached(self) -> list[int]:
        """The states that can be reached from the start."""
        found, waiting = {self.start}, [self.start]
        while waiting:
            state = waiting.pop()
            new = set(self.successor[state, self.emission[state] > 0].tolist()) - found
            found |= new
            waiting += sorted(new)
        return sorted(found)


def entropies(rows: Float[np.ndarray, "row label"]) -> Float[np.ndarray, " row"]:
    """Entropy of each distribution in bits."""
    return -(rows * np.log2(rows, out=np.zeros_like(rows), where=rows > 0)).sum(1)


def draw_grammar(
    labels: tuple[str, ...], order: int, rng: np.random.Generator, branches: int = 3, repeats: int = 0
) -> Grammar:
    """Draw a grammar whose next label depends on the latest `order` labels.

    The set of labels that may follow depends on the last label alone; their probabilities depend on the whole
    context. With `repeats`, that many labels are also repeated, with a memory of the run length: redundant hidden
    states with one label, which no Markov chain of low order has.
    """
    if order < 1 or branches < 1 or not 0 <= repeats <= len(labels):
        raise ValueError(
            f"order={order}, branches={branches}, repeats={repeats}: give an order and branches of at least 1, "
            f"and 0 to {len(labels)} repeated labels"
        )
    count = len(labels)
    followers = draw_followers(count, min(branches, max(count - 1, 1)), rng)
    typical = rng.integers(*REPEATING, repeats).tolist()
    repeated = dict(zip(rng.permutation(count)[:repeats].tolist(), typical, strict=True))
    contexts = enumerate_contexts(count, order, repeated)
    number = {context: at for at, context in enumerate(contexts)}
    emission = np.zeros((len(contexts), count))
    successor = np.zeros((len(contexts), count), np.int64)
    rows: dict[tuple[int, ...], np.ndarray] = {}
    for at, context in enumerate(contexts):
        history, run = context
        if history not in rows:
            choices = followers[history[-1]] if history else np.arange(count)
            rows[history] = np.zeros(count)
            rows[history][choices] = rng.dirichlet(np.full(len(choices), SPARSE))
        emission[at] = rows[history]
        if run:
            emission[at] = hazard(rows[history], history[-1], run, repeated[history[-1]])
        successor[at] = [number[following(context, label, order, repeated)] for label in range(count)]
    return Grammar(labels, emission, successor, number[(), 0])


def draw_followers(count: int, branches: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Labels that may follow each label: a cycle through all of them, so that all occur, and random further
    ones."""
    ring = rng.permutation(count)
    after = {int(label): int(ring[(at + 1) % count]) for at, label in enumerate(ring)}
    found = []
    for label in range(count):
        others = [other for other in range(count) if other not in (label, after[label])]
        more = rng.permutation(others)[: branches - 1].astype(np.int64)
        found.append(np.concatenate([[after[label]], more]).astype(np.int64))
    return found


Context = tuple[tuple[int, ...], int]
"""The latest labels, and the run length of the last one if it is a repeated label, else 0."""


def enumerate_contexts(count: int, order: int, repeated: dict[int, int]) -> list[Context]:
    """All reachable contexts, the initial one first."""
    found: dict[Context, None] = {((), 0): None}
    waiting: list[Context] = [((), 0)]
    while waiting:
        context = waiting.pop()
        for label in range(count):
            after = following(context, label, order, repeated)
            if after not in found:
                found[after] = None
                waiting.append(after)
    return sorted(found)


def following(context: Context, label: int, order: int, repeated: dict[int, int]) -> Context:
    history, run = context
    again = history[-1:] == (label,)
    length = min(run + 1 if again else 1, repeated[label] + 1) if label in repeated else 0
    return (*history, label)[-order:], length


def hazard(row: Float[np.ndarray, " label"], label: int, run: int, typical: int) -> Float[np.ndarray, " label"]:
    """Distribution in a run: a repeat is likely up to the typical run length, and unlikely from then on."""
    again = 0.9 if run < typical else 0.1
    others = np.where(np.arange(len(row)) == label, 0.0, row)
    if not others.any():
        return np.eye(len(row))[label]
    return (1 - again) * others / others.sum() + again * np.eye(len(row))[label]
