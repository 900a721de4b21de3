"""What a step earns: OtoWorld's figures, those of its planning document, and a reward that cannot be milked.

OtoWorld (arXiv 2007.06123) pays 1 / distance at every step, so that hovering beside a source earns more than
switching it off. Ours pays for the change of a potential instead (Ng, Harada and Russell, 1999): Φ is minus the
length of the shortest path that still has to be walked, past walls and through all sources that are on. A step
earns γ Φ(after) − Φ(before), so with γ = 1 every closed walk earns nothing, and standing still earns nothing.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

RewardName = Literal["default", "otoworld", "document"]


@dataclass(frozen=True)
class Reward:
    """All figures of a reward; a part that is not wanted has the figure 0."""

    step: float = -0.1
    """For every step."""
    rotation: float = 0.0
    """For a step that turns, besides."""
    found: float = 10.0
    """For every source that the step switches off."""
    closeness: float = 0.0
    """Times 1 / (distance to the nearest source that is on + 0.0001), for a step that switches nothing off."""
    progress: float = 1.0
    """For every metre by which the shortest path through all sources that are on grows shorter."""
    gamma: float = 1.0
    """Discount of the potential of progress: γ Φ(after) − Φ(before). With 1 closed walks earn exactly nothing;
    with the discount of a learner, its best policies are exactly those of a reward without progress."""

    def __post_init__(self) -> None:
        for name in ("step", "rotation", "found", "closeness", "progress", "gamma"):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)} in a reward: give a finite number")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma={self.gamma} in a reward: give a discount above 0, of at most 1")


REWARDS: dict[RewardName, Reward] = {
    "default": Reward(),
    "otoworld": Reward(step=-0.5, rotation=-0.1, found=100.0, closeness=1.0, progress=0.0),
    "document": Reward(step=-0.1, found=10.0, progress=0.0),
}
NEAREST = 1e-4
"""Metres that OtoWorld adds to the distance before it divides by it."""


def reward(
    figures: Reward,
    turned: Bool[np.ndarray, " slot"],
    found: Int[np.ndarray, " slot"],
    nearest: Float[np.ndarray, " slot"],
    left_before: Float[np.ndarray, " slot"],
    left_after: Float[np.ndarray, " slot"],
) -> Float[np.ndarray, " slot"]:
    """Of one step in every slot: whether it turned, how many sources it switched off, the distance as the crow
    flies to the nearest source that is on (infinite where there is none), and the path left before and after."""
    earned = figures.step + figures.rotation * turned + figures.found * found
    if figures.closeness:
        earned = earned + figures.closeness * np.where(found > 0, 0.0, 1 / (nearest + NEAREST))
    if figures.progress:
        earned = earned + figures.progress * (left_before - figures.gamma * left_after)
    return earned
