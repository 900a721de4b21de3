"""Forward-backward and Viterbi algorithms (Rabiner 1989, section III, and IV.D for explicit durations), over
blocks of sequences.

Scaled arithmetic divides the forward variable of each frame by its sum (Rabiner's section V.A), after dividing the
densities of a frame by their maximum; each step is then a matrix product over all sequences of a block, and the
expected transitions of all frames are one more. Where that underflows, because the only reachable state is nearly
impossible, or because a forward variable that later frames need is below the smallest number, the block is
recomputed in logarithms.

Explicit durations (Ferguson 1980; Yu 2010): a state is entered with its duration in frames, which counts down to
1; then it is left. A sequence may end within a segment, so that the last duration is censored, not truncated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.models.hmm.packing import Block

Arithmetic = Literal["scaled", "log"]
SMALLEST = {torch.float64: 1e-250, torch.float32: 1e-30}
"""Sum of the forward variables of a frame below which scaled arithmetic falls back to logarithms."""
LARGEST = {dtype: torch.finfo(dtype).eps / torch.finfo(dtype).tiny for dtype in SMALLEST}
"""Backward variable above which it does so: a forward variable that underflowed would then matter."""


@dataclass(frozen=True)
class Chain:
    """Markov chain of the states."""

    start: Float[Tensor, " state"]
    transitions: Float[Tensor, "state state"]
    durations: Float[Tensor, "state duration"] | None = None
    """Probability of 1, 2, … frames in a state, for explicit durations: self-transitions are then 0, except in a
    state that has no other."""


@dataclass(frozen=True)
class Expectation:
    """Result of the E-step on a block."""

    log_likelihood: Float[Tensor, " sequence"]
    predictive: Float[Tensor, " frame"]
    """log p of each frame given those before it, in either arithmetic."""
    posterior: Float[Tensor, "frame state"] | None = None
    start: Float[Tensor, " state"] | None = None
    """Expected number of sequences that begin in each state."""
    transitions: Float[Tensor, "state state"] | None = None
    durations: Float[Tensor, "state duration"] | None = None


class Workspace:
    """Memory reused by every block and iteration, because allocating it takes longer than filling it."""

    def __init__(self) -> None:
        self.kept: dict[str, Tensor] = {}

    def take(self, name: str, rows: int, *columns: int, like: Tensor) -> Tensor:
        shape = (rows, *columns)
        size = torch.Size(shape).numel()
        if name not in self.kept or self.kept[name].numel() < size or self.kept[name].dtype != like.dtype:
            self.kept[name] = like.new_empty(size)
        return self.kept[name][:size].view(shape)


Density = Callable[[], Float[Tensor, "frame state"]]
"""Function that computes the log densities of a block, which may be overwritten."""


def expect(
    chain: Chain,
    density: Density,
    block: Block,
    arithmetic: Arithmetic,
    space: Workspace,
    posteriors: bool = True,
) -> Expectation:
    """The E-step of a block; without posteriors, its likelihood alone."""
    if arithmetic == "scaled":
        way = scaled if chain.durations is None else scaled_durations
        found = way(chain, density(), block, space, posteriors)
        if found is not None:
            return found
    way = logarithmic if chain.durations is None else logarithmic_durations
    return way(chain, density(), block, posteriors)


def sums(values: Float[Tensor, " frame"], block: Block) -> Float[Tensor, " sequence"]:
    return values.new_zeros(block.sizes[0]).index_add_(0, block.sequence, values)


def relative(density: Float[Tensor, "frame state"]) -> Float[Tensor, "frame 1"]:
    """Largest log density of each frame; turn log densities into densities relative to it, in place."""
    peak = density.amax(1, keepdim=True)
    peak = peak.where(peak.isfinite(), 0)
    density.sub_(peak).exp_()
    return peak


def scaled(
    chain: Chain, density: Float[Tensor, "frame state"], block: Block, space: Workspace, posteriors: bool
) -> Expectation | None:
    peak = relative(density)
    forward = space.take("forward", *density.shape, like=density)
    scale = space.take("scale", len(density), 1, like=density)
    steps = list(
        zip(forward.split(block.sizes), density.split(block.sizes), scale.split(block.sizes), strict=True)
    )
    before = forward
    for time, (alpha, own, total) in enumerate(steps):
        if time:
            torch.mm(before[: len(alpha)], chain.transitions, out=alpha)
            alpha.mul_(own)
        else:
            torch.mul(own, chain.start, out=alpha)
        torch.sum(alpha, 1, keepdim=True, out=total)
        alpha.div_(total)
        before = alpha
    # NaN fails the comparison, too.
    if not bool((scale > SMALLEST[scale.dtype]).all()):
        return None
    predictive = (scale.log() + peak)[:, 0]
    if not posteriors and precise(forward):
        return Expectation(sums(predictive, block), predictive)
    posterior = space.take("posterior", *density.shape, like=density)
    density.div_(scale)
    backward = posterior.split(block.sizes)
    arriving = density.split(block.sizes)
    for time in range(len(steps) - 1, -1, -1):
        beta, size = backward[time], 0
        if time + 1 < len(steps):
            size = block.sizes[time + 1]
            torch.mm(arriving[time + 1], chain.transitions.T, out=beta[:size])
        beta[size:] = 1
        arriving[time].mul_(beta)
    # NaN fails the comparison, too.
    if not bool((posterior < LARGEST[posterior.dtype]).all()):
        return None
    if not posteriors:
        return Expectation(sums(predictive, block), predictive)
    posterior.mul_(forward)
    first = block.sizes[0]
    leaving = forward[: len(forward) - first]
    if not block.even:
        out = space.take("leaving", len(block.previous), density.shape[1], like=density)
        leaving = torch.index_select(forward, 0, block.previous, out=out)
    return Expectation(
        sums(predictive, block),
        predictive,
        posterior,
        posterior[:first].sum(0),
        chain.transitions * (leaving.T @ density[first:]),
    )


def precise(forward: Float[Tensor, "frame *states"]) -> bool:
    """Whether no forward variable has underflowed, or is 0 anyway."""
    return bool((forward >= torch.finfo(forward.dtype).tiny).all())


def log_matmul(
    rows: Float[Tensor, "row inner"], matrix: Float[Tensor, "inner column"]
) -> Float[Tensor, "row column"]:
    """Matrix product in the log domain."""
    return torch.logsumexp(rows[:, :, None] + matrix, 1)


def predictives(forward: Float[Tensor, "frame some"], block: Block) -> Float[Tensor, " frame"]:
    """log p of each frame given those before it, from the logarithms of the forward variables."""
    so_far = torch.logsumexp(forward, 1)
    found = so_far.clone()
    found[block.sizes[0] :] -= so_far[block.previous]
    return found.where(so_far > -torch.inf, -torch.inf)


def logarithmic(
    chain: Chain, density: Float[Tensor, "frame state"], block: Block, posteriors: bool
) -> Expectation:
    forward, backward = density.clone(), torch.zeros_like(density)
    moves = chain.transitions.log()
    alpha, own = forward.split(block.sizes), density.split(block.sizes)
    alpha[0].add_(chain.start.log())
    for time in range(1, len(own)):
        alpha[time].add_(log_matmul(alpha[time - 1][: len(own[time])], moves))
    likelihood = last(forward, block)
    predictive = predictives(forward, block)
    if not posteriors:
        return Expectation(likelihood, predictive)
    beta = backward.split(block.sizes)
    counts = torch.zeros_like(moves)
    for time in range(len(own) - 1, 0, -1):
        size = len(own[time])
        arriving = own[time] + beta[time]
        beta[time - 1][:size] = log_matmul(arriving, moves.T)
        joint = alpha[time - 1][:size, :, None] + moves + arriving[:, None]
        counts += (joint - likelihood[:size, None, None]).exp().sum(0)
    posterior = (forward + backward - likelihood[block.sequence, None]).exp()
    return Expectation(likelihood, predictive, posterior, posterior[: block.sizes[0]].sum(0), counts)


def last(forward: Float[Tensor, "frame some"], block: Block) -> Float[Tensor, " sequence"]:
    """Log-likelihood of each sequence: the log-sum of the forward variables at its last frame."""
    so_far = torch.logsumexp(forward, 1)
    found = so_far.new_empty(block.sizes[0])
    for own in so_far.split(block.sizes):
        found[: len(own)] = own
    return found


def scaled_durations(
    chain: Chain, density: Float[Tensor, "frame state"], block: Block, space: Workspace, posteriors: bool
) -> Expectation | None:
    """E-step in which the forward variable is over states and their remaining frames."""
    assert chain.durations is not None
    durations = chain.durations
    peak = relative(density)
    shape = (*density.shape, durations.shape[1])
    forward = space.take("forward", *shape, like=density)
    entered = space.take("entered", *density.shape, like=density)
    scale = space.take("scale", len(density), 1, like=density)
    alpha, enter, total = (rows.split(block.sizes) for rows in (forward, entered, scale))
    own = density.split(block.sizes)
    for time, now in enumerate(alpha):
        if time:
            before = alpha[time - 1][: len(now)]
            torch.mm(before[:, :, 0], chain.transitions, out=enter[time])
        else:
            enter[time].copy_(chain.start)
        torch.mul(enter[time][:, :, None], durations, out=now)
        if time:
            now[:, :, :-1] += before[:, :, 1:]
        now.mul_(own[time][:, :, None])
        torch.sum(now, (1, 2), out=total[time][:, 0])
        now.div_(total[time][:, :, None])
    if not bool((scale > SMALLEST[scale.dtype]).all()):
        return None
    predictive = (scale.log() + peak)[:, 0]
    if not posteriors and precise(forward):
        return Expectation(sums(predictive, block), predictive)
    density.div_(scale)
    posterior = torch.empty_like(density)
    moves, lasting = torch.zeros_like(chain.transitions), torch.zeros_like(durations)
    later = density.new_empty(0, *durations.shape)
    for time in range(len(alpha) - 1, -1, -1):
        beta = torch.ones_like(alpha[time])
        if len(later):
            size = len(later)
            begun = (later * durations).sum(2)
            beta[:size, :, 0] = begun @ chain.transitions.T
            beta[:size, :, 1:] = later[:, :, :-1]
            if not bool((beta < LARGEST[beta.dtype]).all()):
                return None
            moves += alpha[time][:size, :, 0].T @ begun
        later = beta * own[time][:, :, None]
        if posteriors:
            posterior.split(block.sizes)[time].copy_((alpha[time] * beta).sum(2))
            lasting += (enter[time][:, :, None] * later).sum(0)
    if not posteriors:
        return Expectation(sums(predictive, block), predictive)
    starts = chain.start * (later * durations).sum((0, 2))
    return Expectation(
        sums(predictive, block), predictive, posterior, starts, chain.transitions * moves, durations * lasting
    )


def logarithmic_durations(
    chain: Chain, density: Float[Tensor, "frame state"], block: Block, posteriors: bool
) -> Expectation:
    assert chain.durations is not None
    moves, durations = chain.transitions.log(), chain.durations.log()
    forward = density.new_empty(*density.shape, durations.shape[1])
    alpha, own = forward.split(block.sizes), density.split(block.sizes)
    enter = []
    for time, now in enumerate(alpha):
        before = alpha[time - 1][: len(now)]
        enter.append(log_matmul(before[:, :, 0], moves) if time else chain.start.log().expand_as(own[0]))
        now.copy_(enter[time][:, :, None] + durations)
        if time:
            now[:, :, :-1] = torch.logaddexp(now[:, :, :-1], before[:, :, 1:])
        now.add_(own[time][:, :, None])
    flat = rearrange(forward, "frame state left -> frame (state left)")
    likelihood, predictive = last(flat, block), predictives(flat, block)
    if not posteriors:
        return Expectation(likelihood, predictive)
    posterior = torch.empty_like(density)
    counts, lasting = torch.zeros_like(moves), torch.zeros_like(durations)
    later = density.new_empty(0, *durations.shape)
    for time in range(len(alpha) - 1, -1, -1):
        beta, size = torch.zeros_like(alpha[time]), len(later)
        whole = likelihood[: len(beta), None, None]
        if size:
            begun = torch.logsumexp(later + durations, 2)
            beta[:size, :, 0] = log_matmul(begun, moves.T)
            beta[:size, :, 1:] = later[:, :, :-1]
            joint = alpha[time][:size, :, 0, None] + moves + begun[:, None]
            counts += (joint - whole[:size]).exp().sum(0)
        posterior.split(block.sizes)[time].copy_((alpha[time] + beta - whole).exp().sum(2))
        later = beta + own[time][:, :, None]
        lasting += (enter[time][:, :, None] + durations + later - whole).exp().sum(0)
    starts = (enter[0][:, :, None] + durations + later - likelihood[:, None, None]).exp().sum((0, 2))
    return Expectation(likelihood, predictive, posterior, starts, counts, lasting)


def viterbi(
    chain: Chain, density: Float[Tensor, "frame state"], block: Block
) -> tuple[Int[Tensor, " frame"], Float[Tensor, " sequence"]]:
    """Most likely states of each sequence, and their joint log-probability with the frames."""
    if chain.durations is not None:
        return viterbi_durations(chain, density, block)
    moves = chain.transitions.log()
    best = density.clone()
    came_from = torch.zeros_like(density, dtype=torch.int64)
    scores, pointers = best.split(block.sizes), came_from.split(block.sizes)
    scores[0].add_(chain.start.log())
    for time in range(1, len(scores)):
        reached, pointer = (scores[time - 1][: len(scores[time]), :, None] + moves).max(1)
        scores[time].add_(reached)
        pointers[time].copy_(pointer)
    path = came_from.new_empty(len(density))
    states = path.split(block.sizes)
    found = density.new_empty(block.sizes[0])
    for time in range(len(scores) - 1, -1, -1):
        size = 0
        if time + 1 < len(scores):
            size = len(scores[time + 1])
            states[time][:size] = pointers[time + 1].gather(1, states[time + 1][:, None])[:, 0]
        if size < len(scores[time]):
            ending, states[time][size:] = scores[time][size:].max(1)
            found[size : len(scores[time])] = ending
    return path, found


def viterbi_durations(
    chain: Chain, density: Float[Tensor, "frame state"], block: Block
) -> tuple[Int[Tensor, " frame"], Float[Tensor, " sequence"]]:
    assert chain.durations is not None
    moves, durations = chain.transitions.log(), chain.durations.log()
    own = density.split(block.sizes)
    scores, pointers, went_on = [], [], []
    for time, rows in enumerate(own):
        before = scores[-1][: len(rows)] if time else None
        entered = chain.start.log().expand_as(rows)
        pointer = torch.zeros_like(rows, dtype=torch.int64)
        if before is not None:
            entered, pointer = (before[:, :, 0, None] + moves).max(1)
        now = entered[:, :, None] + durations
        on = torch.zeros_like(now, dtype=torch.bool)
        if before is not None:
            on[:, :, :-1] = before[:, :, 1:] > now[:, :, :-1]
            now[:, :, :-1] = now[:, :, :-1].maximum(before[:, :, 1:])
        scores.append(now + rows[:, :, None])
        pointers.append(pointer)
        went_on.append(on)
    path = torch.empty(len(density), dtype=torch.int64, device=density.device)
    states = path.split(block.sizes)
    found = density.new_empty(block.sizes[0])
    # Backtracking from the end of each sequence: the state at a time, and its remaining frames.
    state, left = path.new_empty(0), path.new_empty(0)
    for time in range(len(own) - 1, -1, -1):
        if len(state):
            row = torch.arange(len(state), device=density.device)
            on = went_on[time + 1][row, state, left]
            state, left = (
                state.where(on, pointers[time + 1][row, state]),
                (left + 1).where(on, 0),
            )
        ending, at = scores[time][len(state) :].flatten(1).max(1)
        found[len(state) : len(own[time])] = ending
        each = durations.shape[1]
        state = torch.cat([state, torch.div(at, each, rounding_mode="floor")])
        left = torch.cat([left, at % each])
        states[time].copy_(state)
    return path, found
