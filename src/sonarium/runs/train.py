"""Train a plan in a run folder, resuming if it has begun, and write the card and media at the end."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sonarium.agents.contract import Agent
from sonarium.agents.evaluate import greedily
from sonarium.catalogue import AGENTS, MODELS, WORLDS
from sonarium.cores import memory
from sonarium.evaluation.splits import NAME as SPLIT
from sonarium.evaluation.splits import hold
from sonarium.files import out_of_memory, remove, write_whole
from sonarium.models.contract import (
    Decoder,
    Encoder,
    Forecaster,
    FrameEncoder,
    Learner,
    Sampler,
    Separator,
    SequenceSampler,
    Synthesiser,
)
from sonarium.runs.build import Built, Data, build, is_lost, path_of, recorded_plan, trained_on_all
from sonarium.runs.environments import changed
from sonarium.runs.plan import ClipsPlan, Plan, RolloutsPlan, source_of
from sonarium.training.clips import Clips
from sonarium.training.engine import FabricEngine, environment, fastest_precision, naming_lost_processes
from sonarium.training.fit import Callbacks, Diverged, Progress, Validated, fit
from sonarium.training.journal import Journal, read_metrics
from sonarium.training.run import RunFolder, difference
from sonarium.training.validation import HeldOut, every_piece_once

SCHEDULED = ("decay_steps", "epsilon_steps")
"""Settings that are completed from the number of steps; a short warm-up depends on it, too."""
VALIDATION = 0x7A11
"""Added to the seed of a plan for validation episodes."""


def train(
    plan: Plan,
    folder: Path | str,
    steps: int,
    device: str = "auto",
    nodes: int | None = None,
    progress: Progress = lambda *_: None,
    remark: Callable[[str], None] = lambda _: None,
    pictures: bool = True,
) -> bool:
    """Train up to `steps` steps in total; the same plan again resumes. Returns whether this process is rank 0."""
    folder = Path(folder)
    with naming_lost_processes():
        engine = FabricEngine(device, plan.loop.precision, plan.seed, nodes)
        notify = remark if engine.rank == 0 else (lambda _: None)
        if plan.loop.precision == "bf16" and fastest_precision() == "32":
            notify(
                "this hardware computes bf16 in software, many times slower than 32 bits: leave --precision out"
            )
        if engine.rank > 0:
            # The other processes read the caches of recordings and codes that rank 0 writes to disk.
            engine.barrier()
        made = build(plan, steps, folder, reporting(progress, engine), engine.ranks)
        check(made, engine, notify)
        held_out = validated_clips(made, engine.ranks, notify)
        new = not (folder / "config.json").exists()
        kept = write_folder(made, folder, engine) if engine.rank == 0 else ""
        if engine.rank == 0:
            engine.barrier()
        run = RunFolder.read(folder)
        if made.clips is not None and not made.clips.world.planted:
            notify(": ".join(filter(None, [made.clips.world.describe(), kept])))
            notify(made.split_in_words())
        callbacks = Callbacks(
            progress if engine.rank == 0 else Callbacks.progress,
            notify,
            partial(present, made, folder, pictures, notify),
            validation(made.plan, held_out, engine),
        )
        try:
            fit(made.learner, made.source, run, engine, plan.loop, steps, callbacks)
        except (MemoryError, RuntimeError, ValueError) as error:
            # The records of a training that diverged are useful, and stay.
            refused = isinstance(error, ValueError) and not isinstance(error, Diverged)
            would_fail = refused or out_of_memory(error)
            if new and engine.rank == 0 and would_fail and run.newest() is None:
                # The same command would fail again, and a corrected one would not match the folder.
                remove(folder)
            raise
    return engine.rank == 0


def reporting(progress: Progress, engine: FabricEngine) -> Callable[[str, int, int], None]:
    """Progress callback of the building, on rank 0 only."""

    def report(stage: str, done: int, total: int) -> None:
        if engine.rank == 0:
            progress(stage, done, total, {})

    return report


def check(made: Built, engine: FabricEngine, notify: Callable[[str], None]) -> None:
    """Check a plan before its folder is created, since a corrected command would not match the folder."""
    if made.plan.loop.best and made.plan.loop.start_from is None:
        raise ValueError("best: start_from names no run, whose best weights to take; leave best out")
    if isinstance(made.source, Clips):
        check_memory(made.source)
        made.source.check_batch_size(made.learner.minimum_batch_size, engine.ranks)
        engine.dataset_size = len(made.source.index)
    elif engine.ranks > 1:
        raise ValueError(f"{made.plan.model} learns in one process: leave out --processes, and use more --envs")
    for line in (*made.remarks, *made.learner.check(made.source)):
        notify(line)


def check_memory(source: Clips) -> None:
    """Raise ValueError for a batch larger than the memory of this machine, lest the system kill the training."""
    shape, size = source.world.signal.shape, source.batch_size
    needed = 4 * size * math.prod(shape)
    there = memory()
    if source.config.cut == "piece" and needed > there:
        raise ValueError(
            f"a batch of {size} pieces of {' by '.join(f'{length:,}' for length in shape)} samples takes "
            f"{needed / 1e9:,.0f} GB, and this machine has {there / 1e9:.0f} GB of memory: use shorter --seconds, "
            "or a smaller --batch-size"
        )


def write_folder(made: Built, folder: Path, engine: FabricEngine) -> str:
    """Create the folder of a run, or open the existing one if it has the same plan; return the world's remark on
    what it saves there, if any."""

    def upgrade(config: dict[str, Any]) -> dict[str, Any]:
        return beside(recorded_plan(config, folder), made.plan, folder).recorded()

    run = RunFolder.create(folder, made.plan.recorded(), upgrade)
    with run.locked():
        write_whole(
            folder / "environment.json", json.dumps(environment(engine, made.learner.threads), indent=2) + "\n"
        )
        if made.clips is None:
            return ""
        hold(made.clips.world, made.clips.split, folder)
        if path_of(recorded_plan(run.config, folder).source) != path_of(made.plan.source):
            # The same recordings elsewhere.
            write_whole(folder / "config.json", json.dumps(made.plan.recorded(), indent=2) + "\n")
        return made.clips.world.keep(folder)


def beside(found: Plan, plan: Plan, folder: Path) -> Plan:
    """The plan that a folder records, for comparison with this one; raises ValueError if its environment has
    changed since, or its schedules end at another step. The environment is ignored if its id differs, or its
    earlier settings are unknown; so is a path where nothing is any more, if the contents can be compared."""
    apart = difference(found.recorded(), plan.recorded())
    names = [line.partition(":")[0] for line in apart]
    if names == ["source.config.path"] and is_lost(path_of(found.source)) and (folder / SPLIT).exists():
        return plan
    ends = any(name.endswith(SCHEDULED) for name in names)
    if ends and all(name.endswith((*SCHEDULED, "warmup_steps")) for name in names):
        raise ValueError(
            f"'{folder}' holds a run whose schedule ends at another step ({'; '.join(apart)}): give the --steps "
            f"that it began with, or train on in a new --run with --start-from {folder}"
        )
    then, now = found.source, plan.source
    if not isinstance(then, RolloutsPlan) or not isinstance(now, RolloutsPlan) or now.environment is None:
        return found
    env = now.rollouts.env
    same = (then.rollouts.env, then.rollouts.env_kwargs) == (env, now.rollouts.env_kwargs)
    if same and (said := changed(env, then.environment, now.environment)):
        raise ValueError(f"'{folder}' cannot go on: {said}. Register it as it was, or choose another --run folder")
    return replace(found, source=replace(then, environment=now.environment))


def validation(plan: Plan, held_out: Clips | None, engine: FabricEngine) -> Callable[[Learner], Validated] | None:
    """Validation callback, if any, for every checkpoint: the loss on held-out clips, or the return of an agent
    over episodes."""
    if not isinstance(plan.source, RolloutsPlan):
        return None if held_out is None else HeldOut(held_out, engine)
    if not plan.source.rollouts.validation_episodes:
        return None
    rollouts, seed = plan.source.rollouts, plan.seed + VALIDATION

    def validate(learner: Learner) -> Validated:
        assert isinstance(learner, Agent), type(learner)
        with evaluated(learner):
            found = greedily(learner, rollouts.make, rollouts.validation_episodes, seed).scores()
        return Validated(found["return"], found)

    return validate


def validated_clips(made: Built, ranks: int, notify: Callable[[str], None]) -> Clips | None:
    """The clips of the validation split, in batches like those of training; None without validation. An unusable
    split raises ValueError, or is only remarked if it is that of upstream codes."""
    if made.clips is None or not (made.plan.clips.split.validation or len(made.clips.split.validation)):
        return None
    try:
        return clips_of_validation(made, made.clips, ranks)
    except ValueError as error:
        if made.plan.upstream is None:
            raise
        notify(f"no validation: {error}")
        return None


def clips_of_validation(made: Built, data: Data, ranks: int) -> Clips:
    own = made.plan.clips.clips
    if own.train_on == "all":
        raise ValueError("--train-on all trains on the validation split, too: leave out the one or the other")
    config = replace(own, weight_by="")
    clips = Clips(data.world, data.validation(own), config, made.plan.seed)
    least = made.learner.minimum_batch_size
    every_piece_once(clips, least, ranks)
    if len(clips.index) < max(least, ranks):
        raise ValueError(
            f"the validation split has {clips.counted()}, and a batch needs at least {max(least, ranks)}: give a "
            "larger --validation, or another --group with more of them"
        )
    try:
        made.learner.check(clips)
    except ValueError as error:
        raise ValueError(f"the validation split: {error}") from None
    return clips


@contextmanager
def evaluated(learner: Learner) -> Iterator[None]:
    """Set evaluation mode, and restore the previous mode afterwards."""
    training = learner.training
    learner.eval()
    try:
        yield
    finally:
        learner.train(training)


def present(
    made: Built,
    folder: Path,
    pictures: bool,
    notify: Callable[[str], None],
    learner: Learner,
    journal: Journal,
    step: int,
) -> None:
    """Write a card that describes the run, and with `pictures` the training curves, and pictures and sounds of
    what was learnt, to the run folder and TensorBoard."""
    write_whole(folder / "card.md", card(made, step))
    if not pictures:
        return
    # Deferred import: plotting is slow to import, and `--help` should not wait for it.
    from sonarium.report.album import put
    from sonarium.report.charts import curves
    from sonarium.report.style import png

    figure = curves({made.plan.model: read_metrics(folder / "metrics.jsonl")})
    if figure is not None:
        put(folder / "media" / "training.png", png(figure))
    if made.clips is None or not len(made.clips.split.test):
        return
    for medium in media_of(made, learner, folder, notify):
        enter(medium, folder / "media" / medium.file, journal, step)


def media_of(made: Built, learner: Learner, folder: Path, notify: Callable[[str], None]) -> list[Any]:
    """Pictures and sounds of the test split: separated sources of mixtures, nearest neighbours of frames, or
    decoded codes of clips."""
    from sonarium.report.likeness import illustrate_likeness
    from sonarium.report.media import illustrate
    from sonarium.report.separating import illustrate_separation

    if isinstance(learner, Separator):
        test, seed = made.data.split.test, made.plan.seed
        return illustrate_separation(learner, made.data.world, test, folder / "media", seed)
    draw = illustrate_likeness if isinstance(learner, FrameEncoder) else illustrate
    drawn = draw(learner, made.data.world, made.data.split.test, folder / "media", made.plan.seed)
    return [*drawn, *(dreams_of(made, learner, folder, notify) if isinstance(learner, Forecaster) else [])]


def dreams_of(
    made: Built, learner: Learner, folder: Path, notify: Callable[[str], None] = lambda _: None
) -> list[Any]:
    """Futures and surprise of held-out sound; none, with a remark, if the run's tokens cannot become sound."""
    from sonarium.runs.dreams import illustrate_dreams
    from sonarium.runs.forecast import forecaster_of

    try:
        forecaster = forecaster_of(made, learner, folder)
    except ValueError as error:
        notify(f"the page shows no futures: {error}")
        return []
    if forecaster is None:
        notify("the page shows no futures: these tokens cannot become sound; give --token-frames 2 or more")
        return []
    media = illustrate_dreams(forecaster, made.data.split.test, folder / "media", made.plan.seed)
    if not any(medium.group.startswith("futures") for medium in media):
        tokens = 2 * (max(1, forecaster.learner.burn_in) + 1)
        notify(
            f"the page shows no futures: no held-out clip has more than {tokens} tokens, "
            f"{tokens * forecaster.token_seconds:.3g} s, of which the first half is the past"
        )
    return media


def enter(medium: Any, path: Path, journal: Journal, step: int) -> None:
    """Add one picture or sound to TensorBoard."""
    import numpy as np
    import soundfile
    from PIL import Image

    if medium.kind == "picture":
        with Image.open(path) as picture:
            journal.picture(step, f"{medium.group}/{medium.title}", np.asarray(picture.convert("RGB")))
    elif medium.kind == "sound":
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
        journal.sound(step, f"{medium.group}/{medium.title}", wave.mean(1), rate)


def card(made: Built, step: int) -> str:
    """Description of the run in Markdown, for readers of the folder."""
    plan = made.plan
    where = source_of(plan.recorded())
    about = (MODELS if isinstance(plan.source, ClipsPlan) else AGENTS)[plan.model].summary
    text = f"# {plan.model} on {where}\n\n{about[0].upper()}{about[1:]}; preset {plan.preset}, {step} steps of "
    text += f"{made.source.batch_size} {made.source.unit}, seed {plan.seed}.\n\n"
    text += "".join(f"{remark[0].upper()}{remark[1:]}.\n\n" for remark in made.remarks)
    if made.clips is not None:
        world, source = made.clips.world, plan.clips
        known = ", ".join(factor.name for factor in world.factors) or "none"
        rendered = world.planted and source.world in WORLDS
        about_world = WORLDS[source.world].summary if rendered else world.describe()
        trained = made.clips.training(source.clips)
        text += f"World: {about_world}. {len(world)} clips; factors: {known}. {len(trained)} clips to train on"
        text += " (the sound of all splits, without labels)" if trained_on_all(plan.recorded()) else ""
        text += f", {len(made.clips.split.test)} in the test split.\n\n"
    first, *verbs, last = (f"`{verb}`" for verb in verbs_of(made))
    return text + (
        "`config.json` has every setting, `environment.json` the machine, `metrics.jsonl` the losses, `media/` "
        "what it sounds and looks like, `checkpoints/` the weights.\n"
        f"`sonarium {first[1:]}{''.join(f', {verb}' for verb in verbs)} and {last} take this folder.\n"
    )


def verbs_of(made: Built) -> tuple[str, ...]:
    """The verbs that accept a run, by the abilities of its learner."""
    learner = made.learner
    coded = isinstance(learner, Encoder | FrameEncoder)
    sound = made.clips is not None and made.clips.world.signal.kind != "picture"
    able = {
        "encode": coded and sound,
        "export": coded,
        "sample": isinstance(learner, Sampler) and isinstance(learner, Decoder),
        "sing": isinstance(learner, SequenceSampler) and made.plan.upstream is not None,
        "reconstruct": isinstance(learner, FrameEncoder) and isinstance(learner, Synthesiser),
        "forecast": isinstance(learner, Forecaster),
        "surprise": isinstance(learner, Forecaster),
        "separate": isinstance(learner, Separator),
        "watch": isinstance(learner, Agent),
    }
    return ("score", *(verb for verb, can in able.items() if can), "report")
