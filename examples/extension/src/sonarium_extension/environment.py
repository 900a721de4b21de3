"""An environment of two states, heard as a low and a high beep, whose whole state can be saved.

The answer of an agent that names the state (0: low, 1: high) earns 1; a wrong one earns nothing, and ends the
episode with probability 1/2. Random answers earn 2 an episode on average, right ones 1 a step.
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
"""Periods in a beep, by the state."""
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
        """The sound of the next state, at a random phase and in noise."""
        self.state = int(self.np_random.integers(2))
        phase = 2 * np.pi * (CYCLES[self.state] * np.arange(SAMPLES) / SAMPLES + self.np_random.random())
        return (np.sin(phase) + NOISE * self.np_random.standard_normal(SAMPLES)).astype(np.float32)

    def state_dict(self) -> Tree:
        return {"state": self.state, "random": copy.deepcopy(self.np_random)}

    def load_state_dict(self, state: Tree, /) -> None:
        self.state, self.np_random = state["state"], copy.deepcopy(state["random"])


# The limit truncates an episode, which is not its end.
gymnasium.register("Beeps-v0", f"{__name__}:Beeps", max_episode_steps=20)
