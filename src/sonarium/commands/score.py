"""`sonarium score RUN…`: how well the codes of runs recover planted factors, or predict the labels of recordings.

Each run's folder gets its `scores.json`. Codes of clips whose factors were planted are scored by measures of
disentanglement; codes that are frames at a rate, and those of recordings, by probes and comparisons.
`--json` prints one object:

    protocol  standard or syntone
    runs      what was written, per run: run, config, format, protocol, step, clips, scores (name: number),
              controls (by name, likewise), seeds, settings, planted, split (in words), and likelihood (elbo, iwae)
              where the model has one; notes (what was left out, and why); of factors also meanings (of scores of
              other packages) and noise (of each score mean, std, low, high and count over random orders of the
              clips: 95 % of codes that know nothing lie between low and high); of labels also asked (in words),
              details (of each score) and curves (few-labels/LABEL and errors/LABEL, for scores and each control)
    summary   a row for each configuration and one for each of its controls: model; control, null or its name;
              world, with its folder where it has one; protocol; seeds, how many; runs; scores (name: mean, std,
              low, high, count), where low and high are the ends of the 95 % interval over seeds, null where
              there is one seed
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from sonarium.catalogue import faults
from sonarium.commands.faults import UsageError, say, tell
from sonarium.commands.flags import parse
from sonarium.commands.progress import bars, plainly
from sonarium.commands.scoretable import show
from sonarium.evaluation.aggregate import Record, grouped, summary, tables
from sonarium.evaluation.config import EvaluationConfig
from sonarium.files import write_whole
from sonarium.runs.build import open_plan, open_run
from sonarium.runs.plan import summary as plan_summary
from sonarium.runs.score import score
from sonarium.training.engine import choose_device


@dataclass(frozen=True)
class ScoreFlags:
    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUNS…")]
    """Run folders; those that differ in nothing but their seed share a column with an interval."""
    evaluation: EvaluationConfig = EvaluationConfig()
    device: str = "cpu"
    """Device: cpu, cuda or auto."""
    json: bool = False
    """Print JSON instead of a table."""


def main(arguments: list[str]) -> None:
    flags = parse(ScoreFlags, arguments, "score", "Evaluate the codes of runs beside their controls.")
    if not flags.runs:
        raise UsageError("no run to score: name one or more run folders")
    device = choose_device(flags.device)
    folders = list({folder.resolve(): folder for folder in flags.runs}.values())
    for folder in folders:
        # Better refused now than after an hour of scoring the others.
        open_plan(folder)
    records = []
    with bars() as progress:
        for done, folder in enumerate(folders, start=1):
            progress("scoring runs", done - 1, len(folders), {})
            opened = open_run(folder, plainly(progress), say)
            found = score(opened, flags.evaluation, device, plainly(progress))
            name = "scores-syntone.json" if found["protocol"] == "syntone" else "scores.json"
            write_whole(folder / name, json.dumps(found, indent=2) + "\n")
            config = opened.plan.recorded()
            told = plan_summary(config)
            records.append(Record(str(folder), told.title, told.source, config, found))
            progress("scoring runs", done, len(folders), {})
    for fault in faults():
        say(f"passed over: {fault}")
    groups = grouped(records)
    if flags.json:
        runs = [{"run": record.run, "config": record.config, **(record.evaluation or {})} for record in records]
        rows = [row for group in groups for row in summary(group)]
        print(json.dumps({"protocol": flags.evaluation.protocol, "runs": runs, "summary": rows}, indent=2))
        return
    show(tables(groups), Console())
    for record in records:
        found = record.evaluation or {}
        if asked := found.get("asked"):
            tell(f"{record.run}: {found['split']}. Probes predict {asked}.")
        for note in found.get("notes", ()):
            tell(f"{record.run}: {note}")
