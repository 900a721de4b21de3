"""How like real tokens drawn ones are, as sets: kernel and Fréchet distance in an embedding that is trained here.

The embedding is fitted to real tokens of the training split: the narrow layer of a small network that learns to
tell what is known of each token (speaker, bird, word, syllable); where nothing is known, principal components,
each scaled to variance 1. All distances are of as many tokens, and stand beside those of real tokens of other
pieces and of the true tokens as the learner decodes them.
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
"""Numbers of the embedding."""
UNITS, STEPS = 64, 300
"""Of the network: hidden units, and training steps."""
FEWEST = 2 * COMPONENTS
"""Tokens below which distances say nothing."""
MOST = 2000
"""Tokens of each set."""
UNKNOWN = -1
"""Of a token that has no label."""

Embed = Callable[[Float[Tensor, "row number"]], Float[np.ndarray, "row code"]]


class LabelNetwork(nn.Module):
    """From a token by a narrow layer to each kind of label."""

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
            # Of tokens without labels nothing is learnt; a loss that depends on nothing could not be descended.
            start=0 * inner.sum(),
        )


def fitted_embedding(
    tokens: Float[Tensor, "piece token number"],
    counts: Int[Tensor, " piece"],
    labels: Int[Tensor, "piece token kind"],
) -> Embed:
    """An embedding of tokens like these, in which their mean is 0 and their numbers have the mean variance 1."""
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
    """Real tokens, and how they are compared with others."""

    embed: Embed
    real: Float[np.ndarray, "token code"]
    """Embedded, in random order."""
    bandwidth: float
    """Of the kernel: the median distance of real tokens."""
    floor: dict[str, float]
    """The distances of real tokens of other pieces."""

    @classmethod
    def of(
        cls, embed: Embed, real: Float[Tensor, "token number"], others: Float[Tensor, "other number"]
    ) -> "Likeness | None":
        """None where there are too few tokens, or most of them are the same."""
        count = min(len(real), len(others), MOST)
        if count < FEWEST:
            return None
        known = embed(shuffled(real)[:count])
        bandwidth = float(np.median(pdist(known)))
        if not bandwidth > 0:
            return None
        return cls(embed, known, bandwidth, cls(embed, known, bandwidth, {}).distances(others))

    def distances(self, made: Float[Tensor, "token number"]) -> dict[str, float]:
        """Of as many tokens as are real; fewer ones are taken again, each as often as all others."""
        order = np.arange(len(self.real)) % len(made)
        both = self.real, self.embed(shuffled(made)[order])
        return {"kernel": kernel_distance(*both, self.bandwidth), "frechet": frechet_distance(*both)}


def shuffled(rows: Float[Tensor, "token number"]) -> Float[Tensor, "token number"]:
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED))]
