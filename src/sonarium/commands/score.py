"""`sonarium score RUN…`: how well the codes of runs recover the planted causes, or tell the labels of recordings.

Each run's folder gets its `scores.json`. Models with one code a clip are judged by measures of disentanglement,
those whose codes are frames at a rate by what probes and comparisons find in them; so is any model of recordings,
where no cause was planted, by its code of each piece. `--json` prints one object:

    protocol  standard or syntone
    runs      what was written, a run each: run, config, protocol, step, clips, scores (name: number), controls
              (by name, likewise), seeds, and likelihood (elbo, iwae) where the model has one; of frames also
              settings, split and asked (in words), details (of each score), curves (few-labels/LABEL and
              errors/LABEL, for scores and each control) and notes (what was not asked, and why)
    summary   a row for each configuration and one for each of its controls: model; control, null or its name;
              world, with its folder where it has one; protocol; seeds, how many; runs; scores (name: mean, std,
              low, high, count), where low and high are the ends of the 95 % interval over seeds, null where
              there is one seed
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from sonarium.commands.faults import UsageError
from sonarium.commands.flags import parse
from sonarium.commands.progress import bars, plainly
from sonarium.commands.scoretable import show
from sonarium.evaluation.config import JudgingConfig
from sonarium.files import write_whole
from sonarium.models.contract import Density, Encoder, FrameEncoder
from sonarium.models.framing import in_frames
from sonarium.runs.assemble import Plan, Trained, fresh, open_run, read_plan, world_of
from sonarium.training.engine import choose_device
from sonarium.training.run import Run
from sonarium.worlds.recordings.world import Recordings

UNTRAINED_SEED = 1_000_003
"""Added to a run's seed for the weights of its untrained control."""


@dataclass(frozen=True)
class ScoreFlags:
    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUNS…")]
    """Run folders; those that differ in nothing but their seed share a column with an interval."""
    protocol: Literal["standard", "syntone"] = "standard"
    """standard: each score as its paper defines it. syntone: as SynTone's evaluator called them."""
    draws: int = 64
    """Samples a clip for the importance-weighted bound of the likelihood."""
    judging: JudgingConfig = JudgingConfig()
    device: str = "cpu"
    """Device to compute on: cpu, cuda or auto."""
    json: bool = False
    """Print JSON instead of a table."""


Progress = Callable[[str, int, int], None]


def main(arguments: list[str]) -> None:
    flags = parse(ScoreFlags, arguments, "score", "How well the codes of runs recover the planted causes.")
    if not flags.runs:
        raise UsageError("no run to score: name one or more run folders")
    if flags.draws < 1:
        raise UsageError(f"--draws {flags.draws}: a bound needs at least one sample a clip")
    device = choose_device(flags.device)
    folders = list({folder.resolve(): folder for folder in flags.runs}.values())
    for folder in folders:
        # Better refused now than after an hour of scoring the others.
        read_plan(Run.read(folder))
    records = []
    with bars() as progress:
        for done, folder in enumerate(folders, start=1):
            progress("scoring runs", done - 1, len(folders), {})
            trained = open_run(folder, plainly(progress))
            record = scored(trained, flags, device, plainly(progress))
            name = "scores-syntone.json" if record["protocol"] == "syntone" else "scores.json"
            write_whole(folder / name, json.dumps(record, indent=2) + "\n")
            records.append({"run": str(folder), "config": trained.run.config, **record})
            progress("scoring runs", done, len(folders), {})
    rows = [row for group in grouped(records) for row in summarised(group)]
    if flags.json:
        print(json.dumps({"protocol": flags.protocol, "runs": records, "summary": rows}, indent=2))
    else:
        show(rows, Console())
        for record in records:
            if asked := record.get("asked"):
                print(f"{record['run']}: {record['split']}. Probes are asked for {asked}.")
            for note in record.get("notes", ()):
                print(f"{record['run']}: {note}")


def scored(trained: Trained, flags: ScoreFlags, device: str, progress: Progress) -> dict[str, Any]:
    """What `scores.json` holds: the scores of the run, of its controls, and bounds of its likelihood."""
    if not isinstance(trained.learner, Encoder | FrameEncoder):
        raise ValueError(f"'{trained.run.folder}' holds a {trained.plan.model}, which has no codes to score")
    if not len(trained.parts.test):
        raise ValueError(f"'{trained.run.folder}' kept nothing for judging (--test 0): there is nothing to score")
    if isinstance(trained.learner, FrameEncoder) or isinstance(trained.world, Recordings):
        record = judged(trained, flags.judging, device, progress)
    else:
        record = recovered(trained, flags.protocol, device)
    if isinstance(trained.learner, Density):
        # The measures take long to read, which a person who asks for help should not wait for.
        from sonarium.evaluation.likelihood import bounds
        from sonarium.evaluation.recovery import batches

        held_out = batches(trained.world, trained.parts.test, trained.learner)
        record["likelihood"] = bounds(trained.learner, held_out, flags.draws, trained.plan.fit.seed)
    return record


def recovered(trained: Trained, protocol: Literal["standard", "syntone"], device: str) -> dict[str, Any]:
    """The same of a run whose sounds were made from causes."""
    from sonarium.evaluation.recovery import recovery
    from sonarium.measures.disentanglement.table import FEWEST_CLIPS

    seed, test = trained.plan.fit.seed, trained.parts.test
    if len(test) < FEWEST_CLIPS:
        raise ValueError(
            f"'{trained.run.folder}' holds out {len(test)} clips, too few to measure anything: train on a larger "
            f"world or with a larger --test, so that at least {FEWEST_CLIPS} are held out"
        )
    found = recovery(
        trained.learner, untrained(trained, device), trained.world, trained.parts.train, test, protocol, seed
    )
    return {
        "protocol": protocol,
        "step": trained.step,
        "clips": len(test),
        "scores": found.pop("scores"),
        "controls": found,
        "seeds": 1,
    }


def judged(trained: Trained, config: JudgingConfig, device: str, progress: Progress) -> dict[str, Any]:
    """The same of a run whose codes are frames, or are taken as such."""
    from sonarium.evaluation.judging import judge

    world, seed = trained.world, trained.plan.fit.seed
    control = in_frames(untrained(trained, device), world.signal)
    encoder = in_frames(trained.learner, world.signal)
    heard = world.entire() if isinstance(world, Recordings) else world
    found = judge(encoder, control, heard, trained.parts, config, seed, device, progress)
    scores, details, curves, notes = (found.pop(name) for name in ("scores", "details", "curves", "notes"))
    if not scores:
        reasons = (
            "; ".join(notes) or "its clips have no labels: name folders after what they hold, or give --pattern"
        )
        raise ValueError(f"nothing can be asked of '{trained.run.folder}': {reasons}")
    return {
        "protocol": f"{config.probe} probes" + (", means of clips removed" if config.remove_mean else ""),
        "step": trained.step,
        "clips": len(trained.parts.test),
        "scores": scores,
        "controls": found,
        "seeds": 1,
        "settings": asdict(config),
        "split": trained.split_in_words(),
        "asked": in_short(details),
        "details": details,
        "curves": curves,
        "notes": notes,
    }


def in_short(details: dict[str, Any]) -> str:
    """Which label was asked of whom."""
    of: dict[str, list[str]] = {}
    for key, told in details.items():
        names, label = of.setdefault(told["asked_of"], []), key.partition("/")[2]
        if label not in names:
            names.append(label)
    return "; ".join(f"{', '.join(names)} of {whom}" for whom, names in of.items())


def untrained(trained: Trained, device: str) -> Learner:
    """The same network before it learnt, with the front end as it is now; both are made ready to encode."""
    plan = seeded(trained.plan, trained.plan.fit.seed + UNTRAINED_SEED)
    control = fresh(plan, trained.world.signal)
    control.front.load_state_dict(trained.learner.front.state_dict())
    trained.learner.to(device).eval()
    return control.to(device).eval()


def seeded(plan: Plan, seed: int) -> Plan:
    """The same plan with another seed for its weights."""
    return replace(plan, fit=replace(plan.fit, seed=seed))


def grouped(records: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs of one configuration together, whatever their seed; a seed that comes twice tells nothing new."""
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for record in records:
        fit = record["config"]["fit"]
        alike = record["config"] | {"fit": fit | {"seed": None}, "step": record["step"]}
        groups.setdefault(json.dumps(alike, sort_keys=True), {}).setdefault(fit["seed"], record)
    return [list(group.values()) for group in groups.values()]


def summarised(group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for the learner and one for each control; each score a mean with its 95 % interval over seeds."""
    from sonarium.measures.statistics import interval

    first = group[0]["config"]
    model = first["model"] if first["preset"] == "default" else f"{first['model']} ({first['preset']})"
    rows = []
    for control in (None, *group[0]["controls"]):
        found = [record["scores"] if control is None else record["controls"][control] for record in group]
        if control is None:
            found = [own | likelihood(record) for own, record in zip(found, group, strict=True)]
        shared = [name for name in found[0] if name != "notes" and all(name in scores for scores in found)]
        rows.append(
            {
                "model": model,
                "control": control,
                "world": world_of(first),
                "protocol": group[0]["protocol"],
                "seeds": len(group),
                "runs": [record["run"] for record in group],
                "scores": {name: asdict(interval([scores[name] for scores in found])) for name in shared},
            }
        )
    return rows


def likelihood(record: dict[str, Any]) -> dict[str, float]:
    return record.get("likelihood", {})
