"""The hidden Markov model of tokens, on a chain with known transition probabilities."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from sonarium.evaluation import fitting

POINTS = torch.tensor([[0.0, 3.0, 1.0], [4.0, -1.0, 0.0], [-3.0, 0.0, 5.0]])
MOVES = np.array([[0.2, 0.8, 0.0], [0.0, 0.3, 0.7], [0.6, 0.0, 0.4]])
SPREAD = 0.1


@pytest.fixture(scope="module")
def chain():
    random = np.random.default_rng(3)
    states = np.zeros((80, 50), int)
    for row in states:
        row[0] = random.integers(3)
        for at in range(1, len(row)):
            row[at] = random.choice(3, p=MOVES[row[at - 1]])
    tokens = POINTS[states] + SPREAD * torch.from_numpy(random.standard_normal((80, 50, 3))).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "STATES", (3,))
        return fitting.TokenHMM.of(tokens, torch.full((80,), 50))


def test_what_comes_is_expected_as_the_chain_has_it(chain):
    past = POINTS[torch.tensor([[1, 2, 0], [0, 0, 1], [1, 1, 2]])]
    expected = chain.expected(chain.belief(past), 3)
    for steps in (1, 2, 3):
        law = torch.from_numpy(np.linalg.matrix_power(MOVES, steps)) @ POINTS.double()
        torch.testing.assert_close(expected[:, steps - 1], law, atol=0.25, rtol=0)


def test_futures_are_drawn_about_what_is_expected(chain):
    belief = chain.belief(POINTS[torch.tensor([[1, 2, 0], [0, 0, 1]])])
    drawn = chain.drawn(belief, 4, 4000, torch.Generator().manual_seed(0))
    assert drawn.shape == (4000, 2, 4, 3)
    torch.testing.assert_close(drawn.mean(0), chain.expected(belief, 4), atol=0.2, rtol=0)
    # Each is near one of the states, not between them.
    nearest = torch.cdist(drawn.flatten(0, 2), POINTS.double()).amin(1)
    assert float(nearest.mean()) == pytest.approx(SPREAD * 1.6, rel=0.15)


def test_a_future_goes_where_the_chain_can(chain):
    belief = chain.belief(POINTS[torch.tensor([[1, 2, 0]])])
    drawn = chain.drawn(belief, 4, 500, torch.Generator().manual_seed(1))[:, 0]
    came = torch.cdist(drawn, POINTS.double()).argmin(2)
    assert set(came[:, 0].tolist()) == {0, 1}
    assert all(MOVES[one, two] > 0 for row in came.tolist() for one, two in pairwise(row))
