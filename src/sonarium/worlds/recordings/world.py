"""Recordings as a world: random pieces of them to learn from, whole clips to be judged on.

Where a piece begins follows from the seed, the step and the clip alone (by the counter of `noise.py`; and from
how often the clip came before in the same batch), so that any number of workers draws the same pieces, in any
order. All sound comes from the cache.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sonarium.worlds.contract import Batch, Factor, Signal, World
from sonarium.worlds.counter import FIRST, STEP, mix, signed, stream
from sonarium.worlds.recordings.listing import Segment, relative
from sonarium.worlds.recordings.survey import FILE, Progress, RecordingsConfig, Survey, survey

__all__ = ["Recordings", "RecordingsConfig"]

NOT_NEGATIVE = (1 << 63) - 1


class Recordings(World):
    """Clips read from disk, with their labels; which pieces are drawn depends on the seed of the training."""

    name = "recordings"
    pieces = True
    whole = True
    """Whether a batch has clips as long as they are, or the piece in the middle of each."""

    def __init__(self, config: RecordingsConfig, seed: int = 0, progress: Progress = lambda *_: None) -> None:
        found = survey(config, progress)
        found.quarantine.enforce(config.bad_share, found.root)
        self.take(found)

    @classmethod
    def of(cls, found: Survey) -> "Recordings":
        """What is good of a survey, however little that is."""
        world = cls.__new__(cls)
        world.take(found)
        return world

    def take(self, found: Survey) -> None:
        """Keep of a survey what is needed to hand out clips."""
        config, clips, entries = found.config, found.clips, found.cache.entries
        self.config, self.root = config, found.root
        self.cache, self.quarantine, self.layout = found.cache, found.quarantine, found.listing.layout
        self.rate = config.rate
        self.signal = piece(config)
        self.paths: tuple[Path, ...] = tuple(clip.row.path for clip in clips)
        self.starts = np.array([entries[clip.content].offset + clip.start for clip in clips], np.int64)
        self.lengths = torch.tensor([clip.length for clip in clips], dtype=torch.int64)
        self.scales = np.array([entries[clip.content].scale for clip in clips], np.float32)
        self.marks = tuple(marks_within(clip.row.segments, clip.start, clip.length, config.rate) for clip in clips)
        columns = [coded([found.value(clip, name) for clip in clips]) for name in found.factors]
        self.factors = tuple(
            Factor(name, values) for name, (values, _) in zip(found.factors, columns, strict=True)
        )
        codes = [numbers for _, numbers in columns]
        self.causes = torch.stack(codes, 1).float() if codes else torch.zeros(len(clips), 0)
        self.group_name = found.group
        self.group_names, self.groups = coded([found.value(clip, found.group) for clip in clips])
        if found.group == FILE:
            names = dict(zip(self.groups.tolist(), self.paths, strict=True))
            self.group_names = tuple(relative(names[number], self.root) for number in range(len(names)))
        _, self.contents = coded([clip.content for clip in clips])
        self.identities = tuple(f"{clip.content} {clip.start} {clip.length}" for clip in clips)
        """What each clip sounds like, wherever it lies."""

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        """Whole clips, with zeros behind the shorter ones."""
        at = index.cpu()
        lengths = self.lengths[at]
        if not self.whole:
            middle = (lengths - self.signal.shape[0]).clamp(min=0) // 2
            return self.fill(at, middle, lengths.clamp(max=self.signal.shape[0]), self.signal.shape[0], device)
        return self.fill(at, torch.zeros_like(at), lengths, int(lengths.max()) if len(at) else 0, device)

    def excerpts(self) -> "Recordings":
        """The same clips, but of each only the piece in its middle, for what takes clips of one length."""
        return self.handed_out(whole=False)

    def entire(self) -> "Recordings":
        """The same clips, each as long as it is."""
        return self.handed_out(whole=True)

    def handed_out(self, whole: bool) -> "Recordings":
        other = copy.copy(self)
        other.whole = whole
        return other

    def portions(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " portion"]:
        """Each clip as often as a piece goes into it, so that long recordings are heard more often than short."""
        times = torch.div(self.lengths[index.cpu()], self.signal.shape[0], rounding_mode="floor").clamp(min=1)
        return index.repeat_interleave(times)

    def draw(self, index: Int[Tensor, " clip"], seed: int, step: int, device: torch.device | str = "cpu") -> Batch:
        """A piece of each clip from a random place; of a shorter clip all there is, with zeros behind it."""
        at, piece = index.cpu(), self.signal.shape[0]
        lengths = self.lengths[at].clamp(max=piece)
        word = mix(stream(seed, at) + signed(step * STEP % (1 << 64)) + times_before(at) * signed(FIRST))
        places = self.lengths[at] - lengths + 1
        return self.fill(at, (word & NOT_NEGATIVE) % places, lengths, piece, device)

    def fill(
        self,
        at: Int[Tensor, " clip"],
        begin: Int[Tensor, " clip"],
        lengths: Int[Tensor, " clip"],
        longest: int,
        device: torch.device | str,
    ) -> Batch:
        """These stretches of these clips, all as long as the longest."""
        # Threads that torch wakes for zeros would cost a hundred times the reading.
        waves = np.zeros((len(at), longest), np.float32)
        stretches = zip(at.tolist(), begin.tolist(), lengths.tolist(), strict=True)
        for row, (clip, start, length) in enumerate(stretches):
            self.cache.read(int(self.starts[clip]) + start, float(self.scales[clip]), waves[row, :length])
        return Batch(
            at.to(device),
            torch.from_numpy(waves).to(device),
            self.causes[at].to(device),
            lengths=lengths.to(device),
        )

    def group(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return self.groups[index.cpu()]

    def duration(self, index: Int[Tensor, " clip"]) -> Tensor:
        """Seconds of each clip."""
        return self.lengths[index.cpu()].double() / self.rate

    def segments(self, index: Int[Tensor, " clip"]) -> list[list[Segment]]:
        """What sounds when in each clip, in seconds from its beginning; empty where nothing is marked."""
        return [list(self.marks[clip]) for clip in index.tolist()]


def piece(config: RecordingsConfig) -> Signal:
    """The form of what is learnt from."""
    return Signal("wave", (round(config.seconds * config.rate),), config.rate)


def times_before(clips: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
    """How often each clip came before among these."""
    same = clips[:, None] == clips
    return same.tril(-1).sum(1)


def marks_within(segments: Sequence[Segment], start: int, length: int, rate: int) -> tuple[Segment, ...]:
    """The parts of segments that lie within a clip, in the clip's own time."""
    first, last = start / rate, (start + length) / rate
    return tuple(
        (max(begin, first) - first, min(end, last) - first, label)
        for begin, end, label in segments
        if begin < last and end > first
    )


def coded(column: list[str]) -> tuple[tuple[str, ...], Int[Tensor, " clip"]]:
    """The values that a column takes, in order, and which of them each clip has."""
    values = tuple(sorted(set(column), key=order_of(column)))
    number = {value: at for at, value in enumerate(values)}
    return values, torch.tensor([number[value] for value in column], dtype=torch.int64)


def order_of(column: list[str]) -> Callable[[str], tuple[int, str]]:
    """Whole numbers by size, anything else by the alphabet."""
    numeric = all(value.isdecimal() for value in column)
    return lambda value: (int(value) if numeric else 0, value)
