"""The spectrogram front end against librosa; its scaling, its statistics, and refused input."""

import dataclasses
import io
import math
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from scipy import signal
from typechecking import unchecked

from sonarium.features.spectrogram import SNIPPETS, Spectrogram, SpectrogramConfig

RATE = 16_000


def noise(clips: int, samples: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(clips, samples, generator=torch.Generator().manual_seed(seed)) - 0.5


def sounds(rate: int, samples: int) -> torch.Tensor:
    """A loud tone, a faint one in noise, a chirp, and a clip whose second half is silent."""
    time = torch.arange(samples, dtype=torch.float64) / rate
    chirp = torch.sin(2 * torch.pi * (100 + rate / 8 * time / time[-1]) * time)
    half = torch.where(time < time[-1] / 2, torch.sin(2 * torch.pi * 300 * time), 0)
    faint = 0.003 * torch.sin(2 * torch.pi * 1000 * time) + 0.001 * noise(1, samples)[0]
    return torch.stack([0.9 * torch.sin(2 * torch.pi * 440 * time), faint, chirp, half]).float()


configurations = st.builds(
    SpectrogramConfig,
    fft=st.sampled_from([256, 400, 512, 1000, 1024, 2048]),
    window_length=st.sampled_from([None, 200]),
    hop=st.integers(40, 700),
    mels=st.sampled_from([0, 1, 16, 17, 33, 64, 128]),
    fmin=st.sampled_from([0.0, 50.0]),
    fmax=st.sampled_from([None, 3_500.0]),
    power=st.sampled_from([1.0, 2.0]),
    scaling=st.just("none"),
)


def theirs(config: SpectrogramConfig, rate: int, wave: torch.Tensor) -> np.ndarray:
    cut = {"n_fft": config.fft, "hop_length": config.hop, "win_length": config.window_length}
    if not config.mels:
        return np.abs(librosa.stft(wave.numpy(), **cut)) ** config.power
    ends = {"fmin": config.fmin, "fmax": config.fmax}
    return librosa.feature.melspectrogram(
        y=wave.numpy(), sr=rate, **cut, power=config.power, n_mels=config.mels, **ends
    )


@pytest.mark.filterwarnings("ignore:Empty filters detected")
@settings(deadline=None, max_examples=30)
@given(config=configurations, rate=st.sampled_from([8_000, 16_000, 22_050]), samples=st.integers(2048, 9000))
def test_equals_librosa(config, rate, samples):
    wave = sounds(rate, samples)
    expected = theirs(config, rate, wave)
    if (expected.max((0, 2)) == 0).any():
        with pytest.raises(ValueError, match="mel bands are so narrow"):
            Spectrogram(config, rate)
        return
    front = Spectrogram(config, rate)
    cells = front.magnitudes(wave)
    assert (1, *cells.shape[1:]) == front.shape(samples)
    assert np.abs(cells.numpy() - expected).max() <= 1e-5 * expected.max()
    to_db = librosa.power_to_db if config.power == 2 else librosa.amplitude_to_db
    amin = front.full_scale * 10 ** (config.floor_db * config.power / 20)
    decibels = to_db(expected, ref=front.full_scale, amin=amin, top_db=None)
    # A float32 transform rounds at 1e-7 of the loudest cell, which is visible in cells 50 dB below it.
    heard = decibels > decibels.max() - 50
    assert np.abs(front(wave)[:, 0].numpy() - decibels)[heard].max() <= 1e-5 * np.abs(decibels).max()
    assert np.abs(front(wave)[:, 0].numpy() - decibels).max() <= 1e-3 * np.abs(decibels).max()


def test_a_full_scale_sine_is_at_zero_decibels():
    front = Spectrogram(SpectrogramConfig(mels=0, scaling="none"), RATE)
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    for amplitude, decibels in ((1.0, 0.0), (0.1, -20.0), (1e-7, -80.0)):
        wave = (amplitude * torch.sin(2 * torch.pi * 1000 * time)).float()
        assert abs(float(front(wave[None])[..., 5:-5].max()) - decibels) < 1e-3
    assert (front(torch.zeros(1, RATE)) == -80).all()


def test_frame_scaling_is_that_of_syntone():
    front = Spectrogram(SpectrogramConfig(compression="none", scaling="frame"), RATE)
    wave = sounds(RATE, RATE)
    expected = librosa.util.normalize(theirs(front.config, RATE, wave), axis=-2)
    np.testing.assert_allclose(front(wave)[:, 0].numpy(), expected, atol=1e-5)
    torch.testing.assert_close(front(0.1 * wave), front(wave))


@pytest.mark.parametrize("compression", ["log", "none"])
@pytest.mark.parametrize("sizes", [[12], [1] * 12, [3, 8, 1]])
def test_statistics_in_batches_are_those_of_the_whole(compression, sizes):
    waves = torch.cat([noise(8, 2048), sounds(RATE, 2048)]) * torch.linspace(0.001, 1, 12)[:, None]
    settled = {"fft": 512, "hop": 128, "mels": 40, "compression": compression}
    standard = Spectrogram(SpectrogramConfig(**settled), RATE)
    unit = Spectrogram(SpectrogramConfig(**settled, scaling="unit"), RATE)
    cells = standard.decibels(standard.magnitudes(waves)).double().numpy()
    standard.fit(waves.split(sizes))
    unit.fit(iter(waves.split(sizes)))
    np.testing.assert_allclose(
        [float(standard.offset[0]), float(standard.spread[0])], [cells.mean(), cells.std()], 1e-6
    )
    np.testing.assert_allclose([float(unit.offset[0]), float(unit.spread[0])], [cells.min(), np.ptp(cells)], 1e-6)
    scaled = standard(waves).double()
    assert abs(float(scaled.mean())) < 1e-5 and abs(float(scaled.std(correction=0)) - 1) < 1e-5
    assert abs(float(unit(waves).min())) < 1e-6 and abs(float(unit(waves).max()) - 1) < 1e-6


def test_padding_has_no_part_in_the_scale():
    waves, lengths = noise(3, 2048), torch.tensor([2048, 900, 1300])
    padded = waves.where(torch.arange(2048) < lengths[:, None], 0)
    settled = SpectrogramConfig(fft=512, hop=128, mels=40)
    whole, alone = Spectrogram(settled, RATE), Spectrogram(settled, RATE)
    whole.fit([padded, padded[:1]], [lengths, None])
    alone.fit([*(wave[None, :length] for wave, length in zip(padded, lengths, strict=True)), padded[:1]])
    # The last frames of a single clip include its reflection; those of a padded clip include silence.
    torch.testing.assert_close((whole.offset, whole.spread), (alone.offset, alone.spread), rtol=0.02, atol=0.2)
    silent = Spectrogram(settled, RATE)
    silent.fit([padded])
    assert abs(silent.offset[0] - alone.offset[0]) > 10


@pytest.mark.parametrize("scaling", ["standard", "unit", "none"])
@pytest.mark.parametrize("compression", ["log", "none"])
@pytest.mark.parametrize(("mels", "power"), [(0, 2.0), (40, 2.0), (40, 1.0), (0, 0.5)])
def test_scaling_can_be_undone_and_keeps_amplitude(scaling, compression, mels, power):
    config = SpectrogramConfig(fft=512, hop=128, mels=mels, power=power, compression=compression, scaling=scaling)
    front, waves = Spectrogram(config, RATE), sounds(RATE, 4096)
    front.fit([waves])
    cells = front.magnitudes(waves)
    least = front.full_scale * 10 ** (-80 * power / 20) if compression == "log" else 0.0
    expected = cells.clamp(min=least)
    torch.testing.assert_close(front.unscale(front(waves)), expected, rtol=1e-4, atol=1e-6 * float(cells.max()))
    assert (front(waves) - front(0.5 * waves)).abs().max() > 0.01


def test_statistics_survive_a_checkpoint():
    waves = sounds(RATE, 4096)
    front = Spectrogram(SpectrogramConfig(), RATE)
    front.fit([waves])
    again = Spectrogram(SpectrogramConfig(), RATE)
    again.load_state_dict(load(io.BytesIO(save(front.state_dict())).getvalue()))
    assert torch.equal(again(waves), front(waves))
    assert sorted(front.state_dict()) == ["fitted", "offset", "spread"]


def test_many_clips_equal_one_at_a_time_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    front, waves = Spectrogram(SpectrogramConfig(scaling="none"), RATE), noise(20, RATE)
    one_by_one = torch.cat([front(wave[None]) for wave in waves])
    torch.testing.assert_close(front(waves), one_by_one, rtol=1e-5, atol=1e-5)
    front.invert(front(waves[:1]), RATE, iterations=2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_reduced_precision_of_the_model_leaves_the_features_exact():
    front, waves = Spectrogram(SpectrogramConfig(scaling="none"), RATE), noise(2, RATE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(front.magnitudes(waves), front.magnitudes(waves.clone()))
        reduced = front(waves)
    assert reduced.dtype == torch.float32 and torch.equal(reduced, front(waves))


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_gradients_reach_the_wave_and_are_finite_in_silence(power):
    front = Spectrogram(SpectrogramConfig(power=power, scaling="none"), RATE)
    wave = torch.cat([noise(1, 4096), torch.zeros(1, 4096)]).requires_grad_()
    (slope,) = torch.autograd.grad(front(wave).sum(), wave)
    assert slope.isfinite().all() and slope[0].abs().max() > 0 and (slope[1] == 0).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fft": 1}, "fft=1"),
        ({"window_length": 4096}, "window_length=4096"),
        ({"hop": 0}, "hop=0"),
        ({"fft": 10**9}, "fft=1000000000"),
        ({"mels": -1}, "mels=-1"),
        ({"mels": 2049}, "mels=2049"),
        ({"level_rows": 10**6}, "level_rows=1000000"),
        ({"power": 0.0}, "power=0"),
        ({"power": math.nan}, "power=nan"),
        ({"floor_db": 3.0}, "floor_db=3"),
        ({"scaling": "loud"}, "scaling='loud'"),
        ({"compression": "zip"}, "compression='zip'"),
        ({"scaling": "frame"}, "compression 'none'"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        SpectrogramConfig(**wrong)


@pytest.mark.parametrize(
    ("ends", "rate", "message"),
    [
        ({"fmax": 8_001.0}, RATE, "a highest of at most 8000"),
        ({"fmax": 8_000.0}, 8_000, "a highest of at most 4000"),
        ({"fmin": 5_000.0, "fmax": 4_000.0}, RATE, "a lowest frequency below the highest"),
        ({"fmin": -1.0}, RATE, "fmin=-1.0: give a number of at least 0"),
        ({"fmin": math.nan}, RATE, "fmin=nan"),
    ],
)
def test_bands_that_do_not_fit_the_rate_are_refused(ends, rate, message):
    with pytest.raises(ValueError, match=message):
        Spectrogram(SpectrogramConfig(**ends), rate)


def test_too_many_bands_are_refused_with_a_number_that_works():
    with pytest.raises(ValueError, match="larger fft") as refusal:
        Spectrogram(SpectrogramConfig(fft=256, hop=64, mels=128), RATE)
    most = int(str(refusal.value).split("at most ")[1].split(" bands")[0])
    assert Spectrogram(SpectrogramConfig(fft=256, hop=64, mels=most), RATE).shape(RATE)[1] == most > 20


def test_clips_that_mean_nothing_are_refused():
    front = Spectrogram(SpectrogramConfig(scaling="none"), RATE)
    for value in (math.nan, math.inf, -math.inf):
        wave = noise(5, 4096)
        wave[3, 17] = value
        with pytest.raises(ValueError, match=r"1 clip\(s\) .* NaN or infinite samples, the first at position 3"):
            front(wave)
    for wave in (torch.zeros(4096), torch.zeros(1, 1, 4096), torch.zeros(1, 4096, dtype=torch.int16)):
        with pytest.raises(ValueError, match="give a batch of one-channel sounds"):
            front.check(wave)
    with pytest.raises(ValueError, match="give at least one clip"):
        front(torch.zeros(0, 4096))
    for refused in (lambda: front(torch.zeros(1, 2047)), lambda: front.shape(2047)):
        with pytest.raises(ValueError, match="use longer clips or a smaller fft"):
            refused()


def test_loud_half_precision_clips_are_not_taken_for_infinite():
    front = Spectrogram(SpectrogramConfig(scaling="none"), RATE)
    wave = torch.full((2, 8192), 60_000.0, dtype=torch.float16)
    assert front(wave).isfinite().all()


def test_statistics_are_demanded_and_must_be_of_something():
    front = Spectrogram(SpectrogramConfig(), RATE)
    with pytest.raises(ValueError, match="call fit with batches of the training split"):
        front(noise(1, 4096))
    for waves in ([], [torch.zeros(2, 4096)]):
        with pytest.raises(ValueError, match="not all silent"):
            front.fit(waves)
    assert not front.fitted


LEVELS = SpectrogramConfig(fft=512, hop=128, mels=0, level_rows=4, floor_db=-40)


def test_louder_sounds_change_only_the_rows_of_the_level():
    front, waves = Spectrogram(dataclasses.replace(LEVELS, scaling="none"), RATE), sounds(RATE, 4096)
    soft, loud = front(0.1 * waves)[:, 0], front(waves)[:, 0]
    heard = soft[:, -1] > -79
    assert heard.any(1).all()
    torch.testing.assert_close(soft[:, :-4].mT[heard], loud[:, :-4].mT[heard], atol=2e-3, rtol=0)
    rise = (loud[:, -4:] - soft[:, -4:]).mT[heard]
    torch.testing.assert_close(rise, torch.full_like(rise, 20), atol=2e-3, rtol=0)


def test_the_level_is_the_energy_of_the_frame():
    front = Spectrogram(dataclasses.replace(LEVELS, scaling="none"), RATE)
    time = torch.arange(8192) / RATE
    sine = torch.stack([a * torch.sin(2 * torch.pi * 1000 * time) for a in (1.0, 0.1)])
    level = front(sine)[:, 0, -1, 8:-8]
    torch.testing.assert_close(level, torch.tensor([[0.0], [-20.0]]).expand_as(level), atol=0.05, rtol=0)


def test_level_and_colour_have_statistics_of_their_own_and_silence_is_finite():
    front, waves = Spectrogram(LEVELS, RATE), torch.cat([sounds(RATE, 4096), torch.zeros(1, 4096)])
    front.fit([waves[:2], waves[2:]])
    rows = front(waves)[:, 0].double()
    for part in (rows[:, :-4], rows[:, -4:]):
        assert abs(float(part.mean())) < 1e-5
        assert abs(float(part.std(correction=0)) - 1) < 1e-5
    assert front(waves).isfinite().all()


def test_sound_with_its_level_apart_can_be_heard_again():
    front, waves = Spectrogram(LEVELS, RATE), sounds(RATE, 8192)
    front.fit([waves])
    heard = front.invert(front(waves), 8192, phase=front.phase(waves))
    error = (heard - waves).square().mean(1) / waves.square().mean(1)
    assert float(error.max()) < 1e-2
    assert float(front.invert(front(torch.zeros(1, 8192)), 8192).abs().max()) < 1e-4


def test_a_level_needs_decibels():
    with pytest.raises(ValueError, match="use compression 'log', or level_rows 0"):
        SpectrogramConfig(level_rows=4, compression="none", scaling="none")


def test_linear_bands_are_evenly_spaced():
    front = Spectrogram(SpectrogramConfig(fft=1024, hop=256, mels=40, spacing="linear", scaling="none"), RATE)
    assert front.filters is not None
    hertz = torch.arange(513) * RATE / 1024
    centres = (front.filters @ hertz) / front.filters.sum(1)
    torch.testing.assert_close(centres, torch.arange(1, 41) * RATE / 2 / 41, atol=RATE / 1024, rtol=0)


def test_snippets_are_the_magnitudes_of_librosa_within_the_sound():
    """log(1 + |STFT|), as in BirdsongGAN, of frames without padding beyond the ends."""
    waves = sounds(RATE, 1216)
    front = Spectrogram(SNIPPETS, RATE)
    found = front(waves)
    theirs = np.log1p(np.abs(librosa.stft(waves.numpy(), n_fft=256, hop_length=64, center=False)))
    assert found.shape == (4, 1, 129, 16) == (4, *front.shape(1216))
    np.testing.assert_allclose(found[:, 0].numpy(), theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(front.unscale(found).numpy(), np.expm1(theirs), rtol=1e-3, atol=1e-4)
    assert front.frames(torch.tensor([0, 100, 256, 319, 320, 1216])).tolist() == [0, 1, 1, 1, 2, 16]
    with pytest.raises(ValueError, match="255 samples are shorter than the window of 256"):
        front(waves[:, :255])


def test_sound_comes_back_from_snippets_and_their_phase():
    """Except at the ends, which few frames cover."""
    waves = sounds(RATE, 1216)
    front = Spectrogram(SNIPPETS, RATE)
    again = front.invert(front(waves), 1216, phase=front.phase(waves))
    torch.testing.assert_close(again[:, 64:-64], waves[:, 64:-64], rtol=1e-3, atol=1e-4)
    assert (again[:, :64].abs() <= waves[:, :64].abs() + 1e-3).all()


def test_the_band_pass_is_scipys_forwards_and_backwards():
    config = dataclasses.replace(SNIPPETS, compression="none", band_pass=(400.0, 3000.0))
    waves = noise(2, 4000)
    hertz: Any = np.arange(129) * RATE / 256
    response = np.ones(129)
    for edge, kind in ((400.0, "highpass"), (3000.0, "lowpass")):
        filtered: Any = signal.butter(4, edge, kind, analog=True)
        response *= np.abs(signal.freqs(filtered[0], filtered[1], hertz)[1]) ** 2
    plain = Spectrogram(dataclasses.replace(config, band_pass=None), RATE)(waves)
    found = Spectrogram(config, RATE)(waves)
    np.testing.assert_allclose(found.numpy(), plain.numpy() * response[:, None], rtol=1e-4, atol=1e-6)
    # An edge above the Nyquist frequency removes nothing.
    wide = Spectrogram(dataclasses.replace(config, band_pass=(0.0, 12_000.0)), RATE)(waves)
    np.testing.assert_allclose(wide.numpy(), plain.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"band_pass": (-1.0, 400.0)}, "band_pass.*a lower and an upper"),
        ({"band_pass": (500.0, 400.0)}, "band_pass.*a lower and an upper"),
        ({"compression": "log1p", "scaling": "frame"}, "scaling 'frame'"),
        ({"compression": "log1p", "level_rows": 2}, "level_rows is 2"),
    ],
)
def test_settings_of_snippets_that_do_not_fit_are_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(SpectrogramConfig(), **changed)


def test_a_band_beyond_the_sound_is_refused():
    config = dataclasses.replace(SNIPPETS, band_pass=(9000.0, 12_000.0))
    with pytest.raises(ValueError, match=r"lets nothing .* pass"):
        Spectrogram(config, RATE)
