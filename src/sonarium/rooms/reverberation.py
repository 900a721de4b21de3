"""How long a room rings: Sabine's and Eyring's formulas, both ways round, and what an impulse response tells.

Energy falls by 60 dB in T seconds, with one reflection every mean free path, 4V/S in space and πA/P in the plane.
From a response the decay is read by Schroeder's (1965) backward integration, as ISO 3382-1 does.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from sonarium.rooms.geometry import Room

SIXTY_DECIBELS = 6 * np.log(10)


def mean_free_path(room: Room) -> float:
    """Metres between two reflections, on average."""
    if room.height is None:
        return np.pi * room.area / room.perimeter
    return 4 * room.area * room.height / (2 * room.area + room.perimeter * room.height)


def absorption_for(
    room: Room, seconds: float | Sequence[float], formula: Literal["sabine", "eyring"] = "eyring"
) -> Float[np.ndarray, "wall band"]:
    """The same absorption of all walls with which sound falls by 60 dB in so many seconds, one figure or one a
    band. Air's part is taken off."""
    if formula not in ("sabine", "eyring"):
        raise ValueError(f"got formula '{formula}': choose sabine or eyring")
    wanted = np.atleast_1d(np.asarray(seconds, np.float64))
    if not (np.isfinite(wanted).all() and (wanted > 0).all()):
        raise ValueError(f"got a reverberation time of {seconds}: give positive seconds")
    nepers = SIXTY_DECIBELS / (room.speed * wanted) - 2 * room.air_absorption
    lost = nepers * mean_free_path(room)
    share = lost if formula == "sabine" else 1 - np.exp(-lost)
    if (share > 1).any() or (share < 0).any():
        shortest = SIXTY_DECIBELS * mean_free_path(room) / room.speed
        raise ValueError(
            f"{seconds} s of reverberation cannot be had by {formula} in this room: it would take an absorption "
            f"of {np.round(share, 2).tolist()}; walls that absorb all give {shortest:.2f} s by Sabine, and air "
            "sets a longest time"
        )
    return np.broadcast_to(share, (room.walls, room.absorption.shape[1])).copy()


def reverberation_time(room: Room, formula: Literal["sabine", "eyring"] = "eyring") -> Float[np.ndarray, " band"]:
    """Seconds for 60 dB by the formula, in each band."""
    lengths = np.linalg.norm(room.next_corners - room.corners, axis=1)
    surfaces = lengths if room.height is None else np.r_[lengths * room.height, room.area, room.area]
    mean = surfaces @ room.absorption / surfaces.sum()
    with np.errstate(divide="ignore"):
        lost = mean if formula == "sabine" else -np.log1p(-mean)
        return SIXTY_DECIBELS / (room.speed * (lost / mean_free_path(room) + 2 * room.air_absorption))
