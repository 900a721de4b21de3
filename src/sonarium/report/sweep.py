"""Codes of held-out clips and their traversals, as a learner describes them, with the factors of the clips."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.models.contract import Describer, Description, Encoder, Traversal
from sonarium.models.describing import describe_numbers
from sonarium.worlds.contract import World

BLOCK = 64
"""Clips per batch."""


@dataclass(frozen=True)
class Reading:
    """Codes of held-out clips, and a traversal of each code of the most typical of these clips."""

    codes: Description
    factors: Float[np.ndarray, "clip factor"]
    central: int
    """Index of the most typical clip."""
    sweeps: tuple[Traversal, ...]
    """Traversals, ordered by how much the codes carry."""


@torch.no_grad()
def read(learner: Encoder | Describer, world: World, clips: Int[Tensor, " clip"], device: torch.device) -> Reading:
    """Read codes as the learner describes them; those of a plain encoder are ordered by their standard
    deviation."""
    batches = [world.excerpt(block, device) for block in clips.split(BLOCK)]
    factors = torch.cat([batch.factors for batch in batches]).cpu().double().numpy()
    if isinstance(learner, Describer):
        codes, central, sweeps = learner.describe(batches)
    else:
        encoded = torch.cat([learner.encode(batch.signal) for batch in batches])
        codes, central, sweeps = describe_numbers(encoded, learner.dead_below)
    return Reading(codes, factors, central, sweeps)
