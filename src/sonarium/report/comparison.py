"""Runs beside each other: which differ only in their seed, and their scores with intervals and controls.

The interval is Student's t over training seeds (measures/statistics.py); a single seed has none, and none is
shown for it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonarium.measures.statistics import Interval, interval, within
from sonarium.report.meanings import meaning


@dataclass(frozen=True)
class RunPage:
    """What a page needs to know of a run: plain values, and the folder of its media."""

    name: str
    model: str
    world: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: Sequence[Mapping[str, float]]
    scores: Mapping[str, Any] | None
    """What scores.json holds: protocol, step, clips, scores, controls, likelihood; None if not scored."""
    media: Path | None
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed; the first is shown in full."""

    runs: tuple[RunPage, ...]

    @property
    def first(self) -> RunPage:
        return self.runs[0]

    @property
    def model(self) -> str:
        """The model, with its preset where that is not the default."""
        preset = self.first.config.get("preset", "default")
        return self.first.model if preset == "default" else f"{self.first.model} ({preset})"

    @property
    def scored(self) -> tuple[RunPage, ...]:
        """One run for each seed that has scores: a seed that comes twice tells nothing new."""
        by_seed = {seeds(run.config): run for run in reversed(self.runs) if run.scores}
        return tuple(run for run in self.runs if run in by_seed.values())


@dataclass(frozen=True)
class Score:
    """A score of a group of runs, beside the same score of the controls."""

    value: Interval
    controls: Mapping[str, Interval]


@dataclass(frozen=True)
class Line:
    """One score of all groups; None where a group lacks it."""

    key: str
    cells: tuple[Score | None, ...]


@dataclass(frozen=True)
class Table:
    """Groups whose scores may be compared: one world, one protocol."""

    world: str
    protocol: str
    groups: tuple[Group, ...]
    lines: tuple[Line, ...]


def seedless(config: Any) -> Any:
    """A configuration without its seeds."""
    if isinstance(config, Mapping):
        return {key: seedless(value) for key, value in config.items() if key != "seed"}
    if isinstance(config, list | tuple):
        return [seedless(value) for value in config]
    return config


def seeds(config: Any, path: str = "") -> tuple[tuple[str, Any], ...]:
    """Every seed in a configuration, with where it stands."""
    if not isinstance(config, Mapping):
        return ()
    own = ((f"{path}seed", config["seed"]),) if "seed" in config else ()
    return own + tuple(seed for key, value in config.items() for seed in seeds(value, f"{path}{key}."))


def grouped(runs: Sequence[RunPage]) -> list[Group]:
    """Runs that differ in nothing but their seed together, in the order in which they came."""
    groups: dict[str, list[RunPage]] = {}
    for run in runs:
        scores = run.scores or {}
        alike = [run.model, run.world, seedless(run.config), scores.get("protocol"), scores.get("step")]
        groups.setdefault(json.dumps(alike, sort_keys=True, default=str), []).append(run)
    return [Group(tuple(members)) for members in groups.values()]


def numbers(values: Any) -> dict[str, float]:
    """The finite numbers among named values: notes and what could not be computed are left out."""
    if not isinstance(values, Mapping):
        return {}
    return {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def bounds(likelihood: Any) -> dict[str, float]:
    """The bounds of the likelihood, without what else is recorded of them."""
    return {name: value for name, value in numbers(likelihood).items() if name in ("elbo", "iwae")}


def scores_of(group: Group) -> dict[str, Score]:
    """Means and intervals over the seeds of a group."""
    found = [run.scores or {} for run in group.scored]
    own = [numbers(scores.get("scores")) | bounds(scores.get("likelihood")) for scores in found]
    controls = [dict(scores.get("controls") or {}) for scores in found]
    names = list(dict.fromkeys(name for one in controls for name in one))
    result = {}
    for key in dict.fromkeys(key for one in own for key in one):
        beside = {}
        for name in names:
            values = [numbers(one.get(name)).get(key) for one in controls]
            if present := [value for value in values if value is not None]:
                beside[name] = interval(present)
        # A line may explain less than nothing; all other shares lie between 0 and 1.
        most = 1.0 if meaning(key).share and not key.startswith("number/") else None
        result[key] = Score(within(interval([one[key] for one in own if key in one]), most), beside)
    return result


def tables(groups: Sequence[Group]) -> list[Table]:
    """A table for each world and protocol of which there are scores."""
    parts: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        if group.scored:
            protocol = str((group.scored[0].scores or {}).get("protocol", "standard"))
            parts.setdefault((group.first.world, protocol), []).append(group)
    made = []
    for (world, protocol), members in parts.items():
        found = [scores_of(group) for group in members]
        keys = dict.fromkeys(key for one in found for key in one)
        lines = tuple(Line(key, tuple(one.get(key) for one in found)) for key in keys)
        made.append(Table(world, protocol, tuple(members), lines))
    return made
