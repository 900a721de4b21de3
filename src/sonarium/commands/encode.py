"""`sonarium encode RUN FILES… --out codes.npz`: recordings in, codes out.

A table with a row for each clip-long piece of a file: its `path`, `start` in seconds, and the codes: `codes`
(row, code) in an .npz, else the columns `code_0`, `code_1` and so on. `--json` prints one object: `out`,
`files`, `rows`, and `codes`, how many there are in a row.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from sonarium.commands.assemble import open_run
from sonarium.commands.faults import UsageError
from sonarium.commands.flags import parse
from sonarium.commands.progress import bars
from sonarium.files import written_aside
from sonarium.models.contract import Learner, can
from sonarium.training.engine import choose_device
from sonarium.worlds.audiofile import read_mono

FORMATS = (".npz", ".csv", ".parquet")


@dataclass(frozen=True)
class EncodeFlags:
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run folder of a trained model."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILES…")]
    """Sound files of any rate, length and number of channels."""
    out: Path
    """Where the codes go: .npz, .csv or .parquet. One row a clip-long piece of a file."""
    device: str = "cpu"
    """Device to compute on: cpu, cuda or auto."""
    json: bool = False
    """Print what was written as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(EncodeFlags, arguments, "encode", "Turn recordings into the codes of a run.")
    if flags.out.suffix not in FORMATS:
        raise UsageError(f"--out {flags.out} ends in none of {', '.join(FORMATS)}: give a name that does")
    if not flags.files:
        raise UsageError("no files to encode: name one or more sound files after the run folder")
    device = choose_device(flags.device)
    trained = open_run(flags.run)
    signal = trained.world.signal
    if signal.rate is None or not can(trained.learner, "encode"):
        raise ValueError(f"'{flags.run}' learnt from {signal.kind}s and cannot encode sound files")
    learner = trained.learner.to(device)
    names, starts, codes = [], [], []
    with bars() as progress:
        for done, path in enumerate(flags.files, start=1):
            pieces = cut(read_mono(path, signal.rate), signal.shape[0])
            made = encode(learner, pieces.to(device))
            rows = len(made)
            names += [str(path)] * rows
            starts += [number * len(pieces) / rows * signal.shape[0] / signal.rate for number in range(rows)]
            codes.append(made)
            progress("encoding files", done, len(flags.files), {})
    table = np.concatenate(codes)
    write(flags.out, names, np.array(starts), table)
    result = {"out": str(flags.out), "files": len(flags.files), "rows": len(table), "codes": table.shape[1]}
    if flags.json:
        print(json.dumps(result))
    else:
        print(f"{flags.out}: {len(table)} rows of {table.shape[1]} codes from {len(flags.files)} file(s)")


def cut(wave: Float[Tensor, " time"], samples: int) -> Float[Tensor, "piece sample"]:
    """Pieces as long as the clips of training, end to end; a rest is kept, with silence behind it, if it is
    half a piece or all there is."""
    whole, rest = divmod(len(wave), samples)
    pieces = whole + (rest >= samples / 2 or whole == 0)
    padded = torch.zeros(pieces * samples)
    kept = min(len(wave), len(padded))
    padded[:kept] = wave[:kept]
    return rearrange(padded, "(piece time) -> piece time", time=samples)


def encode(learner: Learner, pieces: Float[Tensor, "piece time"]) -> Float[np.ndarray, "row code"]:
    able: Any = learner
    blocks = [able.encode(block) for block in pieces.split(64)]
    return rearrange(torch.cat(blocks), "piece frame code -> (piece frame) code").cpu().numpy()


def write(
    path: Path, names: list[str], starts: Float[np.ndarray, " row"], codes: Float[np.ndarray, "row code"]
) -> None:
    """One table: path, start in seconds, and a column a code."""
    with written_aside(path) as aside:
        if path.suffix == ".npz":
            with open(aside, "wb") as file:
                np.savez_compressed(file, path=np.array(names), start=starts, codes=codes)
            return
        columns = {"path": names, "start": starts.tolist()}
        columns |= {f"code_{number}": column.tolist() for number, column in enumerate(codes.T)}
        if path.suffix == ".csv":
            write_csv(aside, columns)
        else:
            write_parquet(aside, columns)


def write_csv(path: Path, columns: dict[str, list]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_parquet(path: Path, columns: dict[str, list]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError("writing .parquet needs pyarrow: `pip install pyarrow`, or use .npz or .csv") from None
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
