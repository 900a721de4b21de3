"""One offline page of one or many runs: every figure and sound is embedded in the file, and nothing is fetched.

A content security policy in the page forbids the browser anything but what the file holds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sonarium.evaluation import meanings
from sonarium.evaluation.aggregate import Group, Record, Score, grouped, seeds, tables
from sonarium.files import as_utf8
from sonarium.measures.contract import Meaning
from sonarium.report import charts, evaluation_curves, learning
from sonarium.report.album import Medium, put, read_index
from sonarium.report.rendering import data_uri, rendered
from sonarium.report.style import png

__all__ = ["RunPage", "page"]

TYPES = {".png": "image/png", ".gif": "image/gif", ".wav": "audio/wav", ".mp4": "video/mp4"}
KINDS = {
    "codes": "Codes and factors",
    "reconstructions": "Reconstructions",
    "samples": "Samples of the prior",
    "songs": "Held-out clips",
    "grammar": "Grammar",
    "development": "Development by day",
    "map": "Maps of what was held out",
    "nearest": "Nearest neighbours",
    "futures": "Futures of held-out sound",
    "surprise": "Surprise",
    "between": "From one sound to another",
    "steering": "Steering by actions",
    "usage": "Use of the discrete states",
    "separation": "Held-out mixtures and their sources",
    "heard": "Nearest neighbours, to listen to",
    "episodes": "Episodes",
    "imagination": "Imagined and actual observations",
    "apart": "Separated sources of an episode",
}
PLANTED = (
    "Sounds and pictures were made from known factors. Each learner was trained on the clips alone, never on the "
    "factors. The page shows how well its codes recover the factors, and what the learner makes of held-out clips."
)
RECORDED = (
    "Each learner was trained on the sound of recordings alone, never on their labels. The page shows how well "
    "probes predict the labels from its codes, fitted on some recordings and scored on others, compared with "
    "plain features without any training; and which held-out clips have similar codes."
)
SEPARATED = (
    "Each separator was trained on mixtures at two ears whose sources are known. The page shows how close "
    "its estimates are to the true sources of held-out mixtures, compared with the mixture itself, spatial "
    "clustering without training, and ideal masks, with all of them to listen to."
)
ACTED = (
    "Each agent learnt from the rewards of its environment. The page shows how it learnt, its return in "
    "episodes with seeds that training does not use, compared with the untrained network and random actions, and "
    "films of some."
)
CURVES = "Score curves"
NO_MEDIA = "There are no pictures and sounds: they are made from held-out clips when training ends."
NO_FILMS = "There are no films: `sonarium watch RUN` makes them."
METRICS = (
    "Each metric over training steps; every point is the mean since the point before. Dotted lines are chance, "
    "lines with dots the validation split."
)
MOST_LINES = 7
"""Maximum number of seeds whose curves are drawn; more could not be distinguished."""


@dataclass(frozen=True)
class RunPage:
    """What a page needs of a run: plain values, and its media folder."""

    name: str
    model: str
    world: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: charts.Records
    scores: Mapping[str, Any] | None
    """Contents of scores.json, in this format or an earlier one; None if not scored."""
    media: Path | None
    warnings: Sequence[str] = ()
    planted: bool = True
    """Whether clips were generated from known factors; otherwise factors are labels of recordings."""
    acts: bool = False
    """Whether the run is of an agent, which learns in an environment instead of from clips."""
    separates: bool = False
    """Whether the run is of a separator of mixtures."""
    clock: charts.Records = ()
    """Number of items of the source so far at some steps, and where known the seconds."""
    suite: Mapping[str, Any] = field(default_factory=dict)
    """Contents of suite.json: results of an agent and others in settings of a suite; empty if not played."""

    @cached_property
    def record(self) -> Record:
        return Record(self.name, self.model, self.world, self.config, self.scores)


@dataclass(frozen=True)
class Shown:
    """A medium with its file embedded as a data URI."""

    medium: Medium
    uri: str


@dataclass(frozen=True)
class Drawn:
    """A chart of training."""

    title: str
    caption: str
    uri: str
    folded: bool = False
    """Whether it is collapsed until requested."""


@dataclass(frozen=True)
class Played:
    """Results of an agent and others in settings of a suite."""

    names: tuple[str, ...]
    """Names of the measures."""
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    """Setting, agent and values."""
    note: str


@dataclass
class Card:
    """One card: pictures, and the sounds that they show."""

    pictures: list[Shown] = field(default_factory=list)
    sounds: list[Shown] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """A group of runs, ready to be laid out."""

    anchor: str
    title: str
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    suite: Played | None
    training: tuple[Drawn, ...]
    parts: tuple[tuple[str, tuple[Card, ...]], ...]
    tables: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


def page(runs: Sequence[RunPage], out: Path) -> None:
    """Write one HTML file of these runs; those that differ only in their seed are shown as one."""
    if not runs:
        raise ValueError("a page needs at least one run: give the run folders that it should show")
    groups, by_record = grouped([run.record for run in runs]), {id(run.record): run for run in runs}
    anchors = {id(group): f"run-{number + 1}" for number, group in enumerate(groups)}
    controls = {name for run in runs for name in (run.scores or {}).get("controls", {})}
    sections = [
        section(group, [by_record[id(record)] for record in group.records], anchors[id(group)]) for group in groups
    ]
    text = rendered(
        "page.html",
        {"control": meanings.control, "number": number_text, "bar": bar},
        title=sections[0].title if len(sections) == 1 else f"{len(runs)} runs side by side",
        tables=tables(groups),
        compared=compared([(group, [by_record[id(record)] for record in group.records]) for group in groups]),
        sections=sections,
        anchor=lambda group: anchors[id(group)],
        lead=" ".join(
            lead for lead in (PLANTED, RECORDED, SEPARATED, ACTED) if lead in {lead_of(run) for run in runs}
        ),
        explained=meanings.explained(controls),
    )
    put(out, as_utf8(text))


def lead_of(run: RunPage) -> str:
    if run.acts or run.separates:
        return ACTED if run.acts else SEPARATED
    return PLANTED if run.planted else RECORDED


def title(group: Group) -> str:
    return f"{group.first.title} on {group.first.world}"


def number_text(value: float, meaning: Meaning) -> str:
    """Format a score: bounded ones with two decimals, counts as integers."""
    whole = value == round(value) and not meaning.bounded
    text = f"{value:,.0f}" if whole else f"{value:z.2f}" if abs(value) < 100 else f"{value:,.1f}"
    return text.replace("-", "−")


def bar(score: Score) -> dict[str, Any] | None:
    """Positions of a bounded score, its interval and its controls on a bar from 0 to 100; None for an unbounded
    score."""
    if score.meaning.high is None:
        return None
    low, high = score.meaning.low or 0.0, score.meaning.high

    def at(value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 1)

    value = score.value
    ends = None if value.low is None or value.high is None else (at(value.low), at(value.high))
    beside = [(meanings.control(name), at(one.mean)) for name, one in score.controls.items()]
    return {"mean": at(value.mean), "ends": ends, "controls": beside}


def section(group: Group, runs: Sequence[RunPage], anchor: str) -> Section:
    """Section of runs that differ only in their seed; the first is shown in full."""
    first = runs[0]
    warned = [f"{run.name}: {said}" for run in runs for said in run.warnings]
    named = [seeds(run.config) for run in runs]
    if len(runs) > 1 and len(set(named)) < len(named):
        warned.append("Some of these runs have the same seeds; each seed is counted once.")
    media, missing = cards(first)
    if not media:
        warned.append(NO_FILMS if first.acts else NO_MEDIA)
    details = [("Configuration", tuple(flat(first.config))), ("Environment", tuple(flat(first.environment)))]
    curves = [
        Card([Shown(Medium("picture", "", title, caption, ""), uri(png(drawn), ".png"))])
        for title, caption, drawn in evaluation_curves.drawn([record.evaluation or {} for record in group.scored])
    ]
    return Section(
        anchor=anchor,
        title=title(group),
        facts=tuple(facts(runs)),
        warnings=tuple(warned + missing),
        suite=played(first.suite),
        training=tuple(training(runs)),
        parts=((CURVES, tuple(curves)), *media) if curves else media,
        tables=tuple((name, rows) for name, rows in details if rows),
    )


def played(suite: Mapping[str, Any]) -> Played | None:
    """Table of results in a suite; None if nothing was played."""
    settings = suite.get("suite", {})
    if not settings:
        return None
    said = suite.get("measures", {})
    names = tuple(dict.fromkeys(name for agents in settings.values() for own in agents.values() for name in own))
    rows = tuple(
        (setting, agent, tuple(value_text(own.get(name, {})) for name in names))
        for setting, agents in settings.items()
        for agent, own in agents.items()
    )
    told = "; ".join(f"{name}: {said[name]}" for name in names if name in said)
    note = (
        f"{suite.get('episodes', 0):,} held-out episodes each, after {suite.get('step', 0):,} steps"
        f"{', with sampled actions' if suite.get('sampled') else ''}; brackets: 95 % interval over episodes. "
        f"{told}."
    )
    return Played(names, rows, note)


def value_text(value: Mapping[str, float | None]) -> str:
    """Format a mean with its interval."""
    mean, *ends = (
        None if (one := value.get(name)) is None else f"{one:z.2f}".replace("-", "−")
        for name in ("mean", "low", "high")
    )
    if mean is None:
        return "–"
    return mean if None in ends else f"{mean} [{', '.join(map(str, ends))}]"


def training(runs: Sequence[RunPage]) -> Iterator[Drawn]:
    """Charts of training: for agents, of all seeds together, against environment steps and time."""
    if runs[0].acts:
        for one in learning.charts([seed_of(run) for run in runs]):
            yield Drawn(one.title, one.caption, uri(png(one.figure), ".png"), one.folded)
        return
    figure = charts.curves({run.name: run.metrics for run in told_apart(runs[:MOST_LINES])})
    if figure is not None:
        yield Drawn("Training curves", METRICS, uri(png(figure), ".png"))


def told_apart(runs: Sequence[RunPage]) -> list[RunPage]:
    """Number the names of runs whose folders have the same name."""
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else replace(run, name=f"{run.name} ({names[: at + 1].count(run.name)})")
        for at, run in enumerate(runs)
    ]


def seed_of(run: RunPage) -> learning.Seed:
    return learning.Seed(run.metrics, run.clock)


def compared(groups: Sequence[tuple[Group, Sequence[RunPage]]]) -> tuple[tuple[str, Drawn], ...]:
    """Returns of all agents by environment, where there are several agents."""
    worlds: dict[str, dict[str, list[learning.Seed]]] = {}
    for number, (group, runs) in enumerate(groups):
        if runs[0].acts:
            own = worlds.setdefault(group.first.world, {})
            name = group.first.title
            own[f"{name} ({runs[0].name})" if name in own else name or str(number)] = list(map(seed_of, runs))
    drawn = []
    for world, agents in worlds.items():
        figure = learning.beside_each_other(agents) if len(agents) > 1 else None
        if figure is not None:
            drawn.append((world, Drawn("Returns", learning.BESIDE, uri(png(figure), ".png"))))
    return tuple(drawn)


def facts(runs: Sequence[RunPage]) -> list[tuple[str, str]]:
    """Short facts about the runs, as (name, value)."""
    first, names = runs[0], ", ".join(run.name for run in runs)
    numbers = ", ".join(
        " ".join(
            f"(upstream {value})" if "upstream" in place else str(value) for place, value in seeds(run.config)
        )
        for run in runs
    )
    several = "s" if len(runs) > 1 else ""
    said = [(f"run{several}", names), (f"seed{several}", numbers)]
    if first.metrics:
        steps = f"{max(record['step'] for record in first.metrics):,.0f}"
        if first.acts and first.clock:
            steps += f" updates, {first.clock[-1]['items']:,.0f} of the environment"
        if first.scores and first.scores.get("best"):
            steps += ", scored with the weights that were best in validation"
        said.append(("steps", steps))
    elif first.scores and first.scores.get("step") == 0:
        said.append(("steps", "0: untrained"))
    if first.scores and "clips" in first.scores:
        what = "episodes" if first.acts else "held-out clips"
        said.append(("scored on", f"{first.scores['clips']:,} {what}"))
    for name, key in (("split", "split"), ("probes", "asked")):
        if first.scores and key in first.scores:
            said.append((name, str(first.scores[key])))
    if device := first.environment.get("device"):
        said.append(("device", str(device)))
    return [(name, value) for name, value in said if value.strip(", ")]


def cards(run: RunPage) -> tuple[tuple[tuple[str, tuple[Card, ...]], ...], list[str]]:
    """Media of a run by kind and card, and messages on missing files."""
    if run.media is None:
        return (), []
    parts: dict[str, dict[str, Card]] = {}
    missing = []
    for medium in read_index(run.media):
        path = run.media / medium.file
        if not path.is_file() or path.suffix not in TYPES:
            missing.append(f"{medium.title}: '{path}' is missing; make the pictures anew.")
            continue
        kind = medium.group.split("/")[0]
        card = parts.setdefault(KINDS.get(kind, kind.capitalize()), {}).setdefault(medium.group, Card())
        into = card.sounds if medium.kind == "sound" else card.pictures
        into.append(Shown(medium, uri(path.read_bytes(), path.suffix)))
    return tuple((name, tuple(found.values())) for name, found in parts.items()), missing


def uri(content: bytes, suffix: str) -> str:
    return data_uri(content, TYPES[suffix])


def flat(values: Any, path: str = "") -> list[tuple[str, str]]:
    """Flatten nested values to pairs of a dotted name and a text."""
    if isinstance(values, Mapping) and values:
        return [
            line for key, value in values.items() for line in flat(value, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(values, list | tuple):
        return [(path, ", ".join(str(value) for value in values))]
    return [(path, str(values))] if path else []
