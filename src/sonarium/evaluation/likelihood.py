"""Bounds on the log-likelihood of held-out clips.

The ELBO is the mean log weight; the importance-weighted bound (Burda et al. 2016, arXiv 1509.00519) is the log of
the mean weight over `draws` samples, which rises towards log p(x) with their number.
"""

import math
from collections.abc import Iterable

import torch

from sonarium.measures.contract import Meaning
from sonarium.models.contract import Density
from sonarium.worlds.contract import Batch

MEANINGS = {
    "elbo": Meaning("ELBO", "Lower bound on the log-likelihood of held-out clips, in nats.", None, None),
    "iwae": Meaning("IWAE bound", "Tighter lower bound from importance weighting, in nats.", None, None),
}


@torch.no_grad()
def bounds(learner: Density, batches: Iterable[Batch], draws: int, seed: int) -> dict[str, float]:
    """Nats per clip: `elbo`, and `iwae` with `draws` samples per clip."""
    if draws < 1:
        raise ValueError(f"draws={draws}: a bound needs at least one sample per clip")
    total, tight, clips = 0.0, 0.0, 0
    generator: torch.Generator | None = None
    for batch in batches:
        generator = generator or torch.Generator(batch.signal.device).manual_seed(seed)
        weights = learner.log_weights(batch, draws, generator).double()
        total += float(weights.mean(0).sum())
        tight += float((weights.logsumexp(0) - math.log(draws)).sum())
        clips += weights.shape[1]
    if not clips:
        raise ValueError("no clips to bound the likelihood of: hold some out with --test")
    return {"elbo": total / clips, "iwae": tight / clips}
