"""Mel scales and filter banks against Dan Ellis's MATLAB code and against librosa."""

from pathlib import Path

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat

from sonarium.features.mel import Scale, hertz_to_mel, hertz_to_octave, mel_corners, mel_filters, mel_to_hertz


@pytest.fixture
def matlab(shared_data: Path) -> Path:
    folder = shared_data / "reference" / "librosa_matlab"
    if not folder.is_dir():
        pytest.skip(f"needs the MATLAB reference outputs in {folder.name}/")
    return folder


def scale_of(reference: dict) -> Scale:
    return "htk" if reference["htk"].item() else "slaney"


def test_filter_banks_equal_matlab(matlab: Path):
    files = sorted([*matlab.glob("feature-melfb-*.mat"), *matlab.glob("feature-melfbnorm-*.mat")])
    assert len(files) >= 90
    for file in files:
        reference = loadmat(file)
        rate, fft, bands = (int(reference[key].item()) for key in ("sr", "nfft", "nfilts"))
        lowest, highest, scale = reference["fmin"].item(), reference["fmax"].item(), scale_of(reference)
        ours = mel_filters(rate, fft, bands, lowest, highest, scale)
        theirs = reference["wts"][:, : fft // 2]
        if not np.array_equal(reference.get("norm", [[1]]), [[1]]):  # these triangles have unit height
            corners = mel_corners(bands, lowest, highest, scale)
            ours = ours * ((corners[2:] - corners[:-2]) / 2)[:, None]
        np.testing.assert_allclose(ours[:, : fft // 2], theirs, atol=1e-12, rtol=0, err_msg=file.name)


def test_scales_equal_matlab(matlab: Path):
    ways = {"hz_to_mel": hertz_to_mel, "mel_to_hz": mel_to_hertz}
    for name, way in ways.items():
        for file in matlab.glob(f"feature-{name}-*.mat"):
            reference = loadmat(file)
            ours = way(reference["f"].astype(float), scale_of(reference))
            np.testing.assert_allclose(ours, reference["result"], rtol=1e-8, err_msg=file.name)
    for file in matlab.glob("feature-hz_to_octs-*.mat"):
        reference = loadmat(file)
        ours = hertz_to_octave(reference["f"].astype(float))
        np.testing.assert_allclose(ours, reference["result"], rtol=1e-8, err_msg=file.name)


@given(st.lists(st.floats(0, 48_000), min_size=1, max_size=20), st.sampled_from(["slaney", "htk"]))
def test_scales_equal_librosa_and_undo_each_other(hertz, scale):
    frequencies = np.array(hertz)
    mels = hertz_to_mel(frequencies, scale)
    np.testing.assert_allclose(mels, librosa.hz_to_mel(frequencies, htk=scale == "htk"), atol=1e-9)
    np.testing.assert_allclose(mel_to_hertz(mels, scale), frequencies, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(
    rate=st.sampled_from([8_000, 16_000, 22_050, 44_100]),
    fft=st.integers(256, 4096),
    bands=st.integers(1, 80),
    lowest=st.floats(0, 500),
    share=st.floats(0.5, 1),
    scale=st.sampled_from(["slaney", "htk"]),
)
@pytest.mark.filterwarnings("ignore:Empty filters detected")
def test_filter_banks_equal_librosa(rate, fft, bands, lowest, share, scale):
    highest = share * rate / 2
    theirs = librosa.filters.mel(
        sr=rate, n_fft=fft, n_mels=bands, fmin=lowest, fmax=highest, htk=scale == "htk", dtype=np.float64
    )
    ours = mel_filters(rate, fft, bands, lowest, highest, scale)
    np.testing.assert_allclose(ours, theirs, atol=1e-12 * max(theirs.max(), 1))


def test_each_triangle_has_unit_area():
    rate, fft = 16_000, 2**16
    weights = mel_filters(rate, fft, 40, 20.0, 8_000.0)
    np.testing.assert_allclose(weights.sum(1) * rate / fft, 1, rtol=1e-3)
