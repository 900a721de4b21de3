"""The variational autoencoder (Kingma and Welling 2014, arXiv 1312.6114) with an exchangeable penalty.

    minimise  E_q(z|x) [ −log p(x|z) ] + penalty(q(z|x), z)

Every variant is this network and one penalty of `penalties.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.features.contract import FrontEndConfig, PictureFrontEnd
from sonarium.features.spectrogram import SpectrogramConfig
from sonarium.models.blocks import mean_squared_error, own_frames, picture_front, wide
from sonarium.models.coders import Network, coders
from sonarium.models.contract import (
    Decoder,
    Density,
    Describer,
    Description,
    Encoder,
    FeatureLearner,
    Learner,
    Sampler,
    Traversal,
)
from sonarium.models.describing import describe_numbers
from sonarium.models.optim import Adam
from sonarium.models.penalties import BetaConfig, PenaltyConfig, Posterior, log_normal
from sonarium.training.contract import Engine, Source, Stateful
from sonarium.worlds.contract import Batch, Signal

MOST_CODES = 2**14
"""Maximum latent dimension: penalties compare all pairs of codes, whose covariance here takes a gigabyte."""


@dataclass(frozen=True)
class VAEConfig:
    latent: Annotated[int, Range(1, MOST_CODES)] = 10
    """Latent dimension."""
    network: Network = "locating"
    """Encoder and decoder: locating (attends to positions along the frequency axis), convolutional, syntone
    (VAEDeep), or dense (784-400-200 on MNIST)."""
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    """Likelihood of a bin given its reconstruction."""
    noise: Annotated[float, Range(0, above=True)] = 3.3
    """Standard deviation of the Gaussian likelihood in units of the scaled features; above 1, because neighbouring
    bins of a spectrogram are not independent observations."""
    learning_rate: Annotated[float, Range(0, above=True, example=0.001)] = 2e-3
    """Learning rate of Adam."""
    penalty: PenaltyConfig = field(default_factory=BetaConfig)
    front: FrontEndConfig = field(default_factory=SpectrogramConfig)

    def __post_init__(self) -> None:
        check_ranges(self)


class VAE(Learner, FeatureLearner, Encoder, Decoder, Sampler, Density, Describer):
    front: PictureFrontEnd
    updates: Tensor
    # The prior has standard deviation 1; means that vary by .1 carry about .005 nats.
    dead_below: float = 0.1

    def __init__(self, config: VAEConfig, signal: Signal):
        super().__init__()
        self.config, self.signal = config, signal
        self.front = picture_front(config.front, signal)
        self.encoder, self.decoder = coders(config.network, self.front, signal, config.latent, 2 * config.latent)
        self.penalty = config.penalty.build(config.latent)
        self.minimum_batch_size = self.penalty.minimum_batch_size
        self.validated_by = "loss/total" if self.penalty.steady else "loss/distortion"
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        own = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimiser = Adam(own, config.learning_rate)

    def prepare(self, source: Source, engine: Engine) -> None:
        self.front.fit_batches(source.preview(engine.progress))

    def restart(self) -> None:
        self.updates.zero_()

    def parts(self) -> dict[str, Stateful]:
        return {"autoencoder": self.optimiser, **self.penalty.parts()}

    def features(self, batch: Batch) -> Float[Tensor, "clip channel row frame"]:
        return self.front(batch.signal) if batch.features is None else batch.features

    def posterior(self, features: Float[Tensor, "clip channel row frame"]) -> Posterior:
        mean, log_variance = wide(self.encoder(features)).chunk(2, dim=1)
        return Posterior(mean, log_variance)

    def log_likelihood(
        self,
        raw: Float[Tensor, "clip channel row frame"],
        features: Float[Tensor, "clip channel row frame"],
        own: Bool[Tensor, "clip 1 1 frame"] | None,
    ) -> Float[Tensor, " clip"]:
        """log p(x|z) in nats over the frames within each clip's length, from the raw output of the decoder."""
        if self.config.likelihood == "bernoulli":
            bins = -functional.binary_cross_entropy_with_logits(raw, features, reduction="none")
        else:
            log_variance = torch.full((), 2 * math.log(self.config.noise), device=raw.device)
            bins = log_normal(features, raw, log_variance)
        counted = bins if own is None else bins.where(own, 0)
        return reduce(counted, "clip channel row frame -> clip", "sum")

    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        features = self.features(data)
        own = own_frames(self.front, data.lengths, features.shape[-1])
        with engine.autocast():
            posterior = self.posterior(features)
            sample = posterior.draw(engine)
            raw = wide(self.decoder(sample))
            price, terms = self.penalty(posterior, sample, self.updates, engine)
        distortion = -self.log_likelihood(raw, features, own).mean()
        loss = distortion + price
        engine.descend(loss, self.optimiser)
        terms |= self.penalty.learn(sample.detach(), engine)
        self.updates += 1
        error = mean_squared_error(self.observed(raw), features, own, engine)
        terms |= {"loss/total": loss, "loss/distortion": distortion, "loss/error": error}
        return {name: value.detach() for name, value in terms.items()}

    def observed(self, raw: Float[Tensor, "clip channel row frame"]) -> Float[Tensor, "clip channel row frame"]:
        """Features from the raw output of the decoder."""
        return raw.sigmoid() if self.config.likelihood == "bernoulli" else raw

    @torch.no_grad()
    def encode(self, signal: Float[Tensor, "clip *shape"]) -> Float[Tensor, "clip 1 code"]:
        """Posterior means, one frame per clip."""
        return rearrange(self.posterior(self.front(signal)).mean, "clip code -> clip 1 code")

    @torch.no_grad()
    def decode(self, codes: Float[Tensor, "clip 1 code"]) -> Float[Tensor, "clip channel row frame"]:
        return self.observed(wide(self.decoder(rearrange(codes, "clip 1 code -> clip code"))))

    @torch.no_grad()
    def sample(self, clips: int, generator: torch.Generator) -> Float[Tensor, "clip 1 code"]:
        like = next(self.parameters())
        return like.new_empty(clips, 1, self.config.latent).normal_(generator=generator)

    @torch.no_grad()
    def log_weights(self, batch: Batch, draws: int, generator: torch.Generator) -> Float[Tensor, "draw clip"]:
        features = self.features(batch)
        own = own_frames(self.front, batch.lengths, features.shape[-1])
        posterior, weights = self.posterior(features), []
        for _ in range(draws):
            sample = posterior.moved(torch.empty_like(posterior.mean).normal_(generator=generator))
            prior = log_normal(sample, torch.zeros_like(sample), torch.zeros_like(sample))
            density = log_normal(sample, posterior.mean, posterior.log_variance)
            likelihood = self.log_likelihood(wide(self.decoder(sample)), features, own)
            weights.append(likelihood + (prior - density).sum(1))
        return torch.stack(weights)

    @torch.no_grad()
    def describe(self, batches: Sequence[Batch]) -> tuple[Description, int, tuple[Traversal, ...]]:
        """Description of codes, ordered by their KL divergence from the prior, with traversals in standard
        deviations of the aggregate posterior."""
        found = [self.posterior(self.features(batch)) for batch in batches]
        return describe_numbers(
            torch.cat([rearrange(one.mean, "clip code -> clip 1 code") for one in found]),
            self.dead_below,
            torch.cat([one.log_variance.exp() for one in found]),
            torch.cat([one.divergence() for one in found]),
        )
