"""FFTs against NumPy's, and block convolution against SciPy's convolution of whole signals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from sonarium.rooms.acoustics import fourier

SIZES = [size for size in fourier.sizes() if size <= 10_240]


@pytest.mark.parametrize("size", SIZES)
def test_a_spectrum_holds_the_frequencies_of_numpy(size):
    signals = np.random.default_rng(size).standard_normal((2, size)).astype(np.float32)
    rows, _ = fourier.sizes()[size]
    plan = fourier.plan(size)
    order = fourier.frequencies(plan.down)[None] + rows * fourier.frequencies(plan.across)[:, None]
    found = fourier.spectra(signals)
    expected = np.fft.fft(signals.astype(float))[:, order.ravel()] / size
    assert np.abs(found[:, 0] + 1j * found[:, 1] - expected).max() < 1e-6 * np.abs(expected).max()
    assert sorted(order.ravel()) == list(range(size))


def blocks(sounds: np.ndarray, size: int, length: int, time: int) -> np.ndarray:
    """Overlapping blocks of sounds, (sound, block, time)."""
    hop = size - length + 1
    count = -(-time // hop)
    padded = np.zeros((len(sounds), length - 1 + count * hop), np.float32)
    padded[:, length - 1 : length - 1 + sounds.shape[1]] = sounds
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, ::hop])


@given(
    size=st.sampled_from(SIZES[:12]),
    share=st.floats(0.01, 0.99),
    time=st.integers(1, 9000),
    rooms=st.integers(1, 3),
    bands=st.integers(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_blocks_are_convolved_as_one(size, share, time, rooms, bands):
    random = np.random.default_rng(size + time)
    sources, taps = 3, 9
    length = max(1, int(share * size))
    # With filters, responses are shorter by the filter taps.
    reach = max(1, length - taps + 1) if bands else length
    responses = np.zeros((rooms, sources, 2, max(1, bands), length), np.float32)
    responses[..., :reach] = random.standard_normal((*responses.shape[:-1], reach))
    shaping = np.zeros((bands, size), np.float32)
    shaping[:, : min(taps, length)] = random.standard_normal((bands, min(taps, length)))
    sounds = random.standard_normal((4, time)).astype(np.float32)
    playing = random.integers(0, 4, (rooms, sources))
    cut = blocks(sounds, size, length, time)
    spectra = fourier.spectra(cut.reshape(-1, size)).reshape(*cut.shape[:2], 2, size)
    filters = fourier.spectra(size * shaping)
    # Rows are filled in any order; all others stay unchanged.
    filled, rows = np.full((rooms + 1, 2, time), np.nan, np.float32), random.permutation(rooms + 1)[:rooms]
    fourier.convolve(filled, rows, responses, filters, spectra, playing)
    found = filled[rows]
    assert np.isnan(filled).sum() == 2 * time
    whole = responses[:, :, :, 0].astype(float)
    if bands:
        whole = fftconvolve(responses.astype(float), shaping[None, None, None].astype(float), axes=-1).sum(3)
    played = sounds[playing][:, :, None].astype(float)
    expected = fftconvolve(whole, played, axes=-1).sum(1)[..., :time]
    assert np.abs(found - expected).max() < 3e-6 * np.abs(fftconvolve(whole, played, axes=-1).sum(1)).max()


def test_the_least_size_that_holds_is_chosen():
    assert [fourier.fitting(needed) for needed in (1, 256, 257, 4000, 4097)] == [256, 256, 512, 4096, 5120]
    with pytest.raises(ValueError, match="too many for one transform"):
        fourier.fitting(10**10)


@given(length=st.integers(1, 20_000), window=st.integers(1, 100_000), forward=st.integers(1, 8))
def test_a_block_holds_more_than_a_response(length, window, forward):
    assert fourier.block_size(length, window, forward) > length
