"""Absorption of walls, in bands, and of air, against the table of ISO 9613-2; filterbanks that sum to one."""

import numpy as np
import pytest
from rooms.oracles import TEE

from sonarium.rooms.acoustics.absorption import OCTAVES, Air
from sonarium.rooms.acoustics.filterbank import audible_bands, filters, half_length
from sonarium.rooms.acoustics.geometry import polygon, shoebox
from sonarium.rooms.acoustics.impulse_responses import lead, simulate

DECIBELS_PER_NEPER = 20 / np.log(10)
RATE = 16000
EXACT_OCTAVES = 1000 * 10 ** (0.3 * np.arange(-4, 4))
"""Exact midband frequencies of the standard, nominally 63 to 8000 Hz."""


@pytest.mark.parametrize(
    ("air", "per_kilometre"),
    [
        (Air(10, 70), [0.1, 0.4, 1.0, 1.9, 3.7, 9.7, 32.8, 117]),
        (Air(20, 70), [0.1, 0.3, 1.1, 2.8, 5.0, 9.0, 22.9, 76.6]),
        (Air(30, 70), [0.1, 0.3, 1.0, 3.1, 7.4, 12.7, 23.1, 59.3]),
        (Air(15, 20), [0.3, 0.6, 1.2, 2.7, 8.2, 28.2, 88.8, 202]),
        (Air(15, 50), [0.1, 0.5, 1.2, 2.2, 4.2, 10.8, 36.2, 129]),
        (Air(15, 80), [0.1, 0.3, 1.1, 2.4, 4.1, 8.3, 23.7, 82.8]),
    ],
)
def test_air_absorbs_as_the_table_of_iso_9613_2(air, per_kilometre):
    found = 1000 * DECIBELS_PER_NEPER * air.absorption(EXACT_OCTAVES)
    # The table is rounded to 0.1, above 100 to 1; a few entries are wrong by another 0.01.
    expected = np.array(per_kilometre)
    assert (np.abs(found - expected) <= np.where(expected > 100, 0.6, 0.06)).all()


@pytest.mark.parametrize("air", [(-60, 50), (20, -1), (20, 101), (np.nan, 50)])
def test_air_beyond_the_standard_is_refused(air):
    with pytest.raises(ValueError, match="ISO 9613-1 holds"):
        Air(*air)


@pytest.mark.parametrize("bands", [OCTAVES, OCTAVES[2:5], (1000.0,)])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_filters_sum_to_one(bands, rate):
    used = audible_bands(bands, rate)
    summed = filters(used, rate).sum(axis=0)
    expected = np.zeros(2 * half_length(used, rate) + 1)
    expected[half_length(used, rate)] = 1
    assert np.abs(summed - expected).max() < 1e-12


def test_each_filter_passes_its_centre_and_no_other():
    taps = filters(OCTAVES[:6], RATE)
    gains = np.abs(np.fft.rfft(taps, RATE))[:, np.array(OCTAVES[:6], int)]
    # Filters with only two periods of the lowest band on either side leak this much into adjacent bands.
    leaks = np.array([0.06, 0.04, 0.01, 0.005, 0.002, 0.001])
    assert (np.abs(np.diag(gains) - 1) < leaks).all()
    assert (np.abs(gains - np.diag(np.diag(gains))) < leaks).all()


@pytest.mark.parametrize("rate", [8000, RATE])
def test_equal_absorption_in_all_bands_is_one_figure(rate):
    points = [(0.4, 1.2)], [(1.7, 0.9), (1.1, 4.2)]
    plain = simulate(polygon(TEE, absorption=0.3), *points, rate, 4, dtype=np.float64)
    banded = polygon(TEE, absorption=0.3, bands=OCTAVES)
    by_band = simulate(banded, *points, rate, 4, dtype=np.float64)
    shift = lead(banded, rate) - lead(polygon(TEE), rate)
    assert shift == half_length(OCTAVES, rate)
    overlap = by_band[..., shift : shift + plain.shape[-1]]
    assert np.abs(overlap - plain).max() < 1e-12
    assert np.abs(by_band[..., :shift]).max() < 1e-12


def test_a_band_has_its_own_gain_at_its_centre():
    """Gain per band of a single reflection, read from the spectrum after subtraction of the direct sound."""
    shares = np.ones((4, 6))
    shares[2] = [0.05, 0.7, 0.3, 0.5, 0.1, 0.6]
    room = shoebox((30, 20), absorption=shares, bands=OCTAVES[:6])
    direct, both = (
        simulate(room, [(10, 4)], [(20, 4)], RATE, order, length=4000, dtype=np.float64)[0, 0] for order in (0, 1)
    )
    # Isolate the echo: only the north wall reflects.
    spectrum = np.abs(np.fft.rfft(both - direct, RATE)) * np.hypot(10, 32)
    found = spectrum[np.array(OCTAVES[:6], int)]
    assert found == pytest.approx(np.sqrt(1 - shares[2]), abs=0.03)


def test_air_takes_its_share_on_the_way():
    dry = shoebox((60, 5), absorption=1.0, bands=OCTAVES[:6])
    damp = shoebox((60, 5), absorption=1.0, bands=OCTAVES[:6], air=Air(20, 70))
    spectra = [
        np.abs(np.fft.rfft(simulate(room, [(5, 2)], [(55, 2)], RATE, 0, dtype=np.float64)[0, 0], RATE))
        for room in (dry, damp)
    ]
    octaves = np.array(OCTAVES[:6], int)
    lost = DECIBELS_PER_NEPER * np.log(spectra[0] / spectra[1])[octaves]
    assert lost == pytest.approx(np.array([0.3, 1.1, 2.8, 5.0, 9.0, 22.9]) * 0.05, abs=0.02)


@pytest.mark.parametrize("rate", [2000, 8000, 16000])
def test_bands_above_half_the_rate_are_left_out(rate):
    """`Air` brings all seven octave bands, of which a low sampling rate cannot represent the highest."""
    heard = simulate(shoebox((5, 4, 3), air=Air()), [(1, 1, 1)], [(2, 2, 2)], rate, 2)
    assert np.isfinite(heard).all() and heard.any()
