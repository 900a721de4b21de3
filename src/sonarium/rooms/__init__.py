"""Rooms: room acoustics, and the environments `sonarium/Seek-v0` and `sonarium/SeekVector-v0`.

Importing this package registers the environments with Gymnasium; the acoustics are imported at first use:

    from sonarium.rooms import shoebox, simulate

    responses = simulate(shoebox((6, 4, 3)), sources=[(1, 1, 1.5)], ears=[(4, 2, 1.6), (4.2, 2, 1.6)])
"""

from importlib import import_module
from typing import Any

import gymnasium

SEEK = "sonarium/Seek-v0"
SEEK_VECTOR = "sonarium/SeekVector-v0"


def register(name: str) -> None:
    """One room with `gymnasium.make`, many in parallel with `gymnasium.make_vec`."""
    if name not in gymnasium.registry:
        gymnasium.register(
            name,
            entry_point="sonarium.rooms.seek.env:Seek",
            vector_entry_point="sonarium.rooms.seek.vector:SeekVector",
        )


register(SEEK)
register(SEEK_VECTOR)

LIBRARY = {
    "Room": "geometry", "polygon": "geometry", "regular": "geometry", "shoebox": "geometry",
    "Air": "absorption",
    "absorption_for": "reverberation",
    "lead": "impulse_responses", "render": "impulse_responses", "simulate": "impulse_responses",
    "Acoustics": "simulator",
}  # fmt: skip
"""Public names of `sonarium.rooms`, and the module of `acoustics` that defines each."""


def __getattr__(name: str) -> Any:
    if name not in LIBRARY:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.acoustics.{LIBRARY[name]}"), name)
