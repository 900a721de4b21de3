"""Annotated segments: from a table, a file beside each recording (evsonganaly, JSON, CSV, Praat, Raven, Audacity),
or any other format that crowsetta reads."""

import json
import math
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from sonarium.worlds.audio.file import is_sound
from sonarium.worlds.contract import Mark
from sonarium.worlds.recordings import formats, metadata
from sonarium.worlds.recordings.formats import NOTMAT, UNLABELLED
from sonarium.worlds.recordings.listing import Fault, files_below, folder_labels, individuals

TABLES = ("segments.csv", "segments.tsv", "segments.parquet", "annotations.csv")
DESCRIPTIONS = ("files.csv", "files.tsv")
SIDECARS = (".json", ".csv")
"""Suffixes of sidecars: files with a recording's name beside it that hold its segments."""
LOOKED_AT = 20
"""Number of sidecars that are inspected to decide whether they are annotations at all."""
ROUNDED = 0.001
"""Seconds by which a segment may begin before its recording, as rounded times do."""
OF_PROGRAMS = ("textgrid", "raven", "audacity")
"""Formats of other programs, in the order of the search."""


@dataclass
class Annotated:
    """Segments and labels of each recording, collected file by file."""

    segments: dict[Path, list[Mark]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[Path, dict[str, str]] = field(default_factory=dict)
    faults: dict[Path, str] = field(default_factory=dict)
    """Recordings whose annotation cannot be used, and why."""
    remarks: list[Fault] = field(default_factory=list)
    read: set[Path] = field(default_factory=set)
    """Annotation files that were read."""

    def mark(self, path: Path, segments: Iterable[Mark]) -> None:
        """Add segments; one without positive, finite duration is skipped with a remark, and the recording kept."""
        kept = self.segments[path]
        for start, stop, label in segments:
            begin = 0.0 if -ROUNDED <= start < 0 else start
            if 0 <= begin < stop < math.inf:
                kept.append((begin, stop, label))
                continue
            what = "has no length" if begin >= stop else "lies outside the recording"
            if math.isnan(start) or math.isnan(stop):
                what = "has no beginning or no end"
            remark = f"segment '{label}' from {start:g} to {stop:g} s {what} and is left out"
            self.remarks.append(Fault(path, remark))


class Sounds:
    """Recordings of a folder, looked up by the names in annotations."""

    def __init__(self, root: Path, paths: Iterable[Path]) -> None:
        self.root, self.top = root, Path(os.path.abspath(root))
        self.whole: dict[Path, Path] = {}
        self.named: dict[str, list[Path]] = defaultdict(list)
        self.alike: dict[Path, list[Path]] = defaultdict(list)
        self.folders: set[Path] = {root}
        for path in paths:
            self.whole[Path(os.path.abspath(path))] = path
            self.named[path.name].append(path)
            for name in (path.name, path.stem):
                self.alike[path.parent / name].append(path)
        for folder in {path.parent for path in self.whole.values()}:
            self.folders.update(above for above in (folder, *folder.parents) if above.is_relative_to(root))

    def at(self, path: Path) -> Path:
        """The recording at a path in any spelling; if there is none, the path below the root."""
        full = Path(os.path.abspath(path))
        seen = self.root / full.relative_to(self.top) if full.is_relative_to(self.top) else path
        return self.whole.get(full, seen)

    def named_by(self, given: Path, annotation: Path) -> Path:
        """The recording at this path, or of this name below the annotation, or else the only one of this name.

        The files of different birds often have equal names: a path without a recording is returned unchanged, and
        an ambiguous one raises ValueError, so that no label goes to the wrong recording.
        """
        folders = [annotation.parent, self.root] if given.parent.name else [annotation.parent]
        places = [self.at(folder / given) for folder in folders]
        for place in places:
            if Path(os.path.abspath(place)) in self.whole:
                return place
        for place in places:
            if place.parent != annotation.parent and place.parent in self.folders:
                # The folder exists, but has no such file.
                return place
        named = self.named.get(given.name, [])
        if annotation.parent in self.folders:
            named = [path for path in named if path.is_relative_to(annotation.parent)]
        return only(named, annotation) or places[0]

    def beside(self, annotation: Path) -> Path | None:
        """The recording in the same folder that has the annotation's name, with or without its suffix."""
        name = annotation.name
        while "." in name:
            name = name.rpartition(".")[0]
            if found := only(self.alike.get(annotation.parent / name, []), annotation):
                return found
        return None


def only(sounds: list[Path], annotation: Path) -> Path | None:
    if len(sounds) > 1:
        raise ValueError(
            f"'{annotation}' may belong to '{sounds[0]}' or to '{sounds[1]}': name the whole path in it, or give "
            "the recordings different names"
        )
    return sounds[0] if sounds else None


def table_in(root: Path) -> Path | None:
    return next((root / name for name in TABLES if (root / name).is_file()), None)


def recognise(root: Path) -> str | None:
    """Detect the format of a folder's annotations; None if it has none."""
    if table_in(root) is not None:
        return "csv"
    files = list(files_below(root))
    if any(path.name.endswith(NOTMAT) for path in files):
        return "notmat"
    sounds = [path for path in sorted(files) if is_sound(path)]
    beside = [found for path in sounds if (found := sidecar_of(path)) is not None]
    if any(is_annotation(path) for path in beside[:LOOKED_AT]):
        return "sidecar"
    return next((kind for kind in OF_PROGRAMS if any(BESIDE[kind][0](path) for path in sounds)), None)


def read(root: Path, sounds: Sounds, kind: str) -> Annotated:
    """Read all segments of these recordings."""
    kind = (recognise(root) or "none") if kind == "auto" else kind
    if kind == "none":
        raise ValueError(
            f"'{root}' has no annotation: put a table {TABLES[0]} there with the columns file, onset, offset and "
            f"label, or files like song.json or song.cbin{NOTMAT} beside song.wav or song.cbin, or name another "
            "format with --annotations"
        )
    if kind == "csv":
        return from_table(root, table_in(root), sounds)
    if kind in BESIDE:
        return from_beside(root, sounds, kind)
    return from_crowsetta(root, sounds, kind)


def from_table(root: Path, path: Path | None, sounds: Sounds) -> Annotated:
    """One row per segment; further columns that are constant within each file are its labels."""
    if path is None:
        raise ValueError(f"'{root}' has none of {', '.join(TABLES)}: put a table of segments there")
    table, found = metadata.read_table(path), Annotated(read={path})
    remedy = "name one of them so, or take --layout folder if it is no table of segments"
    files, label = metadata.need_paths(table, path, remedy), metadata.need(table, metadata.LABEL, path, remedy)
    times = metadata.time_columns(table, path)
    if times.start is None:
        metadata.need(table, metadata.START, path, remedy)
    if times.stop is None and times.duration is None:
        metadata.need(table, metadata.STOP, path, remedy)
    others = [name for name in table if name not in {files, label} | times.names]
    known = {file: sounds.at(root / file) for file in dict.fromkeys(table[files])}
    values: dict[tuple[Path, str], set[str]] = defaultdict(set)
    for at, (start, stop) in enumerate(metadata.stretches(table, times, path)):
        sound = known[table[files][at]]
        found.mark(sound, [(-1.0 if start is None else start, -1.0 if stop is None else stop, table[label][at])])
        for name in others:
            values[sound, name].add(table[name][at])
    varying = {name for (_, name), different in values.items() if len(different) > 1}
    for (sound, name), (value, *_) in values.items():
        if name not in varying:
            found.labels.setdefault(sound, {})[name] = value
    return found


def description_in(root: Path) -> Path | None:
    return next((root / name for name in DESCRIPTIONS if (root / name).is_file()), None)


def describe(root: Path, sounds: Sounds) -> dict[Path, dict[str, str]]:
    """Labels of each recording from a table of files, if there is one with their paths."""
    path = description_in(root)
    table = metadata.read_table(path) if path is not None else None
    if path is None or table is None or metadata.find(table, metadata.PATH) is None:
        return {}
    files = metadata.need_paths(table, path)
    names = [name for name in table if name != files]
    return {
        sounds.at(root / file): {name: table[name][at] for name in names} for at, file in enumerate(table[files])
    }


def from_beside(root: Path, sounds: Sounds, kind: str) -> Annotated:
    """Read the file of the same name beside each recording."""
    find, read_segments = BESIDE[kind]
    found = Annotated()
    days = folder_labels(list(sounds.whole.values()), root)
    # Song is stored in one folder per bird, or per day of a bird.
    names = {} if days else individuals(sounds.whole.values(), root)
    found.labels |= days | {path: {"individual": name} for path, name in names.items()}
    for path in sounds.whole.values():
        beside = find(path)
        if beside is not None:
            found.read.add(beside)
            try:
                found.mark(path, read_segments(beside))
            except ValueError as error:
                found.faults[path] = str(error)
    return found


def notmat_of(sound: Path) -> Path | None:
    beside = sound.with_name(sound.name + NOTMAT)
    return beside if beside.is_file() else None


def sidecar_of(sound: Path) -> Path | None:
    """The file beside a recording that holds its segments, or may hold them."""
    names = [base + ending for ending in SIDECARS for base in (sound.stem, sound.name)]
    there = [path for path in map(sound.with_name, names) if path.is_file()]
    # Often there is one of segments, and one of metadata.
    return next((path for path in there if len(there) > 1 and is_annotation(path)), there[0] if there else None)


def is_annotation(path: Path) -> bool:
    """Whether a sidecar has onsets and offsets."""
    try:
        read_sidecar(path)
    except ValueError:
        return False
    return True


def read_sidecar(path: Path) -> list[Mark]:
    """Onset, offset and label (or cluster) of each segment: columns of a CSV, lists of a JSON object."""
    try:
        table = metadata.read_table(path, empty=True) if path.suffix.lower() == ".csv" else columns_of(path)
        metadata.need(table, metadata.START, path)
        times = metadata.time_columns(table, path)
        label = metadata.find(table, metadata.LABEL)
        if times.stop is None and times.duration is None:
            metadata.need(table, metadata.STOP, path)
        labels = [UNLABELLED] * len(table.numbers) if label is None else table[label]
        stretches = metadata.stretches(table, times, path)
    except ValueError as error:
        raise ValueError(f"has an annotation that cannot be read ({error})") from None
    return [
        (math.nan if start is None else start, math.nan if stop is None else stop, name)
        for (start, stop), name in zip(stretches, labels, strict=True)
    ]


def columns_of(path: Path) -> metadata.Table:
    """Lists of a JSON object with one value per segment; its other entries concern the whole file."""
    try:
        given = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError, OSError) as error:
        raise ValueError(f"'{path}' is not JSON that can be read ({first_line(error)}): repair it") from None
    lists = (
        {name: value for name, value in given.items() if isinstance(value, list)}
        if isinstance(given, dict)
        else {}
    )
    if len({len(value) for value in lists.values()}) != 1:
        lengths = ", ".join(f"{name} ({len(value)})" for name, value in lists.items()) or "none"
        raise ValueError(
            f"'{path}' has the lists {lengths}: give onset, offset and cluster, each with a value a segment"
        )
    texts = {name: ["" if one is None else str(one) for one in value] for name, value in lists.items()}
    return metadata.Table(texts, range(1, len(next(iter(texts.values()))) + 1), "segment")


def read_notmat(path: Path) -> Iterator[Mark]:
    """evsonganaly's MATLAB 5 format: onsets and offsets in milliseconds, one character per syllable; ValueError
    states the fault of the recording."""
    # Importing SciPy's readers takes a while, which `--help` should not wait for.
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=["onsets", "offsets", "labels"], squeeze_me=False)
        onsets, offsets = (np.asarray(content[name], float).ravel() / 1000 for name in ("onsets", "offsets"))
        labels = "".join(np.asarray(content["labels"]).ravel().tolist())
    except Exception as error:
        # SciPy raises errors of any type for a damaged file.
        raise ValueError(f"has an annotation that cannot be read ('{path.name}': {first_line(error)})") from None
    if not len(onsets) == len(offsets) == len(labels):
        raise ValueError(
            f"has {len(onsets)} onsets, {len(offsets)} offsets and {len(labels)} labels in '{path.name}'"
        )
    return zip(onsets.tolist(), offsets.tolist(), labels, strict=True)


def textgrid_of(sound: Path) -> Path | None:
    return first_file(sound, (".TextGrid", ".textgrid"), lambda _: True)


def raven_of(sound: Path) -> Path | None:
    return first_file(sound, (".selections.txt", ".Table.1.selections.txt", ".txt"), formats.like_raven)


def audacity_of(sound: Path) -> Path | None:
    return first_file(sound, (".txt",), formats.like_audacity)


def first_file(sound: Path, endings: Iterable[str], fits: Callable[[Path], bool]) -> Path | None:
    """The file beside a recording with its name and one of these suffixes."""
    names = [base + ending for ending in endings for base in (sound.stem, sound.name)]
    return next((path for path in map(sound.with_name, names) if path.is_file() and fits(path)), None)


BESIDE: dict[str, tuple[Callable[[Path], Path | None], Callable[[Path], Iterable[Mark]]]] = {
    "notmat": (notmat_of, read_notmat),
    "sidecar": (sidecar_of, read_sidecar),
    "textgrid": (textgrid_of, formats.read_textgrid),
    "raven": (raven_of, formats.read_raven),
    "audacity": (audacity_of, formats.read_audacity),
}
"""Formats with one file per recording: how it is found, and read."""


def beside(sounds: Iterable[Path]) -> set[Path]:
    """All files beside these recordings that hold segments in any of these formats."""
    found = {(kind, path) for sound in sounds for kind, (find, _) in BESIDE.items() if (path := find(sound))}
    return {path for kind, path in found if kind != "sidecar" or is_annotation(path)}


def from_crowsetta(root: Path, sounds: Sounds, kind: str) -> Annotated:
    """Read any other format with the package crowsetta (Nicholson, 2023)."""
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
            f"--annotations {kind}: choose auto, csv, {', '.join(BESIDE)} or one of crowsetta's {', '.join(known)}"
        )
    endings = crowsetta.formats.by_name(kind).ext
    endings = tuple(ending.lower() for ending in ([endings] if isinstance(endings, str) else endings))
    found, transcriber = Annotated(), crowsetta.Transcriber(format=kind)
    for file in sorted(path for path in files_below(root) if path.name.lower().endswith(endings)):
        transcribe(transcriber, file, sounds, found)
    if not (any(found.segments.values()) or found.faults):
        why = f"; '{found.remarks[0].path}' {found.remarks[0].reason}" if found.remarks else ""
        raise ValueError(
            f"'{root}' has no segments in files ending in {', '.join(endings)}: choose another format{why}"
        )
    return found


def transcribe(transcriber: Any, file: Path, sounds: Sounds, found: Annotated) -> None:
    """Read the segments of one file; a file without a recording gets a remark, as it may be of another kind."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Some formats derive paths from the annotation's, which must not depend on the working directory.
            made = transcriber.from_file(file.absolute()).to_annot()
    except Exception as error:
        # Formats raise errors of any type for a damaged file.
        sound, why = sounds.beside(file), first_line(error)
        if sound is None:
            found.remarks.append(Fault(file, f"is not an annotation that can be read ({why}) and is left out"))
        else:
            found.faults[sound] = f"has an annotation that cannot be read ('{file.name}': {why})"
        return
    found.read.add(file)
    for one in made if isinstance(made, list) else [made]:
        given = one.notated_path
        sound = sounds.beside(file) if given is None else sounds.named_by(Path(given), file)
        if sound is None:
            found.read.discard(file)
            found.remarks.append(Fault(file, "belongs to no recording beside it and is left out"))
            continue
        try:
            found.mark(sound, list(stretches(one)))
        except TypeError:
            # Formats that count in samples ask the recording for its rate, which may be missing or bad.
            found.faults[sound] = f"has an annotation whose times are not known in seconds ('{file.name}')"


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def stretches(annotation: Any) -> Iterator[Mark]:
    """Onset, offset and label of each segment of one or several sequences, or of bounding boxes."""
    sequences = getattr(annotation, "seq", None)
    for sequence in sequences if isinstance(sequences, list) else [sequences] if sequences is not None else []:
        for one in sequence.segments:
            yield float(one.onset_s), float(one.offset_s), str(one.label)
    for one in getattr(annotation, "bboxes", None) or ():
        yield float(one.onset), float(one.offset), str(one.label)
