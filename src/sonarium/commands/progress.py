"""Progress with rate and time left, on the error stream: bars on a terminal, elsewhere a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sonarium.commands.faults import say
from sonarium.training.fit import Progress as Report

SHOWN = ("loss/total", "loss/error", "penalty/kl", "contrast/loss", "contrast/accuracy")
"""Metrics shown beside the bar."""
LATEST, SOONEST = 30.0, 10.0
"""Maximum and minimum seconds between lines; short stages have none."""
PART = 0.1
"""Fraction of the work between lines for one to be due before the maximum."""


class RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


def summary(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name.partition('/')[2]} {metrics[name]:.4g}" for name in SHOWN if name in metrics)


def plainly(report: Report) -> Callable[[str, int, int], None]:
    """The reporter as a progress callback of stages without metrics."""
    return lambda stage, done, total: report(stage, done, total, {})


@contextmanager
def bars() -> Iterator[Report]:
    """Progress reporter that draws one bar per stage on a terminal, and writes lines elsewhere."""
    console = Console(stderr=True)
    with drawn(console) if console.is_terminal else written() as report:
        yield report


@contextmanager
def drawn(console: Console) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int, metrics: dict[str, float]) -> None:
            if stage not in tasks:
                # A resumed training starts in the middle: earlier steps do not count for its speed.
                tasks[stage] = progress.add_task(stage, total=total, completed=max(done - 1, 0), metrics="")
            progress.update(tasks[stage], completed=done, metrics=summary(metrics))

        yield report


@contextmanager
def written() -> Iterator[Report]:
    """Reporter that writes lines for logs, also while a stage works for long without a report."""
    lines, ended = Lines(), Event()

    def watch() -> None:
        while not ended.wait(1.0):
            lines.tick()

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lines.report
    finally:
        ended.set()
        watcher.join()


@dataclass
class Lines:
    """Writes the progress of the newest stage, at most every few seconds."""

    clock: Callable[[], float] = time.monotonic
    line: Callable[[str], None] = say
    stage: str = ""
    done: int = 0
    total: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.began = self.told = self.clock()
        self.first = self.told_at = 0

    def report(self, stage: str, done: int, total: int, metrics: dict[str, float]) -> None:
        with self.lock:
            if stage != self.stage:
                self.stage, self.began = stage, self.clock()
                # A resumed training starts in the middle.
                self.first = self.told_at = max(done - 1, 0)
            self.done, self.total, self.metrics = done, total, metrics
        self.tick()

    def tick(self) -> None:
        """Write a line if one is due."""
        with self.lock:
            now = self.clock()
            further = self.done - self.told_at >= max(1, PART * self.total)
            soon = further and now - max(self.told, self.began) >= SOONEST
            if self.stage and (soon or now - self.told >= LATEST):
                self.told, self.told_at = now, self.done
                self.line(self.written(now))

    def written(self, now: float) -> str:
        """A line with stage, work done, rate, time left and metrics."""
        share = f" ({self.done / self.total:.0%})" if self.total else ""
        said = [f"{self.stage}: {self.done} of {self.total}{share}"]
        rate = (self.done - self.first) / (now - self.began) if now > self.began else 0.0
        if rate and self.done < self.total:
            said += [f"{rate:.3g}/s", f"{duration((self.total - self.done) / rate)} left"]
        return ", ".join([*said, *filter(None, [summary(self.metrics)])])


def duration(seconds: float) -> str:
    """The duration in the largest unit of which it has at least two."""
    unit, length = next(
        ((name, size) for name, size in (("h", 3600), ("min", 60)) if seconds >= 2 * size), ("s", 1)
    )
    return f"{seconds / length:.0f} {unit}"
