"""Autoregressive models: the density of a token given those before it, causality, training and forecasts."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from contracts.small import autoregressive as smaller
from stub_engine import StubEngine
from torch import distributions

from sonarium.features.tokens import CodeTokens, TokensConfig
from sonarium.models.autoregressive import NARROWEST, PRESETS, Autoregressive, AutoregressiveConfig
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.worlds.contract import Batch, Signal

TOKENS, CLIPS = 12, 5
NUMBERS = Signal("codes", (TOKENS, 6), frame_rate=25.0)
NETWORKS = ("default", "transformer")


def config(preset: str = "default", **changed: Any) -> AutoregressiveConfig:
    return replace(smaller(PRESETS[preset]("codes")), **changed)


def codes(seed: int = 0, clips: int = CLIPS) -> torch.Tensor:
    return torch.randn(clips, TOKENS, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def batch(signal: torch.Tensor, lengths: list[int] | None = None) -> Batch:
    own = None if lengths is None else torch.tensor(lengths)
    return Batch(torch.arange(len(signal)), signal, torch.zeros(len(signal), 1).double(), lengths=own)


def learner(own: AutoregressiveConfig, signal: torch.Tensor | None = None) -> Autoregressive:
    torch.manual_seed(0)
    made = Autoregressive(own, NUMBERS).double()
    made.front.fit_batches([batch(codes() if signal is None else signal)])
    return made


def entries(seed: int = 0, clips: int = CLIPS) -> torch.Tensor:
    """Codes of two slots, each one of three vectors."""
    generator = torch.Generator().manual_seed(seed)
    books = torch.tensor([[0.0, 1, 2], [5, 3, 1], [2, 2, 9]], dtype=torch.double)
    return books[torch.randint(3, (clips, TOKENS, 2), generator=generator)].flatten(2)


def of_entries(preset: str = "default", **changed: Any) -> Autoregressive:
    own = config(preset, front=TokensConfig(slots=2, entries=4), **changed)
    return learner(own, entries())


@pytest.mark.parametrize("preset", NETWORKS)
def test_the_density_is_a_mixture_of_gaussians(preset):
    own, signal = learner(config(preset)), codes(1)
    likely, told = own.expected(signal, None)
    weights, rest = told.split([2, told.shape[-1] - 2], -1)
    means, spreads = rest.unflatten(-1, (2, 12)).split(6, -1)
    normal = distributions.Independent(
        distributions.Normal(means, torch.nn.functional.softplus(spreads) + NARROWEST), 1
    )
    mixture = distributions.MixtureSameFamily(distributions.Categorical(logits=weights), normal)
    torch.testing.assert_close(likely[:, 1:], mixture.log_prob(own.tokens(signal)[:, 1:]))


def test_of_entries_it_is_categorical_in_each_slot():
    own, signal = of_entries(), entries(1)
    likely, told = own.expected(signal, None)
    chosen = own.tokens(signal).unflatten(-1, (2, 4)).argmax(-1)
    each = distributions.Categorical(logits=told.unflatten(-1, (2, 4)))
    torch.testing.assert_close(likely[:, 1:], each.log_prob(chosen[:, 1:]).sum(-1))
    torch.testing.assert_close(own.classes(own.states(signal)), chosen)
    torch.testing.assert_close(own.expectations(signal)["prior"][:, 1:], each.entropy().sum(-1))


@pytest.mark.parametrize("preset", NETWORKS)
def test_nothing_hears_what_comes_later(preset):
    own, signal = learner(config(preset)), codes(1)
    other = signal.clone()
    other[:, 7:] = codes(2)[:, 7:]
    torch.testing.assert_close(own.encode(signal)[:, :7], own.encode(other)[:, :7])
    one, two = (own.surprise(some, some[0])["nll"] for some in (signal, other))
    torch.testing.assert_close(one[:, :7], two[:, :7])
    assert not torch.isclose(one[:, 7:], two[:, 7:]).any()


@pytest.mark.parametrize("padded", [False, True])
def test_the_loss_is_that_of_the_tokens_after_the_burn_in(padded):
    own, signal = learner(config(burn_in=3)), codes(1)
    counts = [12, 7, 3, 4, 9] if padded else [TOKENS] * CLIPS
    likely = own.expected(signal, None)[0]
    every = torch.cat([row[3:count] for row, count in zip(likely, counts, strict=True)])
    found = own.update(batch(signal, counts if padded else None), StubEngine(0))
    torch.testing.assert_close(found["loss/negative_log_likelihood"], -every.mean())


@pytest.mark.parametrize("slots", [False, True])
@pytest.mark.parametrize("preset", NETWORKS)
@pytest.mark.parametrize("layers", [1, 2])
def test_forecasts_are_what_would_be_read_of_them(preset, slots, layers):
    """States and log-probabilities of a future are those from reading past and future as one sequence."""
    own = of_entries(preset, layers=layers) if slots else learner(config(preset, layers=layers))
    signal = entries(3) if slots else codes(3)
    states = own.states(signal)
    made = own.go_on(states, 4, 3, torch.Generator().manual_seed(1))
    futures = made.codes[..., own.size :]
    for future, coded, likely in zip(futures, made.codes, made.log_probability, strict=True):
        whole = torch.cat([own.tokens(signal), future], 1)
        unknown = whole.new_zeros(CLIPS, TOKENS + 4, 0)
        h = own.read(whole, unknown)
        torch.testing.assert_close(coded[..., : own.size], h[:, TOKENS:])
        told = own.told(h[:, TOKENS - 1 : -1], unknown[:, TOKENS:])
        torch.testing.assert_close(likely, own.log_probability(told, future))
    assert not torch.equal(futures[0], futures[1])


@pytest.mark.parametrize("preset", NETWORKS)
def test_a_single_token_surprises_nobody(preset):
    own, other = of_entries(preset), learner(config(preset))
    assert torch.equal(other.surprise(codes()[:, :1], codes()[0])["nll"], torch.zeros(CLIPS, 1))
    assert not own.expectations(entries()[:, :1])["log prior"].any()
    assert own.encode(entries()[:, :0]).shape == (CLIPS, 0, own.state_width)


def test_the_next_token_depends_on_the_action_that_it_is_made_with():
    own = config(actions=("elapsed",), action_dropout=0.0)
    torch.manual_seed(0)
    made = Autoregressive(own, NUMBERS).double()
    made.front.fit_batches([batch(codes())])
    signal, actions = codes(1), torch.randn(CLIPS, TOKENS, made.actions.width, dtype=torch.double)
    changed = actions.clone()
    changed[:, 6] += 1
    one, two = (made.surprise(signal, signal[0], actions=acts)["nll"] for acts in (actions, changed))
    same = torch.isclose(one, two).all(0)
    assert same[:6].all() and not same[6:].any()
    # A state depends on the actions up to its token.
    same = torch.isclose(made.states(signal, actions=actions), made.states(signal, actions=changed)).all(0).all(1)
    assert same[:6].all() and not same[6]


@pytest.mark.parametrize("preset", NETWORKS)
def test_a_planted_chain_is_learnt_to_its_entropy(preset):
    """Entry i is followed by i + 1 with probability .9, else by i + 2: .325 nats a token, the first uniform."""
    generator = torch.Generator().manual_seed(0)
    steps = 1 + (torch.rand(256, TOKENS, generator=generator) < 0.1).long()
    chain = (torch.randint(3, (256, 1), generator=generator) + steps.cumsum(1)) % 3
    signal = torch.eye(3, dtype=torch.double)[chain]
    torch.manual_seed(0)
    own = config(preset, front=TokensConfig(slots=1, entries=3), adam=AdamConfig(learning_rate=0.03))
    own = replace(own, schedule=ScheduleConfig())
    made = Autoregressive(own, Signal("codes", (TOKENS, 3), frame_rate=25.0)).double()
    made.front.fit_batches([batch(signal)])
    engine = StubEngine(0)
    for _ in range(120):
        made.update(batch(signal), engine)
    nats = made.surprise(signal, signal[0])["nll"][:, 1:].mean()
    assert abs(float(nats) - 0.325) < 0.03, nats
    # Sampled futures follow the planted chain, too.
    drawn = made.go_on(made.states(signal), 8, 4, torch.Generator().manual_seed(0)).codes.flatten(0, 1)
    assert isinstance(made.front, CodeTokens)
    future = made.front.codes(made.decode(drawn)).argmax(-1)
    share = float(((future[:, 1:] - future[:, :-1]) % 3 == 1).double().mean())
    assert abs(share - 0.9) < 0.02, share


def test_decoding_gives_the_tokens_back():
    own, signal = learner(config()), codes(1)
    torch.testing.assert_close(own.decode(own.states(signal)), own.features(batch(signal)))
    with pytest.raises(ValueError, match=r"codes of 3 numbers are no states: give those of code feature, 14"):
        own.decode(torch.zeros(1, 2, 3).double())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network": "transformer", "units": 9}, "units=9"),
        ({"burn_in": 0}, "burn_in"),
    ],
)
def test_impossible_settings_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        config(**changed)
