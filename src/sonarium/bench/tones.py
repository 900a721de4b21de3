"""Rendering of tones, compared with SynTone's method: one clip after the other with NumPy and SciPy.

The peer follows what SynTone's generator does (Brima et al., 2024): for each clip the angle over the
whole time grid, then `np.sin`, `scipy.signal.sawtooth` or `scipy.signal.square` of it in double
precision, into an array allocated beforehand. Both render the same clips, spread over the whole grid.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import signal

from sonarium.bench.timing import case, interleaved
from sonarium.worlds.tones.world import SyntoneConfig, Tones, TonesConfig

CLIPS = 512
BATCH = 64
PEER = "NumPy and SciPy, clip by clip (SynTone's way)"


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """Naive and band-limited waves, both compared with the naive ones of the peer."""
    return [
        compare("naive waves", SyntoneConfig(), repeats),
        compare("band-limited waves", SyntoneConfig(alias=False, syntone_time=False), repeats),
    ]


def compare(name: str, config: TonesConfig, repeats: int) -> dict[str, Any]:
    """One row: the same clips rendered by both sides, with all four waveforms in equal numbers."""
    world = Tones(config, seed=0)
    waveforms = len(config.waveforms)
    stride = len(world) // CLIPS // waveforms * waveforms
    index = (torch.arange(CLIPS // waveforms)[:, None] * stride * waveforms + torch.arange(waveforms)).ravel()

    def ours() -> None:
        for batch in index.split(BATCH):
            world.whole(batch)

    theirs = per_clip(world, index)
    ours_s, theirs_s = interleaved(ours, theirs, repeats)
    return case(name, f"{CLIPS} clips of 1 s at {config.rate} Hz", PEER, ours_s, theirs_s)


def per_clip(world: Tones, index: torch.Tensor) -> Callable[[], np.ndarray]:
    """Function that renders these clips as the peer does."""
    shapes = (
        np.sin,
        lambda angle: signal.sawtooth(angle, width=0.5),  # pyright: ignore[reportArgumentType]
        signal.sawtooth,
        signal.square,
    )
    factors = world.locate(index).numpy()
    time = world.time.numpy()

    def render() -> np.ndarray:
        samples = np.zeros((len(factors), len(time)))
        for clip, (waveform, frequency, amplitude) in enumerate(factors):
            samples[clip] = amplitude * shapes[int(waveform)](2 * np.pi * frequency * time)
        return samples

    return render
