"""Clips that are sequences of labelled segments in the order of a planted grammar (`grammar.py`): songs of
syllables, sentences of words."""

from abc import abstractmethod
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.worlds.contract import Batch, Factor, Mark, Signal, World
from sonarium.worlds.grammar import Grammar

SILENCE = "silence"
"""Value of the track of labels between segments."""


def signal_of(config: Any) -> Signal:
    """The form of a training piece, from its `seconds` and `rate`."""
    return Signal("wave", (round(config.seconds * config.rate),), config.rate)


class Sequences(World):
    """Sequences of labelled segments, with an in-memory cache of rendered sound."""

    def __init__(self, track: str, labels: tuple[str, ...], track_rate: float, memory: int) -> None:
        self.label_names = labels
        self.labels = Factor(track, (SILENCE, *labels))
        """The track of labels."""
        self.track_rate, self.memory = track_rate, memory
        self.made: OrderedDict[int, Float[np.ndarray, " time"]] = OrderedDict()

    @abstractmethod
    def grammar_of(self, clip: int) -> Grammar:
        """Grammar that generates the labels of a clip."""

    @abstractmethod
    def segments(self, clip: int) -> tuple[Mark, ...]:
        """Segments of a clip: onset and offset in seconds, and label."""

    @abstractmethod
    def samples_of(self, clip: int) -> int:
        """Length of a clip in samples."""

    @abstractmethod
    def render(self, clips: list[int]) -> list[Float[np.ndarray, " time"]]:
        """Render the sound of these clips."""

    def tracks_of(self, clip: int, times: Float[np.ndarray, " frame"]) -> Float[np.ndarray, "track frame"]:
        """Tracks of a clip at these times in seconds."""
        return self.labels_at(clip, times)[None]

    def labels_at(self, clip: int, times: Float[np.ndarray, " frame"]) -> Float[np.ndarray, " frame"]:
        """Index of the label at these times among the values of its track."""
        found = np.zeros(len(times))
        for onset, offset, label in self.segments(clip):
            found[(times >= onset) & (times < offset)] = self.labels.values.index(label)
        return found

    def lengths(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return torch.tensor([self.samples_of(clip) for clip in index.tolist()], dtype=torch.int64)

    def marks(self, index: Int[Tensor, " clip"]) -> list[tuple[Mark, ...]]:
        return [self.segments(clip) for clip in index.tolist()]

    def whole(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        clips = index.tolist()
        lengths = self.lengths(index)
        longest = int(lengths.max()) if clips else 0
        signal = torch.zeros(len(clips), longest)
        for row, wave in enumerate(self.sounds(clips)):
            signal[row, : len(wave)] = torch.from_numpy(wave)
        counts = self.frames_of(lengths)
        tracks = torch.zeros(len(clips), int(counts.max()) if clips else 0, len(self.tracks))
        for row, (clip, count) in enumerate(zip(clips, counts.tolist(), strict=True)):
            times = (np.arange(count) + 0.5) / self.track_rate
            tracks[row, :count] = torch.from_numpy(self.tracks_of(clip, times).T)
        return Batch(index.cpu(), signal, self.factor_values(index), lengths=lengths, tracks=tracks).to(device)

    def sounds(self, clips: list[int]) -> list[Float[np.ndarray, " time"]]:
        """Sound of these clips, from the cache if rendered before."""
        missing = [clip for clip in dict.fromkeys(clips) if clip not in self.made]
        new = dict(zip(missing, self.render(missing), strict=True))
        found = [new[clip] if clip in new else self.made[clip] for clip in clips]
        for clip in dict.fromkeys(clips):
            self.made[clip] = new[clip] if clip in new else self.made[clip]
            self.made.move_to_end(clip)
        held = sum(wave.nbytes for wave in self.made.values())
        while held > self.memory * 1_000_000 and self.made:
            held -= self.made.popitem(last=False)[1].nbytes
        return found


def described(grammar: Grammar) -> dict[str, Any]:
    """A grammar in JSON types."""
    return {
        "entropy_rate": grammar.entropy_rate(),
        "start": grammar.start,
        "states": {state: grammar.transitions(state) for state in grammar.reached},
    }
