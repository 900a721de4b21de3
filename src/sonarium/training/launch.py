"""Several processes on one machine that train as one: started, watched, and ended together.

Each is the same command with its rank in the environment, as torchrun and Slurm start them; Lightning Fabric joins
them. If one dies, the others are ended, for they would wait for it for ever.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

POLL = 0.2
"""Seconds between two looks at the processes."""
PATIENCE = 10.0
"""Seconds that the others have to end by themselves after one died."""


@dataclass(frozen=True)
class Failed:
    """The process that ended first without success."""

    rank: int
    code: int
    """Its exit code; negative: the signal that killed it."""
    said: str
    """The last line of its error stream."""

    @property
    def how(self) -> str:
        if self.code < 0:
            return f"was killed by signal {-self.code} ({signal.Signals(-self.code).name})"
        return f"ended with code {self.code}" + (f" ({self.said})" if self.said else "")


def launched() -> bool:
    """Whether this process was started as one of several."""
    return "LOCAL_RANK" in os.environ or os.environ.get("SLURM_NTASKS", "1") != "1"


def launch(arguments: Sequence[str], processes: int) -> Failed | None:
    """Run `sonarium` with these arguments in so many processes; the one that failed, if any."""
    port = free_port()
    threads = max(1, (os.cpu_count() or 1) // processes)
    workers: list[subprocess.Popen] = []
    errors = [tempfile.TemporaryFile("w+") for _ in range(processes)]
    with forwarding(workers):
        for rank in range(processes):
            own = {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "NODE_RANK": 0,
                "WORLD_SIZE": processes,
                "LOCAL_WORLD_SIZE": processes,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            environment = {"OMP_NUM_THREADS": str(threads), **os.environ, **{k: str(v) for k, v in own.items()}}
            command = [sys.executable, "-m", "sonarium", *arguments]
            # What the first says is for the user; what the others say matters only if they fail.
            quiet = {} if rank == 0 else {"stdout": subprocess.DEVNULL, "stderr": errors[rank]}
            workers.append(subprocess.Popen(command, env=environment, **quiet))
        failed = watch(workers)
    if failed is None:
        return None
    rank, code = failed
    return Failed(rank, code, last_line(errors[rank]))


def watch(workers: Sequence[subprocess.Popen]) -> tuple[int, int] | None:
    """Wait until all have ended; if one fails, end the others, and return its rank and exit code."""
    while True:
        codes = [worker.poll() for worker in workers]
        failed = [(rank, code) for rank, code in enumerate(codes) if code]
        if failed:
            end(workers)
            # A process that was killed takes others down with it: it is the one to name.
            return min(failed, key=lambda one: (one[1] > 0, one[0]))
        if all(code == 0 for code in codes):
            return None
        time.sleep(POLL)


def end(workers: Sequence[subprocess.Popen]) -> None:
    """Ask all to end, and kill those that do not."""
    deadline = time.monotonic() + PATIENCE
    for worker in workers:
        if worker.poll() is None:
            worker.terminate()
    for worker in workers:
        try:
            worker.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


@contextmanager
def forwarding(workers: Sequence[subprocess.Popen]) -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal by itself; a signal to this one alone is passed on."""

    def forward(number: int, frame: object) -> None:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.signal(signal.SIGTERM, forward)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def last_line(file: IO[str]) -> str:
    file.seek(0)
    lines = [line.strip() for line in file.read().splitlines() if line.strip()]
    return lines[-1] if lines else ""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
