"""A model of two networks: the adversarial autoencoder (Makhzani et al. 2015, arXiv 1511.05644).

An autoencoder reconstructs the features of a clip from its code; a critic tells codes from samples of the prior
N(0, 1), and the autoencoder learns to deceive it, which replaces the KL divergence of a VAE.

    autoencoder: minimise ‖x − D(E(x))‖² / bins + weight · −log C(E(x))
    critic:      minimise −log C(z) − log(1 − C(E(x))),  z ~ N(0, 1)
"""

from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sonarium.features.contract import FrontEndConfig, PictureFrontEnd
from sonarium.features.spectrogram import SpectrogramConfig
from sonarium.models.blocks import mean_squared_error, own_frames, perceptron, picture_front, wide
from sonarium.models.coders import Network, coders
from sonarium.models.contract import (
    Decoder,
    Encoder,
    Engine,
    FeatureLearner,
    Learner,
    ModelEntry,
    Sampler,
    Source,
    Stateful,
)
from sonarium.models.optim import AdamConfig
from sonarium.worlds.contract import Batch, Signal, SignalKind


@dataclass(frozen=True)
class AdversarialConfig:
    latent: int = 8
    """Latent dimension."""
    network: Network = "dense"
    """Encoder and decoder: dense, convolutional, syntone or locating."""
    units: int = 64
    """Units in each of the critic's two hidden layers."""
    adversarial_weight: float = 0.05
    """Weight of the adversarial loss beside the squared error."""
    autoencoder: AdamConfig = AdamConfig(learning_rate=1e-3)
    critic: AdamConfig = AdamConfig(learning_rate=1e-3, beta1=0.5)
    front: FrontEndConfig = field(
        default_factory=lambda: SpectrogramConfig(fft=256, hop=128, mels=0, floor_db=-40)
    )

    def __post_init__(self) -> None:
        for name, least in (("latent", 1), ("units", 1), ("adversarial_weight", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}={getattr(self, name)}: give at least {least}")


class AdversarialAutoencoder(Learner, FeatureLearner, Encoder, Decoder, Sampler):
    front: PictureFrontEnd

    def __init__(self, config: AdversarialConfig, signal: Signal):
        super().__init__()
        self.config = config
        self.front = picture_front(config.front, signal)
        self.encoder, self.decoder = coders(config.network, self.front, signal, config.latent, config.latent)
        self.critic = nn.Sequential(*perceptron([config.latent, config.units, config.units, 1], 0.2))
        self.optimiser = config.autoencoder.build([*self.encoder.parameters(), *self.decoder.parameters()])
        self.critic_optimiser = config.critic.build(self.critic.parameters())

    def prepare(self, source: Source, engine: Engine) -> None:
        self.front.fit_batches(source.preview(engine.progress))

    def parts(self) -> dict[str, Stateful]:
        return {"autoencoder": self.optimiser, "critic": self.critic_optimiser}

    def features(self, batch: Batch) -> Float[Tensor, "clip channel row frame"]:
        return self.front(batch.signal) if batch.features is None else batch.features

    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        features = self.features(data)
        own = own_frames(self.front, data.lengths, features.shape[-1])
        with engine.autocast():
            codes = wide(self.encoder(features))
            error = mean_squared_error(wide(self.decoder(codes)), features, own, engine)
            deceived = functional.softplus(-wide(self.critic(codes))).mean()
        loss = error + self.config.adversarial_weight * deceived
        engine.descend(loss, self.optimiser)
        told = self.update_critic(codes.detach(), engine)
        terms = {"loss/total": loss, "loss/error": error, "loss/adversarial": deceived, "loss/critic": told}
        return {name: value.detach() for name, value in terms.items()}

    def update_critic(self, codes: Float[Tensor, "clip code"], engine: Engine) -> Float[Tensor, ""]:
        """Take one step of the critic; return its loss."""
        # Noise is drawn for the global batch, so that ranks have different samples and train like one process.
        noise = codes.new_empty(engine.ranks * len(codes), codes.shape[1]).normal_(generator=engine.generator)
        with engine.autocast():
            real, false = wide(self.critic(engine.share(noise))), wide(self.critic(codes))
        loss = functional.softplus(-real).mean() + functional.softplus(false).mean()
        engine.descend(loss, self.critic_optimiser)
        return loss

    @torch.no_grad()
    def encode(self, signal: Float[Tensor, "clip *shape"]) -> Float[Tensor, "clip 1 code"]:
        return rearrange(wide(self.encoder(self.front(signal))), "clip code -> clip 1 code")

    @torch.no_grad()
    def decode(self, codes: Float[Tensor, "clip 1 code"]) -> Float[Tensor, "clip channel row frame"]:
        return wide(self.decoder(rearrange(codes, "clip 1 code -> clip code")))

    @torch.no_grad()
    def sample(self, clips: int, generator: torch.Generator) -> Float[Tensor, "clip 1 code"]:
        like = next(self.parameters())
        return like.new_empty(clips, 1, self.config.latent).normal_(generator=generator)


def default(kind: SignalKind) -> AdversarialConfig:
    return AdversarialConfig()


ADVERSARIAL_AUTOENCODER = ModelEntry(
    "autoencoder whose codes an adversarial critic shapes to the prior",
    AdversarialAutoencoder,
    {"default": default},
    kinds=("wave",),
    main=("latent", "network", "adversarial_weight", "learning_rate"),
)
