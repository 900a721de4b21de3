"""How well a learner's codes recover the planted causes of clips it has not seen, beside its controls.

The controls meet the same front end and the same held-out clips: principal components of the training
part's features, an untrained copy of the encoder, and codes that know nothing.
"""

from collections.abc import Iterator
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.decomposition import PCA
from torch import Tensor

from sonarium.measures.disentanglement.scores import disentangle
from sonarium.models.contract import Learner
from sonarium.worlds.contract import Batch, World

BLOCK = 64
MOST_FOR_PCA = 1000
"""Training clips that the principal components are fitted on."""


def batches(world: World, index: Int[Tensor, " clip"], learner: Learner) -> Iterator[Batch]:
    device = next(learner.parameters()).device
    for block in index.split(BLOCK):
        yield world.whole(block, device)


@torch.no_grad()
def features_of(world: World, index: Int[Tensor, " clip"], learner: Learner) -> Float[np.ndarray, "clip cell"]:
    blocks = [learner.features(batch).flatten(1).cpu() for batch in batches(world, index, learner)]
    return torch.cat(blocks).numpy()


def codes_of(world: World, index: Int[Tensor, " clip"], learner: Learner) -> Float[np.ndarray, "clip code"]:
    """The codes of each clip, its frames averaged."""
    blocks = [cast(Any, learner).encode(batch.signal).mean(1).cpu() for batch in batches(world, index, learner)]
    return torch.cat(blocks).numpy()


def factors_of(world: World, index: Int[Tensor, " clip"]) -> Float[np.ndarray, "clip factor"]:
    return torch.cat([world.whole(block).factors for block in index.split(BLOCK)]).numpy()


def recovery(
    learner: Learner,
    untrained: Learner,
    world: World,
    train: Int[Tensor, " learnt_from"],
    test: Int[Tensor, " held_out"],
    protocol: Literal["standard", "syntone"],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Scores of the learner (`scores`) and of each control, all on the test clips."""
    factors = factors_of(world, test)
    discrete = [factor.discrete for factor in world.factors]
    own = codes_of(world, test, learner)
    width = own.shape[1]
    generator = np.random.default_rng([seed, 0xC0DE])
    seen = train[torch.from_numpy(generator.permutation(len(train))[:MOST_FOR_PCA])]
    fitted = PCA(min(width, len(seen)), random_state=seed).fit(features_of(world, seen, learner))
    rivals = {
        "scores": (own, learner.dead_below),
        "pca": (fitted.transform(features_of(world, test, learner)), 0.0),
        "random": (codes_of(world, test, untrained), 0.0),
        "chance": (generator.standard_normal(own.shape), 0.0),
    }
    return {
        name: disentangle(codes, factors, discrete, protocol=protocol, seed=seed, dead_below=dead_below)
        for name, (codes, dead_below) in rivals.items()
    }
