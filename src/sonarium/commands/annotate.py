"""`sonarium annotate [RUN] FOLDER --out FOLDER`: onsets, offsets and labels of the syllables in recordings of
song.

Segments are cut by level; their labels are clusters of a built-in embedding, or of the codes of a run, whose
number is not given. `--like OUT` gives the syllables of other days the labels of an earlier annotation; `--labels
TABLE` learns labels from the songs in a table of segments, all of whose syllables it labels. Each top folder is a
bird. Writes the annotations, `syllables.npz` for `--like`, and `review.html`, the least certain syllables with
players.

`--json` prints one object: `out`, `files` (recordings annotated), `syllables`, `labels` of each bird with their
counts, `annotations` (files written), `review` (page, or null), and `remarks`: recordings left out, songs and days
without a syllable.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sonarium.commands.faults import UsageError, say, tell
from sonarium.commands.flags import parse, required
from sonarium.commands.progress import bars, plainly
from sonarium.config import Range
from sonarium.evaluation.labelling import LabellingConfig
from sonarium.evaluation.syllables import ClusterConfig
from sonarium.features.segmentation import SegmentationConfig
from sonarium.runs.annotate import (
    REPERTOIRE,
    AnnotateConfig,
    Annotation,
    Form,
    annotate,
    by_bird,
    refuse_existing,
    save,
)
from sonarium.worlds.audio.decoder import read_mono

PAGE = "review.html"
AROUND = 0.3
"""Seconds of sound before and after a syllable on the page."""


@dataclass(frozen=True)
class AnnotateFlags:
    paths: Annotated[tyro.conf.Positional[tuple[Path, ...]], required("[RUN] FOLDER")]
    """Folder of recordings, preceded by a run folder if its codes are to replace the built-in embedding."""
    out: Path
    """Output folder; if it is that of the recordings, annotations are written beside them."""
    labels: Path | None = None
    """Table of segments (.csv: file, onset, offset, label) that labels all syllables of a few songs."""
    like: Path | None = None
    """Output folder of an earlier annotation whose labels are transferred to these songs."""
    to: Form = "csv"
    """Annotation format: csv is one table, segments.csv; the others are files beside each recording."""
    review: Annotated[int, Range(0, 1000)] = 20
    """Number of least certain syllables on the review page; 0 writes no page."""
    replace: bool = False
    """Overwrite existing annotations."""
    device: str = "cpu"
    """Device of the run: cpu, cuda or auto."""
    json: bool = False
    """Print a summary as JSON."""
    segmentation: SegmentationConfig = SegmentationConfig()
    clusters: ClusterConfig = ClusterConfig()
    labelling: LabellingConfig = LabellingConfig()


def main(arguments: list[str]) -> None:
    flags = parse(AnnotateFlags, arguments, "annotate", "Annotate the syllables in recordings of song.")
    if not 1 <= len(flags.paths) <= 2:
        raise UsageError(f"got {len(flags.paths)} paths: give a folder of recordings, and before it perhaps a run")
    if flags.labels is not None and flags.like is not None:
        raise UsageError("--labels and --like: give one of them, for labels come from one place")
    if flags.out.is_file():
        raise UsageError(f"--out {flags.out} is a file: give a folder")
    *run, folder = flags.paths
    if not folder.exists():
        raise ValueError(f"there is no folder '{folder}': give one with recordings")
    if not flags.replace:
        refuse_existing(folder, flags.out, flags.to, (PAGE, *(() if flags.labels else (REPERTOIRE,))))
    coder = None
    if run:
        # Deferred import: opening runs is slow to import, and the built-in embedding does not require it.
        from sonarium.runs.coder import load_coder

        coder = load_coder(run[0], flags.device)
    config = AnnotateConfig(flags.segmentation, flags.clusters, flags.labelling)
    with bars() as progress:
        found = annotate(folder, config, coder, flags.labels, flags.like, plainly(progress))
    written = save(found, flags.out, flags.to)
    page = write_page(found, flags.out / PAGE, flags.review)
    result = summary(found, flags.out, written, page)
    if flags.json:
        print(json.dumps(result))
        return
    say_remarks(found)
    tell(f"{flags.out}: {result['syllables']} syllables in {result['files']} recording(s), {flags.to}")
    for bird, labels in result["labels"].items():
        listed = ", ".join(f"{label} ({count})" for label, count in labels.items())
        tell(f"{bird or 'all'}: {len(labels)} labels: {listed}")
    if page is not None:
        tell(f"{page}: the least certain syllables")


def say_remarks(found: Annotation) -> None:
    for remark in found.remarks:
        say(remark)


def summary(found: Annotation, out: Path, written: list[Path], page: Path | None) -> dict:
    counts = {
        bird: dict(Counter(label for song in songs for *_, label in song.marks).most_common())
        for bird, songs in by_bird(found.songs).items()
    }
    return {
        "out": str(out),
        "files": len(found.songs),
        "syllables": sum(len(song.marks) for song in found.songs),
        "labels": counts,
        "annotations": [str(path) for path in written],
        "review": None if page is None else str(page),
        "remarks": found.remarks,
    }


def write_page(found: Annotation, path: Path, count: int) -> Path | None:
    """Write the review page of the least certain syllables, with the sound around them; None without syllables."""
    doubts = sorted(
        (certainty, number, at)
        for number, song in enumerate(found.songs)
        for at, certainty in enumerate(song.certainty)
    )[:count]
    if not doubts:
        return None
    # Deferred import: plotting is slow to import, and `--help` should not wait for it.
    from sonarium.report.review import Doubtful, review_page

    syllables = []
    for certainty, number, at in doubts:
        song = found.songs[number]
        onset, offset, label = song.marks[at]
        begin, end = max(onset - AROUND, 0.0), min(offset + AROUND, song.duration)
        wave = read_mono(song.path, song.rate).numpy()[round(begin * song.rate) : round(end * song.rate)]
        around = [mark for mark in song.marks if mark[1] > begin and mark[0] < end]
        syllables.append(Doubtful(song.name, label, onset, offset, certainty, begin, wave, song.rate, around))
    lead = f"The {len(syllables)} syllables whose labels are least certain, the least certain first."
    review_page("Syllables to look at next", lead, syllables, path)
    return path
