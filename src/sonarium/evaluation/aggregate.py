"""Aggregation of evaluations of runs that differ only in their seed: means with intervals over training seeds.

The only place that aggregates: the table on the terminal, its JSON and the page show what is computed here. Runs
belong together if what was evaluated (model, world, configuration without seeds, step) and how (protocol,
settings) are equal; a repeated seed counts once. Intervals are Student's t, clipped to the range of a score; a
single seed has none. Returns of agents also have an interquartile mean with a bootstrap interval. A model is
marked as best if the intervals support it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sonarium.config import representable
from sonarium.evaluation import meanings
from sonarium.measures.contract import Meaning
from sonarium.measures.statistics import Interval, bootstrap, interquartile_mean, interval, within

BY_SEED = ("seed", "split_seed", "run", "sha256")
"""Configuration keys that differ between runs that differ only in their seed."""

RETURN = "return"
MIDDLE = Meaning(
    "return, interquartile mean", "Mean return of the middle half of the seeds; bootstrap interval.", None, None
)


@dataclass(frozen=True)
class Record:
    """One run, with the contents of its scores.json."""

    run: str
    """Its name or folder."""
    title: str
    """The model, with its preset if that is not the default."""
    world: str
    config: Mapping[str, Any]
    """Configuration of the run, which identifies the run and its seeds."""
    evaluation: Mapping[str, Any] | None
    """None if it has not been evaluated."""

    @property
    def protocol(self) -> str:
        return str((self.evaluation or {}).get("protocol", "standard"))


@dataclass(frozen=True)
class Score:
    """A score over the seeds of a group, with the same score of the controls."""

    value: Interval
    controls: Mapping[str, Interval]
    """Over seeds; with a single seed, chance has the interval of its own draws."""
    meaning: Meaning


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed."""

    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        return self.records[0]

    @cached_property
    def scored(self) -> tuple[Record, ...]:
        """The first scored run of each seed: a repeated seed counts once."""
        by_seed: dict[Any, Record] = {}
        for record in self.records:
            if record.evaluation:
                by_seed.setdefault(seeds(record.config), record)
        return tuple(by_seed.values())

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Every score, over the seeds that have it."""
        found = [record.evaluation or {} for record in self.scored]
        own = [numbers(one.get("scores")) | numbers(one.get("likelihood"), ("elbo", "iwae")) for one in found]
        controls = [mapping(one.get("controls")) for one in found]
        names = dict.fromkeys(name for one in controls for name in one)
        more = {key: said for one in found for key, said in meanings.read(one.get("meanings")).items()}
        beside = {name: [numbers(one.get(name)) for one in controls] for name in names}
        result = {}
        for key in dict.fromkeys(key for one in own for key in one):
            meaning = meanings.meaning(key, more)
            with_it = {
                name: over_seeds(values, key, meaning)
                for name, values in beside.items()
                if any(key in one for one in values)
            }
            if len(found) == 1 and (spread := of_draws(found[0].get("noise"), key)):
                with_it["chance"] = within(spread, meaning.low, meaning.high)
            result[key] = Score(over_seeds(own, key, meaning), with_it, meaning)
            if key == RETURN and self.middle is not None:
                result[f"{RETURN}-iqm"] = self.middle
        return result

    @cached_property
    def middle(self) -> Score | None:
        """Interquartile mean of an agent's returns over seeds; None for a single seed or without returns."""
        found = [record.evaluation or {} for record in self.scored]
        returns = [numbers(one.get("scores")) for one in found]
        if len(found) < 2 or not all(RETURN in one for one in returns):
            return None
        controls = [mapping(one.get("controls")) for one in found]
        beside = {
            name: [numbers(one.get(name)) for one in controls]
            for name in controls[0]
            if all(RETURN in numbers(one.get(name)) for one in controls)
        }
        return Score(middle_of(returns), {name: middle_of(one) for name, one in beside.items()}, MIDDLE)

    @property
    def own_chance(self) -> bool:
        """Whether chance depends on the codes: it is computed on the same codes with the clips in random order."""
        return any((record.evaluation or {}).get("noise") for record in self.scored)


@dataclass(frozen=True)
class Table:
    """Groups whose scores are comparable: the same clips, protocol and settings."""

    world: str
    protocol: str
    groups: tuple[Group, ...]

    @property
    def keys(self) -> list[str]:
        """Names of the scores that any group has, in their order."""
        return list(dict.fromkeys(key for group in self.groups for key in group.scores))

    def meaning(self, key: str) -> Meaning:
        return next(group.scores[key].meaning for group in self.groups if key in group.scores)

    def controls(self) -> dict[str, dict[str, Interval]]:
        """Scores of each control over seeds; those of one seed are averaged over groups, between which they differ
        little. Chance that depends on the codes is reported for each group instead."""
        found: dict[str, dict[str, dict[Any, list[float]]]] = {}
        for group in self.groups:
            beside_codes = "chance" if group.own_chance else None
            for record in group.scored:
                controls = mapping((record.evaluation or {}).get("controls"))
                for name, scores in controls.items():
                    for key, value in numbers(scores).items() if name != beside_codes else ():
                        by_seed = found.setdefault(name, {}).setdefault(key, {})
                        by_seed.setdefault(seeds(record.config), []).append(value)
        return {
            name: {
                key: self.interval(key, [sum(values) / len(values) for values in by_seed.values()])
                for key, by_seed in scores.items()
                if key in self.keys
            }
            for name, scores in found.items()
        }

    def interval(self, key: str, values: Sequence[float]) -> Interval:
        meaning = self.meaning(key)
        return within(interval(values), meaning.low, meaning.high)

    def best(self, key: str) -> list[bool]:
        """Mask of the best group by this score: its interval over seeds lies beyond those of all other groups and
        of its own controls, except limits. No group is best if intervals overlap, or are missing as for single
        runs."""
        meaning, cells = self.meaning(key), [group.scores.get(key) for group in self.groups]
        scored = [group for group, cell in zip(self.groups, cells, strict=True) if cell is not None]
        if len(scored) < 2 or not comparable(key, meaning, scored):
            return [False] * len(cells)

        def leads(own: Score, at: int) -> bool:
            others = [cell.value for other, cell in enumerate(cells) if cell is not None and other != at]
            others += [value for name, value in own.controls.items() if not meanings.is_limit(name)]
            return all(beyond(own.value, other, meaning.rising) for other in others)

        return [cell is not None and leads(cell, at) for at, cell in enumerate(cells)]


def comparable(key: str, meaning: Meaning, groups: Sequence[Group]) -> bool:
    """Whether a better value of this score means a better model. Counts, such as of dead codes, are no merit in
    themselves, and likelihoods depend on the features: they are comparable only between equal front ends."""
    if key not in meanings.OF_LIKELIHOOD:
        return meaning.bounded
    fronts = [mapping(mapping(group.first.config.get("model")).get("config")).get("front") for group in groups]
    return all(front == fronts[0] for front in fronts)


def beyond(one: Interval, other: Interval, rising: bool) -> bool:
    """Whether the whole of one interval is better than the whole of the other; False for single runs, which have
    none."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low > other.high if rising else one.high < other.low


def of_draws(noise: Any, key: str) -> Interval | None:
    """Recorded interval of a score over uninformative codes; None if it is incomplete."""
    one = numbers(mapping(noise).get(key))
    if not {"mean", "std", "low", "high", "count"} <= one.keys():
        return None
    return Interval(one["mean"], one["std"], one["low"], one["high"], int(one["count"]))


def middle_of(values: Sequence[Mapping[str, float]]) -> Interval:
    return bootstrap(interquartile_mean, np.array([[one[RETURN]] for one in values]))


def over_seeds(values: Sequence[Mapping[str, float]], key: str, meaning: Meaning) -> Interval:
    return within(interval([one[key] for one in values if key in one]), meaning.low, meaning.high)


def grouped(records: Sequence[Record]) -> list[Group]:
    """Group runs that differ only in their seed, in order of appearance."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(identity(record), []).append(record)
    return [Group(tuple(members)) for members in groups.values()]


def identity(record: Record) -> str:
    """Key of what was evaluated and how, without seeds."""
    found = record.evaluation or {}
    # Validation chooses a different step for each seed.
    step = "best" if found.get("best") else found.get("step")
    how = [found.get("protocol"), step, found.get("settings")]
    alike = [record.title, record.world, seedless(record.config), bool(found), *how]
    return json.dumps(alike, sort_keys=True, default=str)


def tables(groups: Sequence[Group]) -> list[Table]:
    """One table for each set of groups that were scored on the same clips in the same way."""
    parts: dict[str, list[Group]] = {}
    for group in groups:
        if group.scored:
            parts.setdefault(scored_on(group.first), []).append(group)
    return [Table(members[0].first.world, members[0].first.protocol, tuple(members)) for members in parts.values()]


def scored_on(record: Record) -> str:
    """Key of the clips and settings of an evaluation; only scores with equal keys share a table."""
    found, source = record.evaluation or {}, mapping(record.config.get("source"))
    clips = [record.world, found.get("clips"), seedless(source.get("config")), seedless(source.get("split"))]
    return json.dumps([*clips, record.protocol, found.get("settings")], sort_keys=True, default=str)


def summary(group: Group) -> list[dict[str, Any]]:
    """JSON rows: one for the learner and one for each control, with every score over seeds."""
    controls = dict.fromkeys(name for score in group.scores.values() for name in score.controls)
    about = {"world": group.first.world, "protocol": group.first.protocol, "seeds": len(group.scored)}
    about["runs"] = [record.run for record in group.scored]
    own = {key: asdict(score.value) for key, score in group.scores.items()}
    rows = [{"model": group.first.title, "control": None, **about, "scores": own}]
    for name in controls:
        beside = {key: asdict(one.controls[name]) for key, one in group.scores.items() if name in one.controls}
        rows.append({"model": group.first.title, "control": name, **about, "scores": beside})
    return rows


def seedless(config: Any) -> Any:
    """A configuration without its seeds, and without the run folder and hash of weights that depend on a seed."""
    if isinstance(config, Mapping):
        # Validation chooses a different step for each seed of an upstream run.
        left_out = {*BY_SEED, "step"} if config.get("best") is True else BY_SEED
        return {key: seedless(value) for key, value in config.items() if key not in left_out}
    if isinstance(config, list | tuple):
        return [seedless(value) for value in config]
    return config


def seeds(config: Any, path: str = "") -> tuple[tuple[str, Any], ...]:
    """Every seed in a configuration, with its path."""
    if not isinstance(config, Mapping):
        return ()
    seed = config.get("seed")
    own = ((f"{path}seed", seed if isinstance(seed, int | None) else str(seed)),) if "seed" in config else ()
    return own + tuple(seed for key, value in config.items() for seed in seeds(value, f"{path}{key}."))


def mapping(values: Any) -> Mapping[str, Any]:
    return values if isinstance(values, Mapping) else {}


def numbers(values: Any, names: Sequence[str] | None = None) -> dict[str, float]:
    """Finite numbers among named values; notes and missing scores are dropped."""
    return {
        str(name): float(value)
        for name, value in mapping(values).items()
        if (names is None or name in names)
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and representable(value)
    }
