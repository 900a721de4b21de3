"""Two ranks train as one at the same global batch, in float64: gradients, weights and buffers, and losses."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from contracts.small import autoregressive, dreaming
from several_ranks import RankEngine, on_ranks
from stub_engine import StubEngine

from sonarium.catalogue import MODELS
from sonarium.models.autoregressive import AutoregressiveConfig
from sonarium.models.contract import Learner
from sonarium.models.cpc.cpc import CPCConfig
from sonarium.models.dreaming import DreamingConfig
from sonarium.models.masking import DescentConfig
from sonarium.models.mrgan import MRGANConfig
from sonarium.models.optim import ScheduleConfig
from sonarium.models.penalties import DipConfig, FactorConfig, TotalCorrelationConfig
from sonarium.worlds.contract import Batch, Signal, SignalKind

CLIPS, DATASET, STEPS = 8, 24, 3
LOSSES = ("loss/total", "contrast/loss", "loss/distortion", "clusters/moved", "loss/negative_log_likelihood")
SIGNALS: dict[SignalKind, Signal] = {
    "wave": Signal("wave", (2400,), 16000),
    "picture": Signal("picture", (12, 12)),
    "codes": Signal("codes", (12, 4), frame_rate=100.0),
    "binaural": Signal("binaural", (2400, 2), 8000, sources=2),
}
LENGTHS = (1.0, 0.7, 1.0, 0.5, 0.4, 0.8, 0.45, 0.95)
"""Lengths of clips as fractions of the longest."""


def batch(kind: SignalKind, padded: bool, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    signal = torch.rand(CLIPS, *SIGNALS[kind].shape, generator=generator, dtype=torch.double)
    wave = signal if kind == "picture" else signal - 0.5
    factors = torch.tensor([[0.0, clip % 3] for clip in range(CLIPS)], dtype=torch.double)
    own = (wave.shape[1] * torch.tensor(LENGTHS)).long() if padded else None
    if own is not None:
        inside = torch.arange(wave.shape[1]) < own[:, None]
        wave = wave * inside.view(*inside.shape, *[1] * (wave.ndim - 2))
    if kind == "binaural":
        # The mixture is the sum of the sources.
        apart = torch.stack([wave, wave.flip(0)], 2)
        return Batch(torch.arange(CLIPS), apart.sum(2), factors, lengths=own, sources=apart)
    return Batch(torch.arange(CLIPS), wave, factors, lengths=own)


class Preview:
    """Source that supports only `Learner.prepare`, with one batch as its preview."""

    unit, batch_size, pass_ended = "clips", CLIPS, True

    def __init__(self, batch: Batch):
        self.batch = batch

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return self.batch

    def preview(self, progress: Any) -> Iterator[Batch]:
        return iter([self.batch])

    def attach(self, learner: Any, engine: Any) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any, /) -> None: ...


def shared(whole: Batch, engine: RankEngine) -> Batch:
    """This rank's rows of a global batch."""
    held = {field.name: getattr(whole, field.name) for field in dataclasses.fields(whole)}
    return replace(whole, **{name: engine.share(value) for name, value in held.items() if value is not None})


def tiny(config: CPCConfig) -> CPCConfig:
    width = 16 if config.predictors.form == "transformer" else 8
    return replace(
        config,
        encoder=replace(config.encoder, filters=(8,)),
        context=replace(config.context, width=width),
        predictors=replace(config.predictors, steps_ahead=3),
    )


def entry(name: str, preset: str = "default", **changed: Any) -> Callable[[SignalKind], Any]:
    def config(kind: SignalKind) -> Any:
        made: Any = MODELS[name].presets[preset](kind)
        made = tiny(made) if isinstance(made, CPCConfig) else made
        made = dreaming(made) if isinstance(made, DreamingConfig) else made
        made = autoregressive(made) if isinstance(made, AutoregressiveConfig) else made
        small = {"ngf": 2, "ndf": 2, "latent": 8, "schedule": ScheduleConfig()}
        made = replace(made, **small) if isinstance(made, MRGANConfig) else made
        if isinstance(getattr(made, "penalty", None), FactorConfig):
            made = replace(made, penalty=replace(made.penalty, units=8))
        if isinstance(getattr(made, "descent", None), DescentConfig):
            made = replace(made, units=8, descent=DescentConfig(schedule=ScheduleConfig()))
        return replace(made, **changed)

    return config


def dreams(objective: dict[str, Any], **dynamics: Any) -> Callable[[SignalKind], Any]:
    """Configuration of a world model with changed objective or dynamics."""

    def config(kind: SignalKind) -> Any:
        made: Any = entry("dreaming")(kind)
        parts = {"objective": objective, "dynamics": dynamics, "heads": {"ends": True}}
        return replace(made, **{name: replace(getattr(made, name), **own) for name, own in parts.items()})

    return config


SPEAKERS = replace(
    MODELS["cpc"].presets["default"]("wave").contrast, from_speaker=5, drawn="each", side="predictions"
)
CASES: dict[str, tuple[str, Callable[[SignalKind], Any]]] = {
    f"{name} {preset}": (name, entry(name, preset))
    for name, model in MODELS.items()
    if model.trains
    for preset in model.presets
    # The snippets preset has the same network in all autoencoders.
    if preset not in ("mnist", "speech", "paper") and (preset != "snippets" or name == "vae")
} | {
    "tc-vae mws": ("tc-vae", entry("tc-vae", penalty=TotalCorrelationConfig(estimator="mws"))),
    "dip-vae I": ("dip-vae", entry("dip-vae", penalty=DipConfig(kind="I"))),
    "factor-vae quick": (
        "factor-vae",
        entry("factor-vae", penalty=FactorConfig(units=8, discriminator_rate=0.01)),
    ),
    "vq-vae revived": ("vq-vae", entry("vq-vae", entries=4, decay=0.2, revival=0.9)),
    "dreaming contrast": ("dreaming", dreams({"objective": "contrast"}, latent="gaussian")),
    "dreaming barlow": ("dreaming", dreams({"objective": "barlow"}, posterior="obs")),
    "dreaming embedding": ("dreaming", dreams({"objective": "embedding"})),
    "dreaming twister": ("dreaming", dreams({"objective": "twister", "direct_steps": 2})),
    "dreaming sampled": ("dreaming", dreams({"predicted": "sample", "overshoot": "all"})),
    "cpc speakers": ("cpc", entry("cpc", speaker=1, contrast=SPEAKERS)),
}
DREAMS = {name for name in CASES if name.startswith("dreaming") and name != "dreaming default"}
"""Cases that are trained only on padded codes: waves add nothing, and padding is the harder case."""
TRAININGS = [
    (case, kind, padded)
    for case, (name, _) in CASES.items()
    for kind in MODELS[name].kinds
    if not (kind == "picture" and case.endswith(("syntone", "snippets")))
    if not (case in DREAMS and kind == "wave")
    for padded in (False, True)
    if not (kind == "picture" and padded) and not (case in DREAMS and not padded)
]


def trained(learner: Learner, kind: SignalKind, padded: bool, engine: RankEngine) -> dict[str, Any]:
    """State after a pass of `STEPS` steps, and the gradients of the first step."""
    terms: dict[str, torch.Tensor] = {}
    for step in range(STEPS):
        terms = learner.update(shared(batch(kind, padded, step), engine), engine)
        if not step:
            first = {name: one.grad.clone() for name, one in learner.named_parameters() if one.grad is not None}
    terms |= learner.end_pass(engine)
    return {
        "gradients": first,
        "weights": learner.state_dict(),
        "loss": {name: value for name, value in terms.items() if name in LOSSES},
        "generator": engine.generator.get_state(),
    }


@pytest.mark.parametrize(
    ("case", "kind", "padded"),
    TRAININGS,
    ids=[f"{case}-{kind}{'-lengths' * padded}" for case, kind, padded in TRAININGS],
)
def test_two_ranks_train_as_one(case, kind, padded):
    name, config = CASES[case]
    torch.manual_seed(0)
    learner: Any = MODELS[name].build(config(kind), SIGNALS[kind]).double()
    learner.prepare(Preview(batch(kind, padded, 9)), StubEngine())
    # A copied optimiser would update the weights of the original.
    copies = [MODELS[name].build(config(kind), SIGNALS[kind]).double() for _ in range(2)]
    for other in copies:
        other.load_state_dict(copy.deepcopy(learner.state_dict()))
    (one,) = on_ranks(1, 3, DATASET, lambda engine: trained(learner, kind, padded, engine))
    both = on_ranks(2, 3, DATASET, lambda engine: trained(copies[engine.rank], kind, padded, engine))
    assert torch.equal(one["generator"], both[0]["generator"])
    for found in both:
        for part in ("gradients", "weights"):
            assert found[part].keys() == one[part].keys()
            for key, value in one[part].items():
                torch.testing.assert_close(
                    found[part][key], value, rtol=1e-9, atol=1e-9, msg=lambda m, k=key: f"{k}: {m}"
                )
    for key, value in one["loss"].items():
        mean = torch.stack([found["loss"][key] for found in both]).mean()
        torch.testing.assert_close(mean, value, rtol=1e-9, atol=1e-9)
