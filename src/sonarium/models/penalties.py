"""Penalties on the posterior, which distinguish the variants of the variational autoencoder.

beta      Higgins et al. 2017: β KL (β = 1 is the plain VAE of Kingma and Welling)
annealed  Burgess et al. 2018, arXiv 1804.03599: γ |KL − C|, with a capacity C that grows
factor    Kim and Mnih 2018, arXiv 1802.05983: KL + γ TC, the TC estimated by a discriminator
tc        Chen et al. 2018, arXiv 1802.04942: α MI + β TC + γ dimension-wise KL, by mss or mws
dip       Kumar et al. 2018, arXiv 1711.00848: KL + λ ‖Cov − I‖², of means (I) or of samples (II)

Penalties are those of the global batch: what is not a mean over clips is computed from the gathered posterior.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.models.blocks import perceptron, wide
from sonarium.models.optim import Adam
from sonarium.training.contract import Engine, Stateful

Terms = dict[str, Float[Tensor, ""]]


@dataclass(frozen=True)
class Posterior:
    """q(z|x): a Gaussian with diagonal covariance."""

    mean: Float[Tensor, "clip code"]
    log_variance: Float[Tensor, "clip code"]

    def draw(self, engine: Engine) -> Float[Tensor, "clip code"]:
        """One sample per clip; the noise is drawn for the global batch."""
        noise = self.mean.new_empty(engine.ranks * len(self.mean), self.mean.shape[1])
        return self.moved(engine.share(noise.normal_(generator=engine.generator)))

    def moved(self, noise: Float[Tensor, "clip code"]) -> Float[Tensor, "clip code"]:
        """Reparametrised sample from standard normal noise."""
        return self.mean + noise * torch.exp(0.5 * self.log_variance)

    def gathered(self, engine: Engine) -> "Posterior":
        """Posterior of the clips of all ranks."""
        return Posterior(engine.gather(self.mean), engine.gather(self.log_variance))

    def divergence(self) -> Float[Tensor, "clip code"]:
        """KL(q(z_j|x) ‖ N(0, 1)) in nats."""
        return 0.5 * (self.mean**2 + self.log_variance.exp() - 1 - self.log_variance)


def log_normal(
    value: Float[Tensor, "*#shape"], mean: Float[Tensor, "*#shape"], log_variance: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*#shape"]:
    return -0.5 * (math.log(2 * math.pi) + log_variance + (value - mean) ** 2 * torch.exp(-log_variance))


def log_stratified_weights(batch: int, clips: int, device: torch.device) -> Float[Tensor, "batch batch"]:
    """Log weights of minibatch stratified sampling: row i weights each posterior for the sample of clip i.

    The clip itself has 1/N, one other (N − M)/(N M), the rest 1/M, with M = batch − 1 and N clips in the dataset.
    """
    others = batch - 1
    weights = torch.full((batch, batch), 1 / others, device=device)
    weights.fill_diagonal_(1 / clips)
    row = torch.arange(batch, device=device)
    weights[row, (row + 1) % batch] = (clips - others) / (clips * others)
    return weights.log()


def decomposition(
    posterior: Posterior, sample: Float[Tensor, "clip code"], clips: int, estimator: Literal["mss", "mws"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """Mutual information, total correlation and dimension-wise KL, which sum to an estimate of the mean KL."""
    batch = len(sample)
    if not 2 <= batch <= clips:
        raise ValueError(
            f"got a batch of {batch} clip(s) out of {clips} for the total correlation: use a batch size of 2 or "
            "more, at most the size of the dataset"
        )
    densities = log_normal(
        rearrange(sample, "i code -> i 1 code"),
        rearrange(posterior.mean, "j code -> 1 j code"),
        rearrange(posterior.log_variance, "j code -> 1 j code"),
    )
    if estimator == "mss":
        weights = log_stratified_weights(batch, clips, sample.device)
    else:
        weights = torch.full((batch, batch), -math.log(batch * clips), device=sample.device)
    log_joint = torch.logsumexp(weights + densities.sum(2), dim=1)
    log_marginals = torch.logsumexp(rearrange(weights, "i j -> i j 1") + densities, dim=1).sum(1)
    log_conditional = torch.diagonal(densities.sum(2))
    log_prior = log_normal(sample, torch.zeros_like(sample), torch.zeros_like(sample)).sum(1)
    return (
        (log_conditional - log_joint).mean(),
        (log_joint - log_marginals).mean(),
        (log_marginals - log_prior).mean(),
    )


class Penalty(nn.Module, ABC):
    """Penalty on codes, given their posterior and the same sample that is decoded."""

    minimum_batch_size: int = 1
    steady: bool = True
    """Whether penalties at different steps of training are comparable."""

    @abstractmethod
    def forward(
        self, posterior: Posterior, sample: Float[Tensor, "clip code"], step: Int[Tensor, ""], engine: Engine
    ) -> tuple[Float[Tensor, ""], Terms]:
        """Mean penalty per clip in nats, and its terms to log."""

    def learn(self, sample: Float[Tensor, "clip code"], engine: Engine) -> Terms:
        """Train the network of the penalty, if it has one, for a step on a sample without gradient."""
        return {}

    def parts(self) -> dict[str, Stateful]:
        """State of the penalty that a checkpoint keeps besides its weights."""
        return {}


@dataclass(frozen=True)
class BetaConfig:
    beta: Annotated[float, Range(0)] = 4.0
    """Weight β of the KL divergence; 1 is the plain VAE."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, latent: int) -> "Beta":
        return Beta(self)


class Beta(Penalty):
    def __init__(self, config: BetaConfig):
        super().__init__()
        self.config = config

    def forward(self, posterior, sample, step, engine):
        divergence = posterior.divergence().sum(1).mean()
        return self.config.beta * divergence, {"penalty/kl": divergence}


@dataclass(frozen=True)
class AnnealedConfig:
    gamma: Annotated[float, Range(0)] = 30.0
    """Weight γ of the distance between the KL divergence and the capacity."""
    capacity: Annotated[float, Range(0)] = 25.0
    """Final capacity C in nats."""
    capacity_steps: Annotated[int, Range(1)] = 2000
    """Steps over which the capacity grows linearly from 0."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, latent: int) -> "Annealed":
        return Annealed(self)


class Annealed(Penalty):
    steady = False

    def __init__(self, config: AnnealedConfig):
        super().__init__()
        self.config = config

    def forward(self, posterior, sample, step, engine):
        # |KL − C| of the mean KL over all clips is not the mean of |KL − C| over ranks.
        divergence = engine.mean(posterior.divergence().sum(1).mean())
        capacity = self.config.capacity * torch.clamp(step / self.config.capacity_steps, max=1.0)
        price = self.config.gamma * (divergence - capacity).abs()
        return price, {"penalty/kl": divergence, "penalty/capacity": capacity}


@dataclass(frozen=True)
class TotalCorrelationConfig:
    mutual_information: Annotated[float, Range(0)] = 1.0
    """Weight α of the index-code mutual information."""
    total_correlation: Annotated[float, Range(0)] = 6.0
    """Weight β of the total correlation of the codes."""
    dimension_kl: Annotated[float, Range(0)] = 1.0
    """Weight γ of the dimension-wise KL divergence."""
    estimator: Literal["mss", "mws"] = "mss"
    """Estimator: minibatch stratified sampling (mss) or minibatch weighted sampling (mws)."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, latent: int) -> "TotalCorrelation":
        return TotalCorrelation(self)


class TotalCorrelation(Penalty):
    minimum_batch_size = 2

    def __init__(self, config: TotalCorrelationConfig):
        super().__init__()
        self.config = config

    def forward(self, posterior, sample, step, engine):
        everyone, samples = posterior.gathered(engine), engine.gather(sample)
        information, correlation, dimension = decomposition(
            everyone, samples, engine.dataset_size, self.config.estimator
        )
        price = (
            self.config.mutual_information * information
            + self.config.total_correlation * correlation
            + self.config.dimension_kl * dimension
        )
        terms = {"penalty/mi": information, "penalty/tc": correlation, "penalty/dimension_kl": dimension}
        return price, {"penalty/kl": posterior.divergence().sum(1).mean(), **terms}


@dataclass(frozen=True)
class DipConfig:
    kind: Literal["I", "II"] = "II"
    """DIP-VAE-I (covariance of the posterior means) or DIP-VAE-II (of the aggregated posterior)."""
    off_diagonal: Annotated[float, Range(0)] = 10.0
    """Weight λ_od of the squared off-diagonal covariances."""
    diagonal: Annotated[float, Range(0)] = 10.0
    """Weight λ_d of the squared distance of the variances from 1; the paper takes 10 λ_od for DIP-VAE-I."""
    kl_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the KL divergence."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, latent: int) -> "Dip":
        return Dip(self)


class Dip(Penalty):
    def __init__(self, config: DipConfig):
        super().__init__()
        self.config = config

    def forward(self, posterior, sample, step, engine):
        divergence = posterior.divergence().sum(1).mean()
        everyone = posterior.gathered(engine)
        centred = everyone.mean - reduce(everyone.mean, "clip code -> 1 code", "mean")
        covariance = centred.T @ centred / len(centred)
        if self.config.kind == "II":
            covariance = covariance + torch.diag(everyone.log_variance.exp().mean(0))
        variance = torch.diagonal(covariance)
        off_diagonal = covariance.pow(2).sum() - variance.pow(2).sum()
        diagonal = (variance - 1).pow(2).sum()
        price = (
            self.config.kl_weight * divergence
            + self.config.off_diagonal * off_diagonal
            + self.config.diagonal * diagonal
        )
        terms = {"penalty/off_diagonal": off_diagonal, "penalty/diagonal": diagonal}
        return price, {"penalty/kl": divergence, **terms}


@dataclass(frozen=True)
class FactorConfig:
    total_correlation: Annotated[float, Range(0)] = 10.0
    """Weight γ of the total correlation, as the discriminator estimates it."""
    kl_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the KL divergence."""
    units: Annotated[int, Range(1, 65536)] = 1000
    """Width of the discriminator's five hidden layers."""
    discriminator_rate: Annotated[float, Range(0)] = 5e-5
    """Learning rate of the discriminator."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, latent: int) -> "Factor":
        return Factor(self, latent)


class Factor(Penalty):
    """Total correlation from a discriminator between samples of q(z) and of the product of its marginals."""

    minimum_batch_size = 2
    steady = False

    def __init__(self, config: FactorConfig, latent: int):
        super().__init__()
        self.config = config
        self.discriminator = nn.Sequential(*perceptron([latent, *[config.units] * 5, 2], 0.2))
        self.optimiser = Adam(self.discriminator.parameters(), config.discriminator_rate, betas=(0.5, 0.9))

    def forward(self, posterior, sample, step, engine):
        divergence = posterior.divergence().sum(1).mean()
        # The discriminator is evaluated here and trained in `learn`, so its own weights need no gradient now.
        self.discriminator.requires_grad_(False)
        joint, product = wide(self.discriminator(sample)).unbind(1)
        self.discriminator.requires_grad_(True)
        correlation = (joint - product).mean()
        price = self.config.kl_weight * divergence + self.config.total_correlation * correlation
        return price, {"penalty/kl": divergence, "penalty/tc": correlation}

    def learn(self, sample, engine):
        samples = engine.gather(sample)
        assert len(samples) >= self.minimum_batch_size, len(samples)
        halves = samples.chunk(2)
        order = torch.rand(halves[1].shape, generator=engine.generator, device=sample.device).argsort(0)
        shuffled = halves[1].gather(0, order)
        truth = torch.zeros(len(samples), dtype=torch.long, device=sample.device)
        truth[len(halves[0]) :] = 1
        given, truth = engine.share(torch.cat([halves[0], shuffled])), engine.share(truth)
        with engine.autocast():
            logits = wide(self.discriminator(given))
        loss = functional.cross_entropy(logits, truth)
        engine.descend(loss, self.optimiser)
        right = (logits.argmax(1) == truth).float().mean()
        return {"discriminator/loss": loss.detach(), "discriminator/accuracy": right}

    def parts(self):
        return {"discriminator": self.optimiser}


PenaltyConfig = BetaConfig | AnnealedConfig | TotalCorrelationConfig | DipConfig | FactorConfig
