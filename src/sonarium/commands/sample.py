"""`sonarium sample RUN --out FOLDER`: new clips, drawn from what a model has learnt."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
import tyro
from PIL import Image

from sonarium.commands.assemble import open_run
from sonarium.commands.flags import parse
from sonarium.files import written_aside
from sonarium.models.contract import can


@dataclass(frozen=True)
class SampleFlags:
    run: tyro.conf.Positional[Path]
    """The run folder of a trained model."""
    out: Path
    """A new folder for the clips: WAV for sound, PNG for pictures, and their codes."""
    count: int = 8
    """How many clips."""
    seed: int = 0
    """Seed of the draw."""
    device: str = "cpu"
    """Device to compute on."""
    json: bool = False
    """Print what was written as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(SampleFlags, arguments, "sample", "Draw new clips from a run.")
    if flags.count < 1:
        raise ValueError(f"--count {flags.count}: draw at least 1 clip")
    if flags.out.exists() and (not flags.out.is_dir() or any(flags.out.iterdir())):
        raise ValueError(f"'{flags.out}' exists and is not an empty folder: give --out a new one")
    trained = open_run(flags.run)
    learner, signal = trained.learner.to(flags.device), trained.world.signal
    if not (can(learner, "sample") and can(learner, "decode")):
        raise ValueError(f"'{flags.run}' holds a {trained.plan.model}, which cannot draw new clips")
    generator = torch.Generator(flags.device).manual_seed(flags.seed)
    codes = learner.sample(flags.count, generator)
    features = learner.decode(codes)
    with written_aside(flags.out) as aside:
        aside.mkdir()
        np.save(aside / "codes.npy", codes.cpu().numpy())
        if signal.kind == "wave":
            assert signal.rate is not None
            waves = learner.front.invert(features, signal.shape[0], generator=generator).cpu().numpy()
            for number, wave in enumerate(waves):
                soundfile.write(aside / f"sample-{number:03}.wav", np.clip(wave, -1, 1), signal.rate)
        else:
            for number, pixels in enumerate((features[:, 0] * 255).round().byte().cpu().numpy()):
                Image.fromarray(pixels).save(aside / f"sample-{number:03}.png")
    if flags.json:
        print(json.dumps({"out": str(flags.out), "clips": flags.count}))
    else:
        print(f"{flags.out}: {flags.count} clips of {trained.plan.model}, step {trained.step}")
