"""Running sums over the episodes that an agent acts in, carried from one rollout to the next."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonarium.agents.networks import RunningMeanStd
from sonarium.agents.returns import discounted
from sonarium.agents.rollout import Rollout
from sonarium.training.contract import Tree

LARGEST_REWARD = 10.0
"""Normalised rewards are clipped to ± this."""


class Tally:
    """Running sums of the current episode in each slot."""

    def __init__(self) -> None:
        self.sums: dict[str, np.ndarray] = {}

    def before(self, name: str, slots: int) -> Float[np.ndarray, " slot"]:
        return self.sums.get(name, np.zeros(slots))

    def add(
        self, name: str, values: Float[np.ndarray, "step slot"], first: Bool[np.ndarray, "step slot"], keep: float
    ) -> Float[np.ndarray, "step slot"]:
        """The sum at each step, of which the fraction `keep` is carried to the next."""
        found = discounted(values, first, keep, self.before(name, values.shape[1]))
        self.sums[name] = found[-1]
        return found

    def state_dict(self) -> Tree:
        return {"sums": dict(self.sums)}

    def load_state_dict(self, state: Tree, /) -> None:
        for name, values in state["sums"].items():
            if not isinstance(values, np.ndarray) or values.dtype != float or values.ndim != 1:
                raise ValueError(f"the sums of {name} are no numbers, one a slot")
            if not np.isfinite(values).all():
                raise ValueError(f"the sums of {name} are not finite")
        if len({len(values) for values in state["sums"].values()}) > 1:
            raise ValueError("the sums are of different numbers of slots")
        self.sums = dict(state["sums"])

    def episodes(self, data: Rollout) -> dict[str, Float[Tensor, ""]]:
        """Mean reward per step; mean return (of unscaled rewards) and length of the episodes that ended; and their
        success rate, where it is known."""
        over = data.terminated | data.truncated
        acted = np.ones(over.shape) if data.acted is None else data.acted.astype(float)
        returns = self.add("returns", data.reward, data.first, 1.0)
        lengths = self.add("lengths", acted, data.first, 1.0)
        found = {"episodes/reward": data.reward.sum() / max(1.0, acted.sum())}
        if over.any():
            found |= {"episodes/return": returns[over].mean(), "episodes/length": lengths[over].mean()}
            if data.success is not None:
                found["episodes/success"] = data.success[over].mean()
        return {name: torch.tensor(float(value)) for name, value in found.items()}

    def scaled(
        self, data: Rollout, scale: float, discount: float, statistics: RunningMeanStd | None
    ) -> Float[np.ndarray, "step slot"]:
        """Rewards that values are learnt from: scaled, and with `statistics` divided by the running standard
        deviation of their discounted sums and clipped."""
        reward = data.reward * scale
        if statistics is None:
            return reward
        sums = self.add("discounted", reward, data.first, discount)
        acted = np.ones(sums.shape, bool) if data.acted is None else data.acted
        statistics.learn(torch.from_numpy(sums[acted][:, None]))
        deviation = float(statistics.variance + 1e-8) ** 0.5
        return np.clip(reward / deviation, -LARGEST_REWARD, LARGEST_REWARD)
