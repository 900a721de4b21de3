"""Logs of a training: `metrics.jsonl`, `clock.jsonl`, and TensorBoard's scalars, pictures and sounds.

The metrics contain no times, so that the file of a resumed run is byte-identical to that of an uninterrupted one;
the time that the training has taken is in a separate file.
"""

import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, UInt8

from sonarium.config import representable
from sonarium.files import failure, write_whole


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The records of a metrics file; lines that are truncated, damaged, or hold anything but finite numbers are
    skipped."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and type(record.get("step")) is int and all(map(is_number, record.values())):
            records.append(record)
    return records


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and representable(value)


METRICS, CLOCK = "metrics.jsonl", "clock.jsonl"
VALIDATION = "validation/"
"""Prefix of the metrics of validation."""


class Clock:
    """Totals of a training over all its sessions: items of its source (clips, or steps of the environment),
    wall-clock seconds, and CPU seconds of this process. Validation is excluded."""

    def __init__(self, items: float = 0, wall_s: float = 0, cpu_s: float = 0):
        self.items, self.wall_s, self.cpu_s = int(items), float(wall_s), float(cpu_s)
        self.since = time.perf_counter(), time.process_time()

    def go(self) -> None:
        """Restart the timer, without counting the time since the last reading."""
        self.since = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        before = self.since
        self.go()
        self.wall_s += self.since[0] - before[0]
        self.cpu_s += self.since[1] - before[1]
        return {"items": self.items, "wall_s": round(self.wall_s, 3), "cpu_s": round(self.cpu_s, 3)}


class Journal:
    """Log files of one training; records after the step that it resumes from are removed."""

    clock: Clock | None
    """None for a run that was not timed from its first step."""

    def __init__(self, folder: Path, resumed_from: int):
        # Deferred import: TensorBoard is slow to import, and `--help` should not wait for it.
        from torch.utils.tensorboard.writer import SummaryWriter

        self.folder = folder
        self.keep(METRICS, resumed_from)
        timed = self.keep(CLOCK, resumed_from)
        known = resumed_from == 0 or bool(timed)
        last = timed[-1] if timed else {}
        self.clock = Clock(*(last.get(name, 0) for name in ("items", "wall_s", "cpu_s"))) if known else None
        self.hook = threading.excepthook
        threading.excepthook = self.overhear
        try:
            with self.writing("tensorboard"):
                self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_from + 1)
            # Unbuffered: a write that failed on a full disk is not retried on closing.
            self.file = open(folder / METRICS, "ab", buffering=0)
            self.times = open(folder / CLOCK, "ab", buffering=0)
        except BaseException:
            threading.excepthook = self.hook
            raise

    def keep(self, name: str, resumed_from: int) -> list[dict[str, float]]:
        """Truncate a file after the records up to this step, and return these."""
        kept = [record for record in read_metrics(self.folder / name) if record["step"] <= resumed_from]
        write_whole(self.folder / name, "".join(json.dumps(record) + "\n" for record in kept))
        return kept

    def overhear(self, failed: threading.ExceptHookArgs) -> None:
        """Suppress tracebacks of an OSError in TensorBoard's writer thread: the next call here raises it again."""
        if not isinstance(failed.exc_value, OSError):
            self.hook(failed)

    @contextmanager
    def writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"cannot write '{self.folder / name}' {failure(error)}, then the same command resumes"
            ) from None

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self.append(self.file, METRICS, {"step": step, **values})
        with self.writing("tensorboard"):
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def append(self, file: BinaryIO, name: str, record: dict[str, float]) -> None:
        line = (json.dumps(record) + "\n").encode()
        with self.writing(name):
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def tick(self, step: int) -> None:
        """Record the totals of the clock up to this step."""
        if self.clock is not None:
            self.append(self.times, CLOCK, {"step": step, **self.clock.read()})

    def speed(self, step: int, per_second: float, unit: str) -> None:
        """Log the speed, in TensorBoard only: no two runs are equally fast, so the metrics leave it out."""
        with self.writing("tensorboard"):
            self.board.add_scalar(f"speed/{unit}_per_second", per_second, step)

    def picture(self, step: int, name: str, pixels: UInt8[np.ndarray, "row column colour"]) -> None:
        with self.writing("tensorboard"):
            self.board.add_image(name, pixels, step, dataformats="HWC")

    def sound(self, step: int, name: str, wave: Float[np.ndarray, " time"], rate: int) -> None:
        with self.writing("tensorboard"):
            self.board.add_audio(name, wave[None], step, sample_rate=rate)

    def sync(self) -> None:
        """Flush everything to disk; called before a checkpoint, which must not outlive the records before it."""
        for name, file in ((METRICS, self.file), (CLOCK, self.times)):
            with self.writing(name):
                os.fsync(file.fileno())
        with self.writing("tensorboard"):
            self.board.flush()

    def close(self) -> None:
        self.file.close()
        self.times.close()
        try:
            with self.writing("tensorboard"):
                self.board.close()
        finally:
            threading.excepthook = self.hook
