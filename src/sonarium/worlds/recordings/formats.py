"""Segments in files of other programs, read and written: evsonganaly's .not.mat, Praat's TextGrid (Boersma and
Weenink), Raven's selection table, Audacity's label track, and a table segments.csv for a whole folder.

Segments that are written and read back are equal to the last bit; only .not.mat, which stores milliseconds, may
round the last of the 53 bits.
"""

import csv
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from sonarium.files import as_utf8, write_whole, written_aside
from sonarium.worlds.contract import Mark

NOTMAT = ".not.mat"
TEXTGRID = ".TextGrid"
RAVEN = ".selections.txt"
AUDACITY = ".txt"
TABLE = "segments.csv"
UNLABELLED = "segment"
"""Label of segments for which only onset and offset are known."""
RAVEN_BAND = (0.0, 10_000.0)
"""Frequency band of a selection in Raven, in Hz."""
RAVEN_LABELS = ("annotation", "label", "species", "species code", "type", "name", "syllable", "call type")
"""Columns of a selection table that may hold the label; the first that a table has is used."""
TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)(<exists>|<absent>|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?!\S)')
"""Quoted strings and free-standing numbers or flags; everything else in a TextGrid is for human readers."""


SLACK = 0.001
"""Seconds by which segments may overlap, or extend beyond the recording."""


def refused(marks: Iterable[Mark], duration: float | None = None, slack: float = SLACK) -> list[str]:
    """Faults of segments that overlap, lie outside the recording, or have no duration or no label."""
    faults, kept = [], []
    for start, stop, label in marks:
        where = f"segment '{label}' from {start:g} to {stop:g} s"
        if not (math.isfinite(start) and math.isfinite(stop) and start < stop):
            faults.append(f"{where} has no length: let it end after it begins")
        elif start < 0 or (duration is not None and stop > duration + slack):
            lasts = "" if duration is None else f", which lasts {duration:.3f} s"
            faults.append(f"{where} lies outside the recording{lasts}: correct its times")
        elif not label.strip():
            faults.append(f"{where} has no label: name it")
        else:
            kept.append((start, stop, label))
    for (start, stop, label), (other, end, name) in pairwise(sorted(kept)):
        if other < stop - slack:
            faults.append(
                f"segments '{label}' from {start:g} to {stop:g} s and '{name}' from {other:g} to {end:g} s "
                "overlap: let one end before the next begins"
            )
    return faults


# Readers: return the segments of one file.


def lines_of(path: Path) -> str:
    """Text of a file, in UTF-8 or the encoding of its byte order mark."""
    try:
        content = path.read_bytes()
        marked = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        return content.decode("utf-16" if marked else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, str(error)) from None


def unreadable(path: Path, why: str) -> ValueError:
    return ValueError(f"has an annotation that cannot be read ('{path.name}': {why})")


def read_textgrid(path: Path) -> list[Mark]:
    """Intervals with text of all interval tiers, in Praat's long or short text format."""
    tokens = [match[2] or match[1].replace('""', '"') for match in TOKEN.finditer(lines_of(path))]
    try:
        if tokens[:2] != ["ooTextFile", "TextGrid"]:
            raise ValueError("it does not begin as a TextGrid in Praat's text format")
        at, marks = 6, []
        for _ in range(int(tokens[5]) if tokens[4] == "<exists>" else 0):
            kind, count, width = tokens[at], int(tokens[at + 4]), 3 if tokens[at] == "IntervalTier" else 2
            rows, at = tokens[at + 5 : at + 5 + width * count], at + 5 + width * count
            if len(rows) < width * count:
                raise ValueError("it is cut short")
            if kind == "IntervalTier":
                rows = zip(rows[::3], rows[1::3], rows[2::3], strict=True)
                marks += [(float(start), float(stop), text.strip()) for start, stop, text in rows if text.strip()]
        return marks
    except IndexError:
        raise unreadable(path, "it is cut short") from None
    except ValueError as error:
        raise unreadable(path, str(error)) from None


def read_raven(path: Path) -> list[Mark]:
    """Selections of a Raven table, each once, as the table has one line per view of the sound."""
    try:
        rows = list(csv.reader(lines_of(path).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
        heading = [name.strip().lower() for name in rows[0]] if rows else []
        for name in ("begin time (s)", "end time (s)"):
            if name not in heading:
                raise ValueError(f"it has no column {name.title()}")
        label = next((heading.index(name) for name in RAVEN_LABELS if name in heading), None)
        number = heading.index("selection") if "selection" in heading else None
        found: dict[str, Mark] = {}
        for at, row in enumerate(filter(None, rows[1:])):
            start, stop = (float(row[heading.index(name)]) for name in ("begin time (s)", "end time (s)"))
            text = UNLABELLED if label is None else row[label].strip()
            found.setdefault(row[number] if number is not None else str(at), (start, stop, text))
        return list(found.values())
    except IndexError:
        raise unreadable(path, "a line has fewer fields than the heading") from None
    except ValueError as error:
        raise unreadable(path, str(error)) from None


def read_audacity(path: Path) -> list[Mark]:
    """Labels of an Audacity track: start, end and text; lines of frequencies, which begin with a backslash, are
    skipped."""
    try:
        rows = [line.split("\t") for line in lines_of(path).splitlines() if line.strip() and line[0] != "\\"]
        return [(float(row[0]), float(row[1]), row[2].strip() if len(row) > 2 else "") for row in rows]
    except (IndexError, ValueError) as error:
        raise unreadable(path, f"a label has a start, an end and a text, apart by tabs: {error}") from None


def like_raven(path: Path) -> bool:
    return "begin time (s)" in first_line(path)


def like_audacity(path: Path) -> bool:
    """Whether the first line begins with two tab-separated numbers."""
    return re.match(r"\s*[-+.\d][\d.eE+-]*\t[-+.\d][\d.eE+-]*(\t|$)", first_line(path)) is not None


def first_line(path: Path) -> str:
    try:
        return lines_of(path).partition("\n")[0].strip("\r").lower()
    except ValueError:
        return ""


# Writers: one file beside each recording, or a table of all.


def write_notmat(path: Path, marks: Sequence[Mark], duration: float, rate: int) -> None:
    """Write evsonganaly's MATLAB 5 file: times in milliseconds, one character per syllable."""
    from scipy.io import savemat

    for start, stop, label in marks:
        if len(label) != 1:
            raise ValueError(
                f"'{path}': the label '{label}' from {start:g} to {stop:g} s has {len(label)} characters, "
                ".not.mat holds one: choose another format, or rename it"
            )
    content = {
        "Fs": float(rate),
        "fname": as_utf8(path.name.removesuffix(NOTMAT)).decode(),
        "labels": "".join(label for *_, label in marks),
        "onsets": np.array([milliseconds(start) for start, _, _ in marks]).reshape(-1, 1),
        "offsets": np.array([milliseconds(stop) for _, stop, _ in marks]).reshape(-1, 1),
    }
    with written_aside(path) as aside, aside.open("wb") as file:
        savemat(file, content)


def milliseconds(seconds: float) -> float:
    """The number of milliseconds that, divided by 1000, is closest to these seconds."""
    near = seconds * 1000
    return min(
        (near, np.nextafter(near, 0), np.nextafter(near, np.inf)), key=lambda one: abs(one / 1000 - seconds)
    )


def write_textgrid(path: Path, marks: Sequence[Mark], duration: float, rate: int) -> None:
    """Write Praat's long text format with one tier; gaps between segments are intervals without text."""
    end = max([duration, *(stop for _, stop, _ in marks)])
    intervals, before = [], 0.0
    for start, stop, label in marks:
        if before - SLACK <= start < before < stop:
            # Rounded times may overlap by less than a millisecond.
            start = before
        if start > before:
            intervals.append((before, start, ""))
        if start < before:
            raise ValueError(
                f"'{path}': the segment '{label}' begins at {start:g} s, in another: a tier holds none"
            )
        intervals.append((start, stop, label))
        before = stop
    if before < end or not intervals:
        intervals.append((before, end, ""))
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end!r}"]
    head += ["tiers? <exists>", "size = 1", "item []:", "    item [1]:", '        class = "IntervalTier"']
    head += ['        name = "syllables"', "        xmin = 0", f"        xmax = {end!r}"]
    head.append(f"        intervals: size = {len(intervals)}")
    for number, (start, stop, label) in enumerate(intervals, start=1):
        text = label.replace('"', '""')
        head += [f"        intervals [{number}]:", f"            xmin = {float(start)!r}"]
        head += [f"            xmax = {float(stop)!r}", f'            text = "{text}"']
    write_whole(path, "\n".join(head) + "\n")


def write_raven(path: Path, marks: Sequence[Mark], duration: float, rate: int) -> None:
    """Write a selection table with one view."""
    names = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)")
    lines = ["\t".join((*names, "Low Freq (Hz)", "High Freq (Hz)", "Annotation"))]
    low, high = RAVEN_BAND[0], min(RAVEN_BAND[1], rate / 2)
    for number, (start, stop, label) in enumerate(marks, start=1):
        fields = (number, "Spectrogram 1", 1, repr(float(start)), repr(float(stop)), low, high, plain(label, path))
        lines.append("\t".join(map(str, fields)))
    write_whole(path, "\n".join(lines) + "\n")


def write_audacity(path: Path, marks: Sequence[Mark], duration: float, rate: int) -> None:
    """Write a label track."""
    lines = [f"{float(start)!r}\t{float(stop)!r}\t{plain(label, path)}\n" for start, stop, label in marks]
    write_whole(path, "".join(lines))


def plain(label: str, path: Path) -> str:
    if "\t" in label or len(label.splitlines()) > 1:
        raise ValueError(f"'{path}': the label {label!r} holds a tab or a new line: rename it, or choose csv")
    return label


def write_table(path: Path, marks: Mapping[str, Sequence[Mark]]) -> None:
    """Write one row per segment of all recordings."""
    with (
        written_aside(path) as aside,
        aside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "onset", "offset", "label"))
        for name, own in marks.items():
            writer.writerows((name, repr(float(start)), repr(float(stop)), label) for start, stop, label in own)


@dataclass(frozen=True)
class Writer:
    """File name and writer of an annotation beside a recording."""

    ending: str
    whole_name: bool
    """Whether the ending is appended to the recording's file name, or replaces its suffix."""
    write: Callable[[Path, Sequence[Mark], float, int], None]

    def beside(self, sound: Path) -> Path:
        return sound.with_name((sound.name if self.whole_name else sound.stem) + self.ending)


WRITERS = {
    "notmat": Writer(NOTMAT, True, write_notmat),
    "textgrid": Writer(TEXTGRID, False, write_textgrid),
    "raven": Writer(RAVEN, False, write_raven),
    "audacity": Writer(AUDACITY, False, write_audacity),
}
