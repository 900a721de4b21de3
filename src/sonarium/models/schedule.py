"""Learning rates that change with the updates; they follow from the number of updates alone, so a run resumes."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ScheduleConfig:
    course: Literal["constant", "noam", "cosine"] = "constant"
    """How the learning rate goes on after the warm-up: constant, noam (with the inverse square root of the
    updates; Vaswani et al. 2017, arXiv 1706.03762), or cosine (to nothing at `horizon`)."""
    warm_up: int = 0
    """Updates over which the learning rate rises evenly to its highest; noam needs at least 1."""
    horizon: int = 0
    """Update at which a cosine arrives at nothing; 0: with the last of the `--steps` that the run began with."""

    def __post_init__(self) -> None:
        demands = [
            ("course", self.course in ("constant", "noam", "cosine"), "constant, noam or cosine"),
            ("warm_up", self.warm_up >= (self.course == "noam"), "a whole number, for noam of at least 1"),
            (
                "horizon",
                self.course != "cosine" or not self.horizon or self.horizon > self.warm_up,
                "more updates than warm_up",
            ),
        ]
        for name, met, expected in demands:
            if not met:
                raise ValueError(f"{name}={getattr(self, name)!r}: give {expected}")


def share(config: ScheduleConfig, done: int) -> float:
    """The share of the highest learning rate that the update after `done` others takes."""
    update = done + 1
    if update <= config.warm_up:
        return update / config.warm_up
    if config.course == "noam":
        return math.sqrt(config.warm_up / update)
    if config.course == "cosine":
        if not config.horizon:
            raise ValueError("horizon=0: say at which update the cosine arrives at nothing")
        progress = (update - config.warm_up) / (config.horizon - config.warm_up)
        return (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return 1.0
