"""How well a model of density explains clips that it has not seen.

The ELBO is the mean log weight; the importance-weighted bound (Burda et al. 2016, arXiv 1509.00519) the
log of the mean weight over `draws` samples, which rises towards log p(x) with their number.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch

from sonarium.worlds.contract import Batch


@torch.no_grad()
def bounds(learner: Any, batches: Iterable[Batch], draws: int, seed: int) -> dict[str, float]:
    """Nats a clip: `elbo`, and `iwae` over `draws` samples a clip.

    The learner gives `log_weights(batch, draws, generator)`, log p(x, z) − log q(z|x) by draw and clip.
    """
    if draws < 1:
        raise ValueError(f"draws={draws}: a bound needs at least one sample a clip")
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
