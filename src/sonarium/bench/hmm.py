"""Expectation-maximisation of a hidden Markov model beside hmmlearn's, from the same parameters.

Both sides take the same iterations and end at the same likelihood, which is asserted. hmmlearn takes one sequence
after the other; ours takes all sequences of a block at once, in preallocated memory.
"""

from collections.abc import Callable
from typing import Any

import hmmlearn.hmm
import numpy as np
import torch

from sonarium.bench.timing import case, interleaved
from sonarium.models.hmm import HMM
from sonarium.models.hmm.em import e_step, m_step
from sonarium.models.hmm.inference import Workspace

STATES, SEQUENCES, FRAMES, FEATURES = 100, 200, 500, 32
NATS = 1e-6
"""Difference of log-likelihoods that counts as none, as a fraction."""


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """An iteration beside hmmlearn's two arithmetics; and, of cost that is linear in sequences, a tenth of
    them."""
    found = []
    for implementation in ("scaling", "log"):
        ours, theirs = both(SEQUENCES, implementation)
        # hmmlearn's logarithms take a minute an iteration.
        found.append(row(SEQUENCES, implementation, *interleaved(ours, theirs, min(repeats, 3))))
    ours, theirs = both(SEQUENCES // 10, "scaling")
    found.append(row(SEQUENCES // 10, "scaling", *interleaved(ours, theirs, repeats)))
    return found


def row(sequences: int, implementation: str, ours_s: float, theirs_s: float) -> dict[str, Any]:
    frames = f"{sequences} × {FRAMES} × {FEATURES} frames"
    work = f"one iteration of EM, {STATES} diagonal Gaussian states, {frames}, float64"
    name = f"EM, {sequences} sequences, beside {implementation}"
    return case(name, work, f"hmmlearn {hmmlearn.__version__}, {implementation}", ours_s, theirs_s)


def both(sequences: int, implementation: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """An iteration of ours, and of hmmlearn's, each from the same parameters."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(STATES, FEATURES)) * 2
    frames = centres[rng.integers(STATES, size=sequences * FRAMES)] + rng.normal(
        size=(sequences * FRAMES, FEATURES)
    )
    lengths = [FRAMES] * sequences
    start, moves = np.full(STATES, 1 / STATES), rng.dirichlet(np.ones(STATES), size=STATES)
    means, covariances = centres + 0.3 * rng.normal(size=centres.shape), np.full((STATES, FEATURES), 2.0)
    model = HMM.from_parameters(start, moves, means=means, covariances=covariances)
    packed = model.packed(frames, np.array(lengths), model.model_)
    space, reached = Workspace(), {}

    def ours() -> None:
        with torch.no_grad():
            counts = e_step(model.model_, packed, "scaled", space)
            m_step(model.model_, counts)
        reached["ours"] = float(counts.log_likelihood)

    def theirs() -> None:
        peer = hmmlearn.hmm.GaussianHMM(
            STATES, "diag", n_iter=1, tol=-np.inf, init_params="", implementation=implementation
        )
        peer.startprob_, peer.transmat_, peer.means_, peer.covars_ = start, moves, means, covariances
        peer.fit(frames, lengths)
        reached["theirs"] = peer.monitor_.history[-1]
        assert abs(reached["ours"] - reached["theirs"]) < NATS * abs(reached["ours"]), reached

    return ours, theirs
