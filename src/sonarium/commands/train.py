"""`sonarium train MODEL`: train in a run folder; the same command again resumes.

`--json` prints one object: `run`, the folder; `step`; and the metrics of the last record by their names.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from sonarium.agents.rollout import RolloutConfig
from sonarium.catalogue import AGENTS, MODELS, WORLDS
from sonarium.commands.faults import UsageError, say, tell
from sonarium.commands.flags import Group, choose, flag, leading_word, parse_groups, switched, wants_help
from sonarium.commands.progress import bars, plainly
from sonarium.config import Range, leaves, located
from sonarium.rooms import SEEK, SUITE, suite_id
from sonarium.runs.build import open_plan, open_run, plan_on_codes, plan_with_ears
from sonarium.runs.plan import (
    FOLDER_WORLD,
    ClipsPlan,
    Plan,
    RolloutsPlan,
    Upstream,
    agent_recipe,
    default_plan,
    recipe_of,
)
from sonarium.runs.train import train
from sonarium.training.engine import ProcessLost
from sonarium.training.fit import LoopConfig
from sonarium.training.journal import VALIDATION, read_metrics
from sonarium.training.launch import LOST, Failed, end_with_launcher, launch, launched, started
from sonarium.training.run import RunFolder

EXAMPLE = "beta-vae"
"""Model whose flags are shown by `--help` without a model."""
ANY_RUN = Upstream("RUN", step=0, sha256="", width=1, frame_rate=1.0, frame_first=0.0, plan={})
"""Placeholder for the upstream run of a model on codes, where only its flags are to be shown."""
TRAINING = ("batch_size", "seed", "precision", "test", "test_groups", "train_on")
"""Main flags of training."""


@dataclass(frozen=True)
class TrainFlags:
    run: Path
    """Run folder, which holds all outputs of this training; give the same command again to resume."""
    preset: str = "default"
    """Preset of the model to start from; see `sonarium list`."""
    steps: Annotated[int, Range(0)] = 2000
    """Total number of training steps, 0 to save the untrained model. A larger number later resumes from where
    training stopped; if a schedule ends with the training, begin a new run with --start-from this one instead."""
    device: str = "auto"
    """Device: cpu, cuda, or auto for the best available."""
    processes: Annotated[int, Range(1, 1024)] = 1
    """Number of data-parallel processes on this machine, each with its part of every batch; leave it out where
    torchrun or srun starts them."""
    nodes: Annotated[int | None, Range(1)] = None
    """Number of machines (nodes) on which torchrun or srun starts processes; by default read from the
    environment."""
    pictures: bool = True
    """Save the training curves, and pictures and sounds of what was learnt, in media/ of the run folder."""
    json: bool = False
    """Print the final metrics as JSON."""


@dataclass(frozen=True)
class RolloutsFlags(TrainFlags):
    suite: str = ""
    """Setting of seek-suite to train in, in place of --env; see `sonarium list`."""
    ears: Path | None = None
    """Run folder whose encoder or separator processes the binaural sound, in place of layers that the agent
    learns."""


@dataclass(frozen=True)
class ClipsFlags(TrainFlags):
    world: str | None = None
    """World that clips come from; see `sonarium list`. By default tones (digits for pictures), with --path
    recordings."""
    codes: Path | None = None
    """Run folder whose codes are the training data, in place of a world."""
    front: str | None = None
    """Front end, in place of the preset's; see `sonarium list`."""


def main(arguments: list[str]) -> None:
    model, rest = leading_word(arguments)
    if model is None and not wants_help(rest):
        raise UsageError(f"train which model? choose one of {', '.join([*MODELS, *AGENTS])}")
    flags, plan = plan_from(model or EXAMPLE, rest, named=model is not None)
    place = started()
    if flags.processes > 1 and place.by == "itself":
        in_processes(["train", *arguments], flags.processes)
        return
    if flags.processes not in (1, place.here):
        raise UsageError(f"--processes {flags.processes}, but {place.by} started {place.here} here: leave it out")
    if launched():
        end_with_launcher()
    try:
        with bars() as progress:
            first = train(plan, flags.run, flags.steps, flags.device, flags.nodes, progress, say, flags.pictures)
    except ProcessLost:
        if launched():
            # The launcher of this process reports which other one it was.
            raise SystemExit(LOST) from None
        raise
    if first:
        report_end(flags, plan)


def in_processes(command: list[str], processes: int) -> None:
    """Train in several processes, of which only rank 0 prints."""
    failed = launch(command, processes)
    if failed is not None:
        # A process that is killed during a progress bar leaves the cursor of the terminal hidden.
        Console(stderr=True).show_cursor()
        explain(failed, processes)


def explain(failed: Failed, processes: int) -> None:
    """Report the process that failed in one line, unless it has done so itself; exit with its code."""
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
    """Flags and plan from the arguments; flags that determine which others exist are read first."""
    try:
        plan = planned(model, arguments)
    except ValueError as error:
        raise UsageError(str(error)) from None
    source, loop = plan.source, Group("training", plan.loop, TRAINING)
    if isinstance(source, RolloutsPlan):
        entry, about = AGENTS[model], "in an environment"
        schema = with_steps(RolloutsFlags, agent_recipe(entry, plan.preset).steps)
        groups = [Group("environment", source.rollouts), loop]
    else:
        entry, schema = MODELS[model], with_steps(ClipsFlags, recipe_of(MODELS[model], plan.preset).steps)
        about, first = told_of(plan)
        # Codes have the split of their upstream run.
        split = [] if plan.upstream is not None else [Group("training", source.split, TRAINING)]
        parts = [Group("training", source.clips, TRAINING), *split]
        groups = [Group(source.world, source.config, first), *parts, loop]
    description = f"Train {model} {about}: {entry.summary}."
    if model in MODELS and "wave" in MODELS[model].kinds and plan.upstream is None and not takes_path(plan):
        description += (
            f" For recordings of your own give --path FOLDER: `sonarium train {model} --path FOLDER --help` shows "
            "their flags, and `sonarium check FOLDER` what is in it."
        )
    if not named:
        description = f"No model is named: these are the flags of {model}. {description}"
    own = Group(model, plan.learner, entry.main or None)
    flags, made = parse_groups(schema, [own, *groups], arguments, f"train {model}", description)
    if isinstance(source, RolloutsPlan):
        chosen: ClipsPlan | RolloutsPlan = RolloutsPlan(in_suite(made[1], flags.suite, source.rollouts.env))
    else:
        chosen = ClipsPlan(
            source.world, located(made[1], "path", "source"), made[2], made[3] if split else source.split
        )
    loop = of_start(located(made[-1], "start_from"), plan.upstream)
    return flags, dataclasses.replace(plan, learner=made[0], source=chosen, loop=loop)


def of_start(loop: LoopConfig, upstream: Upstream | None) -> LoopConfig:
    """The loop with `best` for --start-from only: that for codes and ears is recorded with the upstream run, and
    cleared here."""
    if not loop.best or loop.start_from is not None:
        return loop
    if upstream is None:
        raise UsageError(
            "--best takes the weights of another run that were best in validation: name it by --codes, --ears or "
            "--start-from"
        )
    return dataclasses.replace(loop, best=False)


def in_suite(rollouts: RolloutConfig, suite: str, default: str) -> RolloutConfig:
    """The rollouts in the environment of a setting of seek-suite, if given, in place of the preset's."""
    if not suite:
        return rollouts
    env = suite_id(choose("setting of seek-suite", suite, SUITE))
    if rollouts.env not in ("", default, SEEK, env):
        raise UsageError(
            f"--suite {suite} --env {rollouts.env}: the settings are those of {SEEK}; give one of the two"
        )
    return dataclasses.replace(rollouts, env=env)


def with_steps(schema: type[TrainFlags], steps: int) -> type[TrainFlags]:
    """The same flags, with the steps of a preset as default."""
    [said] = [leaf.help for leaf in leaves(TrainFlags(Path())) if leaf.path == ("steps",)]
    own = Annotated[int, Range(0), tyro.conf.arg(help=said)]
    return dataclasses.make_dataclass(
        schema.__name__, [("steps", own, dataclasses.field(default=steps))], bases=(schema,), frozen=True
    )


def planned(model: str, arguments: list[str]) -> Plan:
    """Default plan for the flags that determine its parts."""
    preset, codes = flag(arguments, "preset", "default"), flag(arguments, "codes", "")
    front, best = flag(arguments, "front", ""), switched(arguments, "best")
    if model in AGENTS and (ears := flag(arguments, "ears", "")):
        begun = begun_on(Path(flag(arguments, "run", "")), Path(ears), best)
        if begun is None:
            return plan_with_ears(model, Path(ears), preset, say, best)
        return default_plan(model, preset=preset, upstream=begun.upstream)
    if codes:
        if flag(arguments, "world", ""):
            raise ValueError(f"--codes {codes} --world: the clips are those of {codes}; give one of the two")
        if (begun := begun_on(Path(flag(arguments, "run", "")), Path(codes), best)) is not None:
            split = begun.clips.split
            return default_plan(model, preset=preset, front=front, upstream=begun.upstream, split=split)
        with bars() as progress:
            below = open_run(Path(codes), plainly(progress), say, best=best)
        return plan_on_codes(model, below, preset, front)
    if wants_help(arguments) and model in MODELS and MODELS[model].kinds == ("codes",):
        return default_plan(model, preset=preset, upstream=ANY_RUN)
    default = default_plan(model, flag(arguments, "world", ""), preset, front)
    if not flag(arguments, "path", "") or flag(arguments, "world", "") or takes_path(default):
        return default
    return default_plan(model, FOLDER_WORLD, preset, front)


def takes_path(plan: Plan) -> bool:
    """Whether the clips are from a world with a path, or there are no clips."""
    if isinstance(plan.source, RolloutsPlan):
        return True
    return any(field.name == "path" for field in dataclasses.fields(plan.source.config))


def begun_on(folder: Path, codes: Path, best: bool) -> Plan | None:
    """The plan of an existing run on these codes: it continues with its saved codes, whatever became of the
    upstream run. With another `best` than before, the plan differs, and its folder rejects it."""
    if not (folder / "config.json").is_file():
        return None
    plan = open_plan(folder)[1]
    if plan.upstream is None or Path(plan.upstream.run) != codes.absolute():
        return None
    return dataclasses.replace(plan, upstream=dataclasses.replace(plan.upstream, best=best))


def told_of(plan: Plan) -> tuple[str, tuple[str, ...] | None]:
    """Training data in words, and the names of their main flags."""
    if plan.upstream is not None:
        return f"on the codes of {plan.upstream.run}", None
    entry = WORLDS[plan.clips.world]
    return f"on {plan.clips.world} ({entry.summary})", entry.main


def report_end(flags: TrainFlags, plan: Plan) -> None:
    records = read_metrics(flags.run / "metrics.jsonl")
    # The results of validation at the last step are a separate record.
    last = [one for one in records if one["step"] == records[-1]["step"]]
    newest: dict[str, Any] = {"step": flags.steps} | {name: value for one in last for name, value in one.items()}
    if flags.json:
        print(json.dumps({"run": str(flags.run), **newest}))
        return
    losses = ", ".join(
        f"{name} {value:.4g}"
        for name, value in newest.items()
        if name != "step" and not name.startswith(VALIDATION)
    )
    tell(f"{flags.run}: step {newest['step']}: {losses or 'the untrained model is saved'}")
    best = RunFolder.read(flags.run).best()
    if best is not None:
        tell(f"validation: best at step {best.step} of {newest['step']}; --best takes these weights")
    tested = not isinstance(plan.source, ClipsPlan) or plan.source.tested
    scoring = f"sonarium score {flags.run}, then " if tested else ""
    tell(f"next: {scoring}sonarium report {flags.run} --out page.html")
