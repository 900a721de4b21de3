"""Where the two ears of each listener are and point to, and which listeners are refused."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int

from sonarium.rooms.acoustics.beams import compiled


def place_ears(
    places: Float[np.ndarray, "listener axis"],
    headings: Float[np.ndarray, " listener"],
    slots: Int[np.ndarray, " slot"],
    dimensions: Int[np.ndarray, " room"],
    aside: float,
) -> Float[np.ndarray, "listener 2 5"]:
    """Place (x, y, z) and outward direction (x, y) of the left and the right ear, so far aside of the middle."""
    found = np.zeros((len(slots), 2, 5))
    middle, turn = np.asarray(places, np.float64), np.asarray(headings, np.float64)
    told = len(places) == len(headings) == len(slots)
    if not (told and lay(found, middle, turn, slots, dimensions, aside)):
        refuse(places, headings, slots, dimensions)
    return found


def refuse(places: np.ndarray, headings: np.ndarray, slots: np.ndarray, dimensions: np.ndarray) -> None:
    """Say why somebody would hear silence, or another room."""
    empty = slots[dimensions[slots] == 0]
    if len(empty):
        raise ValueError(f"nobody has entered slot {empty[0]}: give it a room first")
    axes = int(dimensions[slots].max(initial=2))
    if len(places) != len(slots) or len(headings) != len(slots) or places.shape[1] < axes:
        raise ValueError(
            f"got places of shape {places.shape} and {len(headings)} headings for {len(slots)} slots: give each "
            f"slot {axes} coordinates and a heading"
        )
    raise ValueError("places or headings hold NaN or infinite values: give metres and radians")


@compiled
@no_type_check
def lay(found, places, headings, slots, dimensions, aside):
    for number in range(len(slots)):
        dimension = dimensions[slots[number]]
        if dimension == 0 or dimension > places.shape[1]:
            return False
        left_x, left_y = -np.sin(headings[number]), np.cos(headings[number])
        for ear in range(2):
            side = 1.0 - 2.0 * ear
            here = found[number, ear]
            # A plane has no heights.
            here[:dimension] = places[number, :dimension]
            here[0] += aside * side * left_x
            here[1] += aside * side * left_y
            here[3], here[4] = side * left_x, side * left_y
            if not np.isfinite(here).all():
                return False
    return True
