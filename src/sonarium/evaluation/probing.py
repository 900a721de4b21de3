"""How well codes predict what is known of clips, beside controls: log-mel frames and cepstra with their slopes (or
the input, where codes are learnt from codes), the untrained network, and chance.

Probes, regression, verification, retrieval, ABX and few-label curves are joined here; tasks.py says what is
predicted on which clips.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int, Shaped
from threadpoolctl import threadpool_limits
from torch import Tensor

from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.extraction import Extracted, Extractor, extract, extract_segments, extractors
from sonarium.evaluation.tasks import INDIVIDUALS, Corpus, Rows, Task, corpus, tasks, unknown
from sonarium.measures.compare.abx import ABXConfig, abx
from sonarium.measures.compare.retrieval import retrieval
from sonarium.measures.compare.verification import clip_trials, equal_error_rate, errors, least_cost, thinned
from sonarium.measures.probes.fewlabels import few_labels
from sonarium.measures.probes.probe import ProbeConfig, probe
from sonarium.measures.probes.regression import regress
from sonarium.measures.probes.segments import Marks
from sonarium.measures.splits import Split
from sonarium.models.contract import FrameEncoder
from sonarium.worlds.contract import Progress, World

COUNTS = (1, 2, 5, 10)
"""Labelled clips per class in a few-label curve."""
ITEMS = 5
"""Segments of a category and a group that ABX takes."""
REQUIRED: dict[Literal["within", "across"], str] = {
    "within": "no group of the test split has two labels, and one of them twice",
    "across": "no two groups of the test split share a label",
}
"""Why ABX cannot be computed."""
Scores = dict[str, float]


@dataclass(frozen=True)
class Findings:
    """The scores of one extractor."""

    scores: Scores = field(default_factory=dict)
    chance: Scores = field(default_factory=dict)
    """The same for every extractor."""
    details: dict[str, Any] = field(default_factory=dict)
    """How each score of a probe came about."""
    curves: dict[str, Any] = field(default_factory=dict)
    """Curves by kind and label: few-labels/LABEL and errors/LABEL."""
    notes: list[str] = field(default_factory=list)
    """What could not be scored, and why."""


def probing(
    learner: FrameEncoder,
    untrained: FrameEncoder,
    world: World,
    split: Split[Tensor],
    config: EvaluationConfig,
    seed: int,
    device: str,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """`scores` of the learner, those of each control, `chance`; `details` of each score, `curves`, and `notes`."""
    known = corpus(world, split, learner, config, np.random.default_rng([seed, 0xA5C]))
    if config.remove_mean and (learner.code_lengths(torch.from_numpy(known.lengths)) < 2).all():
        raise ValueError(
            "--remove-mean: every clip has one code alone, and less its mean it is nothing; leave it out, or "
            "train with shorter --seconds"
        )
    asked, notes = tasks(known, config, np.random.default_rng([seed, 0xA5D]))
    wanted, remarks = comparisons(known, config)
    gap = gap_of(known, asked, config)
    found: dict[str, Findings] = {}
    every = extractors(learner, untrained, world.signal, device)
    for done, (name, extractor) in enumerate(every.items()):
        progress("evaluating", done, len(every))
        codes = extract(extractor, world, known.index, known.lengths, known.marks, config, gap)
        own = found[name] = Findings()
        # The products of a probe are small: several threads wait for each other longer than they work.
        with threadpool_limits(1, "blas"):
            for task in asked:
                fit(task, known, codes, config, seed, own)
        for compare in wanted:
            compare(extractor, codes, world, seed, own)
    progress("evaluating", len(every), len(every))
    learnt = found["scores"]
    curves = {
        key: {name: one.curves[key] for name, one in found.items() if key in one.curves} for key in learnt.curves
    }
    scores = {name: one.scores for name, one in found.items()} | {"chance": learnt.chance}
    return {**scores, "details": learnt.details, "curves": curves, "notes": notes + remarks + learnt.notes}


def gap_of(known: Corpus, asked: list[Task], config: EvaluationConfig) -> float | None:
    """Seconds from one frame that probes are given to the next; None if no task is of frames."""
    if not any(task.level == "frames" for task in asked):
        return None
    seconds = known.lengths.sum() / known.rate
    if not config.frames and not known.tracks:
        seconds = sum(stop - start for marks in known.marks for start, stop, _ in marks)
    return float(seconds / config.max_frames)


def fit(task: Task, known: Corpus, codes: Extracted, config: EvaluationConfig, seed: int, own: Findings) -> None:
    """Fit a probe, choose its hyperparameters and score it, each on clips of its own."""
    values, targets, groups, split = rows_for(task, known, codes)
    if isinstance(task.target, int):
        still = [part for part, rows in split.items() if len(np.unique(targets[rows])) < 2]
        if still:
            own.notes.append(f"{task.key} is not scored: it does not vary in the {' and '.join(still)} split")
            return
    if task.continuous:
        line = regress(values, targets, groups, split)
        own.scores[task.key], own.chance[task.key] = line.r2, 0.0
        setting = {"strength": line.strength}
        own.details[task.key] = {"asked_of": task.on, "rows": list(line.rows), "setting": setting}
        return
    how = ProbeConfig(kind="logistic" if config.probe == "linear" else "mlp", refit=True)
    score = probe(values, targets, groups, split, np.random.default_rng([seed, 0xA5E]), how)
    own.scores[task.key], own.chance[task.key] = score.accuracy, score.chance
    own.details[task.key] = {
        "asked_of": task.on,
        "balanced": score.balanced,
        "balanced_chance": score.balanced_chance,
        "rows": list(score.rows),
        "setting": asdict(score.setting),
        "never_learnt": [str(label) for label in score.unseen],
    }
    if config.few_labels and task.level == "clips":
        drawn = np.random.default_rng([seed, 0xA5F])
        curve = few_labels(values, targets, groups, split, drawn, COUNTS, config=how)
        label = task.key.partition("/")[2]
        own.curves[f"few-labels/{label}"] = {**asdict(curve), "scores": curve.scores.tolist()}
        for count, mean in zip(curve.counts, curve.intervals, strict=True):
            key = f"few-{count}/{label}"
            own.scores[key], own.chance[key] = mean.mean, curve.chance


def rows_for(task: Task, known: Corpus, codes: Extracted) -> tuple[np.ndarray, np.ndarray, np.ndarray, Rows]:
    """Codes, targets, groups and split of the rows of a task."""
    if task.level == "clips":
        assert isinstance(task.target, np.ndarray), task
        return codes.pooled, task.target, task.groups, task.split
    if task.target is None:
        targets = codes.mark
    elif isinstance(task.target, int):
        track, column = known.tracks[task.target], codes.tracks[:, task.target]
        targets = np.array(track.values)[column.astype(int)] if track.discrete else column
    else:
        targets = task.target[codes.clip]
    rows = np.flatnonzero(codes.mark != "") if task.target is None else np.arange(len(targets))
    clip = codes.clip[rows]
    split = Split(*(np.flatnonzero(np.isin(clip, side)) for _, side in task.split.items()))
    return codes.frames[rows], targets[rows], task.groups[clip], split


Comparison = Callable[[Extractor, Extracted, World, int, Findings], None]


def comparisons(known: Corpus, config: EvaluationConfig) -> tuple[list[Comparison], list[str]]:
    """The comparisons of test clips with each other, and why the rest are left out."""
    test = known.split.test
    several = len(np.unique(known.group[test])) > 1
    # Where the test split has one group alone, clips of other recordings are compared instead of other groups.
    apart = known.group if several else known.recording
    wanted: list[Comparison] = []
    notes = []
    for name, label in known.labels.items():
        own, labelled = known.recording if name == known.kind else apart, test[~unknown(label)[test]]
        if retrievable(label[labelled], own[labelled]):
            wanted.append(by_retrieval(name, label, own, known.split.train, labelled))
    if known.kind in INDIVIDUALS and known.kind in known.labels:
        identified = test[~known.nobody[test]]
        if several and retrievable(known.group[identified], known.recording[identified]):
            wanted.append(by_verification(known, identified))
        else:
            notes.append(f"no {known.kind} is verified: the test split needs two, with two files each")
    if config.abx:
        asked = [(name, marks) for name, marks in triples(known) if any(marks)]
        for name, marks in asked:
            label, group = segments(known, marks)
            lacking = {where: why for where, why in REQUIRED.items() if not comparable(label, group, where)}
            notes += [f"no ABX of {name} {where} {known.kind}s: {why}" for where, why in lacking.items()]
            if len(lacking) < len(REQUIRED):
                wanted.append(by_abx(known, name, marks))
        if not asked:
            notes.append(f"no ABX: {known.kind} is the only label, and no segments are marked")
    return wanted, notes


def retrievable(label: Shaped[np.ndarray, " clip"], apart: Shaped[np.ndarray, " clip"]) -> bool:
    """Whether there are two labels, and one of them in two groups: something to distinguish, something to find."""
    pairs = np.unique(np.stack([label.astype(str), apart.astype(str)]), axis=1)
    return len(np.unique(label)) > 1 and len(np.unique(pairs[0])) < pairs.shape[1]


def by_retrieval(
    name: str,
    label: np.ndarray,
    apart: np.ndarray,
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
) -> Comparison:
    def compare(extractor: Extractor, codes: Extracted, world: World, seed: int, own: Findings) -> None:
        # Cosines of codes that share a large mean are all near 1.
        centred = codes.means - codes.means[train].mean(axis=0)
        found = retrieval(centred[test], label[test], apart[test])
        key = f"retrieval/{name}"
        own.scores[key], own.chance[key] = found.mean_average_precision, found.chance

    return compare


def by_verification(known: Corpus, test: Int[np.ndarray, " test"]) -> Comparison:
    def compare(extractor: Extractor, codes: Extracted, world: World, seed: int, own: Findings) -> None:
        mean = codes.means[known.split.train].mean(axis=0)
        trials = clip_trials(codes.means[test], known.group[test], mean, known.recording[test])
        for key, error, worst in (("eer", equal_error_rate, 0.5), ("min-dcf", least_cost, 1.0)):
            own.scores[f"{key}/{known.kind}"], own.chance[f"{key}/{known.kind}"] = error(trials), worst
        curve = thinned(errors(trials))
        rates = {"miss": curve.miss, "false_alarm": curve.false_alarm}
        own.curves[f"errors/{known.kind}"] = {name: rate.round(6).tolist() for name, rate in rates.items()}

    return compare


def triples(known: Corpus) -> list[tuple[str, list[Marks]]]:
    """The items of ABX: marked segments of test clips, or else whole test clips by each of their labels; only of
    known individuals."""
    test, nobody = known.split.test, known.nobody
    if known.marked:
        return [("segment", [[] if nobody[clip] else known.marks[clip] for clip in test])]

    def whole(label: np.ndarray) -> list[Marks]:
        left_out, seconds = nobody | unknown(label), known.lengths / known.rate
        return [[] if left_out[clip] else [(0.0, float(seconds[clip]), str(label[clip]))] for clip in test]

    return [(name, whole(label)) for name, label in known.labels.items() if name != known.kind]


def segments(known: Corpus, marks: list[Marks]) -> tuple[np.ndarray, np.ndarray]:
    """Label and group of each marked segment of test clips."""
    found = [(label, at) for at, own in enumerate(marks) for _, _, label in own]
    label, clip = (np.array(column) for column in zip(*found, strict=True))
    return label, known.group[known.split.test][clip]


def by_abx(known: Corpus, name: str, marks: list[Marks]) -> Comparison:
    def compare(extractor: Extractor, codes: Extracted, world: World, seed: int, own: Findings) -> None:
        test = known.split.test
        frames, item, label, clip = extract_segments(
            extractor, world, known.index[test.tolist()], known.lengths[test], marks
        )
        for speakers in REQUIRED:
            how = ABXConfig(speakers=speakers, most=ITEMS)
            if comparable(label, group := known.group[test][clip], speakers):
                found = abx(frames, item, label, group, np.random.default_rng(seed), how)
                key = f"abx-{speakers}/{name}"
                own.scores[key], own.chance[key] = found.error, 0.5

    return compare


def comparable(label: Shaped[np.ndarray, " item"], group: Shaped[np.ndarray, " item"], speakers: str) -> bool:
    """Whether a group has two labels, one of which it has twice (within), or another group has, too (across)."""
    labels = {one: label[group == one].tolist() for one in np.unique(group)}
    for one, own in labels.items():
        others = {other for name, every in labels.items() if name != one for other in every}
        again = len(own) > len(set(own)) if speakers == "within" else bool(others & set(own))
        if len(set(own)) > 1 and again:
            return True
    return False
