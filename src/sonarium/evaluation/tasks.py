"""Tasks of probes: labels and numbers of clips, of marked segments or of frames, and the splits they are predicted
on.

A label is learnt on some groups (speakers, birds, folds) and predicted on others, unseen by the probe, and by the
learner unless it trained on all splits. The group itself cannot be predicted on unseen groups: it is learnt on
some recordings of every group and predicted on others, which the learner may have trained on, without labels.
Probes are fitted on training and validation clips together: their settings are chosen by cross-validation over the
groups of these, so that no single random split decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.factors import factors_of
from sonarium.measures.probes.segments import Marks
from sonarium.measures.splits import Split, deal
from sonarium.models.contract import FrameEncoder
from sonarium.worlds.contract import UNKNOWN, Factor, World

INDIVIDUALS = ("speaker", "bird", "individual", "client_id")
"""Labels that identify an individual."""
Rows = Split[np.ndarray]


@dataclass(frozen=True)
class Corpus:
    """Clips of an evaluation with their labels and factors; all columns in the order of `index`."""

    index: Int[Tensor, " clip"]
    lengths: Int[np.ndarray, " clip"]
    """In samples, or in frames of codes."""
    split: Rows
    """Training, validation and test rows, as in the run."""
    labels: dict[str, Shaped[np.ndarray, " clip"]]
    numbers: dict[str, Float[np.ndarray, " clip"]]
    """Continuous factors."""
    group: Shaped[np.ndarray, " clip"]
    recording: Int[np.ndarray, " clip"]
    """Clips of one recording share a channel."""
    marks: Sequence[Marks]
    tracks: tuple[Factor, ...]
    """Frame-wise factors."""
    kind: str
    """Kind of group: speaker, fold, clip …"""
    rate: float
    """Samples, or frames of codes, per second."""

    @property
    def marked(self) -> bool:
        return any(self.marks)

    @property
    def nobody(self) -> Bool[np.ndarray, " clip"]:
        """Mask of the clips of unknown individuals; they share a group so that none of them leaks, but are not of
        one individual."""
        return unknown(self.labels[self.kind]) if self.kind in self.labels else np.zeros(len(self.group), bool)


@dataclass(frozen=True)
class Task:
    """What one probe predicts."""

    key: str
    """Level and name, such as clips/digit."""
    level: Literal["clips", "segments", "frames"]
    """What the rows are."""
    target: Shaped[np.ndarray, " clip"] | int | None
    """A label or number of each clip; the position of a track; or None, the label of marked segments."""
    groups: Shaped[np.ndarray, " clip"]
    split: Rows
    """Split of the clips; without a validation part."""
    on: str
    """The test clips in words."""
    continuous: bool = False
    """Whether a number is predicted, by linear regression."""

    @property
    def label(self) -> str:
        """What is predicted, without the level."""
        return self.key.partition("/")[2]


def corpus(
    world: World,
    split: Split[Tensor],
    encoder: FrameEncoder,
    config: EvaluationConfig,
    generator: np.random.Generator,
) -> Corpus:
    """Clips of a run with at least one frame, subsampled in each split."""
    whole = [side[encoder.code_lengths(world.lengths(side)) > 0] for _, side in split.items()]
    sides = [subsample(side, config.max_clips, generator) for side in whole]
    index = torch.cat(sides)
    bounds = np.cumsum([0, *map(len, sides)])
    rows = Split(*(np.arange(first, last) for first, last in pairwise(bounds)))
    rate = world.signal.steps_per_second
    assert rate is not None, world.signal
    factors, group = factors_of(world, index), world.group(index).numpy()
    by_name = {factor.name: (factor, factors[:, column]) for column, factor in enumerate(world.factors)}
    return Corpus(
        index=index,
        lengths=world.lengths(index).numpy(),
        split=rows,
        labels={
            name: np.array(factor.values)[column.astype(int)]
            for name, (factor, column) in by_name.items()
            if factor.discrete
        },
        numbers={name: column.astype(float) for name, (factor, column) in by_name.items() if not factor.discrete},
        # Where each clip is its own group, its number says as much as its name.
        group=group if world.group_kind == "clip" else np.array(world.group_names())[group],
        recording=world.recording(index).numpy(),
        marks=world.marks(index),
        tracks=world.tracks,
        kind=world.group_kind,
        rate=rate,
    )


def subsample(side: Int[Tensor, " clip"], most: int, generator: np.random.Generator) -> Int[Tensor, " taken"]:
    if len(side) <= most:
        return side
    return side[torch.from_numpy(np.sort(generator.permutation(len(side))[:most]))]


def tasks(known: Corpus, config: EvaluationConfig, generator: np.random.Generator) -> tuple[list[Task], list[str]]:
    """Tasks that can be scored, and notes on why the rest cannot."""
    groups, split = to_fit(known)
    others = f"other {known.kind}s"
    made, notes = [], []
    for name, label in known.labels.items():
        own, said = label_tasks(known, name, label, (groups, split), config, generator)
        made += own
        notes += said
    for name, number in known.numbers.items():
        if still := [part for part, rows in fitted_and_test(split) if not len(rows) or np.ptp(number[rows]) == 0]:
            notes.append(f"{name} is not predicted: it does not vary in the {' and '.join(still)} split")
            continue
        if flaw := single(groups, split):
            notes.append(f"{name} is not predicted: {flaw}")
            continue
        made.append(Task(f"number/{name}", "clips", number, groups, split, others, continuous=True))
    if known.marked:
        marked = np.array([bool(marks) for marks in known.marks])
        if lacking := [name for name, rows in fitted_and_test(split) if not marked[rows].any()]:
            notes.append(f"marked segments are not predicted: there are none in the {' and '.join(lacking)} split")
        elif flaw := single(groups, split, marked):
            notes.append(f"marked segments are not predicted: {flaw}")
        else:
            made.append(Task("frames/segment", "frames", None, groups, split, others))
            if config.few_labels:
                made.append(Task("segments/segment", "segments", None, groups, split, others))
    for place, track in enumerate(known.tracks):
        key = f"{'frames' if track.discrete else 'number'}/{track.name}"
        if any(task.key == key for task in made):
            notes.append(f"the track {track.name} is not predicted: a factor of clips has the same name")
        elif empty := [name for name, rows in fitted_and_test(split) if not len(rows)]:
            notes.append(f"the track {track.name} is not predicted: the {' and '.join(empty)} split is empty")
        elif flaw := single(groups, split):
            notes.append(f"the track {track.name} is not predicted: {flaw}")
        else:
            made.append(Task(key, "frames", place, groups, split, others, continuous=not track.discrete))
    return made, notes


def label_tasks(
    known: Corpus,
    name: str,
    label: Shaped[np.ndarray, " clip"],
    across: tuple[Shaped[np.ndarray, " clip"], Rows],
    config: EvaluationConfig,
    generator: np.random.Generator,
) -> tuple[list[Task], list[str]]:
    """Tasks of one label of clips, and notes."""
    notes = []
    if blank := int(unknown(label).sum()):
        notes.append(f"{blank} of {len(label)} clips have no {name}, and are left out where it is predicted")
    if name == known.kind:
        # Of an individual with one recording, none is left to predict it on.
        several = recorded_again(label, known.recording)
        again = np.flatnonzero(np.isin(label, several))
        if once := len(np.setdiff1d(label[~unknown(label)], several)):
            of = f"{once} of {len(np.unique(label[~unknown(label)]))} {name}s"
            notes.append(
                f"{of} {'has' if once == 1 else 'have'} one file only: left out where the {name} is predicted"
            )
        if len(np.unique(known.recording[again])) < 3:
            return [], notes
        dealt = deal(known.recording[again], generator, validation=0.0)
        groups, split = known.recording, Split(*(again[side] for _, side in dealt.items()))
        on = f"other files of the same {known.kind}s"
    else:
        (groups, split), on = across, f"other {known.kind}s"
    split = Split(*(side[~unknown(label)[side]] for _, side in split.items()))
    if flaw := unpredictable(label, split) or single(groups, split):
        return [], [*notes, f"{name} is not predicted: {flaw}"]
    levels: tuple[Literal["clips", "frames"], ...] = ("clips", "frames") if config.frames else ("clips",)
    return [Task(f"{level}/{name}", level, label, groups, split, on) for level in levels], notes


def recorded_again(
    label: Shaped[np.ndarray, " clip"], recording: Int[np.ndarray, " clip"]
) -> Shaped[np.ndarray, " several"]:
    """Labels with several recordings."""
    pairs = np.unique(np.stack([np.unique(label, return_inverse=True)[1], recording]), axis=1)
    found, count = np.unique(pairs[0], return_counts=True)
    return np.unique(label)[found[count > 1]]


def unknown(label: Shaped[np.ndarray, " clip"]) -> Bool[np.ndarray, " clip"]:
    """Mask of missing labels, which are not a class."""
    return label == UNKNOWN


def to_fit(known: Corpus) -> tuple[np.ndarray, Rows]:
    """Groups, and a split that fits probes on all but the test clips."""
    fitted = np.concatenate([known.split.train, known.split.validation])
    groups = known.group
    if len(np.unique(groups[fitted])) < 2:
        # With a single group, settings are chosen across its recordings.
        groups = np.array([f"{one} {file}" for one, file in zip(groups, known.recording, strict=True)])
    return groups, Split(fitted, fitted[:0], known.split.test)


def fitted_and_test(split: Rows) -> tuple[tuple[str, np.ndarray], ...]:
    return ("train", split.train), ("test", split.test)


def single(
    groups: Shaped[np.ndarray, " clip"], split: Rows, asked: Bool[np.ndarray, " clip"] | None = None
) -> str:
    """Why the settings of a probe cannot be chosen; empty if they can."""
    rows = split.train if asked is None else split.train[asked[split.train]]
    if len(np.unique(groups[rows])) < 2:
        return "the train split has one recording alone, and a probe needs another to be chosen on"
    return ""


def unpredictable(label: Shaped[np.ndarray, " clip"], split: Rows) -> str:
    """Why a label cannot be predicted; empty if it can."""
    learnt, scored = np.unique(label[split.train]), label[split.test]
    for name, side in fitted_and_test(split):
        if not len(side):
            return f"the {name} split is empty"
    if len(learnt) < 2 or len(np.unique(scored)) < 2:
        return "it has only one value in a split"
    if np.isin(scored, learnt).mean() < 0.5:
        return "most of its values in the test split are in no other"
    return ""
