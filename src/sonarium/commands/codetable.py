"""The table of `sonarium encode`, written row by row: codes of many hours need not fit into memory."""

import csv
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sonarium.files import as_utf8, written_aside

ROWS = 1 << 15
"""Maximum number of rows written at once."""
GROUP = 1 << 17
"""Minimum size of a row group of Parquet: a group for each of many short files would be read ten times slower."""

Codes = Float[np.ndarray, "row code"]


@dataclass(frozen=True)
class Part:
    """A file with its codes, computed lazily."""

    name: str
    rows: int
    codes: Callable[[], Iterator[Codes]]


@dataclass(frozen=True)
class Block:
    """Consecutive rows of one file."""

    name: str
    start: Float[np.ndarray, " row"]
    codes: Codes


def blocks(parts: Iterable[Part], code_rate: float) -> Iterator[Block]:
    """All rows in order, in blocks of at most ROWS."""
    for part in parts:
        done = 0
        for codes in part.codes():
            for some in np.array_split(codes, -(-len(codes) // ROWS)):
                yield Block(part.name, (done + np.arange(len(some))) / code_rate, some)
                done += len(some)
        assert done == part.rows, (part.name, done, part.rows)


def write(path: Path, parts: list[Part], code_rate: float) -> int:
    """Write a table of path, start in seconds, and a column per code (in .npz one array); return the code size."""
    every = blocks(parts, code_rate)
    first = next(every)
    width, rows = first.codes.shape[1], chain([first], every)
    with written_aside(path) as aside:
        if path.suffix.lower() == ".npz":
            write_npz(aside, parts, code_rate, width, rows)
        elif path.suffix.lower() == ".csv":
            write_csv(aside, width, rows)
        else:
            write_parquet(aside, width, rows)
    return width


def columns(width: int) -> list[str]:
    return ["path", "start", *(f"code_{number}" for number in range(width))]


def write_csv(path: Path, width: int, rows: Iterable[Block]) -> None:
    with open(path, "w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow(columns(width))
        for block in rows:
            starts, codes = block.start.tolist(), block.codes.tolist()
            writer.writerows([block.name, start, *code] for start, code in zip(starts, codes, strict=True))


def write_parquet(path: Path, width: int, rows: Iterable[Block]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError("writing .parquet needs pyarrow: `pip install pyarrow`, or use .npz or .csv") from None
    names = columns(width)
    kinds = [pyarrow.string(), pyarrow.float64(), *[pyarrow.float32()] * width]
    schema = pyarrow.schema(list(zip(names, kinds, strict=True)))
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for group in grouped(rows):
            paths = [name for block in group for name in [as_utf8(block.name).decode()] * len(block.start)]
            starts = np.concatenate([block.start for block in group])
            codes = np.concatenate([block.codes for block in group])
            arrays = [paths, starts, *np.ascontiguousarray(codes.T)]
            table = pyarrow.table(dict(zip(names, arrays, strict=True)), schema)
            writer.write_table(table, row_group_size=len(table))


def grouped(rows: Iterable[Block]) -> Iterator[list[Block]]:
    """Lists of blocks with at least GROUP rows each, except the last."""
    group, size = [], 0
    for block in rows:
        group.append(block)
        size += len(block.start)
        if size >= GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def write_npz(path: Path, parts: list[Part], code_rate: float, width: int, rows: Iterable[Block]) -> None:
    """Like np.savez_compressed, but arrays are written in parts."""
    total, longest = sum(part.rows for part in parts), max(len(part.name) for part in parts)
    letters = np.dtype(f"<U{longest}")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        names = (np.full(part.rows, part.name, letters) for part in parts)
        write_array(archive, "path", letters, (total,), names)
        starts = (np.arange(part.rows) / code_rate for part in parts)
        write_array(archive, "start", np.dtype("<f8"), (total,), starts)
        codes = (block.codes for block in rows)
        write_array(archive, "codes", np.dtype("<f4"), (total, width), codes)


def write_array(
    archive: zipfile.ZipFile, name: str, kind: np.dtype, shape: tuple[int, ...], parts: Iterable[np.ndarray]
) -> None:
    header: Any = {"descr": kind.str, "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, kind).tobytes())
