"""The world model at B16 T64, deter 512, hidden 256, 32 × 16: the loop over its states, and a whole update.

`exact` compares the loop with hand-written gradients with the plain loop under automatic differentiation, in fp32:
the same states from the same noise, which is checked before timing. `bf16` is the same with matrix products in
bf16, where the hardware supports it. A whole update of Dreaming is compared with the naive one: the plain loop,
and all horizons of overshooting; `all steps` has all of them too, `one step` one drawn horizon, the default.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from sonarium.bench.timing import case, interleaved
from sonarium.features.tokens import TokensConfig
from sonarium.models.dreaming import Dreaming, DreamingConfig
from sonarium.models.objectives import ObjectiveConfig
from sonarium.models.rssm import RSSM, DynamicsConfig, Rollout
from sonarium.training.engine import FabricEngine, Precision, native_precisions
from sonarium.worlds.contract import Batch, Signal

CLIPS, TOKENS, EMBEDDING, NUMBERS = 16, 64, 256, 160
SIZES = DynamicsConfig(deter=512, hidden=256, variables=32, classes=16)
CLOSE = 1e-3
"""Relative tolerance of the losses: rounding may change a sampled class."""


def cases(repeats: int = 5) -> list[dict]:
    found = [loop("exact", "32", repeats)]
    work = f"B{CLIPS} T{TOKENS}, forward, backward and Adam"
    if "bf16" in native_precisions():
        found.append(loop("bf16", "bf16", repeats))
    naive = updating("plain", "all", "32")
    for overshoot, name in (("all", "all steps"), ("one", "one step")):
        for precision in native_precisions():
            ours_s, peer_s = interleaved(updating("fast", overshoot, precision), naive, repeats)
            kind = "fp32" if precision == "32" else precision
            found.append(case(f"update, {name}, {kind}", work, "plain loop, all steps, fp32", ours_s, peer_s))
    return found


def loop(name: str, precision: Precision, repeats: int) -> dict:
    engine = FabricEngine("auto", precision, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = RSSM(SIZES, EMBEDDING, 0).to(engine.device)
    embedded = torch.randn(CLIPS, TOKENS, EMBEDDING, generator=torch.Generator().manual_seed(1)).to(engine.device)
    embedded.requires_grad_()
    actions = embedded.new_zeros(CLIPS, TOKENS, 0)
    noise = model.latent.noise((CLIPS, TOKENS), engine.generator, embedded)

    def run(way: Callable[..., Rollout], low: bool) -> float:
        model.zero_grad()
        with engine.autocast() if low else FabricEngine("auto", "32", 0).autocast():
            made = way(embedded, actions, noise)
        value = made.h.square().sum() + model.latent.divergence(made.posterior, made.prior).sum()
        value.backward()
        return float(value.detach())

    if precision == "32":
        ours, plain = run(model.observe, True), run(model.plain, False)
        assert abs(ours - plain) <= CLOSE * abs(plain), f"losses differ: ours {ours}, plain {plain}"
    work = f"B{CLIPS} T{TOKENS} deter 512 hidden 256 32 × 16, forward and backward"
    times = interleaved(lambda: run(model.observe, True), lambda: run(model.plain, False), repeats)
    return case(f"loop, {name}", work, "plain loop, prior inside, fp32", *times)


def updating(way: str, overshoot: str, precision: Precision) -> Callable[[], object]:
    """Function that updates the whole model on tokens of the size of a log-mel patch."""
    engine = FabricEngine("auto", precision, 0)
    config = DreamingConfig(
        burn_in=0,
        embedding=EMBEDDING,
        dynamics=replace(SIZES, loop="plain" if way == "plain" else "fast"),
        objective=ObjectiveConfig(overshoot="all" if overshoot == "all" else "one"),
        front=TokensConfig(),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Dreaming(config, Signal("codes", (TOKENS, NUMBERS), frame_rate=31.25)).to(engine.device)
    codes = torch.randn(CLIPS, TOKENS, NUMBERS, generator=torch.Generator().manual_seed(1)).to(engine.device)
    index = torch.arange(CLIPS, device=engine.device)
    batch = Batch(index, codes, codes.new_zeros(CLIPS, 0))
    return lambda: model.update(batch, engine)
