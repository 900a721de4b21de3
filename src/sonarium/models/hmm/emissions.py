"""Emission distributions of hidden Markov models: Gaussians, Gaussian mixtures, symbols, and Poisson counts.

Each is a frozen dataclass of tensors with one distribution per state: log densities, sufficient statistics
(`count`), and the M-step from these (`maximise`), which maximises likelihood × prior. Statistics are sums over
frames whose first axis is the state, so that those of batches, ranks or merged states are added.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import log, pi
from typing import Annotated, Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.config import Range, check_ranges

EmissionKind = Literal["gaussian", "mixture", "categorical", "poisson"]
Covariance = Literal["spherical", "diagonal", "tied", "full"]
Counts = Mapping[str, Float[Tensor, "row *rest"]]
NOTHING = 1e-12
"""Expected frames below which a state keeps its distribution."""


@dataclass(frozen=True)
class EmissionPrior:
    """Priors of emissions, as pseudo-observations."""

    covariance_prior: Annotated[float, Range(0)] = 1e-2
    """Scale of the inverse-gamma (inverse-Wishart) prior of covariances: added to each sum of squares."""
    covariance_weight: Annotated[float, Range(0)] = 0.0
    """Strength of the covariance prior in pseudo-observations (frames)."""
    mean_prior: Annotated[float, Range()] = 0.0
    """Prior mean of the Gaussian means."""
    mean_weight: Annotated[float, Range(0)] = 0.0
    """Strength of the prior of the means in pseudo-observations (frames)."""
    floor: Annotated[float, Range(0)] = 1e-3
    """Variance floor (smallest eigenvalue of a covariance)."""
    emission_prior: Annotated[float, Range(1)] = 1.0
    """Dirichlet concentration of symbol probabilities and mixture weights; 1 is flat."""
    rate_prior: Annotated[float, Range(0)] = 0.0
    """Pseudo-counts of the gamma prior of Poisson rates."""
    rate_weight: Annotated[float, Range(0)] = 0.0
    """Strength of the gamma prior of Poisson rates in pseudo-observations (frames)."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Emission(ABC):
    prior: EmissionPrior

    @property
    @abstractmethod
    def states(self) -> int: ...

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """Columns of a frame."""

    @abstractmethod
    def free(self) -> int:
        """Number of free parameters."""

    def features(self, frames: Float[Tensor, "frame feature"]) -> Float[Tensor, "frame some"]:
        """Input of `log_density` and `count`, computed from the frames once for all iterations."""
        return frames

    @abstractmethod
    def log_density(self, features: Float[Tensor, "frame some"]) -> Float[Tensor, "frame state"]: ...

    @abstractmethod
    def count(self, features: Float[Tensor, "frame some"], posterior: Float[Tensor, "frame state"]) -> Counts:
        """Sufficient statistics of frames with these posterior probabilities of the states."""

    @abstractmethod
    def maximise(self, counts: Counts) -> "Emission":
        """The M-step."""

    @abstractmethod
    def penalty(self) -> Float[Tensor, ""]:
        """Log prior, up to a constant: the term that `maximise` adds to the expected log-likelihood."""

    @abstractmethod
    def draw(self, states: Int[Tensor, " frame"], generator: torch.Generator) -> Float[Tensor, "frame feature"]:
        """One frame drawn from each of these states."""

    @abstractmethod
    def expected(self) -> Float[Tensor, "state feature"]:
        """The mean frame of each state."""

    @abstractmethod
    def split(self, state: int, into: int) -> "Emission":
        """Copy in which `into` has a displaced copy of the distribution of `state`, in place of its former one."""

    @abstractmethod
    def take(self, states: Int[Tensor, " taken"]) -> "Emission":
        """The emission of these states alone."""

    def entropy(self) -> Float[Tensor, " state"]:
        """Entropy of the frames of each state in bits; differential where frames are continuous."""
        generator = torch.Generator().manual_seed(0)
        states = torch.arange(self.states).repeat_interleave(1000)
        drawn = self.features(self.draw(states, generator))
        own = self.log_density(drawn).gather(1, states[:, None])
        return -own.view(-1, 1000).mean(1) / log(2)

    def divergence(self, other: "Emission") -> Float[Tensor, "state other"] | None:
        """Kullback-Leibler divergence in nats of each state from each of the other's; None without a closed
        form."""
        return None

    def tensors(self) -> dict[str, Tensor]:
        """Parameters by name."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in STATIC}


STATIC = ("prior", "covariance")


def ratio(
    sums: Float[Tensor, "state *rest"], weight: Float[Tensor, " state"], before: Float[Tensor, "state *rest"]
) -> Float[Tensor, "state *rest"]:
    """sums / weight; the value `before` where the weight is 0, up to `NOTHING`."""
    shape = (-1, *[1] * (sums.ndim - 1))
    return torch.where((weight > NOTHING).view(shape), sums / weight.clamp(min=NOTHING).view(shape), before)


@dataclass(frozen=True)
class Gaussian(Emission):
    covariance: Covariance
    mean: Float[Tensor, "state feature"]
    spread: Float[Tensor, "*shape"]
    """The covariances: (state), (state, feature), (feature, feature) or (state, feature, feature)."""
    centre: Float[Tensor, " feature"]
    """Offset subtracted from frames, because squares of large numbers would lose precision."""

    @property
    def states(self) -> int:
        return len(self.mean)

    @property
    def dimensions(self) -> int:
        return self.mean.shape[1]

    @property
    def wide(self) -> bool:
        """Whether covariances are matrices."""
        return self.covariance in ("tied", "full")

    def free(self) -> int:
        states, size = self.mean.shape
        symmetric = size * (size + 1) // 2
        each = {"spherical": states, "diagonal": states * size, "tied": symmetric, "full": states * symmetric}
        return states * size + each[self.covariance]

    def features(self, frames: Float[Tensor, "frame feature"]) -> Float[Tensor, "frame some"]:
        centred = frames - self.centre
        return centred if self.wide else torch.cat([centred, centred.square()], 1)

    @property
    def variance(self) -> Float[Tensor, "state feature"]:
        return self.spread[:, None].expand_as(self.mean) if self.covariance == "spherical" else self.spread

    def log_density(
        self, features: Float[Tensor, "frame some"], out: Float[Tensor, "frame state"] | None = None
    ) -> Float[Tensor, "frame state"]:
        """Log densities, written to `out` unless covariances are matrices: large tensors are slow to allocate."""
        mean, size = self.mean - self.centre, self.dimensions
        if not self.wide:
            precision = 1 / self.variance
            constant = -0.5 * (size * log(2 * pi) + (self.variance.log() + mean.square() * precision).sum(1))
            return torch.addmm(constant, features, torch.cat([mean * precision, -0.5 * precision], 1).T, out=out)
        cholesky = torch.linalg.cholesky(self.spread)
        constant = size * log(2 * pi) + 2 * cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        whiten = torch.linalg.inv(cholesky)
        if self.covariance == "tied":
            frames, means = features @ whiten.T, mean @ whiten.T
            squares = frames.square().sum(1, keepdim=True) - 2 * frames @ means.T + means.square().sum(1)
            return -0.5 * (squares + constant)
        found = features.new_empty(len(features), self.states)
        for state in range(self.states):
            found[:, state] = ((features - mean[state]) @ whiten[state].T).square().sum(1)
        return found.add_(constant).mul_(-0.5)

    def count(self, features: Float[Tensor, "frame some"], posterior: Float[Tensor, "frame state"]) -> Counts:
        weight = posterior.sum(0)
        if not self.wide:
            both = posterior.T @ features
            return {"weight": weight, "sum": both[:, : self.dimensions], "square": both[:, self.dimensions :]}
        if self.covariance == "tied":
            square = (features * posterior.sum(1, keepdim=True)).T @ features
            return {"weight": weight, "sum": posterior.T @ features, "square": square[None]}
        square = torch.stack([(features * own[:, None]).T @ features for own in posterior.T])
        return {"weight": weight, "sum": posterior.T @ features, "square": square}

    def maximise(self, counts: Counts) -> "Gaussian":
        prior, weight = self.prior, counts["weight"]
        towards = prior.mean_prior - self.centre
        mean = ratio(
            counts["sum"] + prior.mean_weight * towards, weight + prior.mean_weight, self.mean - self.centre
        )
        drawn = prior.mean_weight * (mean - towards)
        if self.wide:
            # Scatter about the new mean, plus the contribution of the prior of the mean.
            cross = rearrange(mean, "k d -> k d 1") * rearrange(counts["sum"], "k d -> k 1 d")
            about = rearrange(weight, "k -> k 1 1") * outer(mean) - cross - cross.mT
            about = about + rearrange(drawn, "k d -> k d 1") * rearrange(mean - towards, "k d -> k 1 d")
            if self.covariance == "tied":
                about, weight = about.sum(0, keepdim=True), weight.sum(0, keepdim=True)
            scale = prior.covariance_prior * torch.eye(self.dimensions).to(mean)
            before = self.spread.view(len(weight), *scale.shape)
            spread = ratio(counts["square"] + about + scale, weight + prior.covariance_weight, before)
            values, vectors = torch.linalg.eigh((spread + spread.mT) / 2)
            spread = (vectors * values.clamp(min=prior.floor)[:, None]) @ vectors.mT
            spread = spread[0] if self.covariance == "tied" else spread
        else:
            about = counts["square"] - 2 * mean * counts["sum"] + mean.square() * weight[:, None]
            about = about.clamp(min=0) + drawn * (mean - towards) + prior.covariance_prior
            spread = ratio(about, weight + prior.covariance_weight, self.variance)
            spread = spread.mean(1) if self.covariance == "spherical" else spread
            spread = spread.clamp(min=prior.floor)
        return replace(self, mean=mean + self.centre, spread=spread)

    def penalty(self) -> Float[Tensor, ""]:
        prior = self.prior
        apart = self.mean - prior.mean_prior
        if not self.wide:
            scale = prior.covariance_prior + prior.mean_weight * apart.square()
            return -0.5 * (prior.covariance_weight * self.variance.log() + scale / self.variance).sum()
        inverse, logarithm = torch.linalg.inv(self.spread), torch.logdet(self.spread).sum()
        trace = inverse.diagonal(dim1=-2, dim2=-1).sum()
        drawn = (apart[:, None] @ inverse @ apart[:, :, None]).sum()
        return -0.5 * (
            prior.covariance_weight * logarithm + prior.covariance_prior * trace + prior.mean_weight * drawn
        )

    @property
    def matrices(self) -> Float[Tensor, "state feature feature"]:
        """Covariances as matrices."""
        if self.covariance == "full":
            return self.spread
        if self.covariance == "tied":
            return repeat(self.spread, "a b -> state a b", state=self.states)
        return torch.diag_embed(self.variance)

    def draw(self, states: Int[Tensor, " frame"], generator: torch.Generator) -> Float[Tensor, "frame feature"]:
        noise = torch.randn(
            len(states), self.dimensions, generator=generator, dtype=self.mean.dtype, device=self.mean.device
        )
        if not self.wide:
            return self.mean[states] + noise * self.variance[states].sqrt()
        return self.mean[states] + (torch.linalg.cholesky(self.matrices)[states] @ noise[:, :, None])[:, :, 0]

    def expected(self) -> Float[Tensor, "state feature"]:
        return self.mean

    def split(self, state: int, into: int) -> "Gaussian":
        mean, spread = self.mean.clone(), self.spread.clone()
        mean[into] = mean[state] + 0.5 * self.matrices[state].diagonal().sqrt()
        if self.covariance != "tied":
            spread[into] = spread[state]
        return replace(self, mean=mean, spread=spread)

    def take(self, states: Int[Tensor, " taken"]) -> "Gaussian":
        spread = self.spread if self.covariance == "tied" else self.spread[states]
        return replace(self, mean=self.mean[states], spread=spread)

    def entropy(self) -> Float[Tensor, " state"]:
        return 0.5 * (self.dimensions * log(2 * pi * torch.e) + torch.logdet(self.matrices)) / log(2)

    def divergence(self, other: Emission) -> Float[Tensor, "state other"] | None:
        if not isinstance(other, Gaussian):
            return None
        mine, inverse = self.matrices, torch.linalg.inv(other.matrices)
        apart = self.mean[:, None] - other.mean
        trace = torch.einsum("iab,jba->ij", mine, inverse)
        distance = torch.einsum("ija,jab,ijb->ij", apart, inverse, apart)
        logs = torch.logdet(other.matrices) - torch.logdet(mine)[:, None]
        return 0.5 * (trace + distance - self.dimensions + logs)


def outer(rows: Float[Tensor, "row column"]) -> Float[Tensor, "row column column"]:
    return rearrange(rows, "k d -> k d 1") * rearrange(rows, "k d -> k 1 d")


@dataclass(frozen=True)
class Mixture(Emission):
    """One Gaussian mixture per state; the components of state k are states k·components … of `gaussian`."""

    weights: Float[Tensor, "state component"]
    gaussian: Gaussian

    @property
    def states(self) -> int:
        return len(self.weights)

    @property
    def dimensions(self) -> int:
        return self.gaussian.dimensions

    def free(self) -> int:
        return self.weights.numel() - self.states + self.gaussian.free()

    def features(self, frames: Float[Tensor, "frame feature"]) -> Float[Tensor, "frame some"]:
        return self.gaussian.features(frames)

    def joint(self, features: Float[Tensor, "frame some"]) -> Float[Tensor, "frame state component"]:
        each = self.gaussian.log_density(features)
        return rearrange(each, "n (k m) -> n k m", k=self.states) + self.weights.log()

    def log_density(self, features: Float[Tensor, "frame some"]) -> Float[Tensor, "frame state"]:
        return torch.logsumexp(self.joint(features), 2)

    def count(self, features: Float[Tensor, "frame some"], posterior: Float[Tensor, "frame state"]) -> Counts:
        return self.count_components(features, posterior[:, :, None] * torch.softmax(self.joint(features), 2))

    def count_components(
        self, features: Float[Tensor, "frame some"], posterior: Float[Tensor, "frame state component"]
    ) -> Counts:
        counts = self.gaussian.count(features, rearrange(posterior, "n k m -> n (k m)"))
        return {
            name: value if self.shared(name) else value.view(self.states, -1, *value.shape[1:])
            for name, value in counts.items()
        }

    def maximise(self, counts: Counts) -> "Mixture":
        weight = counts["weight"] + self.prior.emission_prior - 1
        flat = {name: value if self.shared(name) else value.flatten(0, 1) for name, value in counts.items()}
        return replace(
            self,
            weights=ratio(weight, weight.sum(1), self.weights),
            gaussian=self.gaussian.maximise(flat),
        )

    def shared(self, name: str) -> bool:
        return name == "square" and self.gaussian.covariance == "tied"

    def penalty(self) -> Float[Tensor, ""]:
        return dirichlet(self.weights, self.prior.emission_prior) + self.gaussian.penalty()

    def draw(self, states: Int[Tensor, " frame"], generator: torch.Generator) -> Float[Tensor, "frame feature"]:
        component = torch.multinomial(self.weights[states], 1, generator=generator)[:, 0]
        return self.gaussian.draw(states * self.weights.shape[1] + component, generator)

    def expected(self) -> Float[Tensor, "state feature"]:
        means = rearrange(self.gaussian.mean, "(k m) d -> k m d", k=self.states)
        return (self.weights[:, :, None] * means).sum(1)

    def split(self, state: int, into: int) -> "Mixture":
        weights, gaussian, each = self.weights.clone(), self.gaussian, self.weights.shape[1]
        weights[into] = weights[state]
        for one in range(each):
            gaussian = gaussian.split(state * each + one, into * each + one)
        return replace(self, weights=weights, gaussian=gaussian)

    def take(self, states: Int[Tensor, " taken"]) -> "Mixture":
        each = torch.arange(self.weights.shape[1]).to(states)
        components = (states[:, None] * len(each) + each).flatten()
        return replace(self, weights=self.weights[states], gaussian=self.gaussian.take(components))

    def tensors(self) -> dict[str, Tensor]:
        return {"weights": self.weights} | self.gaussian.tensors()


def dirichlet(rows: Float[Tensor, "row column"], concentration: float) -> Float[Tensor, ""]:
    """Log density of a symmetric Dirichlet prior, up to a constant."""
    return torch.special.xlogy(torch.full_like(rows, concentration - 1), rows).sum()


@dataclass(frozen=True)
class Categorical(Emission):
    """Symbols 0, 1, …, one per frame."""

    probabilities: Float[Tensor, "state symbol"]

    @property
    def states(self) -> int:
        return len(self.probabilities)

    @property
    def dimensions(self) -> int:
        return 1

    def free(self) -> int:
        return self.probabilities.numel() - self.states

    def log_density(self, features: Float[Tensor, "frame some"]) -> Float[Tensor, "frame state"]:
        return self.probabilities.log().T.index_select(0, features[:, 0].long())

    def count(self, features: Float[Tensor, "frame some"], posterior: Float[Tensor, "frame state"]) -> Counts:
        counts = torch.zeros_like(self.probabilities.T)
        return {"symbol": counts.index_add_(0, features[:, 0].long(), posterior).T}

    def maximise(self, counts: Counts) -> "Categorical":
        counted = counts["symbol"] + self.prior.emission_prior - 1
        return replace(self, probabilities=ratio(counted, counted.sum(1), self.probabilities))

    def penalty(self) -> Float[Tensor, ""]:
        return dirichlet(self.probabilities, self.prior.emission_prior)

    def draw(self, states: Int[Tensor, " frame"], generator: torch.Generator) -> Float[Tensor, "frame feature"]:
        return torch.multinomial(self.probabilities[states], 1, generator=generator).to(self.probabilities)

    def expected(self) -> Float[Tensor, "state feature"]:
        """The most probable symbol, since symbols have no mean."""
        return self.probabilities.argmax(1, keepdim=True).to(self.probabilities)

    def split(self, state: int, into: int) -> "Categorical":
        probabilities = self.probabilities.clone()
        tilt = torch.linspace(0.5, 1.5, probabilities.shape[1]).to(probabilities)
        probabilities[into] = probabilities[state] * tilt / (probabilities[state] * tilt).sum()
        return replace(self, probabilities=probabilities)

    def take(self, states: Int[Tensor, " taken"]) -> "Categorical":
        return replace(self, probabilities=self.probabilities[states])

    def entropy(self) -> Float[Tensor, " state"]:
        return torch.special.entr(self.probabilities).sum(1) / log(2)

    def divergence(self, other: Emission) -> Float[Tensor, "state other"] | None:
        if not isinstance(other, Categorical):
            return None
        mine = self.probabilities
        entropy = torch.special.entr(mine).sum(1, keepdim=True)
        # xlogy, with which a symbol of probability 0 costs nothing.
        return -torch.special.xlogy(mine[:, None], other.probabilities).sum(2) - entropy


@dataclass(frozen=True)
class Poisson(Emission):
    """Independent Poisson counts, with one rate per state and column."""

    rate: Float[Tensor, "state feature"]

    @property
    def states(self) -> int:
        return len(self.rate)

    @property
    def dimensions(self) -> int:
        return self.rate.shape[1]

    def free(self) -> int:
        return self.rate.numel()

    def features(self, frames: Float[Tensor, "frame feature"]) -> Float[Tensor, "frame some"]:
        return torch.cat([frames, torch.lgamma(frames + 1).sum(1, keepdim=True)], 1)

    def log_density(self, features: Float[Tensor, "frame some"]) -> Float[Tensor, "frame state"]:
        counts, factorial = features[:, :-1], features[:, -1:]
        # A rate of 0 makes only counts of 0 possible.
        return (
            counts @ self.rate.clamp(min=torch.finfo(self.rate.dtype).tiny).log().T - self.rate.sum(1) - factorial
        )

    def count(self, features: Float[Tensor, "frame some"], posterior: Float[Tensor, "frame state"]) -> Counts:
        return {"weight": posterior.sum(0), "sum": posterior.T @ features[:, :-1]}

    def maximise(self, counts: Counts) -> "Poisson":
        weight = counts["weight"] + self.prior.rate_weight
        return replace(self, rate=ratio(counts["sum"] + self.prior.rate_prior, weight, self.rate))

    def penalty(self) -> Float[Tensor, ""]:
        prior = self.prior
        added = torch.full_like(self.rate, prior.rate_prior)
        return (torch.special.xlogy(added, self.rate) - prior.rate_weight * self.rate).sum()

    def draw(self, states: Int[Tensor, " frame"], generator: torch.Generator) -> Float[Tensor, "frame feature"]:
        return torch.poisson(self.rate[states], generator=generator)

    def expected(self) -> Float[Tensor, "state feature"]:
        return self.rate

    def split(self, state: int, into: int) -> "Poisson":
        rate = self.rate.clone()
        rate[into] = rate[state] * 1.2
        return replace(self, rate=rate)

    def take(self, states: Int[Tensor, " taken"]) -> "Poisson":
        return replace(self, rate=self.rate[states])

    def divergence(self, other: Emission) -> Float[Tensor, "state other"] | None:
        if not isinstance(other, Poisson):
            return None
        mine, theirs = self.rate[:, None], other.rate
        # Separate logarithms, because the ratio of two rates of 0 is undefined.
        logs = torch.special.xlogy(mine, mine) - torch.special.xlogy(mine, theirs)
        return (logs - mine + theirs).sum(2)
