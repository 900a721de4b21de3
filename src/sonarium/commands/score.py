"""`sonarium score RUN…`: how well the codes of runs recover planted factors, or predict the labels of recordings.

`--encoder FILE` evaluates an encoder from a file likewise, on the clips and splits of the runs, or without a run
on a world: `--encoder FILE --world recordings --path FOLDER`. Each run's folder gets its `scores.json`; the
encoder gets a run folder with `--out`. Codes of clips whose factors were planted are scored by measures of
disentanglement; codes that are frames at a rate, and those of recordings, by probes and comparisons.
`--suite NAME…` plays an agent of sonarium/Seek-v0 in settings of seek-suite, by its most probable actions, beside
the scripted agents, and writes suite.json; with `--json` it prints `suite`: by run and setting the `agents` of
`sonarium play --json`. Without it an agent that was trained in a setting is played in that one after its score,
and `--json` has `suite` beside the rest.
`--separation` adds how an agent that hears with a separator separates and locates the sources in these episodes:
`separation`, of a run or by run and setting, has scores and those of controls (mean, std, low, high, count over
episodes), rank_correlation (of scores and return or sna over episodes, likewise; null where one does not vary),
windows, silent (those left out), and episodes (a row each, null where nothing could be measured).
`--json` prints one object otherwise:

    protocol  standard or syntone
    runs      what was written, per run: run, config, format, protocol, step, clips, scores (name: number),
              controls (by name, likewise), seeds, settings, planted, split (in words), and likelihood (elbo, iwae)
              where the model has one; best (true) with --best; notes (what was left out, and why); of factors also
              meanings (of scores of other packages) and noise (of each score mean, std, low, high and count over
              random orders of the clips: 95 % of codes that know nothing lie between low and high); of labels also
              asked (in words), details (of each score) and curves (few-labels/LABEL, errors/LABEL, and of
              forecasts horizons/KIND, for scores and each control)
    suite     of agents that were trained in a setting of seek-suite: by run and setting, as above
    summary   a row for each configuration and one for each of its controls: model; control, null or its name;
              world, with its folder where it has one; protocol; seeds, how many; runs; scores (name: mean, std,
              low, high, count), where low and high are the ends of the 95 % interval over seeds, null where
              there is one seed
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Column, Table

from sonarium.catalogue import WORLDS, faults
from sonarium.commands.faults import UsageError, say
from sonarium.commands.flags import Group, choose, flag, parse_groups
from sonarium.commands.progress import bars, plainly
from sonarium.commands.scoretable import show, show_heard
from sonarium.config import located
from sonarium.evaluation.aggregate import Record, grouped, summary, tables
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.episodes import Heard
from sonarium.files import printable, read_json, write_whole
from sonarium.rooms import SUITE
from sonarium.runs.build import Built, Opened, build, open_plan, open_run
from sonarium.runs.plan import ClipsPlan, default_plan, mapping
from sonarium.runs.plan import summary as plan_summary
from sonarium.runs.score import Shared, encoder_on, keep, score
from sonarium.training.engine import choose_device

if TYPE_CHECKING:
    # Deferred import: playing is slow to import, and `--help` should not wait for it.
    from sonarium.play.evaluate import Evaluation

FROM_FILE = "encoder"
"""Name in the catalogue of the model that is an encoder from a file."""


@dataclass(frozen=True)
class ScoreFlags:
    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUNS…")] = ()
    """Run folders; those that differ only in their random seed share a column with an interval."""
    world: str = ""
    """World to evaluate an --encoder on without a run, such as recordings; its flags are added here."""
    suite: tuple[str, ...] = ()
    """Settings of seek-suite, or all, in which to score agents that seek sounds, on held-out episodes; by default
    that of training; see `sonarium list`."""
    sampled: bool = False
    """In seek-suite, sample the actions of stochastic agents instead of taking the most probable ones."""
    best: bool = False
    """Use the weights that were best in validation; by default the newest."""
    out: Path | None = None
    """Run folder to write for an --encoder, which `report`, `encode`, `sonarium.load` and `train --codes`
    accept."""
    device: str = "cpu"
    """Device: cpu, cuda or auto."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class Asked:
    """What to evaluate, and with which settings."""

    flags: ScoreFlags
    evaluation: EvaluationConfig
    encoder: Any
    """Configuration of an encoder from a file; its `encoder` is empty if there is none."""
    source: ClipsPlan | None
    """Clips on which the encoder is evaluated without a run."""

    @property
    def folders(self) -> list[Path]:
        return list({folder.resolve(): folder for folder in self.flags.runs}.values())


@dataclass(frozen=True)
class Evaluated:
    """An evaluation, and where to write it."""

    record: Record
    built: Built
    folder: Path | None

    @property
    def setting(self) -> str | None:
        """The setting of seek-suite in which an agent was trained, if any."""
        from sonarium.play.suite import setting_of

        return setting_of(self.built) if isinstance(self.built, Opened) and self.built.clips is None else None


def asked_for(arguments: list[str]) -> Asked:
    world = flag(arguments, "world", "")
    try:
        # Any world will do as default: the settings of the encoder do not depend on it.
        plan = default_plan(FROM_FILE, world)
    except ValueError as error:
        raise UsageError(str(error)) from None
    source = plan.clips
    groups = [Group("evaluation", EvaluationConfig()), Group("encoder", plan.learner)]
    if world:
        groups += [Group(world, source.config, WORLDS[world].main), Group("split", source.split)]
    flags, made = parse_groups(
        ScoreFlags, groups, arguments, "score", "Evaluate the codes of runs beside their controls."
    )
    named = bool(made[1].encoder)
    if not flags.runs and not named:
        raise UsageError("no run to score: name one or more run folders, or an encoder with --encoder")
    if world and (flags.runs or not named):
        raise UsageError(f"--world {world} is for an --encoder without a run: leave out the one or the other")
    if flags.best and not flags.runs:
        raise UsageError("--best is of run folders: leave it out")
    if not flags.runs and not world:
        raise UsageError("--encoder without a run: say on which clips, as in --world recordings --path FOLDER")
    if flags.out is not None and not named:
        raise UsageError("--out is the run folder of an --encoder: name one, or leave --out out")
    own = replace(source, config=located(made[2], "path", "source"), split=made[3]) if world else None
    return Asked(flags, made[0], made[1], own)


def main(arguments: list[str]) -> None:
    asked = asked_for(arguments)
    device = choose_device(asked.flags.device)
    for folder in asked.folders:
        # Fail now, not after an hour of scoring the others.
        run, _ = open_plan(folder)
        if asked.flags.best:
            run.load_best()
    if asked.flags.suite:
        by_suite(asked)
        return
    with bars() as progress:
        records, unwritten, played = [], [], []
        for one in evaluated(asked, device, progress):
            records.append(one.record)
            unwritten += filter(None, [written(one)])
            if (setting := one.setting) is not None:
                assert isinstance(one.built, Opened), type(one.built)
                played.append(in_suite(one.built, [setting], asked, False, plainly(progress)))
            progress("scoring", len(records), max(len(records), len(asked.folders)), {})
    if asked.flags.sampled and not played:
        say("--sampled: no run was scored in a setting of seek-suite; give --suite NAME")
    for fault in faults():
        say(f"passed over: {fault}")
    print_scores(asked, records, played)
    if unwritten:
        raise OSError(f"the scores were printed, but not kept: {'; '.join(unwritten)}")


@dataclass(frozen=True)
class Played:
    """Results of a run in settings of seek-suite."""

    folder: Path
    step: int
    rows: "Mapping[str, Evaluation]"
    sampled: bool = False

    @property
    def agents(self) -> dict[str, Any]:
        """Scores of each agent, by setting."""
        return {name: one.as_json()["agents"] for name, one in self.rows.items()}

    @property
    def heard(self) -> dict[str, Heard]:
        """Separation and localisation by the agent, by setting, where they were measured."""
        from sonarium.play.suite import AGENT

        return {name: own for name, one in self.rows.items() if (own := one.heard(AGENT)) is not None}

    @property
    def separated(self) -> dict[str, Any]:
        return {name: one.as_json() for name, one in self.heard.items()}


def by_suite(asked: Asked) -> None:
    """Score agents in settings of seek-suite: a table for each run, with the scores saved in its folder."""
    names = list(SUITE) if "all" in asked.flags.suite else list(dict.fromkeys(asked.flags.suite))
    for name in names:
        choose("setting of seek-suite", name, (*SUITE, "all"))
    played = []
    for folder in asked.folders:
        with bars() as progress:
            opened = open_run(folder, plainly(progress), say, best=asked.flags.best)
            played.append(in_suite(opened, names, asked, asked.evaluation.separation, plainly(progress)))
        if not asked.flags.json:
            show_played(played[-1], Console())
    if asked.flags.json:
        apart = {str(one.folder): one.separated for one in played}
        found = suite_json(played) | ({"separation": apart} if asked.evaluation.separation else {})
        print(json.dumps(found, indent=2))
        return
    print_explained(asked, Console())


def in_suite(opened: Opened, names: Sequence[str], asked: Asked, separation: bool, progress: Any) -> Played:
    """Play a run in settings, and save its scores in its folder, beside those of other settings at the same step
    and with as many episodes."""
    from sonarium.play.evaluate import MEASURES
    from sonarium.play.suite import agent_in_suite

    folder, episodes = opened.run.folder, asked.evaluation.episodes
    sampled = asked.flags.sampled
    rows = agent_in_suite(opened, names, episodes, progress, separation, sampled)
    found = Played(folder, opened.step, rows, sampled)
    alike, before = {"step": opened.step, "episodes": episodes, "sampled": sampled}, read_suite(folder)
    # Before actions could be sampled, none were.
    same = all({"sampled": False, **before}.get(name) == value for name, value in alike.items())
    parts = {"suite": found.agents, "separation": found.separated}
    kept = {name: {**(mapping(before.get(name)) if same else {}), **own} for name, own in parts.items()}
    told = {name: own for name, own in kept.items() if own}
    write_whole(folder / "suite.json", json.dumps({**alike, "measures": MEASURES, **told}) + "\n")
    return found


def read_suite(folder: Path) -> Mapping[str, Any]:
    """Content of suite.json; empty if it is missing or damaged, since it is rewritten."""
    try:
        return mapping(read_json(folder / "suite.json"))
    except (OSError, ValueError):
        return {}


def suite_json(played: Sequence[Played]) -> dict[str, Any]:
    return {"suite": {str(one.folder): one.agents for one in played}}


def show_played(played: Played, console: Console) -> None:
    from sonarium.play.evaluate import MEASURES
    from sonarium.play.suite import BESIDE

    title = f"{printable(str(played.folder))}, step {played.step}{', sampled actions' if played.sampled else ''}"
    # Names are not truncated on a narrow terminal.
    named = (Column(no_wrap=True), Column(no_wrap=True, min_width=max(map(len, BESIDE))))
    table = Table(*named, *MEASURES, title=title, box=None)
    for name, one in played.rows.items():
        for number, (who, cells) in enumerate(one.rows()):
            table.add_row("" if number else name, who, *cells)
    console.print(table)
    if played.heard:
        show_heard(played.heard, title, console)


def print_explained(asked: Asked, console: Console) -> None:
    console.print(
        f"{asked.evaluation.episodes} held-out episodes each; brackets: 95 % confidence interval over episodes.",
        highlight=False,
    )


def evaluated(asked: Asked, device: str, progress: Any) -> Iterator[Evaluated]:
    """Evaluate the runs one after the other, and the encoder from a file once on each split."""
    shared, plain = Shared(), plainly(progress)
    named, splits = bool(asked.encoder.encoder), []
    for folder in asked.folders:
        opened = open_run(folder, plain, say, shared.worlds, asked.flags.best)
        yield Evaluated(*scored(opened, str(folder), asked, device, plain, shared), folder)
        if named:
            if opened.plan.upstream is not None:
                raise UsageError(
                    f"'{folder}' was trained on codes: --encoder takes sound; name the run that made them"
                )
            apart = [rows.tolist() for _, rows in opened.data.split.items()]
            if (opened.data.world, apart) not in splits:
                splits.append((opened.data.world, apart))
                out = asked.flags.out if len(splits) == 1 else None
                yield of_encoder(asked, opened.plan.clips, opened.plan.seed, out, device, plain, shared)
    if asked.flags.out is not None and len(splits) > 1:
        say(f"--out {asked.flags.out} has the encoder on the first of {len(splits)} splits")
    if asked.source is not None:
        yield of_encoder(asked, asked.source, 0, asked.flags.out, device, plain, shared)


def of_encoder(
    asked: Asked, source: ClipsPlan, seed: int, out: Path | None, device: str, progress: Any, shared: Shared
) -> Evaluated:
    built = build(encoder_on(source, asked.encoder, seed), progress=progress, worlds=shared.worlds)
    return Evaluated(*scored(built, asked.encoder.encoder, asked, device, progress, shared), out)


def scored(
    built: Built, name: str, asked: Asked, device: str, progress: Any, shared: Shared
) -> tuple[Record, Built]:
    found = score(built, asked.evaluation, device, progress, shared)
    config = built.plan.recorded()
    told = plan_summary(config)
    return Record(name, told.title, told.source, config, found), built


def print_scores(asked: Asked, records: list[Record], played: Sequence[Played]) -> None:
    groups = grouped(records)
    if asked.flags.json:
        runs = [{"run": record.run, "config": record.config, **(record.evaluation or {})} for record in records]
        rows = [row for group in groups for row in summary(group)]
        own = suite_json(played) if played else {}
        found = {"protocol": asked.evaluation.protocol, "runs": runs, "summary": rows, **own}
        print(json.dumps(found, indent=2))
        return
    console = Console()
    show(tables(groups), console)
    for note in notes(records):
        console.print(printable(note), markup=False, highlight=False)
    for one in played:
        console.print()
        show_played(one, console)
    if played:
        print_explained(asked, console)


def notes(records: list[Record]) -> Iterator[str]:
    """Notes on what probes predict, and on what was left out and why: each once, with its runs unless all."""
    runs: dict[str, list[str]] = {}
    for record in records:
        found = record.evaluation or {}
        predicted = f"{found['split']}. Probes predict {found['asked']}." if found.get("asked") else ""
        for note in filter(None, [predicted, *found.get("notes", ())]):
            runs.setdefault(note, []).append(record.run)
    for note, about in runs.items():
        yield note if len(about) == len(records) else f"{', '.join(about)}: {note}"


def written(one: Evaluated) -> str:
    """Write the scores to their run folder; return the error if that fails, since they are still to be printed."""
    scores, folder = one.record.evaluation or {}, one.folder
    if folder is None:
        return ""
    try:
        if not isinstance(one.built, Opened):
            keep(one.built, folder)
        name = "scores-syntone.json" if scores["protocol"] == "syntone" else "scores.json"
        write_whole(folder / name, json.dumps(scores, indent=2) + "\n")
    except (OSError, ValueError) as error:
        return str(error)
    return ""
