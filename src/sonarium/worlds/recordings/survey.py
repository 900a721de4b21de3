"""Survey of a corpus: list the files, decode them into the cache, set bad ones aside with their reasons."""

import json
import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from sonarium.config import Range, check_ranges
from sonarium.files import write_whole
from sonarium.worlds.audio.file import BadAudio, Limits, absence, unreadable
from sonarium.worlds.contract import UNKNOWN, Mark, Progress
from sonarium.worlds.recordings.cache import Cache, Decoding, content_of, default_folder, in_order, open_cache
from sonarium.worlds.recordings.layouts import Hints, Layout, folder_of, list_clips
from sonarium.worlds.recordings.listing import FILE, FOLDER, Fault, Listing, Row, relative

SLACK = 0.01
"""Seconds by which a table entry may exceed the end of a file through rounding."""
LISTED = 50
"""Maximum number of bad files in one message; the record and `sonarium check` have all."""


@dataclass(frozen=True)
class RecordingsConfig:
    """Recordings on disk, their labels, and the training pieces."""

    path: str | None = None
    """Folder of recordings, or a manifest (.csv, .tsv, .parquet): path, start, stop, group, and labels."""
    layout: Layout = "auto"
    """Layout of the folder; auto recognises it by metadata tables and file names."""
    pattern: str = ""
    """Pattern of labels in paths: {speaker}/{digit}_{take}.wav, or a regular expression with (?P<speaker>...)."""
    subset: str = ""
    """Table of a Common Voice folder, such as train; by default validated."""
    annotations: str = "auto"
    """Annotation format: csv (segments.csv), sidecar (.json or .csv of each file), notmat, textgrid, raven,
    audacity, or one of crowsetta."""
    clip: Literal["file", "segment"] = "file"
    """Unit of a clip: file (or a stretch of it named in a manifest), or segment (an annotated segment)."""
    labels: tuple[str, ...] = ()
    """Labels to use as factors; by default those of the layout."""
    group: str = ""
    """Groups for the split, which its parts never share: a label (speaker, bird, session), file, or folder."""
    rate: Annotated[int, Range(1, 10**6)] = 16_000
    """Sampling rate in Hz to which all recordings are resampled."""
    seconds: Annotated[float, Range(0, 36000, above=True)] = 1.28
    """Duration of a training piece in seconds."""
    channel: Annotated[int | None, Range(0, 1023)] = None
    """Channel to read, counted from 0; by default the mean of all (of .cbin the first, which has the song)."""
    limits: Limits = Limits()
    bad_fraction: Annotated[float, Range(0, 1)] = 0.01
    """Abort if more than this fraction of files is bad."""
    store: Literal["int16", "float32"] = "int16"
    """Sample format of the cache: int16 (scaled per file) or float32."""
    cache: str | None = None
    """Cache folder for decoded recordings; by default sonarium/recordings in the user's cache folder."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.seconds * self.rate < 1:
            raise ValueError(f"rate={self.rate}, seconds={self.seconds}: a piece needs at least one sample")


@dataclass(frozen=True)
class Quarantine:
    """Files and clips that cannot be used, and the totals."""

    files: int
    """Number of files, good and bad."""
    clips: int
    """Number of clips, good and bad: files, or excerpts of them."""
    left: int
    """Number of good clips."""
    faults: tuple[Fault, ...] = ()
    """Bad files, each once."""
    stretches: tuple[Fault, ...] = ()
    """Bad clips: excerpts outside the extent of a good file."""
    remarks: tuple[Fault, ...] = ()
    """Labels that do not fit their file; the file itself is kept."""

    @property
    def fraction(self) -> float:
        """Fraction of bad files or of bad clips, whichever is larger."""
        return max(len(self.faults) / max(self.files, 1), len(self.stretches) / max(self.clips, 1))

    def enforce(self, allowed: float, root: Path) -> None:
        """Raise ValueError if more than this fraction is bad, or nothing is left."""
        if not self.left:
            raise ValueError(f"'{root}' has no sound that can be used: {self.reasons() or 'it is empty'}")
        if self.fraction > allowed:
            clips = f", and {len(self.stretches)} of {self.clips} clips," if self.stretches else ""
            raise ValueError(
                f"{len(self.faults)} of {self.files} files{clips} in '{root}' are bad ({self.fraction:.1%}, "
                f"allowed are {allowed:.1%}): {self.reasons()}; repair or remove them, or raise --bad-fraction"
            )

    def reasons(self) -> str:
        """Bad files and clips with their reasons, in one line."""
        bad = self.faults + self.stretches
        lines = [f"'{fault.path}' {fault.reason}" for fault in bad[:LISTED]]
        more = len(bad) - len(lines)
        return "; ".join(lines) + (f"; and {more} more, which `sonarium check` lists" if more else "")

    def record(self) -> dict[str, Any]:
        """The quarantine in JSON types."""
        return {
            "files": self.files,
            "clips": self.clips,
            "bad_files": as_records(self.faults),
            "bad_clips": as_records(self.stretches),
            "remarks": as_records(self.remarks),
        }

    def write(self, folder: Path) -> None:
        """Write the record as `quarantine.json` to a run folder."""
        write_whole(folder / "quarantine.json", json.dumps(self.record(), indent=2) + "\n")


def as_records(faults: tuple[Fault, ...]) -> list[dict[str, str]]:
    return [{"path": os.fspath(fault.path), "reason": fault.reason} for fault in faults]


@dataclass(frozen=True)
class Clip:
    """One usable clip."""

    row: Row
    content: str
    start: int
    """First sample in the decoded file."""
    length: int


@dataclass(frozen=True)
class Survey:
    """Everything known about a corpus before training."""

    config: RecordingsConfig
    root: Path
    listing: Listing
    clips: tuple[Clip, ...]
    quarantine: Quarantine
    cache: Cache
    factors: tuple[str, ...]
    group: str

    def value(self, clip: Clip, name: str) -> str:
        """Value of a clip's label, or its file or folder."""
        if name in clip.row.labels:
            return clip.row.labels[name] or UNKNOWN
        # Files with the same content are one recording under several names.
        return clip.content if name == FILE else relative(clip.row.path.parent, self.root)


@dataclass
class Sorting:
    """Accumulates clips, faults and remarks while rows are sorted."""

    clips: list[Clip] = field(default_factory=list)
    files: dict[Path, str] = field(default_factory=dict)
    stretches: list[Fault] = field(default_factory=list)
    remarks: list[Fault] = field(default_factory=list)


def survey(config: RecordingsConfig, progress: Progress = lambda *_: None) -> Survey:
    """List, decode and sort a corpus; bad files are set aside, however many."""
    if config.path is None:
        raise ValueError("which recordings? give the folder or manifest with --path")
    # The shell may have left a tilde unexpanded.
    root = Path(config.path).expanduser()
    listing = list_clips(root, config.layout, Hints(config.pattern, config.subset, config.annotations))
    if config.clip == "segment":
        listing = by_segment(listing, root)
    contents, faults = identify(list(dict.fromkeys(row.path for row in listing.rows)), progress)
    faults = {fault.path: fault.reason for fault in listing.faults} | faults
    files: dict[str, Path] = {}
    for path, content in contents.items():
        files.setdefault(content, path)
    folder = Path(config.cache).expanduser() if config.cache else default_folder()
    decoding = Decoding(config.rate, config.store, config.channel, config.limits)
    cache = open_cache(folder, files, decoding, progress)
    faults |= {path: cache.faults[content] for path, content in contents.items() if content in cache.faults}
    sorting = Sorting(files=faults, remarks=list(listing.remarks))
    for row in listing.rows:
        if row.path not in faults:
            sort_row(row, contents[row.path], cache, config, sorting)
    quarantine = Quarantine(
        len(contents) + len(set(faults) - set(contents)),
        len(listing.rows),
        len(sorting.clips),
        tuple(Fault(path, reason) for path, reason in sorted(faults.items())),
        tuple(sorting.stretches),
        tuple(sorting.remarks),
    )
    factors = choose_factors(config, listing)
    group = choose_group(config, listing)
    base = folder_of(root)
    return Survey(config, base, listing, tuple(sorting.clips), quarantine, cache, factors, group)


def by_segment(listing: Listing, root: Path) -> Listing:
    """Make each segment a clip with its label; a bad recording keeps one row, so that it is counted."""
    bad = {fault.path for fault in listing.faults}
    rows = tuple(
        Row(row.path, {**row.labels, "label": label}, start, stop, ((start, stop, label),))
        for row in listing.rows
        for start, stop, label in row.segments or ([(0.0, math.inf, "")] if row.path in bad else [])
    )
    if not rows:
        raise ValueError(f"'{root}' has no annotated segments to take as clips: use --clip file")
    return replace(listing, rows=rows, factors=tuple(dict.fromkeys((*listing.factors, "label"))))


def identify(paths: list[Path], progress: Progress) -> tuple[dict[Path, str], dict[Path, str]]:
    """Content hash of each file, and the faults of files without one."""
    contents: dict[Path, str] = {}
    faults: dict[Path, str] = {}

    def look(path: Path) -> str | BadAudio:
        try:
            return content_of(path) if path.is_file() else BadAudio(path, *absence(path))
        except OSError as error:
            return unreadable(path, error)

    for done, (path, found) in enumerate(zip(paths, in_order(look, paths), strict=True), start=1):
        if isinstance(found, str):
            contents[path] = found
        else:
            faults[path] = found.reason
        progress("reading files", done, len(paths))
    return contents, faults


def sort_row(row: Row, content: str, cache: Cache, config: RecordingsConfig, into: Sorting) -> None:
    """Append the row's excerpt of the decoded file as a clip, or a fault if it lies outside the file."""
    entry, rate = cache.entries[content], config.rate
    duration = entry.length / rate
    beyond = config.clip == "segment" and row.start >= duration
    # A clip beyond the end is a fault, not just a remark.
    segments = () if beyond else tuple(fitting(row, duration, into))
    if segments and config.clip == "segment":
        row = replace(row, stop=segments[0][1])
    stop = duration if row.stop is None else row.stop
    first, last = round(row.start * rate), min(round(stop * rate), entry.length)
    if row.start < 0 or stop > duration + SLACK or last <= first:
        reason = f"has no stretch from {row.start:g} to {stop:g} s: it lasts {duration:.3f} s"
        if row.stop is not None and stop <= row.start:
            reason = f"has no stretch from {row.start:g} to {stop:g} s: the stop has to come after the start"
        into.stretches.append(Fault(row.path, reason))
        return
    into.clips.append(Clip(replace(row, segments=segments), content, first, last - first))


def fitting(row: Row, duration: float, into: Sorting) -> list[Mark]:
    """Segments of a row within its file; parts beyond the end are cut off, with a remark."""
    kept = []
    for start, stop, label in row.segments:
        if stop > duration + SLACK:
            remark = f"segment '{label}' from {start:g} to {stop:g} s goes beyond the end at {duration:.3f} s"
            into.remarks.append(Fault(row.path, remark))
        if start < duration:
            kept.append((start, min(stop, duration), label))
    return kept


def known_labels(listing: Listing) -> list[str]:
    return list(dict.fromkeys(name for row in listing.rows[:1] for name in row.labels))


def choose_factors(config: RecordingsConfig, listing: Listing) -> tuple[str, ...]:
    known = known_labels(listing)
    for name in config.labels:
        if name not in known:
            others = ", ".join(known) or "none; give a --pattern"
            raise ValueError(f"--labels {name}: these recordings have the labels {others}")
    return config.labels or listing.factors


def choose_group(config: RecordingsConfig, listing: Listing) -> str:
    known = [*known_labels(listing), FILE, FOLDER]
    if config.group and config.group not in known:
        raise ValueError(f"--group {config.group}: choose one of {', '.join(dict.fromkeys(known))}")
    if config.group or listing.group is None:
        return config.group or FILE
    # With a single speaker or bird, the split is by file.
    several = len({row.labels[listing.group] or UNKNOWN for row in listing.rows}) > 1
    return listing.group if several else FILE
