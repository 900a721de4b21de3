"""An environment for tests of memory: an episode is one guess of an earlier observation."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Guess(gymnasium.Env):
    """Rewards the action that was shown `wait` steps before; an episode is one guess."""

    def __init__(self, action_space: spaces.Space, wait: int = 0, fault: float = 0.0, truncates: bool = False):
        self.action_space, self.wait, self.fault, self.truncates = action_space, wait, fault, truncates
        self.observation_space = spaces.Box(-2, 2, (2,), np.float32)

    def look(self) -> np.ndarray:
        shown = np.array([self.sign if self.count == 0 else 0, self.count == self.wait], np.float32)
        return shown if not self.fault else shown * self.fault

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count, self.sign = 0, int(self.np_random.integers(2)) * 2 - 1
        return self.look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        over = self.count == self.wait
        reward = self.score(np.asarray(action)) if over else 0.0
        self.count += 1
        return self.look(), reward, over and not self.truncates, over and self.truncates, {}

    def score(self, action: np.ndarray) -> float:
        if isinstance(self.action_space, spaces.Box):
            return -float(np.square(action - 0.5 * self.sign).mean())
        return float((action == (self.sign > 0)).mean())
