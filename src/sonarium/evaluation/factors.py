"""Disentanglement: how well codes recover the planted factors of held-out clips, with controls.

Learner and controls are given the same held-out clips. Controls are principal components of the training split's
features, the untrained network, and chance: the learner's own codes with the clips in random order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.decomposition import PCA
from torch import Tensor, nn

from sonarium.measures.contract import MeasureEntry
from sonarium.measures.disentanglement.scores import PERMUTATIONS, SCORES, disentangle
from sonarium.measures.statistics import prediction_interval
from sonarium.models.contract import Encoder, FeatureLearner
from sonarium.worlds.contract import Batch, World

BLOCK = 64
MAX_CLIPS_FOR_PCA = 1000
"""Maximum number of training clips that the principal components are fitted on."""


def batches(world: World, index: Int[Tensor, " clip"], device: torch.device) -> Iterator[Batch]:
    for block in index.split(BLOCK):
        yield world.excerpt(block, device)


def device_of(learner: object) -> torch.device:
    """Device of a learner; one without parameters may have only buffers."""
    assert isinstance(learner, nn.Module), type(learner)
    return next((one.device for one in chain(learner.parameters(), learner.buffers())), torch.device("cpu"))


@torch.no_grad()
def features_of(world: World, index: Int[Tensor, " clip"], learner: object) -> Float[np.ndarray, "clip feature"]:
    """Features of clips from the learner's front end, or the signal itself."""
    blocks = [
        (learner.features(batch) if isinstance(learner, FeatureLearner) else batch.signal).flatten(1).cpu()
        for batch in batches(world, index, device_of(learner))
    ]
    return torch.cat(blocks).numpy()


@torch.no_grad()
def codes_of(world: World, index: Int[Tensor, " clip"], learner: Encoder) -> Float[np.ndarray, "clip code"]:
    """The codes of each clip, averaged over frames."""
    blocks = [learner.encode(batch.signal).mean(1).cpu() for batch in batches(world, index, device_of(learner))]
    return torch.cat(blocks).numpy()


def factors_of(world: World, index: Int[Tensor, " clip"]) -> Float[np.ndarray, "clip factor"]:
    return world.factor_values(index).numpy()


def recovery(
    learner: Encoder,
    untrained: Encoder,
    world: World,
    train: Int[Tensor, " train"],
    test: Int[Tensor, " test"],
    protocol: Literal["standard", "syntone"],
    seed: int,
    measures: Mapping[str, MeasureEntry] = {},
) -> dict[str, Any]:
    """Scores of the learner (`scores`) and of each control, all on the test clips, `noise` and `notes`.

    `noise` holds the distribution of each score over random orders of the clips; `chance` is its mean.
    """
    factors = factors_of(world, test)
    discrete = tuple(factor.discrete for factor in world.factors)
    own = codes_of(world, test, learner)
    generator = np.random.default_rng([seed, 0xC0DE])
    seen = train[torch.from_numpy(generator.permutation(len(train))[:MAX_CLIPS_FOR_PCA])]
    components, capped = principal(world, seen, test, learner, own.shape[1], seed)

    def score(codes: np.ndarray, dead_below: float, permutations: int) -> dict[str, Any]:
        return disentangle(
            codes, factors, list(discrete), protocol=protocol, seed=seed, dead_below=dead_below,
            permutations=permutations,
        )  # fmt: skip

    found = score(own, learner.dead_below, PERMUTATIONS)
    notes, noise = found.pop("notes") + capped, found.pop("noise")
    if measures:
        blind = [
            further(measures, generator.permutation(own), factors, discrete, seed) for _ in range(PERMUTATIONS)
        ]
        noise |= {key: asdict(prediction_interval([one[key] for one in blind])) for key in blind[0]}
    every = {"scores": found | further(measures, own, factors, discrete, seed)}
    for name, codes in (("pca", components), ("random", codes_of(world, test, untrained))):
        beside = score(codes, 0.0, 0) | further(measures, codes, factors, discrete, seed)
        # A score dropped for the learner, because chance reaches it, is no more meaningful for a control.
        every[name] = {key: value for key, value in beside.items() if key in every["scores"]}
    every["chance"] = {key: one["mean"] for key, one in noise.items()}
    return every | {"noise": noise, "notes": notes}


def principal(
    world: World,
    seen: Int[Tensor, " seen"],
    test: Int[Tensor, " test"],
    learner: Encoder,
    width: int,
    seed: int,
) -> tuple[Float[np.ndarray, "clip component"], list[str]]:
    """Test clips in as many principal components as there are codes, or in fewer, with a note, if there are no
    more."""
    features = features_of(world, seen, learner)
    most = min(width, *features.shape)
    fitted = PCA(most, random_state=seed).fit(features)
    notes = [f"the control of principal components has {most} of them, not {width}: {len(seen)} clips of "
             f"{features.shape[1]} features have no more"] if most < width else []  # fmt: skip
    return fitted.transform(features_of(world, test, learner)), notes


def further(
    measures: Mapping[str, MeasureEntry],
    codes: Float[np.ndarray, "clip code"],
    factors: Float[np.ndarray, "clip factor"],
    discrete: tuple[bool, ...],
    seed: int,
) -> dict[str, float]:
    """Scores of the catalogue's measures; a score that an entry does not describe is refused."""
    found: dict[str, float] = {}
    for name, entry in measures.items():
        scores = entry.function(codes, factors, discrete, seed)
        if unknown := sorted(set(scores) - set(entry.scores)):
            raise ValueError(
                f"measure '{name}' returned {', '.join(unknown)}, which its entry does not describe: it describes "
                f"{', '.join(entry.scores) or 'nothing'}"
            )
        if taken := sorted(set(scores) & {*found, *SCORES}):
            raise ValueError(
                f"measure '{name}' returns {', '.join(taken)}, which another measure has: rename them"
            )
        found |= {key: float(value) for key, value in scores.items()}
    return found
