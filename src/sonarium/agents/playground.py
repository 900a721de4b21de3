"""`sonarium/Playground-v0` and `-v1`: the grid of Audio_ML_study, on which an agent walks to a target.

    env = gymnasium.make("sonarium/Playground-v1", room_width=15, room_height=12)

The study has two versions, for Gym 0.21 and for 0.26; both are the same task, and so are these, the first of which
Gymnasium reports as out of date. The observation holds the positions of the agent and the target, the last
direction, and the one before, which are initially (0, 0) and (1, 1). An episode terminates at the target, and is
truncated after 300 steps.

Unlike in the study, observations have the type of their space (floating-point numbers, where the study declares
whole ones), both versions follow their seed, and the state is saved.
"""

import copy
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float32, Int, UInt8

from sonarium.environment import StatefulEnv, Tree, loaded_random

DIRECTIONS = np.array([[0, 1], [0, -1], [-1, 0], [1, 0]])
"""Up, down, left and right."""
IDLE, AWAY = -0.25, -0.75
"""Rewards for going back and forth or into a wall, and for going away from the target."""
CELL = 25
"""Side of a cell in pixels."""
PAPER, LINE, AGENT, TARGET = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)


class Playground(StatefulEnv):
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(self, room_width: int = 10, room_height: int = 10, render_mode: str | None = None) -> None:
        if room_width * room_height < 2 or room_width < 1:
            raise ValueError(f"got a room of {room_width} × {room_height} cells: give at least two")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r}: give rgb_array or None")
        self.size, self.render_mode = np.array([room_width, room_height]), render_mode
        ends = np.array([*self.size - 1, *self.size - 1, 1, 1, 1, 1], np.float32)
        self.observation_space = spaces.Box(np.array([0, 0, 0, 0, -1, -1, -1, -1], np.float32), ends)
        self.action_space = spaces.Discrete(len(DIRECTIONS))
        self.places = np.zeros((4, 2), np.int64)
        """The agent, the target, the last direction and the one before."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, "8"], dict[str, Any]]:
        super().reset(seed=seed)
        target = agent = self.cell()
        while (agent == target).all():
            agent = self.cell()
        self.places = np.stack([agent, target, np.zeros(2, np.int64), np.ones(2, np.int64)])
        return self.observe(), {}

    def cell(self) -> Int[np.ndarray, "2"]:
        return self.np_random.integers(self.size)

    def observe(self) -> Float32[np.ndarray, "8"]:
        return self.places.astype(np.float32).ravel()

    def step(self, action: Any) -> tuple[Float32[np.ndarray, "8"], float, bool, bool, dict[str, Any]]:
        before, target, last, _ = self.places
        way = DIRECTIONS[int(action)]
        now = np.clip(before + way, 0, self.size - 1)
        self.places = np.stack([now, target, way, last])
        distance, distance_before = (int(np.abs(target - place).sum()) for place in (now, before))
        if (way == -last).all() or (now == before).all():
            reward = IDLE
        elif distance > distance_before:
            reward = AWAY
        else:
            reward = 1 - distance / int(self.size.sum())
        return self.observe(), reward, distance == 0, False, {}

    def render(self) -> UInt8[np.ndarray, "row column 3"] | None:
        """Picture as in the study: the agent is red, the target blue, and y points downward."""
        if self.render_mode is None:
            return None
        width, height = CELL * self.size
        picture = np.full((height, width, 3), PAPER, np.uint8)
        for place, colour in zip(self.places[:2], (AGENT, TARGET), strict=True):
            left, top = CELL * place
            picture[top : top + CELL, left : left + CELL] = colour
        picture[::CELL] = picture[:, ::CELL] = LINE
        return picture

    def state_dict(self) -> Tree:
        return {"places": self.places.copy(), "random": copy.deepcopy(self.np_random)}

    def load_state_dict(self, state: Tree, /) -> None:
        places = state["places"]
        if not isinstance(places, np.ndarray) or (places.shape, places.dtype) != ((4, 2), np.dtype(np.int64)):
            raise ValueError("places is none of a playground")
        if not self.observation_space.contains(places.astype(np.float32).ravel()):
            raise ValueError(f"places lie outside a room of {' × '.join(map(str, self.size))} cells")
        self.places, self.np_random = places.copy(), loaded_random(state["random"])


for version in (0, 1):
    gymnasium.register(f"sonarium/Playground-v{version}", f"{__name__}:Playground", max_episode_steps=300)
