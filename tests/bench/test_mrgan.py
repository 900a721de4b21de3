"""Benchmark of the GAN: both sides have the same networks."""

import torch

from sonarium.bench import mrgan
from sonarium.models.mrgan import MRGAN, MRGANConfig
from sonarium.worlds.contract import Signal


def test_both_sides_have_the_same_layers(monkeypatch):
    encoder, generator, discriminator = mrgan.bare_networks(2, 4)
    model = MRGAN(MRGANConfig(latent=4, ngf=2, ndf=2), Signal("wave", (1216,), 16_000))
    snippets, codes = torch.rand(3, 1, 129, 16), torch.randn(3, 4)
    for ours, bare in (
        (model.encoder, encoder),
        (model.generator, generator),
        (model.discriminators["sample"], discriminator()),
    ):
        state = bare.state_dict()
        own = {name: value for name, value in ours.state_dict().items() if not name.startswith("stack.norms")}
        norms = {name: value for name, value in ours.state_dict().items() if name.startswith("stack.norms")}
        assert sorted(tuple(v.shape) for v in [*own.values(), *norms.values()]) == sorted(
            tuple(v.shape) for v in state.values()
        )
    torch.testing.assert_close(
        functionally(encoder, model.encoder)(snippets), model.encoder(snippets), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        functionally(generator, model.generator)(codes), model.generator(codes), rtol=1e-5, atol=1e-6
    )
    judge = model.discriminators["sample"]
    torch.testing.assert_close(
        functionally(discriminator(), judge)(snippets)[:, 0], judge(snippets, 0).sigmoid(), rtol=1e-5, atol=1e-6
    )
    monkeypatch.setattr(mrgan, "BATCHES", (2,))
    monkeypatch.setattr(mrgan, "CHANNELS", 1)
    [case] = mrgan.cases(repeats=1)
    assert case["ratio"] > 0 and case["name"].endswith("size 2")


def functionally(bare: torch.nn.Module, ours: torch.nn.Module) -> torch.nn.Module:
    """The bare network with our weights: each convolution followed by its norm, then linear layers."""
    held = dict(ours.named_parameters())
    convolutions = [name for name in held if name.startswith("stack.convolutions")]
    order = []
    for name in convolutions:
        order.append(name)
        at = name.split(".")[2]
        if name.endswith("weight"):
            order += [other for other in held if other.startswith(f"stack.norms.{at}.")]
    order += [name for name in held if name.startswith("head")]
    with torch.no_grad():
        for weight, name in zip(bare.parameters(), order, strict=True):
            weight.copy_(held[name])
    return bare
