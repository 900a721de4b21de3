"""Mixture density networks: outputs as the parameters of a mixture of diagonal Gaussians (Bishop 1994; Graves
2013, arXiv 1308.0850)."""

from dataclasses import dataclass
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class GaussianMixture:
    weights: Float[Tensor, "*rows part"]
    """Log weights."""
    means: Float[Tensor, "*rows part number"]
    spreads: Float[Tensor, "*rows part number"]
    """Standard deviations."""

    @staticmethod
    def parameters(components: int, numbers: int) -> int:
        """Number of outputs that parametrise a mixture of Gaussians over `numbers` dimensions."""
        return components * (1 + 2 * numbers)

    @classmethod
    def of(cls, outputs: Float[Tensor, "*rows output"], components: int, narrowest: float) -> "GaussianMixture":
        """Mixture from network outputs; `narrowest` is added to standard deviations as their floor."""
        weights, rest = outputs.split([components, outputs.shape[-1] - components], -1)
        means, spreads = rest.unflatten(-1, (components, -1)).chunk(2, -1)
        return cls(weights.log_softmax(-1), means, functional.softplus(spreads) + narrowest)

    def log_density(self, values: Float[Tensor, "*rows number"]) -> Float[Tensor, "*rows"]:
        apart = (values[..., None, :] - self.means) / self.spreads
        each = -0.5 * (apart.square() + log(2 * pi)).sum(-1) - self.spreads.log().sum(-1)
        return torch.logsumexp(self.weights + each, -1)

    def draw(self, generator: torch.Generator, temperature: float = 1.0) -> Float[Tensor, "row number"]:
        """One draw per row, from components raised to the power of 1 / temperature (Ha and Eck 2017)."""
        likely = self.weights.exp() if temperature == 1 else (self.weights / temperature).softmax(-1)
        part = torch.multinomial(likely, 1, generator=generator)[:, 0]
        row = torch.arange(len(part), device=part.device)
        mean = self.means[row, part]
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return mean + temperature**0.5 * self.spreads[row, part] * noise
