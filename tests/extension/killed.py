"""Trainings that are killed after a given step, each in a separate process."""

import os
import signal
from collections.abc import Sequence

from sonarium_process import SERVER

PATIENCE = 100
"""Timeout in seconds, for a shared machine."""


def train(model: str, words: Sequence[str], kill_at: int) -> None:
    """Run `sonarium train MODEL …` and kill this process after step `kill_at`."""
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
    """Train in another process, which is killed after this step."""
    process = SERVER.Process(target=train, args=(model, words, step))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL, f"{model} ended with {process.exitcode} before step {step}"
