"""The command line as a user runs it, in a separate process.

`start` launches it as a shell does. `fork` forks a server that has imported the libraries for training, since
their import takes longer than most of the tested trainings.
"""

import multiprocessing
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from multiprocessing import forkserver, reduction
from pathlib import Path

SONARIUM = [sys.executable, "-m", "sonarium"]
SET = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "3000", "PYTHONWARNINGS": "default"}
ENVIRONMENT = os.environ | SET
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["sonarium.commands.train", "torch._dynamo", "tensorboard", "sklearn.datasets", "matplotlib.projections"]
)


def start(*words: str | Path) -> subprocess.Popen:
    return subprocess.Popen(
        [*SONARIUM, *map(str, words)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*words: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output, and standard error without progress lines."""
    process = start(*words)
    out, said = process.communicate(timeout=240)
    return process.returncode, out, without_progress(said)


def without_progress(said: str) -> str:
    """Standard error without the progress lines, which are printed on slow machines."""
    return "".join(line for line in said.splitlines(keepends=True) if not re.match(r"[a-z ]+: \d+ of \d+", line))


class Pipe:
    """Write end of a pipe, which is passed to a forked process."""

    def __init__(self, end: int) -> None:
        self.end = end

    def __getstate__(self):
        return reduction.DupFd(self.end)

    def __setstate__(self, sent) -> None:
        self.end = sent.detach()


def command(words: list[str], out: Pipe, said: Pipe) -> None:
    from sonarium.__main__ import main
    from sonarium.commands import progress

    progress.LATEST = progress.SOONEST = float("inf")

    for number, pipe in ((1, out), (2, said)):
        os.dup2(pipe.end, number)
        os.close(pipe.end)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False, buffering=1)
    sys.argv = ["sonarium", *words]
    main()


class Forked:
    """A forked command, with the part of the interface of subprocess.Popen that the tests need."""

    def __init__(self, words: list[str]) -> None:
        ends = [os.pipe() for _ in range(2)]
        self.ends = [read for read, _ in ends]
        self.process = SERVER.Process(target=command, args=(words, *(Pipe(write) for _, write in ends)))
        with started_with(SET):
            self.process.start()
        for _, write in ends:
            os.close(write)

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Output and errors, once all processes that hold its pipes have ended; no tested command fills a pipe."""
        limit = time.monotonic() + timeout
        out, said = (text_until(limit, end) for end in self.ends)
        self.process.join(max(0.0, limit - time.monotonic()))
        return out, said


def text_until(limit: float, end: int) -> str:
    """Everything written to a pipe until it is closed."""
    written = b""
    while select.select([end], [], [], max(0.0, limit - time.monotonic()))[0]:
        if not (more := os.read(end, 1 << 16)):
            os.close(end)
            return written.decode()
        written += more
    raise TimeoutError(f"the pipe is open still; so far came {written!r}")


@contextmanager
def started_with(values: dict[str, str]):
    """Start the server with these environment variables, which Python and OpenMP read only once."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        forkserver.ensure_running()
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def fork(*words: str | Path) -> Forked:
    return Forked([*map(str, words)])
