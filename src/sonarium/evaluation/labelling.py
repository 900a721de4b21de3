"""Segmentation and labelling of syllables from few labelled songs: a linear probe of frames, smoothed over time by
a hidden Markov model.

Each label has a left-to-right state for each third of its syllables, and silence has one state. The probe is
linear discriminant analysis of frames in context (Fisher, 1936) with shrinkage; the states' Gaussians share its
covariance; transitions are counted in the labelled songs. The Viterbi path gives onsets, offsets and labels, the
posteriors their certainty.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int

from sonarium.config import Range, check_ranges
from sonarium.models.hmm import HMM
from sonarium.worlds.contract import Mark

LEAST = 1e-9
"""Lower bound of the variance of a direction, as a fraction of the mean variance."""


@dataclass(frozen=True)
class LabellingConfig:
    """Labels from few labelled songs."""

    context: Annotated[float, Range(0, 1)] = 0.048
    """Context of the probe in seconds before and after a frame."""
    context_step: Annotated[float, Range(0, 1, above=True)] = 0.012
    """Spacing in seconds of the frames of the context."""
    parts: Annotated[int, Range(1, 20)] = 3
    """Number of left-to-right HMM states per label."""
    shrinkage: Annotated[float, Range(0, 1)] = 0.1
    """Shrinkage of the covariance within states toward a multiple of the identity."""
    evidence: Annotated[float, Range(0, 1, above=True)] = 0.1
    """Exponent of the likelihood of a frame, below 1 because neighbouring frames are correlated."""
    unseen: Annotated[float, Range(0, above=True)] = 0.2
    """Pseudo-count of transitions between each label and silence."""
    shortest_syllable: Annotated[float, Range(0)] = 0.01
    """Shortest duration of a syllable in seconds."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Labelled:
    """Syllables of a song, and the mean posterior of each one's label."""

    marks: list[Mark]
    certainty: list[float]


class SyllableProbe:
    """Frame probe and hidden Markov model, fitted to songs in which every syllable is labelled."""

    def __init__(self, rate: float, config: LabellingConfig = LabellingConfig(), first: float = 0.0):
        """`first` is the time of the middle of frame 0."""
        self.rate, self.config, self.first = rate, config, first

    def fit(self, songs: Sequence[np.ndarray], marks: Sequence[Sequence[Mark]]) -> "SyllableProbe":
        """Fit to the frames (frame, feature) of each song and all its syllables."""
        self.labels = sorted({label for own in marks for *_, label in own})
        if not self.labels:
            raise ValueError("no labelled syllable: give at least one song with its syllables")
        states = [self.states_of(len(song), own) for song, own in zip(songs, marks, strict=True)]
        seen = np.concatenate([self.in_context(song) for song in songs])
        self.present, of_frame = np.unique(np.concatenate(states), return_inverse=True)
        self.mean = seen.mean(0)
        self.directions = discriminant(seen - self.mean, of_frame, self.config.shrinkage)
        points = (seen - self.mean) @ self.directions
        centres = np.stack([points[of_frame == state].mean(0) for state in range(len(self.present))])
        weight = self.config.evidence**0.5
        initial, transitions = self.chain(states)
        self.hmm = HMM.from_parameters(
            initial,
            transitions,
            means=centres * weight,
            covariances=covariance(points - centres[of_frame]),
            covariance="tied",
        )
        return self

    def label(self, song: Float[np.ndarray, "frame feature"]) -> Labelled:
        """Onset, offset and label of every syllable of a song."""
        return self.label_each([song])[0]

    def label_each(self, songs: Sequence[Float[np.ndarray, "_frame feature"]]) -> list[Labelled]:
        """The same for a batch of songs."""
        lengths = [len(song) for song in songs if len(song)]
        if not lengths:
            return [Labelled([], [])] * len(songs)
        seen = np.concatenate([self.in_context(song) for song in songs if len(song)])
        points = (seen - self.mean) @ self.directions * self.config.evidence**0.5
        paths, posteriors = (
            iter(np.split(rows, np.cumsum(lengths)[:-1]))
            for rows in (self.present[self.hmm.predict(points, lengths)], self.hmm.predict_proba(points, lengths))
        )
        return [self.read(next(paths), next(posteriors)) if len(song) else Labelled([], []) for song in songs]

    def read(self, path: Int[np.ndarray, " frame"], posterior: Float[np.ndarray, "frame state"]) -> Labelled:
        """Decode the states of a song to syllables."""
        marks, certainty = [], []
        for start, stop in self.runs(path):
            label = (path[start] - 1) // self.config.parts
            own = (self.present > 0) & ((self.present - 1) // self.config.parts == label)
            if (stop - start) / self.rate >= self.config.shortest_syllable:
                onset, offset = (round(self.first + frame / self.rate, 6) for frame in (start, stop))
                marks.append((onset, offset, self.labels[label]))
                certainty.append(float(posterior[start:stop, own].sum(1).mean()))
        return Labelled(marks, certainty)

    def in_context(self, song: Float[np.ndarray, "frame feature"]) -> Float[np.ndarray, "frame seen"]:
        """Each frame concatenated with its context."""
        step = max(round(self.config.context_step * self.rate), 1)
        reach = int(self.config.context * self.rate / step + 1e-6) * step
        around = np.arange(len(song))[:, None] + np.arange(-reach, reach + 1, step)
        return song[around.clip(0, len(song) - 1)].reshape(len(song), -1).astype(np.float64)

    def states_of(self, frames: int, marks: Sequence[Mark]) -> Int[np.ndarray, " frame"]:
        """State of each frame: 0 in silence, else 1 + label × parts + part."""
        parts, found = self.config.parts, np.zeros(frames, np.int64)
        for start, stop, label in marks:
            edges = (max(math.ceil(round((end - self.first) * self.rate, 6)), 0) for end in (start, stop))
            first, last = (min(edge, frames) for edge in edges)
            first = min(first, frames - 1)
            last = max(last, first + 1)
            part = np.arange(last - first) * parts // (last - first)
            found[first:last] = 1 + self.labels.index(label) * parts + part
        return found

    def chain(self, states: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Initial and transition probabilities."""
        count, parts = len(self.present), self.config.parts
        initial, moves = np.full(count, self.config.unseen), np.zeros((count, count))
        for path in states:
            own = np.searchsorted(self.present, path)
            initial[own[0]] += 1
            np.add.at(moves, (own[:-1], own[1:]), 1)
        silent = self.present == 0
        first, last = (~silent & ((self.present - 1) % parts == part) for part in (0, parts - 1))
        moves[np.ix_(silent, first)] += self.config.unseen
        moves[np.ix_(last, silent)] += self.config.unseen
        stuck = moves.sum(1) == 0
        moves[stuck, stuck] = 1
        return initial / initial.sum(), moves / moves.sum(1, keepdims=True)

    def runs(self, path: Int[np.ndarray, " frame"]) -> list[tuple[int, int]]:
        """First frame of each syllable and the frame after its last; a syllable passes through its label's parts
        once, in order."""
        label = np.where(path > 0, (path - 1) // self.config.parts, -1)
        part = np.where(path > 0, (path - 1) % self.config.parts, 0)
        fresh = (np.diff(label) != 0) | (np.diff(part) < 0)
        edges = [0, *(np.flatnonzero(fresh) + 1).tolist(), len(path)]
        return [(one, other) for one, other in pairwise(edges) if label[one] >= 0]


def discriminant(
    centred: Float[np.ndarray, "frame seen"], state: Int[np.ndarray, " frame"], shrinkage: float
) -> Float[np.ndarray, "seen direction"]:
    """Discriminant directions of the states, in which the within-state covariance is white."""
    count = int(state.max()) + 1
    means = np.stack([centred[state == one].mean(0) for one in range(count)])
    within = covariance(centred - means[state])
    size = len(within)
    sphere = max(np.trace(within) / size, LEAST)
    values, vectors = np.linalg.eigh((1 - shrinkage) * within + shrinkage * sphere * np.eye(size))
    white = vectors / np.sqrt(np.maximum(values, LEAST * sphere))
    _, _, axes = np.linalg.svd((means - means.mean(0)) @ white, full_matrices=False)
    return white @ axes[: max(count - 1, 1)].T


def covariance(rows: Float[np.ndarray, "frame seen"]) -> Float[np.ndarray, "seen seen"]:
    return rows.T @ rows / len(rows) + LEAST * np.eye(rows.shape[1])
