"""Mel bands as the first layer of an encoder, against NumPy's FFT and the filters of features/mel.py."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sonarium.features.mel import mel_filters
from sonarium.models.cpc.encoder import QUIET, SPREAD, Bands, Encoder, EncoderConfig

SMALL = EncoderConfig((5, 4), kernels=(4, 3), strides=(2, 1), paddings=(1, 1), mels=6)


def test_they_are_the_transform_and_the_filters_written_out():
    bands, random = Bands(6, 8000).double(), np.random.default_rng(0)
    wave = random.standard_normal(1000)
    made = bands(torch.from_numpy(wave)[None, :, None], None)[0].numpy()
    padded = np.pad(wave, 60)
    hann = np.hanning(201)[:-1]
    filters = mel_filters(8000, 256, 6, 0, 4000)
    for frame in range(len(made)):
        power = np.abs(np.fft.rfft(padded[80 * frame : 80 * frame + 200] * hann, 256)) ** 2 / (hann**2).sum()
        loudness = filters @ power / filters.sum(1)
        # The buffers were computed in float32.
        np.testing.assert_allclose(made[frame], np.log(loudness + QUIET) / SPREAD + 1, atol=1e-4)
    assert len(made) == bands.frames(1000) == 12


def test_white_noise_is_equally_loud_in_all_bands_and_silence_is_finite():
    bands = Bands(8, 16000)
    noise = torch.randn(1, 160_000, 1, generator=torch.Generator().manual_seed(0))
    power = ((bands(noise, None) - 1) * SPREAD).exp() - QUIET
    torch.testing.assert_close(power.mean((0, 1)), torch.ones(8), atol=0.1, rtol=0)
    assert bands(0 * noise, None).unique().tolist() == pytest.approx([np.log(QUIET) / SPREAD + 1], abs=1e-5)


@given(samples=st.integers(0, 2000), rate=st.sampled_from((8000, 16000, 22050)))
def test_frames_are_counted_as_they_come(samples, rate):
    encoder = Encoder(SMALL, rate)
    expected = encoder.frames(samples)
    assert encoder.frames(torch.tensor([samples])).tolist() == [expected]
    if expected:
        assert encoder(torch.zeros(1, samples)).shape == (1, expected, 4)


def test_a_clip_among_longer_ones_is_encoded_as_alone():
    torch.manual_seed(0)
    encoder = Encoder(SMALL, 8000).double().eval()
    lengths = torch.tensor([2000, 970, 640, 1500])
    wave = torch.randn(4, 2000, dtype=torch.double)
    wave *= torch.arange(2000) < lengths[:, None]
    together = encoder(wave, lengths)
    for clip, length in enumerate(lengths.tolist()):
        frames = encoder.frames(length)
        torch.testing.assert_close(together[clip, :frames], encoder(wave[clip : clip + 1, :length])[0])
        assert not together[clip, frames:].any()


def test_the_first_frame_is_about_its_middle():
    encoder = Encoder(SMALL, 8000)
    # Windows of 200 samples, every 80 samples from sample −60 on; the first frame is centred between the first
    # two, with as many windows on either side.
    assert encoder.hop == 160
    assert encoder.centre == -60 + 199 / 2 + 80 / 2
    with pytest.raises(ValueError, match="mels=400 at 8000 Hz leave bands without a bin"):
        Bands(400, 8000)
    with pytest.raises(ValueError, match="mels=-1: give a whole number from 0 to 1024"):
        EncoderConfig(mels=-1)
