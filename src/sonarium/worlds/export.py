"""Writes rendered worlds to files: SynTone's .npz, and folders of sound with a manifest.

The layout of the .npz is told in `syntone.py`, which reads it; `metadata` is written as a string of
JSON with the keys of SynTone's dictionary. Whatever is written lies aside until it is whole, and only
then takes its name.
"""

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from sonarium.files import written_aside
from sonarium.worlds.contract import Batch, World
from sonarium.worlds.tones import npz
from sonarium.worlds.tones.syntone import SYNTONE_KEYS, SyntoneFile, load_syntone
from sonarium.worlds.tones.world import Tones

__all__ = ["SyntoneFile", "load_syntone", "save_audio", "save_syntone"]

PIECE = 128
"""Clips rendered at once, so that memory does not grow with the world."""
Progress = Callable[[int, int], object]
"""Is told how many clips are done, and of how many."""


def silent(done: int, total: int) -> None:
    """Tells nobody."""


def pieces(world: World, progress: Progress) -> Iterator[Batch]:
    """All clips of a world in order, some at a time."""
    for first in range(0, len(world), PIECE):
        past = min(first + PIECE, len(world))
        yield world.whole(torch.arange(first, past))
        progress(past, len(world))


def causes(world: Tones) -> dict[str, list[Any]]:
    """The value of each cause in each clip, under SynTone's keys where it has one, else by name."""
    positions = world.positions(torch.arange(len(world)))
    return {
        SYNTONE_KEYS.get(factor.name, factor.name): [factor.values[at] for at in positions[:, column].tolist()]
        for column, factor in enumerate(world.grid)
        if factor in world.factors or factor.name in SYNTONE_KEYS
    }


def save_syntone(world: Tones, path: str | Path, progress: Progress = silent) -> None:
    """Write SynTone's .npz with the samples in single precision, a piece at a time."""
    target = Path(path)
    if target.suffix != ".npz":
        raise ValueError(f"the path {target} does not end in .npz: give one that does")
    if target.is_dir():
        raise ValueError(f"{target} is a folder: give the path of a file in it")
    clips = len(world)
    factors = [{"name": factor.name, "unit": factor.unit, "values": factor.values} for factor in world.factors]
    metadata = np.array(json.dumps({"rate": world.config.rate, "factors": factors, **causes(world)}))
    classes = np.array(world.config.waveforms)
    waveform = world.positions(torch.arange(clips))[:, 0].numpy()
    with written_aside(target) as aside, aside.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            samples = (batch.signal.numpy() for batch in pieces(world, progress))
            npz.write_member(archive, "x", (clips, *world.signal.shape), "<f4", samples)
            npz.write_member(archive, "y", (clips,), "<i8", [waveform])
            npz.write_member(archive, "metadata", (), metadata.dtype.str, [metadata])
            npz.write_member(archive, "classes", classes.shape, classes.dtype.str, [classes])
        file.flush()
        os.fsync(file.fileno())


def save_audio(
    world: World,
    folder: str | Path,
    format: str = "wav",
    manifest: str = "csv",
    progress: Progress = silent,
) -> None:
    """Write each clip as a file of sound, a manifest (csv or parquet) of their causes, and factors.json.

    WAV keeps the samples as they are, in 32-bit floating point. FLAC has 24-bit integers: a clip with
    peaks above full scale is written softer, and the manifest's column `gain` says by how much.
    """
    target = Path(folder)
    if format not in ("wav", "flac") or manifest not in ("csv", "parquet"):
        raise ValueError(f"format={format}, manifest={manifest}: give wav or flac, and csv or parquet")
    if world.signal.kind != "wave":
        raise ValueError(f"world '{world.name}' makes pictures: give one that makes sound")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} exists and is not an empty folder: give the path of a new one")
    with written_aside(target) as aside:
        (aside / "clips").mkdir(parents=True)
        factors = [{"name": factor.name, "unit": factor.unit, "values": factor.values} for factor in world.factors]
        about = {"world": world.name, "rate": world.signal.rate, "clips": len(world), "factors": factors}
        (aside / "factors.json").write_text(json.dumps(about, indent=1) + "\n")
        write = write_csv if manifest == "csv" else write_parquet
        write(aside / f"manifest.{manifest}", rows(world, aside, format, progress))
        if hasattr(os, "sync"):
            # One sync of everything is far quicker than one for each of many thousand files.
            os.sync()


def rows(world: World, folder: Path, format: str, progress: Progress) -> Iterator[list[dict[str, Any]]]:
    """Write the clips some at a time; the rows of the manifest that tell of them."""
    digits = len(str(len(world) - 1))
    # A batch tells numbers in single precision; the manifest gives them as the factor has them.
    exact = {
        (factor.name, float(np.float32(value))): value
        for factor in world.factors
        if not factor.discrete
        for value in factor.values
    }
    for batch in pieces(world, progress):
        groups = world.group(batch.index).tolist()
        lines = []
        for at, clip in enumerate(batch.index.tolist()):
            file = f"clips/{clip:0{digits}d}.{format}"
            samples = batch.signal[at] if batch.lengths is None else batch.signal[at, : batch.lengths[at]]
            gain = write_sound(folder / file, samples.numpy(), world.signal.rate or 0, format)
            line: dict[str, Any] = {"file": file, "clip": clip, "group": groups[at], "gain": gain}
            for factor, number in zip(world.factors, batch.factors[at].tolist(), strict=True):
                value = factor.values[int(number)] if factor.discrete else number
                line[factor.name] = exact.get((factor.name, number), value)
            lines.append(line)
        yield lines


def write_sound(path: Path, samples: np.ndarray, rate: int, format: str) -> float:
    """Write one clip; the gain that it was written with."""
    peak = float(np.abs(samples).max(initial=0))
    gain = min(1.0, (1 - 2**-23) / peak) if format == "flac" and peak > 0 else 1.0
    content = io.BytesIO()
    subtype = "PCM_24" if format == "flac" else "FLOAT"
    soundfile.write(content, samples * np.float64(gain), rate, subtype=subtype, format=format.upper())
    path.write_bytes(content.getvalue())
    return gain


def write_csv(path: Path, parts: Iterator[list[dict[str, Any]]]) -> None:
    """The manifest as comma-separated text."""
    with path.open("w", newline="") as file:
        for number, lines in enumerate(parts):
            writer = csv.DictWriter(file, list(lines[0]))
            if number == 0:
                writer.writeheader()
            writer.writerows(lines)


def write_parquet(path: Path, parts: Iterator[list[dict[str, Any]]]) -> None:
    """The manifest as Parquet, one group of rows a piece."""
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ValueError("a manifest in Parquet needs the package pyarrow: install it, or ask for csv") from error
    first = arrow.Table.from_pylist(next(parts))
    with parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for lines in parts:
            writer.write_table(arrow.Table.from_pylist(lines, schema=first.schema))
