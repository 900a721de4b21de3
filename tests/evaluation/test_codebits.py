"""Bits of discrete states, against known entropies and enumerated paths of Markov chains."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch

from sonarium.evaluation import codebits as own
from sonarium.evaluation import fitting
from sonarium.evaluation.codebits import Coded
from sonarium.evaluation.config import EvaluationConfig


def coded(rows: torch.Tensor) -> Coded:
    return Coded(rows, torch.full((len(rows),), rows.shape[1]))


def test_bits_of_states_are_those_of_their_law():
    """Two variables of three classes, each of which stays or moves to the next class."""
    random = torch.Generator().manual_seed(0)
    moves = (torch.rand(80, 60, 2, generator=random) < 0.25).long()
    rows = (torch.randint(3, (80, 1, 2), generator=random) + moves.cumsum(1)) % 3
    found = own.code_bits(coded(rows[:60]), coded(rows[60:]), 3, 1, EvaluationConfig(gru_steps=150))
    entropy = -2 * (0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    assert found["n_gram"] == pytest.approx(entropy, abs=0.1)
    assert found["gru_ar"] == pytest.approx(entropy, abs=0.2)
    # Nine hidden states suffice for the classes of both variables.
    assert entropy - 0.05 < found["hmm"] < entropy + 0.3


def counted_out(first, moves, shares, classes) -> np.ndarray:
    """log p of each token given the previous ones, by summing over all paths of states."""
    totals = [1.0]
    for stop in range(1, len(classes) + 1):
        total = 0.0
        for path in product(range(len(first)), repeat=stop):
            p = first[path[0]] * np.prod([moves[one, other] for one, other in pairwise(path)])
            for state, token in zip(path, classes, strict=False):
                p *= np.prod([shares[state, variable, value] for variable, value in enumerate(token)])
            total += p
        totals.append(total)
    return np.diff(np.log(totals))


def test_a_chain_of_several_variables_is_counted_out():
    random = np.random.default_rng(0)
    first, moves = random.dirichlet(np.ones(3)), random.dirichlet(np.ones(3), 3)
    shares = random.dirichlet(np.ones(4), (3, 2))
    held = Coded(torch.from_numpy(random.integers(4, size=(3, 5, 2))), torch.tensor([5, 3, 1]))
    logs = own.hmm_log_probability(own.of_classes(first, moves, shares), held, 4)
    expected = [
        counted_out(first, moves, shares, rows[:count].tolist())
        for rows, count in zip(held.classes, held.counts.tolist(), strict=True)
    ]
    np.testing.assert_allclose(logs, np.concatenate(expected), atol=1e-9)


def test_a_planted_chain_is_found_where_n_grams_of_each_variable_see_little(monkeypatch):
    """Two hidden states that rarely alternate; each token of four variables is weakly informative about them."""
    random = np.random.default_rng(1)
    moves, shares = np.array([[0.95, 0.05], [0.05, 0.95]]), np.zeros((2, 4, 2))
    shares[0], shares[1] = [0.8, 0.2], [0.2, 0.8]
    state = np.zeros((120, 40), int)
    state[:, 0] = random.integers(2, size=120)
    for token in range(1, 40):
        stays = random.random(120) < 0.95
        state[:, token] = np.where(stays, state[:, token - 1], 1 - state[:, token - 1])
    classes = (random.random((120, 40, 4)) < shares[state][..., 1]).astype(int)
    known, held = coded(torch.from_numpy(classes[:90])), coded(torch.from_numpy(classes[90:]))
    monkeypatch.setattr(fitting, "STATES", (1, 2, 24))
    model = own.fitted_hmm(known, 2)
    assert model.states == 2
    rates = model.lambdas_.reshape(model.states, 4, 2)
    np.testing.assert_allclose(rates.sum(2), 1, atol=1e-6)
    true = own.hmm_log_probability(own.of_classes(np.array([0.5, 0.5]), moves, shares), held, 2)
    bits = {name: -logs.mean() / np.log(2) for name, logs in
            {"true": true, "found": own.hmm_log_probability(model, held, 2)}.items()}  # fmt: skip
    found = own.code_bits(known, held, 2, 0, EvaluationConfig(gru_steps=2))
    assert found["hmm"] == pytest.approx(bits["found"])
    assert bits["found"] == pytest.approx(bits["true"], abs=0.02)
    assert found["n_gram"] > bits["true"] + 0.1
