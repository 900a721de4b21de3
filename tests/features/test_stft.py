"""The short-time Fourier transform and its inverse against librosa, a direct sum, and MATLAB."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat

from sonarium.features.stft import Stft


def noise(clips: int, samples: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(clips, samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5


@settings(deadline=None, max_examples=40)
@given(
    fft=st.integers(16, 700),
    window_share=st.floats(0.3, 1),
    hop=st.integers(5, 300),
    samples=st.integers(700, 3000),
)
def test_equals_librosa(fft, window_share, hop, samples):
    window_length = max(2, int(fft * window_share))
    stft = Stft(fft, window_length, hop).double()
    wave = noise(2, samples)
    theirs = librosa.stft(wave.numpy(), n_fft=fft, hop_length=hop, win_length=window_length)
    ours = stft(wave).mT.numpy()
    assert ours.shape == theirs.shape and ours.shape[-1] == stft.frames(samples)
    # The window is stored in float32.
    assert np.abs(ours - theirs).max() <= 1e-6 * np.abs(theirs).max()


def test_one_frame_equals_the_sum_that_defines_it():
    stft, wave = Stft(16, 16, 4), noise(1, 64).float()
    n, k = np.arange(16), np.arange(9)[:, None]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / 16)
    expected = (np.exp(-2j * np.pi * k * n / 16) * hann * wave[0, 12:28].numpy()).sum(1)
    np.testing.assert_allclose(stft(wave)[0, 5].numpy(), expected, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(fft=st.integers(16, 400), overlap=st.sampled_from([2, 3, 4, 5, 8]), samples=st.integers(400, 3000))
def test_inverse_gives_the_sound_back(fft, overlap, samples):
    hop = fft // overlap
    stft, wave = Stft(fft, fft, hop).double(), noise(2, samples)
    back = stft.inverse(stft(wave), samples)
    # The end of a clip may be covered only by the edge of the last window.
    seen = (stft.frames(samples) - 1) * hop + fft // 2 - max(1, fft // 8)
    torch.testing.assert_close(back[:, :seen], wave[:, :seen], atol=1e-9, rtol=0)
    assert back.shape == wave.shape and back.isfinite().all()


@pytest.mark.parametrize(("fft", "window_length", "hop"), [(256, 256, 64), (512, 400, 100), (256, 200, 77)])
def test_inverse_of_a_spectrum_of_no_sound_equals_librosa(fft, window_length, hop):
    stft = Stft(fft, window_length, hop).double()
    real, imaginary = noise(2, 20 * (fft // 2 + 1), seed=1).reshape(2, 20, -1)
    spectrum = torch.complex(real, imaginary)[None]
    length = 19 * hop
    theirs = librosa.istft(
        spectrum[0].T.numpy(), n_fft=fft, hop_length=hop, win_length=window_length, length=length
    )
    np.testing.assert_allclose(stft.inverse(spectrum, length)[0].numpy(), theirs, atol=1e-6)


def test_equals_matlab(shared_data: Path):
    folder = shared_data / "reference" / "librosa_matlab"
    file, sound = folder / "core-stft-005.mat", folder / "test1_22050.wav"
    if not (file.is_file() and sound.is_file()):
        pytest.skip("needs the MATLAB transform and the recording that it was made from")
    reference = loadmat(file)
    fft, hop = int(reference["nfft"].item()), int(reference["hop_length"].item())
    wave = torch.from_numpy(soundfile.read(sound)[0].mean(1))
    stft = Stft(fft, fft, hop).double()
    stft.window.fill_(1)
    # MATLAB's frames start at multiples of the hop, where ours are centred; its exponent has the opposite sign.
    shifted = torch.nn.functional.pad(wave, (hop - fft // 2, 0))
    ours = stft(shifted[None])[0, 1:].mT.conj().resolve_conj().numpy()
    expected = reference["D"]
    np.testing.assert_allclose(ours[:, : expected.shape[1]], expected, atol=1e-12)
