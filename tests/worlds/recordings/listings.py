"""Corpora of files without sound, and their listings."""

import csv
from typing import Any

from sonarium.worlds.recordings.layouts import Hints, list_clips


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")


def table(path, *rows, delimiter=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def listed(root, layout: Any = "auto", **hints):
    return list_clips(root, layout, Hints(**hints))


def by_name(listing, root):
    return {row.path.relative_to(root).as_posix(): dict(row.labels) for row in listing.rows}
