"""`sonarium separate RUN FILES… --out FOLDER`: the sources of recordings at two ears, each in a file of its own.

Files of two channels (left, right) of any length are separated by the model of a run, window by window where it
can, and written as they are heard at both ears: NAME-1.wav, NAME-2.wav, … at the model's rate (32-bit floating
point). `--json` prints one object: `out`, the folder; `rate`; and `files`, the names written in it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import soundfile
import tyro

from sonarium.commands.faults import UsageError, say, tell
from sonarium.commands.flags import parse, required
from sonarium.commands.progress import bars
from sonarium.config import Range
from sonarium.files import written_aside
from sonarium.models.contract import Separator
from sonarium.runs.build import open_learner
from sonarium.runs.separate import ears_of, separated
from sonarium.training.engine import choose_device
from sonarium.worlds.recordings.listing import named, sounds_at


@dataclass(frozen=True)
class SeparateFlags:
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder of a trained separator."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], required("FILES…")]
    """Two-channel sound files, left and right; of a folder, all in it."""
    out: Path
    """New output folder for a two-channel WAV file per source of each sound file."""
    sources: Annotated[int | None, Range(1, 64)] = None
    """Number of sources per file; by default as many as the model separates."""
    best: bool = False
    """Use the weights that were best in validation; by default the newest."""
    device: str = "cpu"
    """Device: cpu, cuda or auto."""
    json: bool = False
    """Print a summary as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(SeparateFlags, arguments, "separate", "Separate binaural recordings into their sources.")
    if flags.out.exists() and (not flags.out.is_dir() or any(flags.out.iterdir())):
        raise ValueError(f"'{flags.out}' exists and is not an empty folder: give --out a new one")
    if not flags.files:
        raise UsageError("no files to separate: name one or more sound files after the run folder")
    files = [file for path in flags.files for file in sounds_at(path)]
    device = choose_device(flags.device)
    plan, learner, signal = open_learner(flags.run, say, "a separator", flags.best)
    if not isinstance(learner, Separator) or signal.rate is None:
        raise ValueError(
            f"'{flags.run}' holds a {plan.model}, which separates nothing: give the run of a separator"
        )
    if flags.sources not in (None, learner.sources):
        raise ValueError(
            f"--sources {flags.sources}: '{flags.run}' separates {learner.sources}; train one on mixtures of "
            f"{flags.sources}, `sonarium train {plan.model} --sources {flags.sources}`"
        )
    learner.to(device)
    names = [[f"{name}-{source + 1}.wav" for source in range(learner.sources)] for name in named(files)]
    with written_aside(flags.out) as aside, bars() as progress:
        aside.mkdir()
        for done, (path, own) in enumerate(zip(files, names, strict=True), start=1):
            write(learner, path, [aside / name for name in own], signal.rate, device)
            progress("separating files", done, len(files), {})
    if flags.json:
        print(
            json.dumps(
                {"out": str(flags.out), "rate": signal.rate, "files": [one for own in names for one in own]}
            )
        )
    else:
        tell(f"{flags.out}: {learner.sources} sources of each of {len(files)} file(s), at {signal.rate} Hz")


def write(separator: Separator, path: Path, targets: list[Path], rate: int, device: str) -> None:
    """Write the sources of a file, each to its own file."""
    outputs = [soundfile.SoundFile(one, "w", rate, 2, "FLOAT", format="WAV") for one in targets]
    try:
        for part in separated(separator, ears_of(path, rate), rate, device):
            for source, output in enumerate(outputs):
                output.write(part[:, source])
    finally:
        for output in outputs:
            output.close()
