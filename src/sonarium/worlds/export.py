"""Export of a world's clips to a folder of sound files with a manifest.

    manifest.csv    one row per clip: file, clip, group, gain, and its factors (or manifest.parquet)
    factors.json    the world, its sampling rate, the values of each factor and track, and further metadata
    clips/          one sound file per clip, without padding
    segments.csv    path, onset and offset in seconds, label: if clips have annotated segments
    sources/        one sound file per source of each clip, as in 000-1.wav, scaled like the clip: for mixtures
    tracks/         one .npy per clip (frame, track), in single precision: if factors change within a clip

World-specific file formats are in that world's folder (`WorldEntry.formats`). The folder is written under a
temporary name and renamed when it is complete.
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from sonarium.files import written_aside
from sonarium.worlds.contract import BLOCK, Batch, Factor, Progress, World

Row = dict[str, Any]


def silent(stage: str, done: int, total: int) -> None:
    """Report no progress."""


def batches(world: World, progress: Progress) -> Iterator[Batch]:
    """All clips of a world in order, in batches."""
    for first in range(0, len(world), BLOCK):
        past = min(first + BLOCK, len(world))
        yield world.whole(torch.arange(first, past))
        progress("writing clips", past, len(world))


def save_audio(
    world: World,
    folder: str | Path,
    format: str = "wav",
    manifest: str = "csv",
    progress: Progress = silent,
) -> None:
    """Write each clip as a sound file, with a manifest (csv or parquet) of the factors.

    WAV stores the samples unchanged, in 32-bit floating point. FLAC stores 24-bit integers: a clip with peaks
    above full scale is scaled down, and the manifest's column `gain` has the scale factor.
    """
    target = Path(folder)
    if format not in ("wav", "flac") or manifest not in ("csv", "parquet"):
        raise ValueError(f"format={format}, manifest={manifest}: give wav or flac, and csv or parquet")
    if world.signal.kind not in ("wave", "binaural"):
        raise ValueError(
            f"world '{world.name}' has clips of kind '{world.signal.kind}': give a world of waveforms"
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} exists and is not an empty folder: give the path of a new one")
    with written_aside(target) as aside:
        (aside / "clips").mkdir(parents=True)
        if world.signal.sources is not None:
            (aside / "sources").mkdir()
        about: dict[str, Any] = {"world": world.name, "rate": world.signal.rate, "clips": len(world)}
        about["factors"] = described(world.factors)
        if world.tracks:
            (aside / "tracks").mkdir()
            about |= {"tracks": described(world.tracks), "track_rate": world.track_rate}
        about |= world.about()
        (aside / "factors.json").write_text(json.dumps(about, indent=1) + "\n")
        write = write_csv if manifest == "csv" else write_parquet
        write(aside / f"manifest.{manifest}", write_clips(world, aside, format, progress))
        if hasattr(os, "sync"):
            # One sync of everything is far faster than one for each of many thousand files.
            os.sync()


def described(factors: Iterable[Factor]) -> list[Row]:
    return [{"name": factor.name, "unit": factor.unit, "values": factor.values} for factor in factors]


def write_clips(world: World, folder: Path, format: str, progress: Progress) -> Iterator[list[Row]]:
    """Write the clips, their segments and tracks batch by batch; yield the rows of the manifest."""
    digits, marked = len(str(len(world) - 1)), False
    with (folder / "segments.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as table:
        segments = csv.writer(table)
        segments.writerow(("path", "onset", "offset", "label"))
        for batch in batches(world, progress):
            names = [f"{clip:0{digits}d}" for clip in batch.index.tolist()]
            files = [f"clips/{name}.{format}" for name in names]
            lengths = world.lengths(batch.index)
            gains = [
                write_sound(folder / file, samples[:length].numpy(), world.signal.rate or 0, format)
                for file, samples, length in zip(files, batch.signal, lengths.tolist(), strict=True)
            ]
            for file, marks in zip(files, world.marks(batch.index), strict=True):
                segments.writerows((file, *mark) for mark in marks)
                marked = marked or bool(marks)
            if batch.sources is not None:
                write_sources(folder, batch.sources.numpy(), names, gains, world.signal.rate or 0, format)
            if batch.tracks is not None:
                frames = world.frames_of(lengths).tolist()
                for name, track, count in zip(names, batch.tracks, frames, strict=True):
                    np.save(folder / "tracks" / f"{name}.npy", track[:count].numpy())
            yield rows(world, batch, files, gains)
    if not marked:
        (folder / "segments.csv").unlink()


def write_sources(
    folder: Path, sources: np.ndarray, names: list[str], gains: list[float], rate: int, format: str
) -> None:
    """Write each source of each clip to a file; scaled by the clip's gain, they still sum to the clip."""
    for name, gain, clip in zip(names, gains, sources, strict=True):
        for number in range(clip.shape[1]):
            write_sound(folder / f"sources/{name}-{number + 1}.{format}", gain * clip[:, number], rate, format)


def rows(world: World, batch: Batch, files: list[str], gains: list[float]) -> list[Row]:
    """Rows of the manifest for one batch."""
    # A batch holds single precision; the manifest gives the exact values of the factor.
    exact = {
        (factor.name, float(np.float32(value))): value
        for factor in world.factors
        if not factor.discrete
        for value in factor.values
    }
    found = []
    per_clip = zip(files, batch.index.tolist(), world.group(batch.index).tolist(), gains, strict=True)
    for (file, clip, group, gain), numbers in zip(per_clip, batch.factors.tolist(), strict=True):
        row: Row = {"file": file, "clip": clip, "group": group, "gain": gain}
        for factor, number in zip(world.factors, numbers, strict=True):
            value = factor.values[int(number)] if factor.discrete else number
            row[factor.name] = exact.get((factor.name, number), value)
        found.append(row)
    return found


def write_sound(path: Path, samples: np.ndarray, rate: int, format: str) -> float:
    """Write one clip; return the gain that was applied."""
    peak = float(np.abs(samples).max(initial=0))
    gain = min(1.0, (1 - 2**-23) / peak) if format == "flac" and peak > 0 else 1.0
    content = io.BytesIO()
    subtype = "PCM_24" if format == "flac" else "FLOAT"
    soundfile.write(content, samples * np.float64(gain), rate, subtype=subtype, format=format.upper())
    path.write_bytes(content.getvalue())
    return gain


def write_csv(path: Path, parts: Iterator[list[Row]]) -> None:
    """Write the manifest as comma-separated text."""
    # As in the other tables, file names and labels may contain bytes that are not UTF-8.
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        for number, lines in enumerate(parts):
            writer = csv.DictWriter(file, list(lines[0]))
            if number == 0:
                writer.writeheader()
            writer.writerows(lines)


def write_parquet(path: Path, parts: Iterator[list[Row]]) -> None:
    """Write the manifest as Parquet, one row group per batch."""
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ValueError("a manifest in Parquet needs the package pyarrow: install it, or choose csv") from error
    first = arrow.Table.from_pylist(next(parts))
    with parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for lines in parts:
            writer.write_table(arrow.Table.from_pylist(lines, schema=first.schema))
