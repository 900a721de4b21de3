"""Timing of two implementations of the same work.

The two are called in turn (ours, peer, ours, peer, ...), so that a machine that slows down or
speeds up during the measurement does so for both; the median ignores single disturbances.
"""

import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from sonarium.cores import usable_cores
from sonarium.training.engine import native_precisions


def interleaved(ours: Callable[[], object], peer: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of `ours` and of `peer` over `repeats` turns, after one unmeasured call of each."""
    if repeats < 1:
        raise ValueError(f"got repeats={repeats}: at least 1 is needed for a median")
    ways, seconds = (ours, peer), ([], [])
    for way in ways:
        _timed(way)
    for _ in range(repeats):
        for way, taken in zip(ways, seconds, strict=True):
            taken.append(_timed(way))
    return median(seconds[0]), median(seconds[1])


def case(name: str, work: str, peer: str, ours_s: float, peer_s: float) -> dict[str, Any]:
    """One row of a benchmark: the work, the peer, both times in seconds, and how many times faster ours is."""
    return {
        "name": name,
        "work": work,
        "ours_s": ours_s,
        "peer": peer,
        "peer_s": peer_s,
        "ratio": peer_s / ours_s,
    }


def hardware() -> str:
    """Description of the machine: processor, usable cores, bf16, GPU, version and threads of torch."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    bf16 = "bf16 in hardware" if "bf16" in native_precisions() else "no bf16"
    return (
        f"{_processor()}, {usable_cores()} core(s), {bf16}, {device}, "
        f"torch {torch.__version__} with {torch.get_num_threads()} thread(s)"
    )


def _timed(way: Callable[[], object]) -> float:
    # Idle threads of a BLAS spin for some hundredths of a second, and would take a core from the next turn.
    time.sleep(0.1)
    start = time.perf_counter()
    way()
    if torch.cuda.is_initialized():  # kernels run on after the call has returned
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
