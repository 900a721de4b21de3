"""SynTone's data sets: read without unpickling, and written.

SynTone (Brima et al., 2024, arXiv 2402.10547) stores `x` (clip, time), `y` (index of the waveform), `classes`
(names of the waveforms) and `metadata` (frequency, amplitude and waveform of each clip) in one .npz file,
`metadata` as a pickled dictionary. In the files of `save_syntone` it is a string of JSON with the same keys; for
tones with slow modulation they also have `tracks` (clip, frame, track).

An .npz file is a zip of .npy members, each a header and then its numbers (`numpy.lib.format`), read and written
here in blocks. A member of Python objects is a pickle, a program for a small machine: its instructions are listed,
and none is run.
"""

import json
import lzma
import math
import os
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.lib import format as npy
from torch import Tensor

from sonarium.config import Range, check_ranges
from sonarium.files import written_aside
from sonarium.worlds.contract import BLOCK, Batch, Factor, Progress, Signal, World, WorldEntry
from sonarium.worlds.export import batches, described, silent
from sonarium.worlds.tones.world import Tones

PIECE = 1 << 24
"""Bytes read at a time."""
UNPACKED, RATIO = 1 << 28, 200
"""Array size in bytes beyond which its compression ratio must not exceed RATIO: tones repeat less often."""
ABOUT, ABOUT_CLIP = 1 << 20, 1 << 12
"""Maximum size in bytes of names and metadata, and the additional bytes per clip."""
UNREADABLE = (
    *(ValueError, OSError, EOFError, RuntimeError, LookupError, OverflowError, TypeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)
"""Exceptions that the libraries raise for altered archives and headers."""
Result = TypeVar("Result")
SYNTONE_KEYS = {"waveform": "waveforms", "frequency": "freqs", "amplitude": "amps"}
"""Key of each factor in SynTone's metadata."""
UNITS = {"frequency": "Hz", "amplitude": ""}


@runtime_checkable
class Readable(Protocol):
    """An open member of an archive."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class SyntoneFileConfig:
    path: str | None = None
    """Path of the .npz file."""
    rate: Annotated[int | None, Range(1, 10**6)] = None
    """Sampling rate in Hz, if the file does not give it; by default a clip lasts one second."""

    def __post_init__(self) -> None:
        check_ranges(self)


class SyntoneFile(World):
    """Tones from an .npz file of SynTone or of `save_syntone`, held in memory in single precision.

    Factors that the file does not give as plain numbers, or that have one value, are left out.
    """

    name = "syntone-file"

    def __init__(self, config: SyntoneFileConfig) -> None:
        if config.path is None:
            raise ValueError("the world syntone-file needs the path of an .npz file: give --path FILE.npz")
        place = Path(config.path)
        with open_archive(place) as archive:
            self.samples = read_member(place, archive, "x", read_samples)
            clips, length = self.samples.shape
            about = ABOUT + ABOUT_CLIP * clips
            labels = read_member(place, archive, "y", read_small, about)
            classes = read_member(place, archive, "classes", read_small, about)
            metadata = read_member(place, archive, "metadata", partial(read_metadata, clips=clips), about)
            tracked = "tracks" in metadata
            self.tracked = (
                read_member(place, archive, "tracks", partial(read_samples, axes=3)) if tracked else None
            )
        check_labels(place, labels, classes, clips)
        units = units_of(place, metadata) or UNITS
        columns = [("waveform", "", labels)]
        for name, unit in units.items():
            key = SYNTONE_KEYS.get(name, name)
            if name != "waveform" and key in metadata:
                columns.append((name, unit, check_column(place, name, metadata[key], clips)))
        # A factor with one value is no prediction target.
        varied = [(name, unit, column) for name, unit, column in columns if len(np.unique(column)) > 1]
        names = tuple(str(label) for label in classes)
        self.factors = tuple(
            Factor(name, names if name == "waveform" else tuple(np.unique(column).tolist()), unit)
            for name, unit, column in varied
        )
        if not varied:
            raise ValueError(
                f"{place} has {clips} clip(s) whose known factors are all the same: give one that varies"
            )
        self.values = torch.from_numpy(np.stack([column for *_, column in varied], axis=1)).float()
        # SynTone's files do not hold their rate; its clips last one second.
        self.signal = Signal("wave", (length,), config.rate or rate_of(place, metadata) or length)
        if self.tracked is not None:
            self.track_rate = track_rate_of(place, metadata)
            self.tracks = tracks_in(
                place, metadata, self.tracked, (clips, int(self.frames_of(torch.tensor([length]))))
            )

    def __len__(self) -> int:
        return len(self.samples)

    def whole(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        at = index.cpu()
        tracks = None if self.tracked is None else self.tracked[at]
        return Batch(at, self.samples[at], self.values[at], tracks=tracks).to(device)

    def factor_values(self, index: Int[Tensor, " clip"]) -> Float[Tensor, "clip factor"]:
        return self.values[index.cpu()]


def load_syntone(path: str | Path, rate: int | None = None) -> SyntoneFile:
    """Load an .npz file of SynTone or of `save_syntone` as a world, without unpickling."""
    return SyntoneFile(SyntoneFileConfig(str(path), rate))


def read_samples(member: Readable, shape: tuple[int, ...], dtype: np.dtype, axes: int = 2) -> Tensor:
    """Waveforms (or tracks) in single precision; ValueError if any sample is not finite."""
    if len(shape) != axes or 0 in shape or dtype.kind != "f":
        belong = "(clip, time)" if axes == 2 else "(clip, frame, track)"
        raise ValueError(f"it has the shape {shape} of {dtype}, where floats {belong} belong: save it so")
    samples = torch.empty(shape, dtype=torch.float32)
    first = 0
    for piece in read_pieces(member, shape, dtype):
        rows = samples[first : first + len(piece)]
        rows.copy_(torch.from_numpy(piece.astype(np.float32)))
        bad = torch.nonzero(~torch.isfinite(rows))
        if len(bad):
            clip, sample = first + int(bad[0, 0]), int(bad[0, 1])
            raise ValueError(f"clip {clip} is not finite at sample {sample}: repair or remove that clip")
        first += len(piece)
    return samples


def read_small(member: Readable, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """One-dimensional array of whole numbers or names."""
    if len(shape) != 1 or dtype.kind not in "iuU":
        raise ValueError(f"it has the shape {shape} of {dtype}, where a list of whole numbers or names belongs")
    return np.concatenate([np.empty(0, dtype), *read_pieces(member, shape, dtype)])


def read_metadata(member: Readable, shape: tuple[int, ...], dtype: np.dtype, clips: int) -> dict[str, Any]:
    """Factors of each clip, from JSON or from the instructions of a pickle, which are not run."""
    if dtype.kind == "O":
        return dict(numbers_in_pickle(member.read(), tuple(SYNTONE_KEYS.values()), clips))
    if dtype.kind != "U" or shape != ():
        raise ValueError(f"it has the shape {shape} of {dtype}, where one string of JSON belongs")
    try:
        metadata = json.loads(str(np.frombuffer(member.read(), dtype)[0]))
    except RecursionError:
        raise ValueError("its JSON is nested without end") from None
    if not isinstance(metadata, dict):
        raise ValueError(f"its JSON is a {type(metadata).__name__}, where an object belongs")
    return metadata


def units_of(place: Path, metadata: dict[str, Any], key: str = "factors") -> dict[str, str]:
    """Unit of each factor or track, by name."""
    factors = metadata.get(key, [])
    known = isinstance(factors, list) and all(
        isinstance(factor, dict) and isinstance(factor.get("name"), str) and isinstance(factor.get("unit"), str)
        for factor in factors
    )
    if not known:
        raise ValueError(f"{place} has {key} in its metadata without a name and a unit each: make the file again")
    return {factor["name"]: factor["unit"] for factor in factors}


def track_rate_of(place: Path, metadata: dict[str, Any]) -> float:
    """Frames of the tracks per second."""
    rate = metadata.get("track_rate")
    if not isinstance(rate, int | float) or not 0 < rate < 2**31:
        raise ValueError(f"{place} has the track rate {rate!r} in its metadata, where a positive number belongs")
    return float(rate)


def tracks_in(
    place: Path, metadata: dict[str, Any], tracked: Float[Tensor, "clip frame track"], expected: tuple[int, int]
) -> tuple[Factor, ...]:
    """Tracks of a file, each with its minimum and maximum in the file."""
    units = units_of(place, metadata, "tracks")
    if tracked.shape != (*expected, len(units)):
        raise ValueError(
            f"{place} has tracks of shape {tuple(tracked.shape)}, and {(*expected, len(units))} belong to its "
            "clips, their length and the names of the tracks: make the file again"
        )
    ends = zip(tracked.amin((0, 1)).tolist(), tracked.amax((0, 1)).tolist(), strict=True)
    return tuple(Factor(name, own, unit) for (name, unit), own in zip(units.items(), ends, strict=True))


def rate_of(place: Path, metadata: dict[str, Any]) -> int | None:
    """Sampling rate in Hz; None if the file does not give it."""
    rate = metadata.get("rate")
    if rate is not None and (not isinstance(rate, int) or not 0 < rate < 2**31):
        raise ValueError(
            f"{place} has the rate {rate!r} in its metadata, where a whole number of at least 1 belongs"
        )
    return rate


def check_labels(place: Path, labels: np.ndarray, classes: np.ndarray, clips: int) -> None:
    """Raise ValueError if waveform indices do not fit the clips or the names."""
    if labels.shape != (clips,) or labels.dtype.kind not in "iu" or classes.dtype.kind != "U":
        raise ValueError(
            f"{place} has {clips} clips in x, {labels.shape} {labels.dtype} in y and {classes.dtype} in "
            "classes: y should hold one whole number a clip, and classes the waveforms' names"
        )
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(
            f"{place} has waveforms numbered {labels.min()} to {labels.max()} in y, and {len(classes)} names "
            "in classes: make the file again"
        )


def check_column(place: Path, name: str, numbers: Any, clips: int) -> np.ndarray:
    """One number for each clip; ValueError if any is missing or not finite."""
    try:
        column = np.asarray(numbers)
    except ValueError as error:
        raise ValueError(
            f"{place} has a {name} that is not a list of numbers ({error}): make the file again"
        ) from None
    if column.shape != (clips,) or column.dtype.kind not in "iuf" or not np.isfinite(column).all():
        raise ValueError(
            f"{place} has the {name} of its {clips} clips in an array of shape {column.shape} of {column.dtype}, "
            "or with numbers that are not finite: give one finite number a clip"
        )
    return column


def metadata_of(world: Tones) -> dict[str, list[Any]]:
    """Value of each factor in each clip, under SynTone's key if it has one, else the factor's name."""
    positions = world.positions(torch.arange(len(world)))
    return {
        SYNTONE_KEYS.get(factor.name, factor.name): [factor.values[at] for at in positions[:, column].tolist()]
        for column, factor in enumerate(world.grid)
        if factor in world.factors or factor.name in SYNTONE_KEYS
    }


def save_syntone(world: Tones, path: str | Path, progress: Progress = silent) -> None:
    """Write SynTone's .npz with the samples in single precision, batch by batch."""
    target = Path(path)
    if target.suffix != ".npz":
        raise ValueError(f"the path {target} does not end in .npz: give one that does")
    if target.is_dir():
        raise ValueError(f"{target} is a folder: give the path of a file in it")
    clips = len(world)
    about = {"rate": world.config.rate, "factors": described(world.factors)}
    if world.tracks:
        about |= {"tracks": described(world.tracks), "track_rate": world.track_rate}
    metadata = np.array(json.dumps(about | metadata_of(world)))
    classes = np.array(world.config.waveforms)
    waveform = world.positions(torch.arange(clips))[:, 0].numpy()
    with written_aside(target) as aside, aside.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            samples = (batch.signal.numpy() for batch in batches(world, progress))
            write_member(archive, "x", (clips, *world.signal.shape), "<f4", samples)
            write_member(archive, "y", (clips,), "<i8", [waveform])
            write_member(archive, "metadata", (), metadata.dtype.str, [metadata])
            write_member(archive, "classes", classes.shape, classes.dtype.str, [classes])
            if world.tracks:
                blocks = torch.arange(clips).split(BLOCK)
                tracks = (world.tracked(world.locate(block), block).numpy() for block in blocks)
                frames = int(world.frames_of(torch.tensor(world.signal.shape)))
                write_member(archive, "tracks", (clips, frames, len(world.tracks)), "<f4", tracks)
        file.flush()
        os.fsync(file.fileno())


def write_member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: str, pieces: Iterable[np.ndarray]
) -> None:
    """Add an array of this shape, given in pieces along its first axis."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        npy.write_array_header_1_0(member, header)
        for piece in pieces:
            member.write(np.ascontiguousarray(piece, dtype).data)


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open the zip archive of an .npz file."""
    if not path.is_file():
        raise ValueError(f"there is no file at {path}: give the path of an .npz file")
    try:
        return zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise ValueError(
            f"{path} is not a complete .npz file ({error}): it is of another kind or was cut short; make it again"
        ) from error


def read_header(member: Readable) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype from the header of an .npy member."""
    version = npy.read_magic(member)
    readers: dict[tuple[int, int], Callable[..., Any]] = {
        (1, 0): npy.read_array_header_1_0,
        (2, 0): npy.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"its version {version} of the .npy format is not one of {sorted(readers)}")
    try:
        shape, columns_first, dtype = readers[version](member)
    except Exception as error:
        # NumPy parses the header as Python, and raises any error of the parser.
        raise ValueError(f"its header cannot be read ({' '.join(str(error).split())[:200]})") from None
    if columns_first and len(shape) > 1:
        raise ValueError("its numbers lie column by column: save it from a C-ordered array")
    return shape, dtype


def read_pieces(member: Readable, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    """The numbers after a header, in blocks of rows."""
    row = int(np.prod(shape[1:])) * dtype.itemsize
    rows = max(PIECE // max(row, 1), 1)
    for first in range(0, shape[0], rows):
        many = min(rows, shape[0] - first)
        content = member.read(many * row)
        if len(content) < many * row:
            raise ValueError(f"it ends after {first * row + len(content)} of {shape[0] * row} bytes")
        yield np.frombuffer(content, dtype).reshape(many, *shape[1:])
    # The checksum of a zip member is only verified at its end.
    if member.read(1):
        raise ValueError("it has more bytes than its header says")


def read_member(
    path: Path,
    archive: zipfile.ZipFile,
    name: str,
    read: Callable[[Readable, tuple[int, ...], np.dtype], Result],
    most: int | None = None,
) -> Result:
    """Array of an archive, of at most `most` bytes, read by `read`; errors name the file in one line."""
    if f"{name}.npy" not in archive.namelist():
        others = ", ".join(map(repr, archive.namelist()[:10])) or "none"
        raise ValueError(f"{path} has no array '{name}', only {others}: it is not a file of tones")
    try:
        about = archive.getinfo(f"{name}.npy")
        if about.file_size > UNPACKED and about.file_size > RATIO * about.compress_size:
            raise ValueError(f"its {about.compress_size} bytes would become {about.file_size}, as no tones do")
        if most is not None and about.file_size > most:
            raise ValueError(f"it has {about.file_size} bytes, at most {most} are expected")
        with archive.open(about) as member:
            shape, dtype = read_header(member)
            left, promised = about.file_size - member.tell(), math.prod(shape) * dtype.itemsize
            if dtype.kind != "O" and left != promised:
                raise ValueError(f"it has {left} bytes of numbers, its header says {promised}")
            return read(member, shape, dtype)
    except UNREADABLE as error:
        raise ValueError(f"array '{name}' of {path} cannot be used: {error}") from error


def numbers_in_pickle(content: bytes, names: tuple[str, ...], count: int) -> dict[str, np.ndarray]:
    """The float64 arrays of `count` numbers that follow these names in a pickle, parsed as data.

    In a pickle, the numbers of an array are one byte string after their key in the dictionary. A pickle of another
    form gives an empty dictionary.
    """
    found: dict[str, np.ndarray] = {}
    name = None
    try:
        for _, argument, _ in pickletools.genops(content):
            if isinstance(argument, str) and argument in names:
                name = argument
            elif isinstance(argument, bytes) and name and len(argument) == 8 * count:
                numbers = np.frombuffer(argument, "<f8")
                # int64 numbers have as many bytes, and would be read as subnormal floats.
                if not ((numbers != 0) & (np.abs(numbers) < np.finfo(np.float64).tiny)).any():
                    found.setdefault(name, numbers)
                name = None
    except (ValueError, struct.error):
        return {}
    return found


SYNTONE_FILE = WorldEntry(
    "tones from an .npz file of SynTone, or of `sonarium make tones`",
    "wave",
    SyntoneFileConfig,
    lambda config, seed, progress: SyntoneFile(config),
)
