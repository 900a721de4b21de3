"""Lists of clips: a row for each, with its labels; and the sound files of a folder, none of them missed."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from sonarium.worlds.audio.file import is_sound
from sonarium.worlds.contract import Mark

FILE, FOLDER = "file", "folder"
"""Groups of every layout: each file alone, or all files of a folder."""
GROUPS = ("group", "speaker", "bird", "individual", "session", "fold", "client_id")
"""Columns that are the group by default, the first that a table has."""


@dataclass(frozen=True)
class Fault:
    """A file, or one stretch of it, and what is wrong with it."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Row:
    """One clip: a file or a stretch of it, with its labels and segments."""

    path: Path
    labels: Mapping[str, str]
    start: float = 0.0
    stop: float | None = None
    """Seconds; none is the end of the file."""
    segments: tuple[Mark, ...] = ()
    """Annotated segments, in seconds from the beginning of the file."""


@dataclass(frozen=True)
class Listing:
    """All clips that a layout names."""

    layout: str
    rows: tuple[Row, ...]
    factors: tuple[str, ...]
    """Labels that become factors by default."""
    group: str | None = None
    """The label that no two parts of a split share; None where each file is its own group."""
    passed: Mapping[str, int] = field(default_factory=dict)
    """Number of other files by suffix."""
    remarks: tuple[Fault, ...] = ()
    faults: tuple[Fault, ...] = ()
    """Recordings that cannot be used because of their metadata."""
    read: Mapping[str, int] = field(default_factory=dict)
    """Number of files by suffix that are no sound, and from which labels and segments come."""
    superseded: Mapping[str, int] = field(default_factory=dict)
    """Number of files by suffix, among those passed over, that hold segments, but for which others stand."""


def walk(root: Path) -> tuple[list[Path], Counter[str]]:
    """All files of sound below a folder in the order of their names, and the endings of the others."""
    found, passed = [], Counter()
    for path in files_below(root):
        if is_sound(path) and not path.name.startswith("._"):
            found.append(path)
        else:
            passed[ending(path)] += 1
    return sorted(found), passed


def ending(path: Path) -> str:
    return path.suffix.lower() or "(none)"


def sounds_at(path: Path) -> list[Path]:
    """The file of this path, or all sound in the folder of this path, in the order of their names."""
    if not path.is_dir():
        return [path]
    files, _ = walk(path)
    if not files:
        raise ValueError(f"'{path}' holds no sound: give a folder with WAV, FLAC, OGG, MP3, AIFF or CBIN files")
    return files


def named(files: Sequence[Path]) -> list[str]:
    """The name of each file without its ending, with a number where several have the same, one that no other file
    has."""
    often, found = Counter(path.stem for path in files), []
    taken = set(often)
    for path in files:
        name = path.stem
        if often[name] > 1:
            name = next(each for number in count(1) if (each := f"{path.stem}-{number}") not in taken)
            taken.add(name)
        found.append(name)
    return found


def files_below(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """All files in a folder and in those inside it, through links, too."""
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            inside = [(Path(entry.path), leads_on(entry)) for entry in entries]
        # A run folder, whose sounds were made from those around it.
        is_run = (folder / "config.json").is_file() and (folder / "metrics.jsonl").is_file()
    except OSError as error:
        raise ValueError(
            f"the folder '{folder}' cannot be read ({error.strerror}): see that it may be, or move it away"
        ) from None
    here = (status.st_dev, status.st_ino)
    # A link that leads back up would be followed for ever.
    if here in above or (above and is_run):
        return
    for path, is_folder in inside:
        if is_folder:
            yield from files_below(path, above | {here})
        else:
            yield path


def leads_on(entry: os.DirEntry[str]) -> bool:
    """Whether this is a folder; a link that leads to itself is a file that cannot be opened."""
    try:
        return entry.is_dir()
    except OSError:
        return False


DAY = re.compile(
    r"(?i:\d{6}|\d{8}|\d{2,4}[-_.]\d{1,2}[-_.]\d{1,4}|(?:day|dph)[ _-]?\d{1,4}|\d{1,4}[ _-]?(?:dph|days?))"
)
"""A folder that holds what was recorded on one day: a date, or an age in days."""


def folder_labels(paths: list[Path], root: Path) -> dict[Path, dict[str, str]]:
    """Bird and day of each file, where files lie as bird/day/song.wav; else nothing."""
    folders = {path: Path(relative(path, root)).parts[:-1] for path in paths}
    if not paths or any(len(parts) != 2 or not DAY.fullmatch(parts[1]) for parts in folders.values()):
        return {}
    return {path: {"bird": parts[0], "day": parts[1]} for path, parts in folders.items()}


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression with named groups as it is; `{name}` in any other stands for a part of a name."""
    try:
        if "(?P<" in pattern:
            return re.compile(pattern)
        parts = re.split(r"\{(\w+)\}", pattern)
        names, literal = parts[1::2], [re.escape(part) for part in parts[::2]]
        if not names:
            raise ValueError("it names no label")
        inner = "".join(f"{text}(?P<{name}>[^/]+?)" for text, name in zip(literal, names, strict=False))
        # A pattern may leave out the ending, and the folders above those that it speaks of.
        return re.compile(rf"(?:^|.*/){inner}{literal[-1]}(?:\.\w+)?$", re.DOTALL)
    except (re.error, ValueError) as error:
        raise ValueError(
            f"--pattern {pattern!r} cannot be used ({error}): write it like '{{speaker}}/{{digit}}_{{take}}.wav', "
            "or as a regular expression with groups like (?P<speaker>...)"
        ) from None


def match_all(pattern: str, paths: Iterable[Path], root: Path) -> dict[Path, dict[str, str]]:
    """The labels in each path; a path that does not match would lose its labels, which is refused."""
    compiled, found, missed = compile_pattern(pattern), {}, []
    if taken := compiled.groupindex.keys() & {FILE, FOLDER}:
        name = min(taken)
        raise ValueError(f"--pattern {pattern!r}: --group {name} is each {name} itself; call the label otherwise")
    for path in paths:
        match = compiled.search(relative(path, root))
        if match is None:
            missed.append(relative(path, root))
        else:
            found[path] = {name: value or "" for name, value in match.groupdict().items()}
    if missed:
        raise ValueError(
            f"{len(missed)} of {len(missed) + len(found)} files do not match --pattern {pattern!r}, such as "
            f"'{missed[0]}': give a pattern that matches all, or move those away"
        )
    return found


def relative(path: Path, root: Path) -> str:
    """A path as seen from the root, with slashes."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def default_group(columns: Iterable[str]) -> str | None:
    """The first of the known names, in letters of any case: a speaker that is missed would leak."""
    lower = {name.lower(): name for name in columns}
    return next((lower[name] for name in GROUPS if name in lower), None)
