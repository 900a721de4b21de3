"""Flattening and rebuilding of nested observation and action spaces, and of their elements."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from jaxtyping import Int

SHORTEST_SOUND = 256
"""Minimum number of samples for an array of channels and time to count as sound."""
MOST_EARS = 8
ADDRESS = re.compile(r"( object)? at 0x[0-9a-f]+")
"""Memory address in Python's default representation of an object."""


def parts_of(space: Space) -> list[Space]:
    """Leaves of a nested space, in the order of `flat`."""
    if isinstance(space, spaces.Dict):
        return [one for name in sorted(space.spaces) for one in parts_of(space[name])]
    return [one for part in space for one in parts_of(part)] if isinstance(space, spaces.Tuple) else [space]


def flat(space: Space, observation: Any) -> list[Any]:
    if isinstance(space, spaces.Dict):
        assert isinstance(observation, Mapping)
        return [one for name in sorted(space.spaces) for one in flat(space[name], observation[name])]
    if isinstance(space, spaces.Tuple):
        return [one for part, seen in zip(space, observation, strict=True) for one in flat(part, seen)]
    return [observation]


def nested(space: Space, parts: Iterator[Any]) -> Any:
    """Nested observation with these leaves, in the order of `flat`."""
    if isinstance(space, spaces.Dict):
        found = {name: nested(space[name], parts) for name in sorted(space.spaces)}
        return {name: found[name] for name in space.spaces}
    return tuple(nested(part, parts) for part in space) if isinstance(space, spaces.Tuple) else next(parts)


def joined(space: Space, parts: Iterator[Space]) -> Space:
    """Nested space with these leaves, in the order of `flat`."""
    if isinstance(space, spaces.Dict):
        found = {name: joined(space[name], parts) for name in sorted(space.spaces)}
        return spaces.Dict({name: found[name] for name in space.spaces})
    return (
        spaces.Tuple([joined(part, parts) for part in space]) if isinstance(space, spaces.Tuple) else next(parts)
    )


def text_of(thing: Any) -> str:
    """One-line representation of a space or any object, the same in every process."""
    return ADDRESS.sub("", " ".join(str(thing).split()))


def is_sound(space: Space) -> bool:
    """Whether this is the space of a sound, an array of channels and time."""
    shape = space.shape or ()
    few = len(shape) == 2 and shape[0] <= MOST_EARS and shape[1] >= SHORTEST_SOUND
    return few and isinstance(space, spaces.Box) and space.dtype != np.uint8


def sizes_of(space: spaces.Discrete | spaces.MultiDiscrete) -> tuple[list[int], Int[np.ndarray, "*shape"]]:
    """Number of categories of each discrete variable, and its first category."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)], np.array(space.start)
    return [int(size) for size in space.nvec.reshape(-1)], np.array(space.start)
