"""Export of a learner: its weights, a `torch.export` program, or ONNX.

The exported model takes raw sound and gives codes: the front end is part of it. That of a separator takes sound at
two ears of any length and gives its sources. `weights.safetensors` has the weights, `model.json` the
configuration; `model.pt2` runs in torch without Sonarium; `model.onnx` without torch.
"""

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from sonarium.files import written_aside
from sonarium.models.contract import Encoder, FrameEncoder, Learner, Separator
from sonarium.worlds.contract import Signal

LONGEST = 2**24
"""Samples in the longest clip that an exported program takes."""


class Coder(nn.Module):
    """From sound to codes, as one module."""

    output = "codes"

    def __init__(self, learner: Encoder | FrameEncoder):
        super().__init__()
        self.encoder = learner
        self.time = 1 if isinstance(learner, FrameEncoder) else None

    def forward(self, signal: Float[Tensor, "clip *shape"]) -> Float[Tensor, "clip frame code"]:
        return self.encoder.encode(signal)

    def example(self, signal: Signal) -> Float[Tensor, "clip *shape"]:
        return noise(signal)


class Sources(nn.Module):
    """From sound at two ears to its sources, with ears before time, as other programs have channels. Whole sounds
    are separated, before which nothing was heard."""

    output, time = "sources", 2

    def __init__(self, learner: Separator):
        super().__init__()
        self.separator = learner

    def forward(self, signal: Float[Tensor, "clip 2 time"]) -> Float[Tensor, "clip source 2 time"]:
        sources = self.separator.separate(rearrange(signal, "clip ear time -> clip time ear"))
        return rearrange(sources, "clip time source ear -> clip source ear time")

    def example(self, signal: Signal) -> Float[Tensor, "clip 2 time"]:
        return rearrange(noise(signal), "clip time ear -> clip ear time")


def exported(learner: Learner) -> Coder | Sources:
    """What is exported of a learner: a module with the name of its `output`, an `example` of its input, and which
    axis of that is `time`, if it may have any length."""
    if isinstance(learner, Separator):
        return Sources(learner)
    if not isinstance(learner, Encoder | FrameEncoder):
        raise ValueError(
            f"{type(learner).__name__} is neither an encoder nor a separator: there is nothing to export; choose "
            "a model that is one"
        )
    return Coder(learner)


def noise(signal: Signal) -> Float[Tensor, "clip *shape"]:
    return torch.randn(3, *signal.shape, generator=torch.Generator().manual_seed(0))


def axes(module: Coder | Sources) -> tuple[dict[int, Any], ...]:
    """Axes of the input that may have any size: clips, and time where any length is taken."""
    return (
        {0: Dim("clip", max=2**16)} | ({} if module.time is None else {module.time: Dim.DYNAMIC(max=LONGEST)}),
    )


def program(learner: Learner, signal: Signal) -> ExportedProgram:
    """A program for any number of clips, and for any length where the learner takes it."""
    module = exported(learner).eval()
    with tracing():
        made = torch.export.export(module, (module.example(signal),), dynamic_shapes=axes(module), strict=False)
    # Who runs it wants no gradient, for which recurrent networks are compiled anew.
    for name, weights in made.state_dict.items():
        if weights.requires_grad:
            made.state_dict[name] = nn.Parameter(weights.detach(), requires_grad=False)
    return made


@contextmanager
def tracing() -> Iterator[None]:
    """Without gradients, and without torch's warnings about its own code."""
    talkative = [logging.getLogger(name) for name in ("torch.fx.experimental.symbolic_shapes", "torch.onnx")]
    levels = [logger.level for logger in talkative]
    try:
        for logger in talkative:
            logger.setLevel(logging.ERROR)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(talkative, levels, strict=True):
            logger.setLevel(level)


def save_weights(learner: Learner, config: Any, signal: Signal, folder: Path) -> None:
    """`weights.safetensors`, and `model.json` with the configuration, the signal and the shapes of the weights."""
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in learner.state_dict().items()}
    described = {
        "learner": type(learner).__name__,
        "config": asdict(config),
        "signal": asdict(signal),
        "code_rate": learner.code_rate if isinstance(learner, FrameEncoder) else None,
        "code_first": learner.code_first if isinstance(learner, FrameEncoder) else None,
        "dead_below": learner.dead_below if isinstance(learner, Encoder) else 0.0,
        "sources": learner.sources if isinstance(learner, Separator) else None,
        "weights": {
            name: [str(value.dtype).removeprefix("torch."), *value.shape] for name, value in weights.items()
        },
    }
    with written_aside(folder / "weights.safetensors") as aside:
        aside.write_bytes(save(weights))
    with written_aside(folder / "model.json") as aside:
        aside.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def save_program(traced: ExportedProgram, folder: Path) -> None:
    """`model.pt2`, for `torch.export.load(…).module()`."""
    # By way of memory, for torch warns about file names without its own ending.
    kept = io.BytesIO()
    torch.export.save(traced, kept)
    with written_aside(folder / "model.pt2") as aside:
        aside.write_bytes(kept.getvalue())


def save_onnx(traced: ExportedProgram, output: str, folder: Path) -> None:
    """`model.onnx`, with the input `signal` and an output of this name, `codes` or `sources`."""
    if importlib.util.find_spec("onnxscript") is None:
        raise ValueError("writing ONNX needs onnxscript: `pip install onnx onnxscript`, or export without ONNX")
    with tracing():
        # The optimiser would drop numbers below 1e-8 that are added, such as what gives silence a logarithm.
        made = torch.onnx.export(
            traced,
            input_names=["signal"],
            output_names=[output],
            dynamo=True,
            verbose=False,
            optimize=False,
        )
    assert made is not None
    with written_aside(folder / "model.onnx") as aside:
        made.save(str(aside))
