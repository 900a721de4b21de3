"""How well a learner's frames tell what is known of clips, beside its controls: log-mel frames, cepstra with
their slopes, the same network untrained, and chance.

Probes (probe.py), lines through numbers (regression.py), verification (verification.py), retrieval (retrieval.py),
ABX (abx.py) and curves of few labels (fewlabels.py) are joined here; what is asked of whom is in questions.py.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int, Shaped
from threadpoolctl import threadpool_limits

from sonarium.evaluation.config import JudgingConfig
from sonarium.evaluation.extraction import Ear, Heard, ears, hear, hear_segments
from sonarium.evaluation.tasks import PEOPLE, Corpus, Question, corpus, questions, unknown
from sonarium.measures.compare.abx import ABXConfig, abx
from sonarium.measures.compare.retrieval import retrieval
from sonarium.measures.compare.verification import clip_trials, equal_error_rate, errors, least_cost, thinned
from sonarium.measures.probes.fewlabels import few_labels
from sonarium.measures.probes.parts import Parts
from sonarium.measures.probes.probe import ProbeConfig, probe
from sonarium.measures.probes.regression import explained
from sonarium.measures.probes.segments import Marks
from sonarium.models.contract import FrameEncoder
from sonarium.worlds.contract import Split, World

COUNTS = (1, 2, 5, 10)
"""Labelled clips of each class in a curve of few labels."""
ITEMS = 5
"""Pieces of a category and a group that ABX takes."""
WANTING: dict[Literal["within", "across"], str] = {
    "within": "no group of the test part has two labels, and one of them twice",
    "across": "no two groups of the test part share a label",
}
"""Why ABX cannot be asked."""
Progress = Callable[[str, int, int], object]
Scores = dict[str, float]


@dataclass(frozen=True)
class Findings:
    """What one ear was found to tell."""

    scores: Scores = field(default_factory=dict)
    chance: Scores = field(default_factory=dict)
    """The same for every ear."""
    details: dict[str, Any] = field(default_factory=dict)
    """How each score of a probe came about."""
    curves: dict[str, Any] = field(default_factory=dict)
    """What makes more than a number: `few-labels` and `errors`, and after a stroke the label."""


def judge(
    learner: FrameEncoder,
    untrained: FrameEncoder,
    world: World,
    split: Split,
    config: JudgingConfig,
    seed: int,
    device: str,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """`scores` of the learner, those of each control, `chance`; `details` of each score, `curves` of all by what
    they show, and `notes`."""
    known = corpus(world, split, learner, config, np.random.default_rng([seed, 0xA5C]))
    if config.remove_mean and (learner.code_lengths(torch.from_numpy(known.lengths)) < 2).all():
        raise ValueError(
            "--remove-mean: every clip has one code alone, and less its mean it is nothing; leave it out, or "
            "train with shorter --seconds"
        )
    asked, notes = questions(known, config, np.random.default_rng([seed, 0xA5D]))
    wanted, remarks = comparisons(known, config)
    gap = gap_of(known, asked, config)
    found: dict[str, Findings] = {}
    every = ears(learner, untrained, known.rate, device)
    for done, (name, ear) in enumerate(every.items()):
        progress("judging", done, len(every))
        heard = hear(ear, world, known.index, known.lengths, known.marks, config, gap)
        own = found[name] = Findings()
        # The products of a probe are small: several threads wait for each other longer than they work.
        with threadpool_limits(1, "blas"):
            for question in asked:
                answer(question, heard, config, seed, own)
        for compare in wanted:
            compare(ear, heard, world, seed, own)
    progress("judging", len(every), len(every))
    learnt = found["scores"]
    curves = {key: {name: one.curves[key] for name, one in found.items()} for key in learnt.curves}
    scores = {name: one.scores for name, one in found.items()} | {"chance": learnt.chance}
    return {**scores, "details": learnt.details, "curves": curves, "notes": notes + remarks}


def gap_of(known: Corpus, asked: list[Question], config: JudgingConfig) -> float | None:
    """Seconds from one frame that probes are given to the next; None if no question is of frames."""
    if not any(question.level == "frames" for question in asked):
        return None
    seconds = known.lengths.sum() / known.rate
    if not config.frames:
        seconds = sum(stop - start for marks in known.marks for start, stop, _ in marks)
    return float(seconds / config.most_frames)


def answer(question: Question, heard: Heard, config: JudgingConfig, seed: int, own: Findings) -> None:
    """Fit a probe, choose its settings and score it, each on clips of its own."""
    codes, labels, groups, parts = rows_for(question, heard)
    if question.level == "number":
        told = explained(codes, labels, groups, parts)
        own.scores[question.key], own.chance[question.key] = told.share, 0.0
        setting = {"strength": told.strength}
        own.details[question.key] = {"asked_of": question.on, "rows": list(told.rows), "setting": setting}
        return
    how = ProbeConfig(kind="logistic" if config.probe == "linear" else "mlp", refit=True)
    score = probe(codes, labels, groups, parts, np.random.default_rng([seed, 0xA5E]), how)
    own.scores[question.key], own.chance[question.key] = score.accuracy, score.chance
    own.details[question.key] = {
        "asked_of": question.on,
        "balanced": score.balanced,
        "balanced_chance": score.balanced_chance,
        "rows": list(score.rows),
        "setting": asdict(score.setting),
        "never_learnt": [str(label) for label in score.unseen],
    }
    if config.few_labels and question.level == "clips":
        drawn = np.random.default_rng([seed, 0xA5F])
        curve = few_labels(codes, labels, groups, parts, drawn, COUNTS, config=how)
        label = question.key.partition("/")[2]
        own.curves[f"few-labels/{label}"] = {**asdict(curve), "scores": curve.scores.tolist()}
        for count, told in zip(curve.counts, curve.intervals, strict=True):
            key = f"few-{count}/{label}"
            own.scores[key], own.chance[key] = told.mean, curve.chance


def rows_for(question: Question, heard: Heard) -> tuple[np.ndarray, np.ndarray, np.ndarray, Parts]:
    """Codes, labels, groups and parts of the rows that a question is about."""
    if question.level != "frames":
        assert question.label is not None, question
        return heard.pooled, question.label, question.groups, question.parts
    labels = heard.mark if question.label is None else question.label[heard.clip]
    rows = np.flatnonzero(labels != "")
    clip = heard.clip[rows]
    parts = Parts(*(np.flatnonzero(np.isin(clip, side)) for _, side in question.parts.items()))
    return heard.frames[rows], labels[rows], question.groups[clip], parts


Comparison = Callable[[Ear, Heard, World, int, Findings], None]


def comparisons(known: Corpus, config: JudgingConfig) -> tuple[list[Comparison], list[str]]:
    """What is asked by comparing test clips with each other, and why the rest is not."""
    test = known.parts.test
    several = len(np.unique(known.group[test])) > 1
    # Where one group alone is judged, clips of other files are compared instead of clips of other groups.
    apart = known.group if several else known.file
    wanted: list[Comparison] = []
    notes = []
    for name, label in known.labels.items():
        own, told = known.file if name == known.kind else apart, test[~unknown(label)[test]]
        if findable(label[told], own[told]):
            wanted.append(retrieving(name, label, own, known.parts.train, told))
    if known.kind in PEOPLE and known.kind in known.labels:
        heard_of = test[~known.nobody[test]]
        if several and findable(known.group[heard_of], known.file[heard_of]):
            wanted.append(verifying(known, heard_of))
        else:
            notes.append(f"no {known.kind} is verified: the test part needs two, with two files each")
    if config.abx:
        asked = [(name, marks) for name, marks in triples(known) if any(marks)]
        for name, marks in asked:
            label, group = pieces(known, marks)
            lacking = {where: why for where, why in WANTING.items() if not askable(label, group, where)}
            notes += [f"no ABX of {name} {where} {known.kind}s: {why}" for where, why in lacking.items()]
            if len(lacking) < len(WANTING):
                wanted.append(comparing(known, name, marks))
        if not asked:
            notes.append(f"ABX is not asked: {known.kind} is the only label, and no segments are marked")
    return wanted, notes


def findable(label: Shaped[np.ndarray, " clip"], apart: Shaped[np.ndarray, " clip"]) -> bool:
    """Whether there are two labels, and one of them in two groups: something to tell, and something to find."""
    pairs = np.unique(np.stack([label.astype(str), apart.astype(str)]), axis=1)
    return len(np.unique(label)) > 1 and len(np.unique(pairs[0])) < pairs.shape[1]


def retrieving(
    name: str,
    label: np.ndarray,
    apart: np.ndarray,
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
) -> Comparison:
    def compare(ear: Ear, heard: Heard, world: World, seed: int, own: Findings) -> None:
        # Cosines of codes that share a large mean are all near 1.
        codes = heard.whole - heard.whole[train].mean(axis=0)
        told = retrieval(codes[test], label[test], apart[test])
        key = f"retrieval/{name}"
        own.scores[key], own.chance[key] = told.mean_average_precision, told.chance

    return compare


def verifying(known: Corpus, test: Int[np.ndarray, " test"]) -> Comparison:
    def compare(ear: Ear, heard: Heard, world: World, seed: int, own: Findings) -> None:
        mean = heard.whole[known.parts.train].mean(axis=0)
        trials = clip_trials(heard.whole[test], known.group[test], mean, known.file[test])
        for key, error, worst in (("eer", equal_error_rate, 0.5), ("min-dcf", least_cost, 1.0)):
            own.scores[f"{key}/{known.kind}"], own.chance[f"{key}/{known.kind}"] = error(trials), worst
        curve = thinned(errors(trials))
        rates = {"miss": curve.miss, "false_alarm": curve.false_alarm}
        own.curves[f"errors/{known.kind}"] = {name: rate.round(6).tolist() for name, rate in rates.items()}

    return compare


def triples(known: Corpus) -> list[tuple[str, list[Marks]]]:
    """What ABX compares: the marked segments of test clips, or else whole test clips by each of their labels; of
    clips of which it is known who is heard."""
    test, nobody = known.parts.test, known.nobody
    if known.marked:
        return [("segment", [[] if nobody[clip] else known.marks[clip] for clip in test])]

    def whole(label: np.ndarray) -> list[Marks]:
        left_out, seconds = nobody | unknown(label), known.lengths / known.rate
        return [[] if left_out[clip] else [(0.0, float(seconds[clip]), str(label[clip]))] for clip in test]

    return [(name, whole(label)) for name, label in known.labels.items() if name != known.kind]


def pieces(known: Corpus, marks: list[Marks]) -> tuple[np.ndarray, np.ndarray]:
    """Label and group of each marked piece of test clips."""
    found = [(label, at) for at, own in enumerate(marks) for _, _, label in own]
    label, clip = (np.array(column) for column in zip(*found, strict=True))
    return label, known.group[known.parts.test][clip]


def comparing(known: Corpus, name: str, marks: list[Marks]) -> Comparison:
    def compare(ear: Ear, heard: Heard, world: World, seed: int, own: Findings) -> None:
        test = known.parts.test
        codes, item, label, clip = hear_segments(
            ear, world, known.index[test.tolist()], known.lengths[test], marks
        )
        for speakers in WANTING:
            how = ABXConfig(speakers=speakers, most=ITEMS)
            if askable(label, group := known.group[test][clip], speakers):
                told = abx(codes, item, label, group, np.random.default_rng(seed), how)
                key = f"abx-{speakers}/{name}"
                own.scores[key], own.chance[key] = told.error, 0.5

    return compare


def askable(label: Shaped[np.ndarray, " item"], group: Shaped[np.ndarray, " item"], speakers: str) -> bool:
    """Whether a group has two labels, one of which it has twice (within), or another group has, too (across)."""
    labels = {one: label[group == one].tolist() for one in np.unique(group)}
    for one, own in labels.items():
        others = {other for name, every in labels.items() if name != one for other in every}
        again = len(own) > len(set(own)) if speakers == "within" else bool(others & set(own))
        if len(set(own)) > 1 and again:
            return True
    return False
