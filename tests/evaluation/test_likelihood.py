"""Bounds of the likelihood against a linear model whose likelihood is known in closed form."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from sonarium.evaluation.likelihood import bounds
from sonarium.models.contract import Density
from sonarium.worlds.contract import Batch


class LinearModel(Density):
    """z ~ N(0, 1), x|z ~ N(a z, s² I); q(z|x) is the true posterior, widened by a factor."""

    def __init__(self, widened: float):
        self.a, self.s2, self.widened = torch.tensor([1.0, -2.0, 0.5]).double(), 0.3, widened

    def log_weights(self, batch, draws, generator):
        x = batch.signal
        precision = 1 + self.a @ self.a / self.s2
        mean, spread = x.double() @ self.a / self.s2 / precision, (self.widened / precision).sqrt()
        z = mean + spread * torch.randn(draws, len(x), generator=generator).double()
        log_q = -0.5 * ((z - mean) / spread) ** 2 - spread.log()
        log_prior = -0.5 * z**2
        away = x.double()[None] - z[..., None] * self.a
        log_likelihood = -0.5 * (away**2).sum(2) / self.s2 - 1.5 * math.log(2 * math.pi * self.s2)
        return log_likelihood + log_prior - log_q

    def log_p(self, x):
        covariance = torch.outer(self.a, self.a) + self.s2 * torch.eye(3).double()
        return float(MultivariateNormal(torch.zeros(3).double(), covariance).log_prob(x.double()).mean())


def batches(clips, size=200):
    for x in clips.split(size):
        yield Batch(torch.arange(len(x)), x, torch.empty(len(x), 0))


@pytest.fixture
def clips():
    return torch.randn(200, 3, generator=torch.Generator().manual_seed(0))


def test_with_the_true_posterior_both_bounds_are_the_likelihood(clips):
    model = LinearModel(widened=1.0)
    found = bounds(model, batches(clips, 64), draws=3, seed=0)
    assert found["elbo"] == pytest.approx(model.log_p(clips), abs=1e-9)
    assert found["iwae"] == pytest.approx(model.log_p(clips), abs=1e-9)


def test_with_another_posterior_the_gap_is_its_divergence_and_more_draws_close_it(clips):
    model = LinearModel(widened=4.0)
    log_p, divergence = model.log_p(clips), 0.5 * (4 - 1 - math.log(4))
    found = [bounds(model, batches(clips), draws, seed=0)["iwae"] for draws in (1, 10, 1000)]
    assert bounds(model, batches(clips), 2000, seed=0)["elbo"] == pytest.approx(log_p - divergence, abs=0.02)
    assert found[0] < found[1] < found[2] < log_p + 0.01
    assert found[2] == pytest.approx(log_p, abs=0.02)


def test_one_draw_makes_the_bounds_equal_and_nothing_is_refused(clips):
    found = bounds(LinearModel(widened=2.0), batches(clips), 1, seed=3)
    assert found["elbo"] == pytest.approx(found["iwae"], abs=1e-12)
    with pytest.raises(ValueError, match="no clips"):
        bounds(LinearModel(1.0), [], 1, seed=0)
    with pytest.raises(ValueError, match="at least one sample"):
        bounds(LinearModel(1.0), batches(clips), 0, seed=0)
