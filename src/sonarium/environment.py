"""Environments whose state a checkpoint can save: base classes for rooms, packages and examples."""

import copy
from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

Tree = Any
"""Dictionaries and lists of arrays, numbers, strings and NumPy generators, as in `training/contract.py`."""


class EnvironmentFault(ValueError):
    """A fault of an environment, with a one-line message that names it."""


class StatefulEnv(gymnasium.Env, ABC):
    """An environment whose complete state, random generators included, is a tree that a checkpoint can save."""

    @abstractmethod
    def state_dict(self) -> Tree: ...

    @abstractmethod
    def load_state_dict(self, state: Tree, /) -> None: ...


class StatefulVectorEnv(VectorEnv, ABC):
    """A vector environment whose complete state, random generators included, is a tree for checkpoints."""

    @abstractmethod
    def state_dict(self) -> Tree: ...

    @abstractmethod
    def load_state_dict(self, state: Tree, /) -> None: ...


def loaded_random(random: Any) -> np.random.Generator:
    """Copy of a generator from a saved state; raises ValueError for anything else."""
    if not isinstance(random, np.random.Generator):
        raise ValueError(f"random is {random!r:.60}, expected the state of a generator")
    return copy.deepcopy(random)
