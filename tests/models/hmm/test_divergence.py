"""Divergence rates against closed forms, and parts of a divergence, each of which depends only on its cause."""

import numpy as np
import pytest

from sonarium.measures.sequence.entropy import entropy
from sonarium.models.hmm import HMM, divergence_parts, divergence_rate
from sonarium.models.hmm.divergence import departures, occupancies

MOVES = np.array([[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.25, 0.05, 0.7]])
MEANS = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])


def model_of(moves=MOVES, means=MEANS, **settings):
    return HMM.from_parameters(np.full(3, 1 / 3), moves, means=means, covariances=np.ones((3, 2)), **settings)


def test_one_gaussian_state_is_exact():
    one = HMM.from_parameters([1.0], [[1.0]], means=[[0.0]], covariances=[[1.0]])
    other = HMM.from_parameters([1.0], [[1.0]], means=[[2.0]], covariances=[[4.0]])
    found = divergence_rate(one, other)
    nats = 0.5 * (1 / 4 + 4 / 4 - 1 + np.log(4))
    assert found.exact and found.error == 0 and found.rate == pytest.approx(nats / np.log(2))


@pytest.mark.parametrize("covariance", ["spherical", "diagonal", "tied", "full"])
def test_closed_forms_of_emissions_are_what_simulation_gives(covariance):
    wide = np.array([[1.0, 0.3], [0.3, 2.0]])
    spread = {"spherical": [1.5], "diagonal": [[1.0, 2.0]], "tied": wide, "full": wide[None]}[covariance]
    one = HMM.from_parameters([1.0], [[1.0]], means=[[0.0, 1.0]], covariances=spread, covariance=covariance)
    other = HMM.from_parameters([1.0], [[1.0]], means=[[0.5, 0.0]], covariances=[[2.0, 1.0]])
    frames, _ = one.sample(1, random_state=0, sequences=20_000)
    ratio = one.score_samples(frames, [1] * 20_000) - other.score_samples(frames, [1] * 20_000)
    exact = divergence_rate(one, other).rate * np.log(2)
    assert abs(ratio.mean() - exact) < 4 * ratio.std() / 20_000**0.5


def test_a_markov_chain_that_is_seen_has_its_closed_form():
    """Symbols are the states: Σ π_i KL(p_i || q_i)."""
    other = np.array([[0.6, 0.2, 0.2], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]])
    p, q = (HMM.from_parameters(np.full(3, 1 / 3), moves, probabilities=np.eye(3)) for moves in (MOVES, other))
    occupancy = np.linalg.matrix_power(MOVES, 200)[0]
    exact = float(occupancy @ (-(MOVES * np.log2(other)).sum(1) - entropy(MOVES)))
    found = divergence_rate(p, q, sequences=200, frames=60, random_state=0)
    assert not found.exact and abs(found.rate - exact) < 4 * found.error and found.error < 0.05
    parts = divergence_parts(p, q, match="order")
    assert parts.total == pytest.approx(exact, rel=1e-3) and parts.emission == pytest.approx(0, abs=1e-9)


def test_a_model_does_not_diverge_from_itself_nor_from_its_states_in_another_order():
    model, order = model_of(), [2, 0, 1]
    shuffled = model_of(MOVES[order][:, order], MEANS[order])
    found = divergence_rate(model, shuffled, sequences=20, frames=20, random_state=0)
    assert abs(found.rate) < 1e-9 and divergence_parts(model, shuffled).total == pytest.approx(0, abs=1e-4)


def test_counts_that_two_models_never_make_tell_nothing_of_them():
    """A Poisson rate of 0 in both models adds no divergence; in the second model alone, an infinite one."""
    p, q = (HMM.from_parameters([1.0], [[1.0]], rates=[[0.0, rate]]) for rate in (2.0, 3.0))
    exact = (2 * np.log(2 / 3) + 1) / np.log(2)
    assert divergence_rate(p, q).rate == pytest.approx(exact)
    never = HMM.from_parameters([1.0], [[1.0]], rates=[[0.0, 0.0]])
    assert divergence_rate(p, never).rate == np.inf
    assert divergence_rate(never, p).rate == pytest.approx(2 / np.log(2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_state_that_is_never_left_is_left_for_no_other(dtype):
    moves = [[0.5, 0.5], [0.0, 1.0]]
    chain = HMM.from_parameters([1.0, 0.0], moves, rates=[[1.0], [2.0]], dtype=dtype).model_.chain
    rate, leaving = departures(chain, occupancies(chain))
    assert rate[1] == 0 and leaving.tolist() == [[0, 1], [0, 0]]


def slower():
    """Transitions with twice the state durations, and the same probabilities once a state is left."""
    moves = MOVES / 2
    return moves + np.eye(3) / 2


def other_grammar():
    """Transitions with the same state durations, and other probabilities once a state is left."""
    stays = np.diag(np.diagonal(MOVES))
    swapped = np.array([[0, 0.05, 0.15], [0.2, 0, 0.1], [0.05, 0.25, 0]])
    return stays + swapped


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("cause", ["emission", "duration", "transition"])
def test_each_part_moves_only_with_its_own_cause(cause, explicit):
    p = model_of()
    q = {
        "emission": model_of(means=MEANS + np.array([0.5, 0.2])),
        "duration": model_of(slower()),
        "transition": model_of(other_grammar()),
    }[cause]
    if explicit:
        p, q = (timed(one) for one in (p, q))
    parts = divergence_parts(p, q)
    for part in ("emission", "duration", "transition"):
        value = getattr(parts, part)
        assert value > 0.01 if part == cause else value == pytest.approx(0, abs=1e-3), part
    if cause == "emission" and not explicit:
        whole = divergence_rate(p, q, sequences=100, frames=40, random_state=0)
        assert whole.rate < parts.total + 4 * whole.error
        assert parts.emission == pytest.approx(0.5 * (0.25 + 0.04) / np.log(2), rel=1e-6)


def timed(model):
    """The same model with explicit durations."""
    moves = model.transmat_
    stay = np.diagonal(moves)[:, None]
    lasting = (1 - stay) * stay ** np.arange(80)
    leave = moves * (1 - np.eye(3)) / (1 - stay)
    return HMM.from_parameters(
        model.startprob_, leave, means=model.means_, covariances=model.covars_,
        durations=lasting / lasting.sum(1, keepdims=True),
    )  # fmt: skip


def test_what_cannot_be_compared_is_refused():
    symbols = HMM.from_parameters([1.0], [[1.0]], probabilities=[[0.5, 0.5]])
    with pytest.raises(ValueError, match="compare models of the same data"):
        divergence_rate(symbols, model_of())
    two = HMM.from_parameters([0.5, 0.5], np.eye(2), means=MEANS[:2], covariances=np.ones((2, 2)))
    with pytest.raises(ValueError, match="3 and 2 states"):
        divergence_parts(model_of(), two)
