"""Tables that come with recordings: CSV, TSV or Parquet, and the many names of their columns."""

import csv
import math
from importlib import import_module
from pathlib import Path

PATH = ("path", "file", "filename", "filepath", "file_path", "audio", "audio_file", "wav", "audio_path")
START = ("start", "start_s", "onset", "onset_s", "begin", "begin_s", "start_time")
STOP = ("stop", "stop_s", "end", "end_s", "offset", "offset_s", "end_time")
LABEL = ("label", "phone", "syllable", "class", "word", "unit", "event", "category", "name")
"""Names under which a column is looked for, the first that there is."""

Table = dict[str, list[str]]
"""Columns of text by name; what a table leaves empty is the empty string."""


def read_table(path: Path, quoted: bool = True) -> Table:
    """All columns of a table."""
    if not path.is_file():
        raise ValueError(f"there is no table '{path}': give the path of a .csv, .tsv or .parquet file")
    table = read_parquet(path) if path.suffix.lower() == ".parquet" else read_text(path, quoted)
    if not table or not next(iter(table.values())):
        raise ValueError(f"'{path}' has no rows: give a table with a line for each clip")
    return table


def read_text(path: Path, quoted: bool) -> Table:
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max("\t", ",", ";", key=first.count) if path.suffix.lower() != ".tsv" else "\t"
            lines = [line for line in csv.reader(file, delimiter=delimiter, quoting=quoting) if line]
    except csv.Error as error:
        raise ValueError(f"'{path}' is not a table that can be read ({error}): mend it") from None
    heading, rows = lines[0] if lines else [], lines[1:]
    if len(set(heading)) < len(heading):
        raise ValueError(f"'{path}' names a column twice in {heading}: give each a name of its own")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(heading):
            raise ValueError(
                f"'{path}' has {len(row)} fields in its row {number}, its heading has {len(heading)}: mend it"
            )
    return {name.strip(): [row[column] for row in rows] for column, name in enumerate(heading)}


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
    return {name: ["" if value is None else str(value) for value in values] for name, values in columns.items()}


def find(table: Table, names: tuple[str, ...]) -> str | None:
    """The column that goes by one of these names, whatever the size of its letters."""
    lower = {name.lower(): name for name in table}
    return next((lower[name] for name in names if name in lower), None)


def need(table: Table, names: tuple[str, ...], path: Path) -> str:
    column = find(table, names)
    if column is None:
        raise ValueError(
            f"'{path}' has the columns {', '.join(table)}, and none called {', '.join(names[:4])} or the like: "
            "name one of them so"
        )
    return column


def seconds(table: Table, column: str, path: Path) -> list[float | None]:
    """A column of times; what is left empty is none."""
    found = []
    for number, text in enumerate(table[column], start=2):
        try:
            value = float(text) if text.strip() else None
        except ValueError:
            value = math.nan
        if value is not None and not math.isfinite(value):
            raise ValueError(f"'{path}' has {text!r} under '{column}' in its row {number}: give seconds there")
        found.append(value)
    return found
