"""`sonarium train MODEL`: train in a run folder; the same words again resume.

`--json` prints one object: `run`, the folder; `step`; and the metrics of the last record by their names.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from sonarium.commands.faults import UsageError, say
from sonarium.commands.flags import choose, flag, leading_word, parse, wants_help
from sonarium.commands.progress import bars, plainly
from sonarium.files import write_whole
from sonarium.models.contract import FrameEncoder, Learner
from sonarium.models.schedule import ScheduleConfig
from sonarium.catalogue import MODELS
from sonarium.runs.assemble import Assembled, Plan, assemble
from sonarium.training.engine import FabricEngine, environment
from sonarium.training.fit import Audience, FitConfig, check_batch, fit
from sonarium.training.journal import Journal, read_metrics
from sonarium.training.run import Run
from sonarium.worlds.contract import Factor
from sonarium.worlds.contract import UNKNOWN
from sonarium.worlds.recordings.world import Recordings
from sonarium.worlds.register import hold
from sonarium.catalogue import WORLDS


@dataclass(frozen=True)
class TrainFlags:
    run: Path
    """Folder that holds all this training makes; give the same words again to resume in it."""
    world: str = "tones"
    """Where the sound comes from; see `sonarium list`."""
    preset: str = "default"
    """Configuration of the model to start from; see `sonarium list`."""
    steps: int = 2000
    """Updates in all; a larger number later goes on from where the run stands."""
    device: str = "auto"
    """cpu, cuda, or auto for the best there is."""
    json: bool = False
    """Print the last metrics as JSON."""


def main(arguments: list[str]) -> None:
    model, rest = leading_word(arguments)
    if model is None:
        if not wants_help(rest):
            raise UsageError(f"train which model? choose one of {', '.join(MODELS)}")
        model = "beta-vae"
    flags, plan = plan_from(choose("model", model, MODELS), rest)
    if flags.steps < 1:
        raise UsageError(f"--steps {flags.steps}: train for at least 1 update")
    train(plan, flags.run, flags.steps, flags.device)
    report_end(flags, plan)


def plan_from(model: str, arguments: list[str]) -> tuple[TrainFlags, Plan]:
    """The flags that decide which others there are come first; then all are parsed together."""
    world = choose("world", flag(arguments, "world", "tones"), WORLDS)
    preset = choose(f"preset of {model}", flag(arguments, "preset", "default"), MODELS[model].presets)
    config = MODELS[model].presets[preset](WORLDS[world].kind)
    entry = WORLDS[world]
    if entry.kind not in MODELS[model].kinds:
        suiting = ", ".join(name for name, other in WORLDS.items() if other.kind in MODELS[model].kinds)
        raise UsageError(
            f"{model} does not learn from a {entry.kind}, which {world} gives: take --world {suiting}"
        )
    fields: list[tuple[str, Any, Any]] = [
        ("model_config", type(config), field(default_factory=lambda: config)),
        ("world_config", WORLDS[world].Config, field(default_factory=WORLDS[world].Config)),
        ("fit", FitConfig, field(default_factory=FitConfig)),
    ]
    schema = dataclasses.make_dataclass("Train", fields, bases=(TrainFlags,), frozen=True)
    about = f"Train {model} ({MODELS[model].summary}) on {world} ({WORLDS[world].summary})."
    flags = parse(schema, arguments, f"train {model}", about)
    model_config = ending(flags.model_config, flags.steps)
    return flags, Plan(model, preset, world, model_config, located(flags.world_config), flags.fit)


def ending(config: Any, steps: int) -> Any:
    """The same, its schedule ending with the training where no other end was given."""
    schedule = getattr(config, "schedule", None)
    if not isinstance(schedule, ScheduleConfig) or schedule.course != "cosine" or schedule.horizon:
        return config
    if steps <= schedule.warm_up:
        raise UsageError(
            f"--steps {steps}: the warm-up takes {schedule.warm_up}; take more, or a smaller --warm-up"
        )
    return dataclasses.replace(config, schedule=dataclasses.replace(schedule, horizon=steps))


def located(config: Any) -> Any:
    """The same from wherever it is read: a path becomes absolute."""
    path = getattr(config, "path", None)
    return config if path is None else dataclasses.replace(config, path=str(Path(path).expanduser().absolute()))


def train(plan: Plan, folder: Path, steps: int, device: str) -> None:
    """Train up to `steps` updates in the run folder, from wherever it stands; show what was learnt."""
    engine = FabricEngine(device, plan.fit.precision, plan.fit.seed)
    with bars() as progress:
        made = assemble(plan, plainly(progress))
    # A mistake should leave no folder behind that the corrected words would not fit.
    portions = made.world.portions(made.heard)
    check_batch(plan.fit.batch, len(portions), made.learner.least_batch)
    if isinstance(made.world, Recordings) and isinstance(made.learner, FrameEncoder):
        check_frames(made.world, made.heard, made.learner)
    if (speaker := getattr(made.plan.model_config, "speaker", None)) is not None:
        check_speakers(made.world.factors[speaker])
    run = Run.create(folder, made.plan.recorded())
    write_whole(folder / "environment.json", json.dumps(environment(engine), indent=2) + "\n")
    if isinstance(made.world, Recordings):
        hold(made.world, made.parts, folder)
        tell(made.world, folder)
        say(made.split_in_words())
    with bars() as progress:
        audience = Audience(progress, lambda fault: say(f"sonarium: {fault}"), partial(present, made, folder))
        fit(made.learner, made.world, portions, run, engine, plan.fit, steps, audience)


def check_frames(world: Recordings, heard: Int[Tensor, " clip"], learner: FrameEncoder) -> None:
    """Refuse to learn from clips none of which has two frames; tell how many have not."""
    lengths = world.lengths[heard].clamp(max=world.signal.shape[0])
    short = int((learner.code_lengths(lengths) < 2).sum())
    if short == len(lengths):
        raise ValueError(
            f"all {short} clips to learn from are too short: a frame comes every {1 / learner.code_rate:.3g} s, "
            "and what is to be guessed are later frames; take longer clips or smaller --strides"
        )
    if short:
        say(f"{short} of {len(lengths)} clips to learn from are too short for two frames, and teach nothing")


def check_speakers(factor: Factor) -> None:
    """Tell who counts as a speaker; refuse clips of nobody, which would count as one."""
    if UNKNOWN in factor.values:
        raise ValueError(
            f"--speaker {factor.name}: some clips have no {factor.name}, and would pass for one speaker's; give "
            "them one, or leave them out by a manifest"
        )
    say(f"negatives of the same speaker are of the same {factor.name}")


def tell(world: Recordings, folder: Path) -> None:
    """What was set aside of the recordings, into the run folder; and what there is, in words."""
    quarantine = world.quarantine
    quarantine.write(folder)
    bad = f"{len(quarantine.faults)} of {quarantine.files} files set aside"
    if quarantine.stretches:
        bad += f", and {len(quarantine.stretches)} of {quarantine.clips} clips"
    if quarantine.faults or quarantine.stretches:
        bad += f": {folder}/quarantine.json has the reasons"
    say(f"{world.root}: layout {world.layout}, {len(world)} clips; {bad}")


def present(made: Assembled, folder: Path, learner: Learner, journal: Journal, step: int) -> None:
    """Pictures and sounds into `media/` and TensorBoard, and a card that says what this run is."""
    # Drawing takes long to read, which a person who asks for help should not wait for.
    import numpy as np
    import soundfile
    from PIL import Image

    from sonarium.report.album import put
    from sonarium.report.charts import curves
    from sonarium.report.likeness import illustrate_likeness
    from sonarium.report.media import illustrate
    from sonarium.report.style import png

    figure = curves({made.plan.model: read_metrics(folder / "metrics.jsonl")})
    if figure is not None:
        put(folder / "media" / "training.png", png(figure))
    write_whole(folder / "card.md", card(made, step))
    if not len(made.parts.test):
        return
    draw = illustrate_likeness if isinstance(learner, FrameEncoder) else illustrate
    for medium in draw(learner, made.world, made.parts.test, folder / "media", made.plan.fit.seed):
        path = folder / "media" / medium.file
        if medium.kind == "picture":
            with Image.open(path) as picture:
                journal.picture(step, f"{medium.group}/{medium.title}", np.asarray(picture.convert("RGB")))
        elif medium.kind == "sound":
            wave, rate = soundfile.read(path, dtype="float32")
            journal.sound(step, f"{medium.group}/{medium.title}", wave, rate)


def card(made: Assembled, step: int) -> str:
    """The run in words, for whoever finds the folder later."""
    plan, factors = made.plan, ", ".join(factor.name for factor in made.world.factors)
    world = (
        f"recordings in {made.world.root}" if isinstance(made.world, Recordings) else WORLDS[plan.world].summary
    )
    return (
        f"# {plan.model} on {plan.world}\n\n"
        f"{MODELS[plan.model].summary[0].upper()}{MODELS[plan.model].summary[1:]}; preset {plan.preset}, "
        f"{step} updates of {plan.fit.batch} clips, seed {plan.fit.seed}.\n\n"
        f"World: {world}. {len(made.world)} clips with known {factors or 'nothing'}; "
        f"{len(made.heard)} to train on, {len(made.parts.test)} held out.\n\n"
        "`config.json` has every setting, `environment.json` the machine, `metrics.jsonl` the losses, "
        "`media/` what it sounds and looks like, `checkpoints/` the weights.\n"
        "`sonarium score`, `sample`, `encode` and `report` take this folder.\n"
    )


def report_end(flags: TrainFlags, plan: Plan) -> None:
    records = read_metrics(flags.run / "metrics.jsonl")
    newest = records[-1] if records else {"step": flags.steps}
    if flags.json:
        print(json.dumps({"run": str(flags.run), **newest}))
        return
    losses = ", ".join(f"{name} {value:.4g}" for name, value in newest.items() if name != "step")
    print(f"{flags.run}: step {newest['step']}: {losses}")
    judging = f"sonarium score {flags.run}, then " if plan.fit.test or plan.fit.test_groups else ""
    print(f"next: {judging}sonarium report {flags.run} --out page.html")
