"""Recordings as a world: random crops for training, whole clips for evaluation.

The start of a piece follows from the seed, the step and the clip alone (`counter.py`; and from how often the clip
occurred before in the same batch), so that any number of workers draws the same pieces, in any order. All sound is
read from the cache.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.worlds.contract import Batch, Factor, Mark, Progress, Signal, World, WorldEntry
from sonarium.worlds.recordings.listing import FILE, relative
from sonarium.worlds.recordings.survey import RecordingsConfig, Survey, survey

__all__ = ["RECORDINGS", "Recordings", "RecordingsConfig"]

UNITS = {"file": "clips", "segment": "segments"}
"""Plural noun for clips in messages, by the unit of a clip."""


class Recordings(World):
    """Labelled clips read from disk; the seed has no effect."""

    name = "recordings"
    planted = False

    def __init__(self, config: RecordingsConfig, seed: int = 0, progress: Progress = lambda *_: None) -> None:
        found = survey(config, progress)
        found.quarantine.enforce(config.bad_fraction, found.root)
        self.take(found)

    def take(self, found: Survey) -> None:
        """Initialise from the usable clips of a survey, however few they are."""
        config, clips, entries = found.config, found.clips, found.cache.entries
        self.config, self.root = config, found.root
        self.cache, self.quarantine, self.layout = found.cache, found.quarantine, found.listing.layout
        self.rate, self.unit = config.rate, UNITS[config.clip]
        self.signal = signal_of(config)
        self.paths: tuple[Path, ...] = tuple(clip.row.path for clip in clips)
        self.starts = np.array([entries[clip.content].offset + clip.start for clip in clips], np.int64)
        self.sample_counts = torch.tensor([clip.length for clip in clips], dtype=torch.int64)
        self.scales = np.array([entries[clip.content].scale for clip in clips], np.float32)
        self.segments = tuple(
            marks_within(clip.row.segments, clip.start, clip.length, config.rate) for clip in clips
        )
        columns = [coded([found.value(clip, name) for clip in clips]) for name in found.factors]
        self.factors = tuple(
            Factor(name, values) for name, (values, _) in zip(found.factors, columns, strict=True)
        )
        codes = [numbers for _, numbers in columns]
        self.values = torch.stack(codes, 1).float() if codes else torch.zeros(len(clips), 0)
        self.group_kind = found.group
        self.named, self.groups = coded([found.value(clip, found.group) for clip in clips])
        if found.group == FILE:
            names = dict(zip(self.groups.tolist(), self.paths, strict=True))
            self.named = tuple(relative(names[number], self.root) for number in range(len(names)))
        _, self.contents = coded([clip.content for clip in clips])
        self.identities = tuple(f"{clip.content} {clip.start} {clip.length}" for clip in clips)
        """Identifier of each clip's content, independent of its location."""

    def __len__(self) -> int:
        return len(self.paths)

    def cropped(self) -> bool:
        # Even if all clips happen to be as long as a piece: batches have lengths in any case.
        return True

    def lengths(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return self.sample_counts[index.cpu()]

    def whole(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        at = index.cpu()
        lengths = self.sample_counts[at]
        return self.fill(at, torch.zeros_like(at), lengths, int(lengths.max()) if len(at) else 0, device)

    def piece(
        self,
        index: Int[Tensor, " all"],
        seed: int,
        step: int,
        device: torch.device | str = "cpu",
        rows: slice = slice(None),
    ) -> Batch:
        at, size = index.cpu(), self.signal.shape[0]
        lengths = self.sample_counts[at].clamp(max=size)
        start = self.beginnings(at, seed, step)
        return self.fill(at[rows], start[rows], lengths[rows], size, device)

    def excerpt(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        at, size = index.cpu(), self.signal.shape[0]
        lengths = self.sample_counts[at]
        return self.fill(at, (lengths - size).clamp(min=0) // 2, lengths.clamp(max=size), size, device)

    def fill(
        self,
        at: Int[Tensor, " clip"],
        begin: Int[Tensor, " clip"],
        lengths: Int[Tensor, " clip"],
        longest: int,
        device: torch.device | str,
    ) -> Batch:
        """Excerpts of `lengths` samples of these clips from `begin`, padded with zeros to `longest`."""
        # Not torch.zeros: waking its threads would take a hundred times as long as the reading.
        waves = np.zeros((len(at), longest), np.float32)
        stretches = zip(at.tolist(), begin.tolist(), lengths.tolist(), strict=True)
        for row, (clip, start, length) in enumerate(stretches):
            self.cache.read(int(self.starts[clip]) + start, float(self.scales[clip]), waves[row, :length])
        return Batch(
            at.to(device),
            torch.from_numpy(waves).to(device),
            self.values[at].to(device),
            lengths=lengths.to(device),
        )

    def factor_values(self, index: Int[Tensor, " clip"]) -> Float[Tensor, "clip factor"]:
        return self.values[index.cpu()]

    def group(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return self.groups[index.cpu()]

    def group_names(self) -> tuple[str, ...]:
        return self.named

    def recording(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return self.contents[index.cpu()]

    def path(self, clip: int) -> str:
        return str(self.paths[clip])

    def marks(self, index: Int[Tensor, " clip"]) -> list[tuple[Mark, ...]]:
        return [self.segments[clip] for clip in index.tolist()]

    def identity(self, index: Int[Tensor, " clip"]) -> list[str]:
        return [self.identities[clip] for clip in index.tolist()]

    def describe(self) -> str:
        bad = f"{len(self.quarantine.faults)} of {self.quarantine.files} files set aside"
        if self.quarantine.stretches:
            bad += f", and {len(self.quarantine.stretches)} of {self.quarantine.clips} clips"
        return f"{self.root}: layout {self.layout}, {len(self)} clips; {bad}"

    def keep(self, folder: Path) -> str:
        self.quarantine.write(folder)
        bad = self.quarantine.faults or self.quarantine.stretches
        return f"{folder}/quarantine.json has the reasons" if bad else ""


def usable(found: Survey) -> Recordings:
    """The usable clips of a survey as a world, even if too many files are bad for training."""
    world = Recordings.__new__(Recordings)
    world.take(found)
    return world


def signal_of(config: RecordingsConfig) -> Signal:
    """The form of a training piece."""
    return Signal("wave", (round(config.seconds * config.rate),), config.rate, channel=config.channel)


def marks_within(segments: Sequence[Mark], start: int, length: int, rate: int) -> tuple[Mark, ...]:
    """Segments that overlap a clip, cut to its extent, in seconds from its start."""
    first, last = start / rate, (start + length) / rate
    return tuple(
        (max(begin, first) - first, min(end, last) - first, label)
        for begin, end, label in segments
        if begin < last and end > first
    )


def coded(column: list[str]) -> tuple[tuple[str, ...], Int[Tensor, " clip"]]:
    """The distinct values of a column in sorted order, and the index of each clip's value."""
    values = tuple(sorted(set(column), key=order_of(column)))
    number = {value: at for at, value in enumerate(values)}
    return values, torch.tensor([number[value] for value in column], dtype=torch.int64)


def order_of(column: list[str]) -> Callable[[str], tuple[int, str]]:
    """Sort key: whole numbers by size, anything else alphabetically."""
    numeric = all(value.isdecimal() for value in column)
    return lambda value: (int(value) if numeric else 0, value)


RECORDINGS = WorldEntry(
    "your own recordings: a folder or a manifest (--path), with labels from folders, names or tables",
    "wave",
    RecordingsConfig,
    Recordings,
    seeded=False,
    signal=signal_of,
)
