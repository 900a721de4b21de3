"""A model of the codes of another run: k-means by Lloyd's algorithm (1982), seeded by k-means++ (Arthur and
Vassilvitskii 2007).

An update counts the frames of a batch that are nearest to each centroid (the E-step); the end of a pass moves each
centroid to the mean of its frames (the M-step). Codes are the soft activations of Coates, Lee and Ng 2011: by how
much a centroid is nearer than the average. HuBERT's units are made this way (Hsu et al. 2021, arXiv 2106.07447).
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.features.waveform import sounding
from sonarium.models.contract import Engine, FrameEncoder, Learner, ModelEntry, Source
from sonarium.worlds.contract import Batch, Signal, SignalKind

SEEDING = 4096
"""Number of frames that the initial centroids are drawn from."""


@dataclass(frozen=True)
class KMeansConfig:
    clusters: int = 16
    """Number of clusters."""

    def __post_init__(self) -> None:
        if self.clusters < 2:
            raise ValueError(f"clusters={self.clusters}: give a whole number of at least 2")


class KMeans(Learner, FrameEncoder):
    centroids: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(self, config: KMeansConfig, signal: Signal):
        super().__init__()
        if signal.frame_rate is None:
            raise ValueError(f"k-means takes codes, not {signal.kind}s: give --codes RUN")
        self.config = config
        self.code_rate, self.code_first = signal.frame_rate, signal.frame_first
        shape = (config.clusters, signal.shape[1])
        self.register_buffer("centroids", torch.randn(shape))
        # Sums and counts of the current pass are saved with the centroids: a run may be stopped within a pass.
        self.register_buffer("sums", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(config.clusters, dtype=torch.float64))

    def prepare(self, source: Source, engine: Engine) -> None:
        """k-means++: draw each centroid from the frames, by the squared distance from its nearest predecessor."""
        frames = torch.cat([own_frames(batch) for batch in source.preview(engine.progress)])

        def draw(weights: Float[Tensor, " frame"], number: int) -> Int[Tensor, " drawn"]:
            return torch.multinomial(weights, number, generator=engine.generator)

        frames = frames[draw(torch.ones_like(frames[:, 0]), min(SEEDING, len(frames)))]
        nearest = torch.full_like(frames[:, 0], torch.inf)
        for cluster in range(self.config.clusters):
            weights = nearest.clamp(min=1e-12) if cluster else torch.ones_like(nearest)
            self.centroids[cluster] = frames[draw(weights, 1)[0]]
            nearest = nearest.minimum((frames - self.centroids[cluster]).square().sum(1))

    def distances(self, frames: Float[Tensor, "*some code"]) -> Float[Tensor, "*some cluster"]:
        return (frames[..., None, :] - self.centroids).square().sum(-1).sqrt()

    @torch.no_grad()
    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        """The E-step of one batch."""
        frames = own_frames(data)
        distance, cluster = self.distances(frames).min(1)
        sums, counts = torch.zeros_like(self.sums), torch.zeros_like(self.counts)
        sums.index_add_(0, cluster, frames.double())
        counts.index_add_(0, cluster, torch.ones_like(cluster, dtype=torch.float64))
        # Summed over the global batch, so that all ranks have the same statistics whenever a checkpoint is saved.
        self.sums += engine.ranks * engine.mean(sums)
        self.counts += engine.ranks * engine.mean(counts)
        count = engine.mean(torch.tensor(float(len(frames)), device=frames.device))
        return {"loss/distortion": distance.square().sum() / count}

    @torch.no_grad()
    def end_pass(self, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        """The M-step; a cluster without frames stays where it is."""
        used = self.counts > 0
        means = (self.sums / self.counts.clamp(min=1e-12)[:, None]).to(self.centroids.dtype)
        moved = (means - self.centroids)[used].square().sum(1).mean()
        self.centroids[used] = means[used]
        self.sums.zero_()
        self.counts.zero_()
        return {"clusters/moved": moved, "clusters/used": used.float().mean()}

    @torch.no_grad()
    def encode(
        self,
        signal: Float[Tensor, "clip time code"],
        lengths: Int[Tensor, " clip"] | None = None,
        *,
        power: Float[Tensor, " clip"] | None = None,
    ) -> Float[Tensor, "clip frame cluster"]:
        """Soft activations: mean distance from all centroids minus the distance from each, clamped at 0."""
        distance = self.distances(signal)
        nearer = (distance.mean(-1, keepdim=True) - distance).clamp(min=0)
        if lengths is None:
            return nearer
        return nearer.where(rearrange(sounding(signal.shape[1], lengths), "clip frame -> clip frame 1"), 0)

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return lengths


def own_frames(batch: Batch) -> Float[Tensor, "frame code"]:
    """The frames of all clips, without padding."""
    if batch.lengths is None:
        return rearrange(batch.signal, "clip frame code -> (clip frame) code")
    return batch.signal[sounding(batch.signal.shape[1], batch.lengths)]


def default(kind: SignalKind) -> KMeansConfig:
    return KMeansConfig()


# Each frame counts once a pass: clips are taken whole, and the last batch of a pass may be smaller.
KMEANS = ModelEntry(
    "k-means clustering of frames", KMeans, {"default": default}, kinds=("codes",), cut="whole", drop_last=False
)
