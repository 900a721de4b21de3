"""`sonarium sample RUN --out FOLDER`: new clips, drawn from what a model has learnt.

`--json` prints one object: `out`, the folder; `clips`, how many; `step`, of the checkpoint. The folder holds
`codes.npy` (clip, frame, code) and `sample-000.wav` (32-bit floating point) or `.png` and so on.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import torch
import tyro
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from sonarium.commands.faults import say, tell
from sonarium.commands.flags import parse
from sonarium.commands.progress import bars
from sonarium.config import Range
from sonarium.features.contract import PictureFrontEnd
from sonarium.files import written_aside
from sonarium.models.contract import Decoder, FeatureLearner, Sampler, Synthesiser
from sonarium.runs.build import open_run
from sonarium.training.engine import choose_device
from sonarium.worlds.contract import Signal

BLOCK = 16
"""Number of clips decoded at a time, so that memory does not grow with their total."""


@dataclass(frozen=True)
class SampleFlags:
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder of a trained model."""
    out: Path
    """New output folder for WAV files of sound or PNG files of images, and their codes."""
    count: Annotated[int, Range(1, 10**6)] = 8
    """Number of clips."""
    seed: Annotated[int, Range(0)] = 0
    """Random seed."""
    best: bool = False
    """Use the weights that were best in validation; by default the newest."""
    device: str = "cpu"
    """Device: cpu, cuda or auto."""
    json: bool = False
    """Print a summary as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(SampleFlags, arguments, "sample", "Sample new clips from the prior of the model of a run.")
    if flags.out.exists() and (not flags.out.is_dir() or any(flags.out.iterdir())):
        raise ValueError(f"'{flags.out}' exists and is not an empty folder: give --out a new one")
    device = choose_device(flags.device)
    opened = open_run(flags.run, remark=say, best=flags.best)
    learner, signal = opened.learner.to(device), opened.data.world.signal
    if not (isinstance(learner, Sampler) and isinstance(learner, Decoder) and isinstance(learner, FeatureLearner)):
        raise ValueError(f"'{flags.run}' holds a {opened.plan.model}, which cannot draw new clips")
    front = learner.front
    if not isinstance(front, PictureFrontEnd) or (signal.kind == "wave" and not front.invertible):
        raise ValueError(
            f"'{flags.run}' has a front end that cannot be inverted to sound; one with a shorter --hop may"
        )
    generator = torch.Generator(device).manual_seed(flags.seed)
    codes = learner.sample(flags.count, generator)
    with written_aside(flags.out) as aside, bars() as progress:
        aside.mkdir()
        np.save(aside / "codes.npy", codes.cpu().numpy())
        for start in range(0, flags.count, BLOCK):
            some = codes[start : start + BLOCK]
            if isinstance(learner, Synthesiser) and signal.rate is not None:
                made = sounds(learner.sound(some, generator=generator), signal.rate)
            else:
                made = clips(front, signal, learner.decode(some), generator)
            for number, (suffix, content) in enumerate(made, start):
                (aside / f"sample-{number:03}{suffix}").write_bytes(content)
            progress("drawing clips", min(start + BLOCK, flags.count), flags.count, {})
    if flags.json:
        print(json.dumps({"out": str(flags.out), "clips": flags.count, "step": opened.step}))
    else:
        tell(f"{flags.out}: {flags.count} clips of {opened.plan.model}, step {opened.step}")


def clips(
    front: PictureFrontEnd, signal: Signal, features: Float[Tensor, "clip *feature"], generator: torch.Generator
) -> list[tuple[str, bytes]]:
    """Decoded features as clips, each as a suffix and the bytes of a file."""
    if signal.kind == "picture":
        pictures = (features[:, 0].clamp(0, 1) * 255).round().byte().cpu().numpy()
        return [(".png", png(Image.fromarray(pixels))) for pixels in pictures]
    assert signal.rate is not None, signal
    return sounds(front.invert(features, signal.shape[0], generator=generator), signal.rate)


def sounds(waves: Float[Tensor, "clip time"], rate: int) -> list[tuple[str, bytes]]:
    return [(".wav", wav(wave, rate)) for wave in waves.cpu().numpy()]


def wav(wave: Float[np.ndarray, " time"], rate: int) -> bytes:
    """A WAV file in floating point, which keeps the level of clips that are louder than full scale."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, subtype="FLOAT", format="WAV")
    return buffer.getvalue()


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
