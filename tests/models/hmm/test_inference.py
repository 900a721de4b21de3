"""Forward-backward and Viterbi against sums over all paths, in both arithmetics, for sequences of different
lengths."""

from typing import Any

import numpy as np
import pytest
import torch
from hmm.brute import expectations
from hypothesis import given, settings
from hypothesis import strategies as st

from sonarium.models.hmm.inference import Chain, Workspace, expect, viterbi
from sonarium.models.hmm.packing import pack

LENGTHS = np.array([3, 1, 5, 3])


def some_chain(rng, states=3, durations=0, zeros=False):
    def rows(*shape):
        made = rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])
        return torch.from_numpy(made)

    moves = rows(states, states)
    if durations:
        moves = moves * (1 - torch.eye(states, dtype=moves.dtype))
    if zeros:
        moves = moves.triu() if not durations else moves
    moves = moves / moves.sum(1, keepdim=True)
    return Chain(rows(states), moves, rows(states, durations) if durations else None)


def expected_in(chain, density, arithmetic, lengths=LENGTHS) -> tuple[Any, Any]:
    (block,) = pack(lengths, 3)
    found = expect(chain, lambda: density[block.source].clone(), block, arithmetic, Workspace())
    return block, found


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6), durations=st.sampled_from([0, 3]), zeros=st.booleans())
@pytest.mark.parametrize("arithmetic", ["scaled", "log"])
def test_sums_over_all_paths(arithmetic, seed, durations, zeros):
    rng = np.random.default_rng(seed)
    chain = some_chain(rng, durations=durations, zeros=zeros)
    density = torch.from_numpy(rng.normal(size=(LENGTHS.sum(), 3)) * 3)
    block, found = expected_in(chain, density, arithmetic)
    posterior = torch.empty_like(density).index_copy_(0, block.source, found.posterior)
    predictive = torch.empty_like(density[:, 0]).index_copy_(0, block.source, found.predictive)
    starts, moves, first = np.zeros(3), np.zeros((3, 3)), 0
    likelihood = torch.empty(4, dtype=torch.float64).index_copy_(0, block.numbers, found.log_likelihood)
    for number, length in enumerate(LENGTHS.tolist()):
        own = slice(first, first + length)
        total, _, _, expected, steps = expectations(chain, density[own].numpy())
        np.testing.assert_allclose(likelihood[number], total, rtol=1e-12)
        np.testing.assert_allclose(posterior[own], expected, atol=1e-12)
        np.testing.assert_allclose(predictive[own].sum(), total, rtol=1e-10)
        starts, moves, first = starts + expected[0], moves + steps, first + length
    np.testing.assert_allclose(found.start, starts, atol=1e-12)
    if not durations:
        np.testing.assert_allclose(found.transitions, moves, atol=1e-12)
    else:
        # Every segment begins with a start or a transition, and has one duration.
        assert float(found.durations.sum()) == pytest.approx(float(found.start.sum() + found.transitions.sum()))


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6), durations=st.sampled_from([0, 1, 3]))
def test_viterbi_finds_the_best_of_all_paths(seed, durations):
    rng = np.random.default_rng(seed)
    chain = some_chain(rng, durations=durations)
    density = torch.from_numpy(rng.normal(size=(LENGTHS.sum(), 3)))
    (block,) = pack(LENGTHS, 3)
    path, best = viterbi(chain, density[block.source], block)
    states = torch.empty_like(path).index_copy_(0, block.source, path)
    scores = torch.empty_like(best).index_copy_(0, block.numbers, best)
    first = 0
    for number, length in enumerate(LENGTHS.tolist()):
        _, expected, score, _, _ = expectations(chain, density[first : first + length].numpy())
        assert tuple(states[first : first + length].tolist()) == expected
        assert float(scores[number]) == pytest.approx(score)
        first += length


def test_durations_of_geometric_law_are_a_markov_chain():
    rng = np.random.default_rng(0)
    plain = some_chain(rng)
    stay = plain.transitions.diagonal()
    leave = plain.transitions * (1 - torch.eye(3)) / (1 - stay)[:, None]
    lasting = (1 - stay)[:, None] * stay[:, None] ** torch.arange(60)
    lasting = lasting / lasting.sum(1, keepdim=True)
    density = torch.from_numpy(rng.normal(size=(LENGTHS.sum(), 3)))
    _, one = expected_in(plain, density, "scaled")
    _, other = expected_in(Chain(plain.start, leave, lasting), density, "scaled")
    torch.testing.assert_close(other.posterior, one.posterior, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(other.log_likelihood, one.log_likelihood, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("durations", [0, 3])
def test_where_scaled_arithmetic_underflows_logarithms_take_over(durations):
    """The only reachable state is e^2000 times less likely than the other."""
    lasting = torch.full((2, 3), 1 / 3).double() if durations else None
    chain = Chain(torch.tensor([1.0, 0.0]).double(), torch.eye(2).double(), lasting)
    density = torch.tensor([[-2000.0, 0.0]] * int(LENGTHS.sum())).double()
    _, found = expected_in(chain, density, "scaled")
    torch.testing.assert_close(found.log_likelihood.sum(), torch.tensor(-2000.0 * LENGTHS.sum()).double())
    torch.testing.assert_close(found.posterior[:, 0], torch.ones(len(density)).double())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("durations", [0, 3])
@pytest.mark.parametrize("leads", [False, True])
def test_what_underflows_and_is_needed_later_is_not_lost(leads, durations, dtype):
    """The first frames are of the second state by far, the others of the first one, and the second leads nowhere:
    the path through the first state alone is possible, or likely in the end."""
    kind = getattr(torch, dtype)
    moves = torch.tensor([[0.5, 0.5], [0.0, 1.0]] if leads else [[1.0, 0.0], [0.0, 1.0]], dtype=kind)
    lasting = torch.full((2, 3), 1 / 3, dtype=kind) if durations else None
    chain = Chain(torch.tensor([0.5, 0.5], dtype=kind), moves, lasting)
    density = torch.zeros(int(LENGTHS.max()) + 40, 2, dtype=kind)
    density[0, 0], density[1:, 1] = -800.0 if dtype == "float64" else -120.0, -25.0
    [block] = pack(np.array([len(density)]), 6, torch.device("cpu"))
    exact = expect(chain, density.clone, block, "log", Workspace())
    for posteriors in (True, False):
        found = expect(chain, density.clone, block, "scaled", Workspace(), posteriors)
        torch.testing.assert_close(found.log_likelihood, exact.log_likelihood, rtol=1e-4, atol=1e-4)
    found = expect(chain, density.clone, block, "scaled", Workspace())
    torch.testing.assert_close(found.posterior, exact.posterior, rtol=1e-3, atol=1e-3)


def test_blocks_hold_every_frame_once_whatever_their_size(monkeypatch):
    monkeypatch.setattr("sonarium.models.hmm.packing.CELLS", 12)
    lengths = np.array([4, 9, 1, 3, 3])
    blocks = pack(lengths, 2)
    assert len(blocks) > 2
    assert torch.cat([block.source for block in blocks]).sort().values.tolist() == list(range(20))
    assert torch.cat([block.numbers for block in blocks]).sort().values.tolist() == list(range(5))
