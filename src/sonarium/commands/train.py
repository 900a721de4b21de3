"""`sonarium train MODEL`: train in a run folder; the same command again resumes.

`--json` prints one object: `run`, the folder; `step`; and the metrics of the last record by their names.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sonarium.agents.rollout import RolloutConfig
from sonarium.catalogue import AGENTS, FRONT_ENDS, MODELS, WORLDS, Kind
from sonarium.commands.faults import UsageError, say
from sonarium.commands.flags import Group, flag, leading_word, parse_groups, wants_help
from sonarium.commands.progress import bars
from sonarium.features.contract import FrontEndConfig
from sonarium.runs.build import Opened, open_run, upstream_of
from sonarium.runs.plan import CODES, ClipsPlan, Plan, RolloutsPlan, SplitConfig
from sonarium.runs.train import train
from sonarium.training.clips import ClipsConfig
from sonarium.training.engine import ProcessLost
from sonarium.training.fit import LoopConfig
from sonarium.training.journal import read_metrics
from sonarium.training.launch import LOST, Failed, end_with_launcher, launch, launched, started
from sonarium.worlds.codes import CodesConfig
from sonarium.worlds.contract import SignalKind

EXAMPLE = "beta-vae"
"""Whose flags are shown where no model was named."""
TRAINING = ("batch_size", "seed", "precision", "test", "test_groups", "train_on")
"""Flags of training that matter first."""
DEFAULT_WORLD: dict[SignalKind, str] = {"wave": "tones", "picture": "digits"}


@dataclass(frozen=True)
class TrainFlags:
    run: Path
    """Run folder, which holds all that this training makes; give the same command again to resume in it."""
    preset: str = "default"
    """Preset of the model to start from; see `sonarium list`."""
    steps: int = 2000
    """Training steps in all; a larger number later goes on from where the run stands."""
    device: str = "auto"
    """Device: cpu, cuda, or auto for the best there is."""
    processes: int = 1
    """Number of processes on this machine, each with its part of every batch (data-parallel training); leave it
    out where torchrun or srun starts them."""
    nodes: int | None = None
    """Number of machines on which torchrun or srun starts processes; found in the environment if left out."""
    json: bool = False
    """Print the last metrics as JSON."""


@dataclass(frozen=True)
class ClipsFlags(TrainFlags):
    world: str = "tones"
    """World that the clips come from; see `sonarium list`."""
    codes: Path | None = None
    """Run folder whose codes to train on, in place of a world."""
    front: str | None = None
    """Front end, in place of the preset's; see `sonarium list`."""


def main(arguments: list[str]) -> None:
    model, rest = leading_word(arguments)
    if model is None and not wants_help(rest):
        raise UsageError(f"train which model? choose one of {', '.join([*MODELS, *AGENTS])}")
    flags, plan = plan_from(model or EXAMPLE, rest, named=model is not None)
    if flags.steps < 1:
        raise UsageError(f"--steps {flags.steps}: train for at least 1 step")
    place = started()
    if flags.processes < 1:
        raise UsageError(f"--processes {flags.processes}: train in at least 1 process")
    if flags.processes > 1 and place.by == "itself":
        in_processes(["train", *arguments], flags.processes)
        return
    if flags.processes not in (1, place.here):
        raise UsageError(f"--processes {flags.processes}, but {place.by} started {place.here} here: leave it out")
    if launched():
        end_with_launcher()
    try:
        with bars() as progress:
            first = train(plan, flags.run, flags.steps, flags.device, flags.nodes, progress, say)
    except ProcessLost:
        if launched():
            # Who launched this process says which other one it was.
            raise SystemExit(LOST) from None
        raise
    if first:
        report_end(flags, plan)


def in_processes(command: list[str], processes: int) -> None:
    """Train in several processes, of which the first says what there is to say."""
    failed = launch(command, processes)
    if failed is not None:
        # One that was killed in the middle of a progress bar left the terminal without its cursor.
        Console(stderr=True).show_cursor()
        explain(failed, processes)


def explain(failed: Failed, processes: int) -> None:
    """One line about the process that failed, if it has not said it itself; ends with its exit code."""
    if 0 < failed.code != LOST:
        if failed.rank == 0:
            raise SystemExit(failed.code)
        if failed.last_line.startswith("sonarium: "):
            say(failed.last_line)
            raise SystemExit(failed.code)
        say(failed.errors.rstrip())
    raise OSError(
        f"process {failed.rank} of {processes} {failed.how}; the others were ended, and the same command resumes "
        "from the last checkpoint"
    )


def plan_from(model: str, arguments: list[str], named: bool = True) -> tuple[TrainFlags, Plan]:
    """The flags that decide which others there are come first; then all are parsed together."""
    if model in AGENTS:
        return agent_plan(model, arguments)
    entry = selected(MODELS, model, "model")
    preset = flag(arguments, "preset", "default")
    if preset not in entry.presets:
        raise UsageError(f"no preset of {model} is called '{preset}': choose one of {', '.join(entry.presets)}")
    upstream = flag(arguments, "codes", "")
    world = CODES if upstream else flag(arguments, "world", DEFAULT_WORLD.get(entry.kinds[0], ""))
    below = open_run(Path(upstream)) if upstream else None
    if not world and not wants_help(arguments):
        raise UsageError(f"{model} trains on the codes of another run: give --codes RUN")
    config, kind, about, main_flags = source_of(world, below)
    if kind not in entry.kinds:
        raise UsageError(f"{model} does not train on {kind}s, which {world} gives: {suiting(model)}")
    learner = with_front(entry.presets[preset](kind), flag(arguments, "front", ""), model)
    clips = ClipsConfig(cut=entry.cut, drop_last=entry.drop_last)
    groups = [
        Group(model, learner, entry.main or None),
        Group(world or CODES, config, main_flags),
        Group("training", clips, TRAINING),
        Group("training", SplitConfig() if below is None else inherited(below), TRAINING),
        Group("training", LoopConfig(), TRAINING),
    ]
    description = f"Train {model} ({entry.summary}) on {about}."
    if not named:
        description = f"No model is named: these are the flags of {model}. {description}"
    flags, made = parse_groups(ClipsFlags, groups, arguments, f"train {model}", description)
    source = ClipsPlan(world, located(made[1]), made[2], made[3])
    plan = Plan(model, preset, made[0], source, made[4], None if below is None else upstream_of(below))
    return flags, plan


def agent_plan(model: str, arguments: list[str]) -> tuple[TrainFlags, Plan]:
    """The plan of an agent that learns in an environment."""
    entry = AGENTS[model]
    preset = flag(arguments, "preset", "default")
    if preset not in entry.presets:
        raise UsageError(f"no preset of {model} is called '{preset}': choose one of {', '.join(entry.presets)}")
    groups = [
        Group(model, entry.presets[preset](), entry.main or None),
        Group("environment", RolloutConfig()),
        Group("training", LoopConfig(), TRAINING),
    ]
    description = f"Train {model} ({entry.summary}) in an environment."
    flags, made = parse_groups(TrainFlags, groups, arguments, f"train {model}", description)
    return flags, Plan(model, preset, made[0], RolloutsPlan(made[1]), made[2])


def source_of(world: str, below: Opened | None) -> tuple[Any, SignalKind, str, tuple[str, ...] | None]:
    """The configuration of what is trained on, the kind of its signal, what it is in words, and its main flags."""
    if below is not None:
        return CodesConfig(), "codes", f"the codes of {below.run.folder} ({below.plan.model})", None
    if not world:
        return CodesConfig(), "codes", "the codes of another run", None
    entry = selected(WORLDS, world, "world")
    return entry.Config(), entry.kind, f"{world} ({entry.summary})", entry.main


def suiting(model: str) -> str:
    """What to give to a model instead."""
    kinds = MODELS[model].kinds
    worlds = [name for name, other in WORLDS.loadable().items() if other.kind in kinds]
    said = [f"--world {', '.join(worlds)}"] if worlds else []
    return f"take {' or '.join([*said, *(['--codes RUN'] if 'codes' in kinds else [])])}"


def inherited(below: Opened) -> SplitConfig:
    """The split of the upstream run: what it was trained on must not be tested on."""
    own = below.plan.clips.split
    return dataclasses.replace(own, split_seed=below.plan.seed if own.split_seed is None else own.split_seed)


def with_front(config: Any, name: str, model: str) -> Any:
    """The configuration with another front end."""
    if not name:
        return config
    fields = [field.name for field in dataclasses.fields(config)]
    own = [field for field in fields if isinstance(getattr(config, field), FrontEndConfig)]
    if not own:
        raise UsageError(f"--front {name}: {model} has no front end that can be exchanged")
    return dataclasses.replace(config, **{own[0]: selected(FRONT_ENDS, name, "front end").Config()})


def selected(kind: Kind, name: str, what: str) -> Any:
    try:
        return kind.select(name, what)
    except ValueError as error:
        raise UsageError(str(error)) from None


def located(config: Any) -> Any:
    """The same from wherever it is read: a path becomes absolute."""
    paths = {
        field.name: str(Path(value).expanduser().absolute())
        for field in dataclasses.fields(config)
        if field.name == "path" and (value := vars(config)["path"]) is not None
    }
    return dataclasses.replace(config, **paths)


def report_end(flags: TrainFlags, plan: Plan) -> None:
    records = read_metrics(flags.run / "metrics.jsonl")
    newest: Mapping[str, Any] = records[-1] if records else {"step": flags.steps}
    if flags.json:
        print(json.dumps({"run": str(flags.run), **newest}))
        return
    losses = ", ".join(f"{name} {value:.4g}" for name, value in newest.items() if name != "step")
    print(f"{flags.run}: step {newest['step']}: {losses}")
    tested = not isinstance(plan.source, ClipsPlan) or plan.source.tested
    scoring = f"sonarium score {flags.run}, then " if tested else ""
    print(f"next: {scoring}sonarium report {flags.run} --out page.html")
