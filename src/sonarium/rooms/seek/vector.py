"""`sonarium/SeekVector-v0`: many rooms in parallel, in one process and one compiled kernel.

    envs = gymnasium.make_vec("sonarium/Seek-v0", num_envs=256, room="ngon")

Slot i, seeded s + i, equals the single environment seeded s + i. `metadata["autoreset_mode"]` declares how
episodes restart: in the next step (NEXT_STEP), in the same step, with the final observation and info in
`final_obs` and `final_info` (SAME_STEP), or by the user, with `reset(options={"reset_mask": ...})` (DISABLED).
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Int

from sonarium.environment import StatefulVectorEnv, Tree, loaded_random
from sonarium.rooms.seek import state
from sonarium.rooms.seek.config import SeekConfig, configured
from sonarium.rooms.seek.env import (
    METADATA,
    Window,
    action_space,
    checked_actions,
    checked_mode,
    drawn,
    frames_per_second,
    observation_space,
)
from sonarium.rooms.seek.episode import Episodes, Scene
from sonarium.worlds.contract import World

Observations = np.ndarray | dict[str, np.ndarray]


class SeekVector(StatefulVectorEnv):
    """Rooms in parallel, each with its own random generator."""

    metadata: dict[str, Any] = METADATA | {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        config: SeekConfig | None = None,
        render_mode: str | None = None,
        world: World | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        **changes: Any,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs}: give at least 1 room")
        self.config = configured(config, changes)
        if max_episode_steps is not None:
            self.config = replace(self.config, max_steps=min(self.config.max_steps, max_episode_steps))
        self.num_envs = num_envs
        self.render_mode = checked_mode(render_mode)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = self.metadata | {
            "autoreset_mode": self.autoreset_mode,
            "render_fps": frames_per_second(self.config),
            "sound_rate": self.config.rate,
            "sound_sources": self.config.emitters,
            "sound_clock": self.config.clock,
            "ear_distance": self.config.ear_distance,
            "head": self.config.head,
        }
        self.single_observation_space = observation_space(self.config)
        self.single_action_space = action_space(self.config)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.episodes = Episodes(self.config, num_envs, world, record=render_mode is not None)
        self.randoms: list[np.random.Generator | None] = [None] * num_envs
        self.over = np.zeros(num_envs, bool)
        self.begun = False
        self.last: Observations | None = None
        self.window: Window | None = None

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all rooms, or with autoreset DISABLED those selected by the mask `options["reset_mask"]`."""
        seeds = seeds_of(seed, self.num_envs)
        super().reset(seed=seeds[0])
        rest = dict(options or {})
        chosen = checked_mask(rest.pop("reset_mask", None), self.num_envs)
        if not self.begun and not chosen.all():
            raise ResetNeeded("reset_mask leaves out rooms that were never reset: first call reset() without it")
        if not chosen.all() and self.autoreset_mode is not AutoresetMode.DISABLED:
            raise ValueError(
                f"reset_mask leaves out rooms, with autoreset_mode {self.autoreset_mode.value}: make the "
                "environments with autoreset_mode='Disabled', or reset all of them"
            )
        for slot in np.flatnonzero(chosen).tolist():
            self.begin(slot, seeds[slot], rest or None)
        self.over[chosen], self.begun = False, True
        if chosen.all():
            observations = self.episodes.observe()
        else:
            assert self.last is not None
            observations = deepcopy(self.last)
            self.listen(observations, np.flatnonzero(chosen))
        self.remember(observations)
        self.show()
        return observations, self.infos(chosen, chosen)

    def step(
        self, actions: Any
    ) -> tuple[Any, np.ndarray, Bool[np.ndarray, " slot"], Bool[np.ndarray, " slot"], dict[str, Any]]:
        if not self.begun:
            raise ResetNeeded("step() before reset(): call reset() first")
        anew = self.over if self.autoreset_mode is AutoresetMode.NEXT_STEP else np.zeros(self.num_envs, bool)
        outcome = self.episodes.step(self.checked(actions, ~anew), ~anew)
        for slot in np.flatnonzero(anew).tolist():
            self.begin(slot, None, None)
        observations = self.episodes.observe()
        self.over = outcome.terminated | outcome.truncated
        every = np.ones(self.num_envs, bool)
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self.over.any():
            infos = self.go_on(observations)
        else:
            infos = self.infos(every, anew)
        self.remember(observations)
        self.show()
        return observations, outcome.reward, outcome.terminated, outcome.truncated, infos

    def checked(self, actions: Any, stepping: Bool[np.ndarray, " slot"]) -> np.ndarray:
        """The validated actions; those of rooms that are reset in this step are ignored."""
        given = np.array(actions)
        if not stepping.all() and given.shape[:1] == (self.num_envs,):
            given[~stepping] = 0
        return checked_actions(self.config, given, self.num_envs)

    def begin(self, slot: int, seed: int | None, options: dict[str, Any] | None) -> None:
        random = self.randoms[slot]
        if random is None or seed is not None:
            random = self.randoms[slot] = seeding.np_random(seed)[0]
        self.episodes.begin(slot, random, seed is not None, options)

    def go_on(self, observations: Observations) -> dict[str, Any]:
        """Reset the rooms whose episode is over, in the same step; returns infos with `final_obs` and
        `final_info`."""
        over = self.over.copy()
        ended = self.infos(over, np.zeros(self.num_envs, bool))
        final = np.full(self.num_envs, None, object)
        for slot in np.flatnonzero(over).tolist():
            final[slot] = deepcopy(row(observations, slot))
            self.begin(slot, None, None)
        self.listen(observations, np.flatnonzero(over))
        infos = self.infos(np.ones(self.num_envs, bool), over)
        return infos | {
            "final_obs": final,
            "_final_obs": over,
            "final_info": ended,
            "_final_info": over.copy(),
        }

    def listen(self, observations: Observations, slots: Int[np.ndarray, " some"]) -> None:
        """Write the first observations of some rooms into the batch of all rooms."""
        heard = self.episodes.observe(slots)
        if isinstance(observations, dict):
            assert isinstance(heard, dict)
            for name, values in observations.items():
                values[slots] = heard[name]
        else:
            observations[slots] = heard

    def infos(self, told: Bool[np.ndarray, " slot"], begun: Bool[np.ndarray, " slot"]) -> dict[str, Any]:
        """`info` of some rooms, with masks; where episodes begin, also the shortest path through all sources."""
        found: dict[str, Any] = {}
        for name, values in self.episodes.info().items():
            values[~told] = 0
            found |= {name: values, f"_{name}": told.copy()}
        if self.config.oracle_info and begun.any():
            way = np.where(begun, self.episodes.left, 0.0)
            found |= {"reachable_distance": way, "_reachable_distance": begun.copy()}
        return found

    def remember(self, observations: Observations) -> None:
        """Keep the observations for rooms that a later reset leaves out."""
        if self.autoreset_mode is AutoresetMode.DISABLED:
            self.last = deepcopy(observations)

    def state_dict(self) -> Tree:
        return {
            "episodes": state.saved(self.episodes),
            "randoms": deepcopy(self.randoms),
            "over": self.over.copy(),
            "begun": self.begun,
            "last": deepcopy(self.last),
        }

    def load_state_dict(self, saved: Tree, /) -> None:
        randoms, last = saved["randoms"], saved["last"]
        if not isinstance(randoms, list) or len(randoms) != self.num_envs or type(saved["begun"]) is not bool:
            raise ValueError(f"the state is none of {self.num_envs} rooms")
        if saved["begun"] != all(random is not None for random in randoms):
            raise ValueError("randoms lacks the generator of a room, or has one too many")
        over = state.array(saved, "over", self.over)
        known = isinstance(last, np.ndarray | dict) and self.observation_space.contains(last)
        if last is not None and not known:
            raise ValueError("last is not an observation of these rooms")
        state.load(self.episodes, saved["episodes"])
        if saved["begun"] and None in self.episodes.layouts:
            raise ValueError("slots lacks a room")
        self.randoms = [None if random is None else loaded_random(random) for random in randoms]
        self.over, self.begun, self.last = over, saved["begun"], deepcopy(last)

    def __getstate__(self) -> dict[str, Any]:
        # A copy opens its own window.
        return vars(self) | {"window": None}

    def scene(self, slot: int) -> Scene:
        """The data for a picture of one room."""
        return self.episodes.scene(slot)

    def render(self) -> Any:
        """One picture per room."""
        if self.render_mode == "human":
            self.show()
            return None
        if self.render_mode is None:
            return None
        return tuple(drawn(self.scene(slot), self.render_mode) for slot in range(self.num_envs))

    def show(self) -> None:
        """Update the window in render_mode human; it shows the first room."""
        if self.render_mode == "human":
            self.window = self.window or Window(self.metadata["render_fps"])
            self.window.show(drawn(self.scene(0), "rgb_array"))

    def close_extras(self) -> None:
        if self.window is not None:
            self.window.close()
            self.window = None


def seeds_of(seed: int | Sequence[int | None] | None, count: int) -> list[int | None]:
    """One seed per room: consecutive for a number, None for None."""
    if seed is None:
        return [None] * count
    if isinstance(seed, int | np.integer):
        return [int(seed) + slot for slot in range(count)]
    if len(seed) != count:
        raise ValueError(f"got {len(seed)} seeds for {count} rooms: give one number, or one per room")
    return list(seed)


def checked_mask(mask: Any, count: int) -> Bool[np.ndarray, " slot"]:
    """Mask of the rooms to reset: all of them by default, otherwise at least one."""
    if mask is None:
        return np.ones(count, bool)
    if not isinstance(mask, np.ndarray) or mask.shape != (count,) or mask.dtype != bool or not mask.any():
        raise ValueError(
            f"got reset_mask {mask!r}: give a boolean array of shape ({count},) with at least one True"
        )
    return mask.copy()


def row(observations: Observations, slot: int) -> Any:
    """The observation of one room."""
    if isinstance(observations, dict):
        return {name: values[slot] for name, values in observations.items()}
    return observations[slot]
