"""Adapters to older interfaces: Stable-Baselines3's VecEnv, and the `info` keys of Gymnasium 0.29 that CleanRL
reads."""

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorWrapper

from sonarium.rooms.seek.vector import SeekVector

if TYPE_CHECKING:
    from sonarium.rooms.seek.sb3 import SeekVecEnv


def to_sb3(vector: SeekVector) -> "SeekVecEnv":
    """The environments as a VecEnv, whose infos hold `terminal_observation` and `TimeLimit.truncated`."""
    check_same_step(vector)
    try:
        from sonarium.rooms.seek.sb3 import SeekVecEnv
    except ImportError:
        raise ValueError(
            "to_sb3 needs the package stable-baselines3, which is not installed: `pip install stable-baselines3`"
        ) from None
    return SeekVecEnv(vector)


class CleanRL(VectorWrapper):
    """Infos with `final_observation`, and with `final_info` as one dictionary per finished episode, which holds
    return and length in the format of RecordEpisodeStatistics: `info["episode"]["r"]`."""

    def __init__(self, vector: SeekVector) -> None:
        check_same_step(vector)
        super().__init__(vector)
        self.returns, self.lengths = np.zeros(vector.num_envs), np.zeros(vector.num_envs, int)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self.returns[:], self.lengths[:] = 0, 0
        return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observations, rewards, terminated, truncated, infos = super().step(actions)
        self.returns += rewards
        self.lengths += 1
        over = terminated | truncated
        if over.any():
            infos = self.older(infos, over)
            self.returns[over], self.lengths[over] = 0, 0
        return observations, rewards, terminated, truncated, infos

    def older(self, infos: dict[str, Any], over: np.ndarray) -> dict[str, Any]:
        """The infos with the keys of Gymnasium 0.29."""
        kept = {name: values for name, values in infos.items() if not name.lstrip("_").startswith("final_")}
        ends = np.full(len(over), None, object)
        told = one_by_one(infos["final_info"], len(over))
        for slot in np.flatnonzero(over).tolist():
            episode = {"r": self.returns[[slot]], "l": self.lengths[[slot]]}
            ends[slot] = told[slot] | {"episode": episode}
        return kept | {
            "final_observation": infos["final_obs"],
            "_final_observation": over.copy(),
            "final_info": ends,
            "_final_info": over.copy(),
        }


def one_by_one(infos: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Infos of a vector environment as one dictionary per environment."""
    told: list[dict[str, Any]] = [{} for _ in range(count)]
    for name in infos:
        # Final observations and infos have separate keys.
        if name.startswith(("_", "final_")):
            continue
        for slot in np.flatnonzero(infos[f"_{name}"]).tolist():
            value = infos[name][slot]
            told[slot][name] = value.item() if isinstance(value, np.generic) else value
    return told


def check_same_step(vector: SeekVector) -> None:
    """Raise ValueError for autoreset modes that these learners do not expect."""
    if not isinstance(vector, SeekVector):
        raise ValueError(f"got a {type(vector).__name__}: give a SeekVector, as gymnasium.make_vec makes")
    if vector.autoreset_mode is not AutoresetMode.SAME_STEP:
        raise ValueError(
            f"got autoreset_mode {vector.autoreset_mode.value}: make the environments with "
            "autoreset_mode='SameStep', which these learners expect"
        )
