"""Trainings that are killed at a step that is known beforehand, each in a process of its own."""

import os
import signal
from collections.abc import Sequence

from sonarium_process import SERVER

PATIENCE = 100
"""Seconds, on a machine that many share."""


def train(model: str, words: Sequence[str], kill_at: int) -> None:
    """`sonarium train MODEL …`, killed after this step."""
    import torch

    from sonarium.commands.train import plan_from
    from sonarium.runs import train

    torch.set_num_threads(1)

    def watch(stage: str, done: int, total: int, newest: dict[str, float]) -> None:
        if stage == "training" and done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    flags, plan = plan_from(model, list(words))
    train.train(plan, flags.run, flags.steps, flags.device, progress=watch)


def kill(model: str, words: Sequence[str], step: int) -> None:
    """Train until the process is killed after this step."""
    process = SERVER.Process(target=train, args=(model, words, step))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL, f"{model} ended with {process.exitcode} before step {step}"
