"""What decoding in processes of their own costs: `python scripts/decoding_results.py FOLDER… [--rounds 7]`.

Surveys each folder of recordings with an empty cache, in turn as `sonarium check` does, and with the decoders in
the threads of this process. Each survey starts the processes anew, and ends them. Prints the medians, and the
median of the ratios of each round with its range.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from sonarium.worlds.audio.decoder import WORKERS
from sonarium.worlds.audio.file import Limits, Recording
from sonarium.worlds.recordings import cache
from sonarium.worlds.recordings.survey import RecordingsConfig, survey

APART = cache.opened


@contextmanager
def within(path: Path, rate: int, channel: int | None, limits: Limits) -> Iterator[tuple[Any, Any]]:
    recording = Recording(path, limits)
    yield recording.header, recording.mono(rate, channel)


def computed() -> float:
    """CPU seconds of this process and of its terminated children."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def surveying(folder: Path, opened: Any) -> tuple[float, float]:
    """Wall-clock and CPU seconds of one survey."""
    cache.opened = opened
    with tempfile.TemporaryDirectory() as place:
        begin, before = time.perf_counter(), computed()
        survey(RecordingsConfig(path=str(folder), cache=place, bad_fraction=1.0))
        WORKERS.dismiss()
        return time.perf_counter() - begin, computed() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    flags = parser.parse_args()
    print(f"{os.cpu_count()} processors, {flags.rounds} rounds after one that does not count")
    for folder in flags.folders:
        rounds = []
        for number in range(flags.rounds + 1):
            ways = [APART, within]
            found = {way: surveying(folder, way) for way in (ways if number % 2 else ways[::-1])}
            rounds.append((found[APART], found[within]))
        for at, unit in enumerate(("s", "s of the processors")):
            pairs = [(apart[at], inside[at]) for apart, inside in rounds[1:]]
            apart, inside = (median(column) for column in zip(*pairs, strict=True))
            ratios = sorted(one / other for one, other in pairs)
            spread = f"{median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
            print(
                f"{folder}: apart {apart:.3f} {unit}, in threads {inside:.3f} {unit}, ratio {spread}", flush=True
            )


if __name__ == "__main__":
    main()
