"""Autoencoders: padding, front ends, presets, refusals. The contract of all learners is in test_learners.py."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from stub_engine import StubEngine

from sonarium.catalogue import MODELS
from sonarium.features.spectrogram import SpectrogramConfig
from sonarium.features.waveform import sounding
from sonarium.models.blocks import mean_squared_error, own_frames
from sonarium.models.contract import Density
from sonarium.models.penalties import (
    AnnealedConfig,
    BetaConfig,
    DipConfig,
    FactorConfig,
    TotalCorrelationConfig,
)
from sonarium.models.vae import VAE, VAEConfig
from sonarium.worlds.contract import Batch, SignalKind, World
from sonarium.worlds.digits import Digits, DigitsConfig
from sonarium.worlds.tones.world import Tones, TonesConfig

WORLDS = {
    "wave": Tones(TonesConfig(frequencies=6, amplitudes=3, seconds=0.2), 0),
    "picture": Digits(DigitsConfig(), 0),
}
CLIPS = torch.arange(24)
AUTOENCODERS = [name for name, target in MODELS.built_in.items() if "autoencoders:" in target]


def made(name: str, preset: str, kind: SignalKind) -> tuple[Any, World]:
    world: World = WORLDS[kind]
    torch.manual_seed(0)
    learner: Any = MODELS[name].build(MODELS[name].presets[preset](kind), world.signal)
    learner.front.fit([world.whole(CLIPS).signal])
    return learner, world


@pytest.mark.parametrize("name", ["beta-vae", "vq-vae"])
def test_training_lowers_the_error(name):
    learner, world = made(name, "default", "picture")
    batch, engine = world.whole(torch.arange(128)), StubEngine()
    first = learner.update(batch, engine)["loss/error"]
    for _ in range(60):
        last = learner.update(batch, engine)["loss/error"]
    assert last < 0.7 * first


def of_unlike_lengths() -> Batch:
    """Clips of different lengths, padded with silence to that of the first."""
    batch = WORLDS["wave"].whole(CLIPS)
    samples = batch.signal.shape[1]
    lengths = (samples - 97 * CLIPS).clamp(min=1)
    return dataclasses.replace(batch, signal=batch.signal * sounding(samples, lengths), lengths=lengths)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_what_is_made_of_padding_does_not_count(name):
    told = []
    for amiss in (0.0, 50.0):
        learner, _ = made(name, "default", "wave")
        batch, engine = of_unlike_lengths(), StubEngine()
        own = own_frames(learner.front, batch.lengths, learner.features(batch).shape[-1])
        assert own is not None and own[0].all() and not own[1:, ..., -1].any()
        learner.decoder.register_forward_hook(lambda *made, own=own, amiss=amiss: made[2] + amiss * ~own)
        terms = [learner.update(batch, engine) for _ in range(2)]
        if can_bound := isinstance(learner, Density):
            terms.append({"weights": learner.log_weights(batch, 3, engine.generator)})
        told.append(terms)
    assert can_bound == (name != "vq-vae")
    for one, two in zip(*told, strict=True):
        for term in one:
            torch.testing.assert_close(one[term], two[term], msg=term)


def test_the_error_of_a_clip_is_that_of_the_frames_it_has_alone():
    learner, _ = made("vae", "default", "wave")
    batch = of_unlike_lengths()
    assert batch.lengths is not None
    features = learner.features(batch)
    raw = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    own = own_frames(learner.front, batch.lengths, features.shape[-1])
    found, squares = learner.log_likelihood(raw, features, own), []
    for clip, length in enumerate(batch.lengths.tolist()[:20]):
        alone = learner.front(batch.signal[clip : clip + 1, :length])[0]
        cells = raw[clip, ..., : alone.shape[-1]]
        expected = torch.distributions.Normal(cells, learner.config.noise).log_prob(alone).sum()
        torch.testing.assert_close(found[clip], expected, rtol=1e-4, atol=1e-2)
        squares.append((cells - alone).square().flatten())
    error = mean_squared_error(raw[:20], features[:20], None if own is None else own[:20], StubEngine())
    torch.testing.assert_close(error, torch.cat(squares).mean(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["vae", "vq-vae"])
def test_clips_that_fill_their_length_are_as_if_they_had_none(name):
    (learner, world), (other, _) = made(name, "default", "wave"), made(name, "default", "wave")
    batch = world.whole(CLIPS)
    whole = dataclasses.replace(batch, lengths=torch.full((len(CLIPS),), batch.signal.shape[1]))
    one, two = learner.update(batch, StubEngine()), other.update(whole, StubEngine())
    for term in one:
        torch.testing.assert_close(one[term], two[term])


def test_the_sample_that_is_priced_is_the_sample_that_is_decoded():
    learner, world = made("factor-vae", "default", "wave")
    assert isinstance(learner, VAE)
    priced, decoded, taught = [], [], []
    learner.penalty.register_forward_pre_hook(lambda module, given: priced.append(given[1]))
    learner.decoder.register_forward_pre_hook(lambda module, given: decoded.append(given[0]))
    learn = learner.penalty.learn
    learner.penalty.learn = lambda sample, engine: taught.append(sample) or learn(sample, engine)
    learner.update(world.whole(CLIPS), StubEngine())
    assert torch.equal(priced[0], decoded[0])
    assert torch.equal(priced[0], taught[0])
    assert not taught[0].requires_grad


def test_presets_are_the_networks_they_are_named_for():
    world = Tones(TonesConfig(frequencies=4, amplitudes=2), 0)
    syntone = VAE(MODELS["vae"].presets["syntone"]("wave"), world.signal)
    # Counted by hand: 3 convolutions, 4096-128-64-2×8, 8-64-128-4096, 3 transposed convolutions.
    encoder = 160 + 4640 + 18496 + (4096 * 128 + 128) + (128 * 64 + 64) + 2 * (64 * 8 + 8)
    decoder = (8 * 64 + 64) + (64 * 128 + 128) + (128 * 4096 + 4096) + 18464 + 4624 + 145
    assert sum(p.numel() for p in syntone.encoder.parameters()) == encoder
    assert sum(p.numel() for p in syntone.decoder.parameters()) == decoder
    assert tuple(syntone.front(world.whole(CLIPS[:2]).signal).shape) == (2, 1, 128, 32)
    mnist = MODELS["vae"].presets["mnist"]("picture")
    pictures = dataclasses.replace(WORLDS["picture"].signal, shape=(28, 28))
    network = VAE(mnist, pictures)
    assert sum(p.numel() for p in network.parameters()) == 1_189_984 == parameters_by_hand()


def parameters_by_hand() -> int:
    encoder = (784 * 400 + 400) + (400 * 400 + 400) + 2 * (400 * 200 + 200)
    return encoder + (200 * 400 + 400) + (400 * 400 + 400) + (400 * 784 + 784)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VAEConfig(latent=0), "latent=0: give a whole number from 1"),
        (lambda: VAEConfig(latent=10**6), "latent=1000000: give a whole number from 1 to 16384"),
        (lambda: VAEConfig(noise=0.0), "noise=0.0: give a positive number"),
        (lambda: VAEConfig(noise=math.nan), "noise=nan"),
        (lambda: VAEConfig(learning_rate=math.nan), "learning_rate=nan: give a positive number, such as 0.001"),
        (lambda: VAEConfig(learning_rate=math.inf), "learning_rate=inf"),
        (lambda: VAEConfig(learning_rate=-1.0), "learning_rate=-1.0"),
        (lambda: BetaConfig(-1.0), "beta=-1.0: give a number of at least 0"),
        (lambda: AnnealedConfig(capacity=math.inf), "capacity=inf"),
        (lambda: AnnealedConfig(capacity_steps=0), "capacity_steps=0: give a whole number of at least 1"),
        (lambda: TotalCorrelationConfig(total_correlation=math.nan), "total_correlation=nan"),
        (lambda: DipConfig(off_diagonal=-math.inf), "off_diagonal=-inf"),
        (lambda: FactorConfig(discriminator_rate=math.nan), "discriminator_rate=nan"),
        (lambda: FactorConfig(units=0), "units=0"),
    ],
)
def test_impossible_configurations_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_locating_network_needs_a_code_for_the_place_and_one_for_the_rest():
    config = dataclasses.replace(MODELS["vae"].presets["default"]("wave"), latent=1)
    with pytest.raises(ValueError, match="use 2 or more"):
        VAE(config, WORLDS["wave"].signal)


def changes(decoder: Any, code: int) -> tuple[bool, bool]:
    """Whether the bands and the level rows that an untrained decoder outputs depend on a code."""
    codes = torch.randn(2, 10, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    codes[2:, code] += 1
    rows = decoder(codes)
    before, after = rows[:2], rows[2:]
    bands = after.shape[2] - decoder.below
    return bool((before != after)[:, :, :bands].any()), bool((before != after)[:, :, bands:].any())


@pytest.mark.parametrize(("rows", "drawn"), [(16, {0: (1, 0), 1: (0, 1), 2: (1, 0)}), (0, {0: (1, 0), 1: (1, 0)})])
def test_before_training_position_level_and_shape_have_a_code_each(rows, drawn):
    """Initial weights assign each to one code, for any seed; only these codes have narrow posteriors."""
    config = MODELS["vae"].presets["default"]("wave")
    config = dataclasses.replace(config, front=dataclasses.replace(config.front, level_rows=rows))
    torch.manual_seed(1)
    learner = VAE(config, WORLDS["wave"].signal)
    learner.front.fit([WORLDS["wave"].whole(CLIPS).signal])
    found = {code: changes(learner.decoder, code) for code in range(10)}
    assert found == {code: tuple(map(bool, drawn.get(code, (0, 0)))) for code in range(10)}
    variance = learner.posterior(learner.features(WORLDS["wave"].whole(CLIPS))).log_variance.mean(0)
    assert ((variance < -3).nonzero().flatten().tolist()) == list(drawn) and (variance[len(drawn) :] > -1).all()


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_front_end_that_no_clip_fills_is_refused_when_the_learner_is_made(name):
    config = MODELS[name].presets["default"]("wave")
    with pytest.raises(ValueError, match="clips of 3200 samples are shorter than the window of 4096"):
        MODELS[name].build(dataclasses.replace(config, front=SpectrogramConfig(4096)), WORLDS["wave"].signal)


def test_a_front_end_of_the_wrong_kind_is_refused():
    with pytest.raises(ValueError, match="choose a front end of pixels"):
        VAE(VAEConfig(), WORLDS["picture"].signal)
    with pytest.raises(ValueError, match="choose a spectrogram front end"):
        VAE(MODELS["vae"].presets["default"]("picture"), WORLDS["wave"].signal)
