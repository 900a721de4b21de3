"""Kullback-Leibler divergence rate between hidden Markov models, in bits per frame.

The rate of the observed frames has no closed form beyond one state: it is the mean of log p − log q over sequences
drawn from p (Juang and Rabiner 1985), here of the second half of each sequence given the first, so that the start
is forgotten, with its standard error over sequences.

The joint rate of states and frames splits exactly, given a matching of the states, into emission (spectrum),
duration (timing) and transition (grammar). It is an upper bound on the first rate (data processing inequality).
"""

from dataclasses import dataclass
from math import log
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from sklearn.utils.validation import check_random_state
from torch import Tensor

from sonarium.models.hmm.em import Model
from sonarium.models.hmm.emissions import Emission
from sonarium.models.hmm.estimator import HMM
from sonarium.models.hmm.inference import Chain

DRAWS = 2000
"""Frames drawn per state to estimate the divergence of emissions without a closed form."""
LONGEST = 2000
"""Frames up to which geometric durations are tabulated for comparison with explicit ones."""


@dataclass(frozen=True)
class Parts:
    """Components of the joint divergence rate of states and frames, in bits per frame."""

    emission: float
    """Spectrum: emissions of the states."""
    duration: float
    """Timing: durations of the states."""
    transition: float
    """Grammar: transitions between the states."""

    @property
    def total(self) -> float:
        return self.emission + self.duration + self.transition


@dataclass(frozen=True)
class Divergence:
    rate: float
    """Divergence rate in bits per frame."""
    error: float
    """Standard error of the rate; 0 where it is exact."""
    exact: bool


def divergence_rate(
    p: HMM, q: HMM, *, sequences: int = 500, frames: int = 100, random_state: Any = None
) -> Divergence:
    """Divergence rate KL(p ‖ q); exact where both have one state and their emissions have a closed form."""
    one, other = p.model_, q.model_
    comparable(one, other)
    if one.states == other.states == 1 and one.chain.durations is None and other.chain.durations is None:
        closed = one.emission.divergence(other.emission)
        if closed is not None:
            return Divergence(float(closed) / log(2), 0.0, True)
    if sequences < 2 or frames < 2:
        raise ValueError(f"sequences={sequences}, frames={frames}: give at least 2 of each")
    drawn, _ = p.sample(frames, check_random_state(random_state), sequences=sequences)
    lengths = [frames] * sequences
    ratio = (p.score_samples(drawn, lengths) - q.score_samples(drawn, lengths)).reshape(sequences, frames)
    means = ratio[:, frames // 2 :].mean(1) / log(2)
    return Divergence(float(means.mean()), float(means.std(ddof=1) / sequences**0.5), False)


def divergence_parts(
    p: HMM, q: HMM, *, match: Literal["emission", "order"] = "emission", smoothing: float = 1e-6, seed: int = 0
) -> Parts:
    """Components of the joint divergence rate of states and frames. States are matched by their emissions, or by
    their order where q was fitted from p (`start_from`). `smoothing` is the weight of a uniform distribution mixed
    into q's transitions and durations, so that events that q has never seen cost much, but not infinitely much."""
    one, other = p.model_, q.model_
    comparable(one, other)
    if one.states != other.states:
        raise ValueError(
            f"{one.states} and {other.states} states: a split of the divergence needs as many in both"
        )
    emissions = between(one.emission, other.emission, seed)
    order = torch.arange(one.states)
    if match == "emission":
        symmetric = emissions + between(other.emission, one.emission, seed).T
        cost = np.nan_to_num(symmetric.cpu().numpy(), posinf=1e9)
        order = torch.from_numpy(linear_sum_assignment(cost)[1])
    mine, theirs = one.chain, reordered(other.chain, order)
    occupancy = occupancies(mine)
    rate, leaving = departures(mine, occupancy)
    after = smooth(departures(theirs, occupancy)[1], smoothing)
    own = emissions[torch.arange(one.states), order.to(emissions.device)]
    grammar = rate * relative_entropy(leaving, after)
    return Parts(
        float((occupancy * own)[occupancy > 0].sum()) / log(2),
        float(timing(mine, theirs, occupancy, rate, smoothing)) / log(2),
        float(grammar[rate > 0].sum()) / log(2),
    )


def comparable(one: Model, other: Model) -> None:
    if type(one.emission) is not type(other.emission) or one.emission.dimensions != other.emission.dimensions:
        raise ValueError(
            f"the models emit {type(one.emission).__name__} of {one.emission.dimensions} columns and "
            f"{type(other.emission).__name__} of {other.emission.dimensions}: compare models of the same data"
        )


def between(one: Emission, other: Emission, seed: int) -> Float[Tensor, "state other"]:
    """KL divergence in nats between the emissions of each state of one and of the other; by simulation where there
    is no closed form."""
    closed = one.divergence(other)
    if closed is not None:
        return closed
    states = torch.arange(one.states).repeat_interleave(DRAWS)
    frames = one.draw(states, torch.Generator().manual_seed(seed))
    mine = one.log_density(one.features(frames)).gather(1, states[:, None])
    return (mine - other.log_density(other.features(frames))).view(one.states, DRAWS, -1).mean(1)


def reordered(chain: Chain, order: Int[Tensor, " state"]) -> Chain:
    durations = None if chain.durations is None else chain.durations[order]
    return Chain(chain.start[order], chain.transitions[order][:, order], durations)


def stationary(transitions: Float[Tensor, "state state"]) -> Float[Tensor, " state"]:
    """Stationary distribution of the transitions."""
    states = len(transitions)
    # A small uniform part makes it unique where some states are never returned to.
    moves = 0.999999 * transitions + 1e-6 / states
    system = torch.cat([moves.T - torch.eye(states).to(moves), torch.ones(1, states).to(moves)])
    target = torch.zeros(states + 1).to(moves)
    target[-1] = 1
    return torch.linalg.lstsq(system, target[:, None]).solution[:, 0].clamp(min=0)


def occupancies(chain: Chain) -> Float[Tensor, " state"]:
    """Long-run fraction of frames in each state."""
    found = stationary(chain.transitions)
    if chain.durations is not None:
        found = found * (chain.durations @ torch.arange(1, chain.durations.shape[1] + 1).to(found))
    return found / found.sum()


def departures(
    chain: Chain, occupancy: Float[Tensor, " state"]
) -> tuple[Float[Tensor, " state"], Float[Tensor, "state state"]]:
    """Rate per frame at which each state is left, and the probabilities of the next state."""
    others = chain.transitions * (1 - torch.eye(len(occupancy)).to(occupancy))
    leave = others.sum(1)
    rate = occupancy * leave
    if chain.durations is not None:
        rate = occupancy / (chain.durations @ torch.arange(1, chain.durations.shape[1] + 1).to(occupancy))
    return torch.where(leave > 0, rate, 0), others / leave.where(leave > 0, 1)[:, None]


def smooth(rows: Float[Tensor, "state choice"], share: float) -> Float[Tensor, "state choice"]:
    return (1 - share) * rows + share / rows.shape[1]


def relative_entropy(
    p: Float[Tensor, "state choice"], q: Float[Tensor, "state choice"]
) -> Float[Tensor, " state"]:
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(1)


def timing(
    mine: Chain,
    theirs: Chain,
    occupancy: Float[Tensor, " state"],
    rate: Float[Tensor, " state"],
    smoothing: float,
) -> Float[Tensor, ""]:
    """Duration component of the divergence rate, in nats per frame."""
    if mine.durations is None and theirs.durations is None:
        stays = [
            torch.stack([one.transitions.diagonal(), 1 - one.transitions.diagonal()], 1) for one in (mine, theirs)
        ]
        return (occupancy * relative_entropy(stays[0], smooth(stays[1], smoothing))).sum()
    longest = max(LONGEST if one.durations is None else one.durations.shape[1] for one in (mine, theirs))
    own, other = (written_out(one, longest) for one in (mine, theirs))
    return (rate * relative_entropy(own, smooth(other, smoothing)))[rate > 0].sum()


def written_out(chain: Chain, longest: int) -> Float[Tensor, "state duration"]:
    """Probabilities of durations up to `longest` frames, explicit or geometric."""
    if chain.durations is not None:
        missing = longest - chain.durations.shape[1]
        return torch.nn.functional.pad(chain.durations, (0, missing))
    stay = chain.transitions.diagonal()[:, None]
    return (1 - stay) * stay ** torch.arange(longest).to(stay)
