"""Automatic annotation of songs: segments cut by level and clustered, or labelled like an earlier annotation, or
labelled from a few labelled songs.

Songs of different birds are labelled separately. Nothing is printed; the result lists recordings that cannot be
read, and songs without a syllable.
"""

import io
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from sonarium.evaluation.labelling import LabellingConfig, SyllableProbe
from sonarium.evaluation.songs import Segments, cluster_segments, label_segments
from sonarium.evaluation.syllables import ClusterConfig, Repertoire
from sonarium.features.segmentation import SegmentationConfig, pieces, segment
from sonarium.features.syllables import (
    BandsConfig,
    band_levels,
    contrasted,
    embed,
    relative_levels,
    with_duration,
)
from sonarium.files import written_aside
from sonarium.runs.coder import Coder
from sonarium.worlds.audio.decoder import header_of, read_mono
from sonarium.worlds.contract import Mark, Progress
from sonarium.worlds.recordings import annotations, formats
from sonarium.worlds.recordings.listing import folder_labels, relative, sounds_at

Form = Literal["csv", "notmat", "textgrid", "raven", "audacity"]
HIGHEST_RATE = 32_000
"""Maximum sampling rate in Hz; recordings are resampled to it, or to the lowest of their rates."""
REPERTOIRE = "syllables.npz"
ARRAYS = ("mean", "components", "points", "labels")
"""Array fields of a repertoire, by their names in its file."""
BUILT_IN = "built-in"
FINE = BandsConfig(window=0.008)
"""Bands of the probe, whose window is short enough to resolve onsets."""


@dataclass(frozen=True)
class AnnotateConfig:
    """Settings of an annotation."""

    segmentation: SegmentationConfig = SegmentationConfig()
    clusters: ClusterConfig = ClusterConfig()
    labelling: LabellingConfig = LabellingConfig()


@dataclass(frozen=True)
class Song:
    """A recording and its syllables."""

    path: Path
    name: str
    """Path relative to the folder."""
    bird: str
    day: str
    duration: float
    rate: int
    marks: list[Mark] = field(default_factory=list)
    certainty: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Annotation:
    """Annotation of the songs in a folder."""

    songs: list[Song]
    repertoires: dict[str, Repertoire]
    """Repertoire of each bird; empty if labels come from labelled songs."""
    source: str
    """Source of the embeddings: built-in, or the codes of a run."""
    remarks: list[str]
    """Recordings left out, songs and days without a syllable, birds without labels."""


@dataclass(frozen=True)
class Frames:
    """Embeddings of a song for clustering and frames for the probe: built-in bands, or the codes of a run."""

    coder: Coder | None

    @property
    def source(self) -> str:
        return BUILT_IN if self.coder is None else f"codes at {self.coder.code_rate:g} a second"

    def embedded(self, wave: np.ndarray, rate: int, marks: Sequence[Mark]) -> Float[np.ndarray, "syllable code"]:
        if self.coder is None:
            config = BandsConfig()
            placed = contrasted(embed(band_levels(wave, rate, config), config.frame_rate, marks))
        else:
            codes = self.coder.encode(wave, rate)
            scaled = codes / max(float(codes.std()), 1e-9)
            placed = embed(scaled, self.coder.code_rate, marks, first=self.coder.code_first)
        return with_duration(placed, marks)

    def segments(self, wave: np.ndarray, rate: int, config: SegmentationConfig = SegmentationConfig()) -> Segments:
        """The segments of a song, with the pieces into which they can be cut."""
        found = pieces(wave, rate, segment(wave, rate, config), config)
        if not found:
            return Segments([], [])
        ends = np.cumsum([len(one.marks) for one in found])[:-1]
        rows = self.embedded(wave, rate, [mark for one in found for mark in one.marks])
        return Segments(found, np.split(rows, ends))

    def seen(self, wave: np.ndarray, rate: int) -> np.ndarray:
        if self.coder is None:
            return relative_levels(band_levels(wave, rate, FINE))
        return self.coder.encode(wave, rate)

    def probe(self, config: LabellingConfig) -> SyllableProbe:
        if self.coder is None:
            return SyllableProbe(FINE.frame_rate, config)
        return SyllableProbe(self.coder.code_rate, config, self.coder.code_first)


def annotate(
    folder: Path,
    config: AnnotateConfig = AnnotateConfig(),
    coder: Coder | None = None,
    labels: Path | None = None,
    like: Path | None = None,
    progress: Progress = lambda *_: None,
) -> Annotation:
    """Annotate the syllables of all songs in a folder: with clusters, with the labels of an earlier annotation
    (`like`), or with labels learnt from a table of segments (`labels`), which must label every syllable of the
    songs that it names."""
    paths = sounds_at(folder)
    root = folder if folder.is_dir() else folder.parent
    known = folder_labels(paths, root)
    songs, remarks = [], []
    for path in paths:
        try:
            header = header_of(path)
        except ValueError as error:
            remarks.append(f"{error}; its song is not annotated")
            continue
        parts = Path(relative(path, root)).parts
        own = known.get(path, {"bird": parts[0] if len(parts) > 1 else "", "day": ""})
        songs.append(Song(path, relative(path, root), own["bird"], own["day"], 0.0, header.rate))
    if not songs:
        raise ValueError(f"'{folder}' has no recording that can be read: {'; '.join(remarks)}")
    rate = min(HIGHEST_RATE, *(song.rate for song in songs))
    reading = Reading(rate, progress, remarks)
    frames = Frames(coder)
    if labels is not None:
        found, repertoires = labelled(root, songs, labels, frames, config, reading), {}
    else:
        found, repertoires = clustered(songs, like, frames, config, reading)
    if not found:
        raise ValueError(f"'{folder}' has no recording that can be used: {'; '.join(remarks)}")
    return Annotation(found, repertoires, frames.source, remarks + silent(found))


@dataclass(frozen=True)
class Reading:
    """Reads recordings one after the other; a bad one is left out with a remark."""

    rate: int
    progress: Progress
    remarks: list[str]

    def each(self, songs: Sequence[Song], what: str, use: Callable[[Song, np.ndarray], Song]) -> list[Song]:
        kept = []
        for done, song in enumerate(songs, start=1):
            try:
                wave = read_mono(song.path, self.rate).numpy()
                kept.append(use(replace(song, duration=len(wave) / self.rate), wave))
            except ValueError as error:
                self.remarks.append(f"{error}; its song is not annotated")
            self.progress(what, done, len(songs))
        return kept


def clustered(
    songs: Sequence[Song], like: Path | None, frames: Frames, config: AnnotateConfig, reading: Reading
) -> tuple[list[Song], dict[str, Repertoire]]:
    """Songs with segments labelled by cluster, or by the nearest syllable of an earlier annotation (`like`)."""
    before = {} if like is None else load_repertoires(like, frames.source)
    segments: dict[Path, Segments] = {}

    def cut(song: Song, wave: np.ndarray) -> Song:
        segments[song.path] = frames.segments(wave, reading.rate, config.segmentation)
        return song

    found = reading.each(songs, "cutting syllables", cut)
    repertoires: dict[str, Repertoire] = {}
    done: dict[Path, Song] = {}
    for bird, own in by_bird(found).items():
        own = [song for song in own if segments[song.path].pieces]
        if not own:
            continue
        heard = [segments[song.path] for song in own]
        if like is None:
            made = cluster_segments(heard, config.clusters)
            repertoires[bird] = made.repertoire
        elif bird in before:
            repertoires[bird] = before[bird]
            made = label_segments(heard, before[bird], config.clusters)
        else:
            reading.remarks.append(
                f"bird '{bird}' is not in '{like}', which has {', '.join(before)}: its syllables are not labelled"
            )
            done |= {song.path: replace(song, marks=one.marks) for song, one in zip(own, heard, strict=True)}
            continue
        ends = np.cumsum([len(one.marks) for one in made.songs])[:-1]
        parts = zip(own, made.songs, np.split(made.labels, ends), np.split(made.certainty, ends), strict=True)
        for song, one, texts, sure in parts:
            marks = [(start, stop, text) for (start, stop, _), text in zip(one.marks, texts.tolist(), strict=True)]
            done[song.path] = replace(song, marks=marks, certainty=sure.tolist())
    return [done.get(song.path, song) for song in found], repertoires


def labelled(
    root: Path, songs: Sequence[Song], table: Path, frames: Frames, config: AnnotateConfig, reading: Reading
) -> list[Song]:
    """Songs with the syllables found by a probe fitted to the labelled songs, which keep their own labels."""
    given = labels_in(root, songs, table)
    probes: dict[str, SyllableProbe] = {}
    everyone = by_bird(songs)
    seen: dict[str, list[np.ndarray]] = defaultdict(list)
    marks: dict[str, list[list[Mark]]] = defaultdict(list)
    faults: list[str] = []

    def learn(song: Song, wave: np.ndarray) -> Song:
        wrong = formats.refused(given[song.path], song.duration)
        faults.extend(f"'{song.name}' in '{table}': {fault}" for fault in wrong)
        seen[song.bird].append(frames.seen(wave, reading.rate))
        marks[song.bird].append(given[song.path])
        return replace(song, marks=sorted(given[song.path]), certainty=[1.0] * len(given[song.path]))

    known = reading.each([song for song in songs if song.path in given], "learning labels", learn)
    if faults:
        raise ValueError("; ".join(faults))
    for bird in seen:
        probes[bird] = frames.probe(config.labelling).fit(seen[bird], marks[bird])
    for bird in everyone:
        if bird not in probes:
            reading.remarks.append(f"bird '{bird}' has no labelled song in '{table}': its songs are not annotated")

    def find(song: Song, wave: np.ndarray) -> Song:
        made = probes[song.bird].label(frames.seen(wave, reading.rate))
        return replace(song, marks=made.marks, certainty=made.certainty)

    others = [song for song in songs if song.path not in given and song.bird in probes]
    found = {song.path: song for song in [*known, *reading.each(others, "labelling", find)]}
    return [found[song.path] for song in songs if song.path in found]


def labels_in(root: Path, songs: Sequence[Song], table: Path) -> dict[Path, list[Mark]]:
    """The labelled segments of each song that a table names."""
    sounds = annotations.Sounds(root, [song.path for song in songs])
    read = annotations.from_table(root, table, sounds)
    faults = [f"'{remark.path}' in '{table}': {remark.reason}" for remark in read.remarks]
    there = {song.path for song in songs}
    missing = [path for path in read.segments if path not in there]
    faults += [f"'{table}' names '{path}', which is no recording in '{root}'" for path in missing]
    if faults:
        raise ValueError("; ".join(faults))
    return dict(read.segments)


def by_bird(songs: Sequence[Song]) -> dict[str, list[Song]]:
    found: dict[str, list[Song]] = {}
    for song in songs:
        found.setdefault(song.bird, []).append(song)
    return found


def silent(songs: Sequence[Song]) -> list[str]:
    """Remarks on each day without a syllable, and on each song without one on other days."""
    days = Counter((song.bird, song.day) for song in songs)
    sung = {(song.bird, song.day) for song in songs if song.marks}
    lines = [
        f"day '{day}' of bird '{bird}' has no syllable in its {count} recording(s)"
        for (bird, day), count in days.items()
        if day and (bird, day) not in sung
    ]
    return lines + [
        f"'{song.name}' has no syllable: nothing in it is as loud and as long as song"
        for song in songs
        if not song.marks and (not song.day or (song.bird, song.day) in sung)
    ]


# Writing and reading annotations.


def targets(names: Sequence[str], out: Path, form: Form) -> list[Path]:
    """Output files: one per recording, or the table of all."""
    if form == "csv":
        return [out / formats.TABLE]
    files = [formats.WRITERS[form].beside(out / name) for name in names]
    twice = [str(path) for path, count in Counter(files).items() if count > 1]
    if twice:
        raise ValueError(f"two recordings would have the annotation '{twice[0]}': give them different names")
    return files


def refuse_existing(folder: Path, out: Path, form: Form, others: Sequence[str]) -> None:
    """Raise ValueError, before anything is computed, if an output file already exists."""
    root = folder if folder.is_dir() else folder.parent
    names = [relative(path, root) for path in sounds_at(folder)]
    for path in [*targets(names, out, form), *(out / name for name in others)]:
        if path.exists():
            raise ValueError(f"'{path}' is already there: give another --out, or --replace to write it anew")


def save(found: Annotation, out: Path, form: Form) -> list[Path]:
    """Write the annotations, and the repertoires for labelling later songs."""
    files = targets([song.name for song in found.songs], out, form)
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
    if form == "csv":
        formats.write_table(files[0], {song.name: song.marks for song in found.songs})
    else:
        for path, song in zip(files, found.songs, strict=True):
            formats.WRITERS[form].write(path, song.marks, song.duration, song.rate)
    if found.repertoires:
        save_repertoires(found.repertoires, found.source, out / REPERTOIRE)
    return files


def save_repertoires(repertoires: dict[str, Repertoire], source: str, path: Path) -> None:
    arrays: dict[str, Any] = {"birds": np.array(list(repertoires)), "source": np.array(source)}
    for number, own in enumerate(repertoires.values()):
        parts = zip(ARRAYS, (own.mean, own.components, own.points, own.labels), strict=True)
        arrays |= {f"{name}_{number}": array for name, array in parts}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with written_aside(path) as aside:
        aside.write_bytes(buffer.getvalue())


def load_repertoires(folder: Path, source: str) -> dict[str, Repertoire]:
    """The repertoire of each bird from an earlier annotation."""
    path = folder / REPERTOIRE if folder.is_dir() else folder
    if not path.is_file():
        raise ValueError(f"there is no '{path}': give the --out of an earlier annotation with clusters")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            made = str(arrays["source"])
            found = {
                str(bird): Repertoire(*(arrays[f"{name}_{number}"] for name in ARRAYS))
                for number, bird in enumerate(arrays["birds"])
            }
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"'{path}' is no repertoire that can be read ({error}): annotate those songs again"
        ) from None
    if made != source:
        raise ValueError(f"'{path}' was made of {made} frames, these are {source}: use the same run for both")
    return found
