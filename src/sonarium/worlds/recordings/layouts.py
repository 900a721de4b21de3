"""Layouts of corpora: which files they have, and where their labels are.

LibriSpeech (Panayotov et al., 2015), Common Voice (Ardila et al., 2020), the Free Spoken Digit Dataset (Jackson et
al.), ESC (Piczak, 2015), folders named by label, manifests, and hand-annotated song (`annotations.py`).
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sonarium.worlds.audio.file import absence, is_sound
from sonarium.worlds.contract import UNKNOWN
from sonarium.worlds.recordings import annotations, metadata
from sonarium.worlds.recordings.listing import (
    DAY,
    FILE,
    FOLDER,
    Fault,
    Listing,
    Row,
    default_group,
    ending,
    files_below,
    folder_labels,
    match_all,
    relative,
    walk,
)

Layout = Literal["auto", "folder", "manifest", "librispeech", "common-voice", "fsdd", "esc", "segments"]
LIBRISPEECH = re.compile(r"(?P<speaker>\d+)-(?P<chapter>\d+)-(?P<utterance>\d+)")
FSDD = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<take>\d+)")
ESC = re.compile(r"(?P<fold>\d)-(?P<source>\d+)-(?P<take>[A-Z]+)(?:-(?P<target>\d+))?")
MANIFESTS = ("manifest.csv", "manifest.tsv", "manifest.parquet")
PARTS = ("train", "dev", "test")
"""Parts of Common Voice's own split."""


@dataclass(frozen=True)
class Hints:
    """Options that refine a layout."""

    pattern: str = ""
    subset: str = ""
    annotations: str = "auto"


def list_clips(root: Path, layout: Layout, hints: Hints) -> Listing:
    """List all clips of a folder or manifest, with labels from the layout and the pattern."""
    if not root.exists():
        raise ValueError(f"there is no folder or manifest '{root}': give the path of one with recordings")
    if root.is_dir():
        # Raises here if unreadable, so that the error names the folder, not a table inside it.
        next(files_below(root), None)
    chosen = layout
    if layout == "auto":
        chosen = "segments" if hints.annotations != "auto" and root.is_dir() else recognise(root)
    refuse_unused(hints, chosen)
    if root.is_file() and chosen != "manifest":
        raise ValueError(f"'{root}' is a file: the layout '{chosen}' needs a folder; only a manifest is a file")
    if root.is_file() and is_sound(root):
        raise ValueError(f"'{root}' is one recording: give the folder that it is in, or a manifest of its parts")
    listing = READERS[chosen](root, hints)
    if not listing.rows:
        raise ValueError(f"'{root}' names no recordings: {passed_over(listing.passed)}")
    if hints.pattern and chosen != "folder":
        labels = match_all(hints.pattern, {row.path for row in listing.rows}, folder_of(root))
        rows = tuple(replace(row, labels={**row.labels, **labels[row.path]}) for row in listing.rows)
        names = tuple(next(iter(labels.values())))
        group = listing.group or default_group(names)
        factors = tuple(dict.fromkeys(listing.factors + names))
        listing = replace(listing, rows=rows, factors=factors, group=group)
    return listing


def refuse_unused(hints: Hints, layout: Layout) -> None:
    """Raise ValueError for options that the layout does not use."""
    if hints.subset and layout != "common-voice":
        raise ValueError(
            f"--subset {hints.subset}: the layout '{layout}' has no subsets, only common-voice has: leave it out"
        )
    if hints.annotations != "auto" and layout != "segments":
        raise ValueError(
            f"--annotations {hints.annotations}: the layout '{layout}' has no annotations: leave it out, or take "
            "--layout segments with a folder"
        )


def passed_over(passed: Mapping[str, int]) -> str:
    others = ", ".join(f"{number} of {ending}" for ending, number in sorted(passed.items()))
    return f"it holds {others or 'no files'}; expected are WAV, FLAC, OGG, MP3, AIFF or CBIN"


def folder_of(root: Path) -> Path:
    return root.parent if root.is_file() else root


def recognise(root: Path) -> Layout:
    """Detect the layout from tables and file names."""
    if root.is_file() or manifest_in(root) is not None:
        return "manifest"
    if (root / "clips").is_dir() and any(root.glob("*.tsv")):
        return "common-voice"
    if annotations.recognise(root) is not None:
        return "segments"
    stems = [path.stem for path in walk(root)[0]]
    # Dates have the form of LibriSpeech's names.
    dated = sum(DAY.fullmatch(stem) is not None for stem in stems)
    shapes: dict[Layout, re.Pattern[str]] = {"librispeech": LIBRISPEECH, "fsdd": FSDD, "esc": ESC}
    for layout, shape in shapes.items():
        # Tolerates a few stray files.
        alike = sum(shape.fullmatch(stem) is not None for stem in stems)
        if alike - (dated if layout == "librispeech" else 0) > 0.9 * len(stems):
            return layout
    return "folder"


def manifest_in(root: Path) -> Path | None:
    return next((root / name for name in MANIFESTS if (root / name).is_file()), None)


def read_folder(root: Path, hints: Hints) -> Listing:
    """Labels from a pattern, else from the enclosing folders: bird and day if the folders are named so."""
    paths, passed = walk(root)
    if hints.pattern and paths:
        labels = match_all(hints.pattern, paths, root)
    elif not (labels := folder_labels(paths, root)):
        depths = {path: Path(relative(path, root)).parts[:-1] for path in paths}
        deepest = max(map(len, depths.values()), default=0)
        names = ["label"] if deepest == 1 else [f"level{number}" for number in range(1, deepest + 1)]
        labels = {
            path: {name: parts[at] if at < len(parts) else "" for at, name in enumerate(names)}
            for path, parts in depths.items()
        }
    rows = tuple(Row(path, labels[path]) for path in paths)
    factors = tuple(labels[paths[0]]) if paths else ()
    return Listing("folder", rows, factors, default_group(factors), passed)


def read_manifest(root: Path, hints: Hints) -> Listing:
    """One row per clip: path, start and stop (or duration) if it is only a part, labels, group."""
    path = root if root.is_file() else manifest_in(root)
    if path is None:
        raise ValueError(f"'{root}' has none of {', '.join(MANIFESTS)}: give the path of the manifest itself")
    table = metadata.read_table(path)
    files, times = metadata.need_paths(table, path), metadata.time_columns(table, path)
    names = [name for name in table if name not in (files, FILE, FOLDER) and name not in times.names]
    taken = [
        Fault(
            path, f"column '{name}' is left out: --group {name} is each {name} itself; name the column otherwise"
        )
        for name in (FILE, FOLDER)
        if name in table and name != files
    ]
    rows = tuple(
        Row(path.parent / table[files][at], {name: table[name][at] for name in names}, start or 0.0, stop)
        for at, (start, stop) in enumerate(metadata.stretches(table, times, path))
    )
    return Listing(
        "manifest", rows, likely_labels(rows, names), default_group(names), remarks=(*taken, *repeated(rows))
    )


def repeated(rows: tuple[Row, ...]) -> tuple[Fault, ...]:
    """Remarks on clips that several rows name: each row counts as a clip, even if the labels differ."""
    lines: dict[tuple[Path, float, float | None], list[Row]] = {}
    for row in rows:
        lines.setdefault((row.path, row.start, row.stop), []).append(row)
    return tuple(
        Fault(path, f"{len(same)} lines are about this clip{contradiction(same)}; leave one of them")
        for (path, *_), same in lines.items()
        if len(same) > 1
    )


def contradiction(same: list[Row]) -> str:
    unlike = [name for name in same[0].labels if len({row.labels[name] for row in same}) > 1]
    return f", and do not agree on its {' and '.join(unlike)}" if unlike else ""


def likely_labels(rows: tuple[Row, ...], names: list[str]) -> tuple[str, ...]:
    """Columns that look like labels: at least two values, and far fewer values than clips; decimal numbers are
    measurements."""
    found = []
    for name in names:
        values = {row.labels[name] for row in rows}
        most = max(len(rows) // 2, 16)
        if 2 <= len(values) <= most and not all(re.fullmatch(r"-?\d*\.\d+(e-?\d+)?|", value) for value in values):
            found.append(name)
    return tuple(found)


@dataclass(frozen=True)
class Named:
    """Files whose names contain their labels."""

    files: list[tuple[Path, dict[str, str]]]
    passed: Mapping[str, int]
    remarks: tuple[Fault, ...]


def read_names(root: Path, shape: re.Pattern[str], layout: str) -> Named:
    """Parse labels from file names; a file with another name is kept, with unknown labels."""
    paths, passed = walk(root)
    files, remarks = [], []
    for path in paths:
        match = shape.fullmatch(path.stem)
        if match is None:
            remarks.append(
                Fault(path, f"is not named like the files of layout '{layout}': its labels are unknown")
            )
        parts = match.groupdict() if match else dict.fromkeys(shape.groupindex, "")
        files.append((path, {name: value or "" for name, value in parts.items()}))
    if len(remarks) == len(paths) > 0:
        raise ValueError(
            f"none of the {len(paths)} files in '{root}' is named like the files of layout '{layout}', such as "
            f"'{paths[0]}': use --layout folder"
        )
    return Named(files, passed, tuple(remarks))


def read_librispeech(root: Path, hints: Hints) -> Listing:
    """SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac; folders may be missing."""
    found = read_names(root, LIBRISPEECH, "librispeech")
    sexes = read_speakers(root)
    rows = []
    for path, parts in found.files:
        above = [part for part in path.parts if re.fullmatch(r"(train|dev|test)-(clean|other)(-\d+)?", part)]
        labels = {"speaker": parts["speaker"], "chapter": parts["chapter"], "subset": above[-1] if above else ""}
        if sexes:
            labels["sex"] = sexes.get(parts["speaker"], "")
        rows.append(Row(path, labels))
    factors = ("speaker", "subset", *(("sex",) if sexes else ()))
    return Listing("librispeech", tuple(rows), factors, "speaker", found.passed, found.remarks)


def read_speakers(root: Path) -> dict[str, str]:
    """Sex of each speaker from SPEAKERS.TXT, in this folder or its parent."""
    for path in (root / "SPEAKERS.TXT", root.parent / "SPEAKERS.TXT"):
        if path.is_file():
            lines = [line.split("|") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
            return {line[0].strip(): line[1].strip() for line in lines if len(line) > 2 and line[0][:1] != ";"}
    return {}


def read_fsdd(root: Path, hints: Hints) -> Listing:
    """DIGIT_SPEAKER_TAKE.wav; takes 0 to 4 are the test part of the data set's own split."""
    found = read_names(root, FSDD, "fsdd")
    rows = tuple(Row(path, {**parts, "part": fsdd_part(parts["take"])}) for path, parts in found.files)
    return Listing("fsdd", rows, ("digit", "speaker"), "speaker", found.passed, found.remarks)


def fsdd_part(take: str) -> str:
    return ("test" if int(take) < 5 else "train") if take else ""


def read_esc(root: Path, hints: Hints) -> Listing:
    """FOLD-SOURCE-TAKE(-TARGET).ogg; class from meta/esc50.csv, else the folder, else the target number."""
    found = read_names(root, ESC, "esc")
    tables_of_classes = [folder / "meta" / "esc50.csv" for folder in (root, root.parent)]
    classes: dict[str, str] = {}
    for path in filter(Path.is_file, tables_of_classes):
        table = metadata.read_table(path)
        files, names = metadata.need_paths(table, path), metadata.need(table, metadata.LABEL, path)
        classes = dict(zip(table[files], table[names], strict=True))
    rows = []
    for path, parts in found.files:
        above = path.parent.name if path.parent not in (root, root / "audio") else parts["target"]
        labels = {"class": classes.get(path.name, above), "fold": parts["fold"], "source": parts["source"]}
        rows.append(Row(path, labels))
    return Listing("esc", tuple(rows), ("class", "fold"), "fold", found.passed, found.remarks)


def read_common_voice(root: Path, hints: Hints) -> Listing:
    """Tables of clips with speakers and their self-reported attributes; by default `validated`."""
    wanted = [hints.subset] if hints.subset else ["validated"] if (root / "validated.tsv").is_file() else PARTS
    sources = [root / f"{name}.tsv" for name in wanted]
    parts = {path: name for name in PARTS for path in clips_of(root / f"{name}.tsv")}
    rows: dict[Path, Row] = {}
    for source in filter(Path.is_file, sources):
        table = metadata.read_table(source, quoted=False)
        clips, speaker = metadata.need_paths(table, source), metadata.need(table, ("client_id",), source)
        known = {"accents": "accent", "accent": "accent", "gender": "gender", "age": "age", "locale": "locale"}
        kept = [name for name in known if name in table]
        for at, clip in enumerate(table[clips]):
            file = root / "clips" / (clip if is_sound(Path(clip)) else f"{clip}.mp3")
            labels = {"speaker": table[speaker][at], "part": parts.get(clip, "")}
            labels |= {known[name]: table[name][at] for name in kept}
            rows[file] = Row(file, labels)
    if not rows:
        there = ", ".join(sorted(path.stem for path in root.glob("*.tsv")))
        raise ValueError(f"'{root}' has no table {' or '.join(wanted)} with clips: choose a --subset of {there}")
    listed = tuple(rows.values())
    names = [name for name in listed[0].labels if name != "speaker"]
    return Listing("common-voice", listed, ("speaker", *likely_labels(listed, names)), "speaker")


def clips_of(path: Path) -> list[str]:
    if not path.is_file():
        return []
    table = metadata.read_table(path, quoted=False, empty=True)
    return table[metadata.need_paths(table, path)]


def read_segments(root: Path, hints: Hints) -> Listing:
    """Whole recordings with annotated segments, and further labels from a table of files."""
    paths, passed = walk(root)
    sounds = annotations.Sounds(root, paths)
    found, described = annotations.read(root, sounds, hints.annotations), annotations.describe(root, sounds)
    unlisted = sorted({*found.segments, *found.faults} - set(paths))
    faults = {path: absence(path)[0] for path in unlisted if not path.is_file()} | found.faults
    names, others = (
        dict.fromkeys(name for labels in source.values() for name in labels)
        for source in (found.labels, described)
    )
    group = default_group(names) or default_group(others)
    rows = []
    for path in (*paths, *unlisted):
        known = {name: value for name, value in found.labels.get(path, {}).items() if value not in ("", UNKNOWN)}
        known = dict.fromkeys(names | others, "") | described.get(path, {}) | known
        rows.append(Row(path, known, segments=tuple(sorted(found.segments.get(path, ())))))
    # A table of files may also have rates and lengths: only its group column is certainly a label.
    factors = likely_labels(tuple(rows), list(dict.fromkeys([*names, *([group] if group else [])])))
    bad = tuple(Fault(*fault) for fault in sorted(faults.items()))
    read = found.read | ({table} if described and (table := annotations.description_in(root)) else set())
    beside = annotations.beside(paths) - read
    used = Counter(map(ending, read))
    return Listing(
        "segments",
        tuple(rows),
        factors,
        group,
        Counter(passed) - used,
        tuple(found.remarks),
        bad,
        used,
        Counter(map(ending, beside)),
    )


READERS: dict[str, Callable[[Path, Hints], Listing]] = {
    "folder": read_folder,
    "manifest": read_manifest,
    "librispeech": read_librispeech,
    "common-voice": read_common_voice,
    "fsdd": read_fsdd,
    "esc": read_esc,
    "segments": read_segments,
}
