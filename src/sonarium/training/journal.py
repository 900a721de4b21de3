"""What a training reports: `metrics.jsonl`, and TensorBoard's scalars, pictures and sounds.

The metrics hold nothing of the clock, so that a resumed run's file is, byte for byte, an unbroken one's.
"""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch.utils.tensorboard.writer import SummaryWriter

from sonarium.files import write_whole


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The records of a metrics file, leaving out a last line that was cut short."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


class Journal:
    """Open for one training; forgets what came after the step that it resumes from."""

    def __init__(self, folder: Path, resumed_from: int):
        self.path = folder / "metrics.jsonl"
        kept = [record for record in read_metrics(self.path) if record["step"] <= resumed_from]
        write_whole(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        self.file = open(self.path, "a")
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_from + 1)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def speed(self, step: int, clips_per_second: float) -> None:
        """Kept out of the metrics: no two runs are equally fast."""
        self.board.add_scalar("speed/clips_per_second", clips_per_second, step)

    def picture(self, step: int, name: str, pixels: UInt8[np.ndarray, "row column colour"]) -> None:
        self.board.add_image(name, pixels, step, dataformats="HWC")

    def sound(self, step: int, name: str, wave: Float[np.ndarray, " time"], rate: int) -> None:
        self.board.add_audio(name, wave[None], step, sample_rate=rate)

    def close(self) -> None:
        self.file.close()
        self.board.close()
