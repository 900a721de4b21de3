"""Several ranks in one process: threads that synchronise at a barrier where processes would communicate."""

from collections.abc import Callable
from contextlib import nullcontext
from threading import Barrier, Thread
from typing import Any, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")


class Meeting:
    """Exchange of tensors between ranks; all ranks must make the same sequence of calls."""

    def __init__(self, ranks: int):
        self.ranks, self.barrier = ranks, Barrier(ranks)
        self.brought: list[Any] = [None] * ranks

    def exchange(self, rank: int, tensor: Tensor) -> list[Tensor]:
        self.brought[rank] = tensor.detach().clone()
        self.barrier.wait(timeout=60)
        found = list(self.brought)
        self.barrier.wait(timeout=60)
        return found


class Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, engine: "RankEngine") -> Tensor:
        ctx.engine, ctx.rows = engine, len(rows)
        return torch.cat(engine.meeting.exchange(engine.rank, rows))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        summed = torch.stack(ctx.engine.meeting.exchange(ctx.engine.rank, gradients[0])).sum(0)
        return summed[ctx.engine.rank * ctx.rows :][: ctx.rows], None


class Averaged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, engine: "RankEngine") -> Tensor:
        ctx.engine = engine
        return torch.stack(engine.meeting.exchange(engine.rank, value)).mean(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return torch.stack(ctx.engine.meeting.exchange(ctx.engine.rank, gradients[0])).mean(0), None


class RankEngine:
    """Engine of one of several ranks, with the interface of `training/contract.py`."""

    device = torch.device("cpu")

    def __init__(self, meeting: Meeting, rank: int, seed: int, clips: int):
        self.meeting, self.rank, self.ranks, self.dataset_size = meeting, rank, meeting.ranks, clips
        self.generator = torch.Generator().manual_seed(seed)

    def autocast(self):
        return nullcontext()

    def descend(self, loss, optimiser, clip=None):
        optimiser.zero_grad()
        loss.backward()
        self.step(optimiser, clip)

    def step(self, optimiser, clip=None):
        for group in optimiser.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.grad = torch.stack(self.meeting.exchange(self.rank, weight.grad)).mean(0)
        optimiser.step()

    def share(self, rows):
        each = len(rows) // self.ranks
        assert each * self.ranks == len(rows), (len(rows), self.ranks)
        return rows[self.rank * each : (self.rank + 1) * each]

    def gather(self, rows):
        return Gathered.apply(rows, self)

    def mean(self, value):
        return Averaged.apply(value, self)

    def segments(self, name):
        raise NotImplementedError(name)

    def progress(self, stage, done, total):
        pass


def on_ranks(ranks: int, seed: int, clips: int, task: Callable[[RankEngine], Made]) -> list[Made]:
    """Results of the task on each rank; raises the first failure."""
    meeting, results, failures = Meeting(ranks), {}, []

    def run(rank: int) -> None:
        try:
            results[rank] = task(RankEngine(meeting, rank, seed, clips))
        except BaseException as failure:
            failures.append(failure)
            meeting.barrier.abort()

    threads = [Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return [results[rank] for rank in range(ranks)]
