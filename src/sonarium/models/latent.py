"""Stochastic state of a world model: categorical or Gaussian variables with the same interface.

Samples are functions of given noise, so that a sample can be reproduced in two loops: one differentiated by
autograd, and one with explicit gradients.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sonarium.models.blocks import wide

NARROWEST = 0.1
"""Minimum standard deviation of a Gaussian state (PlaNet, arXiv 1811.04551)."""


class Latent(ABC):
    """Distribution of z, parametrised by unconstrained network outputs."""

    size: int
    """Dimension of z."""
    parameters: int
    """Number of parameters of the distribution."""
    draws: int
    """Number of random numbers per sample."""

    @abstractmethod
    def noise(
        self, shape: tuple[int, ...], generator: torch.Generator, like: Tensor
    ) -> Float[Tensor, "*rows draw"]:
        """Random numbers for sampling."""

    @abstractmethod
    def pick(self, raw: Float[Tensor, "*rows raw"], noise: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Sample (the mode without noise) as z or as class indices, the tensor that `pull` needs, and the
        positions of the ones in z if it is one-hot."""

    @abstractmethod
    def pull(self, gradient: Tensor, raw: Tensor, kept: Tensor) -> Float[Tensor, "*rows raw"]:
        """Gradient with respect to the parameters, from that with respect to the sample."""

    @abstractmethod
    def draw(
        self, raw: Float[Tensor, "*rows raw"], noise: Tensor | None, temperature: float = 1.0
    ) -> Float[Tensor, "*rows size"]:
        """Differentiable sample from the distribution to the power of 1 / temperature; the mode without noise."""

    @abstractmethod
    def divergence(
        self, one: Float[Tensor, "*rows raw"], other: Float[Tensor, "*rows raw"]
    ) -> Float[Tensor, "*rows"]:
        """Kullback-Leibler divergence in nats, summed over the variables."""

    @abstractmethod
    def halves(
        self, one: Float[Tensor, "*rows raw"], other: Float[Tensor, "*rows raw"]
    ) -> tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"]]:
        """The divergence twice: with gradients into `one` only, and into `other` only."""

    @abstractmethod
    def log_probability(
        self, raw: Float[Tensor, "*rows raw"], z: Float[Tensor, "*rows size"]
    ) -> Float[Tensor, "*rows"]:
        """Log-probability of z in nats, summed over the variables."""

    @abstractmethod
    def entropy(self, raw: Float[Tensor, "*rows raw"]) -> Float[Tensor, "*rows"]:
        """Entropy in nats, summed over the variables."""


@dataclass(frozen=True)
class Categorical(Latent):
    """One-hot variables with straight-through gradients (DreamerV2, arXiv 2010.02193)."""

    variables: int
    classes: int
    mix: float = 0.0
    """Fraction of the uniform distribution that is mixed into every distribution."""

    @property
    def size(self) -> int:
        return self.variables * self.classes

    @property
    def parameters(self) -> int:
        return self.size

    @property
    def draws(self) -> int:
        return self.variables

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
        drawn = torch.rand(
            (*shape, self.variables), generator=generator, device=generator.device, dtype=like.dtype
        )
        return drawn.to(like.device)

    def split(self, raw: Tensor) -> Tensor:
        return wide(raw).unflatten(-1, (self.variables, self.classes))

    def mixed(self, shares: Tensor) -> Tensor:
        return shares if not self.mix else shares * (1 - self.mix) + self.mix / self.classes

    def chosen(self, shares: Tensor, noise: Tensor | None) -> Tensor:
        """Class of each variable by inverse transform sampling, with one random number per variable."""
        if noise is None:
            return shares.argmax(-1)
        below = self.mixed(shares).cumsum(-1) < noise[..., None]
        return below.sum(-1).clamp(max=self.classes - 1)

    def pick(self, raw: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        shares = self.split(raw).softmax(-1)
        index = self.chosen(shares, noise)
        return index, shares, index + torch.arange(0, self.size, self.classes, device=raw.device)

    def pull(self, gradient: Tensor, raw: Tensor, kept: Tensor) -> Tensor:
        split = gradient.view(kept.shape)
        inner = torch.ops.aten._softmax_backward_data(split, kept, -1, kept.dtype)
        return (inner if not self.mix else inner * (1 - self.mix)).view(gradient.shape)

    def draw(self, raw: Tensor, noise: Tensor | None, temperature: float = 1.0) -> Tensor:
        if temperature != 1:
            return replace(self, mix=0.0).draw(self.logs(raw).flatten(-2) / temperature, noise)
        shares = self.split(raw).softmax(-1)
        ones = functional.one_hot(self.chosen(shares.detach(), noise), self.classes).to(shares.dtype)
        mixed = self.mixed(shares)
        # This order of operations keeps z exactly one-hot.
        through = ones + (mixed - mixed.detach())
        return through.flatten(-2)

    def logs(self, raw: Tensor) -> Tensor:
        """Log-probabilities of the classes."""
        given = self.split(raw)
        return given.log_softmax(-1) if not self.mix else self.mixed(given.softmax(-1)).log()

    def divergence(self, one: Tensor, other: Tensor) -> Tensor:
        own = self.logs(one)
        return (own.exp() * (own - self.logs(other))).sum((-2, -1))

    def halves(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        own, its = self.logs(one), self.logs(other)
        still, shares = own.detach(), own.exp()
        first = (shares * (own - its.detach())).sum((-2, -1))
        return first, (shares.detach() * (still - its)).sum((-2, -1))

    def log_probability(self, raw: Tensor, z: Tensor) -> Tensor:
        return (self.split(z) * self.logs(raw)).sum((-2, -1))

    def entropy(self, raw: Tensor) -> Tensor:
        own = self.logs(raw)
        return -(own.exp() * own).sum((-2, -1))


@dataclass(frozen=True)
class Gaussian(Latent):
    """Independent Gaussian variables; the parameters are means, then standard deviations before softplus."""

    variables: int

    @property
    def size(self) -> int:
        return self.variables

    @property
    def parameters(self) -> int:
        return 2 * self.variables

    @property
    def draws(self) -> int:
        return self.variables

    def noise(self, shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
        drawn = torch.randn(
            (*shape, self.variables), generator=generator, device=generator.device, dtype=like.dtype
        )
        return drawn.to(like.device)

    def moments(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        mean, spread = wide(raw).chunk(2, -1)
        return mean, functional.softplus(spread) + NARROWEST

    def pick(self, raw: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        kept = torch.zeros_like(raw[..., : self.variables]) if noise is None else noise
        return self.draw(raw, noise), kept, None

    def pull(self, gradient: Tensor, raw: Tensor, kept: Tensor) -> Tensor:
        return torch.cat([gradient, gradient * kept * raw[..., self.variables :].sigmoid()], -1)

    def draw(self, raw: Tensor, noise: Tensor | None, temperature: float = 1.0) -> Tensor:
        mean, spread = self.moments(raw)
        return mean if noise is None else mean + temperature**0.5 * spread * noise

    def divergence(self, one: Tensor, other: Tensor) -> Tensor:
        (mean, spread), (centre, width) = self.moments(one), self.moments(other)
        ratio = spread / width
        each = (ratio.square() + ((mean - centre) / width).square() - 1) / 2 - ratio.log()
        return each.sum(-1)

    def halves(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return self.divergence(one, other.detach()), self.divergence(one.detach(), other)

    def log_probability(self, raw: Tensor, z: Tensor) -> Tensor:
        mean, spread = self.moments(raw)
        return -(((wide(z) - mean) / spread).square() / 2 + spread.log() + 0.5 * log(2 * pi)).sum(-1)

    def entropy(self, raw: Tensor) -> Tensor:
        return (self.moments(raw)[1].log() + 0.5 * (1 + log(2 * pi))).sum(-1)
