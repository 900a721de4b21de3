"""Decoding of sound files in separate processes, so that a file can crash or block only one of them.

A damaged file may crash a decoder, block it forever, or exhaust memory. The system limits the time and memory of
the process (`worker.py`); when it dies, the file is reported and the next one gets a new process. Otherwise it is
reused for the next file.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sonarium.worlds.audio.file import ANY, REFETCH, BadAudio, Header, Limits, unreadable
from sonarium.worlds.audio.worker import BAD, END, FAILED, HEADER, READY, SAMPLES

BUFFER = 1 << 16
START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from sonarium.worlds.audio import worker; worker.serve()"
)
"""Imports the same packages, whatever is in the user's working directory."""
NEW_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0
MESSAGE = 5
"""Bytes of a message header."""


class Gone(Exception):
    """The process has exited."""


class Worker:
    """One decoding process; when idle, it waits for a file."""

    def __init__(self) -> None:
        # One BLAS thread, as the buffers of more would count as memory; and a process group of its own, so that
        # signals of the terminal reach only the reader of the samples.
        settings = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=BUFFER,
            env=settings,
            process_group=0,
            creationflags=NEW_GROUP,
        )
        self.at_rest = False
        try:
            kind, _ = self.message()
            assert kind == READY, f"got message {kind}, expected {READY}"
            self.at_rest = True
        except Gone:
            code = self.process.wait()
            self.end()
            raise OSError(f"the decoder of sound files did not start (exit code {code})") from None
        except BaseException:
            self.end()
            raise

    def begin(self, path: Path, limits: Limits, rate: int | None, channel: int | None) -> Header:
        """Request a file and return its header; its samples follow, unless the rate is None."""
        request = {
            "path": os.path.abspath(path),
            "limits": asdict(limits),
            "rate": rate,
            "channel": channel,
        }
        self.at_rest = False
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Gone from None
        return Header(**json.loads(self.expect(path, HEADER)))

    def blocks(self, path: Path) -> Iterator[Float[np.ndarray, " time"]]:
        """Samples of the requested file, in blocks."""
        while (content := self.expect(path, SAMPLES, END)) is not None:
            yield np.frombuffer(content, np.float32)

    def expect(self, path: Path, *kinds: int) -> Any:
        """Content of the next message, None at the end; raises the fault of the file."""
        kind, content = self.message()
        self.at_rest = kind in (END, BAD, FAILED)
        if kind == BAD:
            raise BadAudio(path, **json.loads(content))
        if kind == FAILED:
            error = json.loads(content)
            raise unreadable(path, OSError(error["number"], error["said"], str(path)))
        assert kind in kinds, f"got message {kind}, expected one of {kinds}"
        return None if kind == END else content

    def message(self) -> tuple[int, bytearray]:
        head = self.exactly(MESSAGE)
        return head[0], self.exactly(int.from_bytes(head[1:], "little"))

    def exactly(self, size: int) -> bytearray:
        """Read exactly this many bytes of the process's output."""
        content = bytearray(size)
        assert self.process.stdout is not None
        if self.process.stdout.readinto(content) < size:  # pyright: ignore[reportAttributeAccessIssue]
            raise Gone
        return content

    def fault(self, path: Path) -> BadAudio:
        """The exit status of the process, as a fault of the file that it was decoding."""
        code = self.process.wait()
        # By name: Windows has few signals.
        by = signal.Signals(-code).name if code < 0 else ""
        if by == "SIGXCPU":
            return BadAudio(path, "keeps its decoder busy without end")
        if by == "SIGBUS":
            return BadAudio(path, "was cut short while it was read", REFETCH, passing=True)
        if by in ("SIGKILL", "SIGTERM"):
            return BadAudio(path, "was not decoded, for its decoder was ended", "try again", passing=True)
        how = f"signal {-code}, {by}" if by else f"code {code}"
        return BadAudio(path, f"crashes its decoder ({how})")

    def end(self) -> None:
        """Kill the process, and wait until it is gone."""
        self.process.kill()
        with suppress(BrokenPipeError):
            self.process.communicate()


class Workers:
    """Pool of decoding processes; idle ones are reused."""

    def __init__(self) -> None:
        self.lock, self.all = Lock(), set[Worker]()
        self.waiting: list[Worker] = []
        self.inherited: set[Worker] = set()

    def hire(self) -> Worker:
        """An idle worker, or a new one."""
        with self.lock:
            while self.waiting:
                worker = self.waiting.pop()
                if worker.process.poll() is None:
                    return worker
                self.all.discard(worker)
                worker.end()
        worker = Worker()
        with self.lock:
            self.all.add(worker)
        return worker

    def give_back(self, worker: Worker) -> None:
        """Keep an idle worker; any other has samples left to send, and is killed."""
        with self.lock:
            if worker.at_rest and worker in self.all:
                self.waiting.append(worker)
                return
            self.all.discard(worker)
        worker.end()

    def dismiss(self) -> None:
        """Kill the idle workers."""
        with self.lock:
            ended, self.waiting = self.waiting, []
            self.all.difference_update(ended)
        for worker in ended:
            worker.end()

    def abandon(self) -> None:
        """Kill all workers, so that threads waiting for samples are released."""
        with self.lock:
            for worker in self.all:
                worker.process.kill()
        self.dismiss()

    def forget(self) -> None:
        """Reset the pool in a forked process, whose parent owns the workers; they must not be waited for."""
        inherited = self.all | self.inherited
        for worker in inherited:
            worker.process.returncode = 0
        self.__init__()
        self.inherited = inherited


WORKERS = Workers()
if sys.platform != "win32":
    os.register_at_fork(after_in_child=WORKERS.forget)


@atexit.register
def leave() -> None:
    WORKERS.abandon()


@contextmanager
def opened(
    path: Path, rate: int | None, channel: int | None = None, limits: Limits = ANY
) -> Iterator[tuple[Header, Iterator[Float[np.ndarray, " time"]]]]:
    """Header of a file, and blocks of one channel resampled to `rate`: by default the mean of all channels; for
    .cbin the first, which has the song.

    Faults of the file may show only at the end: use no samples before.
    """
    worker = WORKERS.hire()
    try:
        try:
            header = worker.begin(path, limits, rate, channel)
        except Gone:
            if worker.process.wait() != 0:
                raise
            # The worker had been idle for too long, and exited before it saw the file.
            WORKERS.give_back(worker)
            worker = WORKERS.hire()
            header = worker.begin(path, limits, rate, channel)
        yield header, worker.blocks(path)
    except Gone:
        raise worker.fault(path) from None
    finally:
        WORKERS.give_back(worker)


def header_of(path: Path, limits: Limits = ANY) -> Header:
    """Header of a file, if plausible; other faults show only on reading."""
    with opened(path, None, None, limits) as (header, blocks):
        list(blocks)
    return header


def read_mono(path: Path, rate: int) -> Float[Tensor, " time"]:
    """Mean of a file's channels, resampled to `rate`; BadAudio if any sample is missing or not finite."""
    with opened(path, rate) as (_, blocks):
        return torch.from_numpy(np.concatenate(list(blocks)))
