"""Data-parallel processes: detecting how this process was started, and launching several on one machine.

Each process runs the same command with its rank in the environment, as with torchrun; Lightning Fabric connects
them. If one dies, the others are stopped, since they would wait for it forever.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, Literal

from sonarium.cores import usable_cores

POLL = 0.1
"""Seconds between polls of the processes."""
PATIENCE = 10.0
"""Seconds that the other processes have to exit after one died, before they are killed."""
LOST = 76
"""Exit code of a process that exited because another one had."""
LAUNCHER = "SONARIUM_LAUNCHER"
"""Environment variable with the process id of the launcher."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Started:
    """How the processes of a training were started, and their number."""

    by: Literal["itself", "torchrun", "srun"]
    """Launcher of this process, by its environment; `launch` counts as torchrun."""
    here: int
    """Number of processes on this machine."""
    nodes: int
    """Number of machines."""


def started() -> Started:
    """How this process was started, from its environment."""
    if "LOCAL_RANK" in os.environ:
        here, everywhere = number("LOCAL_WORLD_SIZE"), number("WORLD_SIZE")
        return Started("torchrun", here, everywhere // here)
    tasks = number("SLURM_NTASKS")
    # A batch script and the shell of an allocation have SLURM_NTASKS, too, but are not tasks.
    if tasks == 1 or "SLURM_STEP_ID" not in os.environ:
        return Started("itself", 1, 1)
    if "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise ValueError(
            f"srun started {tasks} tasks without --ntasks-per-node: give that flag, in place of --ntasks, so that "
            "every process finds its device"
        )
    return Started("srun", number("SLURM_NTASKS_PER_NODE"), number("SLURM_NNODES"))


def number(name: str) -> int:
    """A positive integer from an environment variable; 1 if it is not set."""
    value = os.environ.get(name, "1")
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"the environment variable {name} is {value!r}, expected a whole number of at least 1")
    return int(value)


def launched() -> bool:
    """Whether `launch` started this process, monitors it, and reports its errors."""
    return LAUNCHER in os.environ


def end_with_launcher() -> None:
    """Have this process stop, as if the user had asked for it, when its launcher dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # On Windows, the python.exe of a virtual environment is a launcher, and is the parent.
    if sys.platform != "win32" and os.getppid() != int(os.environ[LAUNCHER]):
        raise KeyboardInterrupt("the process that launched this one has ended")


@dataclass(frozen=True)
class Failed:
    """The process whose failure ended the training."""

    rank: int
    code: int
    """Exit code; negative: the signal that killed it."""
    errors: str
    """Content of stderr; that of rank 0 was shown to the user already."""

    @property
    def last_line(self) -> str:
        return next((line.strip() for line in reversed(self.errors.splitlines()) if line.strip()), "")

    @property
    def how(self) -> str:
        if self.code < 0:
            return f"was killed by signal {-self.code} ({signal.Signals(-self.code).name})"
        return "lost the connection to the others" if self.code == LOST else f"ended with code {self.code}"


def launch(arguments: Sequence[str], processes: int) -> Failed | None:
    """Run `sonarium` with these arguments in several processes; return the one that failed, if any."""
    port = free_port()
    threads = max(1, usable_cores() // processes)
    workers: list[subprocess.Popen] = []
    with ExitStack() as opened, passing_on(workers):
        errors = [opened.enter_context(tempfile.TemporaryFile("w+", errors="replace")) for _ in range(processes)]
        for rank in range(processes):
            workers.append(start(arguments, rank, processes, port, threads, errors[rank]))
        failed = watch(workers)
        if failed is None:
            return None
        rank, code = failed
        errors[rank].seek(0)
        return Failed(rank, code, errors[rank].read())


def start(
    arguments: Sequence[str], rank: int, processes: int, port: int, threads: int, errors: IO[str]
) -> subprocess.Popen:
    place = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": processes,
        "LOCAL_WORLD_SIZE": processes,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        LAUNCHER: os.getpid(),
    }
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, **{k: str(v) for k, v in place.items()}}
    # The output of rank 0 is for the user; that of the others matters only if they fail.
    quiet = {} if rank == 0 else {"stdout": subprocess.DEVNULL, "stderr": errors}
    # In a process group of its own: Ctrl-C reaches it once, through `passing_on`.
    return subprocess.Popen(
        [sys.executable, "-m", "sonarium", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        process_group=0,
        **quiet,
    )


def watch(workers: Sequence[subprocess.Popen]) -> tuple[int, int] | None:
    """Wait for all processes; if one fails, stop the others, and return rank and exit code of the one to blame."""
    while not any(codes := [worker.poll() for worker in workers]):
        if None not in codes:
            return None
        time.sleep(POLL)
    # Most exit on their own, since their connection to it is closed, and with the right message.
    deadline = time.monotonic() + PATIENCE
    while None in (codes := [worker.poll() for worker in workers]) and time.monotonic() < deadline:
        time.sleep(POLL)
    for worker in workers:
        worker.kill()
        worker.wait()
    return blamed(codes)


def blamed(codes: Sequence[int | None]) -> tuple[int, int]:
    """Rank and code of a process that was killed, or else of the first that failed for its own reason."""
    failed = [(rank, code) for rank, code in enumerate(codes) if code]
    return min(failed, key=lambda one: (one[1] == LOST, one[1] > 0, one[0]))


@contextmanager
def passing_on(workers: Sequence[subprocess.Popen]) -> Iterator[None]:
    """Forward SIGINT, SIGTERM and SIGTSTP of this process to all workers."""

    def everyone(number: int) -> None:
        for worker in workers:
            # On Windows, Ctrl-C reaches every process of the console, and cannot be sent otherwise.
            if sys.platform != "win32" or number != signal.SIGINT:
                worker.send_signal(number)

    def suspend(number: int, frame: object) -> None:
        everyone(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        everyone(signal.SIGCONT)

    handlers: dict[int, Callable[[int, Any], None]] = {
        signal.SIGINT: lambda number, frame: everyone(number),
        signal.SIGTERM: lambda number, frame: everyone(number),
    }
    if sys.platform != "win32":
        handlers[signal.SIGTSTP] = suspend
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
