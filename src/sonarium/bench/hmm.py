"""Expectation-maximisation (EM) of a hidden Markov model, compared with hmmlearn from the same parameters; and
with dynamax and pomegranate, if they are installed.

All sides run the same iteration and reach the same likelihood, which is asserted. hmmlearn processes one sequence
after the other, ours all sequences of a block at once, in preallocated memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import hmmlearn.hmm
import numpy as np
import torch
from jaxtyping import Float

from sonarium.bench.timing import case, interleaved
from sonarium.models.hmm import HMM
from sonarium.models.hmm.em import e_step, m_step
from sonarium.models.hmm.inference import Workspace

STATES, SEQUENCES, FRAMES, FEATURES = 100, 200, 500, 32
NATS = 1e-6
"""Relative tolerance of the log-likelihoods."""


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """An iteration compared with hmmlearn's two implementations; again with a tenth of the sequences, since cost
    is linear in them; and as few with the other peers, one of which stores the transitions of all frames."""
    found = []
    for implementation in ("scaling", "log"):
        # hmmlearn's log-space implementation takes a minute per iteration.
        found.append(beside(Problem.drawn(SEQUENCES), hmmlearns(implementation), min(repeats, 3)))
    small = Problem.drawn(SEQUENCES // 10)
    found.append(beside(small, hmmlearns("scaling"), repeats))
    found += [beside(small, make, repeats) for name, make in FURTHER.items() if find_spec(name)]
    return found


@dataclass(frozen=True)
class Problem:
    """Frames, and the initial parameters of all sides."""

    frames: Float[np.ndarray, "frame feature"]
    start: Float[np.ndarray, " state"]
    moves: Float[np.ndarray, "state state"]
    means: Float[np.ndarray, "state feature"]
    covariances: Float[np.ndarray, "state feature"]

    @classmethod
    def drawn(cls, sequences: int) -> "Problem":
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(STATES, FEATURES)) * 2
        frames = centres[rng.integers(STATES, size=sequences * FRAMES)] + rng.normal(
            size=(sequences * FRAMES, FEATURES)
        )
        moves = rng.dirichlet(np.ones(STATES), size=STATES)
        means = centres + 0.3 * rng.normal(size=centres.shape)
        return cls(frames, np.full(STATES, 1 / STATES), moves, means, np.full((STATES, FEATURES), 2.0))

    @property
    def sequences(self) -> int:
        return len(self.frames) // FRAMES

    @property
    def apart(self) -> Float[np.ndarray, "sequence frame feature"]:
        return self.frames.reshape(self.sequences, FRAMES, FEATURES)


@dataclass(frozen=True)
class Peer:
    label: str
    name: str
    iteration: Callable[[], float]
    """Run an iteration of EM; returns the log-likelihood of the parameters before it."""


def beside(problem: Problem, make: Callable[[Problem], Peer], repeats: int) -> dict[str, Any]:
    peer, iteration, reached = make(problem), our_own(problem), {}

    def ours() -> None:
        reached["ours"] = iteration()

    def theirs() -> None:
        reached["theirs"] = peer.iteration()
        assert abs(reached["ours"] - reached["theirs"]) < NATS * abs(reached["ours"]), reached

    frames = f"{problem.sequences} × {FRAMES} × {FEATURES} frames"
    work = f"one iteration of EM, {STATES} diagonal Gaussian states, {frames}, float64"
    name = f"EM, {problem.sequences} sequences, beside {peer.label}"
    return case(name, work, peer.name, *interleaved(ours, theirs, repeats))


def our_own(problem: Problem) -> Callable[[], float]:
    model = HMM.from_parameters(problem.start, problem.moves, means=problem.means, covariances=problem.covariances)
    packed = model.packed(problem.frames, np.full(problem.sequences, FRAMES), model.model_)
    space = Workspace()

    def iteration() -> float:
        with torch.no_grad():
            counts = e_step(model.model_, packed, "scaled", space)
            m_step(model.model_, counts)
        return float(counts.log_likelihood)

    return iteration


def hmmlearns(implementation: str) -> Callable[[Problem], Peer]:
    def make(problem: Problem) -> Peer:
        lengths = [FRAMES] * problem.sequences

        def iteration() -> float:
            peer = hmmlearn.hmm.GaussianHMM(
                STATES, "diag", n_iter=1, tol=-np.inf, init_params="", implementation=implementation
            )
            peer.startprob_, peer.transmat_ = problem.start, problem.moves
            peer.means_, peer.covars_ = problem.means, problem.covariances
            peer.fit(problem.frames, lengths)
            return peer.monitor_.history[-1]

        return Peer(implementation, f"hmmlearn {hmmlearn.__version__}, {implementation}", iteration)

    return make


def dynamaxs(problem: Problem) -> Peer:
    """Peer compiled by JAX, all sequences at once; with its default priors, which affect only the M-step."""
    jax, dynamax, models = (import_module(name) for name in ("jax", "dynamax", "dynamax.hidden_markov_model"))
    jax.config.update("jax_enable_x64", True)
    model = models.DiagonalGaussianHMM(STATES, FEATURES)
    given = (problem.start, problem.moves, problem.means, np.sqrt(problem.covariances))
    names = ("initial_probs", "transition_matrix", "emission_means", "emission_scale_diags")
    parameters, properties = model.initialize(**dict(zip(names, map(jax.numpy.asarray, given), strict=True)))
    frames, state = jax.numpy.asarray(problem.apart), model.initialize_m_step_state(parameters, properties)

    @jax.jit
    def step(parameters: Any, state: Any) -> Any:
        statistics, likelihoods = jax.vmap(lambda one: model.e_step(parameters, one))(frames)
        return model.m_step(parameters, properties, statistics, state), likelihoods.sum()

    def iteration() -> float:
        _, likelihood = jax.block_until_ready(step(parameters, state))
        return float(likelihood)

    return Peer("dynamax", f"dynamax {dynamax.__version__}", iteration)


def pomegranates(problem: Problem) -> Peer:
    pomegranate, models, normal = (
        import_module(name) for name in ("pomegranate", "pomegranate.hmm", "pomegranate.distributions.normal")
    )
    frames = torch.from_numpy(problem.apart)
    given = (problem.start, problem.moves, problem.means, problem.covariances)

    def iteration() -> float:
        # It creates tensors in the default dtype, and keeps and modifies those that it is given.
        start, moves, means, variances = (torch.tensor(one) for one in given)
        torch.set_default_dtype(torch.float64)
        try:
            states = [normal.Normal(*both, covariance_type="diag") for both in zip(means, variances, strict=True)]
            # End probabilities of 1 give the likelihood without end states.
            model = models.DenseHMM(states, edges=moves, starts=start, ends=torch.ones(STATES))
            likelihood = model.summarize(frames)
            model.from_summaries()
        finally:
            torch.set_default_dtype(torch.float32)
        return float(likelihood.sum())

    return Peer("pomegranate", f"pomegranate {pomegranate.__version__}", iteration)


FURTHER: dict[str, Callable[[Problem], Peer]] = {"dynamax": dynamaxs, "pomegranate": pomegranates}
"""Optional peers by package."""
