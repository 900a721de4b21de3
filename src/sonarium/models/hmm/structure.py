"""Allowed, fixed and tied transitions, their priors, and the M-step under these constraints.

The M-step maximises Σ c log a over transitions that sum to 1 in each row. Without ties it is a division. Tied
transitions have one value: with the Lagrange multipliers λ of the rows, the value of a group is its counts over
the sum of its rows' multipliers, and the multipliers are found by Newton's method on the (convex) dual.
"""

from dataclasses import dataclass
from math import lgamma
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonarium.models.hmm.inference import Chain

Topology = Literal["ergodic", "left-right", "sparse"]
Durations = Literal["geometric", "categorical", "poisson"]
NEWTON = 100
"""Maximum number of Newton steps; about ten are enough."""


@dataclass(frozen=True)
class Structure:
    """Constraints and priors of a chain."""

    start_allowed: Bool[Tensor, " state"]
    allowed: Bool[Tensor, "state state"]
    """Transitions that may have a probability above 0."""
    start_prior: float = 1.0
    """Dirichlet prior of the first state; 1 is flat."""
    transition_prior: Float[Tensor, "state state"] | float = 1.0
    """Dirichlet prior of each row of transitions; 1 is flat."""
    duration_prior: float = 1.0
    """Dirichlet prior of categorical durations; 1 is flat."""
    durations: Durations = "geometric"
    fixed: Bool[Tensor, "state state"] | None = None
    """Transitions that keep their probability."""
    tied: Int[Tensor, "state state"] | None = None
    """Transitions with the same number above 0 have the same probability."""

    @property
    def added(self) -> Float[Tensor, "state state"]:
        """Pseudo-counts that the prior adds to the counts of transitions."""
        return (
            self.allowed.double() * (torch.as_tensor(self.transition_prior).to(self.allowed.device) - 1)
        ).double()

    def maximise(
        self,
        chain: Chain,
        start: Float[Tensor, " state"],
        transitions: Float[Tensor, "state state"],
        durations: Float[Tensor, "state duration"] | None,
    ) -> Chain:
        """The M-step from expected counts."""
        first = (start + self.start_prior - 1) * self.start_allowed
        counts = (transitions + self.added.to(transitions)) * self.allowed
        return Chain(
            first / first.sum() if first.sum() > 0 else chain.start,
            self.rows(counts, chain.transitions),
            None if durations is None else self.lasting(durations, chain.durations),
        )

    def rows(
        self, counts: Float[Tensor, "state state"], before: Float[Tensor, "state state"]
    ) -> Float[Tensor, "state state"]:
        free, left = self.allowed, torch.ones_like(counts[:, 0])
        if self.fixed is not None:
            free = free & ~self.fixed
            left = 1 - (before * self.fixed).sum(1)
        counts = counts * free
        total = counts.sum(1, keepdim=True)
        if self.tied is None:
            # A state that is never left keeps its transitions.
            found = torch.where(total > 0, counts / total.clamp(min=1e-300) * left[:, None], before * free)
        else:
            found = tied_rows(counts, left, torch.where(free, self.tied, -1), before)
        return found if self.fixed is None else torch.where(self.fixed, before, found)

    def lasting(
        self, counts: Float[Tensor, "state duration"], before: Float[Tensor, "state duration"] | None
    ) -> Float[Tensor, "state duration"]:
        assert before is not None
        if self.durations == "poisson":
            return shifted_poisson(counts, before)
        counts = counts + self.duration_prior - 1
        total = counts.sum(1, keepdim=True)
        return torch.where(total > 0, counts / total.clamp(min=1e-300), before)

    def penalty(self, chain: Chain) -> Float[Tensor, ""]:
        """The logarithm of the priors, up to a constant."""
        start = torch.full_like(chain.start, self.start_prior - 1) * self.start_allowed
        found = torch.special.xlogy(start, chain.start).sum()
        found = found + torch.special.xlogy(self.added.to(chain.transitions), chain.transitions).sum()
        if chain.durations is not None and self.durations == "categorical":
            prior = torch.full_like(chain.durations, self.duration_prior - 1)
            found = found + torch.special.xlogy(prior, chain.durations).sum()
        return found

    def free(self, chain: Chain) -> int:
        """Number of free parameters of the chain; transitions that have become 0 still count as free."""
        free = self.allowed if self.fixed is None else self.allowed & ~self.fixed
        rows = int(free.any(1).sum())
        if self.tied is None:
            count = int(free.sum()) - rows
        else:
            groups = self.tied[free]
            count = int((groups <= 0).sum()) + len(groups[groups > 0].unique())
            # The number of groups, less the number of linearly independent row sums.
            count -= int(torch.linalg.matrix_rank(grouping(torch.where(free, self.tied, -1))[0]))
        if chain.durations is not None:
            each = 1 if self.durations == "poisson" else chain.durations.shape[1] - 1
            count += each * len(chain.start)
        return count + int(self.start_allowed.sum()) - 1


def grouping(groups: Int[Tensor, "state state"]) -> tuple[Float[Tensor, "state group"], Int[Tensor, " free"]]:
    """Number of transitions of each tied group in each row, and the group of each free transition; in `groups`, −1
    is not free, and 0 a group of its own."""
    own = groups.clone()
    alone = own == 0
    own[alone] = int(own.max()) + 1 + torch.arange(int(alone.sum()), device=own.device)
    numbers, place = own[own >= 0].unique(return_inverse=True)
    rows = (own >= 0).nonzero()[:, 0]
    found = torch.zeros(len(own), len(numbers), dtype=torch.float64, device=own.device)
    return found.index_put_((rows, place), torch.ones_like(place, dtype=torch.float64), accumulate=True), place


def tied_rows(
    counts: Float[Tensor, "state state"],
    left: Float[Tensor, " state"],
    groups: Int[Tensor, "state state"],
    before: Float[Tensor, "state state"],
) -> Float[Tensor, "state state"]:
    """Transitions that maximise Σ c log a, where those of a group are equal and rows sum to `left`."""
    inside = groups >= 0
    member, place = grouping(groups)
    # A vanishing count keeps every multiplier determined.
    each = torch.zeros(member.shape[1], dtype=torch.float64, device=counts.device)
    each = each.index_add_(0, place, (counts[inside].double() + 1e-12))
    target = left.double()
    multiplier = ((counts * inside).double().sum(1) + 1e-9) / target.clamp(min=1e-9)

    def dual(at: Tensor) -> Tensor:
        reached = at @ member
        if bool((reached <= 0).any()):
            return torch.tensor(torch.inf, dtype=torch.float64, device=at.device)
        return at @ target - (each * reached.log()).sum()

    for _ in range(NEWTON):
        reached = multiplier @ member
        value = each / reached
        gap = target - member @ value
        if float(gap.abs().max()) < 1e-13:
            break
        curvature = (member * (each / reached.square())) @ member.T
        ridge = 1e-14 * curvature.diagonal().max() * torch.eye(len(curvature)).to(curvature)
        step = torch.linalg.solve(curvature + ridge, -gap)
        size, now = 1.0, dual(multiplier)
        while size > 1e-10 and not dual(multiplier + size * step) <= now + 1e-12 * now.abs():
            size /= 2
        multiplier = multiplier + size * step
    value = each / (multiplier @ member)
    if not bool(torch.isfinite(value).all()) or float((target - member @ value).abs().max()) > 1e-6:
        raise ValueError("the tied transitions cannot sum to 1 in every row: tie fewer of them")
    found = torch.zeros_like(before)
    found[inside] = value[place].to(found)
    return found


def shifted_poisson(
    counts: Float[Tensor, "state duration"], before: Float[Tensor, "state duration"]
) -> Float[Tensor, "state duration"]:
    """Durations of 1 + Poisson frames, truncated at the longest, with the rate that has the mean of the counts."""
    extra = torch.arange(counts.shape[1]).to(counts)
    total = counts.sum(1)
    wanted = (counts @ extra) / total.clamp(min=1e-300)
    factorial = torch.tensor([lgamma(value + 1) for value in range(counts.shape[1])]).to(counts)

    def at(log_rate: Tensor) -> Tensor:
        return torch.softmax(log_rate[:, None] * extra - factorial, 1)

    low, high = torch.full_like(wanted, -30.0), torch.full_like(wanted, 30.0)
    for _ in range(70):
        middle = (low + high) / 2
        short = at(middle) @ extra < wanted
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return torch.where((total > 0)[:, None], at((low + high) / 2), before)


def allowed_by(topology: Topology, states: int, sparsity: float, rng: np.random.Generator) -> np.ndarray:
    """Allowed transitions of a topology: to every state; to itself and the next; or to a random subset."""
    if topology == "ergodic":
        return np.ones((states, states), bool)
    ring = np.eye(states, dtype=bool) | np.eye(states, k=1, dtype=bool)
    if topology == "left-right":
        return ring
    if topology != "sparse":
        raise ValueError(f"topology={topology!r}: choose ergodic, left-right or sparse")
    # Transitions to itself and to the next around the ring stay, so that every state can be reached.
    ring[-1, 0] = True
    return ring | (rng.random((states, states)) >= sparsity)
