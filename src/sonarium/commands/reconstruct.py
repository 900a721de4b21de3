"""`sonarium reconstruct RUN FILES… --out FOLDER`: recordings through the codes of a model, and back to sound.

Whole files are encoded and decoded by overlapping snippets, to their last sample. The sound has the phase of the
recording, or one found from the magnitudes alone. `--json` prints one object: `out`, the folder, and `files`, the
names written in it (32-bit floating point).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import soundfile
import tyro

from sonarium.commands.faults import UsageError, say, tell
from sonarium.commands.flags import parse, required
from sonarium.commands.progress import bars
from sonarium.config import Range
from sonarium.files import written_aside
from sonarium.models.contract import FrameEncoder, Synthesiser
from sonarium.runs.build import open_learner
from sonarium.training.engine import choose_device
from sonarium.worlds.audio.decoder import read_mono
from sonarium.worlds.recordings.listing import named, sounds_at


@dataclass(frozen=True)
class ReconstructFlags:
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder of a trained model whose codes can be decoded to sound, such as mrgan."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], required("FILES…")]
    """Sound files; of a folder, all in it."""
    out: Path
    """New output folder for one WAV file per sound file."""
    phase: Literal["kept", "griffin-lim"] = "kept"
    """Phase of the spectrogram: that of the recording (kept), or by the Griffin-Lim algorithm."""
    iterations: Annotated[int, Range(0, 10**5)] = 32
    """Iterations of the Griffin-Lim algorithm."""
    best: bool = False
    """Use the weights that were best in validation; by default the newest."""
    device: str = "cpu"
    """Device: cpu, cuda or auto."""
    json: bool = False
    """Print a summary as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(ReconstructFlags, arguments, "reconstruct", "Encode sound files, and decode the codes to sound.")
    if flags.out.exists() and (not flags.out.is_dir() or any(flags.out.iterdir())):
        raise ValueError(f"'{flags.out}' exists and is not an empty folder: give --out a new one")
    if not flags.files:
        raise UsageError("no files to reconstruct: name one or more sound files after the run folder")
    files = [file for path in flags.files for file in sounds_at(path)]
    device = choose_device(flags.device)
    plan, learner, signal = open_learner(flags.run, say, best=flags.best)
    if not (isinstance(learner, FrameEncoder) and isinstance(learner, Synthesiser)) or signal.rate is None:
        raise ValueError(f"'{flags.run}' holds a {plan.model}, whose codes of sound files cannot become sound")
    learner.to(device)
    names = [f"{name}.wav" for name in named(files)]
    with written_aside(flags.out) as aside, bars() as progress:
        aside.mkdir()
        for done, (path, name) in enumerate(zip(files, names, strict=True), start=1):
            wave = read_mono(path, signal.rate)[None].to(device)
            codes = learner.encode(wave)
            phase = learner.phase(wave) if flags.phase == "kept" else None
            made = learner.sound(codes, wave.shape[1], phase, flags.iterations)
            soundfile.write(aside / name, made[0].cpu().numpy(), signal.rate, subtype="FLOAT", format="WAV")
            progress("reconstructing files", done, len(files), {})
    if flags.json:
        print(json.dumps({"out": str(flags.out), "files": names}))
    else:
        tell(f"{flags.out}: {len(files)} file(s) from the codes of {plan.model}, phase {flags.phase}")
