"""A learner for use elsewhere: its weights, a program of torch, or ONNX.

What is exported takes raw sound and gives codes: the front end is inside. `weights.safetensors` has the weights,
`model.json` what they are the weights of; `model.pt2` is a program that torch runs without Sonarium; `model.onnx`
runs without torch.
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
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from sonarium.files import written_aside
from sonarium.models.contract import FrameEncoder, Learner, can
from sonarium.worlds.contract import Signal

LONGEST = 2**24
"""Samples in the longest clip that an exported program must take."""


class Coder(nn.Module):
    """From sound to codes, as one module."""

    def __init__(self, learner: Learner):
        super().__init__()
        if not can(learner, "encode"):
            raise ValueError(f"{type(learner).__name__} cannot encode, so there is nothing to export")
        self.learner = learner

    def forward(self, signal: Float[Tensor, "clip *shape"]) -> Float[Tensor, "clip frame code"]:
        able: Any = self.learner
        return able.encode(signal)


def example(signal: Signal) -> Float[Tensor, "clip *shape"]:
    return torch.randn(2, *signal.shape, generator=torch.Generator().manual_seed(0))


def axes(learner: Learner) -> tuple[dict[int, Any], ...]:
    """Which axes of the input may be of any size: clips, and time where the learner takes any."""
    return (
        {0: Dim("clip", max=2**16)} | ({1: Dim.DYNAMIC(max=LONGEST)} if isinstance(learner, FrameEncoder) else {}),
    )


def program(learner: Learner, signal: Signal) -> ExportedProgram:
    """A program for any number of clips, and for any length where the learner takes any."""
    coder = Coder(learner).eval()
    with tracing():
        return torch.export.export(coder, (example(signal),), dynamic_shapes=axes(learner), strict=False)


@contextmanager
def tracing() -> Iterator[None]:
    """Without gradients, and without torch's remarks on code of its own."""
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
    """`weights.safetensors`, and `model.json` with all that the weights do not say."""
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in learner.state_dict().items()}
    described = {
        "learner": type(learner).__name__,
        "config": asdict(config),
        "signal": asdict(signal),
        "code_rate": getattr(learner, "code_rate", None),
        "weights": {
            name: [str(value.dtype).removeprefix("torch."), *value.shape] for name, value in weights.items()
        },
    }
    with written_aside(folder / "weights.safetensors") as aside:
        aside.write_bytes(save(weights))
    with written_aside(folder / "model.json") as aside:
        aside.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def save_program(learner: Learner, signal: Signal, folder: Path) -> None:
    """`model.pt2`, for `torch.export.load(…).module()`."""
    # By way of memory, for torch remarks on names that do not end as it expects.
    kept = io.BytesIO()
    torch.export.save(program(learner, signal), kept)
    with written_aside(folder / "model.pt2") as aside:
        aside.write_bytes(kept.getvalue())


def save_onnx(learner: Learner, signal: Signal, folder: Path) -> None:
    """`model.onnx`, whose input is `signal` and whose output is `codes`."""
    if importlib.util.find_spec("onnxscript") is None:
        raise ValueError("writing ONNX needs onnxscript: `pip install onnx onnxscript`, or export without it")
    traced = program(learner, signal)
    with tracing():
        exported = torch.onnx.export(
            traced, input_names=["signal"], output_names=["codes"], dynamo=True, verbose=False
        )
    assert exported is not None
    with written_aside(folder / "model.onnx") as aside:
        exported.save(str(aside))
