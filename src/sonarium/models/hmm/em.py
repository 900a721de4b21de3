"""Expectation-maximisation (Baum et al. 1970) of a hidden Markov model, shared by the estimator and the learner.

The objective is the log-likelihood plus the log priors; no iteration lowers it, except for the repair of an empty
state, which takes over half the frames of the largest.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isfinite

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.models.hmm.emissions import Counts, Emission, Gaussian
from sonarium.models.hmm.inference import Arithmetic, Chain, Workspace, expect
from sonarium.models.hmm.packing import Block
from sonarium.models.hmm.structure import Structure

EMPTY = 0.5
"""Expected frames below which a state counts as empty."""


@dataclass(frozen=True)
class Model:
    """A hidden Markov model: its structure, its Markov chain, and the emissions of its states."""

    structure: Structure
    chain: Chain
    emission: Emission

    @property
    def states(self) -> int:
        return len(self.chain.start)

    def penalty(self) -> Float[Tensor, ""]:
        return self.structure.penalty(self.chain) + self.emission.penalty()

    def free(self) -> int:
        """Number of free parameters."""
        return self.structure.free(self.chain) + self.emission.free()


@dataclass(frozen=True)
class Statistics:
    """Expected counts, summed over blocks."""

    log_likelihood: Float[Tensor, ""]
    occupancy: Float[Tensor, " state"]
    """Expected frames in each state."""
    start: Float[Tensor, " state"]
    transitions: Float[Tensor, "state state"]
    durations: Float[Tensor, "state duration"] | None
    emission: Counts

    def __add__(self, other: "Statistics") -> "Statistics":
        durations = self.durations
        if durations is not None and other.durations is not None:
            durations = durations + other.durations
        return Statistics(
            self.log_likelihood + other.log_likelihood,
            self.occupancy + other.occupancy,
            self.start + other.start,
            self.transitions + other.transitions,
            durations,
            {name: value + other.emission[name] for name, value in self.emission.items()},
        )


def e_step(
    model: Model,
    blocks: Iterable[tuple[Block, Float[Tensor, "frame some"]]],
    arithmetic: Arithmetic,
    space: Workspace | None = None,
) -> Statistics:
    """Expected counts of blocks, each with its features."""
    space = space or Workspace()
    total: Statistics | None = None
    for block, features in blocks:
        found = expect(model.chain, lambda own=features: densities(model, own, space), block, arithmetic, space)
        if not bool(torch.isfinite(found.log_likelihood).all()):
            number = int(block.numbers[~torch.isfinite(found.log_likelihood)][0])
            raise ValueError(
                f"sequence {number} is impossible under the model: allow more transitions, or set a prior"
            )
        assert found.posterior is not None and found.start is not None and found.transitions is not None
        counted = Statistics(
            found.log_likelihood.sum(),
            found.posterior.sum(0),
            found.start,
            found.transitions,
            found.durations,
            model.emission.count(features, found.posterior),
        )
        total = counted if total is None else total + counted
    assert total is not None, "no frames"
    return total


def densities(
    model: Model, features: Float[Tensor, "frame some"], space: Workspace
) -> Float[Tensor, "frame state"]:
    """Log densities, written to reused memory where the emission supports it."""
    if isinstance(model.emission, Gaussian):
        out = space.take("density", len(features), model.states, like=features)
        return model.emission.log_density(features, out)
    return model.emission.log_density(features)


def m_step(model: Model, counts: Statistics, learn: Iterable[str] = ("chain", "emissions")) -> Model:
    """Model that maximises the expected log-likelihood plus the log prior, given these counts."""
    chain, emission = model.chain, model.emission
    if "chain" in learn:
        chain = model.structure.maximise(chain, counts.start, counts.transitions, counts.durations)
    if "emissions" in learn:
        emission = emission.maximise(counts.emission)
    return replace(model, chain=chain, emission=emission)


def empty_states(counts: Statistics) -> Int[Tensor, " empty"]:
    return (counts.occupancy < EMPTY).nonzero()[:, 0]


def repair(model: Model, counts: Statistics) -> Model:
    """Model in which each empty state becomes a displaced copy of the largest one, and shares its transitions."""
    occupancy = counts.occupancy.clone()
    chain, emission = model.chain, model.emission
    start, moves = chain.start.clone(), chain.transitions.clone()
    durations = None if chain.durations is None else chain.durations.clone()
    for state in empty_states(counts).tolist():
        largest = int(occupancy.argmax())
        if largest == state or float(occupancy[largest]) < 2:
            break
        emission = emission.split(largest, state)
        occupancy[[largest, state]] = occupancy[largest] / 2
        start[[largest, state]] = start[largest] / 2
        moves[state] = moves[largest]
        moves[:, [largest, state]] = moves[:, [largest]] / 2
        if durations is not None:
            durations[state] = durations[largest]
    structure = model.structure
    start = start * structure.start_allowed
    # Transitions that the structure forbids, fixes or ties stay so.
    moves = structure.rows(moves * structure.allowed, chain.transitions)
    return replace(model, chain=Chain(start / start.sum(), moves, durations), emission=emission)


def rises(before: float, after: float) -> bool:
    """Whether an objective does not fall, up to rounding; ValueError if it is not finite."""
    if not isfinite(after):
        raise ValueError(
            f"the likelihood became {after}: raise the floor or the priors, or look for constant columns"
        )
    return after >= before - 1e-8 * (1 + abs(before))
