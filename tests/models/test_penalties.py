"""Penalties against closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stub_engine import StubEngine
from torch import distributions
from torch.nn import functional

from sonarium.models.penalties import (
    AnnealedConfig,
    BetaConfig,
    DipConfig,
    FactorConfig,
    Posterior,
    TotalCorrelationConfig,
    decomposition,
)


def random_posterior(clips: int = 32, codes: int = 5, seed: int = 0) -> Posterior:
    generator = torch.Generator().manual_seed(seed)
    return Posterior(
        torch.randn(clips, codes, generator=generator), torch.randn(clips, codes, generator=generator) - 1
    )


def correlated(clips: int, rho: float, seed: int) -> tuple[Posterior, torch.Tensor]:
    """Posteriors whose aggregate is a standard normal with correlation `rho`, and a sample of each."""
    generator = torch.Generator().manual_seed(seed)
    within = 0.05
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]]) - within * torch.eye(2)
    mean = torch.randn(clips, 2, generator=generator) @ torch.linalg.cholesky(covariance).T
    posterior = Posterior(mean, torch.full_like(mean, math.log(within)))
    return posterior, posterior.draw(StubEngine(seed + 1))


def test_divergence_is_that_of_torch_distributions():
    posterior = random_posterior()
    normal = distributions.Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    expected = distributions.kl_divergence(normal, distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(posterior.divergence(), expected)


def test_a_sample_has_the_moments_of_its_posterior():
    posterior = Posterior(
        torch.tensor([[1.0, -2.0]]).repeat(20000, 1), torch.tensor([[0.5, -3.0]]).repeat(20000, 1)
    )
    sample = posterior.draw(StubEngine(0))
    torch.testing.assert_close(sample.mean(0), posterior.mean[0], atol=0.04, rtol=0)
    torch.testing.assert_close(sample.var(0).log(), posterior.log_variance[0], atol=0.05, rtol=0)


@pytest.mark.parametrize("estimator", ["mss", "mws"])
@pytest.mark.parametrize("rho", [0.0, 0.6, -0.9])
def test_total_correlation_of_two_gaussians(estimator, rho):
    posterior, sample = correlated(2500, rho, seed=3)
    _, correlation, _ = decomposition(posterior, sample, 2500, estimator)
    if estimator == "mws":
        # This estimator omits log N of the joint and of every marginal: with two codes, one log N too much.
        correlation = correlation - math.log(2500)
    assert correlation.item() == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.06)


def test_stratified_estimates_from_small_batches_agree_with_the_whole():
    posterior, sample = correlated(3000, 0.8, seed=5)
    found = []
    for rows in torch.arange(3000).split(100):
        part = Posterior(posterior.mean[rows], posterior.log_variance[rows])
        found.append(decomposition(part, sample[rows], 3000, "mss")[1])
    whole = -0.5 * math.log(1 - 0.8**2)
    assert torch.stack(found).mean().item() == pytest.approx(whole, abs=0.2)


@pytest.mark.parametrize("estimator", ["mss", "mws"])
def test_the_three_terms_sum_to_the_sampled_divergence(estimator):
    posterior = random_posterior()
    sample = posterior.draw(StubEngine(1))
    terms = decomposition(posterior, sample, 1000, estimator)
    normal = distributions.Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    sampled = (normal.log_prob(sample) - distributions.Normal(0.0, 1.0).log_prob(sample)).sum(1).mean()
    torch.testing.assert_close(sum(terms), sampled)


def test_mutual_information_of_clips_that_do_not_overlap_is_log_of_their_number():
    clips = 200
    posterior = Posterior(torch.arange(clips)[:, None] * 10.0, torch.zeros(clips, 1))
    sample = posterior.draw(StubEngine(0))
    information, _, _ = decomposition(posterior, sample, clips, "mss")
    assert information.item() == pytest.approx(math.log(clips), abs=1e-4)


def test_a_batch_of_one_clip_has_no_total_correlation():
    posterior = random_posterior(1)
    with pytest.raises(ValueError, match="use a batch size of 2 or more"):
        decomposition(posterior, posterior.mean, 10, "mss")


@given(beta=st.floats(0, 50), seed=st.integers(0, 100))
def test_beta_weighs_the_divergence(beta, seed):
    posterior = random_posterior(seed=seed)
    price, _ = BetaConfig(beta).build(5)(posterior, posterior.mean, torch.tensor(0), StubEngine(clips=100))
    assert price.item() == pytest.approx(beta * posterior.divergence().sum(1).mean().item(), rel=1e-5)


@pytest.mark.parametrize(("step", "capacity"), [(0, 0.0), (50, 10.0), (100, 20.0), (500, 20.0)])
def test_capacity_grows_and_stays(step, capacity):
    posterior = random_posterior()
    penalty = AnnealedConfig(gamma=3.0, capacity=20.0, capacity_steps=100).build(5)
    price, terms = penalty(posterior, posterior.mean, torch.tensor(step), StubEngine(clips=100))
    divergence = posterior.divergence().sum(1).mean().item()
    assert terms["penalty/capacity"].item() == pytest.approx(capacity)
    assert price.item() == pytest.approx(3 * abs(divergence - capacity), rel=1e-5)


def test_weights_of_the_decomposition_multiply_their_terms():
    posterior = random_posterior()
    sample = posterior.draw(StubEngine(1))
    information, correlation, dimension = decomposition(posterior, sample, 100, "mss")
    price, _ = TotalCorrelationConfig(2.0, 3.0, 5.0).build(5)(
        posterior, sample, torch.tensor(0), StubEngine(clips=100)
    )
    torch.testing.assert_close(price, 2 * information + 3 * correlation + 5 * dimension)


@pytest.mark.parametrize("kind", ["I", "II"])
def test_dip_is_free_where_the_covariance_is_the_identity(kind):
    generator = torch.Generator().manual_seed(2)
    white = torch.linalg.qr(torch.randn(400, 4, generator=generator))[0]
    white = torch.linalg.qr(white - white.mean(0))[0] * math.sqrt(400)
    within = 0.3 if kind == "II" else 0.9
    mean = white * math.sqrt(1 - within) if kind == "II" else white
    posterior = Posterior(mean, torch.full_like(mean, math.log(within)))
    _, terms = DipConfig(kind=kind).build(4)(posterior, mean, torch.tensor(0), StubEngine(clips=400))
    assert terms["penalty/off_diagonal"].item() == pytest.approx(0, abs=1e-6)
    assert terms["penalty/diagonal"].item() == pytest.approx(0, abs=1e-6)


def test_dip_counts_each_covariance():
    mean = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    posterior = Posterior(mean, torch.full_like(mean, -30.0))
    config = DipConfig(kind="I", off_diagonal=2.0, diagonal=3.0, kl_weight=0.0)
    price, _ = config.build(2)(posterior, mean, torch.tensor(0), StubEngine(clips=2))
    # Covariance [[1, 1], [1, 1]]: two off-diagonal ones, and the correct diagonal.
    assert price.item() == pytest.approx(2.0 * 2, abs=1e-5)


def test_the_discriminator_learns_the_total_correlation():
    rho = 0.8
    penalty = FactorConfig(units=64, discriminator_rate=2e-3).build(2)
    engine = StubEngine()
    posterior, _ = correlated(20000, rho, seed=7)
    for _ in range(400):
        rows = torch.randint(20000, (512,), generator=engine.generator)
        part = Posterior(posterior.mean[rows], posterior.log_variance[rows])
        terms = penalty.learn(part.draw(engine), engine)
    assert terms["discriminator/accuracy"] > 0.6
    sample = posterior.draw(engine)
    _, terms = penalty(posterior, sample, torch.tensor(0), StubEngine(clips=20000))
    assert terms["penalty/tc"].item() == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.12)


def test_neither_side_of_the_factor_penalty_leaks_into_the_other():
    penalty = FactorConfig(units=16).build(5)
    posterior = random_posterior()
    mean = posterior.mean.requires_grad_()
    sample = Posterior(mean, posterior.log_variance).draw(StubEngine())
    price, _ = penalty(Posterior(mean, posterior.log_variance), sample, torch.tensor(0), StubEngine(clips=100))
    price.backward()
    assert mean.grad is not None
    assert mean.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in penalty.discriminator.parameters())
    before = mean.grad.clone()
    penalty.learn(sample.detach(), StubEngine())
    assert torch.equal(mean.grad, before)
    assert all(parameter.requires_grad for parameter in penalty.discriminator.parameters())


def test_the_discriminator_is_shown_samples_whose_codes_were_shuffled_apart():
    penalty, engine = FactorConfig(units=16).build(3), StubEngine()
    shown = []
    penalty.discriminator.register_forward_pre_hook(lambda module, given: shown.append(given[0]))
    sample = torch.arange(60.0).reshape(20, 3)
    penalty.learn(sample, engine)
    joint, product = shown[0][:10], shown[0][10:]
    assert torch.equal(joint, sample[:10])
    assert torch.equal(product.sort(0).values, sample[10:])
    assert not torch.equal(product - product[:, :1], sample[10:] - sample[10:, :1])
    assert functional.mse_loss(product, sample[10:]) > 0
