"""A training step of preset `syntone`, compared with a bare PyTorch loop of SynTone's network.

The bare loop is what one would write by hand: the same layers, the same loss, Adam, features in a
tensor. Ours is a step of `fit`, with the cache of features, the metrics and the engine.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonarium.bench.timing import case, interleaved
from sonarium.catalogue import MODELS
from sonarium.models.vae import VAE
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.training.engine import FabricEngine, Precision, native_precisions
from sonarium.training.fit import Meter
from sonarium.worlds.tones.world import SyntoneConfig, Tones

BATCH, STEPS = 64, 10


class BareVAEDeep(nn.Module):
    """The layers of SynTone's VAEDeep for spectrograms of 128 × 32, written out."""

    def __init__(self, latent: int):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.LeakyReLU(0.01), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.LeakyReLU(0.01), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.LeakyReLU(0.01), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(4096, 128), nn.LeakyReLU(0.01), nn.Linear(128, 64), nn.LeakyReLU(0.01),
        )  # fmt: skip
        self.mean, self.log_variance = nn.Linear(64, latent), nn.Linear(64, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, 64), nn.LeakyReLU(0.01), nn.Linear(64, 128), nn.LeakyReLU(0.01),
            nn.Linear(128, 4096), nn.LeakyReLU(0.01), nn.Unflatten(1, (64, 16, 4)),
            nn.ConvTranspose2d(64, 32, 3, 2, 1, 1), nn.LeakyReLU(0.01),
            nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.LeakyReLU(0.01),
            nn.ConvTranspose2d(16, 1, 3, 2, 1, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.encoder(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return self.decoder(z), mean, log_variance


def bare_steps(features: Tensor) -> Callable[[], object]:
    """Function that takes `STEPS` steps on SynTone's loss: squared error summed over the batch, KL averaged."""
    model = BareVAEDeep(8).train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)

    def steps() -> None:
        for start in range(0, STEPS * BATCH, BATCH):
            x = features[start : start + BATCH]
            made, mean, log_variance = model(x)
            divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
            loss = functional.mse_loss(made, x, reduction="sum") + divergence
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()

    return steps


def our_steps(precision: Precision) -> tuple[Callable[[], object], Tensor]:
    """Function that takes `STEPS` steps as `fit` does, and the features that it trains on."""
    world = Tones(SyntoneConfig(frequencies=20, amplitudes=8, syntone_time=False), 0)
    engine = FabricEngine("cpu" if not torch.cuda.is_available() else "cuda", precision, 0)
    config = MODELS["vae"].presets["syntone"]("wave")
    learner = VAE(config, world.signal).to(engine.device).train()
    train = torch.arange(STEPS * BATCH)
    clips, meter = Clips(world, train, ClipsConfig(BATCH), 0), Meter(engine)
    engine.dataset_size = len(train)
    clips.attach(learner, engine)
    clips.keep_features(learner, engine.progress)
    assert clips.cache is not None and clips.cache.features is not None

    def steps() -> None:
        for step in range(STEPS):
            meter.add(learner.update(clips.at(step), engine))
        meter.take(STEPS)

    return steps, clips.cache.features


def cases(repeats: int = 5) -> list[dict]:
    """One case per precision, each compared with the bare loop in fp32."""
    found = []
    for precision in native_precisions():
        ours, features = our_steps(precision)
        ours_s, peer_s = interleaved(ours, bare_steps(features), repeats)
        name = f"training step syntone {'fp32' if precision == '32' else precision}"
        work = f"{STEPS} steps of {BATCH} clips of 128 × 32, forward, backward and Adam"
        found.append(case(name, work, "bare PyTorch loop in fp32", ours_s, peer_s))
    return found
