"""Rooms: room acoustics, and the environments `sonarium/Seek-v0` and `sonarium/SeekVector-v0`.

Importing this package registers the environments with Gymnasium; the acoustics are imported at first use:

    from sonarium.rooms import shoebox, simulate

    responses = simulate(shoebox((6, 4, 3)), sources=[(1, 1, 1.5)], ears=[(4, 2, 1.6), (4.2, 2, 1.6)])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from sonarium.rooms.acoustics.absorption import Air
    from sonarium.rooms.acoustics.geometry import Room, polygon, regular, shoebox
    from sonarium.rooms.acoustics.impulse_responses import lead, render, simulate
    from sonarium.rooms.acoustics.reverberation import absorption_for, measure_decay, reverberation_time
    from sonarium.rooms.acoustics.simulator import Acoustics

__all__ = [
    "OTOWORLD", "SEEK", "SEEK_VECTOR", "SUITE", "Acoustics", "Air", "Room", "absorption_for", "lead",
    "measure_decay", "otoworld_id", "polygon", "regular", "render", "reverberation_time", "shoebox", "simulate",
    "suite_id",
]  # fmt: skip
SEEK = "sonarium/Seek-v0"
SEEK_VECTOR = "sonarium/SeekVector-v0"


def register(name: str, single: str = "env:Seek", vector: str = "vector:SeekVector", **settings: str) -> None:
    """Register an environment: one room with `gymnasium.make`, parallel rooms with `gymnasium.make_vec`."""
    if name not in gymnasium.registry:
        gymnasium.register(
            name,
            entry_point=f"sonarium.rooms.seek.{single}",
            vector_entry_point=f"sonarium.rooms.seek.{vector}",
            kwargs=settings,
        )


register(SEEK)
register(SEEK_VECTOR)

SUITE = {
    "default": "two sources in shoeboxes: all defaults",
    "nonconvex-4": "four sources in L, T, U and star-shaped rooms",
    "intermittent": "sounds of .3 s in every 4 s",
    "noise-4": "four sources in diffuse noise of −30 dBFS",
    "hard-3d": "reverberant rooms of 3 m height; 100 steps",
    "named-target": "one target, played first, among three distractors that end the episode; 100 steps",
    "moving": "two sources that walk .25 m a step; 100 steps",
    "stops": "two sources that fall silent after 2 s; 100 steps",
    "dry": "no reflections; 100 steps",
    "rt60-300": "a reverberation time of .3 s; 100 steps",
    "rt60-500": "a reverberation time of .5 s; 100 steps",
    "rt60-800": "a reverberation time of .8 s; 100 steps",
    "unseen-kinds": "tested with kinds of sound and of room that training has none of",
}
"""Descriptions of the settings of seek-suite (`seek/suite.py`)."""


def suite_id(setting: str) -> str:
    """Gymnasium id of the environments of a setting."""
    return f"sonarium/Seek-{setting}-v0"


OTOWORLD = {
    "1": "OtoWorld's experiment 1: new places in every episode, steps of .5 m",
    "2": "OtoWorld's experiment 2: the same places in every episode, steps of 1 m",
    "1-original": "the same as 1, with the reward and the pose that OtoWorld's agent had",
    "2-original": "the same as 2, with the reward and the pose that OtoWorld's agent had",
}
"""Descriptions of the environments of OtoWorld's experiments (`seek/otoworld.py`)."""


def otoworld_id(experiment: str) -> str:
    """Gymnasium id of the environments of an experiment."""
    return f"sonarium/OtoWorld-{experiment}-v0"


def register_all() -> None:
    """Register the environments of all settings and experiments."""
    for name in SUITE:
        register(suite_id(name), "suite:single", "suite:vector", suite=name)
    for name in OTOWORLD:
        register(otoworld_id(name), "otoworld:single", "otoworld:vector", experiment=name)


register_all()

LIBRARY = {
    "Room": "geometry", "polygon": "geometry", "regular": "geometry", "shoebox": "geometry",
    "Air": "absorption",
    "absorption_for": "reverberation", "measure_decay": "reverberation", "reverberation_time": "reverberation",
    "lead": "impulse_responses", "render": "impulse_responses", "simulate": "impulse_responses",
    "Acoustics": "simulator",
}  # fmt: skip
"""Public names of `sonarium.rooms`, and the module of `acoustics` that defines each."""


def __dir__() -> list[str]:
    return sorted({*globals(), *LIBRARY})


def __getattr__(name: str) -> Any:
    if name not in LIBRARY:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.acoustics.{LIBRARY[name]}"), name)
