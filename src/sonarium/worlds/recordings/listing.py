"""Lists of clips, one row each with its labels; and recursive listing of the sound files of a folder."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path

from sonarium.worlds.audio.file import is_sound
from sonarium.worlds.contract import Mark

FILE, FOLDER = "file", "folder"
"""Groups available in every layout: each file alone, or all files of a folder."""
GROUPS = ("group", "speaker", "bird", "individual", "session", "fold", "client_id")
"""Default group columns; the first that a table has is used."""


@dataclass(frozen=True)
class Fault:
    """A file, or an excerpt of it, and what is wrong with it."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Row:
    """One clip: a file or an excerpt of it, with its labels and segments."""

    path: Path
    labels: Mapping[str, str]
    start: float = 0.0
    stop: float | None = None
    """Seconds; None is the end of the file."""
    segments: tuple[Mark, ...] = ()
    """Annotated segments, in seconds from the start of the file."""


@dataclass(frozen=True)
class Listing:
    """All clips that a layout lists."""

    layout: str
    rows: tuple[Row, ...]
    factors: tuple[str, ...]
    """Labels that are factors by default."""
    group: str | None = None
    """Label that the parts of a split never share; None if each file is its own group."""
    passed: Mapping[str, int] = field(default_factory=dict)
    """Number of other files by suffix."""
    remarks: tuple[Fault, ...] = ()
    faults: tuple[Fault, ...] = ()
    """Recordings that cannot be used because of their metadata."""
    read: Mapping[str, int] = field(default_factory=dict)
    """Number of non-sound files by suffix from which labels and segments were read."""
    superseded: Mapping[str, int] = field(default_factory=dict)
    """Number by suffix of passed files that hold segments, but are superseded by other files."""


def walk(root: Path) -> tuple[list[Path], Counter[str]]:
    """All sound files below a folder in sorted order, and the suffixes of the other files."""
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
    """The file at this path, or all sound files of the folder at this path, in sorted order."""
    if not path.is_dir():
        return [path]
    files, _ = walk(path)
    if not files:
        raise ValueError(f"'{path}' holds no sound: give a folder with WAV, FLAC, OGG, MP3, AIFF or CBIN files")
    return files


def named(files: Sequence[Path]) -> list[str]:
    """Name of each file without its suffix; names that occur more than once get a number that makes them
    unique, also where a file system ignores case."""
    often, found = Counter(path.stem.lower() for path in files), []
    taken = set(often)
    for path in files:
        name = path.stem
        if often[name.lower()] > 1:
            name = next(each for number in count(1) if (each := f"{path.stem}-{number}").lower() not in taken)
            taken.add(name.lower())
        found.append(name)
    return found


def files_below(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """All files in a folder and its subfolders, following links."""
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            inside = [(Path(entry.path), leads_on(entry)) for entry in entries]
        # A run folder, whose sounds were generated from those around it.
        is_run = (folder / "config.json").is_file() and (folder / "metrics.jsonl").is_file()
    except OSError as error:
        raise ValueError(
            f"the folder '{folder}' cannot be read ({error.strerror}): see that it may be, or move it away"
        ) from None
    here = (status.st_dev, status.st_ino)
    # A link to a parent folder would be followed for ever.
    if here in above or (above and is_run):
        return
    for path, is_folder in inside:
        if is_folder:
            yield from files_below(path, above | {here})
        else:
            yield path


def leads_on(entry: os.DirEntry[str]) -> bool:
    """Whether this is a folder; a link to itself counts as a file, which cannot be opened."""
    try:
        return entry.is_dir()
    except OSError:
        return False


DAY = re.compile(
    r"(?i:\d{6}|\d{8}|\d{2,4}[-_.]\d{1,2}[-_.]\d{1,4}|(?:day|dph)[ _-]?\d{1,4}|\d{1,4}[ _-]?(?:dph|days?))"
)
"""Name of a folder with the recordings of one day: a date, or an age in days."""


def folder_labels(paths: list[Path], root: Path) -> dict[Path, dict[str, str]]:
    """Bird and day of each file if most files lie as bird/day/song.wav, else nothing. Of a stray file they are
    known as far as it lies so."""
    folders = {path: Path(relative(path, root)).parts[:-1] for path in paths}
    daily = {path for path, parts in folders.items() if len(parts) == 2 and DAY.fullmatch(parts[1])}
    if 2 * len(daily) <= len(paths):
        return {}
    return {
        path: {"bird": parts[0] if parts else "", "day": parts[1] if path in daily else ""}
        for path, parts in folders.items()
    }


def individuals(paths: Iterable[Path], root: Path) -> dict[Path, str]:
    """Individual of each file that lies in a folder: the first folder in which they differ."""
    folders = {path: parts for path in paths if (parts := Path(relative(path, root)).parts[:-1])}
    levels = zip(*folders.values(), strict=False)
    shared = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))
    return {path: parts[min(shared, len(parts) - 1)] for path, parts in folders.items()}


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a regular expression with named groups, or a pattern in which `{name}` is part of a file name."""
    try:
        if "(?P<" in pattern:
            return re.compile(pattern)
        parts = re.split(r"\{(\w+)\}", pattern)
        names, literal = parts[1::2], [re.escape(part) for part in parts[::2]]
        if not names:
            raise ValueError("it names no label")
        inner = "".join(f"{text}(?P<{name}>[^/]+?)" for text, name in zip(literal, names, strict=False))
        # A pattern may omit the suffix, and the folders above those that it names.
        return re.compile(rf"(?:^|.*/){inner}{literal[-1]}(?:\.\w+)?$", re.DOTALL)
    except (re.error, ValueError) as error:
        raise ValueError(
            f"--pattern {pattern!r} cannot be used ({error}): write it like '{{speaker}}/{{digit}}_{{take}}.wav', "
            "or as a regular expression with groups like (?P<speaker>...)"
        ) from None


def match_all(pattern: str, paths: Iterable[Path], root: Path) -> dict[Path, dict[str, str]]:
    """Labels in each path; ValueError if a path does not match, as it would lose its labels."""
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
    """Path relative to the root, with slashes."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def default_group(columns: Iterable[str]) -> str | None:
    """The first of the known group columns, ignoring case: an overlooked speaker would leak."""
    lower = {name.lower(): name for name in columns}
    return next((lower[name] for name in GROUPS if name in lower), None)
