"""Reward functions: OtoWorld's, its planning document's, and the default with potential-based shaping.

OtoWorld (arXiv 2007.06123) rewards 1 / distance at every step, so that hovering beside a source returns more
than switching it off. The default is shaped by a potential instead (Ng, Harada and Russell, 1999): Φ is minus
the length of the shortest path past walls and through all sources that are on. A step is rewarded with γ
Φ(after) − Φ(before), so with γ = 1 every closed walk, and standing still, sums to 0.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from sonarium.config import Range, check_ranges

RewardName = Literal["default", "otoworld", "document"]


@dataclass(frozen=True)
class Reward:
    """Weights of a reward function; 0 disables a term."""

    step: Annotated[float, Range()] = -0.1
    """Reward per step."""
    rotation: Annotated[float, Range()] = 0.0
    """Additional reward for a step that turns."""
    found: Annotated[float, Range()] = 10.0
    """Reward per source that the step switches off."""
    wrong: Annotated[float, Range()] = -10.0
    """Reward per distractor that the step comes upon."""
    closeness: Annotated[float, Range()] = 0.0
    """Weight of 1 / (distance to the nearest source that is on + 0.0001), in steps that switch nothing off."""
    progress: Annotated[float, Range()] = 1.0
    """Reward per metre by which the shortest path through all sources that are on decreases."""
    gamma: Annotated[float, Range(0, 1, above=True)] = 1.0
    """Discount of the shaping term, γ Φ(after) − Φ(before). With 1, closed walks sum to exactly 0; with the
    discount of the learner, the optimal policies are exactly those without shaping, unless a distractor ends the
    episode."""

    def __post_init__(self) -> None:
        check_ranges(self)


REWARDS: dict[RewardName, Reward] = {
    "default": Reward(),
    "otoworld": Reward(step=-0.5, rotation=-0.1, found=100.0, closeness=1.0, progress=0.0),
    "document": Reward(step=-0.1, found=10.0, progress=0.0),
}
NEAREST = 1e-4
"""Metres that OtoWorld adds to the distance before it takes the reciprocal."""


def reward(
    figures: Reward,
    turned: Bool[np.ndarray, " slot"],
    found: Int[np.ndarray, " slot"],
    nearest: Float[np.ndarray, " slot"],
    left_before: Float[np.ndarray, " slot"],
    left_after: Float[np.ndarray, " slot"],
    wrong: Int[np.ndarray, " slot"] | None = None,
) -> Float[np.ndarray, " slot"]:
    """The reward of one step in every slot, from whether it turned, the number of sources it switched off, the
    Euclidean distance to the nearest source that is on (infinite where there is none), and the length of the
    shortest path before and after; `wrong` is the number of distractors it found, if there are any."""
    earned = figures.step + figures.rotation * turned + figures.found * found
    if figures.closeness:
        off = found > 0 if wrong is None else (found > 0) | (wrong > 0)
        earned = earned + figures.closeness * np.where(off, 0.0, 1 / (nearest + NEAREST))
    if figures.progress:
        earned = earned + figures.progress * (left_before - figures.gamma * left_after)
    if wrong is not None:
        earned = earned + figures.wrong * wrong
    return earned
