"""The training loop, with logging, validation, checkpoints and interruption.

A step depends only on the seed, its number, and state that is in the checkpoint; on a CPU, a resumed run is
therefore bit-identical to an uninterrupted one.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from sonarium.config import Range, check_ranges
from sonarium.environment import EnvironmentFault
from sonarium.models.contract import Learner
from sonarium.training.contract import Source, Stateful, Tree
from sonarium.training.engine import FabricEngine, Precision
from sonarium.training.journal import VALIDATION, Journal
from sonarium.training.restoring import restore_part
from sonarium.training.run import RunFolder, restore_weights


class Diverged(ValueError):
    """A loss or a weight is not finite."""


DIVERGED = (
    "the training has diverged; start a new --run with a smaller --learning-rate, "
    "or look for samples that are not finite"
)


@dataclass(frozen=True)
class LoopConfig:
    seed: Annotated[int, Range(0)] = 0
    """Random seed of the split, the initial weights, the order of the clips, environments and sampling."""
    precision: Precision = "32"
    """Floating-point precision of the forward pass: 32 bits, or bf16 where the hardware supports it."""
    log_every: Annotated[int, Range(1)] = 20
    """Steps between log entries; each holds the mean metrics since the last."""
    save_every: Annotated[int, Range(1)] = 250
    """Steps between checkpoints."""
    start_from: str | None = None
    """Initial weights of a new run: a run folder of the same model (its newest weights, or with --best those that
    were best in validation), or a .pt file of another program if the model supports it."""
    best: bool = False
    """Of the run that this one builds on (codes, ears or start_from), take the weights that were best in
    validation; by default the newest."""

    def __post_init__(self) -> None:
        check_ranges(self)


Progress = Callable[[str, int, int, dict[str, float]], None]
"""Progress callback, called with (stage, done, total, newest metrics)."""


def ignore(*_: object) -> None:
    """Default callback: do nothing."""


@dataclass(frozen=True)
class Validated:
    """Result of a validation."""

    score: float
    """Score of the weights; higher is better."""
    metrics: dict[str, float]


@dataclass(frozen=True)
class Callbacks:
    """Callbacks of a training."""

    progress: Progress = ignore
    """Called with the progress."""
    remark: Callable[[str], None] = ignore
    """Called with a line for each damaged file that is skipped, and each remark of the learner on its metrics."""
    show: Callable[[Learner, Journal, int], None] = ignore
    """Called at the end with the learner, to write pictures and sounds to the journal."""
    validate: Callable[[Learner], Validated] | None = None
    """Called before each checkpoint; the weights with the highest score are kept."""


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; everything up to `step` is saved."""

    def __init__(self, step: int):
        super().__init__(f"stopped after step {step}; the same command resumes from there")
        self.step = step


class Meter:
    """Means of the metrics since the last record, accumulated on the device."""

    def __init__(self, engine: FabricEngine) -> None:
        self.engine = engine
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            self.sums[name] = self.sums[name] + value.double() if name in self.sums else value.double()
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self, step: int) -> dict[str, float]:
        """Return the means over steps and ranks, and reset."""
        means = {name: self.engine.mean(total / self.counts[name]).item() for name, total in self.sums.items()}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise Diverged(f"{name} became {mean} by step {step}: {DIVERGED}")
        self.sums, self.counts = {}, {}
        return means

    def state_dict(self) -> Tree:
        # Means over all ranks, so that any number of processes can resume from it.
        return {
            "sums": {name: self.engine.mean(total) for name, total in self.sums.items()},
            "counts": self.counts,
        }

    def load_state_dict(self, state: Tree) -> None:
        sums = state["sums"]
        # Version 0.1 has one count for all metrics.
        counts: Any = state["counts"] if "counts" in state else dict.fromkeys(sums, state["count"])
        for name, total in sums.items():
            if not (isinstance(total, Tensor) and total.shape == () and total.dtype == torch.float64):
                raise ValueError(f"the sum of {name} is not a number in double precision")
        if counts.keys() != sums.keys() or not all(type(count) is int and count > 0 for count in counts.values()):
            raise ValueError(f"the counts {counts!r:.60} do not fit the sums of {', '.join(sums)}")
        self.sums = {name: total.to(self.engine.device) for name, total in sums.items()}
        self.counts = counts


def below(state: Tree, *names: str) -> Tree:
    """Nested value of a state under these keys; raises ValueError if one is missing."""
    for name in names:
        if not isinstance(state, dict) or name not in state:
            raise ValueError(f"it has no '{name}'")
        state = state[name]
    return state


@contextmanager
def stop_on_request() -> Iterator[Callable[[], bool]]:
    """On SIGINT or SIGTERM stop the loop after the current step; a second signal interrupts at once.
    Yields a function that returns whether to stop."""
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread can handle signals.
        yield lambda: False
        return
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
    """Training of one learner in one run folder: its checkpointed state and its callbacks."""

    def __init__(
        self,
        learner: Learner,
        source: Source,
        run: RunFolder,
        engine: FabricEngine,
        loop: LoopConfig,
        callbacks: Callbacks,
    ):
        self.learner, self.source, self.run, self.engine = learner, source, run, engine
        self.loop, self.callbacks = loop, callbacks
        self.meter = Meter(engine)
        self.begun = False
        """Whether it resumes from a checkpoint; that of step 0 holds a prepared but untrained learner."""
        self.prepared = False
        """Whether the learner has its statistics from a checkpoint or another run, and is not prepared again."""

    def resume(self) -> int:
        """Restore the newest complete checkpoint and return its step, or else apply `start_from` and return 0."""
        saved = self.run.load()
        step = 0 if saved is None else saved[0]
        for fault in self.run.passed_over:
            self.callbacks.remark(f"{self.run.folder}: {fault}; going on from step {step}")
        for fault in self.run.left_out:
            self.callbacks.remark(f"{self.run.folder}: {fault}: going on without what it holds")
        if saved is None:
            if self.loop.start_from is not None:
                self.start_from(Path(self.loop.start_from))
            return 0
        self.begun = self.prepared = True
        _, weights, state = saved
        where = f"'{self.run.folder}/checkpoints/step-{step}'"
        restore_weights(self.learner, weights, where)
        try:
            for name, part in self.learner.parts().items():
                restore_part(name, part, below(state, "parts", name))
            for name, part in self.own_parts().items():
                restore_part(name, part, below(state, name))
        except EnvironmentFault:
            raise
        except ValueError as error:
            raise ValueError(
                f"{where} does not fit this training ({error}): it was made on another device or by another "
                "version of Sonarium; go on there, or start a new run folder"
            ) from None
        return step

    def start_from(self, folder: Path) -> None:
        """Start from the newest weights of another run, or those best in validation, including its statistics, or
        from the weights in a file; the optimisers are new."""
        if not folder.exists():
            raise ValueError(f"start_from: there is no '{folder}': give a run folder, or a file of parameters")
        if folder.is_file():
            if self.loop.best:
                raise ValueError(
                    f"start_from: '{folder}' is a file, not a run folder, which alone has weights of validation: "
                    "leave out --best"
                )
            weights, where = self.weights_in(folder), f"'{folder}'"
        elif self.loop.best:
            run = RunFolder.read(folder)
            step, weights = run.load_best()
            where = f"'{run.best_weights(step)}'"
        else:
            saved = RunFolder.read(folder).load()
            if saved is None:
                raise ValueError(f"start_from: '{folder}' has no complete checkpoint: train it first")
            weights, where = saved[1], f"'{folder}/checkpoints/step-{saved[0]}'"
        restore_weights(self.learner, weights, where)
        self.learner.restart()
        self.prepared = True

    def weights_in(self, file: Path) -> dict[str, Tensor]:
        """The weights in a file written by another program."""
        try:
            # Tensors only: a pickle could execute code.
            found = torch.load(file, map_location="cpu", weights_only=True)
        # Reading an arbitrary file may raise anything.
        except Exception as error:
            raise ValueError(
                f"start_from: '{file}' holds no tensors of PyTorch ({type(error).__name__}): give a run folder, "
                "or a file that torch.save wrote of a state_dict"
            ) from None
        known = isinstance(found, Mapping) and all(isinstance(value, Tensor) for value in found.values())
        if not known:
            raise ValueError(f"start_from: '{file}' holds no state_dict: give a file of named tensors")
        try:
            return dict(self.learner.weights_of(found))
        except ValueError as error:
            raise ValueError(f"start_from: '{file}': {error}") from None

    def own_parts(self) -> dict[str, Stateful]:
        """What a checkpoint saves besides the learner and its parts."""
        return {"engine": self.engine, "source": self.source, "meter": self.meter}

    def save(self, step: int) -> None:
        for name, parameter in self.learner.named_parameters():
            if not bool(parameter.isfinite().all()):
                raise Diverged(f"the weights {name} are not finite at step {step}: {DIVERGED}")
        state = {
            "parts": {name: part.state_dict() for name, part in self.learner.parts().items()},
            **{name: part.state_dict() for name, part in self.own_parts().items()},
        }
        if self.engine.rank == 0:
            self.run.save(step, self.learner.state_dict(), state)
        # A rank that continued alone could be killed with a checkpoint that the others have not seen.
        self.engine.barrier()

    def validate(self, step: int, journal: Journal | None) -> None:
        """Validate the learner, and save its weights if they are the best so far."""
        if self.callbacks.validate is None:
            return
        found = self.callbacks.validate(self.learner)
        best = self.run.best()
        # A score from this step or later dates from before resuming: it is discarded, as its records are.
        better = best is None or best.step >= step or found.score > best.score
        if self.engine.rank == 0 and math.isfinite(found.score) and better:
            self.run.save_best(step, found.score, self.learner.state_dict())
        if journal is not None:
            journal.scalars(step, {f"{VALIDATION}{name}": value for name, value in found.metrics.items()})

    def prepare(self, start: int, stopping: Callable[[], bool]) -> None:
        """Preparation before the first step, such as statistics; nothing is lost by stopping here."""

        def report(stage: str, done: int, total: int) -> None:
            self.callbacks.progress(stage, done, total, {})
            if stopping():
                raise Interrupted(start)

        self.engine.report = report
        self.source.attach(self.learner, self.engine)
        if not self.prepared:
            self.learner.prepare(self.source, self.engine)

    def go(self, start: int, steps: int, journal: Journal | None, stopping: Callable[[], bool]) -> None:
        """Run the training steps after `start`, up to `steps` inclusive."""
        began, since = time.perf_counter(), start
        clock = None if journal is None else journal.clock
        if clock is not None:
            clock.go()
        newest: dict[str, float] = {}
        said: set[str] = set()
        for step in range(start + 1, steps + 1):
            self.meter.add(self.learner.update(next(self.source), self.engine))
            if self.source.pass_ended:
                self.meter.add(self.learner.end_pass(self.engine))
            if clock is not None:
                clock.items += self.source.batch_size
            last, stop = step == steps, self.engine.any(stopping())
            logs = step % self.loop.log_every == 0 or last
            # Not where a user stops: a resumed run has the same records as an uninterrupted one.
            validates = step % self.loop.save_every == 0 or last
            saves = validates or stop
            if journal is not None and (logs or saves):
                journal.tick(step)
            if logs:
                newest = self.meter.take(step)
                for line in self.learner.remarks(newest):
                    if line not in said:
                        self.callbacks.remark(line)
                    said.add(line)
                now = time.perf_counter()
                if journal is not None:
                    journal.scalars(step, newest)
                    journal.speed(step, (step - since) * self.source.batch_size / (now - began), self.source.unit)
                began, since = now, step
            if validates:
                self.validate(step, journal)
                if clock is not None:
                    clock.go()
            if saves:
                if journal is not None:
                    journal.sync()
                self.save(step)
            self.callbacks.progress("training", step, steps, newest)
            if stop:
                raise Interrupted(step)


@contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Limit the number of CPU threads of torch; None sets no limit."""
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(min(before, threads))
        yield
    finally:
        torch.set_num_threads(before)


def fit(
    learner: Learner,
    source: Source,
    run: RunFolder,
    engine: FabricEngine,
    loop: LoopConfig,
    steps: int,
    callbacks: Callbacks,
) -> None:
    """Train up to `steps` steps in total, resuming from the newest checkpoint; 0 saves the untrained learner."""
    with run.locked(engine.rank == 0):
        learner.to(engine.device)
        engine.storage = run.segments
        training = Training(learner, source, run, engine, loop, callbacks)
        start = training.resume()
        if start > steps:
            raise ValueError(
                f"'{run.folder}' stands at step {start} already, beyond --steps {steps}: "
                f"give --steps {start} or more, or start a new --run folder"
            )
        # All ranks must have read the checkpoint before rank 0 writes another.
        engine.barrier()
        journal = Journal(run.folder, start) if engine.rank == 0 else None
        try:
            if start < steps or not training.begun:
                with stop_on_request() as stopping:
                    training.prepare(start, stopping)
                    learner.train()
                    with limited(learner.threads):
                        training.go(start, steps, journal, stopping)
                    if not steps:
                        training.save(0)
            learner.eval()
            # Everything is saved: from here on an interruption takes effect at once.
            if journal is not None:
                try:
                    callbacks.show(learner, journal, steps)
                except KeyboardInterrupt:
                    raise Interrupted(steps) from None
        finally:
            if journal is not None:
                journal.close()
