"""Progress bars with rate and time left, on the error stream, and silent where no terminal watches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

from sonarium.training.fit import Progress as Report

SHOWN = ("loss/total", "loss/error", "penalty/kl", "contrast/loss", "contrast/accuracy")
"""Metrics that stand beside the bar."""


class RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


def summary(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name.partition('/')[2]} {metrics[name]:.4g}" for name in SHOWN if name in metrics)


def plainly(report: Report) -> Callable[[str, int, int], None]:
    """The same for stages that have no metrics."""
    return lambda stage, done, total: report(stage, done, total, {})


@contextmanager
def bars() -> Iterator[Report]:
    """A reporter that draws one bar a stage."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int, metrics: dict[str, float]) -> None:
            if stage not in tasks:
                # A resumed training starts in the middle: what was done before is not this run's speed.
                tasks[stage] = progress.add_task(stage, total=total, completed=max(done - 1, 0), metrics="")
            progress.update(tasks[stage], completed=done, metrics=summary(metrics))

        yield report
