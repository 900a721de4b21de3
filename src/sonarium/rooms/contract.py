"""The contract of a room shape: the catalogue entry of a value of `SeekConfig.room`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sonarium.rooms.seek.config import SeekConfig


@dataclass(frozen=True)
class RoomEntry:
    """Catalogue entry of a random room shape."""

    summary: str
    draw: Callable[["SeekConfig", np.random.Generator], Any]
    """Corners (x, y) of a simple polygon in metres, (corner 2), from a configuration and a random generator. Its
    extent should lie between `config.smallest` and `config.largest`; the environment moves it to the origin."""
