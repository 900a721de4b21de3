"""From names and configurations to worlds, learners and runs; and back from a run folder."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sonarium.catalogue import MODELS
from sonarium.commands.faults import say
from sonarium.models.contract import FrameEncoder, Learner
from sonarium.training.fit import FitConfig
from sonarium.training.run import Run, restore_weights
from sonarium.worlds.contract import Signal, Split, World
from sonarium.worlds.recordings.survey import Progress
from sonarium.worlds.recordings.world import Recordings
from sonarium.worlds.register import compare
from sonarium.worlds.splits import deal, in_words
from sonarium.worlds.table import WORLDS


def as_dict(config: Any) -> dict[str, Any]:
    """A configuration in JSON's terms."""
    return {
        field.name: as_dict(value) if dataclasses.is_dataclass(value := getattr(config, field.name)) else value
        for field in dataclasses.fields(config)
    }


def from_dict(default: Any, values: dict[str, Any], where: str) -> Any:
    """The default configuration with these values in place of its own; unknown keys are refused."""
    known = {field.name for field in dataclasses.fields(default)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{where} has unknown keys {', '.join(unknown)}: it knows {', '.join(sorted(known))}")
    changed = {}
    for name, value in values.items():
        own = getattr(default, name)
        if not alike(own, value):
            raise ValueError(f"{where}.{name} is {value!r}, expected something like {own!r}: restore the file")
        if dataclasses.is_dataclass(own):
            value = from_dict(own, value, f"{where}.{name}")
        elif isinstance(own, tuple):
            value = tuple(value)
        changed[name] = value
    return dataclasses.replace(default, **changed)


def alike(own: Any, value: Any) -> bool:
    """Whether a value that was read from JSON may stand for this default."""
    if own is None or value is None:
        return not isinstance(value, dict | list)
    if dataclasses.is_dataclass(own):
        return isinstance(value, dict)
    kinds = {tuple: list, float: (float, int)}.get(type(own), type(own))
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(own, bool)


@dataclass(frozen=True)
class Plan:
    """What a training is made of; the same plan makes the same run."""

    model: str
    preset: str
    world: str
    model_config: Any
    world_config: Any
    fit: FitConfig

    def recorded(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "preset": self.preset,
            "world": self.world,
            "model_config": as_dict(self.model_config),
            "world_config": as_dict(self.world_config),
            "fit": as_dict(self.fit),
        }


def world_of(config: Mapping[str, Any]) -> str:
    """The world of a recorded plan, with the name of its folder where it is read from one."""
    world, told = config.get("world", "unknown"), config.get("world_config")
    path = told.get("path") if isinstance(told, dict) else None
    return f"{world} ({Path(path).name})" if path else str(world)


@dataclass(frozen=True)
class Assembled:
    plan: Plan
    world: World
    parts: Split
    learner: Learner

    @property
    def heard(self) -> Int[Tensor, " clip"]:
        """The clips that are learnt from."""
        return self.parts.train if self.plan.fit.hear == "train" else torch.arange(len(self.world))

    def split_in_words(self) -> str:
        also = "; the learner hears all of them, without labels" if self.plan.fit.hear == "all" else ""
        return in_words(self.world, self.parts) + also


def assemble(plan: Plan, progress: Progress = lambda *_: None) -> Assembled:
    """The world, its split and a fresh learner, all from the plan's seed."""
    world = WORLDS[plan.world].build(plan.world_config, plan.fit.seed, progress)
    fit = plan.fit
    parts = deal(world, fit.seed, fit.test, fit.validation, fit.test_groups, fit.validation_groups)
    plan = numbered(plan, world)
    learner = fresh(plan, world.signal)
    if isinstance(world, Recordings) and not isinstance(learner, FrameEncoder):
        world = world.excerpts()
    return Assembled(plan, world, parts, learner)


def numbered(plan: Plan, world: World) -> Plan:
    """The same plan, with the label that tells who speaks as the number that a learner knows it by."""
    speaker = getattr(plan.model_config, "speaker", None)
    if speaker is None:
        return plan
    labels = {factor.name: at for at, factor in enumerate(world.factors) if factor.discrete}
    number = labels.get(speaker, speaker)
    if number not in labels.values():
        known = ", ".join(f"{name} ({at})" for name, at in labels.items())
        raise ValueError(f"--speaker {speaker}: the labels of these clips are {known or 'none'}; give one of them")
    return dataclasses.replace(plan, model_config=dataclasses.replace(plan.model_config, speaker=number))


def fresh(plan: Plan, signal: Signal) -> Learner:
    """A learner of this plan that has learnt nothing yet."""
    # Layers draw their first weights from torch's generator: lend it the seed and put it back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.fit.seed)
        return MODELS[plan.model].build(plan.model_config, signal)


def read_plan(run: Run) -> Plan:
    """The plan that a run folder records."""
    where, recorded = f"{run.folder}/config.json", run.config
    expected = {field.name for field in dataclasses.fields(Plan)}
    if recorded.keys() != expected:
        raise ValueError(f"{where} has the keys {sorted(recorded)}, expected {sorted(expected)}: restore it")
    model = among(MODELS, recorded["model"], f"{where}: model")
    world = among(WORLDS, recorded["world"], f"{where}: world")
    preset = among(MODELS[model].presets, recorded["preset"], f"{where}: preset")
    for part in ("world_config", "model_config", "fit"):
        if not isinstance(recorded[part], dict):
            raise ValueError(f"{where}: {part} is {recorded[part]!r}, expected an object: restore it")
    start = MODELS[model].presets[preset](WORLDS[world].kind)
    return Plan(
        model,
        preset,
        world,
        from_dict(start, recorded["model_config"], f"{where}: model_config"),
        from_dict(WORLDS[world].Config(), recorded["world_config"], f"{where}: world_config"),
        from_dict(FitConfig(), recorded["fit"], f"{where}: fit"),
    )


def among(table: Mapping[str, object], name: object, where: str) -> str:
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"{where} is {name!r}, expected one of {', '.join(table)}: restore the file")
    return name


@dataclass(frozen=True)
class Trained(Assembled):
    run: Run
    step: int


def open_run(folder: Path, progress: Progress = lambda *_: None) -> Trained:
    """A run's world and its learner as the newest whole checkpoint left it."""
    run = Run.read(folder)
    made = assemble(read_plan(run), progress)
    if isinstance(made.world, Recordings):
        compare(made.world, made.parts, folder)
    step = restore(run, made.learner)
    return Trained(made.plan, made.world, made.parts, made.learner, run, step)


def open_learner(folder: Path) -> tuple[Plan, Learner, Signal]:
    """A run's learner, and the form of what it learnt from, which need not be there any more."""
    run = Run.read(folder)
    plan = read_plan(run)
    entry = WORLDS[plan.world]
    if entry.signal is None:
        signal = entry.build(plan.world_config, plan.fit.seed, lambda *_: None).signal
    else:
        signal = entry.signal(plan.world_config)
    learner = fresh(plan, signal)
    restore(run, learner)
    return plan, learner, signal


def restore(run: Run, learner: Learner) -> int:
    """The newest whole checkpoint into the learner; its step."""
    saved = run.load()
    if saved is None:
        faults = "; ".join(run.passed_over) or "none was saved yet"
        raise ValueError(f"'{run.folder}' has no whole checkpoint ({faults}): train it with `sonarium train`")
    step, weights, _ = saved
    for fault in run.passed_over:
        say(f"sonarium: {run.folder}: {fault}; taking step {step}")
    restore_weights(learner, weights, f"'{run.folder}/checkpoints/step-{step}'")
    learner.eval()
    return step
