"""Evaluation of one learner on one world; the tasks depend on the learner's abilities and on the labels of the
clips.

Codes of clips with planted factors are scored by disentanglement measures; all others by probes and comparisons of
labels, numbers and segments; a density also by bounds on the log-likelihood.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from sonarium.evaluation import meanings
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.continuations import continuations
from sonarium.evaluation.factors import BLOCK, device_of, recovery
from sonarium.evaluation.forecasting import Fits, forecasting
from sonarium.evaluation.likelihood import bounds
from sonarium.evaluation.pieces import TEST, chosen_clips, pieces_of
from sonarium.evaluation.probing import Kept, probing
from sonarium.evaluation.separating import separation
from sonarium.evaluation.splits import in_words
from sonarium.evaluation.steering import steering
from sonarium.measures.contract import MeasureEntry
from sonarium.measures.disentanglement.table import FEWEST_CLIPS
from sonarium.measures.splits import Split
from sonarium.models.contract import Density, Encoder, Forecaster, FrameEncoder, Learner, Separator
from sonarium.models.framing import in_frames
from sonarium.worlds.contract import Progress, World
from sonarium.worlds.sequences import Sequences

FORMAT = 2
"""Format of the record; version 0.1 wrote none."""
Record = dict[str, Any]


def evaluate(
    learner: Learner,
    untrained: Learner | None,
    world: World,
    split: Split[Tensor],
    config: EvaluationConfig,
    seed: int,
    device: str = "cpu",
    progress: Progress = lambda *_: None,
    measures: Mapping[str, MeasureEntry] = {},
    kept: Kept | None = None,
) -> Record:
    """Scores of the learner and of its controls on the test split, with the metadata needed to interpret them.

    `untrained` is the same network before training, with the current front end, if there is one. `measures` are
    those of the catalogue. `seed` is for measures of planted factors and for random draws; probes need none.
    `kept` holds scores of controls from other evaluations, and receives those of this one.
    """
    if not isinstance(learner, Encoder | FrameEncoder | Density | Separator):
        raise ValueError(f"a {type(learner).__name__} has no codes and no density, and separates nothing")
    if not len(split.test):
        raise ValueError("the run has no test split (--test 0): there is nothing to score")
    for one in (learner, untrained):
        if one is not None:
            one.to(device).eval()
    record: Record = {
        "format": FORMAT, "protocol": "likelihood", "clips": len(split.test), "scores": {}, "controls": {},
        "seeds": 1, "settings": asdict(config), "planted": world.planted, "split": in_words(world, split),
    }  # fmt: skip
    if by_factors(learner, world):
        assert isinstance(learner, Encoder) and isinstance(untrained, Encoder | None), type(untrained)
        record |= of_factors(learner, untrained, world, split, config, seed, measures)
    elif isinstance(learner, Encoder | FrameEncoder):
        record |= of_labels(learner, untrained, world, split, config, device, progress, kept)
    if isinstance(learner, Separator):
        record |= separation(learner, untrained, world, split.test, config, seed, progress)
    if isinstance(learner, Forecaster):
        # Futures are drawn token by token, and their baselines have no device: all of them on the CPU.
        for one in (learner, untrained):
            if one is not None:
                one.cpu()
        record |= with_forecasts(record, learner, untrained, world, split, config, progress)
    if not record["scores"] and not isinstance(learner, Density):
        raise ValueError(f"nothing can be predicted from its codes: {reasons(record)}")
    if isinstance(learner, Density):
        whole = world.whole if isinstance(learner, FrameEncoder) else world.excerpt
        batches = (whole(block, device_of(learner)) for block in split.test.split(BLOCK))
        record["likelihood"] = bounds(learner, batches, config.draws, seed)
    return record


def by_factors(learner: object, world: World) -> bool:
    """Whether codes are scored by disentanglement measures, the only option for clips without time."""
    known = world.planted or world.signal.steps_per_second is None
    return isinstance(learner, Encoder) and bool(world.factors) and known


def of_factors(
    learner: Encoder,
    untrained: Encoder | None,
    world: World,
    split: Split[Tensor],
    config: EvaluationConfig,
    seed: int,
    measures: Mapping[str, MeasureEntry],
) -> Record:
    if len(split.test) < FEWEST_CLIPS:
        raise ValueError(
            f"the run holds out {len(split.test)} clips, too few to measure anything: train on a larger world or "
            f"with a larger --test, so that at least {FEWEST_CLIPS} are held out"
        )
    other = learner if untrained is None else untrained
    found = recovery(learner, other, world, split.train, split.test, config.protocol, seed, measures)
    if untrained is None:
        del found["random"]
    described = {key: one for entry in measures.values() for key, one in entry.scores.items()}
    scores, noise, notes = (found.pop(name) for name in ("scores", "noise", "notes"))
    return {
        "protocol": config.protocol,
        "scores": scores,
        "controls": found,
        "noise": noise,
        "notes": notes,
        "meanings": meanings.recorded(described),
    }


def of_labels(
    learner: Learner,
    untrained: Learner | None,
    world: World,
    split: Split[Tensor],
    config: EvaluationConfig,
    device: str,
    progress: Progress,
    kept: Kept | None,
) -> Record:
    if world.signal.steps_per_second is None:
        raise ValueError(f"world '{world.name}' has no labels and no time: its codes can be compared with nothing")
    frames, control = (one if one is None else in_frames(one, world.signal) for one in (learner, untrained))
    assert frames is not None
    found = probing(frames, control, world, split, config, device, progress, kept)
    scores, details, curves, notes = (found.pop(name) for name in ("scores", "details", "curves", "notes"))
    return {
        "protocol": f"{config.probe} probes" + (", means of clips removed" if config.remove_mean else ""),
        "scores": scores,
        "controls": found,
        "asked": in_short(details),
        "details": details,
        "curves": curves,
        "notes": notes,
    }


def reasons(record: Record) -> str:
    unnamed = "its clips have no labels: name folders after what they hold, or give --pattern"
    return "; ".join(record.get("notes", ())) or unnamed


def with_forecasts(
    record: Record,
    learner: Forecaster,
    untrained: Learner | None,
    world: World,
    split: Split[Tensor],
    config: EvaluationConfig,
    progress: Progress,
) -> Record:
    """The record with forecast scores added, and their baselines among the controls."""
    assert isinstance(untrained, Forecaster | None), type(untrained)
    train, test = pieces_of(learner, world, split, config)
    fits = Fits(train, config)
    made = forecasting(learner, untrained, fits, test, progress)
    scores, curves, notes = (made.pop(name) for name in ("scores", "curves", "notes"))
    further = [steering(learner, fits, test, world, chosen_clips(world, split.test, TEST))]
    if isinstance(world, Sequences):
        further.append(continuations(learner, untrained, world, split, fits, progress))
    for more in further:
        scores |= more.pop("scores", {})
        made = {name: made.get(name, {}) | more.get(name, {}) for name in dict.fromkeys([*made, *more])}
    controls = record["controls"]
    beside = {name: controls.get(name, {}) | made.get(name, {}) for name in dict.fromkeys([*controls, *made])}
    return {
        "scores": record["scores"] | scores,
        "controls": beside,
        "curves": record.get("curves", {}) | curves,
        "notes": [*record.get("notes", ()), *notes],
    }


def in_short(details: Mapping[str, Any]) -> str:
    """Summary of which labels are predicted on which clips."""
    on: dict[str, list[str]] = {}
    for key, said in details.items():
        names, label = on.setdefault(said["asked_of"], []), key.partition("/")[2]
        if label not in names:
            names.append(label)
    return "; ".join(f"{', '.join(names)} of {whom}" for whom, names in on.items())
