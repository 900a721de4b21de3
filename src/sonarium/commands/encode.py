"""`sonarium encode RUN FILES… --out codes.npz`: recordings in, codes out.

A table with a row for each frame of a file where the model has frames at a rate, and for each clip-long piece
otherwise: its `path`, `start` in seconds, and the codes: `codes` (row, code) in an .npz, else the columns
`code_0`, `code_1` and so on. `--json` prints one object: `out`, `files`, `rows`, `codes`, how many there are in a
row, and `rate`, how many rows a second.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from sonarium.commands.codetable import Part, write
from sonarium.commands.faults import UsageError, say, tell
from sonarium.commands.flags import parse, required
from sonarium.commands.progress import bars
from sonarium.runs.coder import Coder, load_coder
from sonarium.training.fit import Progress
from sonarium.worlds.recordings.listing import sounds_at

FORMATS = (".npz", ".csv", ".parquet")


@dataclass(frozen=True)
class EncodeFlags:
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder of a trained model."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], required("FILES…")]
    """Sound files of any sampling rate, length and number of channels; of a folder, all in it."""
    out: Path
    """Output file: .npz, .csv or .parquet, with one row per frame, or per piece the length of a training clip."""
    code: str = ""
    """Codes to extract: of a world model feature ([h, z]), state (h), latent (z) or embedding (of each token
    alone); of an autoregressive model feature or state. By default those set in training."""
    best: bool = False
    """Use the weights that were best in validation; by default the newest."""
    device: str = "cpu"
    """Device: cpu, cuda or auto."""
    json: bool = False
    """Print a summary as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(EncodeFlags, arguments, "encode", "Encode sound files with the model of a run.")
    if flags.out.suffix.lower() not in FORMATS:
        raise UsageError(f"--out {flags.out} ends in none of {', '.join(FORMATS)}: give a name that does")
    if not flags.files:
        raise UsageError("no files to encode: name one or more sound files after the run folder")
    files = [file for path in flags.files for file in sounds_at(path)]
    coder = load_coder(flags.run, flags.device, code=flags.code, best=flags.best)
    with bars() as progress:
        parts = measured(coder, files, progress)
        if coder.resampled:
            say(coder.resampled)
        rows = sum(part.rows for part in parts)
        width = write(flags.out, list(watched(parts, rows, progress)), coder.code_rate)
    result = {
        "out": str(flags.out),
        "files": len(files),
        "rows": rows,
        "codes": width,
        "rate": coder.code_rate,
    }
    if flags.json:
        print(json.dumps(result))
    else:
        tell(
            f"{flags.out}: {rows} rows of {width} codes from {len(files)} file(s), "
            f"{coder.code_rate:g} a second of sound"
        )


def measured(coder: Coder, files: Sequence[Path], progress: Progress) -> list[Part]:
    """Read each file once before anything is written, to find all bad ones and measure the levels."""
    parts, faults = [], []
    for done, path in enumerate(files, start=1):
        try:
            samples, power = coder.measure(path)
            parts.append(Part(str(path), coder.rows(samples), partial(coder.stream_file, path, samples, power)))
        except ValueError as error:
            faults.append(str(error))
        progress("reading files", done, len(files), {})
    if faults:
        raise ValueError("; ".join(faults))
    return parts


def watched(parts: list[Part], total: int, progress: Progress):
    """The same parts, with codes that report progress."""
    before = 0
    for part in parts:
        yield Part(part.name, part.rows, partial(counted, part, before, total, progress))
        before += part.rows


def counted(part: Part, before: int, total: int, progress: Progress):
    for codes in part.codes():
        yield codes
        before += len(codes)
        progress("encoding", before, total, {})
