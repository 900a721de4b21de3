"""Reads and writes NumPy's .npz archives piece by piece, and never unpickles.

The layout is NumPy's own (`numpy.lib.format`): a zip of .npy members, each a header and then its
numbers. A member of Python objects is a pickle, a program for a small machine: its instructions are
listed here, and none is run.
"""

import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.lib import format as npy

PIECE = 1 << 24
"""Bytes read at once."""
Result = TypeVar("Result")


@runtime_checkable
class Readable(Protocol):
    """An open member of an archive."""

    def read(self, size: int = -1, /) -> bytes: ...


def write_member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: str, pieces: Iterable[np.ndarray]
) -> None:
    """Add an array of this shape that arrives in pieces along its first axis."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        npy.write_array_header_1_0(member, header)
        for piece in pieces:
            member.write(np.ascontiguousarray(piece, dtype).data)


def open_archive(path: Path) -> zipfile.ZipFile:
    """The zip behind an .npz file."""
    if not path.is_file():
        raise ValueError(f"there is no file at {path}: give the path of an .npz file")
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is no whole .npz file ({error}): it is of another kind or was cut short; make it again"
        ) from error


def read_header(member: Readable) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and kind of the numbers that follow."""
    version = npy.read_magic(member)
    readers: dict[tuple[int, int], Callable[..., Any]] = {
        (1, 0): npy.read_array_header_1_0,
        (2, 0): npy.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"its version {version} of the .npy format is not one of {sorted(readers)}")
    shape, columns_first, dtype = readers[version](member)
    if columns_first and len(shape) > 1:
        raise ValueError("its numbers lie column by column: save it from a C-ordered array")
    return shape, dtype


def read_pieces(member: Readable, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    """The numbers after a header, some rows at a time."""
    row = int(np.prod(shape[1:])) * dtype.itemsize
    rows = max(PIECE // max(row, 1), 1)
    for first in range(0, shape[0], rows):
        many = min(rows, shape[0] - first)
        content = member.read(many * row)
        if len(content) < many * row:
            raise ValueError(f"it ends after {first * row + len(content)} of {shape[0] * row} bytes")
        yield np.frombuffer(content, dtype).reshape(many, *shape[1:])
    # The checksum of a zip's member is only compared at its end.
    if member.read(1):
        raise ValueError("it has more bytes than its header says")


def read_member(
    path: Path,
    archive: zipfile.ZipFile,
    name: str,
    read: Callable[[Readable, tuple[int, ...], np.dtype], Result],
) -> Result:
    """What `read` makes of one array; whatever is wrong with it becomes one line about this file."""
    if f"{name}.npy" not in archive.namelist():
        raise ValueError(f"{path} has no array '{name}', only {archive.namelist()}: it is not a file of tones")
    try:
        with archive.open(f"{name}.npy") as member:
            return read(member, *read_header(member))
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise ValueError(f"array '{name}' of {path} cannot be used: {error}") from error


def numbers_in_pickle(content: bytes, names: tuple[str, ...], count: int) -> dict[str, np.ndarray]:
    """The float64 arrays of `count` numbers that follow these names in a pickle, read as data.

    An array's numbers lie in a pickle as one string of bytes, after the key under which the dictionary
    holds them. A pickle that does not look so gives nothing.
    """
    found: dict[str, np.ndarray] = {}
    name = None
    try:
        for _, argument, _ in pickletools.genops(content):
            if isinstance(argument, str) and argument in names:
                name = argument
            elif isinstance(argument, bytes) and name and len(argument) == 8 * count:
                found.setdefault(name, np.frombuffer(argument, "<f8"))
                name = None
    except (ValueError, struct.error):
        return {}
    return found
