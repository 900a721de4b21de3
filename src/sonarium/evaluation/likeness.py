"""Similarity of generated and real tokens as sets: kernel and Fréchet distance in an embedding that is trained
here.

The embedding is fitted to real tokens of the training split: the bottleneck of a small network that classifies the
known labels of each token (speaker, bird, word, syllable); without labels, principal components, each scaled to
variance 1. All distances are of equally many tokens. They are compared with those of real tokens of other pieces,
and of the true tokens as the learner decodes them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial.distance import pdist
from torch import Tensor, nn

from sonarium.evaluation.fitting import SEED, trained
from sonarium.measures.generation import frechet_distance, kernel_distance
from sonarium.measures.probes.classifiers import principal_axes

COMPONENTS = 32
"""Dimensions of the embedding."""
UNITS, STEPS = 64, 300
"""Hidden units and training steps of the network."""
FEWEST = 2 * COMPONENTS
"""Minimum number of tokens for meaningful distances."""
MOST = 2000
"""Maximum number of tokens per set."""
UNKNOWN = -1
"""Label of unlabelled tokens."""

Embed = Callable[[Float[Tensor, "row number"]], Float[np.ndarray, "row code"]]


class LabelNetwork(nn.Module):
    """Classifier of each kind of label from a token, through a bottleneck."""

    def __init__(self, numbers: int, labels: list[int]):
        super().__init__()
        self.embedding = nn.Sequential(nn.Linear(numbers, UNITS), nn.ELU(), nn.Linear(UNITS, COMPONENTS))
        self.heads = nn.ModuleList(nn.Sequential(nn.ELU(), nn.Linear(COMPONENTS, count)) for count in labels)

    def loss(self, tokens: Float[Tensor, "row number"], labels: Int[Tensor, "row kind"]) -> Float[Tensor, ""]:
        inner = self.embedding(tokens)
        return sum(
            (
                nn.functional.cross_entropy(head(inner), own, ignore_index=UNKNOWN)
                for head, own in zip(self.heads, labels.unbind(1), strict=True)
                if bool((own != UNKNOWN).any())
            ),
            # Without labels there is nothing to learn; this keeps the loss differentiable.
            start=0 * inner.sum(),
        )


def fitted_embedding(
    tokens: Float[Tensor, "piece token number"],
    counts: Int[Tensor, " piece"],
    labels: Int[Tensor, "piece token kind"],
) -> Embed:
    """Embedding fitted to these tokens, with zero mean and a mean variance of 1 over dimensions."""
    inside = torch.arange(tokens.shape[1]) < counts[:, None]
    rows = tokens[inside]
    kinds = [kind for kind in range(labels.shape[2]) if len(labels[inside][:, kind].unique()) > 1]
    raw = of_labels(tokens, inside, labels[..., kinds]) if kinds else of_components(rows)
    known = raw(rows)
    centre, scale = known.mean(0), max(float(np.sqrt(known.var(0).mean())), 1e-9)
    return lambda some: (raw(some) - centre) / scale


def of_labels(tokens: Tensor, inside: Tensor, labels: Tensor) -> Embed:
    sizes = [int(own.max()) + 1 for own in labels[inside].unbind(1)]
    network = trained(
        lambda: LabelNetwork(tokens.shape[2], sizes).to(tokens),
        lambda own, pieces: own.loss(tokens[pieces][inside[pieces]], labels[pieces][inside[pieces]]),
        len(tokens),
        STEPS,
    )

    @torch.no_grad()
    def embed(rows: Tensor) -> np.ndarray:
        return network.embedding(rows.to(tokens)).double().numpy()

    return embed


def of_components(rows: Float[Tensor, "token number"]) -> Embed:
    known = rows.double().numpy()
    centre = known.mean(0)
    power, axes = principal_axes(known - centre)
    scaled = axes[:, -COMPONENTS:] / np.sqrt(power[-COMPONENTS:])
    return lambda some: (some.double().numpy() - centre) @ scaled


@dataclass(frozen=True)
class Likeness:
    """Reference set of real tokens, with the distances of other sets from it."""

    embed: Embed
    real: Float[np.ndarray, "token code"]
    """Embedded, in random order."""
    bandwidth: float
    """Bandwidth of the kernel: the median pairwise distance of real tokens."""
    floor: dict[str, float]
    """Distances of real tokens of other pieces."""

    @classmethod
    def of(
        cls, embed: Embed, real: Float[Tensor, "token number"], others: Float[Tensor, "other number"]
    ) -> "Likeness | None":
        """None if there are too few tokens, or most of them are the same."""
        count = min(len(real), len(others), MOST)
        if count < FEWEST:
            return None
        known = embed(shuffled(real)[:count])
        bandwidth = float(np.median(pdist(known)))
        if not bandwidth > 0:
            return None
        return cls(embed, known, bandwidth, cls(embed, known, bandwidth, {}).distances(others))

    def distances(self, made: Float[Tensor, "token number"]) -> dict[str, float]:
        """Distances of as many tokens as are real; a smaller set is repeated evenly."""
        order = np.arange(len(self.real)) % len(made)
        both = self.real, self.embed(shuffled(made)[order])
        return {"kernel": kernel_distance(*both, self.bandwidth), "frechet": frechet_distance(*both)}


def shuffled(rows: Float[Tensor, "token number"]) -> Float[Tensor, "token number"]:
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED))]
