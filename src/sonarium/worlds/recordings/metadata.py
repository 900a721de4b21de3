"""Metadata tables of recordings: CSV, TSV or Parquet, and the usual names of their columns."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

PATH = tuple("path file filename filepath file_path audio audio_file wav audio_path audio_filepath".split())
START = ("start", "start_s", "onset", "onset_s", "begin", "begin_s", "start_time")
STOP = ("stop", "stop_s", "end", "end_s", "offset", "offset_s", "end_time")
DURATION = ("duration", "duration_s")
LABEL = ("label", "phone", "syllable", "class", "word", "unit", "event", "category", "name", "cluster")
"""Usual names of a column; the first that a table has is used."""
ROUNDED = 0.01
"""Tolerance in seconds between a duration and stop minus start."""


class Table(dict[str, list[str]]):
    """Columns of text by name; an empty field is the empty string."""

    def __init__(self, columns: Mapping[str, list[str]], numbers: Sequence[int], unit: str) -> None:
        super().__init__(columns)
        self.numbers, self.unit = numbers, unit

    def place(self, at: int) -> str:
        """Line or row of the file that holds row `at`, for error messages."""
        return f"{self.unit} {self.numbers[at]}"


def read_table(path: Path, quoted: bool = True, empty: bool = False) -> Table:
    """Read all columns of a table, which may be `empty` but for its heading."""
    if not path.is_file():
        raise ValueError(f"there is no table '{path}': give the path of a .csv, .tsv or .parquet file")
    table = read_parquet(path) if path.suffix.lower() == ".parquet" else read_text(path, quoted)
    if not table or not (empty or next(iter(table.values()))):
        raise ValueError(f"'{path}' has no rows: give a table with a line for each clip")
    return table


def read_text(path: Path, quoted: bool) -> Table:
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max("\t", ",", ";", key=first.count) if path.suffix.lower() != ".tsv" else "\t"
            reader = csv.reader(file, delimiter=delimiter, quoting=quoting, skipinitialspace=True)
            rows, numbers = numbered(reader)
    except csv.Error as error:
        raise ValueError(f"'{path}' is not a table that can be read ({error}): repair it") from None
    heading = rows.pop(0) if rows else []
    if len(set(heading)) < len(heading):
        raise ValueError(f"'{path}' names a column twice in {heading}: give each a name of its own")
    for row, number in zip(rows, numbers[1:], strict=True):
        if len(row) != len(heading):
            raise ValueError(
                f"'{path}' has {len(row)} fields in its line {number}, its heading has {len(heading)}: repair it"
            )
    columns = {name: [row[column] for row in rows] for column, name in enumerate(heading)}
    return Table(columns, numbers[1:], "line")


def numbered(reader: Any) -> tuple[list[list[str]], list[int]]:
    """Rows of a table, with whitespace stripped, and the lines on which they begin."""
    rows, numbers, before = [], [], 0
    for row in reader:
        if row:
            rows.append([text.strip() for text in row])
            numbers.append(before + 1)
        before = reader.line_num
    return rows, numbers


def read_parquet(path: Path) -> Table:
    try:
        arrow = import_module("pyarrow")
        parquet = import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError(f"'{path}' needs pyarrow to be read: `pip install pyarrow`, or give a .csv") from None
    try:
        columns = parquet.read_table(path).to_pydict()
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"'{path}' is not Parquet that can be read ({error}): make it again") from None
    texts = {name: ["" if value is None else str(value) for value in values] for name, values in columns.items()}
    return Table(texts, range(1, len(next(iter(texts.values()), [])) + 1), "row")


def find(table: Table, names: tuple[str, ...]) -> str | None:
    """The column with one of these names, ignoring case."""
    lower = {name.lower(): name for name in table}
    return next((lower[name] for name in names if name in lower), None)


def need(table: Table, names: tuple[str, ...], path: Path, remedy: str = "name one of them so") -> str:
    column = find(table, names)
    if column is None:
        raise ValueError(
            f"'{path}' has the columns {', '.join(table)}, and none called {', '.join(names[:4])} or the like: "
            f"{remedy}"
        )
    return column


def need_paths(table: Table, path: Path, remedy: str = "name one of them so") -> str:
    """The column of paths; ValueError if a row has none."""
    column = need(table, PATH, path, remedy)
    if "" in table[column]:
        place = table.place(table[column].index(""))
        raise ValueError(f"'{path}' has no path under '{column}' in its {place}: give one, or take that out")
    return column


def seconds(table: Table, column: str, path: Path) -> list[float | None]:
    """A column of times in seconds; None for empty fields."""
    found = []
    for at, text in enumerate(table[column]):
        try:
            value = float(text) if text.strip() else None
        except ValueError:
            value = math.nan
        if value is not None and not math.isfinite(value):
            raise ValueError(
                f"'{path}' has {text!r} under '{column}' in its {table.place(at)}: give seconds there"
            )
        found.append(value)
    return found


@dataclass(frozen=True)
class TimeColumns:
    """The columns of start, stop and duration."""

    start: str | None
    stop: str | None
    duration: str | None

    @property
    def names(self) -> set[str]:
        return {name for name in (self.start, self.stop, self.duration) if name is not None}


def time_columns(table: Table, path: Path) -> TimeColumns:
    """Columns of times; ValueError if one would be ignored, as its rows denote parts of files."""
    start, stop, duration = (find(table, names) for names in (START, STOP, DURATION))
    if start is None and stop is not None and stop.lower().startswith("offset"):
        # Annotations go from onset to offset; next to a duration alone, the offset is the start of the sound.
        if duration is None:
            raise ValueError(f"'{path}' has '{stop}' and no start: name it start or stop, as it is meant")
        start, stop = stop, None
    chosen = TimeColumns(start, stop, duration)
    known = {*START, *STOP, *DURATION}
    spare = [name for name in table if name.lower() in known and name not in chosen.names]
    if spare:
        raise ValueError(
            f"'{path}' has times under {', '.join(sorted(chosen.names))}, and again under {', '.join(spare)}: "
            "give the latter another name, or take it out"
        )
    return chosen


def stretches(table: Table, columns: TimeColumns, path: Path) -> list[tuple[float | None, float | None]]:
    """Start and stop of each row in seconds; None where the table has neither."""
    nothing: list[float | None] = [None] * len(next(iter(table.values())))
    starts, stops, durations = (
        nothing if name is None else seconds(table, name, path)
        for name in (columns.start, columns.stop, columns.duration)
    )
    found = []
    for at, (start, stop, duration) in enumerate(zip(starts, stops, durations, strict=True)):
        end = stop if duration is None else (start or 0.0) + duration
        if stop is not None and end is not None and abs(stop - end) > ROUNDED:
            raise ValueError(
                f"'{path}' goes from {start or 0:g} to {stop:g} s in its {table.place(at)}, and lasts "
                f"{duration:g} s there: leave out what is wrong"
            )
        found.append((start, stop if stop is not None else end))
    return found
