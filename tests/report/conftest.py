"""Small worlds and untrained learners of the kinds that reports show."""

from pathlib import Path

import pytest
import torch

from sonarium.features.pixels import PixelsConfig
from sonarium.features.spectrogram import Spectrogram, SpectrogramConfig
from sonarium.models.vae import VAE, VAEConfig
from sonarium.models.vqvae import VQVAE, VQVAEConfig
from sonarium.report.media import Medium, illustrate
from sonarium.worlds.digits import Digits, DigitsConfig
from sonarium.worlds.tones.world import Tones, TonesConfig

FRONT = SpectrogramConfig(fft=256, hop=64, mels=20)


@pytest.fixture(scope="session")
def tones() -> Tones:
    config = TonesConfig(rate=4000, seconds=0.5, frequencies=7, amplitudes=5, lowest=200, highest=1500)
    return Tones(config, seed=0)


@pytest.fixture(scope="session")
def digits() -> Digits:
    return Digits(DigitsConfig(), seed=0)


def new_sound_vae(tones: Tones) -> VAE:
    torch.manual_seed(3)
    learner = VAE(VAEConfig(latent=4, network="dense", front=FRONT), tones.signal)
    assert isinstance(learner.front, Spectrogram)
    learner.front.fit([tones.whole(torch.arange(len(tones))).signal])
    last = [layer for layer in learner.encoder.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.weight[:4] *= 10  # untrained means hardly vary, and every code would be dead
    return learner


@pytest.fixture
def sound_vae(tones: Tones) -> VAE:
    """A new learner for each test, which may change it."""
    return new_sound_vae(tones)


@pytest.fixture(scope="session")
def shown(tones: Tones, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Medium], Path]:
    """Media of an untrained VAE, and their folder; read-only."""
    folder = tmp_path_factory.mktemp("media")
    return illustrate(new_sound_vae(tones), tones, torch.arange(len(tones)), folder, 0), folder


@pytest.fixture
def picture_vae(digits: Digits) -> VAE:
    torch.manual_seed(4)
    config = VAEConfig(latent=3, network="dense", likelihood="bernoulli", front=PixelsConfig())
    return VAE(config, digits.signal)


@pytest.fixture
def sound_vqvae(tones: Tones) -> VQVAE:
    torch.manual_seed(5)
    config = VQVAEConfig(slots=3, dimension=2, entries=6, network="dense", front=FRONT)
    learner = VQVAE(config, tones.signal)
    every = tones.whole(torch.arange(len(tones)))
    assert isinstance(learner.front, Spectrogram)
    learner.front.fit([every.signal])
    vectors = learner.vectors(learner.features(every)).detach()
    learner.codebooks.start(vectors, torch.Generator().manual_seed(0))
    return learner
