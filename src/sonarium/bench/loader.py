"""Random pieces of recordings from the cache, compared with decoding a file each time.

The peer opens the file, seeks to the piece and reads only that, with soundfile and NumPy: the fastest way without
a cache. Memory is measured in a separate process, which makes a cache of ten hours and draws from all of it.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from sonarium.bench.timing import case, interleaved
from sonarium.models.cpc.cpc import CPC
from sonarium.models.cpc.presets import CONFIGS
from sonarium.training.engine import FabricEngine, fastest_precision
from sonarium.worlds.recordings.world import Recordings, RecordingsConfig

RATE = 16_000
PIECE = 20_480
"""Samples per piece, as in the study."""
BATCH = 8
STEPS = 50
"""Batches drawn in one timed run."""
FILES, SECONDS = 64, 30
HOURS = 10
WAITING = {"study-spijkervet": BATCH, "default": 64}
"""Presets whose steps are timed, and their batch sizes: the study's, and the default of `sonarium train`."""
PEER = "soundfile: open, seek, read the piece; NumPy"


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """Pieces from two formats, the fraction of a step spent waiting for them, and the memory for many hours."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [pieces(Path(folder) / form, form, repeats) for form in ("flac", "wav")]
        rows += [waiting(Path(folder) / "flac", preset, clips, repeats) for preset, clips in WAITING.items()]
    return [*rows, memory(HOURS)]


def corpus(folder: Path, files: int, seconds: int, form: str) -> Recordings:
    """World of synthetic recordings (soft noise with the spectral slope of speech), written if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        random = np.random.default_rng(0)
        for number in range(files):
            noise = np.cumsum(random.standard_normal(seconds * RATE, np.float32)) / 200
            noise -= np.convolve(noise[::100], np.ones(5) / 5, "same").repeat(100)[: len(noise)]
            soundfile.write(folder / f"{number:04d}.{form}", noise.clip(-1, 1), RATE, subtype="PCM_16")
    cache = str(folder.with_name(f"{folder.name}-cache"))
    return Recordings(RecordingsConfig(path=str(folder), rate=RATE, seconds=PIECE / RATE, cache=cache))


def batches(world: Recordings) -> list[torch.Tensor]:
    """Clips for each step, the same for both sides."""
    random = np.random.default_rng(1)
    return [torch.from_numpy(random.choice(len(world), BATCH)) for _ in range(STEPS)]


def from_cache(world: Recordings) -> Callable[[], None]:
    chosen = batches(world)

    def draw() -> None:
        for step, clips in enumerate(chosen):
            world.piece(clips, 0, step)

    return draw


def from_files(world: Recordings) -> Callable[[], None]:
    """Function that reads the pieces as the peer does."""
    chosen, random = batches(world), np.random.default_rng(2)

    def read() -> None:
        for clips in chosen:
            rows = []
            for clip in clips.tolist():
                with soundfile.SoundFile(world.paths[clip]) as file:
                    file.seek(int(random.integers(file.frames - PIECE + 1)))
                    rows.append(file.read(PIECE, dtype="float32"))
            torch.from_numpy(np.stack(rows))

    return read


def pieces(folder: Path, form: str, repeats: int) -> dict[str, Any]:
    world = corpus(folder, FILES, SECONDS, form)
    ours_s, theirs_s = interleaved(from_cache(world), from_files(world), repeats)
    drawn = STEPS * BATCH * PIECE / RATE
    work = (
        f"{STEPS * BATCH} pieces of {PIECE} samples at {RATE} Hz from {FILES} files of {SECONDS} s: "
        f"{drawn / ours_s:,.0f} × real time, the peer {drawn / theirs_s:,.0f} ×"
    )
    return case(f"loader: pieces of {form.upper()} files", work, PEER, ours_s, theirs_s)


def waiting(folder: Path, preset: str, clips: int, repeats: int) -> dict[str, Any]:
    """Time that a training step waits for its pieces, compared with the step itself."""
    world, engine = corpus(folder, FILES, SECONDS, "flac"), FabricEngine("auto", fastest_precision(), 0)
    index = torch.arange(clips)
    batch = world.piece(index, 0, 0, engine.device)
    learner = CPC(CONFIGS[preset], world.signal).to(engine.device).train()
    ours_s, step_s = interleaved(
        lambda: world.piece(index, 0, 1, engine.device), lambda: learner.update(batch, engine), repeats
    )
    work = (
        f"{clips} pieces of {PIECE} samples to {engine.device}: a step waits {ours_s / (ours_s + step_s):.2%} of "
        "its time"
    )
    return case(
        f"loader: fraction of a step of {preset} that waits", work, "the training step itself", ours_s, step_s
    )


def memory(hours: float) -> dict[str, Any]:
    """Draw from many hours in a separate process, which measures its memory."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "sonarium.bench.loader", folder, str(hours)]
        found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    work = (
        f"{STEPS * BATCH} pieces from {found['hours']:g} h of synthetic sound: making the cache and reading "
        f"all of it took {found['grown_mb']:.0f} MB beyond the {found['before_mb']:.0f} MB of the libraries; "
        f"{found['cache_mb']:.0f} MB on disk"
    )
    row = case(f"loader: memory of {found['hours']:g} h", work, PEER, found["ours_s"], found["peer_s"])
    return row | {"grown_mb": found["grown_mb"], "before_mb": found["before_mb"], "cache_mb": found["cache_mb"]}


def in_own_process(folder: Path, hours: float) -> dict[str, float]:
    """Measurements of `memory`, such as growth of the peak resident memory since before the world was made."""
    seconds = 900
    files = max(round(hours * 3600 / seconds), 1)
    # A tiny corpus first, so that everything that is loaded once is loaded already.
    corpus(folder / "small", 2, 3, "wav")
    before = resident("VmHWM")
    write_noise(folder / "large", files, seconds)
    world = corpus(folder / "large", files, seconds, "wav")
    everywhere(world)
    grown = resident("VmHWM") - before
    ours_s, peer_s = interleaved(from_cache(world), from_files(world), 1)
    return {
        "hours": float(world.lengths(torch.arange(len(world))).sum()) / RATE / 3600,
        "before_mb": before,
        "grown_mb": grown,
        "cache_mb": world.cache.bytes / 1e6,
        "ours_s": ours_s,
        "peer_s": peer_s,
    }


def write_noise(folder: Path, files: int, seconds: int) -> None:
    """Write files of noise, a minute at a time so that it needs no memory."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(files):
        with soundfile.SoundFile(folder / f"{number:04d}.wav", "w", RATE, 1, "PCM_16") as file:
            for _ in range(seconds // 60):
                file.write(random.integers(-9000, 9000, 60 * RATE, dtype=np.int16))


def everywhere(world: Recordings) -> None:
    """Read all whole pieces once, so that all memory that grows with the corpus has grown."""
    out = np.empty(PIECE, np.float32)
    for start, length in zip(world.starts.tolist(), world.sample_counts.tolist(), strict=True):
        for at in range(start, start + length - PIECE + 1, PIECE):
            world.cache.read(at, 1.0, out)


def resident(name: str) -> float:
    """Memory of this process in megabytes, as Linux reports it under `name`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"the system does not report {name}: run this on Linux")


if __name__ == "__main__":
    print(json.dumps(in_own_process(Path(sys.argv[1]), float(sys.argv[2]))))
