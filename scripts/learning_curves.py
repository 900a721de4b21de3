"""Learning curves that scripts save with their results, at a few points, and draw against steps and time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sonarium.report.learning import Axis, Seed
from sonarium.training.journal import read_metrics

POINTS = 60
"""Maximum number of points of a curve."""
Curve = Mapping[str, Sequence[float]]
"""Columns: environment `steps`, `cpu_s` and `wall_s` since the beginning, and the mean `return` or `success` of
the episodes that ended since the previous point."""
COLUMNS = {"steps": "items", "cpu_s": "cpu_s", "wall_s": "wall_s"}
"""Columns from the clock, with their names there."""
METRICS = {"return": "episodes/return", "success": "episodes/success"}


class Curves:
    """Collects a curve while an agent is trained for a number of updates."""

    def __init__(self, updates: int):
        self.updates = updates
        self.columns: dict[str, list[float]] = {name: [] for name in (*COLUMNS, "return")}
        self.total, self.episodes = 0.0, 0

    def add(self, update: int, returned: float, episodes: int, steps: int, cpu_s: float, wall_s: float) -> None:
        """Add an update, counted from 1, with the mean return of the `episodes` that ended in its rollout."""
        self.total, self.episodes = self.total + returned * episodes, self.episodes + episodes
        if not self.episodes or ends(update, self.updates) == ends(update - 1, self.updates):
            return
        values = (steps, round(cpu_s, 3), round(wall_s, 3), round(self.total / self.episodes, 3))
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)
        self.total, self.episodes = 0.0, 0


def ends(done: int, count: int) -> int:
    """Number of points that are complete after `done` of `count` updates."""
    return done * min(POINTS, count) // count


def curve_of(run: Path) -> dict[str, list[float]] | None:
    """The curve of a run folder, from its metrics and its clock; None if it was not timed."""
    metrics, clock = (read_metrics(run / f"{name}.jsonl") for name in ("metrics", "clock"))
    found = [record for record in metrics if METRICS["return"] in record]
    if not clock or not found:
        return None
    known = {own: name for own, name in METRICS.items() if all(name in record for record in found)}
    columns: dict[str, list[float]] = {name: [] for name in (*COLUMNS, *known)}
    for part in np.array_split(np.arange(len(found)), min(POINTS, len(found))):
        step = found[part[-1]]["step"]
        for own, name in COLUMNS.items():
            at = np.interp(step, [0, *(one["step"] for one in clock)], [0, *(one[name] for one in clock)])
            columns[own].append(round(float(at), 3))
        for own, name in known.items():
            columns[own].append(round(float(np.mean([found[row][name] for row in part])), 4))
    return columns


def seed_of(curve: Curve) -> Seed:
    """A curve in the form in which the report draws it."""
    rows = range(len(curve["steps"]))
    clock = [
        {"step": row + 1, **{name: curve[own][row] for own, name in COLUMNS.items() if own in curve}}
        for row in rows
    ]
    metrics = [
        {"step": row + 1, **{name: curve[own][row] for own, name in METRICS.items() if own in curve}}
        for row in rows
    ]
    return Seed(metrics, clock)


STEPS, SECONDS, MINUTES = (
    Axis("steps of the environment", "items"),
    Axis("seconds of one processor", "cpu_s"),
    Axis("minutes of one processor", "cpu_s", 60),
)
