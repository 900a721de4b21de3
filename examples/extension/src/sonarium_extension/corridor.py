"""A room: a corridor with a bend, around which sound is heard before its source is seen."""

import numpy as np
from jaxtyping import Float

from sonarium.rooms.contract import RoomEntry
from sonarium.rooms.seek.config import SeekConfig

NARROW, WIDE = 1.6, 2.4
"""Range of widths in metres, in rooms that are large enough."""


def corridor(config: SeekConfig, random: np.random.Generator) -> Float[np.ndarray, "corner 2"]:
    """Two arms at a right angle, randomly rotated by multiples of 90°; the outer walls span the extent."""
    x, y = random.uniform(config.smallest, config.largest, 2)
    width = min(random.uniform(NARROW, WIDE), 0.4 * config.smallest)
    corners = np.array([(0, 0), (x, 0), (x, width), (width, width), (width, y), (0, y)])
    return corners @ np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), int(random.integers(4)))


CORRIDOR = RoomEntry("Corridors with a bend, whose arms are from `smallest` to `largest` long.", corridor)
