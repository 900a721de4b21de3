"""Waveforms against SciPy, against their Fourier series, and by their spectra."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal, special, stats

from sonarium.worlds import counter as noise
from sonarium.worlds.tones import kernels
from sonarium.worlds.tones.oscillator import COLUMNS, WAVEFORMS, order_limit, render

PEERS = {
    "sine": np.sin,
    "triangle": lambda angle: signal.sawtooth(angle, width=0.5),  # pyright: ignore[reportArgumentType]
    "sawtooth": signal.sawtooth,
    "square": signal.square,
}
PLAIN = dict.fromkeys(COLUMNS, 0.0) | {"amplitude": 1.0}
RATE = 16000
SECOND = torch.arange(RATE, dtype=torch.float64) / RATE


def tone(waveform: str, frequency: float, alias: bool = False, time: torch.Tensor = SECOND, **others: float):
    row = PLAIN | {"waveform": float(WAVEFORMS.index(waveform)), "frequency": frequency} | others
    columns = torch.tensor([[row[name] for name in COLUMNS]], dtype=torch.float64)
    return render(columns, torch.zeros(1, dtype=torch.int64), time, alias, torch.device("cpu"))[0]


def decibels(wave: torch.Tensor) -> np.ndarray:
    """The spectrum in dB relative to its peak, under a window with sidelobes below −120 dB."""
    window = np.kaiser(len(wave), 20)
    spectrum = np.abs(np.fft.rfft(wave.double().numpy() * window))
    return 20 * np.log10(np.maximum(spectrum / spectrum.max(), 1e-12))


@given(st.floats(0, 2**25 * kernels.TAU, allow_subnormal=False))
def test_the_remainder_is_numpys_to_the_last_bit(angle):
    assert kernels.remainder(angle) == np.mod(angle, 2 * np.pi)


@given(st.integers(0, 2**25), st.integers(-3, 3))
def test_the_remainder_is_numpys_beside_whole_turns(turns, ulps):
    angle = turns * kernels.TAU
    for _ in range(abs(ulps)):
        angle = max(np.nextafter(angle, math.copysign(math.inf, ulps)), 0.0)
    assert kernels.remainder(angle) == np.mod(angle, 2 * np.pi)


@given(st.floats(0, 1e8))
def test_the_sine_is_the_c_librarys(angle):
    assert kernels.sine_angle(angle) == pytest.approx(math.sin(angle), abs=4e-16)


@pytest.mark.parametrize("waveform", WAVEFORMS)
@settings(deadline=None, max_examples=30)
@given(frequency=st.floats(1, 20000), amplitude=st.floats(0.01, 2), endpoint=st.booleans())
def test_naive_waves_are_scipys_sample_for_sample(waveform, frequency, amplitude, endpoint):
    time = np.linspace(0, 1, RATE) if endpoint else np.arange(RATE) / RATE
    theirs = (amplitude * PEERS[waveform](2 * np.pi * frequency * time)).astype(np.float32)
    ours = tone(waveform, frequency, alias=True, time=torch.from_numpy(time), amplitude=amplitude).numpy()
    if waveform == "sine":
        # NumPy's own sine differs by one bit from machine to machine; after rounding to float32, hardly ever.
        np.testing.assert_array_almost_equal_nulp(ours, theirs, 1)
        assert np.mean(ours != theirs) < 1e-3
    else:
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("frequency", [440.0, 500.0, 1000.0, 4000.0, 8000.0])
@pytest.mark.parametrize("waveform", ["triangle", "sawtooth", "square"])
def test_naive_waves_agree_on_their_discontinuities(waveform, frequency):
    theirs = PEERS[waveform](2 * np.pi * frequency * SECOND.numpy()).astype(np.float32)
    np.testing.assert_array_equal(tone(waveform, frequency, alias=True).numpy(), theirs)


@pytest.mark.parametrize("waveform", WAVEFORMS)
@pytest.mark.parametrize("frequency", [20.0, 439.7, 1234.5, 2666.6, 3999.9, 7999.0])
def test_limited_waves_are_partial_sums_of_the_fourier_series(waveform, frequency):
    theta = 2 * np.pi * frequency * SECOND.numpy()
    orders = np.arange(1, math.ceil(RATE / 2 / frequency))
    expected = np.zeros(RATE)
    for k in orders:
        if waveform == "sine":
            expected += np.sin(theta) if k == 1 else 0
        elif waveform == "sawtooth":
            expected -= 2 / np.pi * np.sin(k * theta) / k
        elif k % 2:
            square = 4 / np.pi * np.sin(k * theta) / k
            expected += square if waveform == "square" else -8 / np.pi**2 * np.cos(k * theta) / k**2
    np.testing.assert_allclose(tone(waveform, frequency).numpy(), expected, atol=2e-7)


@pytest.mark.parametrize("waveform", WAVEFORMS)
@pytest.mark.parametrize("frequency", [440.0, 997.3, 3141.6, 5000.0, 6543.2])
def test_nothing_sounds_between_the_partials(waveform, frequency):
    """The required −60 dB holds with a margin of 40 dB; the naive waves fail it."""
    hertz = np.fft.rfftfreq(RATE, 1 / RATE)
    between = np.abs(hertz - frequency * np.rint(hertz / frequency)) > 12
    between |= hertz < frequency / 2
    assert decibels(tone(waveform, frequency))[between].max() < -100
    if waveform in ("sawtooth", "square") and RATE % frequency:
        assert decibels(tone(waveform, frequency, alias=True))[between].max() > -60


@pytest.mark.parametrize("waveform", ["sawtooth", "square", "triangle"])
def test_limited_and_ideal_waves_share_sign_and_level(waveform):
    ideal = PEERS[waveform](2 * np.pi * 100 * SECOND.numpy())
    limited = tone(waveform, 100.0).numpy()
    assert np.corrcoef(ideal, limited)[0, 1] > 0.98
    assert np.sqrt(np.mean(limited**2)) == pytest.approx(np.sqrt(np.mean(ideal**2)), rel=0.02)


@pytest.mark.parametrize("waveform", WAVEFORMS)
def test_at_half_the_rate_limited_waves_are_silent(waveform):
    assert torch.equal(tone(waveform, RATE / 2), torch.zeros(RATE))
    assert tone(waveform, RATE / 2 - 0.01).abs().max() > 0.01


@pytest.mark.parametrize("waveform", WAVEFORMS)
@pytest.mark.parametrize("alias", [True, False])
def test_a_phase_of_some_samples_is_a_shift_by_as_many(waveform, alias):
    plain, moved = tone(waveform, 1000.0, alias), tone(waveform, 1000.0, alias, phase=3.5 / 16)
    halved = tone(waveform, 1000.0, alias, time=SECOND + 3.5 / RATE)
    torch.testing.assert_close(moved, halved, atol=1e-6, rtol=0)
    assert (moved - plain).abs().max() > 0.1


@pytest.mark.parametrize("alias", [True, False])
def test_vibrato_has_bessels_sidebands(alias):
    frequency, rate, depth = 2000.0, 50.0, 0.05
    index = frequency * depth / rate
    wave = tone("sine", frequency, alias, vibrato_rate=rate, vibrato_depth=depth).double().numpy()
    spectrum = np.abs(np.fft.rfft(wave)) / (RATE / 2)
    for n in range(-6, 7):
        line = spectrum[int(frequency + n * rate)]
        assert line == pytest.approx(abs(special.jv(n, index)), abs=1e-6)


def test_vibrato_swings_the_frequency_by_its_depth():
    wave = tone("sine", 3000.0, vibrato_rate=2.0, vibrato_depth=0.1).double().numpy()
    phase = np.unwrap(np.angle(np.asarray(signal.hilbert(wave))))
    swing = np.diff(phase)[200:-200] * RATE / (2 * np.pi)
    assert swing.max() == pytest.approx(3300, rel=2e-3)
    assert swing.min() == pytest.approx(2700, rel=2e-3)
    assert swing[2000 - 200] == pytest.approx(3300, rel=2e-3), "it rises first"


@pytest.mark.parametrize("frequency", [700.0, 2950.0, 7000.0])
@pytest.mark.parametrize(("rate", "depth"), [(5.0, 0.03), (8.0, 0.1), (100.0, 0.02)])
def test_sidebands_of_vibrato_do_not_fold(frequency, rate, depth):
    """Oracle at eight times the rate, whose band above half the rate must be empty, too."""
    fine = torch.arange(8 * RATE, dtype=torch.float64) / (8 * RATE)
    coarse = tone("sawtooth", frequency, vibrato_rate=rate, vibrato_depth=depth).double()
    number = torch.tensor([[frequency], [rate], [depth]], dtype=torch.float64)
    limit = order_limit(number[0], number[1], number[2], RATE / 2)
    swing = frequency * depth / (2 * math.pi * rate) * (1 - torch.cos(2 * math.pi * rate * fine))
    phase = 2 * math.pi * (frequency * fine + swing)
    orders = range(1, int(limit) + 1)
    wave = sum((-2 / math.pi * torch.sin(k * phase) / k for k in orders), torch.zeros_like(phase))
    torch.testing.assert_close(coarse, wave[::8], atol=1e-6, rtol=0)
    if orders:
        spectrum = decibels(wave)
        assert spectrum[np.fft.rfftfreq(8 * RATE, 1 / (8 * RATE)) > RATE / 2].max() < -60


def test_attack_and_decay_follow_half_cosines():
    wave = tone("square", 100.0, alias=True, attack=0.25, decay=0.5, phase=0.25)
    at = {0: 0.0, 1000: 0.5 - 0.5 * math.cos(math.pi / 4), 2000: 0.5, 4000: 1.0, 8000: 1.0, 12000: 0.5}
    for sample, level in at.items():
        assert wave[sample].abs().item() == pytest.approx(level, abs=1e-6)
    assert wave[-1].abs() < 1e-6


def test_an_attack_makes_no_click():
    """A jump would leave a spectrum that falls by 20 dB per decade; a half-cosine attack is far below it."""
    hard = tone("sine", 1000.0, time=SECOND - 0.2, phase=0.25) * (SECOND > 0.2)
    soft = torch.cat([torch.zeros(3200), tone("sine", 1000.0, attack=0.05, phase=0.25)[:-3200]])
    far = np.fft.rfftfreq(RATE, 1 / RATE) > 3000
    assert decibels(soft)[far].max() < decibels(hard)[far].max() - 40


@pytest.mark.parametrize("alias", [True, False])
def test_the_second_partial_has_its_level(alias):
    wave = tone("square", 1000.0, alias, second_partial=0.3, amplitude=0.5) - tone(
        "square", 1000.0, alias, amplitude=0.5
    )
    expected = 0.15 * torch.sin(2 * math.pi * 2000 * SECOND)
    torch.testing.assert_close(wave.double(), expected, atol=1e-6, rtol=0)


def test_a_second_partial_that_would_fold_is_left_out():
    assert torch.equal(tone("sine", 5000.0, second_partial=1.0), tone("sine", 5000.0))
    assert not torch.equal(tone("sine", 5000.0, True, second_partial=1.0), tone("sine", 5000.0, True))


def test_noise_is_white_and_normal():
    samples = noise.normal(noise.stream(7, torch.arange(4)), 50001).numpy()
    assert stats.kstest(samples.ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(samples)[np.triu_indices(4, 1)]).max() < 0.02
    lags = np.fft.irfft(np.abs(np.fft.rfft(samples[0])) ** 2)[1:200] / 50001
    assert abs(lags).max() < 0.025
    assert stats.kurtosis(samples.ravel()) == pytest.approx(0, abs=0.05)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**40), st.integers(1, 40))
@settings(deadline=None)
def test_noise_is_the_same_in_numba_and_torch(seed, clip, samples):
    streams = noise.stream(seed, torch.tensor([clip]))
    wave = np.zeros(samples)
    kernels.add_normal(wave, 1.0, int(streams[0]), 0)
    np.testing.assert_allclose(wave, noise.normal(streams, samples)[0].numpy(), atol=1e-12)


def test_the_mixer_is_splitmix64():
    """The first outputs of the published generator for seed 1234567."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    state = 1234567 + torch.arange(1, 4) * noise.signed(noise.STEP)
    assert [word % 2**64 for word in noise.mix(state).tolist()] == published
