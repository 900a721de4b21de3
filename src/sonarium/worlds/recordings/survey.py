"""From a folder to clips: what is listed, what is sound of it, and where in the cache it lies."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sonarium.worlds.audio.file import BadAudio, Limits, absence, unreadable
from sonarium.worlds.contract import UNKNOWN
from sonarium.worlds.recordings.cache import Cache, Decoding, content_of, default_folder, in_order, open_cache
from sonarium.worlds.recordings.layouts import Hints, Layout, folder_of, list_clips
from sonarium.worlds.recordings.listing import Listing, Row, Segment, relative
from sonarium.worlds.recordings.quarantine import Fault, Quarantine

SLACK = 0.01
"""Seconds by which a table may round beyond the end of a file."""
FILE, FOLDER = "file", "folder"
"""May be named as groups in every layout: each file for itself, or all in one folder together."""
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class RecordingsConfig:
    """Recordings on disk: where they are, what is known of them, and what is learnt from."""

    path: str | None = None
    """Folder of recordings, or a manifest (.csv, .tsv, .parquet): path, start, stop, group, and labels."""
    layout: Layout = "auto"
    """How the folder is laid out; auto finds out by its tables and the names of its files."""
    pattern: str = ""
    """Labels in paths, like {speaker}/{digit}_{take}.wav, or a regular expression with (?P<speaker>...)."""
    subset: str = ""
    """Which table of a Common Voice folder, such as train; validated if none is named."""
    annotations: str = "auto"
    """What marks segments: csv (segments.csv), notmat (evsonganaly), or a format of crowsetta."""
    each: Literal["file", "segment"] = "file"
    """What a clip is: a whole file (or stretch of a manifest), or each annotated segment, with its label."""
    labels: tuple[str, ...] = ()
    """Labels that become factors; by default those that the layout is about."""
    group: str = ""
    """Label of which no value is on both sides of a split (speaker, bird, session), or file, or folder."""
    rate: int = 16_000
    """Samples a second to which everything is resampled."""
    seconds: float = 1.28
    """Length of the random pieces to learn from."""
    channel: int | None = None
    """Channel to hear, counted from 0; by default the mean of all (of .cbin the first, which has the song)."""
    limits: Limits = Limits()
    bad_share: float = 0.01
    """Share of bad files above which nothing is done at all."""
    store: Literal["int16", "float32"] = "int16"
    """Numbers in which decoded sound is kept: int16 (scaled for each file) or float32."""
    cache: str | None = None
    """Folder where decoded sound is kept; by default sonarium/recordings in the user's cache folder."""

    def __post_init__(self) -> None:
        if self.rate < 1 or not 1 <= self.seconds * self.rate < math.inf:
            raise ValueError(
                f"--rate {self.rate}, --seconds {self.seconds}: a piece must have at least one sample"
            )
        if not 0 <= self.bad_share <= 1:
            raise ValueError(f"--bad-share {self.bad_share}: give a share from 0 to 1")
        if self.channel is not None and self.channel < 0:
            raise ValueError(f"--channel {self.channel}: channels are counted from 0")


@dataclass(frozen=True)
class Clip:
    """One clip that can be heard."""

    row: Row
    content: str
    start: int
    """In samples of the cached file."""
    length: int


@dataclass(frozen=True)
class Survey:
    """All that is known of a corpus before anything is learnt from it."""

    config: RecordingsConfig
    root: Path
    listing: Listing
    clips: tuple[Clip, ...]
    quarantine: Quarantine
    cache: Cache
    factors: tuple[str, ...]
    group: str

    def value(self, clip: Clip, name: str) -> str:
        """What a clip has under a label, or its file or folder."""
        if name in clip.row.labels:
            return clip.row.labels[name] or UNKNOWN
        # Files with the same content are one recording under several names.
        return clip.content if name == FILE else relative(clip.row.path.parent, self.root)


@dataclass
class Sorting:
    """Rows on their way to becoming clips."""

    clips: list[Clip] = field(default_factory=list)
    files: dict[Path, str] = field(default_factory=dict)
    stretches: list[Fault] = field(default_factory=list)
    remarks: list[Fault] = field(default_factory=list)


def survey(config: RecordingsConfig, progress: Progress = lambda *_: None) -> Survey:
    """List, decode and sort; nothing is refused yet for being bad."""
    if config.path is None:
        raise ValueError("which recordings? give the folder or manifest with --path")
    # A path may come from a shell that did not know the tilde.
    root = Path(config.path).expanduser()
    listing = list_clips(root, config.layout, Hints(config.pattern, config.subset, config.annotations))
    if config.each == "segment":
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
        tuple(Fault(path, reason) for path, reason in sorted(faults.items())),
        tuple(sorting.stretches),
        tuple(sorting.remarks),
    )
    factors = choose_factors(config, listing)
    group = choose_group(config, listing)
    base = folder_of(root)
    return Survey(config, base, listing, tuple(sorting.clips), quarantine, cache, factors, group)


def by_segment(listing: Listing, root: Path) -> Listing:
    """Each segment becomes a clip, with its label; of a bad recording one row is left, to be counted."""
    bad = {fault.path for fault in listing.faults}
    rows = tuple(
        Row(row.path, {**row.labels, "label": label}, start, stop, ((start, stop, label),))
        for row in listing.rows
        for start, stop, label in row.segments or ([(0.0, math.inf, "")] if row.path in bad else [])
    )
    if not rows:
        raise ValueError(f"'{root}' has no annotated segments to take as clips: take --each file")
    return replace(listing, rows=rows, factors=tuple(dict.fromkeys((*listing.factors, "label"))))


def identify(paths: list[Path], progress: Progress) -> tuple[dict[Path, str], dict[Path, str]]:
    """The content of each file, and why some have none."""
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
    """Where in the cached file a row's clip lies, if the file is as long as the row says."""
    entry, rate = cache.entries[content], config.rate
    duration = entry.length / rate
    beyond = config.each == "segment" and row.start >= duration
    # A clip that is not there is a bad one, and more than a remark.
    segments = () if beyond else tuple(fitting(row, duration, into))
    if segments and config.each == "segment":
        row = replace(row, stop=segments[0][1])
    stop = duration if row.stop is None else row.stop
    first, last = round(row.start * rate), min(round(stop * rate), entry.length)
    if row.start < 0 or stop > duration + SLACK or last <= first:
        told = f"has no stretch from {row.start:g} to {stop:g} s: it lasts {duration:.3f} s"
        if row.stop is not None and stop <= row.start:
            told = f"has no stretch from {row.start:g} to {stop:g} s: the stop has to come after the start"
        into.stretches.append(Fault(row.path, told))
        return
    into.clips.append(Clip(replace(row, segments=segments), content, first, last - first))


def fitting(row: Row, duration: float, into: Sorting) -> list[Segment]:
    """A row's segments within its file; what lies beyond the end is told of and cut off."""
    kept = []
    for start, stop, label in row.segments:
        if stop > duration + SLACK:
            told = f"segment '{label}' from {start:g} to {stop:g} s goes beyond the end at {duration:.3f} s"
            into.remarks.append(Fault(row.path, told))
        if start < duration:
            kept.append((start, min(stop, duration), label))
    return kept


def known_labels(listing: Listing) -> list[str]:
    return list(dict.fromkeys(name for row in listing.rows[:1] for name in row.labels))


def choose_factors(config: RecordingsConfig, listing: Listing) -> tuple[str, ...]:
    known = known_labels(listing)
    for name in config.labels:
        if name not in known:
            told = ", ".join(known) or "none; give a --pattern"
            raise ValueError(f"--labels {name}: these recordings have the labels {told}")
    return config.labels or listing.factors


def choose_group(config: RecordingsConfig, listing: Listing) -> str:
    known = [*known_labels(listing), FILE, FOLDER]
    if config.group and config.group not in known:
        raise ValueError(f"--group {config.group}: choose one of {', '.join(dict.fromkeys(known))}")
    if config.group or listing.group is None:
        return config.group or FILE
    # Of one speaker or bird alone, some of the files are what can be held back.
    several = len({row.labels[listing.group] for row in listing.rows}) > 1
    return listing.group if several else FILE
