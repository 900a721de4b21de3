"""Processes for distributed training, started once for all tests, because importing torch takes seconds."""

import contextlib
import io
import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from sonarium.training.launch import free_port

TIMEOUT = 240
"""Timeout of a task in seconds."""
PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SLURM = (
    "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES", "SLURM_PROCID",
    "SLURM_LOCALID", "SLURM_NODEID",
)  # fmt: skip


def work(connection: Connection) -> None:
    """Run one task after another, each as in a process that torchrun or Slurm started for it."""
    import torch

    torch.set_num_threads(1)
    while True:
        place, task, arguments = connection.recv()
        for name in (*PLACE, *SLURM):
            os.environ.pop(name, None)
        os.environ.update(place)
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                result = task(*arguments)
            connection.send((result, said.getvalue(), None))
        except BaseException as error:
            connection.send((None, said.getvalue(), (error, traceback.format_exc())))
        finally:
            # So that the other ranks notice a failure.
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()


class Ranks:
    """Worker processes, started when first needed."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.workers: list[tuple[Any, Connection]] = []

    def run(self, ranks: int, task: Callable, *arguments: Any, slurm: bool = False) -> list[Any]:
        """Results of the task on each rank; raises the first error."""
        outcomes = self.outcomes(ranks, task, *arguments, slurm=slurm)
        for _, said, failed in outcomes:
            if failed is not None:
                error, trace = failed
                error.add_note(f"{trace}\n{said}")
                raise error
        return [result for result, _, _ in outcomes]

    def outcomes(
        self, ranks: int, task: Callable, *arguments: Any, slurm: bool = False
    ) -> list[tuple[Any, str, Any]]:
        """Result, printed output and error of each rank."""
        while len(self.workers) < ranks:
            here, there = self.context.Pipe()
            process = self.context.Process(target=work, args=(there,), daemon=True)
            process.start()
            self.workers.append((process, here))
        port = free_port()
        for rank, (_, connection) in enumerate(self.workers[:ranks]):
            values = (0, 0, ranks, ranks, 1, rank, rank, 0) if slurm else (rank, rank, ranks, ranks)
            told = dict(zip(SLURM if slurm else PLACE, map(str, values), strict=False))
            told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            connection.send((told, task, arguments))
        return [received(connection) for _, connection in self.workers[:ranks]]

    def end(self) -> None:
        for process, connection in self.workers:
            process.kill()
            process.join()
            connection.close()


def received(connection: Connection) -> tuple[Any, str, Any]:
    assert connection.poll(TIMEOUT), f"no answer within {TIMEOUT} s"
    return connection.recv()
