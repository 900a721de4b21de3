"""What a checkpoint costs beside gigabytes of replay: `python scripts/save_results.py [--megabytes 2000]`.

Two run folders with the same weights, one of them with segments of replay that each checkpoint refers to; saved in
turn, once more after resuming. The difference of the medians is what the replay costs.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from sonarium.training.run import RunFolder
from sonarium.training.state import FileSegment

SEGMENT = 8_000_000
"""Size of a segment in bytes."""


def create(folder: Path) -> RunFolder:
    return RunFolder.create(folder, {}, lambda config: config)


def replay(run: RunFolder, megabytes: int) -> list[FileSegment]:
    random, storage = np.random.default_rng(0), run.segments("replay")
    count = round(megabytes * 1e6 / SEGMENT)
    return [
        storage.append({"observation": random.integers(256, size=SEGMENT, dtype=np.uint8)}) for _ in range(count)
    ]


def saving(run: RunFolder, step: int, segments: list[FileSegment]) -> float:
    """Milliseconds to save a million weights, two million values of optimiser state, and segment references."""
    weights = {"weights": torch.ones(1_000_000)}
    state: dict[str, Any] = {"parts": {"optimiser": torch.ones(2_000_000), "replay": segments}}
    begin = time.perf_counter()
    run.save(step, weights, state)
    return 1000 * (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--saves", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder if left out")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
        runs = [create(Path(folder) / name) for name in ("with", "without")]
        segments = [replay(runs[0], flags.megabytes), []]
        times: list[list[float]] = [[], []]
        for step in range(1, flags.saves + 1):
            for run, own, taken in zip(runs, segments, times, strict=True):
                taken.append(saving(run, step, own))
        report("training", times)
        resumed: list[list[float]] = [[], []]
        for run, own, taken in zip(runs, segments, resumed, strict=True):
            again = RunFolder.read(run.folder)
            begin = time.perf_counter()
            again.load()
            print(f"resuming {run.folder.name} replay: {time.perf_counter() - begin:.2f} s, hashes included")
            taken.append(saving(again, flags.saves + 1, own))
        report("first save after resuming", resumed)


def report(when: str, times: list[list[float]]) -> None:
    beside, alone = map(median, times)
    print(f"{when}: {beside:.1f} ms with replay, {alone:.1f} ms without: {beside - alone:+.1f} ms")


if __name__ == "__main__":
    main()
