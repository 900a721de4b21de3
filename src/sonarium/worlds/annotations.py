"""What sounds when: a table of segments, `.not.mat` files of evsonganaly, or any format that crowsetta reads."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from sonarium.worlds import tables
from sonarium.worlds.listing import Segment, files_below
from sonarium.worlds.quarantine import Fault

TABLES = ("segments.csv", "segments.tsv", "segments.parquet", "annotations.csv")
NOTMAT = ".not.mat"


@dataclass
class Annotated:
    """What is known of each file of sound; gathered bit by bit."""

    segments: dict[Path, list[Segment]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[Path, dict[str, str]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def add(self, path: Path, start: float, stop: float, label: str) -> None:
        """A segment that ends before it begins is told of, and left out; the recording stays."""
        if 0 <= start < stop < math.inf:
            self.segments[path].append((start, stop, label))
        else:
            self.segments[path] += []
            self.faults.append(
                Fault(path, f"segment '{label}' from {start:g} to {stop:g} s has no length and is left out")
            )

    @property
    def remarks(self) -> tuple[Fault, ...]:
        return tuple(self.faults)


def table_in(root: Path) -> Path | None:
    return next((root / name for name in TABLES if (root / name).is_file()), None)


def recognise(root: Path) -> str | None:
    """Which kind of annotation a folder has, if any."""
    if table_in(root) is not None:
        return "csv"
    return "notmat" if any(path.name.endswith(NOTMAT) for path in files_below(root)) else None


def read(root: Path, paths: list[Path], kind: str) -> Annotated:
    """All segments of these files of sound."""
    kind = (recognise(root) or "none") if kind == "auto" else kind
    if kind == "none":
        raise ValueError(
            f"'{root}' has no annotation: put a table {TABLES[0]} there with the columns file, onset, offset and "
            f"label, or files like song.cbin{NOTMAT}, or name another format with --annotations"
        )
    if kind == "csv":
        return from_table(root, table_in(root))
    return from_notmat(root, paths) if kind == "notmat" else from_crowsetta(root, paths, kind)


def from_table(root: Path, path: Path | None) -> Annotated:
    """A row for each segment; further columns that are the same for all segments of a file are its labels."""
    if path is None:
        raise ValueError(f"'{root}' has none of {', '.join(TABLES)}: put a table of segments there")
    table, found = tables.read_table(path), Annotated()
    remedy = "name one of them so, or take --layout folder if it is no table of segments"
    files, label = tables.need_paths(table, path, remedy), tables.need(table, tables.LABEL, path, remedy)
    times = tables.time_columns(table, path)
    if times.start is None:
        tables.need(table, tables.START, path, remedy)
    if times.stop is None and times.duration is None:
        tables.need(table, tables.STOP, path, remedy)
    others = [name for name in table if name not in {files, label} | times.names]
    values: dict[tuple[Path, str], set[str]] = defaultdict(set)
    for at, (start, stop) in enumerate(tables.stretches(table, times, path)):
        sound = root / table[files][at]
        found.add(sound, -1.0 if start is None else start, -1.0 if stop is None else stop, table[label][at])
        for name in others:
            values[sound, name].add(table[name][at])
    varying = {name for (_, name), different in values.items() if len(different) > 1}
    for (sound, name), (value, *_) in values.items():
        if name not in varying:
            found.labels.setdefault(sound, {})[name] = value
    return found


def from_notmat(root: Path, paths: list[Path]) -> Annotated:
    """evsonganaly's MATLAB 5 files: onsets and offsets in milliseconds, one character a syllable."""
    found = Annotated()
    for path in paths:
        if path.parent != root:
            # Song lies in a folder for each bird.
            found.labels[path] = {"individual": path.parent.name}
        beside = path.with_name(path.name + NOTMAT)
        if beside.is_file():
            for start, stop, label in read_notmat(beside):
                found.add(path, start, stop, label)
    return found


def read_notmat(path: Path) -> Iterator[Segment]:
    # SciPy's readers take long to load, which a person who asks for help should not wait for.
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=["onsets", "offsets", "labels"], squeeze_me=False)
        onsets, offsets = (np.asarray(content[name], float).ravel() / 1000 for name in ("onsets", "offsets"))
        labels = "".join(np.asarray(content["labels"]).ravel().tolist())
    except Exception as error:
        # SciPy raises whatever the damage leads it to.
        raise ValueError(f"'{path}' is not an annotation that can be read ({error}): fetch it again") from None
    if not len(onsets) == len(offsets) == len(labels):
        raise ValueError(
            f"'{path}' has {len(onsets)} onsets, {len(offsets)} offsets and {len(labels)} labels: mend it"
        )
    return zip(onsets.tolist(), offsets.tolist(), labels, strict=True)


def from_crowsetta(root: Path, paths: list[Path], kind: str) -> Annotated:
    """Any other format, by the package that knows them (Nicholson, 2023)."""
    try:
        crowsetta: Any = import_module("crowsetta")
    except ImportError:
        raise ValueError(
            f"annotations in the format '{kind}' are read by crowsetta, which is not installed: "
            "`pip install crowsetta`, or write them as segments.csv"
        ) from None
    known = crowsetta.formats.as_list()
    if kind not in known:
        raise ValueError(
            f"--annotations {kind}: choose auto, csv, notmat or one of crowsetta's {', '.join(known)}"
        )
    endings = crowsetta.formats.by_name(kind).ext
    endings = tuple(ending.lower() for ending in ([endings] if isinstance(endings, str) else endings))
    files = sorted(path for path in files_below(root) if path.name.lower().endswith(endings))
    found, transcriber = Annotated(), crowsetta.Transcriber(format=kind)
    for file in files:
        try:
            made = transcriber.from_file(file).to_annot()
        except Exception as error:
            # Formats raise whatever the damage leads them to.
            raise ValueError(f"'{file}' is not an annotation in the format '{kind}' ({error}): mend it") from None
        for one in made if isinstance(made, list) else [made]:
            sound = sound_of(one.notated_path, file, paths)
            for start, stop, label in stretches(one):
                found.add(sound, start, stop, label)
    if not found.segments:
        raise ValueError(
            f"'{root}' has no segments in files ending in {', '.join(endings)}: choose another format"
        )
    return found


def stretches(annotation: Any) -> Iterator[Segment]:
    """Onset, offset and label of what crowsetta gives as a sequence, as several, or as boxes."""
    sequences = getattr(annotation, "seq", None)
    for sequence in sequences if isinstance(sequences, list) else [sequences] if sequences is not None else []:
        for one in sequence.segments:
            yield float(one.onset_s), float(one.offset_s), str(one.label)
    for one in getattr(annotation, "bboxes", None) or ():
        yield float(one.onset), float(one.offset), str(one.label)


def sound_of(told: Any, annotation: Path, paths: Iterable[Path]) -> Path:
    """The recording that an annotation names, or else the one that bears its name."""
    names = [Path(told).name] if told is not None else []
    for path in paths:
        if path.name in names or (not names and path.parent == annotation.parent and same_name(path, annotation)):
            return path
    return annotation.parent / (names[0] if names else annotation.stem)


def same_name(sound: Path, annotation: Path) -> bool:
    return annotation.name.startswith((f"{sound.name}.", f"{sound.stem}."))
