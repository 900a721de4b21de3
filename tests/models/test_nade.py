"""NADE over one-hot variables: probabilities and samples against enumeration of all configurations."""

from itertools import product
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch.nn import functional

from sonarium.models.nade import NADE

VARIABLES, CLASSES, GIVEN = 3, 3, 4


def network(seed: int = 0, variables: int = VARIABLES, classes: int = CLASSES) -> NADE:
    torch.manual_seed(seed)
    made = NADE(GIVEN, variables, classes, 5).double()
    # Initial logits would hardly differ.
    for weight in made.parameters():
        weight.data.mul_(4)
    return made


def every(variables: int = VARIABLES, classes: int = CLASSES) -> torch.Tensor:
    rows = torch.tensor(list(product(range(classes), repeat=variables)))
    return functional.one_hot(rows, classes).double().flatten(1)


@settings(max_examples=25, deadline=None)
@given(some.integers(1, 4), some.integers(2, 4), some.integers(0, 99))
def test_probabilities_of_all_configurations_sum_to_one(variables, classes, seed):
    own, rows = network(seed, variables, classes), every(variables, classes)
    h = torch.randn(GIVEN, dtype=torch.double).expand(len(rows), -1)
    total = own.latent.log_probability(own(h, rows), rows).exp().sum()
    torch.testing.assert_close(total, torch.ones_like(total))


def test_a_variable_sees_those_before_it_alone():
    own, h = network(), torch.randn(1, GIVEN, dtype=torch.double)
    z = every()[:1].requires_grad_()
    raw = own(h, z).unflatten(-1, (VARIABLES, CLASSES))
    for variable in range(VARIABLES):
        (reached,) = torch.autograd.grad(raw[0, variable].square().sum(), z, retain_graph=True)
        seen = reached.unflatten(-1, (VARIABLES, CLASSES))[0].any(-1)
        assert seen.tolist() == [other < variable for other in range(VARIABLES)]


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_draws_are_as_likely_as_they_are_said_to_be(temperature):
    own, rows, count = network(2), every(), 40_000
    h = torch.randn(1, GIVEN, dtype=torch.double)
    noise = torch.rand(count, VARIABLES, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    z, raw = own.draw(h.expand(count, -1), noise, temperature)
    torch.testing.assert_close(raw, own(h.expand(count, -1), z))
    logits = own(h.expand(len(rows), -1), rows) / temperature
    expected = own.latent.log_probability(logits, rows).exp().detach()
    found = (z @ rows.T == VARIABLES).double().mean(0)
    assert float(expected.max()) > 2 * float(expected.min())
    torch.testing.assert_close(found, expected, atol=4 * 0.5 / count**0.5, rtol=0)


def test_without_noise_each_variable_is_the_likeliest_after_those_before_it():
    own, h = network(3), torch.randn(7, GIVEN, dtype=torch.double)
    z, raw = own.draw(h, None)
    torch.testing.assert_close(raw, own(h, z))
    shape = (VARIABLES, CLASSES)
    assert torch.equal(z.unflatten(-1, shape).argmax(-1), raw.unflatten(-1, shape).argmax(-1))


def test_variables_that_go_together_are_drawn_together():
    """Two equally frequent pairs of classes: independent variables would mix them in half of the draws."""
    torch.manual_seed(0)
    own = NADE(GIVEN, 2, 2, 8)
    which = torch.arange(64) % 2
    z = functional.one_hot(torch.stack([which, which], -1), 2).float().flatten(1)
    h, optimiser = torch.zeros(64, GIVEN), torch.optim.Adam(own.parameters(), 0.05)
    for _ in range(150):
        optimiser.zero_grad()
        loss = -own.latent.log_probability(own(h, z), z).mean()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) == pytest.approx(log(2), abs=0.05)
    drawn, _ = own.draw(torch.zeros(500, GIVEN), torch.rand(500, 2, generator=torch.Generator().manual_seed(1)))
    first, second = drawn.unflatten(-1, (2, 2)).argmax(-1).unbind(-1)
    assert float((first == second).float().mean()) > 0.95 and 0.4 < float(first.float().mean()) < 0.6
