"""Autoencoders of the catalogue and their presets.

`default` depends on the kind of signal, `syntone` has SynTone's network, input and loss weights, `mnist` the
784-400-200 network, and `snippets` the snippets and the number of codes of BirdsongGAN.
"""

from dataclasses import replace

from sonarium.features.pixels import PixelsConfig
from sonarium.features.spectrogram import SNIPPET_SECONDS, SNIPPETS, SpectrogramConfig
from sonarium.models.contract import ModelEntry, Recipe
from sonarium.models.penalties import (
    AnnealedConfig,
    BetaConfig,
    DipConfig,
    FactorConfig,
    PenaltyConfig,
    TotalCorrelationConfig,
)
from sonarium.models.vae import VAE as VariationalAutoencoder
from sonarium.models.vae import VAEConfig
from sonarium.models.vqvae import VQVAE, VQVAEConfig
from sonarium.worlds.contract import SignalKind

FRONT = SpectrogramConfig(fft=256, hop=128, mels=0, level_rows=16, floor_db=-40)
"""Level separate from spectral shape, and peaks broad enough for neighbouring tones to overlap, so that gradient
descent can find them."""
SYNTONE_BATCH = 64
"""SynTone sums the squared error over its batch of 64 but averages the penalty, so each weight is 1/64."""
SYNTONE_FRONT = SpectrogramConfig(compression="none", scaling="frame")
SNIPPET_NOISE = 0.5
"""Standard deviation of the likelihood of snippets, about three times that of their unscaled features."""
OF_SNIPPETS = Recipe(world={"seconds": SNIPPET_SECONDS})
MAIN = ("latent", "network", "likelihood", "noise", "learning_rate", "fft", "hop", "mels", "level_rows", "scaling")


def vae(
    summary: str, penalty: PenaltyConfig, main: tuple[str, ...], as_syntone: PenaltyConfig | None = None
) -> ModelEntry:
    """Catalogue entry of a VAE with this penalty; `as_syntone` is the penalty with SynTone's weights, if any."""

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

    def snippets(kind: SignalKind) -> VAEConfig:
        return VAEConfig(
            latent=32,
            network="convolutional",
            noise=SNIPPET_NOISE,
            learning_rate=1e-3,
            penalty=penalty,
            front=SNIPPETS,
        )

    presets = {"default": default, "mnist": mnist, "snippets": snippets}
    presets |= {"syntone": syntone} if as_syntone else {}
    recipes = {"snippets": OF_SNIPPETS}
    return ModelEntry(summary, VariationalAutoencoder, presets, recipes=recipes, main=(*main, *MAIN))


def vq_default(kind: SignalKind) -> VQVAEConfig:
    return VQVAEConfig(front=FRONT) if kind == "wave" else VQVAEConfig(network="dense", front=PixelsConfig())


def vq_snippets(kind: SignalKind) -> VQVAEConfig:
    return VQVAEConfig(slots=8, dimension=4, front=SNIPPETS)


VAE = vae("variational autoencoder", BetaConfig(beta=1), ("beta",), BetaConfig(beta=1 / SYNTONE_BATCH))
BETA_VAE = vae(
    "VAE with the KL divergence weighted by β", BetaConfig(beta=4), ("beta",), BetaConfig(beta=4 / SYNTONE_BATCH)
)
ANNEALED_VAE = vae(
    "VAE with the KL divergence held at a growing capacity",
    AnnealedConfig(),
    ("gamma", "capacity", "capacity_steps"),
)
FACTOR_VAE = vae(
    "VAE with the total correlation estimated by a discriminator",
    FactorConfig(),
    ("total_correlation",),
    FactorConfig(total_correlation=6 / SYNTONE_BATCH, kl_weight=1 / SYNTONE_BATCH),
)
TC_VAE = vae(
    "VAE with the total correlation estimated within the batch",
    TotalCorrelationConfig(),
    ("total_correlation",),
    TotalCorrelationConfig(1 / SYNTONE_BATCH, 4 / SYNTONE_BATCH, 1 / SYNTONE_BATCH),
)
DIP_VAE = vae(
    "VAE with the code covariance regularised towards the identity", DipConfig(), ("off_diagonal", "diagonal")
)
VQ_VAE = ModelEntry(
    "vector-quantised autoencoder: a few codebook entries per clip",
    VQVAE,
    {"default": vq_default, "snippets": vq_snippets},
    recipes={"snippets": OF_SNIPPETS},
    main=(
        "slots", "dimension", "entries", "decay", "commitment", "network", "learning_rate", "fft", "hop", "mels",
        "level_rows", "scaling",
    ),
)  # fmt: skip
