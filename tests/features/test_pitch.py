"""Pitch tracks of sounds with known instantaneous frequency."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonarium.features.pitch import PitchConfig, track


def pulses(hertz: np.ndarray, rate: int, partials: int = 12) -> np.ndarray:
    """Harmonics with levels 1/n along a track of the frequency, without those above 0.48 of the sampling rate."""
    phase = 2 * np.pi * np.cumsum(hertz) / rate
    orders = np.arange(1, partials + 1)[:, None]
    return ((orders * hertz < 0.48 * rate) * np.sin(orders * phase + orders**2) / orders).sum(0)


@settings(max_examples=12)
@given(st.floats(320, 6000), st.sampled_from([16_000, 22_050, 44_100]), st.integers(1, 12))
def test_a_steady_pitch_is_found(f0, rate, partials):
    found = track(pulses(np.full(rate // 10, f0), rate, partials), rate).hertz[15:-15]
    assert np.median(np.abs(found / f0 - 1)) < 0.005 and (np.abs(found / f0 - 1) < 0.03).mean() > 0.9


@pytest.mark.parametrize(("first", "last"), [(500, 4000), (4000, 500)])
def test_a_sweep_is_followed_without_delay(first, last):
    rate = 32_000
    truth = np.geomspace(first, last, round(0.15 * rate))
    found = track(pulses(truth, rate), rate).hertz
    expected = truth[np.minimum(np.arange(len(found)) * rate // 1000, len(truth) - 1)]
    assert np.median((found / expected)[12:-12]) == pytest.approx(1, abs=0.004)
    assert np.quantile(np.abs(found / expected - 1)[12:-12], 0.9) < 0.03


def test_noise_hides_the_pitch_late_and_has_none_itself():
    rng, rate = np.random.default_rng(0), 16_000
    noise, tone = rng.normal(size=rate // 4), pulses(np.full(rate // 4, 700.0), rate)
    noisy = track(tone + 0.1 * tone.std() * noise, rate)
    assert np.median(np.abs(noisy.hertz / 700 - 1)) < 0.005 and np.median(noisy.aperiodicity) < 0.1
    assert np.median(track(noise, rate).aperiodicity) > 0.4


def test_silence_has_no_pitch():
    found = track(np.zeros(3000), 16_000)
    assert (found.aperiodicity == 1).all() and np.isfinite(found.hertz).all() and len(found.hertz) == 188


@pytest.mark.parametrize("change", [{"fmin": 9000.0}, {"window": 0.001}, {"hop": 0.0}, {"fmin": 0.0}])
def test_settings_that_find_nothing_are_refused(change):
    with pytest.raises(ValueError, match="give"):
        PitchConfig(**change)
