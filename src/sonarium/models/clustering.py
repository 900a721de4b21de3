"""Source separation by clustering the time-frequency bins of a binaural spectrum.

Spatial clustering is not trained: bins whose interaural differences fit the same direction are one source (DUET:
Yilmaz and Rickard, 2004). Deep clustering (Hershey et al. 2016, arXiv 1508.04306) learns an embedding of each bin
so that bins of one source are near each other, with the affinity of all pairs as its loss, and finds the clusters
of a clip by k-means. Anchors (Luo et al. 2018, arXiv 1707.03634) replace k-means: they are points of the embedding
trained with it; for each clip, the subset that best separates its sources initialises the clusters, and the loss
is that of the separated sources. All methods process whole clips and use the same mask for both ears.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Annotated

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.models.contract import Engine, Learner, Stateful
from sonarium.models.masking import (
    Descent,
    DescentConfig,
    MaskSeparator,
    Spectra,
    Spectrum,
    both_ears,
    cues,
    fit,
    power,
    separated_from,
    steering,
)
from sonarium.models.scanned import recur
from sonarium.worlds.contract import Batch, Signal

AUDIBLE = 1e-4
"""Minimum power of a bin relative to the clip's loudest, −40 dB: fainter bins are ignored in clustering."""
ROUNDS = 20
"""Iterations of k-means."""
DIRECTIONS = 65
"""Number of candidate directions of spatial clustering, evenly spaced in interaural time difference."""
SHARPEST = 6.0
"""Inverse temperature of the softmax over sources; the logits are cosines of phase errors."""


def audible(spectra: Spectra) -> Float[Tensor, "clip frame bin"]:
    """Summed power of both ears; 0 in bins fainter than `AUDIBLE`."""
    both = power(spectra).sum(1)
    return both.where(both > AUDIBLE * both.amax((1, 2), keepdim=True), 0)


def k_means(
    points: Float[Tensor, "clip point dim"], weights: Float[Tensor, "clip point"], clusters: int
) -> Float[Tensor, "clip cluster dim"]:
    """Cluster centres of weighted k-means. Deterministic initialisation: the heaviest point, then repeatedly the
    point with the largest weighted squared distance from the centres so far."""
    rows = torch.arange(points.shape[0], device=points.device)
    centres = points[rows, weights.argmax(1)][:, None]
    while centres.shape[1] < clusters:
        far = torch.cdist(points, centres).amin(2).square() * weights
        centres = torch.cat([centres, points[rows, far.argmax(1)][:, None]], 1)
    for _ in range(ROUNDS):
        own = functional.one_hot(torch.cdist(points, centres).argmin(2), clusters) * weights[..., None]
        total = rearrange(own.sum(1), "clip cluster -> clip cluster 1")
        means = einsum(own, points, "clip point cluster, clip point dim -> clip cluster dim") / (total + 1e-12)
        centres = torch.where(total > 0, means, centres)
    return centres


class SpatialClustering(MaskSeparator):
    """Estimates source directions from interaural phase differences, and assigns bins to them."""

    def __init__(self, sources: int, rate: float, fft: int = 512, hop: int = 128):
        self.sources, self.spectrum = sources, Spectrum(fft, hop)
        self.steering = steering(self.spectrum.bins, rate, DIRECTIONS)

    def shares(self, spectra: Spectra) -> Float[Tensor, "clip frame bin source 2"]:
        weights = audible(spectra).sqrt()
        phase = cues(spectra, power(spectra).sum(1).mean((1, 2))[:, None].expand(-1, spectra.shape[2]))[1][..., :2]
        near = einsum(phase, self.steering, "clip frame bin part, bin direction part -> clip frame bin direction")
        chosen = self.directions(near, weights)
        rows = rearrange(torch.arange(near.shape[0]), "clip -> clip 1")
        fits = rearrange(near, "clip frame bin direction -> clip direction frame bin")[rows, chosen]
        return both_ears(rearrange(SHARPEST * fits, "clip source frame bin -> clip frame bin source").softmax(-1))

    def directions(
        self, near: Float[Tensor, "clip frame bin direction"], weights: Float[Tensor, "clip frame bin"]
    ) -> Tensor:
        """k-means on the circle: each bin is assigned to the source whose direction fits it best, and each source
        to the direction that best fits its bins. Greedy initialisation: the direction that fits all bins best,
        then repeatedly the one that improves the fit most."""
        points = rearrange(near, "clip frame bin direction -> clip (frame bin) direction")
        heavy = rearrange(weights, "clip frame bin -> clip (frame bin) 1")
        chosen = (points * heavy).sum(1).argmax(1, keepdim=True)
        while chosen.shape[1] < self.sources:
            best = self.fits(points, chosen).amax(2, keepdim=True)
            gained = ((points - best).clamp(min=0) * heavy).sum(1)
            chosen = torch.cat([chosen, gained.argmax(1, keepdim=True)], 1)
        for _ in range(ROUNDS):
            own = functional.one_hot(self.fits(points, chosen).argmax(2), self.sources) * heavy
            score = einsum(own, points, "clip point source, clip point direction -> clip source direction")
            chosen = score.argmax(2)
        return chosen

    @staticmethod
    def fits(points: Tensor, chosen: Tensor) -> Tensor:
        return torch.gather(points, 2, chosen[:, None].expand(-1, points.shape[1], -1))


class Embedding(nn.Module):
    """Unit-norm embedding of each bin, computed from the whole clip."""

    def __init__(self, bins: int, units: int, layers: int, size: int):
        super().__init__()
        self.size = size
        self.lstm = nn.LSTM(4 * bins, units, layers, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * units, size * bins)

    def forward(self, spectra: Spectra) -> Float[Tensor, "clip frame bin dim"]:
        loudness = power(spectra).sum(1).mean((1, 2))[:, None].expand(-1, spectra.shape[2])
        level, ears = cues(spectra, loudness)
        inputs = torch.cat([level, rearrange(ears, "clip frame bin cue -> clip frame (cue bin)")], -1)
        states = recur(self.lstm, inputs) if torch.compiler.is_exporting() else self.lstm(inputs)[0]
        points = rearrange(self.head(states), "clip frame (bin dim) -> clip frame bin dim", dim=self.size)
        return functional.normalize(points, dim=-1)


@dataclass(frozen=True)
class DeepClusteringConfig:
    fft: Annotated[int, Range(4, 2**14)] = 256
    """FFT size and window length in samples, a multiple of the hop length."""
    hop: Annotated[int, Range(1, 2**13)] = 128
    """Hop length in samples."""
    units: Annotated[int, Range(1, 4096)] = 64
    """Hidden units of the LSTM per direction."""
    layers: Annotated[int, Range(1, 16)] = 1
    """Number of LSTM layers."""
    embedding: Annotated[int, Range(2, 1024)] = 10
    """Embedding dimension of a time-frequency bin."""
    descent: DescentConfig = DescentConfig()
    """Adam on a schedule."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, signal: Signal) -> Learner:
        return DeepClustering(self, signal)


class DeepClustering(Learner, MaskSeparator):
    def __init__(self, config: DeepClusteringConfig, signal: Signal):
        super().__init__()
        self.config, self.sources = config, separated_from(signal)
        self.spectrum = Spectrum(config.fft, config.hop)
        self.embedding = Embedding(self.spectrum.bins, config.units, config.layers, config.embedding)
        self.descent = Descent(config.descent, self.embedding.parameters())

    def parts(self) -> dict[str, Stateful]:
        return {"separator": self.descent.optimiser}

    def restart(self) -> None:
        self.descent.done.zero_()

    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        assert data.sources is not None, "a world whose signal has sources gives them"
        spectra = self.spectrum.around(data.signal)
        alone = torch.stack([power(self.spectrum.around(one)).sum(1) for one in data.sources.unbind(2)], -1)
        loudest = functional.one_hot(alone.argmax(-1), self.sources).to(alone)
        with engine.autocast():
            points = self.embedding(spectra)
        loss = affinity(points, loudest, (audible(spectra) > 0).to(alone))
        self.descent.step(loss, engine)
        return {"loss/affinity": loss.detach()}

    def shares(self, spectra: Spectra) -> Float[Tensor, "clip frame bin source 2"]:
        """Binary masks: each bin belongs to the cluster with the nearest centre."""
        points = rearrange(self.embedding(spectra), "clip frame bin dim -> clip (frame bin) dim")
        weights = (audible(spectra) > 0).float().flatten(1)
        own = torch.cdist(points, k_means(points, weights, self.sources)).argmin(2)
        return both_ears(functional.one_hot(own, self.sources).float().unflatten(1, spectra.shape[2:]))


def affinity(
    points: Float[Tensor, "clip frame bin dim"],
    classes: Float[Tensor, "clip frame bin source"],
    weights: Float[Tensor, "clip frame bin"],
) -> Float[Tensor, ""]:
    """Mean squared error between embedding and source affinities, ‖VVᵀ − YYᵀ‖², over all pairs of bins with weight
    1, without the pairwise matrices."""
    one = rearrange(points * weights[..., None], "clip frame bin dim -> clip (frame bin) dim")
    other = rearrange(classes * weights[..., None], "clip frame bin source -> clip (frame bin) source")
    within, across, between = (left.mT @ right for left, right in ((one, one), (one, other), (other, other)))
    squares = [matrix.square().sum((1, 2)) for matrix in (within, across, between)]
    pairs = weights.sum((1, 2)).square().clamp(min=1)
    return ((squares[0] - 2 * squares[1] + squares[2]) / pairs).mean()


@dataclass(frozen=True)
class AnchorsConfig:
    fft: Annotated[int, Range(4, 2**14)] = 256
    """FFT size and window length in samples, a multiple of the hop length."""
    hop: Annotated[int, Range(1, 2**13)] = 128
    """Hop length in samples."""
    units: Annotated[int, Range(1, 4096)] = 64
    """Hidden units of the LSTM per direction."""
    layers: Annotated[int, Range(1, 16)] = 1
    """Number of LSTM layers."""
    embedding: Annotated[int, Range(2, 1024)] = 10
    """Embedding dimension of a time-frequency bin."""
    anchors: Annotated[int, Range(2, 64)] = 4
    """Number of anchors, of which each clip takes as many as it has sources."""
    sharpness: Annotated[float, Range(0, above=True)] = 5.0
    """Inverse temperature of the softmax that makes masks of the similarities of points and centres."""
    descent: DescentConfig = DescentConfig()
    """Adam on a schedule."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def build(self, signal: Signal) -> Learner:
        return Anchors(self, signal)


class Anchors(Learner, MaskSeparator):
    chosen: Tensor

    def __init__(self, config: AnchorsConfig, signal: Signal):
        super().__init__()
        self.config, self.sources = config, separated_from(signal)
        if config.anchors < self.sources:
            raise ValueError(f"anchors={config.anchors} for {self.sources} sources: give at least as many")
        self.spectrum = Spectrum(config.fft, config.hop)
        self.embedding = Embedding(self.spectrum.bins, config.units, config.layers, config.embedding)
        self.anchors = nn.Parameter(torch.randn(config.anchors, config.embedding))
        every = torch.tensor(list(combinations(range(config.anchors), self.sources)))
        self.register_buffer("chosen", every, persistent=False)
        self.descent = Descent(config.descent, [*self.embedding.parameters(), self.anchors])

    def parts(self) -> dict[str, Stateful]:
        return {"separator": self.descent.optimiser}

    def restart(self) -> None:
        self.descent.done.zero_()

    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        with engine.autocast():
            estimates = self.estimates(data.signal)
        loss = -fit(estimates, data)
        self.descent.step(loss, engine)
        return {"loss/negative_snr": loss.detach()}

    def shares(self, spectra: Spectra) -> Float[Tensor, "clip frame bin source 2"]:
        points, weights = self.embedding(spectra), (audible(spectra) > 0).float()
        centres = self.centres(points.flatten(1, 2), weights.flatten(1))
        scores = einsum(points, centres, "clip frame bin dim, clip source dim -> clip frame bin source")
        return both_ears((self.config.sharpness * scores).softmax(-1))

    def centres(
        self, points: Float[Tensor, "clip point dim"], weights: Float[Tensor, "clip point"]
    ) -> Float[Tensor, "clip source dim"]:
        """One iteration of soft k-means from every subset of anchors; each clip takes the centres whose largest
        pairwise similarity is smallest."""
        scores = self.config.sharpness * points @ functional.normalize(self.anchors, dim=-1).T
        own = scores[:, :, self.chosen].softmax(-1) * rearrange(weights, "clip point -> clip point 1 1")
        total = rearrange(own.sum(1), "clip choice source -> clip choice source 1")
        means = einsum(own, points, "clip point choice source, clip point dim -> clip choice source dim")
        centres = functional.normalize(means / (total + 1e-6), dim=-1)
        alike = einsum(centres, centres, "clip choice one dim, clip choice other dim -> clip choice one other")
        apart = ~torch.eye(self.sources, dtype=torch.bool, device=alike.device)
        worst = alike.where(apart, -2).amax((2, 3))
        return centres[torch.arange(points.shape[0], device=points.device), worst.argmin(1)]
