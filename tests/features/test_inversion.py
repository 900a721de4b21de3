"""Inversion of features to sound: kept phase, Griffin-Lim against librosa's, and mel bands spread over bins."""

import itertools

import librosa
import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sonarium.features.inversion import spread_bands
from sonarium.features.mel import mel_corners, mel_filters
from sonarium.features.spectrogram import Spectrogram, SpectrogramConfig

RATE = 16_000
TIME = torch.arange(RATE, dtype=torch.float64) / RATE


def tone(hertz: float, amplitude: float = 0.5) -> torch.Tensor:
    return (amplitude * torch.sin(2 * torch.pi * hertz * TIME)).float()


def tones_and_chirp() -> torch.Tensor:
    chirp = 0.5 * torch.sin(2 * torch.pi * (300 * TIME + 1_500 * TIME**2))
    return torch.stack([tone(440), tone(1_234), tone(3_300), tone(7_000), chirp.float()])


def front_of(**settings) -> Spectrogram:
    return Spectrogram(SpectrogramConfig(scaling="none", **settings), RATE)


def convergence(front: Spectrogram, recovered: torch.Tensor, wave: torch.Tensor) -> torch.Tensor:
    """Spectral convergence: relative error of the magnitudes per clip (Sturmel and Daudet, 2011)."""
    was, came = front.stft(wave).abs(), front.stft(recovered).abs()
    return (came - was).norm(dim=(1, 2)) / was.norm(dim=(1, 2))


def peaks(wave: torch.Tensor) -> torch.Tensor:
    """Frequency of the spectral peak of each clip in Hz; clips of one second have bins of 1 Hz."""
    return torch.fft.rfft(wave * torch.hann_window(RATE)).abs().argmax(1)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_kept_phase_gives_the_sound_back(power):
    front, wave = front_of(mels=0, power=power, compression="none"), tones_and_chirp()
    back = front.invert(front(wave), RATE, phase=front.phase(wave))
    torch.testing.assert_close(back, wave, atol=1e-5, rtol=0)


def test_griffin_lim_recovers_tones_and_a_chirp():
    front, wave = front_of(mels=0), tones_and_chirp()
    back = front.invert(front(wave), RATE, iterations=32)
    found = convergence(front, back, wave)
    assert found[:4].max() < 0.12 and found[4] < 0.2
    assert (peaks(back)[:4] - peaks(wave)[:4]).abs().max() <= RATE / 2048
    assert (back.std(1) / wave.std(1) - 1).abs().max() < 0.05


def test_griffin_lim_is_no_worse_than_librosa():
    front, wave = front_of(mels=0, power=1, compression="none"), tones_and_chirp()
    magnitudes, ours, theirs = front(wave), [], []
    for seed in range(2):
        sound = front.invert(magnitudes, RATE, 12, torch.Generator().manual_seed(seed))
        ours.append(float(convergence(front, sound, wave).mean()))
        peer = librosa.griffinlim(magnitudes[:, 0].numpy(), n_iter=12, length=RATE, random_state=seed)
        theirs.append(float(convergence(front, torch.from_numpy(peer), wave).mean()))
    assert np.mean(ours) <= 1.1 * np.mean(theirs)


def test_sound_from_mel_bands_has_the_right_pitch_and_level():
    front, wave = front_of(), tones_and_chirp()
    back = front.invert(front(wave), RATE)
    corners = mel_corners(128, 0, RATE / 2)
    for came, was in zip(peaks(back)[:4].tolist(), peaks(wave)[:4].tolist(), strict=True):
        band = np.searchsorted(corners, was)
        assert corners[band - 1] - RATE / 2048 <= came <= corners[band] + RATE / 2048
    assert (back.std(1) / wave.std(1) - 1).abs().max() < 0.1
    assert (front(back)[:, 0, :, 2:-2] - front(wave)[:, 0, :, 2:-2]).abs().mean() < 1.5


def test_loud_and_soft_stay_so_through_statistics():
    front = Spectrogram(SpectrogramConfig(), RATE)
    wave = torch.stack([tone(1_000, 0.9), tone(1_000, 0.09), torch.zeros(RATE)])
    front.fit([wave])
    loud, soft, silent = front.invert(front(wave), RATE, iterations=16)
    assert abs(float(loud.std() / soft.std()) - 10) < 1
    assert silent.abs().max() < 1e-4


def test_the_generator_alone_decides_the_phase():
    front = front_of(mels=0)
    features = front(tone(700)[None])
    first, second, other = (
        front.invert(features, RATE, 4, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(front.invert(features, RATE, 4), front.invert(features, RATE, 4))


def divergence(bands: np.ndarray, sums: np.ndarray) -> np.ndarray:
    return (bands * np.log(bands / sums) - bands + sums).sum(-1)


@pytest.mark.parametrize("consistent", [True, False])
def test_spread_bands_minimise_the_divergence(consistent):
    filters = mel_filters(8_000, 64, 8, 0, 4_000)
    random = np.random.default_rng(0)
    bands = random.random((3, 33)) @ filters.T if consistent else random.random((3, 8)) * 0.02 + 0.001
    tensors = torch.from_numpy(bands)[None], torch.from_numpy(filters)
    steps = [
        divergence(bands, (spread_bands(*tensors, updates=n) @ tensors[1].T)[0].numpy())
        for n in (1, 10, 100, 2000)
    ]
    assert all((after <= before + 1e-15).all() for before, after in itertools.pairwise(steps))
    for band, reached in zip(bands, steps[-1], strict=True):

        def objective(bins, band=band):
            sums = filters @ bins + 1e-12
            return divergence(band, sums) * 1e3, ((1 - band / sums) @ filters) * 1e3

        best = minimize(objective, np.full(33, 0.1), jac=True, bounds=[(0, None)] * 33, method="L-BFGS-B")
        assert reached <= best.fun / 1e3 * 1.01 + 1e-7


def test_bins_that_no_band_hears_stay_silent():
    filters = torch.from_numpy(mel_filters(RATE, 512, 20, 1_000, 3_000))
    bins = spread_bands(torch.ones(1, 2, 20, dtype=torch.float64), filters)
    assert (bins[..., filters.sum(0) == 0] == 0).all() and (bins >= 0).all() and bins.isfinite().all()
    assert (spread_bands(torch.zeros(1, 2, 20, dtype=torch.float64), filters) == 0).all()


def test_features_that_cannot_be_sound_are_refused():
    front = front_of()
    features = front(tone(700)[None])
    with pytest.raises(ValueError, match="give the length of the clips"):
        front.invert(features, RATE + 512)
    with pytest.raises(ValueError, match="NaN or infinite values"):
        front.invert(features * torch.nan, RATE)
    sparse = front_of(hop=1_500)
    with pytest.raises(ValueError, match="at most half the window"):
        sparse.invert(sparse(tone(700)[None]), RATE)
