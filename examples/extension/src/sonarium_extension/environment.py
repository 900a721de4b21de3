"""An environment of two states, observed as a low and a high beep, whose entire state can be saved.

An action equal to the state (0: low, 1: high) earns 1; another one earns 0, and ends the episode with probability
1/2. Random actions earn 2 per episode on average, correct ones 1 per step.
"""

import copy
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float32

from sonarium.environment import StatefulEnv
from sonarium.training.contract import Tree

SAMPLES = 16
CYCLES = (1, 3)
"""Periods of a beep, by state."""
NOISE = 0.5
"""Standard deviation of the noise."""


class Beeps(StatefulEnv):
    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (SAMPLES,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.state = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, " time"], dict[str, Any]]:
        super().reset(seed=seed)
        return self.beep(), {}

    def step(self, action: Any) -> tuple[Float32[np.ndarray, " time"], float, bool, bool, dict[str, Any]]:
        right = int(action) == self.state
        ended = not right and bool(self.np_random.random() < 0.5)
        return self.beep(), float(right), ended, False, {}

    def beep(self) -> Float32[np.ndarray, " time"]:
        """Draw the next state; return its beep, with random phase and noise."""
        self.state = int(self.np_random.integers(2))
        phase = 2 * np.pi * (CYCLES[self.state] * np.arange(SAMPLES) / SAMPLES + self.np_random.random())
        return (np.sin(phase) + NOISE * self.np_random.standard_normal(SAMPLES)).astype(np.float32)

    def state_dict(self) -> Tree:
        return {"state": self.state, "random": copy.deepcopy(self.np_random)}

    def load_state_dict(self, state: Tree, /) -> None:
        self.state, self.np_random = state["state"], copy.deepcopy(state["random"])


# The limit truncates an episode, but does not terminate it.
gymnasium.register("Beeps-v0", f"{__name__}:Beeps", max_episode_steps=20)
