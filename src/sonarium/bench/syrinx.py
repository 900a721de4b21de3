"""Rendering of birdsong, compared with the same equations integrated by NumPy over the whole batch.

The peer takes the same Runge–Kutta steps in double precision, in NumPy operations over all birds at once, and
filters and decimates with SciPy; both render the same gestures, and their sounds are compared before timing. Two
more rows compare whole songs, including drawn gestures and cage noise, with real time: there the peer's time is
the duration of the sound.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import signal

from sonarium.bench.timing import case, interleaved
from sonarium.worlds.songbird import syrinx
from sonarium.worlds.songbird.world import Songbird, SongbirdConfig

BIRDS, FRAMES, RATE, FRAME_RATE = 64, 100, 16_000, 1000
PEER = "NumPy, a batch at a time, and SciPy"
CLOSE = 1e-3
"""Tolerance of the difference of the sounds, as a fraction of the peak."""
SONGS = 64


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """The same gestures rendered by both sides, then whole songs compared with real time."""
    gestures = drawn()
    ours, theirs = by_us(*gestures), by_numpy(*gestures)
    expect_equal(ours(), theirs())
    ours_s, theirs_s = interleaved(ours, theirs, repeats)
    work = f"{BIRDS} birds of {FRAMES / FRAME_RATE:g} s at {RATE} Hz, {factor() * RATE} steps a second"
    return [case("syrinx, trachea and cavity", work, PEER, ours_s, theirs_s), *songs(repeats)]


def songs(repeats: int) -> list[dict[str, Any]]:
    """Songs from index to samples, at two sampling rates, compared with their duration."""
    found = []
    for rate in (16_000, 32_000):
        world = Songbird(replace(SongbirdConfig(level="middle", memory=0), rate=rate), seed=0)
        index = torch.arange(SONGS)
        seconds = float(world.lengths(index).sum()) / rate

        def ours(world: Songbird = world, index: torch.Tensor = index) -> None:
            world.composed.clear()
            world.whole(index)

        ours_s, _ = interleaved(ours, lambda: None, repeats)
        work = f"{SONGS} songs, {seconds:.0f} s of sound at {rate} Hz"
        found.append(case(f"songs at {rate // 1000} kHz", work, "real time", ours_s, seconds))
    return found


def factor() -> int:
    """Integration steps per sample."""
    return -(-syrinx.STEPS // RATE)


def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    alpha = np.repeat(rng.uniform(-0.2, -0.14, (BIRDS, 1)), FRAMES + 1, 1)
    beta = rng.uniform(-0.4, -0.02, (BIRDS, 1)) * np.linspace(0.5, 1, FRAMES + 1)
    return alpha, beta, np.repeat(np.sin(np.linspace(0, np.pi, FRAMES + 1))[None] + 1e-9, BIRDS, 0)


def by_us(alpha: np.ndarray, beta: np.ndarray, envelope: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: syrinx.sing(alpha, beta, envelope, frame_rate=FRAME_RATE, rate=RATE).numpy()


def by_numpy(alpha: np.ndarray, beta: np.ndarray, envelope: np.ndarray) -> Callable[[], np.ndarray]:
    many, samples = factor(), FRAMES * RATE // FRAME_RATE
    h, frames = syrinx.GAMMA / (RATE * many), np.arange(FRAMES + 1)
    places = np.arange(samples * many) * (FRAME_RATE / (RATE * many))
    half = 0.5 * FRAME_RATE / (RATE * many)

    def force(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a + x * (b + x * (1 - x)) - (x + x * x) * y

    def render() -> np.ndarray:
        paths = [
            np.stack([np.interp(places + shift, frames, row) for row in path], 1)
            for path, shift in ((alpha, half), (beta, half), (envelope, 0.0))
        ]
        x, y, fine = np.zeros(BIRDS), np.zeros(BIRDS), np.empty((len(places), BIRDS))
        for step, (a, b, e) in enumerate(zip(*paths, strict=True)):
            fine[step] = e * y
            k1 = force(x, y, a, b)
            y1 = y + h / 2 * k1
            k2 = force(x + h / 2 * y, y1, a, b)
            y2 = y + h / 2 * k2
            k3 = force(x + h / 2 * y1, y2, a, b)
            y3 = y + h * k3
            k4 = force(x + h * y2, y3, a, b)
            x, y = x + h / 6 * (y + 2 * (y1 + y2) + y3), y + h / 6 * (k1 + 2 * (k2 + k3) + k4)
        taps = syrinx.low_pass(many)
        filtered = signal.fftconvolve(fine, taps[:, None], axes=0)[len(taps) // 2 :][: len(fine) : many]
        size = samples + RATE // 10
        response = syrinx.LOUDNESS * syrinx.transfer(np.fft.rfftfreq(size, 1 / RATE))
        return np.fft.irfft(np.fft.rfft(filtered.T, size) * response, size)[:, :samples]

    return render


def expect_equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    apart = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    assert apart < CLOSE, f"the two sounds are {apart:.2g} of the loudest sample apart"
