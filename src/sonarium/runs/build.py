"""Building the objects of a plan, and opening run folders.

A plan gives a world with its split, a data source and an untrained learner. A run folder adds the weights of its
newest complete checkpoint, and is rejected if the clips or their split are no longer those that it was trained on.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from gymnasium import Space
from jaxtyping import Int
from torch import Tensor, nn

import sonarium.agents.playground
import sonarium.rooms  # noqa: F401  Both register their environments.
from sonarium.agents.contract import Agent, Hearing, HearingConfig, Separation
from sonarium.agents.rollout import Rollouts
from sonarium.catalogue import AGENTS, MODELS, WORLDS
from sonarium.config import to_json
from sonarium.cores import memory
from sonarium.environment import EnvironmentFault
from sonarium.evaluation.splits import compare, in_words, split_world
from sonarium.measures.splits import Split
from sonarium.models import masking
from sonarium.models.contract import Encoder, FrameEncoder, Learner, Separator
from sonarium.models.framing import in_frames, with_gradient
from sonarium.runs.codes import codes_of, encode_clips, frame_times
from sonarium.runs.environments import Registered, changed, check_spaces, registered
from sonarium.runs.plan import ClipsPlan, Plan, RolloutsPlan, Upstream, default_plan, mapping, read_plan
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.training.contract import Source
from sonarium.training.run import RunFolder, digest, restore_weights
from sonarium.training.selection import selected
from sonarium.worlds.codes import FOLDER, Codes, Encoded
from sonarium.worlds.contract import PLURAL, Signal, World

Progress = Callable[[str, int, int], object]
Remark = Callable[[str], object]
UNTRAINED_SEED = 1_000_003
"""Added to a run's seed for the initial weights of its untrained control."""


def silent(stage: str, done: int, total: int) -> None:
    """Default progress callback: do nothing."""


@dataclass(frozen=True)
class Data:
    """The clips of a plan: their world and its split."""

    world: World
    split: Split

    def training(self, config: ClipsConfig) -> Int[Tensor, " clip"]:
        """Indices of the training clips, without empty clips."""
        index = self.split.train if config.train_on == "train" else torch.arange(len(self.world))
        return selected(self.world, index[self.world.lengths(index) > 0], config.only)

    def validation(self, config: ClipsConfig) -> Int[Tensor, " clip"]:
        """Indices of the validation clips that meet the conditions on training clips."""
        index = self.split.validation
        return selected(self.world, index[self.world.lengths(index) > 0], config.only, "validation")


@dataclass(frozen=True)
class Built:
    plan: Plan
    learner: Learner
    source: Source
    clips: Data | None = None
    """None for an agent, which learns in an environment."""
    remarks: tuple[str, ...] = ()
    """Deviations from the plan, in words."""

    @property
    def data(self) -> Data:
        """The clips; raises ValueError for an agent, which has none."""
        if self.clips is None:
            raise ValueError(f"{self.plan.model} is an agent, which has no clips: give a model of sound")
        return self.clips

    def split_in_words(self) -> str:
        transductive = trained_on_all(self.plan.recorded())
        also = "; trained on the sound of all splits, without labels" if transductive else ""
        return in_words(self.data.world, self.data.split) + also


def trained_on_all(plan: Mapping[str, Any]) -> bool:
    """Whether a run, or a run upstream of it, was trained on the clips of all splits."""
    below = mapping(mapping(plan.get("upstream")).get("plan"))
    own = mapping(mapping(plan.get("source")).get("clips")).get("train_on") == "all"
    return own or (bool(below) and trained_on_all(below))


Worlds = dict[str, World]
"""Cache of worlds read from disk, by configuration, for several plans on the same recordings."""


def build(
    plan: Plan,
    steps: int | None = None,
    folder: Path | None = None,
    progress: Progress = silent,
    ranks: int = 1,
    largest: int | None = None,
    worlds: Worlds | None = None,
) -> Built:
    """Build the objects of a plan, all from its seed. For training, `steps` completes the configuration of a new
    run's model, and the batch size is capped at the number of clips; `folder` is that of the run, which may
    already hold the codes of the upstream run; `largest` bounds the size of the parameters in bytes; `worlds` is a
    cache that is used and extended."""
    if isinstance(plan.source, RolloutsPlan):
        rollouts = Rollouts(plan.source.rollouts, plan.seed)
        now = registered(plan.source.rollouts)
        remarks = remarks_on(plan.source, now)
        if steps is not None:
            own = AGENTS[plan.model].complete(plan.learner, steps)
            plan = replace(plan, learner=own, source=replace(plan.source, environment=now))
        # A run with a checkpoint has its own weights of the ears.
        new, said = steps is not None and not has_begun(folder), []
        agent = fresh(plan, None, largest=largest, trained_ears=new, remark=said.append)
        return Built(plan, agent, rollouts, remarks=(*remarks, *said))
    wanted = plan.source
    if plan.upstream is None:
        try:
            world = read_once(wanted, plan.seed, progress, {} if worlds is None else worlds)
        except ValueError as error:
            path = path_of(wanted)
            if folder is not None and is_run(folder) and is_lost(path):
                run, recorded = open_plan(folder)
                if path == path_of(recorded.source):
                    where = run.folder / "config.json"
                    raise ValueError(f"{error}; if it was moved, write its new path in '{where}'") from None
            raise
    else:
        world = Codes(wanted.config, codes_below(plan.upstream, folder, progress))
    split = wanted.split
    seed = plan.seed if split.split_seed is None else split.split_seed
    parts = split_world(world, seed, split.test, split.validation, split.test_groups, split.validation_groups)
    data = Data(world, parts)
    source = Clips(world, data.training(wanted.clips), wanted.clips, plan.seed)
    remarks: tuple[str, ...] = ()
    if steps is not None:
        complete = MODELS[plan.model].complete
        plan = replace(plan, learner=complete(plan.learner, world, steps))
        if said := source.reduce_batch_size(ranks):
            remarks = (said,)
            plan = replace(plan, source=replace(wanted, clips=source.config))
    return Built(plan, fresh(plan, world.signal, largest=largest), source, data, remarks)


def remarks_on(source: RolloutsPlan, now: Registered) -> tuple[str, ...]:
    """Remarks on changes of a run's environment; raises EnvironmentFault if its spaces have changed."""
    check_spaces(source.rollouts.env, source.environment, now)
    said = changed(source.rollouts.env, source.environment, now)
    return (said,) if said else ()


def has_begun(folder: Path | None) -> bool:
    """Whether a run has a complete checkpoint."""
    return folder is not None and (folder / "config.json").exists() and RunFolder.read(folder).newest() is not None


def read_once(source: ClipsPlan, seed: int, progress: Progress, worlds: Worlds) -> World:
    """The world of a plan; one that does not depend on the seed, as when read from disk, is cached."""
    entry, name = WORLDS[source.world], json.dumps([source.world, to_json(source.config)], sort_keys=True)
    if name in worlds:
        return worlds[name]
    world = entry.build(source.config, seed, progress)
    if not entry.seeded:
        worlds[name] = world
    return world


@contextmanager
def bounded(largest: int | None) -> Iterator[None]:
    """Raise an error while a model is being built, as soon as its parameters take more than `largest` bytes, or
    more than can be trained in the memory of this machine."""
    total, there = 0, memory()

    def count(module: nn.Module, name: str, value: Tensor | None) -> None:
        nonlocal total
        total += 0 if value is None else value.nbytes
        # Gradients and two moments are as large each.
        if 4 * total > there:
            raise MemoryError(f"{4 * total} bytes of weights, gradients and moments")
        if largest is not None and total > largest:
            raise ValueError(
                "the weights that were saved do not fit the model of its config.json, whose parameters take more "
                f"than {largest} bytes: one of the two was changed; restore it, or start a new run folder"
            )

    handle = nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def saved_bytes(run: RunFolder, plan: Plan) -> int | None:
    """Upper bound on the bytes of a run's parameters, from its newest complete checkpoint; None if there is none.
    Twice the size of the file, since some modules register a parameter twice."""
    if isinstance(plan.source, ClipsPlan) and not MODELS[plan.model].trains:
        return None  # its parameters are in files of their own
    step = run.newest()
    return None if step is None else 2 * run.weights(step).stat().st_size


def fresh(
    plan: Plan,
    signal: Signal | None,
    seed: int | None = None,
    largest: int | None = None,
    trained_ears: bool = False,
    remark: Remark = lambda _: None,
) -> Learner:
    """Untrained learner of a plan, initialised from the plan's seed or `seed`; raises ValueError if its parameters
    take more than `largest` bytes. `trained_ears` loads the trained weights of an agent's encoder or separator;
    possible mismatches with the environment are remarked."""
    # Layers are initialised from torch's global generator: seed it, and restore it afterwards.
    with torch.random.fork_rng(devices=[]), bounded(largest):
        torch.manual_seed(plan.seed if seed is None else seed)
        if isinstance(plan.source, ClipsPlan):
            assert signal is not None, plan.model
            return MODELS[plan.model].build(plan.learner, signal)
        env = plan.source.rollouts.make()
        try:
            spaces = env.observation_space, env.action_space
            if plan.upstream is None:
                if isinstance(plan.learner, HearingConfig):
                    check_rate(plan.learner.sound_rate, plan.source.rollouts.env, env.metadata)
                return AGENTS[plan.model].build(plan.learner, *spaces)
            ears, heard = ears_of(plan.upstream, trained_ears)
            check_ears(ears, plan.source.rollouts.env, env.metadata)
            for doubt in doubts(ears, heard, plan.source.rollouts.env, env.metadata):
                remark(doubt)
            if isinstance(ears, Separation):
                ears = replace(ears, consecutive=env.metadata.get("sound_clock") != "clip")
            return AGENTS[plan.model].build(plan.learner, *spaces, ears)
        except EnvironmentFault as fault:
            # An agent, which knows only the spaces, cannot name its environment.
            raise EnvironmentFault(f"--env {plan.source.rollouts.env}: {fault}") from None
        finally:
            env.close()


def check_rate(rate: int, env: str, told: Mapping[str, Any]) -> None:
    """Raise ValueError if the rate of sound features is not that of the environment; 0 stands for no sound."""
    if rate and rate != (given := told.get("sound_rate", rate)):
        raise ValueError(f"--sound-rate {rate}: {env} gives sound at {given} Hz: give --sound-rate {given}")


def check_ears(ears: Hearing | Separation, env: str, told: Mapping[str, Any]) -> None:
    """Raise ValueError for ears with another sampling rate than the environment, or with more sources."""
    rate = told.get("sound_rate", ears.rate)
    if rate != ears.rate:
        raise ValueError(
            f"--ears takes sound at {ears.rate} Hz, and {env} gives {rate} Hz: train the other run with --rate "
            f"{rate}"
        )
    if isinstance(ears, Separation) and ears.separator.sources > (sources := told.get("sound_sources", math.inf)):
        raise ValueError(
            f"--ears separates {ears.separator.sources} sources, and {env} has {sources}: train the other run "
            f"with --sources {sources}"
        )


def doubts(ears: Hearing | Separation, heard: Signal, env: str, told: Mapping[str, Any]) -> Iterator[str]:
    """Possible mismatches between the sound of an environment and the training data of the ears."""
    if "sound_rate" not in told:
        yield (
            f"{env} tells no sampling rate (metadata['sound_rate']): its sound is taken to be at {ears.rate} Hz, "
            "as that of --ears"
        )
    if not isinstance(ears, Separation):
        return
    apart, between = told.get("ear_distance", heard.ear_distance), told.get("head", heard.head)
    if apart != heard.ear_distance or between != heard.head:
        yield (
            f"--ears was trained on sound at ears {heard.ear_distance} m apart (head {heard.head}), and those in "
            f"{env} are {apart} m apart (head {between}): train the other run with --ear-distance {apart} --head "
            f"{between}, unless that is meant"
        )


def ears_of(upstream: Upstream, trained: bool) -> tuple[Hearing | Separation, Signal]:
    """Encoder or separator of an upstream run as the ears of an agent, and the form of its training signal;
    untrained where the agent's checkpoint has its weights."""
    folder, differentiable = Path(upstream.run), None
    if trained:
        check_upstream(upstream)
        learner, signal = open_learner(folder, best=upstream.best)[1:]
    else:
        plan = read_plan(upstream.plan, f"the plan of '{folder}'")
        signal = signal_of(plan, folder)
        learner = fresh(plan, signal)
    if isinstance(learner, Separator):
        if trained:
            differentiable = masking.with_gradient(learner, torch.zeros(1, *signal.shape)).requires_grad
        return Separation(learner, learner, rate_of(signal), differentiable), signal
    encoder, rate = hearing_by(learner, signal, folder)
    if trained:
        differentiable = with_gradient(encoder, torch.zeros(1, signal.shape[0])).requires_grad
    return Hearing(learner, encoder, rate, upstream.width, differentiable), signal


def hearing_by(learner: Learner, signal: Signal, folder: Path) -> tuple[FrameEncoder, int]:
    """The encoder of a run, and its sampling rate; raises ValueError if it was not trained on sound."""
    if signal.kind != "wave" or signal.rate is None:
        raise ValueError(
            f"'{folder}' was trained on {PLURAL[signal.kind]} and cannot hear: give --ears a run on sound"
        )
    if not isinstance(learner, Encoder | FrameEncoder):
        raise ValueError(f"'{folder}' holds neither an encoder nor a separator: give --ears the run of one")
    return in_frames(learner, signal), signal.rate


def rate_of(signal: Signal) -> int:
    assert signal.rate is not None, signal
    return signal.rate


@dataclass(frozen=True)
class Opened(Built):
    run: RunFolder = field(kw_only=True)
    step: int = field(kw_only=True)
    best: bool = field(kw_only=True, default=False)
    """Whether its weights are those that were best in validation, not the newest."""

    @property
    def data(self) -> Data:
        refuse_agent(self.plan, self.run.folder, "a model of sound")
        return super().data

    def untrained(self) -> Learner:
        """Untrained control: the same network with other initial weights; an agent's ears are untrained, too."""
        signal = None if self.clips is None else self.clips.world.signal
        return fresh(self.plan, signal, self.plan.seed + UNTRAINED_SEED).eval()


def open_plan(folder: Path) -> tuple[RunFolder, Plan]:
    """A run folder and the plan that it records."""
    run = RunFolder.read(folder)
    return run, recorded_plan(run.config, folder)


def recorded_plan(config: Mapping[str, Any], folder: Path) -> Plan:
    """Plan recorded in a configuration. If its upstream run no longer exists, a run of the same name beside the
    folder takes its place, as after copying both to another machine; its weights have to be the same."""
    plan = read_plan(config, f"{folder}/config.json")
    if plan.upstream is None or is_run(Path(plan.upstream.run)):
        return plan
    # The last part of a path, POSIX or Windows.
    there = folder.absolute().parent / PureWindowsPath(plan.upstream.run).name
    if not is_run(there):
        return plan
    return replace(plan, upstream=replace(plan.upstream, run=str(there)))


def path_of(source: ClipsPlan | RolloutsPlan) -> Any:
    """The path that a plan reads clips from; None if it reads none."""
    return to_json(source.config).get("path") if isinstance(source, ClipsPlan) else None


def is_lost(path: Any) -> bool:
    """Whether a path is given, and nothing is there."""
    return isinstance(path, str) and path != "" and not Path(path).exists()


def is_run(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def open_run(
    folder: Path | str,
    progress: Progress = silent,
    remark: Remark = lambda _: None,
    worlds: Worlds | None = None,
    best: bool = False,
) -> Opened:
    """Open a run with its newest weights, or those that were best in validation; raises ValueError if its
    recordings or their split are not those that it was trained on."""
    folder = Path(folder)
    run, plan = open_plan(folder)
    built = build(plan, folder=folder, progress=progress, largest=saved_bytes(run, plan), worlds=worlds)
    if built.clips is not None:
        compare(built.clips.world, built.clips.split, folder)
    step = restored(run, built.learner, remark, best)
    return Opened(
        built.plan, built.learner, built.source, built.clips, built.remarks, run=run, step=step, best=best
    )


def open_learner(
    folder: Path, remark: Remark = lambda _: None, wanted: str = "a model of sound", best: bool = False
) -> tuple[Plan, Learner, Signal]:
    """Plan and learner of a run, with its newest weights or those that were best in validation, and the form of
    its training signal; the training data are not required. Raises ValueError for an agent, saying what is
    `wanted` instead."""
    run, plan = open_plan(folder)
    refuse_agent(plan, folder, wanted)
    signal = signal_of(plan, folder)
    learner = fresh(plan, signal, largest=saved_bytes(run, plan))
    restored(run, learner, remark, best)
    return plan, learner, signal


def refuse_agent(plan: Plan, folder: Path, wanted: str) -> None:
    """Raise ValueError for the run of an agent, which has no clips."""
    if isinstance(plan.source, RolloutsPlan):
        raise ValueError(
            f"'{folder}' is a run of {plan.model}, an agent, which has no clips: give one of {wanted}"
        )


def open_agent(folder: Path, remark: Remark = lambda _: None, best: bool = False) -> tuple[Agent, Space, Space]:
    """The agent of a run, and the observation and action spaces of its environment."""
    run, plan = open_plan(folder)
    assert isinstance(plan.source, RolloutsPlan), plan.source
    for line in remarks_on(plan.source, registered(plan.source.rollouts)):
        remark(line)
    learner = fresh(plan, None, largest=saved_bytes(run, plan))
    restored(run, learner, remark, best)
    assert isinstance(learner, Agent), type(learner)
    env = plan.source.rollouts.make()
    env.close()
    return learner, env.observation_space, env.action_space


def signal_of(plan: Plan, folder: Path) -> Signal:
    """Form of the clips of a plan; its world is built only if nothing else determines it."""
    source = plan.clips
    if plan.upstream is not None:
        if source.config.frames:
            below = plan.upstream
            shape = (source.config.frames, below.width)
            return Signal("codes", shape, frame_rate=below.frame_rate, frame_first=below.frame_first)
        return Codes(source.config, codes_below(plan.upstream, folder, silent)).signal
    entry = WORLDS[source.world]
    if entry.signal is not None:
        return entry.signal(source.config)
    return entry.build(source.config, plan.seed, silent).signal


def restored(run: RunFolder, learner: Learner, remark: Remark, best: bool) -> int:
    """Load the weights of the newest complete checkpoint, or those that were best in validation, into the learner;
    return their step."""
    if best:
        step, weights = run.load_best()
        restore_weights(learner, weights, f"'{run.best_weights(step)}'")
        learner.eval()
        return step
    saved = run.load()
    if saved is None:
        faults = "; ".join(run.passed_over) or "none was saved yet"
        raise ValueError(f"'{run.folder}' has no complete checkpoint ({faults}): train it with `sonarium train`")
    step, weights, _ = saved
    for fault in run.passed_over:
        remark(f"{run.folder}: {fault}; taking step {step}")
    restore_weights(learner, weights, f"'{run.folder}/checkpoints/step-{step}'")
    learner.eval()
    return step


def plan_on_codes(model: str, below: Opened, preset: str = "default", front: str = "") -> Plan:
    """Default plan of a model on the codes of a run, with the split of that run, whose training clips must not be
    tested on."""
    refuse_agent(below.plan, below.run.folder, "a model of sound")
    own = below.plan.clips.split
    split = replace(own, split_seed=below.plan.seed if own.split_seed is None else own.split_seed)
    return default_plan(model, preset=preset, front=front, upstream=upstream_of(below), split=split)


def upstream_of(opened: Opened) -> Upstream:
    """Reference to the weights of an open run, as recorded by a run that is trained on its codes."""
    world, first = opened.data.world, opened.data.split.train[:1]
    [(_, codes, _)] = codes_of(opened.learner, world, first, silent)
    step, sha256 = standing(opened.run, opened.best)
    assert step is not None, "it is open"
    made = codes.shape[2], *frame_times(opened.learner, world)
    run = str(opened.run.folder.absolute())
    return Upstream(run, step, sha256, *made, opened.plan.recorded(), opened.best)


def plan_with_ears(
    model: str, folder: Path, preset: str = "default", remark: Remark = lambda _: None, best: bool = False
) -> Plan:
    """Default plan of an agent that hears with the encoder or the separator of a run, with its newest weights or
    those that were best in validation; the recordings of that run are not required."""
    plan, learner, signal = open_learner(folder, remark, "an encoder or a separator as --ears", best)
    step, sha256 = standing(RunFolder.read(folder), best)
    assert step is not None, "it was opened"
    if isinstance(learner, Separator):
        made = 2 * learner.sources, float(rate_of(signal)), 0.0
    else:
        encoder = hearing_by(learner, signal, folder)[0]
        with torch.no_grad():
            width = encoder.encode(torch.zeros(1, signal.shape[0])).shape[2]
        made = width, encoder.code_rate, encoder.code_first
    upstream = Upstream(str(folder.absolute()), step, sha256, *made, plan.recorded(), best)
    return default_plan(model, preset=preset, upstream=upstream)


def standing(run: RunFolder, best: bool) -> tuple[int | None, str]:
    """Step and hash of a run's newest weights, or of those that were best in validation; the step is None if there
    are none."""
    if best:
        found = run.best()
        return (None, "") if found is None else (found.step, found.sha256)
    step = run.newest()
    return step, "" if step is None else digest(run.weights(step))


def check_upstream(upstream: Upstream) -> None:
    """Raise ValueError if the weights of an upstream run, the newest or the best in validation, are not those that
    were recorded."""
    run, plan = open_plan(Path(upstream.run))
    step, sha256 = standing(run, upstream.best)
    if (step, sha256) != (upstream.step, upstream.sha256):
        where = f"{step} (best in validation)" if upstream.best else f"{step}"
        raise ValueError(
            f"the upstream run '{upstream.run}' stands at step {where}, with other weights than those of step "
            f"{upstream.step} that this run began with: restore it, or start a new --run"
        )
    # A run that is upstream of itself would be opened in an endless loop.
    if runs_below(plan.recorded()) != runs_below(upstream.plan):
        raise ValueError(
            f"the upstream run '{upstream.run}' has {runs_below(plan.recorded())} run(s) upstream, and "
            f"{runs_below(upstream.plan)} when this run began: restore it, or start a new --run"
        )


def runs_below(plan: Mapping[str, Any]) -> int:
    """Length of the chain of runs upstream of a recorded plan."""
    upstream = plan.get("upstream")
    return 1 + runs_below(upstream["plan"]) if upstream else 0


def clips_below(upstream: Upstream, progress: Progress = silent) -> World:
    """World of the clips from which an upstream run computes its codes, in the same order."""
    check_upstream(upstream)
    return open_run(Path(upstream.run), progress, best=upstream.best).data.world


def codes_below(upstream: Upstream, folder: Path | None, progress: Progress) -> Encoded:
    """Codes of the upstream run: as saved in `folder`, or computed now."""
    if folder is not None and (folder / FOLDER).is_dir():
        return Encoded.load(folder / FOLDER)
    check_upstream(upstream)
    opened = open_run(Path(upstream.run), progress, best=upstream.best)
    return encode_clips(opened.learner, opened.data.world, progress)
