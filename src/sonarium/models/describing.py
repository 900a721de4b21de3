"""Descriptions of continuous codes: how informative each code is, and latent traversals.

A traversal changes one code of a real clip and keeps all others; each starts from the clip's original codes, so
changes do not accumulate (unlike the cumulative traversals of SynTone, arXiv 2402.10547).
"""

import numpy as np
import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor

from sonarium.models.contract import Description, Traversal

STEPS = tuple(np.linspace(-2.5, 2.5, 11).tolist())
"""Offsets of a traversal, in standard deviations of the code over clips."""


def describe_numbers(
    codes: Float[Tensor, "clip frame code"],
    dead_below: float,
    variance: Float[Tensor, "clip code"] | None = None,
    divergence: Float[Tensor, "clip code"] | None = None,
) -> tuple[Description, int, tuple[Traversal, ...]]:
    """Description of continuous codes, ordered by the KL divergence of their posterior from the prior, or by
    standard deviation if there is no posterior; the most central clip; and its traversals."""
    values = reduce(codes, "clip frame code -> clip code", "mean").double()
    varies = values.std(0, correction=0)
    if variance is not None and divergence is not None:
        deviation, worth = (varies**2 + variance.double().mean(0)).sqrt(), divergence.double().mean(0)
        notes = tuple(f"{nats:.2f} nats" for nats in worth.tolist())
    else:
        deviation, worth = varies, varies
        notes = tuple(f"standard deviation {one:.2g}" for one in worth.tolist())
    description = Description(
        values=values.cpu().numpy(),
        names=tuple(f"code {position + 1}" for position in range(values.shape[1])),
        worth=worth.cpu().numpy(),
        notes=notes,
        alive=(varies > dead_below).cpu().numpy(),
    )
    scaled = (values - values.mean(0)) / deviation.clamp(min=1e-12)
    central = int((scaled**2).sum(1).argmin())
    return description, central, traversals(description, codes[central], deviation.to(codes))


def traversals(
    description: Description, base: Float[Tensor, "frame code"], deviation: Float[Tensor, " code"]
) -> tuple[Traversal, ...]:
    """Traversal of each code by STEPS standard deviations, all from the same base."""
    steps = tuple(f"{step:+.1f}".replace("-", "−") if step else "0" for step in STEPS)
    offsets = torch.tensor(STEPS).to(base)
    found = []
    for code in description.order:
        moved = repeat(base, "frame code -> step frame code", step=len(STEPS)).clone()
        moved[:, :, code] += rearrange(offsets * deviation[code], "step -> step 1")
        name, note, alive = description.names[code], description.notes[code], bool(description.alive[code])
        found.append(Traversal(name, note, alive, steps, STEPS.index(0), moved))
    return tuple(found)
