"""`sonarium/Seek-v0`: one agent seeks sound sources in one room by binaural audio (after OtoWorld, arXiv
2007.06123).

    env = gymnasium.make("sonarium/Seek-v0", room="ngon", sources=2, reward="default")

Every field of SeekConfig is a keyword argument. An episode terminates when all sources are found, and is truncated
after `max_steps`.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled
from jaxtyping import Float, UInt8

from sonarium.environment import StatefulEnv, Tree, loaded_random
from sonarium.features.ears import Ears
from sonarium.rooms.seek import state
from sonarium.rooms.seek.config import SeekConfig, configured
from sonarium.rooms.seek.episode import Episodes, Scene, feature_limit, tells_category
from sonarium.worlds.contract import World

RENDER_MODES = ("human", "rgb_array", "ansi")
ACTIONS = {
    "turn": ("forward", "back", "turn left", "turn right"),
    "compass": ("up", "down", "left", "right", "turn left", "turn right"),
}
"""Meaning of the discrete actions."""
FRAMES = 4
"""Frames per second where steps have no duration."""
METADATA = {"render_modes": list(RENDER_MODES), "render_fps": FRAMES}


def sound_in(observation: Any) -> Float[np.ndarray, "*slots 2 window"]:
    """The waveform of an observation, which may also hold pose and target."""
    return observation["audio"] if isinstance(observation, Mapping) else observation


class Seek(StatefulEnv):
    """One room. `info` holds the number of sources `found`, whether all are found, `is_success`, and with
    `oracle_info` pose, sources and shortest path; with `source_info`, for each source, whether it is `on`, its
    `lateral` angle, and its spatial image in `images`: the source alone, at both ears.

    Options of `reset` are a `room` (a Room), the `places` of the sources, (source, 2), and a `pose`, (x, y,
    heading); the rest is drawn.
    """

    metadata: dict[str, Any] = METADATA

    def __init__(
        self,
        config: SeekConfig | None = None,
        render_mode: str | None = None,
        world: World | None = None,
        **changes: Any,
    ) -> None:
        self.config = configured(config, changes)
        self.render_mode = checked_mode(render_mode)
        self.metadata = self.metadata | {
            "render_fps": frames_per_second(self.config),
            "sound_rate": self.config.rate,
            "sound_sources": self.config.emitters,
            "sound_clock": self.config.clock,
            "ear_distance": self.config.ear_distance,
            "head": self.config.head,
        }
        self.observation_space, self.action_space = observation_space(self.config), action_space(self.config)
        self.world, self.episodes = world, Episodes(self.config, 1, world, record=True)
        self.window: Window | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episodes.begin(0, self.np_random, seed is not None, options or None)
        observation, info = only(self.episodes.observe()), self.info()
        if self.config.oracle_info:
            info["reachable_distance"] = float(self.episodes.left[0])
        self.show()
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        actions = checked_actions(self.config, np.asarray(action)[None], 1)
        outcome = self.episodes.step(actions, np.ones(1, bool))
        observation = only(self.episodes.observe())
        self.show()
        terminated, truncated = bool(outcome.terminated[0]), bool(outcome.truncated[0])
        return observation, float(outcome.reward[0]), terminated, truncated, self.info()

    def state_dict(self) -> Tree:
        return {"episode": state.saved(self.episodes), "random": deepcopy(self.np_random)}

    def load_state_dict(self, saved: Tree, /) -> None:
        self.np_random = loaded_random(saved["random"])
        state.load(self.episodes, saved["episode"])

    def __getstate__(self) -> dict[str, Any]:
        # A copy opens its own window.
        return vars(self) | {"window": None}

    def info(self) -> dict[str, Any]:
        told = {name: values[0] for name, values in self.episodes.info().items()}
        return {name: value if value.ndim else value.item() for name, value in told.items()}

    def scene(self) -> Scene:
        """The data for a picture of the current state."""
        return self.episodes.scene(0)

    def heard(self) -> Float[np.ndarray, "2 window"]:
        """The last binaural waveform, even if features are observed."""
        return self.episodes.heard[0].copy()

    def render(self) -> Any:
        if self.render_mode == "human":
            self.show()
            return None
        return drawn(self.scene(), self.render_mode)

    def show(self) -> None:
        """Update the window in render_mode human."""
        if self.render_mode == "human":
            self.window = self.window or Window(self.metadata["render_fps"])
            self.window.show(drawn(self.scene(), "rgb_array"))

    def close(self) -> None:
        if self.window is not None:
            self.window.close()
            self.window = None


def drawn(scene: Scene, mode: str | None) -> Any:
    """A picture as an array or as text; None without a render mode."""
    # Training should not import drawing libraries.
    from sonarium.rooms.draw import ansi, floorplan

    if mode == "ansi":
        return ansi.text(scene)
    return floorplan.picture(scene) if mode == "rgb_array" else None


class Window:
    """A pygame window."""

    def __init__(self, frames: int) -> None:
        try:
            import pygame
        except ImportError:
            raise DependencyNotInstalled(
                "render_mode='human' shows a window by pygame, which is not installed: `pip install pygame`, or "
                "choose render_mode='rgb_array' or 'ansi'"
            ) from None
        self.pygame, self.frames = pygame, frames
        pygame.display.init()
        self.screen: Any = None
        self.clock = pygame.time.Clock()

    def show(self, picture: UInt8[np.ndarray, "row column 3"]) -> None:
        """Show the picture, at most at the frame rate."""
        if self.screen is None:
            self.screen = self.pygame.display.set_mode((picture.shape[1], picture.shape[0]))
            self.pygame.display.set_caption("Sonarium")
        surface = self.pygame.image.frombuffer(np.ascontiguousarray(picture), picture.shape[1::-1], "RGB")
        self.screen.blit(surface, (0, 0))
        self.pygame.event.pump()
        self.pygame.display.flip()
        self.clock.tick(self.frames)

    def close(self) -> None:
        self.pygame.display.quit()


def checked_mode(mode: str | None) -> str | None:
    if mode is not None and mode not in RENDER_MODES:
        raise ValueError(f"render_mode='{mode}': choose one of {', '.join(RENDER_MODES)}, or None")
    return mode


def frames_per_second(config: SeekConfig) -> int:
    """Frame rate of rendering: the step rate, where steps have a duration."""
    return max(1, round(1 / config.seconds)) if config.clock == "stream" else FRAMES


def only(observation: np.ndarray | dict[str, np.ndarray]) -> Any:
    """The observation of the only slot."""
    if isinstance(observation, dict):
        return {name: values[0] for name, values in observation.items()}
    return observation[0]


def observation_space(config: SeekConfig) -> gymnasium.Space:
    """The observation space of one room."""
    name, sensed = "audio", spaces.Box(-1.0, 1.0, (2, config.window), np.float32)
    if config.observation == "features":
        limit = feature_limit(config)
        shape = Ears(config.ears, config.rate).shape(config.window)
        name, sensed = "features", spaces.Box(-limit, limit, shape, np.float32)
    observed: dict[str, gymnasium.Space] = {name: sensed}
    if config.pose:
        high = np.array([config.extent, config.extent, np.pi], np.float32)
        observed["pose"] = spaces.Box(-high, high, dtype=np.float32)
    if tells_category(config):
        observed["target"] = spaces.Discrete(len(config.sounds))
    return sensed if len(observed) == 1 else spaces.Dict(observed)


def action_space(config: SeekConfig) -> gymnasium.Space:
    """The action space of one room."""
    if config.actions == "continuous":
        return spaces.Box(-1.0, 1.0, (2,), np.float32)
    return spaces.Discrete(len(ACTIONS[config.actions]))


def checked_actions(config: SeekConfig, actions: np.ndarray, slots: int) -> np.ndarray:
    """Actions as an array, (slot,) or (slot, 2); raises ValueError for those outside the action space."""
    if config.actions == "continuous":
        fits = actions.shape == (slots, 2) and np.issubdtype(actions.dtype, np.number)
        # NaN fails the comparison.
        if not fits or not (np.abs(actions) <= 1).all():
            raise ValueError(
                f"got the action {described(actions, slots)}: give two numbers from -1 to 1, forward and left turn"
            )
        return actions
    names = ACTIONS[config.actions]
    fits = actions.shape == (slots,) and np.issubdtype(actions.dtype, np.integer)
    if not fits or not ((actions >= 0) & (actions < len(names))).all():
        listed = ", ".join(f"{number} {name}" for number, name in enumerate(names))
        raise ValueError(f"got the action {described(actions, slots)}: give a whole number of {listed}")
    return actions


def described(actions: np.ndarray, slots: int) -> str:
    return str(actions.tolist()[0]) if slots == 1 else f"array of shape {actions.shape} {actions.tolist()}"
