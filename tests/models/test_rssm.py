"""Recurrent state-space model: explicit gradients against automatic differentiation, distributions against torch,
and what a state may depend on."""

from dataclasses import replace

import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Normal, kl_divergence

from sonarium.models.latent import NARROWEST, Categorical, Gaussian
from sonarium.models.rssm import RSSM, DynamicsConfig, Rollout

CLIPS, TOKENS, EMBEDDING, ACTIONS = 3, 7, 5, 2
TINY = DynamicsConfig(deter=6, hidden=5, variables=2, classes=3)
TRANSFORMER = replace(TINY, dynamics="transformer", posterior="obs", heads=2)
CONFIGS = {
    "gru": TINY,
    "gaussian": replace(TINY, latent="gaussian"),
    "no mix": replace(TINY, uniform_mix=0.0),
    "posterior obs": replace(TINY, posterior="obs"),
    "transformer": TRANSFORMER,
}


def model(config: DynamicsConfig = TINY, dtype: torch.dtype = torch.double, actions: int = ACTIONS) -> RSSM:
    torch.manual_seed(0)
    return RSSM(config, EMBEDDING, actions).to(dtype)


def given(own: RSSM, seed: int = 0, tokens: int = TOKENS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings, actions and noise."""
    generator = torch.Generator().manual_seed(seed)
    like = own.of_latent.weight
    embedded = torch.randn(CLIPS, tokens, EMBEDDING, generator=generator, dtype=like.dtype)
    actions = torch.randn(CLIPS, tokens, own.actions, generator=generator, dtype=like.dtype)
    return embedded, actions, own.latent.noise((CLIPS, tokens), generator, like)


def pulled(way, own: RSSM, resets: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A random linear loss of all parts of a rollout, and all its gradients."""
    embedded, actions, noise = given(own)
    generator = torch.Generator().manual_seed(5)
    state = tuple(
        torch.randn(CLIPS, size, generator=generator, dtype=embedded.dtype).requires_grad_()
        for size in (own.config.deter, own.latent.size)
    )
    first = torch.rand(CLIPS, TOKENS, generator=generator) < 0.3 if resets else None
    inputs = [embedded.requires_grad_(), actions.requires_grad_()]
    made = way(*inputs, noise, first, state)
    parts = (made.h, made.z, made.posterior, made.prior)
    weights = [torch.randn(part.shape, generator=generator, dtype=part.dtype) for part in parts]
    loss = torch.stack([(part * weight).sum() for part, weight in zip(parts, weights, strict=True)]).sum()
    return loss, list(torch.autograd.grad(loss, [*inputs, *state, *own.parameters()]))


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("name", ["gru", "gaussian", "no mix"])
@pytest.mark.parametrize(("dtype", "close"), [(torch.double, 1e-10), (torch.float, 1e-5)])
def test_the_fast_loop_is_the_plain_one_in_value_and_all_gradients(name, dtype, close, resets):
    own = model(CONFIGS[name], dtype)
    fast, plain = pulled(own.observe, own, resets), pulled(own.plain, own, resets)
    torch.testing.assert_close(fast[0], plain[0], rtol=close, atol=close)
    for one, other in zip(fast[1], plain[1], strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one / scale, other / scale, rtol=close, atol=close)


def test_a_posterior_without_h_has_one_loop_with_the_plain_one():
    own = model(CONFIGS["posterior obs"])
    fast, plain = pulled(own.observe, own, False), pulled(own.plain, own, False)
    for one, other in zip([fast[0], *fast[1]], [plain[0], *plain[1]], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_products_of_sixteen_bits_cost_no_more_than_in_the_plain_loop():
    """Error of all gradients relative to float32, compared with that of automatic differentiation under
    autocast."""
    # A Gaussian state, because rounding may change the class of a categorical one.
    own = model(CONFIGS["gaussian"], torch.float)
    exact = pulled(own.observe, own, True)[1]
    apart = []
    for way in (own.observe, own.plain):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = pulled(way, own, True)[1]
        assert [one.dtype for one in near] == [one.dtype for one in exact]
        apart.append(torch.cat([(one - other).flatten() for one, other in zip(near, exact, strict=True)]).norm())
    assert 0 < float(apart[0]) <= 2 * float(apart[1])


@pytest.mark.parametrize("name", ["gru", "posterior obs"])
def test_a_reset_forgets_all_that_was_before(name):
    own = model(CONFIGS[name])
    embedded, actions, noise = given(own)
    first = torch.zeros(CLIPS, TOKENS, dtype=torch.bool)
    first[1, 3] = True
    made = own.observe(embedded, actions, noise, first)
    apart = own.observe(embedded[1:2, 3:], actions[1:2, 3:], noise[1:2, 3:])
    without = own.observe(embedded, actions, noise)
    for name in ("h", "z", "posterior", "prior"):
        torch.testing.assert_close(getattr(made, name)[1:2, 3:], getattr(apart, name))
        torch.testing.assert_close(getattr(made, name)[[0, 2]], getattr(without, name)[[0, 2]])
        torch.testing.assert_close(getattr(made, name)[1, :3], getattr(without, name)[1, :3])
    assert not torch.equal(made.h[1, 3], without.h[1, 3])


@pytest.mark.parametrize("name", CONFIGS)
def test_states_are_causal_and_the_prior_does_not_hear_its_token(name):
    own = model(CONFIGS[name])
    embedded, actions, noise = given(own)
    changed = embedded.clone()
    changed[:, 4] += 1
    one, other = own.observe(embedded, actions, noise), own.observe(changed, actions, noise)
    assert torch.equal(one.feature[:, :4], other.feature[:, :4])
    assert torch.equal(one.prior[:, :5], other.prior[:, :5]) and torch.equal(one.h[:, :5], other.h[:, :5])
    assert not torch.equal(one.posterior[:, 4], other.posterior[:, 4])
    acted = actions.clone()
    acted[:, 4] += 1
    third = own.observe(embedded, acted, noise)
    assert torch.equal(one.h[:, :4], third.h[:, :4]) and not torch.equal(one.h[:, 4], third.h[:, 4])


@pytest.mark.parametrize("name", CONFIGS)
def test_of_no_tokens_there_are_no_states(name):
    """Clips of codes may be shorter than a frame."""
    own = model(CONFIGS[name])
    embedded, actions, _ = given(own, tokens=0)
    made = own.observe(embedded, actions)
    assert made.feature.shape == (len(embedded), 0, own.config.deter + own.latent.size)
    assert made.prior.shape == made.posterior.shape == (len(embedded), 0, own.latent.parameters)


@pytest.mark.parametrize("name", CONFIGS)
def test_imagining_goes_on_as_hearing_would_if_the_posterior_were_the_prior(name):
    """With z drawn from the prior at every token, imagining and observing give the same states."""
    own = model(CONFIGS[name])
    embedded, actions, noise = given(own)
    past = own.observe(embedded[:, :3], actions[:, :3], noise[:, :3])
    made = own.imagine(past, actions[:, 3:], noise[:, 3:])
    z = torch.cat([past.z, made.z], 1)
    h = own.follow(z, actions, None, None)
    torch.testing.assert_close(h[:, 3:], made.h)
    torch.testing.assert_close(own.prior(h)[:, 3:], made.prior)
    torch.testing.assert_close(own.latent.draw(made.prior, noise[:, 3:]), made.z)


@pytest.mark.parametrize("name", ["gru", "gaussian", "transformer"])
def test_overshooting_is_imagining_from_every_token(name):
    own = model(CONFIGS[name])
    embedded, actions, noise = given(own)
    heard = own.observe(embedded, actions, noise)
    steps = 3
    generator = torch.Generator().manual_seed(9)
    further = own.latent.noise((CLIPS, TOKENS, steps), generator, embedded)
    found = own.overshoot(heard, steps, further, torch.arange(TOKENS))
    some = own.overshoot(heard, steps, further, torch.tensor([1, 3]))
    for k, raw in enumerate(found, 1):
        assert raw.shape[1] == TOKENS - k
        torch.testing.assert_close(some[k - 1], raw[:, [1, 3]])
        for token in range(TOKENS - k):
            # The last observed token is the one before; from here on z is drawn from the prior.
            if not token:
                continue
            past = Rollout(*(part[:, :token] for part in vars(heard).values()))
            made = own.imagine(past, actions[:, token : token + k + 1], with_last(further[:, token], k))
            torch.testing.assert_close(made.prior[:, k], raw[:, token])
    # What a transformer attends to may lie before the rollout.
    later = own.overshoot(heard.since(2), steps, further[:, 2:], torch.tensor([0, 1]), heard.until(2))
    for k, raw in enumerate(later):
        torch.testing.assert_close(raw, found[k][:, 2:4])


def with_last(noise: torch.Tensor, k: int) -> torch.Tensor:
    """Noise of k draws, and of one more that has no effect."""
    return torch.cat([noise[:, :k], noise[:, :1]], 1)


def test_a_draw_is_one_hot_and_its_gradient_that_of_the_probabilities():
    latent = Categorical(2, 3, 0.1)
    raw = torch.randn(4, 6, dtype=torch.double, requires_grad=True)
    weight = torch.randn(4, 6, dtype=torch.double)
    z = latent.draw(raw, torch.rand(4, 2))
    assert set(z.unique().tolist()) == {0.0, 1.0} and torch.equal(
        z.view(4, 2, 3).sum(-1), torch.ones(4, 2).double()
    )
    shares = 0.9 * raw.view(4, 2, 3).softmax(-1) + 0.1 / 3
    (through,) = torch.autograd.grad((z * weight).sum(), raw)
    (expected,) = torch.autograd.grad((shares.view(4, 6) * weight).sum(), raw)
    torch.testing.assert_close(through, expected)


def test_draws_have_the_probabilities_that_were_asked_for():
    """With an even grid from 0 to 1 as the noise, frequencies are exact up to one draw per class."""
    latent, count = Categorical(1, 4, 0.2), 1000
    raw = torch.tensor([1.0, -2.0, 0.3, 0.0]).double()
    grid = (torch.arange(count).double() + 0.5) / count
    drawn = latent.draw(raw.expand(count, 4), grid[:, None]).mean(0)
    expected = 0.8 * raw.softmax(0) + 0.05
    assert float((drawn - expected).abs().max()) <= 1 / count
    assert float(expected.min()) >= 0.05
    cold = latent.draw(raw.expand(count, 4), grid[:, None], 0.5).mean(0)
    assert float((cold - expected**2 / (expected**2).sum()).abs().max()) <= 1 / count
    # Due to rounding, the sum of all probabilities may be less than the noise.
    assert int(latent.chosen(raw.softmax(0)[None, None], torch.ones(1, 1).double())) == 3


def test_a_density_at_a_temperature_is_its_power():
    raw, noise = torch.randn(6, dtype=torch.double), torch.randn(3, dtype=torch.double)
    mean, spread = Gaussian(3).moments(raw)
    torch.testing.assert_close(Gaussian(3).draw(raw, noise, 0.25), mean + 0.5 * spread * noise)


def test_divergences_and_entropies_are_those_of_torch():
    one, other = torch.randn(2, 5, 6, dtype=torch.double)
    latent = Categorical(2, 3, 0.1)
    own, its = (TorchCategorical(0.9 * raw.view(5, 2, 3).softmax(-1) + 0.1 / 3) for raw in (one, other))
    torch.testing.assert_close(latent.divergence(one, other), kl_divergence(own, its).sum(-1))
    torch.testing.assert_close(latent.entropy(one), own.entropy().sum(-1))
    gaussian = Gaussian(3)
    own, its = (Normal(raw[:, :3], torch.nn.functional.softplus(raw[:, 3:]) + NARROWEST) for raw in (one, other))
    torch.testing.assert_close(gaussian.divergence(one, other), kl_divergence(own, its).sum(-1))
    torch.testing.assert_close(gaussian.entropy(one), own.entropy().sum(-1))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dynamics": "transformer"}, "give posterior obs"),
        ({"dynamics": "transformer", "posterior": "obs", "heads": 4}, "deter=6 is not a multiple of heads=4"),
        ({"variables": 2**14, "classes": 3}, "classes=3: give at most 1"),
    ],
)
def test_what_cannot_be_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        replace(TINY, **changed)


def test_a_transformer_has_no_resets():
    own = model(TRANSFORMER)
    with pytest.raises(ValueError, match="give each sequence its own row"):
        own.observe(*given(own), torch.zeros(CLIPS, TOKENS, dtype=torch.bool))
