"""Binaural features against closed forms for delays and gains, and against librosa for loudness."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typechecking import unchecked

from sonarium.features.ears import Ears, EarsConfig

RATE, SAMPLES = 8000, 2000
BANDS = 32
INNER = slice(2, -2)
"""Frames that lie entirely within the sound."""


@pytest.fixture(scope="module")
def ears() -> Ears:
    return Ears(EarsConfig(), RATE)


def sine(hertz: float, delay: float = 0.0, gain: float = 1.0) -> torch.Tensor:
    time = torch.arange(SAMPLES, dtype=torch.float64) / RATE
    return gain * torch.sin(2 * torch.pi * hertz * (time - delay))


def noise(seed: int, clips: int = 2) -> torch.Tensor:
    return 0.1 * torch.randn(clips, 2, SAMPLES, generator=torch.Generator().manual_seed(seed))


def parts(rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Rows of features by name, with the loudness of both ears."""
    names = ("left", "right", "sine", "cosine", "level")
    return dict(zip(names, rows.split(rows.shape[1] // 5, dim=1), strict=True))


def test_the_shape_is_told_beforehand(ears):
    assert ears(noise(0)).shape[1:] == ears.shape(SAMPLES) == (5 * BANDS, 17)
    bins = Ears(EarsConfig(loudness="mean", resolution="bin", fft=128, bands=20), RATE)
    assert bins(noise(0)).shape[1:] == bins.shape(SAMPLES) == (20 + 3 * 65, 17)


@settings(max_examples=25)
@given(bin=st.integers(3, 60), microseconds=st.floats(-580, 580))
def test_the_phase_of_a_delay_is_its_angle(bin, microseconds):
    delay = microseconds * 1e-6
    bins = Ears(EarsConfig(loudness="none", resolution="bin", fft=128, floor_db=-160), RATE)
    hertz = bin * RATE / 128
    # With a positive delay of the right ear, the left one leads.
    pair = torch.stack([sine(hertz), sine(hertz, delay)])[None].float()
    sines, cosines, levels = bins(pair)[0, :, INNER].split(65)
    angle = 2 * np.pi * hertz * delay
    np.testing.assert_allclose(sines[bin], np.sin(angle), atol=1e-4)
    np.testing.assert_allclose(cosines[bin], np.cos(angle), atol=1e-4)
    np.testing.assert_allclose(levels[bin], 0, atol=1e-3)


@settings(max_examples=25)
@given(decibels=st.floats(-23, 23), seed=st.integers(0, 99))
def test_the_level_of_a_gain_is_its_decibels(decibels, seed):
    one = noise(seed)[:, :1]
    pair = torch.cat([one * 10 ** (decibels / 20), one], 1)
    found = parts(Ears(EarsConfig(), RATE)(pair))
    np.testing.assert_allclose(found["level"][..., INNER], decibels / 6, atol=2e-3)
    np.testing.assert_allclose(found["sine"], 0, atol=1e-4)
    np.testing.assert_allclose(found["cosine"][..., INNER], 1, atol=1e-3)


def test_loudness_equals_librosa(ears):
    wave = noise(1)
    found = parts(ears(wave))
    full_scale = ears.spectrogram.full_scale
    for number, ear in enumerate(("left", "right")):
        theirs = librosa.feature.melspectrogram(
            y=wave[:, number].numpy(), sr=RATE, n_fft=256, hop_length=125, n_mels=BANDS, pad_mode="constant"
        )
        decibels = np.maximum(10 * np.log10(theirs / full_scale), -100)
        np.testing.assert_allclose(found[ear], 1 + decibels / 50, atol=2e-4)


def test_the_mean_is_of_powers():
    wave = noise(2)
    both = parts(Ears(EarsConfig(), RATE)(wave))
    mean = Ears(EarsConfig(loudness="mean"), RATE)(wave)[:, :BANDS]
    powers = [10 ** ((both[ear] - 1) * 5) for ear in ("left", "right")]
    np.testing.assert_allclose(10 ** ((mean - 1) * 5), (powers[0] + powers[1]) / 2, rtol=1e-3)


@pytest.mark.parametrize("resolution", ["band", "bin"])
def test_exchanged_ears_turn_the_signs(resolution):
    heard = Ears(EarsConfig(loudness="none", resolution=resolution, fft=512), RATE)
    wave = noise(3)
    one, other = (heard(pair).chunk(3, dim=1) for pair in (wave, wave.flip(1)))
    np.testing.assert_allclose(one[0], -other[0], atol=1e-5)
    np.testing.assert_allclose(one[1], other[1], atol=1e-5)
    np.testing.assert_allclose(one[2], -other[2], atol=1e-5)


def test_a_band_of_one_delay_has_the_phase_at_its_middle(ears):
    """Noise with a delay of two samples: narrow bands keep the phase, to within the band's width."""
    one = noise(4, clips=8)[:, 0]
    pair = torch.stack([one, one.roll(2, dims=1)], 1)
    found = parts(ears(pair))
    weights = ears.spectrogram.filters.double().numpy()
    hertz = weights @ (np.arange(129) * RATE / 256) / weights.sum(1)
    angle = 2 * np.pi * hertz * 2 / RATE
    mean_sine, mean_cosine = (found[name][..., INNER].mean((0, 2)).numpy() for name in ("sine", "cosine"))
    apart = np.angle(np.exp(1j * (np.arctan2(mean_sine, mean_cosine) - angle)))
    assert np.abs(apart).max() < 0.15
    assert np.hypot(mean_sine, mean_cosine).min() > 0.8


def test_frequencies_that_disagree_shorten_the_pair(ears):
    """Independent noise at the two ears has no consistent phase difference."""
    found = parts(ears(noise(5, clips=50)))
    length = torch.hypot(found["sine"].mean((0, 2)), found["cosine"].mean((0, 2)))
    assert length.max() < 0.2
    assert torch.hypot(found["sine"], found["cosine"]).max() <= 1 + 1e-6


def test_silence_is_defined_and_so_is_a_deaf_ear(ears):
    silent = parts(ears(torch.zeros(1, 2, SAMPLES)))
    assert (silent["left"] == -1).all() and (silent["right"] == -1).all()
    assert all((silent[name] == 0).all() for name in ("sine", "cosine", "level"))
    deaf = noise(6)
    deaf[:, 1] = 0
    rows = ears(deaf)
    assert rows.isfinite().all()
    assert (parts(rows)["level"] == 24 / 6).all()


def test_usual_sound_lies_in_about_unit_range(ears):
    rows = ears(noise(7, clips=20))
    assert parts(rows)["left"].min() >= -1 and rows.abs().quantile(0.95) < 2


def test_gradients_are_finite_even_in_silence(ears):
    wave = torch.zeros(1, 2, SAMPLES, requires_grad=True)
    ears(wave).sum().backward()
    assert wave.grad is not None and wave.grad.isfinite().all()


def test_a_batch_is_its_clips_one_by_one(ears):
    wave = noise(8, clips=5)
    np.testing.assert_allclose(ears(wave), torch.cat([ears(one[None]) for one in wave]), atol=1e-5)


@pytest.mark.parametrize("resolution", ["band", "bin"])
@pytest.mark.parametrize(("delay", "gain"), [(0, 1.0), (3, 0.5), (-2, 1.6)])
def test_sound_comes_back_as_both_ears_heard_it(resolution, delay, gain):
    """Low-pass noise with another delay and level at the right ear: inversion restores both."""
    ears = Ears(EarsConfig(resolution=resolution), RATE)
    whole = torch.randn(SAMPLES + 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low = torch.fft.irfft(torch.fft.rfft(whole)[:400], len(whole))
    heard = torch.stack([low[8:-8], gain * low[8 - delay : len(low) - 8 - delay]])[None].float()
    back = ears.invert(ears(heard), SAMPLES)[0].numpy()
    assert np.correlate(back[1], back[0], "full").argmax() - (SAMPLES - 1) == delay
    level = 10 * np.log10((back[1] ** 2).sum() / (back[0] ** 2).sum())
    assert level == pytest.approx(20 * np.log10(gain), abs=0.3)
    loudness = 10 * np.log10((back**2).sum() / float(heard.square().sum()))
    assert loudness == pytest.approx(0, abs=1)


def test_silence_comes_back_as_silence(ears):
    assert float(ears.invert(ears(torch.zeros(1, 2, SAMPLES)), SAMPLES).abs().max()) < 1e-4


def test_features_that_cannot_be_inverted_are_refused(ears):
    with pytest.raises(ValueError, match="the levels of both ears are needed; give both"):
        Ears(EarsConfig(loudness="mean"), RATE).invert(torch.zeros(1, 4 * BANDS, 17), SAMPLES)
    with pytest.raises(ValueError, match="160, 17"):
        ears.invert(torch.zeros(1, 5 * BANDS, 16), SAMPLES)


@pytest.mark.parametrize(
    ("wave", "said"),
    [
        (torch.zeros(2, SAMPLES), r"\(clip, 2 ears, time\)"),
        (torch.zeros(1, 3, SAMPLES), r"\(clip, 2 ears, time\)"),
        (torch.zeros(1, 2, 100), "longer clips or a smaller fft"),
        (torch.full((1, 2, SAMPLES), torch.nan), "NaN or infinite"),
        (torch.zeros(1, 2, SAMPLES, dtype=torch.int16), "floating-point"),
    ],
)
def test_what_is_no_stereo_sound_is_refused(ears, wave, said):
    with unchecked(), pytest.raises(ValueError, match=said):
        ears(wave)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bands": 0}, "bands=0"),
        ({"loudness": "loud"}, "loudness='loud'"),
        ({"resolution": "mel"}, "resolution='mel'"),
        ({"level_unit": 0.0}, "level_unit=0.0"),
        ({"level_limit": float("nan")}, "level_limit=nan"),
        ({"bands": 200}, r"use at most \d+ bands"),
        ({"floor_db": 3.0}, "floor_db=3.0"),
    ],
)
def test_senseless_configurations_are_refused(changes, said):
    with unchecked(), pytest.raises(ValueError, match=said):
        Ears(EarsConfig(**changes), RATE)
