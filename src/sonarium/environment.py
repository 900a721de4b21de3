"""Environments that a checkpoint can keep: what rooms, packages and examples extend, and what agents ask for."""

import copy
from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

Tree = Any
"""Dictionaries and lists of arrays, numbers, strings and NumPy generators, as in `training/contract.py`."""


class EnvironmentFault(ValueError):
    """What is wrong with an environment, in one line that names it."""


class StatefulEnv(gymnasium.Env, ABC):
    """An environment whose whole state, its random numbers among them, is a tree that a checkpoint can keep."""

    @abstractmethod
    def state_dict(self) -> Tree: ...

    @abstractmethod
    def load_state_dict(self, state: Tree, /) -> None: ...


class StatefulVectorEnv(VectorEnv, ABC):
    """A vector environment whose whole state, its random numbers among them, is a tree that a checkpoint keeps."""

    @abstractmethod
    def state_dict(self) -> Tree: ...

    @abstractmethod
    def load_state_dict(self, state: Tree, /) -> None: ...


def loaded_random(random: Any) -> np.random.Generator:
    """A copy of a generator in a saved state; a ValueError of anything else."""
    if not isinstance(random, np.random.Generator):
        raise ValueError(f"random is {random!r:.60}, expected the state of a generator")
    return copy.deepcopy(random)
