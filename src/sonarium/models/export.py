"""Export of a learner: its weights, a `torch.export` program, or ONNX.

An exported encoder maps raw sound to codes, front end included. An exported separator maps binaural sound of any
length to its sources. `weights.safetensors` has the weights, `model.json` the configuration; `model.pt2` runs in
torch without Sonarium; `model.onnx` without torch.
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
"""Maximum clip length of an exported program in samples."""


class Coder(nn.Module):
    """Module from sound to codes."""

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
    """Module from binaural sound to its sources, with ears before time, as other programs order channels. It
    separates whole sounds, without earlier context."""

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
    """Module to export for a learner, with the name of its `output`, an `example` of its input, and the `time`
    axis of the input if its length may vary."""
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
    """Dynamic axes of the input: clips, and time if its length may vary."""
    return (
        {0: Dim("clip", max=2**16)} | ({} if module.time is None else {module.time: Dim.DYNAMIC(max=LONGEST)}),
    )


def program(learner: Learner, signal: Signal) -> ExportedProgram:
    """Exported program for any number of clips, and for any length if the learner supports it."""
    module = exported(learner).eval()
    with tracing():
        made = torch.export.export(module, (module.example(signal),), dynamic_shapes=axes(module), strict=False)
    # Inference requires no gradients, for which recurrent networks would be compiled again.
    for name, weights in made.state_dict.items():
        if weights.requires_grad:
            made.state_dict[name] = nn.Parameter(weights.detach(), requires_grad=False)
    return made


@contextmanager
def tracing() -> Iterator[None]:
    """Disable gradients, and torch's warnings about its own code."""
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
    """Write `weights.safetensors`, and `model.json` with configuration, signal and shapes of the weights."""
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
    """Write `model.pt2`, for `torch.export.load(…).module()`."""
    # Through memory, because torch warns about file names without its own suffix.
    kept = io.BytesIO()
    torch.export.save(traced, kept)
    with written_aside(folder / "model.pt2") as aside:
        aside.write_bytes(kept.getvalue())


def save_onnx(traced: ExportedProgram, output: str, folder: Path) -> None:
    """Write `model.onnx`, with input `signal` and an output named `codes` or `sources`."""
    if importlib.util.find_spec("onnxscript") is None:
        raise ValueError("writing ONNX needs onnxscript: `pip install onnx onnxscript`, or export without ONNX")
    with tracing():
        # The optimiser would drop added constants below 1e-8, such as those that keep logarithms finite.
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
