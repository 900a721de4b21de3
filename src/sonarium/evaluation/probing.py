"""How well codes predict labels and factors of clips, with controls: log-mel frames and cepstra with their slopes
(or the input, where codes are learnt from codes), the untrained network, and chance.

Probes, regression, verification, retrieval, ABX and few-label curves are combined here; tasks.py defines what is
predicted on which clips. A control with several settings uses the one whose probe of a label is best in
cross-validation, also where clips are compared by that label.

Random draws depend on the clips alone, never on the training seed: runs with the same split have the same
controls, which are computed once (`Kept`).
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int, Shaped
from threadpoolctl import threadpool_limits
from torch import Tensor

from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.extraction import PART, Extracted, Extractor, extract, extract_segments, extractors
from sonarium.evaluation.tasks import (
    INDIVIDUALS,
    Corpus,
    Rows,
    Task,
    corpus,
    fitted_and_test,
    tasks,
    unknown,
)
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
"""Maximum number of segments per category and group for ABX."""
REQUIRED: dict[Literal["within", "across"], str] = {
    "within": "no group of the test split has two labels, and one of them twice",
    "across": "no two groups of the test split share a label",
}
"""Why ABX cannot be computed."""
DRAWS = 0
"""Seed of subsamples, of splits by recording, of few labels and of the networks of probes."""
Scores = dict[str, float]


@dataclass(frozen=True)
class Findings:
    """The scores of one extractor, or of the best of several."""

    scores: Scores = field(default_factory=dict)
    chance: Scores = field(default_factory=dict)
    """The same for every extractor."""
    details: dict[str, Any] = field(default_factory=dict)
    """How each score of a probe was obtained."""
    curves: dict[str, Any] = field(default_factory=dict)
    """Curves by kind and label: few-labels/LABEL and errors/LABEL."""
    notes: list[str] = field(default_factory=list)
    """What could not be scored, and why."""


Kept = dict[tuple[World, str, str], Findings]
"""Scores of training-free controls, by world, control, and a hash of everything that they depend on."""


def probing(
    learner: FrameEncoder,
    untrained: FrameEncoder | None,
    world: World,
    split: Split[Tensor],
    config: EvaluationConfig,
    device: str,
    progress: Progress = lambda *_: None,
    kept: Kept | None = None,
) -> dict[str, Any]:
    """Scores of the learner (`scores`), of each control and of `chance`; `details` of each score, `curves`, and
    `notes`."""
    known = corpus(world, split, learner, config, np.random.default_rng([DRAWS, 0xA5C]))
    if config.remove_mean and (learner.code_lengths(torch.from_numpy(known.lengths)) < 2).all():
        raise ValueError(
            "--remove-mean: every clip has one code alone, and less its mean it is nothing; leave it out, or "
            "train with shorter --seconds"
        )
    asked, notes = tasks(known, config, np.random.default_rng([DRAWS, 0xA5D]))
    wanted, remarks = comparisons(known, config)
    gap = gap_of(known, asked, config)
    found: dict[str, Findings] = {}
    kept, same = {} if kept is None else kept, fingerprint(known, config)
    every = extractors(learner, untrained, world.signal, device, config.parts)
    for done, (name, settings) in enumerate(every.items()):
        progress("evaluating", done, len(every))
        place = world, name, same
        if place in kept:
            found[name] = kept[place]
            continue
        found[name] = best_of(settings, known, asked, wanted, world, config, gap)
        if name not in ("scores", "random") and not name.startswith(PART):
            kept[place] = found[name]
    progress("evaluating", len(every), len(every))
    learnt = found["scores"]
    curves = {
        key: {name: one.curves[key] for name, one in found.items() if key in one.curves} for key in learnt.curves
    }
    scores = {name: one.scores for name, one in found.items()} | {"chance": learnt.chance}
    chosen = {
        key: said
        | {"controls": {name: one.details[key]["setting"] for name, one in found.items() if name != "scores"}}
        for key, said in learnt.details.items()
    }
    told = [*notes, *remarks, *learnt.notes, *subsampled(known, split, config)]
    return {**scores, "details": chosen, "curves": curves, "notes": told}


def subsampled(known: Corpus, split: Split[Tensor], config: EvaluationConfig) -> list[str]:
    """Note on the number of clips sampled from each larger split."""
    parts = zip(known.split.items(), split.items(), strict=True)
    few = [
        f"{len(taken):,} of {len(whole):,} {name} clips"
        for (name, taken), (_, whole) in parts
        if len(taken) == config.max_clips < len(whole)
    ]
    return [f"probes are of {', '.join(few)} (--max-clips)"] if few else []


def fingerprint(known: Corpus, config: EvaluationConfig) -> str:
    """Hash of the clips of an evaluation, their splits, and its settings."""
    told = {"parts": [known.index[rows].tolist() for _, rows in known.split.items()], "config": asdict(config)}
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def best_of(
    settings: list[Extractor],
    known: Corpus,
    asked: list[Task],
    wanted: "list[Comparison]",
    world: World,
    config: EvaluationConfig,
    gap: float | None,
) -> Findings:
    """The scores of an extractor; where it has several settings, those of the best in cross-validation."""
    segments = any(task.level == "segments" for task in asked)
    codes = [
        extract(one, world, known.index, known.lengths, known.marks, config, gap, segments) for one in settings
    ]
    found, best = Findings(), {}
    # The matrix products of a probe are small: threads wait for each other longer than they work.
    with threadpool_limits(1, "blas"):
        for task in asked:
            made: list[Fitted] = []
            for one in codes:
                fitted = fit(task, known, one, config)
                if isinstance(fitted, str):
                    found.notes.append(fitted)
                    break
                made.append(fitted)
            if len(made) < len(codes):
                continue
            at = int(np.argmax(np.round([one.validated for one in made], 12)))
            best.setdefault(task.label, at)
            add(made[at], task, settings[at].setting, found)
            if config.few_labels and task.level in ("clips", "segments") and not task.continuous:
                add_few_labels(task, known, codes[at], config, found)
    for compare in wanted:
        at = best.get(compare.label, 0)
        compare.apply(settings[at], codes[at], world, found)
    return found


def gap_of(known: Corpus, asked: list[Task], config: EvaluationConfig) -> float | None:
    """Seconds between frames that probes are given; None if no task is of frames."""
    if not any(task.level == "frames" for task in asked):
        return None
    seconds = known.lengths.sum() / known.rate
    if not config.frames and not known.tracks:
        seconds = sum(stop - start for marks in known.marks for start, stop, _ in marks)
    return float(seconds / config.max_frames)


@dataclass(frozen=True)
class Fitted:
    """The score of a probe."""

    score: float
    chance: float
    validated: float
    """Score in cross-validation."""
    details: dict[str, Any]


def fit(task: Task, known: Corpus, codes: Extracted, config: EvaluationConfig) -> Fitted | str:
    """Fit a probe, choose its hyperparameters and score it; or return the reason why it cannot be scored."""
    values, targets, groups, split = rows_for(task, known, codes, config)
    still = [part for part, rows in fitted_and_test(split) if len(np.unique(targets[rows])) < 2]
    if still:
        return f"{task.key} is not scored: it does not vary in the {' and '.join(still)} split"
    if task.continuous:
        line = regress(values, targets, groups, split)
        setting = {"strength": line.strength}
        return Fitted(line.r2, 0.0, line.validated, {"rows": list(line.rows), "setting": setting})
    how = ProbeConfig(kind=config.probe)
    score = probe(values, targets, groups, split, np.random.default_rng([DRAWS, 0xA5E]), how)
    assert score.validated is not None, how
    details = {
        "balanced": score.balanced,
        "balanced_chance": score.balanced_chance,
        "rows": list(score.rows),
        "setting": {name: value for name, value in asdict(score.setting).items() if value is not None},
        "never_learnt": [str(label) for label in score.unseen],
    }
    return Fitted(score.accuracy, score.chance, score.validated, details)


def add(made: Fitted, task: Task, setting: str, own: Findings) -> None:
    own.scores[task.key], own.chance[task.key] = made.score, made.chance
    chosen = made.details["setting"] | ({"levels": setting} if setting else {})
    own.details[task.key] = {"asked_of": task.on, **made.details, "setting": chosen}


def add_few_labels(task: Task, known: Corpus, codes: Extracted, config: EvaluationConfig, own: Findings) -> None:
    values, targets, groups, split = rows_for(task, known, codes, config)
    drawn, how = np.random.default_rng([DRAWS, 0xA5F]), ProbeConfig(kind=config.probe, refit=True)
    curve = few_labels(values, targets, groups, split, drawn, COUNTS, config=how)
    own.curves[f"few-labels/{task.label}"] = {**asdict(curve), "scores": curve.scores.tolist()}
    for count, mean in zip(curve.counts, curve.intervals, strict=True):
        key = f"few-{count}/{task.label}"
        own.scores[key], own.chance[key] = mean.mean, curve.chance


def rows_for(
    task: Task, known: Corpus, codes: Extracted, config: EvaluationConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Rows]:
    """Codes, targets, groups and split of the rows of a task."""
    if task.level == "clips":
        assert isinstance(task.target, np.ndarray), task
        return codes.pooled, task.target, task.groups, task.split
    if task.level == "segments":
        some = slice(None, None, -(-len(codes.segments.rows) // config.max_frames))
        clip = codes.segments.clip[some]
        return codes.segments.rows[some], codes.segments.label[some], task.groups[clip], of_clips(clip, task.split)
    if task.target is None:
        targets = codes.mark
    elif isinstance(task.target, int):
        track, column = known.tracks[task.target], codes.tracks[:, task.target]
        targets = np.array(track.values)[column.astype(int)] if track.discrete else column
    else:
        targets = task.target[codes.clip]
    rows = np.flatnonzero(codes.mark != "") if task.target is None else np.arange(len(targets))
    clip = codes.clip[rows]
    return codes.frames[rows], targets[rows], task.groups[clip], of_clips(clip, task.split)


def of_clips(clip: Int[np.ndarray, " row"], split: Rows) -> Rows:
    """Rows of the clips of each split."""
    return Split(*(np.flatnonzero(np.isin(clip, side)) for _, side in split.items()))


@dataclass(frozen=True)
class Comparison:
    """Test clips, or their segments, compared with each other by a label."""

    label: str
    apply: Callable[[Extractor, Extracted, World, Findings], None]


def comparisons(known: Corpus, config: EvaluationConfig) -> tuple[list[Comparison], list[str]]:
    """The comparisons of test clips with each other, and why the rest are left out."""
    test = known.split.test
    several = len(np.unique(known.group[test])) > 1
    # If the test split has a single group, clips are compared across recordings instead of groups.
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
    """Whether there are two labels, one of which occurs in two groups, so that there is something to retrieve."""
    pairs = np.unique(np.stack([label.astype(str), apart.astype(str)]), axis=1)
    return len(np.unique(label)) > 1 and len(np.unique(pairs[0])) < pairs.shape[1]


def by_retrieval(
    name: str,
    label: np.ndarray,
    apart: np.ndarray,
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
) -> Comparison:
    def compare(extractor: Extractor, codes: Extracted, world: World, own: Findings) -> None:
        # Cosines of codes that share a large mean are all near 1.
        centred = codes.means - codes.means[train].mean(axis=0)
        found = retrieval(centred[test], label[test], apart[test])
        key = f"retrieval/{name}"
        own.scores[key], own.chance[key] = found.mean_average_precision, found.chance

    return Comparison(name, compare)


def by_verification(known: Corpus, test: Int[np.ndarray, " test"]) -> Comparison:
    def compare(extractor: Extractor, codes: Extracted, world: World, own: Findings) -> None:
        mean = codes.means[known.split.train].mean(axis=0)
        trials = clip_trials(codes.means[test], known.group[test], mean, known.recording[test])
        for key, error, worst in (("eer", equal_error_rate, 0.5), ("min-dcf", least_cost, 1.0)):
            own.scores[f"{key}/{known.kind}"], own.chance[f"{key}/{known.kind}"] = error(trials), worst
        curve = thinned(errors(trials))
        rates = {"miss": curve.miss, "false_alarm": curve.false_alarm}
        own.curves[f"errors/{known.kind}"] = {name: rate.round(6).tolist() for name, rate in rates.items()}

    return Comparison(known.kind, compare)


def triples(known: Corpus) -> list[tuple[str, list[Marks]]]:
    """Items of ABX: marked segments of test clips, or else whole test clips by each of their labels; only of known
    individuals."""
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
    def compare(extractor: Extractor, codes: Extracted, world: World, own: Findings) -> None:
        test = known.split.test
        frames, item, label, clip = extract_segments(
            extractor, world, known.index[test.tolist()], known.lengths[test], marks
        )
        for speakers in REQUIRED:
            how = ABXConfig(speakers=speakers, most=ITEMS)
            if comparable(label, group := known.group[test][clip], speakers):
                found = abx(frames, item, label, group, np.random.default_rng(DRAWS), how)
                key = f"abx-{speakers}/{name}"
                own.scores[key], own.chance[key] = found.error, 0.5

    return Comparison(name, compare)


def comparable(label: Shaped[np.ndarray, " item"], group: Shaped[np.ndarray, " item"], speakers: str) -> bool:
    """Whether a group has two labels, one of which occurs twice in it (within) or in another group, too
    (across)."""
    labels = {one: label[group == one].tolist() for one in np.unique(group)}
    for one, own in labels.items():
        others = {other for name, every in labels.items() if name != one for other in every}
        again = len(own) > len(set(own)) if speakers == "within" else bool(others & set(own))
        if len(set(own)) > 1 and again:
            return True
    return False
