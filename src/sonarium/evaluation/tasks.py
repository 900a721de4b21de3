"""What is asked of the codes of clips: which labels, of clips or of frames, learnt on whom and judged on whom.

A label is learnt on some groups (speakers, birds, folds) and asked of others that the probe has not met, nor the
learner, but for `--hear all`. The group itself cannot be asked of groups never met: it is learnt from some files
of everybody and asked of other files, which the learner may have heard, without any label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from sonarium.evaluation.config import JudgingConfig
from sonarium.evaluation.recovery import factors_of
from sonarium.measures.probes.parts import Parts, dealt
from sonarium.measures.probes.segments import Marks
from sonarium.models.contract import FrameEncoder
from sonarium.worlds.contract import Split, World
from sonarium.worlds.contract import UNKNOWN
from sonarium.worlds.recordings.world import Recordings

PEOPLE = ("speaker", "bird", "individual", "client_id")
"""Labels that say who is heard."""


@dataclass(frozen=True)
class Corpus:
    """Clips to be judged by, and what is known of them; all columns in the order of `index`."""

    index: Int[Tensor, " clip"]
    lengths: Int[np.ndarray, " clip"]
    """In samples."""
    parts: Parts
    """Train, validation and test groups of the run."""
    labels: dict[str, Shaped[np.ndarray, " clip"]]
    numbers: dict[str, Float[np.ndarray, " clip"]]
    """Causes that are no categories."""
    group: Shaped[np.ndarray, " clip"]
    file: Int[np.ndarray, " clip"]
    """Clips of one file share a channel."""
    marks: Sequence[Marks]
    kind: str
    """What a group is: speaker, fold, clip …"""
    rate: int

    @property
    def marked(self) -> bool:
        return any(self.marks)

    @property
    def nobody(self) -> Bool[np.ndarray, " clip"]:
        """Clips of which it is not known who is heard; they share a group so that none of them leaks, but are not
        of one speaker."""
        return unknown(self.labels[self.kind]) if self.kind in self.labels else np.zeros(len(self.group), bool)


@dataclass(frozen=True)
class Question:
    """One thing that a probe is to tell."""

    key: str
    """Level and label, such as clips/digit."""
    level: Literal["clips", "frames", "number"]
    """Which label of a clip, which of a frame, or which number of a clip."""
    label: Shaped[np.ndarray, " clip"] | None
    """None asks for what is marked at each frame."""
    groups: Shaped[np.ndarray, " clip"]
    parts: Parts
    """Of clips."""
    on: str
    """Who is judged, in words."""


def corpus(
    world: World, split: Split, encoder: FrameEncoder, config: JudgingConfig, generator: np.random.Generator
) -> Corpus:
    """The clips of a run that make a frame, at most so many of each part."""
    whole = (split.train, split.validation, split.test)
    if isinstance(world, Recordings):
        whole = tuple(side[encoder.code_lengths(world.lengths[side]) > 0] for side in whole)
    sides = [some(side, config.most_clips, generator) for side in whole]
    index = torch.cat(sides)
    bounds = np.cumsum([0, *map(len, sides)])
    parts = Parts(*(np.arange(first, last) for first, last in pairwise(bounds)))
    assert world.signal.rate is not None, world.signal
    if isinstance(world, Recordings):
        lengths, factors = world.lengths[index].numpy(), world.causes[index].numpy()
        group, file = np.array(world.group_names)[world.groups[index].numpy()], world.contents[index].numpy()
        marks, kind = world.segments(index), world.group_name
    else:
        lengths, factors = np.full(len(index), world.signal.shape[0]), factors_of(world, index)
        group = file = world.group(index).numpy()
        marks, kind = [[] for _ in index], "clip"
    labels = {
        factor.name: np.array(factor.values)[factors[:, column].astype(int)]
        for column, factor in enumerate(world.factors)
        if factor.discrete
    }
    numbers = {
        factor.name: factors[:, column].astype(float)
        for column, factor in enumerate(world.factors)
        if not factor.discrete
    }
    return Corpus(index, lengths, parts, labels, numbers, group, file, marks, kind, world.signal.rate)


def some(side: Int[Tensor, " clip"], most: int, generator: np.random.Generator) -> Int[Tensor, " taken"]:
    if len(side) <= most:
        return side
    return side[torch.from_numpy(np.sort(generator.permutation(len(side))[:most]))]


def questions(
    known: Corpus, config: JudgingConfig, generator: np.random.Generator
) -> tuple[list[Question], list[str]]:
    """What can be asked, and why the rest cannot."""
    across = with_validation(known, generator)
    asked, notes = [], []
    levels: tuple[Literal["clips", "frames"], ...] = ("clips", "frames") if config.frames else ("clips",)
    for name, label in known.labels.items():
        if blank := int(unknown(label).sum()):
            notes.append(f"{blank} of {len(label)} clips have no {name}, and are not asked for it")
        if name == known.kind:
            if len(np.unique(known.file)) < 3:
                continue
            groups, parts, on = known.file, dealt(known.file, generator), f"other files of the same {known.kind}s"
        else:
            (groups, parts), on = across, f"other {known.kind}s"
        parts = Parts(*(side[~unknown(label)[side]] for _, side in parts.items()))
        if flaw := unanswerable(label, parts):
            notes.append(f"{name} is not asked: {flaw}")
            continue
        asked += [Question(f"{level}/{name}", level, label, groups, parts, on) for level in levels]
    for name, number in known.numbers.items():
        groups, parts = across
        if still := [part for part, rows in parts.items() if not len(rows) or np.ptp(number[rows]) == 0]:
            notes.append(f"{name} is not asked: it does not vary in the {' and '.join(still)} part")
            continue
        asked.append(Question(f"number/{name}", "number", number, groups, parts, f"other {known.kind}s"))
    if known.marked:
        groups, parts = across
        marked = np.array([bool(marks) for marks in known.marks])
        lacking = [name for name, rows in parts.items() if not marked[rows].any()]
        if lacking:
            notes.append(f"marked segments are not asked: there are none in the {' and '.join(lacking)} part")
        else:
            asked.append(Question("frames/segment", "frames", None, groups, parts, f"other {known.kind}s"))
    return asked, notes


def unknown(label: Shaped[np.ndarray, " clip"]) -> Bool[np.ndarray, " clip"]:
    """Where nothing is known, which is no label that clips could have in common."""
    return label == UNKNOWN


def with_validation(known: Corpus, generator: np.random.Generator) -> tuple[np.ndarray, Parts]:
    """Groups and parts to fit, to choose and to judge on; groups to choose on are taken from those to fit on."""
    train, validation, test = known.parts.train, known.parts.validation, known.parts.test
    groups = known.group
    if not len(validation):
        if len(np.unique(groups[train])) < 2:
            # One group alone to learn from: what is chosen on are other files of it.
            groups = np.array([f"{group} {file}" for group, file in zip(groups, known.file, strict=True)])
        names = generator.permutation(np.unique(groups[train]))
        chosen = np.isin(groups[train], names[: max(1, round(0.2 * len(names)))])
        train, validation = train[~chosen], train[chosen]
    return groups, Parts(train, validation, test)


def unanswerable(label: Shaped[np.ndarray, " clip"], parts: Parts) -> str:
    """Why a label cannot be asked; empty if it can."""
    learnt, asked = np.unique(label[parts.train]), label[parts.test]
    for name, side in parts.items():
        if not len(side):
            return f"the {name} part is empty"
    if len(learnt) < 2 or len(np.unique(asked)) < 2:
        return "it has only one value in a part"
    if np.isin(asked, learnt).mean() < 0.5:
        return "most of its values in the test part are in no other"
    return ""
