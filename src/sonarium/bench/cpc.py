"""A training step of preset `study-spijkervet`, compared with the plain form of the same network in fp32.

Eight clips of 20,480 samples; encoder, context, loss at all times, gradients, and Adam with the study's settings.
Both start from the same weights, and their losses are compared before timing. The loss alone (predictors and
InfoNCE, with their gradients) is then compared with a whole step: a ratio of 10 means a tenth of it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sonarium.bench.plain_cpc import AllTimes, to_ours
from sonarium.bench.timing import case, interleaved
from sonarium.models.contrast import contrast
from sonarium.models.cpc.cpc import CPC
from sonarium.models.cpc.presets import CONFIGS
from sonarium.training.engine import FabricEngine, Precision, native_precisions
from sonarium.worlds.contract import Batch, Signal

CLIPS, SAMPLES, RATE = 8, 20480, 16000
CLOSE: dict[Precision, float] = {"32": 1e-4, "bf16": 2e-2}
"""Relative tolerance of the losses."""


def cases(repeats: int = 5) -> list[dict]:
    """A step, and the fraction of it spent on the loss, for each precision."""
    found = []
    for precision in native_precisions():
        engine = FabricEngine("auto", precision, 0)
        ours, plain = twins(engine)
        wave = torch.randn(CLIPS, SAMPLES, generator=torch.Generator().manual_seed(1)).to(engine.device)
        expect_equal(ours, plain, wave, engine, CLOSE[precision])
        name = "fp32" if precision == "32" else precision
        step = our_step(ours, wave, engine)
        ours_s, peer_s = interleaved(step, plain_step(plain, wave), repeats)
        work = f"{CLIPS} clips of {SAMPLES} samples, all times, forward, backward and Adam"
        found.append(case(f"training step study-spijkervet {name}", work, "plain PyTorch in fp32", ours_s, peer_s))
        loss_s, step_s = interleaved(loss_alone(ours, wave, engine), step, repeats)
        work = "predictors and InfoNCE at all times, forward and backward"
        found.append(case(f"loss share study-spijkervet {name}", work, "a whole step of ours", loss_s, step_s))
    return found


def twins(engine: FabricEngine) -> tuple[CPC, AllTimes]:
    """Ours and the plain form, with the same weights."""
    config = CONFIGS["study-spijkervet"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = AllTimes(config)
        ours = CPC(config, Signal("wave", (SAMPLES,), RATE))
    ours.load_state_dict(to_ours(plain.state_dict()), strict=False)
    return ours.to(engine.device).train(), plain.to(engine.device).train()


def expect_equal(ours: CPC, plain: AllTimes, wave: Tensor, engine: FabricEngine, close: float) -> None:
    with torch.no_grad():
        expected = float(plain(wave))
        got = float(ours.outcomes(ours.front(wave), None, None, engine)[0].loss)
    assert abs(got - expected) <= close * abs(expected), f"losses differ: ours {got}, plain {expected}"


def our_step(ours: CPC, wave: Tensor, engine: FabricEngine) -> Callable[[], object]:
    batch = Batch(torch.arange(len(wave)), wave, torch.zeros(len(wave), 1))
    return lambda: ours.update(batch, engine)


def plain_step(plain: AllTimes, wave: Tensor) -> Callable[[], object]:
    optimiser = torch.optim.Adam(plain.parameters(), 1e-3, (0.9, 0.98), 1e-9, 1e-4, True)

    def step() -> None:
        optimiser.zero_grad()
        plain(wave).backward()
        optimiser.step()

    return step


def loss_alone(ours: CPC, wave: Tensor, engine: FabricEngine) -> Callable[[], object]:
    """Function that goes from codes and contexts to the gradients of both and of the predictors."""
    with torch.no_grad(), engine.autocast():
        latents = ours.encoder(ours.front(wave))
        context = ours.contexts[0](latents)
    frames = ours.encoder.frames(torch.full((len(wave),), wave.shape[1], device=wave.device))

    def step() -> None:
        z, c = latents.detach().requires_grad_(), context.detach().requires_grad_()
        with engine.autocast():
            predicted = ours.predictors[0](c)
        contrast(predicted, z, frames, ours.config.contrast, engine.generator).loss.backward()

    return step
