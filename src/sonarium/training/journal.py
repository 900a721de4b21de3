"""What a training reports: `metrics.jsonl`, and TensorBoard's scalars, pictures and sounds.

The metrics hold nothing of the clock, so that a resumed run's file is, byte for byte, an unbroken one's.
"""

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from sonarium.config import representable
from sonarium.files import failure, write_whole


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The records of a metrics file, leaving out lines that were cut short or damaged, or hold anything but finite
    numbers."""
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


class Journal:
    """Open for one training; forgets what came after the step that it resumes from."""

    def __init__(self, folder: Path, resumed_from: int):
        # TensorBoard takes long to read, which a person who asks for help should not wait for.
        from torch.utils.tensorboard.writer import SummaryWriter

        self.folder = folder
        kept = [record for record in read_metrics(folder / "metrics.jsonl") if record["step"] <= resumed_from]
        write_whole(folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in kept))
        self.hook = threading.excepthook
        threading.excepthook = self.overhear
        try:
            with self.writing("tensorboard"):
                self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_from + 1)
            # Without a buffer: what a full disk refused is not tried once more on closing.
            self.file = open(folder / "metrics.jsonl", "ab", buffering=0)
        except BaseException:
            threading.excepthook = self.hook
            raise

    def overhear(self, failed: threading.ExceptHookArgs) -> None:
        """TensorBoard's own thread raises what stops it here on the next call: its traceback says no more."""
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
        line = (json.dumps({"step": step, **values}) + "\n").encode()
        with self.writing("metrics.jsonl"):
            if self.file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with self.writing("tensorboard"):
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def speed(self, step: int, per_second: float, unit: str) -> None:
        """Kept out of the metrics: no two runs are equally fast."""
        with self.writing("tensorboard"):
            self.board.add_scalar(f"speed/{unit}_per_second", per_second, step)

    def picture(self, step: int, name: str, pixels: UInt8[np.ndarray, "row column colour"]) -> None:
        with self.writing("tensorboard"):
            self.board.add_image(name, pixels, step, dataformats="HWC")

    def sound(self, step: int, name: str, wave: Float[np.ndarray, " time"], rate: int) -> None:
        with self.writing("tensorboard"):
            self.board.add_audio(name, wave[None], step, sample_rate=rate)

    def sync(self) -> None:
        """Have all on the disk: before a checkpoint, lest it outlive the records that lead to it."""
        with self.writing("metrics.jsonl"):
            os.fsync(self.file.fileno())
        with self.writing("tensorboard"):
            self.board.flush()

    def close(self) -> None:
        self.file.close()
        try:
            with self.writing("tensorboard"):
                self.board.close()
        finally:
            threading.excepthook = self.hook
