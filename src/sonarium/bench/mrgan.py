"""A training step of the mode-regularised GAN, compared with its six steps in plain PyTorch.

The bare side has the same layers and losses, with Adam: separate encodings for steps 1 and 3, probabilities and
their logarithms, and gradients of all weights that a loss reaches. Ours is a step of `fit`, with the engine and
the metrics.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonarium.bench.timing import case, interleaved
from sonarium.models.mrgan import MRGAN, MRGANConfig
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import Meter
from sonarium.worlds.contract import Batch, Signal

BATCHES, CHANNELS, LATENT, STEPS = (16, 64), 16, 32, 2


def bare_networks(width: int, latent: int) -> tuple[nn.Module, nn.Module, Callable[[], nn.Module]]:
    """Encoder, generator, and a factory of discriminators, written out."""
    encoder = nn.Sequential(
        nn.Conv2d(1, width, (5, 4), (2, 2), (0, 1), bias=False), nn.LayerNorm([width, 63, 8]), nn.ReLU(True),
        nn.Conv2d(width, 2 * width, (5, 4), (2, 1), (1, 0), bias=False), nn.LayerNorm([2 * width, 31, 5]),
        nn.ReLU(True),
        nn.Conv2d(2 * width, 4 * width, (5, 4), (4, 1), (1, 1), bias=False), nn.LayerNorm([4 * width, 8, 4]),
        nn.ReLU(True),
        nn.Conv2d(4 * width, 8 * width, (4, 4), (3, 1), (1, 1), bias=False), nn.LayerNorm([8 * width, 3, 3]),
        nn.ReLU(True),
        nn.Conv2d(8 * width, latent, (3, 3), bias=False), nn.Flatten(),
        nn.Linear(latent, 2 * latent), nn.ReLU(True), nn.Linear(2 * latent, latent),
    )  # fmt: skip
    generator = nn.Sequential(
        nn.Unflatten(1, (latent, 1, 1)),
        nn.ConvTranspose2d(latent, 8 * width, (3, 3), bias=False), nn.LayerNorm([8 * width, 3, 3]), nn.ReLU(True),
        nn.ConvTranspose2d(8 * width, 4 * width, (4, 4), (3, 1), (1, 1), bias=False),
        nn.LayerNorm([4 * width, 8, 4]), nn.ReLU(True),
        nn.ConvTranspose2d(4 * width, 2 * width, (5, 4), (4, 1), (1, 1), bias=False),
        nn.LayerNorm([2 * width, 31, 5]), nn.ReLU(True),
        nn.ConvTranspose2d(2 * width, width, (5, 4), (2, 1), (1, 0), bias=False),
        nn.LayerNorm([width, 63, 8]), nn.ReLU(True),
        nn.ConvTranspose2d(width, 1, (5, 4), (2, 2), (0, 1)), nn.Softplus(),
    )  # fmt: skip

    def discriminator() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1, bias=False), nn.LayerNorm([width, 64, 8]), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, (4, 3), (2, 1), (1, 0), bias=False), nn.LayerNorm([2 * width, 32, 6]),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, (4, 3), (2, 1), (2, 0), bias=False), nn.LayerNorm([4 * width, 17, 4]),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 8 * width, (8, 4), (2, 1), 1, bias=False), nn.LayerNorm([8 * width, 6, 3]),
            nn.LeakyReLU(0.2),
            nn.Conv2d(8 * width, 1, (6, 3), bias=False), nn.Sigmoid(), nn.Flatten(),
        )  # fmt: skip

    return encoder, generator, discriminator


def bare_steps(batches: Sequence[Tensor]) -> Callable[[], object]:
    """Function that takes the six steps for each of these batches."""
    E, G, discriminator = bare_networks(CHANNELS, LATENT)
    D1, D2, D3 = (discriminator() for _ in range(3))
    settings = {"lr": 2e-4, "betas": (0.5, 0.999)}
    of_coder = torch.optim.Adam([*E.parameters(), *G.parameters()], **settings)
    of_each = [torch.optim.Adam(D.parameters(), **settings) for D in (D1, D2, D3)]

    def labels(clips: int, right: float) -> Tensor:
        return (torch.rand(clips, 1) < right).float()

    def told(D: nn.Module, optimiser: torch.optim.Optimizer, true: Tensor, false: Tensor) -> Tensor:
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy(D(true), labels(len(true), 0.9))
        loss = loss + functional.binary_cross_entropy(D(false), labels(len(true), 0.1))
        loss.backward()
        optimiser.step()
        return loss

    def descend(loss: Tensor) -> None:
        of_coder.zero_grad()
        loss.backward()
        of_coder.step()

    def step(x: Tensor) -> list[Tensor]:
        ones = torch.ones(len(x), 1)
        made = G(E(x))
        first = told(D1, of_each[0], x, made.detach())
        pooled = functional.l1_loss(functional.avg_pool2d(made, 3, 4), functional.avg_pool2d(x, 3, 4))
        error = functional.l1_loss(made, x) + pooled
        descend(functional.binary_cross_entropy(D1(made), ones) + 100 * error)
        made, false = G(E(x)), G(torch.randn(len(x), LATENT))
        second = told(D2, of_each[1], made.detach(), false.detach())
        deceived = functional.binary_cross_entropy(D2(false), ones)
        descend(deceived)
        return [first, error, second, deceived, told(D3, of_each[2], x, false.detach())]

    def steps() -> None:
        for x in batches:
            for term in step(x):
                term.item()

    return steps


def our_steps(batches: Sequence[Tensor]) -> Callable[[], object]:
    engine = FabricEngine("cpu", "32", 0)
    model = MRGAN(MRGANConfig(latent=LATENT, ngf=CHANNELS, ndf=CHANNELS), Signal("wave", (1216,), 16_000)).train()
    given = [
        Batch(torch.arange(len(x)), torch.empty(len(x), 0), torch.zeros(len(x), 0), features=x) for x in batches
    ]
    meter = Meter(engine)

    def steps() -> None:
        for batch in given:
            meter.add(model.update(batch, engine))
        meter.take(len(given))

    return steps


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """One case per batch size."""
    found = []
    for size in BATCHES:
        batches = [torch.rand(size, 1, 129, 16) for _ in range(STEPS)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            ours_s, peer_s = interleaved(our_steps(batches), bare_steps(batches), repeats)
        work = f"{STEPS} training steps, each of six, of {size} snippets of 129 × 16, {CHANNELS} channels"
        found.append(case(f"MRGAN, batch size {size}", work, "six bare steps in PyTorch", ours_s, peer_s))
    return found
