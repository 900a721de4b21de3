"""From names and configurations to worlds, learners and runs; and back from a run folder."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sonarium.models.contract import Learner
from sonarium.models.table import MODELS
from sonarium.training.fit import FitConfig
from sonarium.training.run import Run
from sonarium.worlds.contract import Split, World, split
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
        if dataclasses.is_dataclass(own):
            value = from_dict(own, value, f"{where}.{name}")
        elif isinstance(own, tuple):
            value = tuple(value)
        changed[name] = value
    return dataclasses.replace(default, **changed)


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


@dataclass(frozen=True)
class Assembled:
    plan: Plan
    world: World
    parts: Split
    learner: Learner


def assemble(plan: Plan) -> Assembled:
    """The world, its split and a fresh learner, all from the plan's seed."""
    world = WORLDS[plan.world].build(plan.world_config, plan.fit.seed)
    parts = split(world, plan.fit.seed, plan.fit.test, plan.fit.validation)
    # Layers draw their first weights from torch's generator: lend it the seed and put it back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.fit.seed)
        learner = MODELS[plan.model].build(plan.model_config, world.signal)
    return Assembled(plan, world, parts, learner)


def read_plan(run: Run) -> Plan:
    """The plan that a run folder records."""
    where, recorded = f"{run.folder}/config.json", run.config
    expected = {field.name for field in dataclasses.fields(Plan)}
    if recorded.keys() != expected:
        raise ValueError(f"{where} has the keys {sorted(recorded)}, expected {sorted(expected)}")
    model, world = recorded["model"], recorded["world"]
    if model not in MODELS or world not in WORLDS:
        raise ValueError(f"{where} names model '{model}' and world '{world}', of which one is not known here")
    world_config = from_dict(WORLDS[world].Config(), recorded["world_config"], f"{where}: world_config")
    fit = from_dict(FitConfig(), recorded["fit"], f"{where}: fit")
    preset = MODELS[model].presets[recorded["preset"]](WORLDS[world].kind)
    model_config = from_dict(preset, recorded["model_config"], f"{where}: model_config")
    return Plan(model, recorded["preset"], world, model_config, world_config, fit)


@dataclass(frozen=True)
class Trained(Assembled):
    run: Run
    step: int


def open_run(folder: Path) -> Trained:
    """A run's world and its learner as the newest whole checkpoint left it."""
    run = Run.read(folder)
    made = assemble(read_plan(run))
    saved = run.load()
    if saved is None:
        faults = "; ".join(run.passed_over) or "none was saved yet"
        raise ValueError(f"'{folder}' has no whole checkpoint ({faults}): train it with `sonarium train`")
    step, weights, _ = saved
    made.learner.load_state_dict(weights)
    made.learner.eval()
    return Trained(made.plan, made.world, made.parts, made.learner, run, step)
