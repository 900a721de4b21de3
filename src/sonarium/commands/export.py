"""`sonarium export RUN --out FOLDER`: a learner with its front end, for use elsewhere.

Writes `weights.safetensors` with `model.json`, which says what they are the weights of; `model.pt2`, which
`torch.export.load` reads without Sonarium; and `model.onnx` where onnxscript is installed. The program is run
once, and has to give the codes that the learner gives, or the sources of a separator. `--json` prints one object:
`out`, `files`, and `apart`, the greatest difference between the two (null where no program was written).
"""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from sonarium.commands.faults import UsageError, say, tell
from sonarium.commands.flags import parse
from sonarium.models.contract import Encoder, FrameEncoder, Learner, Separator
from sonarium.runs.build import open_learner
from sonarium.worlds.contract import Signal

Form = Literal["weights", "torch", "onnx"]
ALL: tuple[Form, ...] = ("weights", "torch", "onnx")
CLOSE = 1e-4
"""Tolerance between the outputs of an exported program and of its learner."""


@dataclass(frozen=True)
class ExportFlags:
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder of a trained model."""
    out: Path
    """Output folder, new or with an earlier export."""
    forms: tuple[Form, ...] = ()
    """Export formats: weights (safetensors and JSON), torch (torch.export), onnx; by default all available."""
    best: bool = False
    """Use the weights that were best in validation; by default the newest."""
    json: bool = False
    """Print a summary as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(ExportFlags, arguments, "export", "Export a model with its front end.")
    if flags.out.is_file():
        raise UsageError(f"--out {flags.out} is a file: give a folder")
    plan, learner, signal = open_learner(flags.run, say, best=flags.best)
    if not isinstance(learner, Encoder | FrameEncoder | Separator):
        raise ValueError(f"'{flags.run}' holds a {plan.model}, which has neither codes nor sources to export")
    forms, apart = flags.forms or available(), None
    # Deferred import: tracing is slow to import, and `--help` should not wait for it.
    from sonarium.models.export import exported, program, save_onnx, save_program, save_weights

    if {"onnx", "torch"} & set(forms):
        traced = program(learner, signal)
        if "onnx" in forms:
            save_onnx(traced, exported(learner).output, flags.out)
        if "torch" in forms:
            save_program(traced, flags.out)
            apart = compared(learner, signal, flags.out)
    if "weights" in forms:
        save_weights(learner, plan.learner, signal, flags.out)
    files = sorted(
        path.name for path in flags.out.iterdir() if path.suffix in (".safetensors", ".json", ".pt2", ".onnx")
    )
    if flags.json:
        print(json.dumps({"out": str(flags.out), "files": files, "apart": apart}))
        return
    tell(f"{flags.out}: {', '.join(files)}")
    if apart is not None:
        tell(f"model.pt2 gives the learner's {exported(learner).output}; they are at most {apart:.1e} apart")


def available() -> tuple[Form, ...]:
    if find_spec("onnxscript") is not None:
        return ALL
    say("no model.onnx: writing ONNX needs `pip install onnx onnxscript`")
    return ("weights", "torch")


def compared(learner: Learner, signal: Signal, folder: Path) -> float:
    """Largest difference between the outputs of the exported program and the learner; ValueError if too large."""
    from sonarium.models.export import exported

    module = exported(learner).eval()
    clip = 0.1 * module.example(signal).flip(0)
    with torch.no_grad():
        ours, theirs = module(clip), torch.export.load(folder / "model.pt2").module()(clip)
    apart = float((ours - theirs).abs().max())
    if not apart <= CLOSE * max(1.0, float(ours.abs().max())):
        raise ValueError(
            f"the program gives other {module.output} than the learner, {apart:.1e} apart: it is in '{folder}', "
            "but not to be trusted: report it with the versions in environment.json"
        )
    return apart
