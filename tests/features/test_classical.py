"""Log-mel frames, MFCCs and deltas against librosa, the DCT against SciPy, and clips of unequal length."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct
from torch.nn import functional
from typechecking import unchecked

from sonarium.features.classical import (
    LogMel,
    LogMelConfig,
    Mfcc,
    MfccConfig,
    cosines,
    slope,
)
from sonarium.features.waveform import SILENCE
from sonarium.measures.probes.frames import thirds_and_deviation

RATE = 16000


def sound(samples: int, seed: int = 0) -> np.ndarray:
    """A glide with noise of rising level: neither flat nor silent anywhere."""
    time = np.arange(samples) / RATE
    noise = np.random.default_rng(seed).normal(size=samples)
    return 0.3 * np.sin(2 * np.pi * (200 + 900 * time) * time) + 0.05 * (0.2 + time) * noise


def theirs(wave: np.ndarray, rate: int = RATE) -> np.ndarray:
    """librosa's log-mel frames with the same settings."""
    window = round(0.025 * rate)
    power = librosa.feature.melspectrogram(
        y=wave,
        sr=rate,
        n_fft=512 if rate == RATE else 256,
        win_length=window,
        hop_length=round(0.01 * rate),
        n_mels=40,
        pad_mode="constant",
    )
    return librosa.power_to_db(power)


@pytest.mark.parametrize("rate", [16000, 8000])
def test_log_mel_frames_are_those_of_librosa(rate) -> None:
    wave = sound(rate)
    ours = LogMel(LogMelConfig(), rate).double()(torch.from_numpy(wave)[None])
    np.testing.assert_allclose(ours[0].T, theirs(wave, rate), atol=1e-4)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-4), (torch.float32, 2e-3)])
def test_cepstra_and_slopes_are_those_of_librosa(dtype, within) -> None:
    wave = sound(12345)
    cepstra = librosa.feature.mfcc(S=theirs(wave), n_mfcc=13)
    expected = [cepstra] + [librosa.feature.delta(cepstra, order=order) for order in (1, 2)]
    ours = Mfcc(MfccConfig(), RATE).to(dtype)(torch.from_numpy(wave)[None].to(dtype))
    np.testing.assert_allclose(ours[0].T, np.concatenate(expected), atol=within)


def test_silence_is_at_the_floor_and_quiet_cells_at_the_range() -> None:
    wave = torch.from_numpy(sound(8000))[None]
    wave[:, 4000:] = 0
    frames = LogMel(LogMelConfig(range_db=30.0), RATE).double()(wave)
    assert float(frames.max() - frames.min()) == pytest.approx(30.0)
    assert LogMel(LogMelConfig(), RATE)(torch.zeros(1, 8000)).unique().tolist() == [-100.0]


@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 4000), min_size=1, max_size=4),
    spare=st.integers(0, 500),
    seed=st.integers(0, 9),
)
def test_a_clip_in_a_batch_is_the_clip_alone(lengths, spare, seed) -> None:
    """Even if the padding after its end is not silence."""
    batch = torch.from_numpy(np.stack([sound(max(lengths) + spare, seed + clip) for clip in range(len(lengths))]))
    features = Mfcc(MfccConfig(), RATE).double()
    frames = features(batch, torch.tensor(lengths))
    counts = features.code_lengths(torch.tensor(lengths))
    statistics = thirds_and_deviation(frames, counts)
    for clip, length in enumerate(lengths):
        alone = features(batch[clip : clip + 1, :length])
        own = int(counts[clip])
        assert alone.shape == (1, own, features.width)
        torch.testing.assert_close(frames[clip, :own], alone[0], atol=1e-9, rtol=0)
        assert not frames[clip, own:].any()
        lone = thirds_and_deviation(alone, torch.tensor([own]))
        torch.testing.assert_close(statistics[clip : clip + 1], lone, atol=1e-9, rtol=0)


@given(seed=st.integers(0, 9), gain=st.floats(1e-3, 1e3), length=st.integers(600, 4000))
def test_equal_levels_are_those_of_librosa_at_one_level(seed, gain, length) -> None:
    wave = sound(4000, seed) * gain
    wave[length:] = 7.0  # samples after the end affect neither the level nor the features
    own = wave[:length]
    features = LogMel(LogMelConfig(equal_levels=True), RATE).double()
    found = features(torch.from_numpy(wave)[None], torch.tensor([length]))
    np.testing.assert_allclose(found[0].T, theirs(own / np.sqrt(np.mean(own**2) + SILENCE**2)), atol=1e-4)


def test_silence_has_no_level() -> None:
    assert LogMel(LogMelConfig(equal_levels=True), RATE)(torch.zeros(1, 8000)).unique().tolist() == [-100.0]


def test_frames_come_at_the_rate_that_is_told() -> None:
    features = LogMel(LogMelConfig(), RATE)
    assert features.code_rate == 100
    assert features(torch.zeros(2, RATE)).shape == (2, 101, 40)


def test_the_cosine_transform_is_that_of_scipy() -> None:
    expected = np.asarray(dct(np.eye(40), type=2, norm="ortho", axis=0))
    np.testing.assert_allclose(cosines(7, 40), expected[:7], atol=1e-12)


@given(
    frames=st.integers(3, 20),
    order=st.integers(1, 2),
    coefficients=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
)
def test_the_slope_of_a_polynomial_is_its_derivative(frames, order, coefficients) -> None:
    time = torch.arange(frames, dtype=torch.float64)
    a, b, c = coefficients if order == 2 else [0, *coefficients[1:]]
    found = slope((a * time**2 + b * time + c)[None, :, None], torch.tensor([frames]), order)
    expected = torch.full_like(time, 2 * a if order == 2 else b)
    torch.testing.assert_close(found[0, :, 0], expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("frames", [1, 2])
def test_too_few_frames_have_no_slope(frames) -> None:
    assert not slope(torch.rand(1, frames, 2), torch.tensor([frames])).any()


@given(counts=st.lists(st.integers(1, 14), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_thirds_are_those_of_adaptive_pooling(counts, seed) -> None:
    frames = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(counts), 14, 3)))
    found = thirds_and_deviation(frames, torch.tensor(counts))
    for clip, count in enumerate(counts):
        own = frames[clip, :count]
        pooled = functional.adaptive_avg_pool1d(own.T[None], 3)[0].T
        torch.testing.assert_close(found[clip, :9], pooled.flatten())
        np.testing.assert_allclose(found[clip, 9:], own.numpy().std(axis=0), atol=1e-12)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LogMelConfig(window=0), "window=0: give a positive number up to 60, such as 0.025"),
        (lambda: LogMelConfig(bands=0), "bands=0"),
        (lambda: LogMelConfig(range_db=-1), "range_db=-1"),
        (lambda: MfccConfig(coefficients=41), "coefficients=41: give from 1 to bands=40"),
        (lambda: MfccConfig(slopes=3), "slopes=3"),
        (
            lambda: LogMel(LogMelConfig(), RATE)(torch.zeros(2, 900), torch.tensor([900, 901])),
            r"lengths \[900, 901\]",
        ),
        (lambda: LogMel(LogMelConfig(), RATE)(torch.zeros(2, 900), torch.tensor([0, 900])), r"lengths \[0, 900\]"),
    ],
)
def test_what_cannot_be_is_refused(make, says) -> None:
    with unchecked(), pytest.raises(ValueError, match=says):
        make()
