"""The VecEnv of Stable-Baselines3 (Raffin et al., 2021); a separate file, because it imports that library."""

from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from sonarium.rooms.seek.adapters import one_by_one
from sonarium.rooms.seek.vector import SeekVector


class SeekVecEnv(VecEnv):
    """Autoreset in the same step; the info of a finished episode then holds `terminal_observation`."""

    def __init__(self, vector: SeekVector) -> None:
        self.vector = vector
        super().__init__(vector.num_envs, vector.single_observation_space, vector.single_action_space)
        self.actions: Any = None

    def reset(self) -> Any:
        options = next((options for options in self._options if options), None)
        observations, infos = self.vector.reset(seed=self._seeds, options=options)
        self.reset_infos = one_by_one(infos, self.num_envs)
        # Seeds and options hold for one reset.
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, terminated, truncated, infos = self.vector.step(self.actions)
        told = one_by_one(infos, self.num_envs)
        over = terminated | truncated
        if over.any():
            ends = one_by_one(infos["final_info"], self.num_envs)
        for slot in range(self.num_envs):
            if over[slot]:
                self.reset_infos[slot] = told[slot]
                told[slot] = ends[slot] | {"terminal_observation": infos["final_obs"][slot]}
            told[slot]["TimeLimit.truncated"] = bool(truncated[slot] and not terminated[slot])
        return observations, rewards.astype(np.float32), over, told

    def close(self) -> None:
        self.vector.close()

    def get_images(self) -> list[np.ndarray | None]:
        if self.vector.render_mode != "rgb_array":
            return [None] * self.num_envs
        return list(self.vector.render())

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute of the vector environment, once per index."""
        return [getattr(self.vector, attr_name) for _ in self.chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        if len(list(self.chosen(indices))) < self.num_envs:
            raise ValueError(
                f"'{attr_name}' belongs to all {self.num_envs} environments together: set it without indices"
            )
        setattr(self.vector, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of single environments: only `scene` exists; `render` draws all environments."""
        if method_name == "render":
            return [self.vector.render()]
        if method_name != "scene":
            raise ValueError(
                f"a single environment has no method '{method_name}': call that of `.vector`, for all of them"
            )
        return [self.vector.scene(slot) for slot in self.chosen(indices)]

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return [False for _ in self.chosen(indices)]

    def chosen(self, indices: VecEnvIndices) -> Iterable[int]:
        return self._get_indices(indices)
