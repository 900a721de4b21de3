"""The loop: which clips come when, and when to log, save and show.

All that happens at a step follows from the seed and the step, or is in the checkpoint; a run that was
interrupted therefore ends, on a CPU, bit for bit as an unbroken one.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sonarium.models.contract import Learner
from sonarium.training.engine import FabricEngine, Precision
from sonarium.training.journal import Journal
from sonarium.training.run import Run, restore_optimiser
from sonarium.worlds.contract import Batch, World

BLOCK = 64
"""Clips whose features are computed at a time."""


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
    """Share of the groups kept for judging."""
    log_every: int = 20
    """Updates between two records of the metrics; each record is the mean since the last."""
    save_every: int = 250
    """Updates between two checkpoints."""
    cache_megabytes: int = 2048
    """Features are computed once and kept when they take no more than this."""


Progress = Callable[[str, int, int, dict[str, float]], None]
"""Called with the stage, how much is done, of how much, and the newest metrics."""
Show = Callable[[Learner, Journal, int], None]
"""Called at the end with the learner, to put pictures and sounds into the journal."""


class Interrupted(Exception):
    """The user asked to stop; everything up to `step` is saved."""

    def __init__(self, step: int):
        super().__init__(f"stopped after step {step}")
        self.step = step


class Clips:
    """The training clips, shuffled anew each epoch; the order follows from the seed and the step."""

    def __init__(self, world: World, train: Int[Tensor, " clip"], config: FitConfig, engine: FabricEngine):
        if not 1 <= config.batch <= len(train):
            raise ValueError(
                f"batch={config.batch}, but there are {len(train)} clips to train on: "
                f"use --batch between 1 and {len(train)}, or a larger world"
            )
        self.world, self.train, self.config, self.engine = world, train, config, engine
        self.cache: Tensor | None = None
        self.epoch, self.order = -1, np.empty(0, dtype=np.int64)

    def blocks(self, progress: Progress, stage: str) -> Iterator[Batch]:
        for start in range(0, len(self.train), BLOCK):
            yield self.world.batch(self.train[start : start + BLOCK], self.engine.device)
            progress(stage, min(start + BLOCK, len(self.train)), len(self.train), {})

    def keep_features(self, learner: Learner, progress: Progress) -> None:
        """Compute each clip's features once, if the front end is fixed and they fit."""
        if any(parameter.requires_grad for parameter in learner.front.parameters()):
            return
        with torch.no_grad():
            probe = learner.features(self.world.batch(self.train[:1], self.engine.device))
            if probe.nbytes * len(self.train) > self.config.cache_megabytes * 2**20:
                return
            self.cache = torch.cat([learner.features(b) for b in self.blocks(progress, "computing features")])

    def at(self, step: int) -> Batch:
        per_epoch = len(self.train) // self.config.batch
        epoch, place = divmod(step, per_epoch)
        if epoch != self.epoch:
            self.order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.train))
            self.epoch = epoch
        chosen = torch.from_numpy(self.order[place * self.config.batch : (place + 1) * self.config.batch])
        if self.cache is None:
            return self.world.batch(self.train[chosen], self.engine.device)
        nothing = torch.empty(len(chosen), 0)
        return Batch(self.train[chosen], nothing, nothing, self.cache[chosen.to(self.cache.device)])


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
                raise ValueError(
                    f"{name} became {mean} by step {step}: the training has diverged; "
                    "use a smaller --learning-rate, or look for samples that are not finite"
                )
        self.sums, self.count = {}, 0
        return means


@contextmanager
def stop_on_request() -> Iterator[list[int]]:
    """Ctrl-C and a polite kill end the loop after the current update instead of tearing it."""
    asked: list[int] = []
    handled = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda got, frame: asked.append(got)) for number in handled]
    try:
        yield asked
    finally:
        for number, handler in zip(handled, before, strict=True):
            signal.signal(number, handler)


def resume(learner: Learner, engine: FabricEngine, run: Run, meter: Meter) -> int:
    """Put everything back as it was at the newest whole checkpoint; return its step, 0 if there is none."""
    saved = run.load()
    if saved is None:
        return 0
    step, weights, state = saved
    learner.load_state_dict(weights)
    for name, optimiser in learner.optimisers().items():
        restore_optimiser(optimiser, state["optimisers"][name])
    engine.generator.set_state(state["generator"])
    meter.sums, meter.count = state["meter"]["sums"], state["meter"]["count"]
    return step


def save(learner: Learner, engine: FabricEngine, run: Run, meter: Meter, step: int) -> None:
    state = {
        "optimisers": {name: optimiser.state_dict() for name, optimiser in learner.optimisers().items()},
        "generator": engine.generator.get_state(),
        "meter": {"sums": meter.sums, "count": meter.count},
    }
    run.save(step, learner.state_dict(), state)


def fit(
    learner: Learner,
    world: World,
    train: Int[Tensor, " clip"],
    run: Run,
    engine: FabricEngine,
    config: FitConfig,
    steps: int,
    progress: Progress,
    show: Show | None = None,
) -> None:
    """Train up to `steps` updates in all, from wherever the run stands."""
    with run.locked(), stop_on_request() as asked:
        learner.to(engine.device)
        clips, meter = Clips(world, train, config, engine), Meter()
        engine.clips = len(train)
        start = resume(learner, engine, run, meter)
        if start == 0:
            learner.front.fit(batch.signal for batch in clips.blocks(progress, "measuring the sound"))
        if start < steps:
            clips.keep_features(learner, progress)
        learner.train()
        journal = Journal(run.folder, start)
        try:
            loop(learner, clips, run, engine, config, (start, steps), progress, journal, meter, asked)
            if show is not None:
                learner.eval()
                show(learner, journal, steps)
        finally:
            journal.close()


def loop(
    learner: Learner,
    clips: Clips,
    run: Run,
    engine: FabricEngine,
    config: FitConfig,
    span: tuple[int, int],
    progress: Progress,
    journal: Journal,
    meter: Meter,
    asked: list[int],
) -> None:
    began, since = time.perf_counter(), span[0]
    newest: dict[str, float] = {}
    for step in range(span[0] + 1, span[1] + 1):
        meter.add(learner.update(clips.at(step - 1), engine))
        last = step == span[1]
        if step % config.log_every == 0 or last:
            newest = meter.take(step)
            journal.scalars(step, newest)
            now = time.perf_counter()
            journal.speed(step, (step - since) * config.batch / (now - began))
            began, since = now, step
        if step % config.save_every == 0 or last or asked:
            save(learner, engine, run, meter, step)
        progress("training", step, span[1], newest)
        if asked and not last:
            raise Interrupted(step)
