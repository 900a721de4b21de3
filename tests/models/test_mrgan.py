"""Mode-regularised GAN: every layer and every loss of the reference, which networks each step updates, codes and
sound of whole songs."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from several_ranks import on_ranks
from sklearn.decomposition import PCA
from stub_engine import StubEngine
from torch import nn

from sonarium.catalogue import MODELS
from sonarium.features.spectrogram import SNIPPETS
from sonarium.models.mrgan import MRGAN, MRGANConfig, distances
from sonarium.models.optim import ScheduleConfig
from sonarium.models.snippet_networks import (
    Discriminator,
    Generator,
    Residual,
    SnippetEncoder,
    principal_components,
)
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.worlds.contract import Batch, Signal, World

RATE = 16_000
SIGNAL = Signal("wave", (1216,), RATE)
SMALL = MRGANConfig(ngf=2, ndf=2, latent=4)
SIX_STEPS = [{"reconstruction"}, {"encoder", "generator"}, {"sample"}, {"generator"}, {"monitor"}]
"""Networks that each step updates; the fourth of the six steps only exists with a code weight."""


def learner(config: MRGANConfig = SMALL, seed: int = 0, signal: Signal = SIGNAL) -> MRGAN:
    torch.manual_seed(seed)
    return MRGAN(config, signal)


def sounds(clips: int, samples: int = 1216, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(seed))


def batch(clips: int = 4, samples: int = 1216, seed: int = 0) -> Batch:
    return Batch(torch.arange(clips), sounds(clips, samples, seed), torch.zeros(clips, 0))


class Watching(StubEngine):
    """Engine that records for each step which networks have a gradient, and which it updates."""

    def __init__(self, model: MRGAN):
        super().__init__()
        self.model, self.given, self.moved = model, [], []
        self.gradients: list[dict[str, torch.Tensor]] = []

    def networks(self) -> dict[str, nn.Module]:
        return {"encoder": self.model.encoder, "generator": self.model.generator, **self.model.discriminators}

    def descend(self, loss, optimiser, clip=None):
        before = {name: copy.deepcopy(one.state_dict()) for name, one in self.networks().items()}
        super().descend(loss, optimiser)
        own = {weight for group in optimiser.param_groups for weight in group["params"]}
        self.given.append(
            {
                name
                for name, one in self.networks().items()
                if any(weight in own and weight.grad is not None for weight in one.parameters())
            }
        )
        self.moved.append(
            {
                name
                for name, one in self.networks().items()
                if any(not torch.equal(before[name][key], value) for key, value in one.state_dict().items())
            }
        )
        self.gradients.append(
            {
                name: weight.grad.clone()
                for name, weight in self.model.named_parameters()
                if weight.grad is not None
            }
        )


REFERENCE = {
    "encoder": [(16, 63, 8), (32, 31, 5), (64, 8, 4), (128, 3, 3), (32, 1, 1)],
    "generator": [(128, 3, 3), (64, 8, 4), (32, 31, 5), (16, 63, 8), (1, 129, 16)],
    "discriminator": [(16, 64, 8), (32, 32, 6), (64, 17, 4), (128, 6, 3), (1, 1, 1)],
}
KERNELS = {
    "encoder": [(5, 4), (5, 4), (5, 4), (4, 4), (3, 3)],
    "generator": [(3, 3), (4, 4), (5, 4), (5, 4), (5, 4)],
    "discriminator": [(4, 4), (4, 3), (4, 3), (8, 4), (6, 3)],
}


@pytest.mark.parametrize("name", REFERENCE)
def test_every_layer_has_the_shape_of_the_reference(name):
    made: Any
    if name == "discriminator":
        made, given = Discriminator(16, "layer", False, (129, 16)), (torch.zeros(2, 1, 129, 16), 0)
    else:
        network = {"encoder": SnippetEncoder, "generator": Generator}[name]
        made = network(32, 16, "layer", False, (129, 16))
        given = (torch.zeros(2, 1, 129, 16) if name == "encoder" else torch.zeros(2, 32), 0)
    seen = []
    for convolution in made.stack.convolutions:
        convolution.register_forward_hook(lambda *found: seen.append(tuple(found[2].shape[1:])))
    out = made(*given)
    assert seen == REFERENCE[name]
    assert [one.kernel_size for one in made.stack.convolutions] == KERNELS[name]
    norms = [one for one in made.modules() if isinstance(one, nn.LayerNorm)]
    assert [one.normalized_shape for one in norms] == REFERENCE[name][:-1]
    has_bias = [one.bias is not None for one in made.stack.convolutions]
    assert has_bias == [False] * 4 + [name == "generator"]
    assert out.shape == {"encoder": (2, 32), "generator": (2, 1, 129, 16), "discriminator": (2,)}[name]
    weights = torch.cat([one.weight.flatten() for one in made.stack.convolutions])
    assert weights.mean().abs() < 3e-4 and (weights.std() - 0.02).abs() < 3e-4


def test_an_encoder_ends_in_two_linear_layers_and_a_generator_in_a_softplus():
    encoder, generator = (
        SnippetEncoder(32, 2, "layer", False, (129, 16)),
        Generator(8, 2, "layer", False, (129, 16)),
    )
    assert [tuple(one.weight.shape) for one in encoder.head if isinstance(one, nn.Linear)] == [(64, 32), (32, 64)]
    codes = torch.randn(3, 8)
    raw = generator.stack(codes[:, :, None, None], 0).detach().double().numpy()
    np.testing.assert_allclose(generator(codes).detach().numpy(), np.log1p(np.exp(raw)), rtol=1e-5)


@settings(deadline=None, max_examples=20)
@given(
    fft=st.sampled_from([32, 64, 128, 256, 512]),
    frames=st.integers(1, 40),
    residual=st.booleans(),
    kind=st.sampled_from(["layer", "batch", "selu", "spectral"]),
)
def test_a_generator_makes_snippets_of_any_size_that_an_encoder_takes(fft, frames, residual, kind):
    size = (fft // 2 + 1, frames)
    encoder, generator = (network(3, 1, kind, residual, size) for network in (SnippetEncoder, Generator))
    made = generator(encoder(torch.rand(2, 1, *size)))
    assert made.shape == (2, 1, *size) and (made > 0).all()
    assert Discriminator(1, kind, residual, size)(made, 0).shape == (2,)


@pytest.mark.parametrize("snippets", [30, 8, 3])
def test_principal_components_are_those_of_scikit_learn(snippets):
    """With more snippets than dimensions, with fewer, and with fewer than components."""
    rng = np.random.default_rng(snippets)
    known = 1e-3 * rng.normal(size=(snippets, 12)) @ rng.normal(size=(12, 12)) + 5
    found = principal_components(torch.from_numpy(known), 4)
    assert found.axes.shape == (12, 4) and found.deviations.shape == (4,)
    peer = PCA(min(4, snippets - 1)).fit(known)
    there = found.deviations > 0
    assert int(there.sum()) == peer.n_components_
    np.testing.assert_allclose(
        sorted(found.deviations[there].tolist()), sorted(peer.explained_variance_**0.5), rtol=1e-6
    )
    made = (torch.from_numpy(known) - found.mean) @ found.axes @ found.axes.T + found.mean
    np.testing.assert_allclose(made, peer.inverse_transform(peer.transform(known)), atol=1e-9)
    assert not found.axes[:, ~there].any()


@pytest.mark.parametrize("network", ["convolutional", "dense"])
def test_linear_layers_begin_as_principal_components_of_the_training_clips(network):
    world, config = Noises(), replace(SMALL, network=network, linear=True, latent=6)
    model, engine, index = learner(config), StubEngine(), torch.arange(20)
    model.prepare(Clips(world, index, ClipsConfig(batch_size=4, cut="whole"), 0), engine)
    real = model.front(world.whole(index).signal)
    known = real.flatten(1).numpy()
    peer = PCA(6, svd_solver="full").fit(known)
    with torch.no_grad():
        codes = model.encoder(real)
        made = model.generator(codes)
    torch.testing.assert_close(codes.std(0), torch.ones(6), rtol=1e-3, atol=0)
    plain = torch.from_numpy(peer.inverse_transform(peer.transform(known))).view_as(made)
    sharpness = 2 / float(real.mean())
    wanted = torch.nn.functional.softplus(sharpness * plain) / sharpness
    torch.testing.assert_close(made, wanted.float(), rtol=1e-3, atol=1e-5)
    for _ in range(3):
        terms = model.update(batch_of(real), engine)
    assert all(value.isfinite() for value in terms.values())
    moved = [weight for name, weight in model.named_parameters() if "network" in name and weight.grad is not None]
    assert moved and all(weight.grad.any() for weight in moved if weight.grad is not None)


def test_of_many_clips_components_are_found_in_some(monkeypatch):
    monkeypatch.setattr("sonarium.models.mrgan.EXAMPLES", 3)
    monkeypatch.setattr("sonarium.training.clips.BLOCK", 4)
    world, model = Noises(), learner(replace(SMALL, linear=True))
    found = model.examples(Clips(world, torch.arange(20), ClipsConfig(cut="whole"), 0), StubEngine())
    every = model.front(world.whole(torch.arange(20)).signal).flatten(1)
    places = [int((every - row).abs().sum(1).argmin()) for row in found]
    assert 3 <= len(places) <= 6 and len(set(np.diff(places))) == 1


def batch_of(features: torch.Tensor) -> Batch:
    clips = len(features)
    return Batch(torch.arange(clips), torch.empty(clips, 0), torch.zeros(clips, 0), features=features)


class Noises(World):
    """Clips of noise, as long as a snippet."""

    name, signal, factors = "noises", SIGNAL, ()

    def __len__(self) -> int:
        return 20

    def whole(self, index, device="cpu"):
        return Batch(index, sounds(20)[index], torch.zeros(len(index), 0))


def test_each_step_moves_its_own_networks_alone():
    """The gradient of the prior's samples, which the original lost, reaches the generator and no discriminator."""
    model = learner()
    engine = Watching(model)
    model.update(batch(), engine)
    assert engine.given == engine.moved == SIX_STEPS
    fifth = {name: grad for name, grad in engine.gradients[3].items() if name.startswith("generator")}
    assert fifth and all(grad.abs().sum() > 0 for grad in fifth.values())
    regularised = learner(replace(SMALL, code_weight=1.0))
    engine = Watching(regularised)
    regularised.update(batch(), engine)
    assert engine.moved == [*SIX_STEPS[:3], {"encoder", "generator"}, *SIX_STEPS[3:]]


def test_gradients_are_those_of_the_equations(monkeypatch):
    """Each step against its equation with sigmoids and logarithms, at the weights before that step."""
    config = replace(SMALL, flips=0.0, code_weight=0.5)
    model, fixed = learner(config).double(), torch.randn(4, 4, dtype=torch.double)
    monkeypatch.setattr(model, "drawn", lambda clips, generator: fixed)
    real = torch.rand(4, 1, 129, 16, dtype=torch.double)
    expected: list[dict[str, torch.Tensor]] = []
    kept: list[torch.Tensor] = []

    def log(probability: torch.Tensor) -> torch.Tensor:
        return probability.log().mean()

    def pooled(x: torch.Tensor) -> torch.Tensor:
        # Windows of 3 × 3 at every fourth row and frame.
        windows = x.unfold(2, 3, 4).unfold(3, 3, 4)
        return windows.mean((-1, -2))

    def losses(at: int) -> tuple[torch.Tensor, tuple[str, ...]]:
        E, G = model.encoder, model.generator
        told = {
            name: lambda x, what, one=one: one(x, what).sigmoid() for name, one in model.discriminators.items()
        }
        D1, D2, D3 = told["reconstruction"], told["sample"], told["monitor"]
        # The input of the monitor is the samples that the generator was just trained on.
        made, false = G(E(real)), G(fixed) if at < 5 else kept[-1]
        kept.append(false)
        both = ("encoder", "generator")
        return [
            (-log(D1(real, 0)) - log(1 - D1(made.detach(), 1)), ("discriminators.reconstruction",)),
            (
                -log(D1(made, 1))
                + 100 * ((made - real).abs().mean() + (pooled(made) - pooled(real)).abs().mean()),
                both,
            ),
            (-log(D2(made.detach(), 0)) - log(1 - D2(false.detach(), 1)), ("discriminators.sample",)),
            (0.5 * (E(false) - fixed).abs().mean(), both),
            (-log(D2(false, 1)), ("generator",)),
            (-log(D3(real, 0)) - log(1 - D3(false.detach(), 1)), ("discriminators.monitor",)),
        ][at]

    class Comparing(Watching):
        def descend(self, loss, optimiser, clip=None):
            wanted, networks = losses(len(self.given))
            torch.testing.assert_close(loss, wanted)
            own = {name: weight for name, weight in model.named_parameters() if name.startswith(networks)}
            for weight in own.values():
                weight.requires_grad_(True)
            found = torch.autograd.grad(wanted, list(own.values()), allow_unused=True)
            expected.append({name: grad for name, grad in zip(own, found, strict=True) if grad is not None})
            super().descend(loss, optimiser)

    engine = Comparing(model)
    given = Batch(torch.arange(4), torch.empty(4, 0), torch.zeros(4, 0), features=real)
    model.update(given, engine)
    assert len(expected) == 6
    for made, wanted in zip(engine.gradients, expected, strict=True):
        assert wanted
        for name, gradient in wanted.items():
            torch.testing.assert_close(made[name], gradient, rtol=1e-6, atol=1e-12)


def test_reconstruction_losses_in_closed_form():
    made, real = torch.full((2, 1, 129, 16), 0.5), torch.zeros(2, 1, 129, 16)
    assert [one.item() for one in distances(made, real)] == pytest.approx([0.5, 0.5])
    # One of the nine bins of the second pooling window, of 32 × 4 windows; then a bin in no window.
    made = torch.zeros(1, 1, 129, 16)
    made[0, 0, 5, 0] = -9.0
    error, pooled = distances(made, torch.zeros_like(made))
    assert error.item() == pytest.approx(9 / (129 * 16)) and pooled.item() == pytest.approx(1 / (32 * 4))
    made = torch.zeros(1, 1, 129, 16)
    made[0, 0, 3, 0] = 1.0
    assert distances(made, torch.zeros_like(made))[1] == 0


def test_a_tenth_of_the_labels_is_wrong_one_by_one():
    """Labels are flipped independently, not by whole batches."""
    engine, model = StubEngine(1), learner()
    drawn = torch.stack([model.labels(500, 1.0, engine) for _ in range(40)])
    wrong = 1 - drawn.mean(1)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    # Five standard errors of 20,000 labels, and of 500.
    assert abs(float(wrong.mean()) - 0.1) < 0.011 and float(wrong.min()) > 0.03 and float(wrong.max()) < 0.17
    assert (model.labels(2000, 0.0, engine).mean() - 0.1).abs() < 0.034
    assert not learner(replace(SMALL, flips=0.0)).labels(50, 0.0, engine).any()


def test_there_are_two_optimisers_of_all_weights():
    model = learner()
    parts: dict[str, Any] = model.parts()
    assert parts.keys() == {"autoencoder", "discriminators"}
    held = [{weight for group in one.param_groups for weight in group["params"]} for one in parts.values()]
    assert held[0] == {*model.encoder.parameters(), *model.generator.parameters()}
    assert held[1] == set(model.discriminators.parameters())
    assert all(one.defaults["lr"] == 2e-4 and one.defaults["betas"] == (0.5, 0.999) for one in parts.values())


class Silence(World):
    name, signal, factors = "silence", SIGNAL, ()

    def __len__(self) -> int:
        return 1

    def whole(self, index, device="cpu"):
        return Batch(index, torch.zeros(len(index), 1216), torch.zeros(len(index), 0))


def test_a_cosine_schedule_ends_with_the_training():
    config = replace(SMALL, schedule=ScheduleConfig("cosine"))
    ending = MODELS["mrgan"].complete(config, Silence(), 4)
    model, engine, rates = learner(ending), StubEngine(), []
    for _ in range(4):
        model.update(batch(), engine)
        parts = (model.optimiser, model.discriminator_optimiser)
        rates.append({group["lr"] for part in parts for group in part.param_groups})
    wanted = [{2e-4 * (1 + np.cos(np.pi * step / 4)) / 2} for step in (1, 2, 3, 4)]
    assert [sorted(one) for one in rates] == [pytest.approx(sorted(one)) for one in wanted]


def test_the_autoencoder_is_the_same_network_without_discriminators():
    model, plain = learner(), learner(replace(SMALL, adversarial=False))
    own = plain.state_dict()
    assert own.keys() == {name for name in model.state_dict() if not name.startswith("discriminators")}
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in own.items())
    engine = Watching(plain)
    plain.update(batch(), engine)
    assert engine.moved == [{"encoder", "generator"}] and plain.parts().keys() == {"autoencoder"}
    preset = MODELS["mrgan"].presets
    assert preset["autoencoder"]("wave") == replace(preset["default"]("wave"), adversarial=False)
    full = preset["birdsong-gan"]("wave")
    assert (full.ngf, full.ndf, full.adam.learning_rate, full.latent) == (256, 256, 1e-5, 32)


@pytest.mark.parametrize("kind", ["instance", "selu", "spectral"])
def test_two_ranks_train_as_one(kind):
    config, whole = replace(SMALL, normalisation=kind, code_weight=0.1), batch(4, 1600)
    whole = replace(whole, signal=whole.signal.double())

    def trained(engine):
        with_seed = learner_of(config)
        held = {name: engine.share(getattr(whole, name)) for name in ("index", "signal", "factors")}
        for _ in range(2):
            with_seed.update(replace(whole, **held), engine)
        return with_seed.state_dict()

    torch.manual_seed(0)
    begun = MRGAN(config, Signal("wave", (1600,), RATE)).double()

    def learner_of(config: MRGANConfig) -> MRGAN:
        made = copy.deepcopy(begun)
        made.optimiser = config.adam.build([*made.encoder.parameters(), *made.generator.parameters()])
        made.discriminator_optimiser = config.adam.build(made.discriminators.parameters())
        return made

    one = trained(StubEngine(0))
    for found in on_ranks(2, 0, 4, trained):
        for name, value in found.items():
            torch.testing.assert_close(
                value, one[name], rtol=1e-6, atol=1e-9, msg=lambda why, name=name: name + why
            )


def test_batch_statistics_are_refused_on_several_ranks():
    model = learner(replace(SMALL, normalisation="batch"))
    with pytest.raises(ValueError, match=r"normalisation=batch in 2 processes: .* choose --normalisation layer"):
        on_ranks(2, 0, 4, lambda engine: model.update(batch(), engine))


def test_batch_normalisation_keeps_statistics_of_reconstructions_and_samples_apart():
    model = learner(replace(SMALL, normalisation="batch"))
    model.update(batch(), StubEngine())
    means = {name: value for name, value in model.state_dict().items() if name.endswith("running_mean")}
    apart = [name for name in means if ".each.0." in name]
    assert len(apart) == 4 * 5
    for name in apart:
        false = means[name.replace(".each.0.", ".each.1.")]
        # The input of the encoder is real sound only.
        assert not false.any() if name.startswith("encoder") else not torch.equal(means[name], false)


def test_the_spectral_norm_of_a_discriminator_is_one():
    model = learner(replace(SMALL, normalisation="spectral"))
    for _ in range(3):
        model.update(batch(), StubEngine())
    judge = model.discriminators["sample"].train()
    assert isinstance(judge, Discriminator)
    for _ in range(30):
        judge(torch.rand(1, 1, 129, 16), 0)
    for one in judge.eval().stack.convolutions:
        assert isinstance(one, nn.Conv2d)
        assert float(torch.linalg.matrix_norm(one.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.02)
    assert not any(isinstance(one, nn.LayerNorm) for one in judge.modules())
    assert any(isinstance(one, nn.LayerNorm) for one in model.encoder.modules())


def test_activations_of_selu_keep_their_variance():
    torch.manual_seed(0)
    network = SnippetEncoder(32, 16, "selu", False, (129, 16))
    seen = []
    deepest = network.stack.convolutions[3]
    deepest.register_forward_hook(lambda *found: seen.append(found[2].std().item()))
    network(torch.randn(8, 1, 129, 16))
    assert 0.5 < seen[0] < 2
    assert not any(isinstance(one, nn.LayerNorm) for one in network.modules())


def test_a_residual_block_adds_to_what_is_there():
    config = replace(SMALL, residual=True)
    model, plain = learner(config), learner()
    assert isinstance(model.encoder, SnippetEncoder) and isinstance(plain.encoder, SnippetEncoder)
    assert len(model.encoder.stack.blocks) == 4 and not len(plain.encoder.stack.blocks)
    plain.encoder.load_state_dict(model.encoder.state_dict(), strict=False)
    for block in model.encoder.stack.blocks:
        assert isinstance(block, Residual)
        for weight in block.convolutions[1].parameters():
            nn.init.zeros_(weight)
    given = torch.rand(2, 1, 129, 16)
    torch.testing.assert_close(model.encoder(given), plain.encoder(given))
    model.update(batch(), StubEngine())


@pytest.mark.parametrize(("prior", "variance"), [("normal", 1), ("uniform", 1 / 3), ("t", 10 / 8)])
def test_the_prior_is_what_it_is_called(prior, variance):
    model = learner(replace(SMALL, prior=prior))
    drawn = model.sample(4000, torch.Generator().manual_seed(0))
    assert drawn.shape == (4000, 1, 4)
    assert float(drawn.var()) == pytest.approx(variance, rel=0.06) and abs(float(drawn.mean())) < 0.04
    assert (drawn.abs().max() <= 1) == (prior == "uniform")
    assert torch.equal(model.sample(4000, torch.Generator().manual_seed(0)), drawn)


def test_snippets_come_from_everywhere_in_a_clip_but_its_padding():
    signal = Signal("wave", (256 + 64 * 19,), RATE)
    model = learner(signal=signal)
    features = torch.arange(20.0).expand(300, 1, 129, 20)
    lengths = torch.tensor([256 + 64 * 19, 256 + 64 * 17, 300]).repeat(100)
    given = Batch(torch.arange(300), torch.empty(300, 0), torch.zeros(300, 0), features=features, lengths=lengths)
    found = model.snippets(given, StubEngine())
    assert found.shape == (300, 1, 129, 16)
    first = found[:, 0, 0, 0]
    assert torch.equal(found, first[:, None, None, None] + torch.arange(16.0).expand(300, 1, 129, 16))
    assert set(first[::3].tolist()) == {0, 1, 2, 3, 4} and set(first[1::3].tolist()) == {0, 1, 2}
    assert set(first[2::3].tolist()) == {0}


class Unchanged(nn.Module):
    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.shape = shape

    def forward(self, given: torch.Tensor, what: int = 0) -> torch.Tensor:
        return given.reshape(len(given), *self.shape)


def unchanging(stride: int = 3) -> MRGAN:
    """A learner whose codes are the snippets themselves."""
    front = replace(SNIPPETS, fft=64, hop=16)
    config = MRGANConfig(ngf=1, ndf=1, latent=33 * 8, frames=8, stride=stride, front=front)
    model = learner(config, signal=Signal("wave", (512,), RATE)).eval()
    model.add_module("encoder", Unchanged((33 * 8,)))
    model.add_module("generator", Unchanged((1, 33, 8)))
    return model


@settings(deadline=None, max_examples=20)
@given(samples=st.integers(1, 900), stride=st.integers(1, 8))
def test_a_song_comes_back_whole_from_overlapping_snippets(samples, stride):
    """With the original phase and an identity autoencoder: exact to the last sample."""
    model, song = unchanging(stride), sounds(2, samples)
    codes = model.encode(song)
    frames = 1 + samples // 16
    covered = model.decode(codes)
    assert covered.shape[3] == (codes.shape[1] - 1) * stride + 8 >= frames > covered.shape[3] - 8
    inside = torch.stft(song, 64, 16, window=torch.hann_window(64), pad_mode="constant", return_complex=True)
    torch.testing.assert_close(covered[:, 0, :, :frames], inside.abs().log1p(), rtol=1e-4, atol=1e-5)
    again = model.sound(codes, samples, model.phase(song))
    torch.testing.assert_close(again, song, rtol=1e-3, atol=1e-5)
    assert model.code_rate == RATE / (16 * stride) and model.code_first == pytest.approx(3.5 * 16 / RATE)


def test_sound_without_a_phase_has_the_magnitudes_of_the_codes():
    model = unchanging()
    time = torch.arange(1600) / RATE
    song = 0.3 * torch.sin(2 * torch.pi * 2000 * time)[None]
    codes = model.encode(song)
    made = model.sound(codes, 1600, iterations=60)
    assert made.shape == (1, 1600) and torch.equal(model.sound(codes, 1600, iterations=60), made)
    apart = (model.decode(model.encode(made)) - model.decode(codes)).abs().mean() / model.decode(
        codes
    ).abs().mean()
    assert float(apart) < 0.1
    assert model.sound(codes).shape[1] == (model.decode(codes).shape[3] - 1) * 16


def test_a_vq_gan_makes_codes_of_entries_and_revives_dead_ones():
    config = replace(SMALL, latent=8, slots=4, entries=8)
    model, engine = learner(config), StubEngine()
    terms = model.update(batch(16), engine)
    assert {"loss/commitment", "codebook/perplexity", "codebook/revived"} <= terms.keys()
    books = model.codebooks
    assert books is not None and books.started
    codes = model.encode(sounds(2, 3000)).unflatten(-1, (4, 2))
    drawn = model.sample(50, engine.generator).unflatten(-1, (4, 2))
    for found in (codes, drawn):
        nearest = (found[:, :, :, None] - books.entries).abs().sum(-1).amin(-1)
        assert float(nearest.max()) < 1e-6
    books.uses[0, 3], books.entries[0, 3] = 0.0, 1e3
    assert model.update(batch(16, seed=1), engine)["codebook/revived"] >= 1 and books.uses[0, 3] > 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stride": 17}, "stride=17, frames=16: .*at most"),
        ({"entries": 8, "slots": 3}, "latent=4, slots=3: .*divide"),
        ({"entries": 8, "slots": 4, "code_weight": 1.0}, "give one of the two"),
        ({"front": replace(SNIPPETS, compression="log")}, "compression=log, .*log1p"),
        ({"front": replace(SNIPPETS, centred=True)}, "centred=True: .*leave it out"),
        ({"front": replace(SNIPPETS, scaling="standard")}, "scaling=standard: .*none or unit"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_a_remedy(changed, said):
    with pytest.raises(ValueError, match=said):
        replace(SMALL, **changed)


def test_pieces_that_are_shorter_than_a_snippet_are_refused():
    with pytest.raises(ValueError, match=r"1215 samples have 15 frames, .* choose --seconds of at least 0\.076"):
        learner(signal=Signal("wave", (1215,), RATE))
    front = replace(SNIPPETS, fft=32, hop=8)
    with pytest.raises(ValueError, match="instance normalisation of a single number"):
        learner(replace(SMALL, normalisation="instance", frames=1, stride=1, front=front))
