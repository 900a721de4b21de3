"""The loop: which clips come when, and when to log, save and show.

All that happens at a step follows from the seed and the step, or is in the checkpoint; a run that was
interrupted therefore ends, on a CPU, bit for bit as an unbroken one.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import tee
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sonarium.models.contract import Learner
from sonarium.training.engine import FabricEngine, Precision
from sonarium.training.journal import Journal
from sonarium.training.run import Run, restore_optimiser, restore_weights
from sonarium.worlds.contract import Batch, World

BLOCK = 64
"""Clips whose features are computed at a time."""
DIVERGED = (
    "the training has diverged; start a new --run with a smaller --learning-rate, "
    "or look for samples that are not finite"
)


@dataclass(frozen=True)
class FitConfig:
    batch: int = 64
    """Clips an update."""
    seed: int = 0
    """Seed of the split, the weights, the order of the clips and the noise."""
    precision: Precision = "32"
    """Arithmetic of the forward pass: 32 bits, or bf16 where the hardware has it."""
    validation: float = 0.0
    """Share of the groups kept for choosing between models."""
    test: float = 0.2
    """Share of the groups kept for judging; 0 keeps none, and nothing can be scored."""
    test_groups: tuple[str, ...] = ()
    """Groups kept for judging by name (a speaker, a fold), in place of a share."""
    validation_groups: tuple[str, ...] = ()
    """Groups kept for choosing, likewise."""
    hear: Literal["train", "all"] = "train"
    """What is learnt from: train, or all sound there is. Probes keep to the parts, and are then judged on what was
    heard without its labels, as new recordings of a laboratory can be."""
    log_every: int = 20
    """Updates between two records of the metrics; each record is the mean since the last."""
    save_every: int = 250
    """Updates between two checkpoints."""
    cache_megabytes: int = 2048
    """Features are computed once and kept when they take no more than this."""

    def __post_init__(self) -> None:
        least = {"batch": 1, "seed": 0, "log_every": 1, "save_every": 1, "cache_megabytes": 0}
        for field in fields(self):
            value = getattr(self, field.name)
            if value < least.get(field.name, value):
                flag = field.name.replace("_", "-")
                raise ValueError(f"--{flag} {value}: give a whole number of at least {least[field.name]}")


Progress = Callable[[str, int, int, dict[str, float]], None]
"""Called with the stage, how much is done, of how much, and the newest metrics."""


def ignore(*_: object) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Audience:
    """Who hears of a training while it goes on."""

    progress: Progress = ignore
    """Draws how far it is."""
    remark: Callable[[str], None] = ignore
    """Told of damage that was found and passed over."""
    show: Callable[[Learner, Journal, int], None] = ignore
    """Called at the end with the learner, to put pictures and sounds into the journal."""


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; everything up to `step` is saved."""

    def __init__(self, step: int):
        super().__init__(f"stopped after step {step}; the same command resumes from there")
        self.step = step


def check_batch(batch: int, clips: int, least: int = 1) -> None:
    if not least <= batch <= clips:
        raise ValueError(
            f"batch={batch}, but this model learns from {least} or more clips at a time, and there are {clips} to "
            f"train on: use --batch between {least} and {clips}, or a larger world"
        )


class Clips:
    """The training clips, shuffled anew each epoch; the order follows from the seed and the step."""

    def __init__(self, world: World, train: Int[Tensor, " clip"], config: FitConfig, engine: FabricEngine):
        check_batch(config.batch, len(train))
        self.world, self.train, self.config, self.engine = world, train, config, engine
        self.cache: tuple[Tensor, Tensor] | None = None
        """Features of the training clips, and their causes."""
        self.epoch, self.order = -1, np.empty(0, dtype=np.int64)

    def blocks(self, progress: Progress, stage: str) -> Iterator[Batch]:
        for start in range(0, len(self.train), BLOCK):
            index = self.train[start : start + BLOCK]
            # Pieces like those that will be learnt from, where the world cuts them: a recording may be an hour.
            batch = self.world.piece(index, self.config.seed, start, self.engine.device)
            wrong = ~batch.signal.isfinite().flatten(1).all(1)
            if wrong.any():
                raise ValueError(
                    f"clip {int(batch.index[wrong][0])} of world '{self.world.name}' holds NaN or infinite "
                    "samples: mend what it is made of, or leave it out"
                )
            yield batch
            progress(stage, min(start + BLOCK, len(self.train)), len(self.train), {})

    def keep_features(self, learner: Learner, progress: Progress) -> None:
        """Compute each clip's features once, if the front end is fixed and they fit."""
        if self.world.pieces or any(parameter.requires_grad for parameter in learner.front.parameters()):
            return
        with torch.no_grad():
            probe = learner.features(self.world.whole(self.train[:1], self.engine.device))
            if probe.nbytes * len(self.train) > self.config.cache_megabytes * 2**20:
                return
            blocks = self.blocks(progress, "computing features")
            kept = [(learner.features(batch), batch.factors) for batch in blocks]
            self.cache = torch.cat([one for one, _ in kept]), torch.cat([one for _, one in kept])

    def at(self, step: int) -> Batch:
        per_epoch = len(self.train) // self.config.batch
        epoch, place = divmod(step, per_epoch)
        if epoch != self.epoch:
            self.order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.train))
            self.epoch = epoch
        chosen = torch.from_numpy(self.order[place * self.config.batch : (place + 1) * self.config.batch])
        if self.cache is None:
            return self.world.piece(self.train[chosen], self.config.seed, step, self.engine.device)
        features, causes = self.cache
        place_there, nothing = chosen.to(features.device), torch.empty(len(chosen), 0)
        return Batch(self.train[chosen], nothing, causes[place_there], features[place_there])


class Meter:
    """Means of the metrics since the last record, summed on the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            self.sums[name] = self.sums[name] + value.double() if name in self.sums else value.double()
        self.count += 1

    def take(self, step: int) -> dict[str, float]:
        means = {name: (total / self.count).item() for name, total in self.sums.items()}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise ValueError(f"{name} became {mean} by step {step}: {DIVERGED}")
        self.sums, self.count = {}, 0
        return means


@contextmanager
def stop_on_request() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and a polite kill end the loop after the current update instead of tearing it; a second one at
    once. Yields what tells whether to end."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        asked.append(number)
        if len(asked) > 1:
            raise KeyboardInterrupt("interrupted; the same command resumes from the last checkpoint")

    handled = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, ask) for number in handled]
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in zip(handled, before, strict=True):
            signal.signal(number, handler)


class Training:
    """One learner at work in one run folder: all that a checkpoint keeps, and who hears of it."""

    def __init__(self, learner: Learner, clips: Clips, run: Run, engine: FabricEngine, audience: Audience):
        self.learner, self.clips, self.run, self.engine, self.audience = learner, clips, run, engine, audience
        self.meter = Meter()

    def resume(self) -> int:
        """Put everything back as it was at the newest whole checkpoint; its step, 0 if there is none."""
        saved = self.run.load()
        step = 0 if saved is None else saved[0]
        for fault in self.run.passed_over:
            self.audience.remark(f"{self.run.folder}: {fault}; going on from step {step}")
        if saved is None:
            return 0
        _, weights, state = saved
        where = f"'{self.run.folder}/checkpoints/step-{step}'"
        restore_weights(self.learner, weights, where)
        try:
            for name, optimiser in self.learner.optimisers().items():
                restore_optimiser(optimiser, state["optimisers"][name])
            self.engine.generator.set_state(state["generator"])
            sums, self.meter.count = state["meter"]["sums"], state["meter"]["count"]
            self.meter.sums = {name: total.to(self.engine.device) for name, total in sums.items()}
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{where} does not fit this training ({error}): it was made on another device or by another "
                "version of Sonarium; go on there, or start a new run folder"
            ) from None
        return step

    def save(self, step: int) -> None:
        for name, parameter in self.learner.named_parameters():
            if not bool(parameter.isfinite().all()):
                raise ValueError(f"the weights {name} are not finite at step {step}: {DIVERGED}")
        optimisers = self.learner.optimisers().items()
        state = {
            "optimisers": {name: optimiser.state_dict() for name, optimiser in optimisers},
            "generator": self.engine.generator.get_state(),
            "meter": {"sums": self.meter.sums, "count": self.meter.count},
        }
        self.run.save(step, self.learner.state_dict(), state)

    def prepare(self, start: int, stopping: Callable[[], bool]) -> None:
        """What is computed of the clips before the first update; nothing is lost by stopping here."""

        def progress(stage: str, done: int, total: int, metrics: dict[str, float]) -> None:
            self.audience.progress(stage, done, total, metrics)
            if stopping():
                raise Interrupted(start)

        if start == 0:
            front: Any = self.learner.front
            sounds, sizes = tee(self.clips.blocks(progress, "measuring the sound"))
            front.fit((batch.signal for batch in sounds), (batch.lengths for batch in sizes))
        self.clips.keep_features(self.learner, progress)

    def go(self, start: int, steps: int, journal: Journal, stopping: Callable[[], bool]) -> None:
        """The updates after `start`, up to `steps`."""
        config = self.clips.config
        began, since = time.perf_counter(), start
        newest: dict[str, float] = {}
        for step in range(start + 1, steps + 1):
            self.meter.add(self.learner.update(self.clips.at(step - 1), self.engine))
            last, stop = step == steps, stopping()
            if step % config.log_every == 0 or last:
                newest = self.meter.take(step)
                journal.scalars(step, newest)
                now = time.perf_counter()
                journal.speed(step, (step - since) * config.batch / (now - began))
                began, since = now, step
            if step % config.save_every == 0 or last or stop:
                journal.sync()
                self.save(step)
            self.audience.progress("training", step, steps, newest)
            if stop:
                raise Interrupted(step)


def fit(
    learner: Learner,
    world: World,
    train: Int[Tensor, " clip"],
    run: Run,
    engine: FabricEngine,
    config: FitConfig,
    steps: int,
    audience: Audience,
) -> None:
    """Train up to `steps` updates in all, from wherever the run stands."""
    with run.locked():
        learner.to(engine.device)
        engine.clips = len(train)
        training = Training(learner, Clips(world, train, config, engine), run, engine, audience)
        start = training.resume()
        if start > steps:
            raise ValueError(
                f"'{run.folder}' stands at step {start} already, beyond --steps {steps}: "
                f"give --steps {start} or more, or start a new --run folder"
            )
        journal = Journal(run.folder, start)
        try:
            if start < steps:
                with stop_on_request() as stopping:
                    training.prepare(start, stopping)
                    learner.train()
                    training.go(start, steps, journal, stopping)
            learner.eval()
            # All is saved by now: from here on an interruption takes effect at once.
            try:
                audience.show(learner, journal, steps)
            except KeyboardInterrupt:
                raise Interrupted(steps) from None
        finally:
            journal.close()
