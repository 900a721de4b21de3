"""The table of all models: one line each, and the command line, the scorecard and the tests know it."""

from dataclasses import replace

from sonarium.features.pixels import PixelsConfig
from sonarium.features.spectrogram import SpectrogramConfig
from sonarium.models.contract import Entry
from sonarium.models.cpc.cpc import CPC
from sonarium.models.cpc.presets import PRESETS
from sonarium.models.penalties import (
    AnnealedConfig,
    BetaConfig,
    DipConfig,
    FactorConfig,
    PenaltyConfig,
    TotalCorrelationConfig,
)
from sonarium.models.vae import VAE, VAEConfig
from sonarium.models.vqvae import VQVAE, VQVAEConfig
from sonarium.worlds.contract import SignalKind

FRONT = SpectrogramConfig(fft=256, hop=128, mels=0, level_rows=16, floor_db=-40)
"""Level and colour apart, and peaks so broad that neighbouring tones overlap: a gradient can then find them."""
SYNTONE_BATCH = 64
"""SynTone sums the squared error over its batch of 64 but averages the penalty, so each weight is 1/64."""
SYNTONE_FRONT = SpectrogramConfig(compression="none", scaling="frame")


def autoencoder(summary: str, penalty: PenaltyConfig, as_syntone: PenaltyConfig | None = None) -> Entry:
    """A variational autoencoder with this penalty, and with the one SynTone gave it, if it did."""

    def default(kind: SignalKind) -> VAEConfig:
        if kind == "wave":
            return VAEConfig(penalty=penalty, front=FRONT)
        return VAEConfig(
            network="dense", likelihood="bernoulli", learning_rate=1e-3, front=PixelsConfig(), penalty=penalty
        )

    def mnist(kind: SignalKind) -> VAEConfig:
        return replace(default(kind), latent=200)

    def syntone(kind: SignalKind) -> VAEConfig:
        # A squared error of weight 1 is a Gaussian likelihood of variance 1/2.
        return VAEConfig(
            latent=8,
            network="syntone",
            noise=0.5**0.5,
            learning_rate=1e-3,
            front=SYNTONE_FRONT,
            penalty=as_syntone or penalty,
        )

    presets = {"default": default, "mnist": mnist}
    return Entry(summary, VAE, presets | ({"syntone": syntone} if as_syntone else {}))


def vq_default(kind: SignalKind) -> VQVAEConfig:
    return VQVAEConfig(front=FRONT) if kind == "wave" else VQVAEConfig(network="dense", front=PixelsConfig())


MODELS: dict[str, Entry] = {
    "vae": autoencoder("variational autoencoder", BetaConfig(beta=1), BetaConfig(beta=1 / SYNTONE_BATCH)),
    "beta-vae": autoencoder(
        "its KL divergence weighted by β", BetaConfig(beta=4), BetaConfig(beta=4 / SYNTONE_BATCH)
    ),
    "annealed-vae": autoencoder("its KL divergence held at a capacity that grows", AnnealedConfig()),
    "factor-vae": autoencoder(
        "its total correlation judged by a discriminator",
        FactorConfig(),
        FactorConfig(total_correlation=6 / SYNTONE_BATCH, kl_weight=1 / SYNTONE_BATCH),
    ),
    "tc-vae": autoencoder(
        "its total correlation estimated within the batch",
        TotalCorrelationConfig(),
        TotalCorrelationConfig(1 / SYNTONE_BATCH, 4 / SYNTONE_BATCH, 1 / SYNTONE_BATCH),
    ),
    "dip-vae": autoencoder("the covariance of its codes drawn to the identity", DipConfig()),
    "vq-vae": Entry("a few codebook entries a clip", VQVAE, {"default": vq_default}),
    "cpc": Entry("predictive coding: the sound that comes next is told from other sound", CPC, PRESETS, ("wave",)),
}
