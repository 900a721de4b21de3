"""Sound files decoded in processes of their own, so that a file can end or occupy one of them and no more.

A damaged file may crash a decoder, keep it busy for ever, or have it take all memory. The process (`worker.py`) is
limited in time and memory by the system; when it is gone, the file is named and the next one gets a new process.
Otherwise it is kept for the next file.
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
"""Finds the same packages, whatever lies in the folder that the user is in."""
MESSAGE = 5
"""Bytes of a message before its content."""


class Gone(Exception):
    """The process has ended."""


class Worker:
    """One process; at rest it waits for a file."""

    def __init__(self) -> None:
        # One thread of the algebra, whose buffers would count as memory; and no signals of the terminal, which are
        # for whoever reads the samples.
        settings = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=BUFFER,
            env=settings,
            process_group=0,
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
        """The header of a file; its samples are sent next, unless the rate is none."""
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
        """The samples of the file."""
        while (content := self.expect(path, SAMPLES, END)) is not None:
            yield np.frombuffer(content, np.float32)

    def expect(self, path: Path, *kinds: int) -> Any:
        """The content of the next message, none at the end; raises what is wrong with the file."""
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
        """This number of bytes of its output."""
        content = bytearray(size)
        assert self.process.stdout is not None
        if self.process.stdout.readinto(content) < size:  # pyright: ignore[reportAttributeAccessIssue]
            raise Gone
        return content

    def fault(self, path: Path) -> BadAudio:
        """What became of the process, as a fault of the file that it had."""
        code = self.process.wait()
        if code == -signal.SIGXCPU:
            return BadAudio(path, "keeps its decoder busy without end")
        if code == -signal.SIGBUS:
            return BadAudio(path, "was cut short while it was read", REFETCH, passing=True)
        if code in (-signal.SIGKILL, -signal.SIGTERM):
            return BadAudio(path, "was not decoded, for its decoder was ended", "try again", passing=True)
        how = f"signal {-code}, {signal.Signals(-code).name}" if code < 0 else f"code {code}"
        return BadAudio(path, f"crashes its decoder ({how})")

    def end(self) -> None:
        """End the process, and wait until it is gone."""
        self.process.kill()
        with suppress(BrokenPipeError):
            self.process.communicate()


class Workers:
    """The processes of this one: those at rest are used again."""

    def __init__(self) -> None:
        self.lock, self.all = Lock(), set[Worker]()
        self.waiting: list[Worker] = []
        self.inherited: set[Worker] = set()

    def hire(self) -> Worker:
        """One at rest, or a new one."""
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
        """Keep one at rest; any other has samples left to send, and is ended."""
        with self.lock:
            if worker.at_rest and worker in self.all:
                self.waiting.append(worker)
                return
            self.all.discard(worker)
        worker.end()

    def dismiss(self) -> None:
        """End those at rest."""
        with self.lock:
            ended, self.waiting = self.waiting, []
            self.all.difference_update(ended)
        for worker in ended:
            worker.end()

    def abandon(self) -> None:
        """Kill all, so that whoever waits for samples waits no longer."""
        with self.lock:
            for worker in self.all:
                worker.process.kill()
        self.dismiss()

    def forget(self) -> None:
        """In a fork of this process, the processes are not its own; nor are they to be waited for."""
        inherited = self.all | self.inherited
        for worker in inherited:
            worker.process.returncode = 0
        self.__init__()
        self.inherited = inherited


WORKERS = Workers()
os.register_at_fork(after_in_child=WORKERS.forget)


@atexit.register
def leave() -> None:
    WORKERS.abandon()


@contextmanager
def opened(
    path: Path, rate: int | None, channel: int | None = None, limits: Limits = ANY
) -> Iterator[tuple[Header, Iterator[Float[np.ndarray, " time"]]]]:
    """The header of a file, and one channel at `rate` block by block: by default the mean of all; of a .cbin file
    the first, which has the song.

    What is wrong with the file may show itself only at the end: use nothing before.
    """
    worker = WORKERS.hire()
    try:
        try:
            header = worker.begin(path, limits, rate, channel)
        except Gone:
            if worker.process.wait() != 0:
                raise
            # It had waited for too long, and ended before it saw the file.
            WORKERS.give_back(worker)
            worker = WORKERS.hire()
            header = worker.begin(path, limits, rate, channel)
        yield header, worker.blocks(path)
    except Gone:
        raise worker.fault(path) from None
    finally:
        WORKERS.give_back(worker)


def header_of(path: Path, limits: Limits = ANY) -> Header:
    """The header of a file, if it is plausible; reading it shows the rest."""
    with opened(path, None, None, limits) as (header, blocks):
        list(blocks)
    return header


def read_mono(path: Path, rate: int) -> Float[Tensor, " time"]:
    """The mean of a file's channels at `rate`, refused if any sample is missing or not finite."""
    with opened(path, rate) as (_, blocks):
        return torch.from_numpy(np.concatenate(list(blocks)))
