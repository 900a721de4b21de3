"""Measures of separation against their formulas, plain least squares, and reference outputs of mir_eval."""

import json

import numpy as np
import pytest
import soundfile

from sonarium.measures.separation import (
    best_order,
    bss_eval,
    delay_of,
    lateral_angle,
    level_difference,
    si_sdr,
    snr,
    time_difference,
)

RANDOM = np.random.default_rng(0)
SOURCES = RANDOM.standard_normal((2, 400))


def test_ratios_are_their_formulas():
    noise = RANDOM.standard_normal((2, 400))
    np.testing.assert_allclose(
        snr(SOURCES, SOURCES + 0.1 * noise), 10 * np.log10((SOURCES**2).sum(1) / (0.01 * noise**2).sum(1))
    )
    # An error orthogonal to the reference, and any gain.
    across = noise - (noise * SOURCES).sum(1, keepdims=True) / (SOURCES**2).sum(1, keepdims=True) * SOURCES
    expected = 10 * np.log10((SOURCES**2).sum(1) / (0.25 * across**2).sum(1))
    for gain in (1.0, -3.0, 1e-6):
        np.testing.assert_allclose(si_sdr(SOURCES, gain * (SOURCES + 0.5 * across)), expected)
    assert snr(SOURCES, SOURCES).tolist() == [np.inf, np.inf]


def test_one_tap_is_the_scale_invariant_ratio():
    estimates = SOURCES + 0.3 * SOURCES[::-1] + 0.1 * RANDOM.standard_normal((2, 400))
    found = bss_eval(SOURCES, estimates, taps=1)
    np.testing.assert_allclose(found.sdr, si_sdr(SOURCES, estimates))
    assert (found.sir > found.sdr).all() and (found.sar > found.sdr).all()


@pytest.mark.parametrize("taps", [2, 5])
def test_filters_are_those_of_plain_least_squares(taps):
    estimates = SOURCES * 0.7 + 0.4 * np.roll(SOURCES, 2, 1) + 0.2 * SOURCES[::-1]
    found = bss_eval(SOURCES, estimates, taps)

    def delayed(sources):
        return np.stack(
            [np.r_[np.zeros(lag), one, np.zeros(taps - 1 - lag)] for one in sources for lag in range(taps)], 1
        )

    for source, estimate in enumerate(estimates):
        whole = np.r_[estimate, np.zeros(taps - 1)]
        target, known = (
            columns @ np.linalg.lstsq(columns, whole, rcond=None)[0]
            for columns in (delayed(SOURCES[source : source + 1]), delayed(SOURCES))
        )
        parts = [(target, whole - target), (target, known - target), (known, whole - known)]
        expected = [10 * np.log10((one**2).sum() / (other**2).sum()) for one, other in parts]
        np.testing.assert_allclose([found.sdr[source], found.sir[source], found.sar[source]], expected)


@pytest.mark.parametrize("number", ["01", "02", "05"])
def test_bss_eval_is_that_of_mir_eval(number, shared_data):
    folder = shared_data / "reference" / "mir_eval_separation"
    expected = json.loads((folder / f"output{number}.json").read_text())["Sources"]
    references, estimates = (
        np.stack([soundfile.read(path)[0] for path in sorted((folder / f"{kind}{number}").glob("*.wav"))])
        for kind in ("ref", "est")
    )
    order = np.array(expected["Source permutation"], int)
    found = bss_eval(references, estimates[order])
    np.testing.assert_allclose(found.sdr, expected["Source to Distortion"], atol=1e-4)
    np.testing.assert_allclose(found.sir, expected["Source to Interference"], atol=1e-4)
    np.testing.assert_allclose(found.sar, expected["Source to Artifact"], atol=1e-4)
    scores = np.array([[si_sdr(one, other) for other in estimates] for one in references])
    assert best_order(scores).tolist() == order.tolist()


def test_the_best_order_is_that_of_all_orders():
    scores = np.array([[1.0, 5.0, 3.0], [2.0, 6.0, 1.0], [0.0, 4.0, 9.0]])
    assert best_order(scores).tolist() == [0, 1, 2]
    assert best_order(scores[[1, 0, 2]]).tolist() == [1, 0, 2]


@pytest.mark.parametrize("samples", [-5.25, 0.0, 3.5, 7.0])
def test_interaural_differences_of_a_delayed_and_louder_sound(samples):
    rate, size = 16000, 2048
    spectrum = np.fft.rfft(RANDOM.standard_normal(size))
    frequency = np.arange(len(spectrum)) / size
    left, right = np.fft.irfft(spectrum), np.fft.irfft(0.5 * spectrum * np.exp(-2j * np.pi * frequency * samples))
    ears = np.stack([left, right])
    assert time_difference(ears, rate) * rate == pytest.approx(samples, abs=1 / 16)
    assert level_difference(ears) == pytest.approx(20 * np.log10(2), abs=0.01)
    both = np.stack([ears, ears[::-1]])
    assert time_difference(both, rate)[1] == pytest.approx(-time_difference(both, rate)[0], abs=1e-6)


def test_a_smaller_largest_difference_leaves_later_peaks_out():
    """A tone of 2 kHz has a period of 0.5 ms: several delays are possible, one of which is small."""
    tone = np.sin(2 * np.pi * 2000 * np.arange(1600) / 16000)
    ears = np.stack([tone, np.roll(tone, 2)])
    assert time_difference(ears, 16000, 2e-4) == pytest.approx(2 / 16000, abs=1e-5)


@pytest.mark.parametrize("head", ["none", "sphere"])
def test_the_lateral_angle_is_that_of_the_delay(head):
    angles = np.radians([-90, -60, -5, 0, 30, 88, 90])
    radius = 0.1
    delays = radius / 343 * (2 * np.sin(angles) if head == "none" else angles + np.sin(angles))
    np.testing.assert_allclose(delay_of(angles, 2 * radius, head), delays)
    np.testing.assert_allclose(lateral_angle(delays, 2 * radius, head), angles, atol=1e-6)
    beyond = lateral_angle(np.array([-1e-3, 1e-3, np.nan]), 2 * radius, head)
    np.testing.assert_allclose(beyond, [-np.pi / 2, np.pi / 2, np.nan])


@pytest.mark.parametrize(
    ("reference", "estimate", "said"),
    [
        (np.ones(3), np.ones(4), r"shape \(3,\) and an estimate of shape \(4,\)"),
        (np.zeros(3), np.ones(3), "a reference is silent"),
        (np.ones(3), np.array([1.0, np.nan, 0.0]), "the estimate holds NaN"),
    ],
)
def test_what_cannot_be_compared_is_refused(reference, estimate, said):
    for measure in (snr, si_sdr):
        with pytest.raises(ValueError, match=said):
            measure(reference, estimate)
    with pytest.raises(ValueError, match="taps=0"):
        bss_eval(SOURCES, SOURCES, taps=0)
