"""The audio front end compared with librosa, which processes one clip after the other."""

from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
import torch
from jaxtyping import Float

from sonarium.bench.timing import case, interleaved
from sonarium.features.spectrogram import Spectrogram, SpectrogramConfig

RATE = 16_000
CLIPS = 64
INVERTED = 4
ITERATIONS = 16


Work = tuple[str, str, str, Callable[[], Any], Callable[[], Any]]
"""Name, description of the work, peer, and the two functions to time: ours and the peer's."""


def cases(repeats: int = 5) -> list[dict[str, Any]]:
    """Power spectra, mel bands and Griffin-Lim on one-second clips of noise, ours and librosa's."""
    waves = torch.rand(CLIPS, RATE, generator=torch.Generator().manual_seed(0)) - 0.5
    compared = spectra(waves)
    for _, _, _, ours, theirs in compared:
        same(ours(), np.stack(theirs()))
    return [
        case(name, does, peer, *interleaved(ours, theirs, repeats))
        for name, does, peer, ours, theirs in (*compared, inversion(waves[:INVERTED]))
    ]


def same(ours: Float[torch.Tensor, "clip *rest"], theirs: Float[np.ndarray, "clip band frame"]) -> None:
    """Assert that both sides give the same spectra; Griffin-Lim begins with random phases, which differ."""
    largest = np.abs(theirs).max()
    np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=1e-3, atol=1e-5 * largest)


def spectra(waves: Float[torch.Tensor, "clip time"]) -> list[Work]:
    mel = Spectrogram(SpectrogramConfig(scaling="none"), RATE)
    plain = Spectrogram(SpectrogramConfig(mels=0, scaling="none"), RATE)
    clips, filters = list(waves.numpy()), librosa.filters.mel(sr=RATE, n_fft=2048)
    work = f"{CLIPS} clips of 1 s at {RATE} Hz, fft 2048, hop 512"
    return [
        (
            "mel",
            f"{work}, 128 bands",
            "librosa.feature.melspectrogram, clip by clip",
            lambda: mel.magnitudes(waves),
            lambda: [librosa.feature.melspectrogram(y=clip, sr=RATE) for clip in clips],
        ),
        (
            "mel, peer with its filter bank kept",
            f"{work}, 128 bands",
            "filters @ |librosa.stft|^2, clip by clip",
            lambda: mel.magnitudes(waves),
            lambda: [filters @ np.abs(librosa.stft(clip)) ** 2 for clip in clips],
        ),
        (
            "mel in decibels",
            f"{work}, 128 bands",
            "librosa.power_to_db(librosa.feature.melspectrogram), clip by clip",
            lambda: mel(waves),
            lambda: [decibels(librosa.feature.melspectrogram(y=c, sr=RATE), mel.full_scale) for c in clips],
        ),
        (
            "stft power",
            work,
            "|librosa.stft|^2, clip by clip",
            lambda: plain.magnitudes(waves),
            lambda: [np.abs(librosa.stft(clip)) ** 2 for clip in clips],
        ),
    ]


def inversion(waves: Float[torch.Tensor, "clip time"]) -> Work:
    amplitude = Spectrogram(SpectrogramConfig(mels=0, power=1, compression="none", scaling="none"), RATE)
    magnitudes = amplitude(waves)
    return (
        "griffin-lim",
        f"{INVERTED} clips of 1 s at {RATE} Hz, {ITERATIONS} iterations",
        "librosa.griffinlim, clip by clip",
        lambda: amplitude.invert(magnitudes, RATE, ITERATIONS),
        lambda: [librosa.griffinlim(m[0], n_iter=ITERATIONS, length=RATE) for m in magnitudes.numpy()],
    )


def decibels(power: np.ndarray, full_scale: float) -> np.ndarray:
    """librosa's decibels with the same reference and floor as ours."""
    return librosa.power_to_db(power, ref=full_scale, amin=full_scale * 1e-8, top_db=None)
