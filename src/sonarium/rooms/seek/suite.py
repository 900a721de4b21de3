"""seek-suite: named settings of the environment that a rule cannot solve, each with held-out episodes.

Settings are frozen: results in docs/rooms.md stay comparable. Agents train in `trained`, which is registered with
Gymnasium as `sonarium/Seek-NAME-v0`, and are tested in `tested`, on seeds from `HELD_OUT` on and on sounds that
are not played in training: other variants of the same kinds, in `unseen-kinds` other kinds in other rooms.
"""

from dataclasses import dataclass, replace
from typing import Any

from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.vector import SeekVector

HELD_OUT = 2**32
"""Seed of the first episode of every test; training draws its seeds below 2³¹."""
UNHEARD = 1000
"""First variant of each built-in sound in tests."""


@dataclass(frozen=True)
class Setting:
    trained: SeekConfig
    tested: SeekConfig


def setting(tested: dict[str, Any] | None = None, **changes: Any) -> Setting:
    trained = SeekConfig(**changes)
    return Setting(trained, replace(trained, first_variant=UNHEARD, **(tested or {})))


SUITE = {
    "default": setting(),
    "nonconvex-4": setting(room="nonconvex", sources=4),
    "intermittent": setting(burst=0.3, period=4.0),
    "noise-4": setting(diffuse_noise=-30.0, sources=4),
    "hard-3d": setting(height=3.0, absorption=0.1, order=12, max_steps=100),
    "named-target": setting(sources=1, distractors=3, max_steps=100),
    "moving": setting(moving=0.25, max_steps=100),
    "stops": setting(stops=2.0, max_steps=100),
    "dry": setting(absorption=1.0, order=0, max_steps=100),
    "rt60-300": setting(rt60=0.3, order=20, max_steps=100),
    "rt60-500": setting(rt60=0.5, order=30, max_steps=100),
    "rt60-800": setting(rt60=0.8, order=40, max_steps=100),
    "unseen-kinds": setting(
        {"room": "nonconvex", "sounds": ("bird", "babble")}, room="ngon", sounds=("phone", "siren", "tones")
    ),
}
"""The settings of `sonarium.rooms.SUITE`."""


def single(suite: str, **changes: Any) -> Seek:
    """One training room of a setting."""
    return Seek(SUITE[suite].trained, **changes)


def vector(suite: str, **changes: Any) -> SeekVector:
    """Parallel training rooms of a setting."""
    return SeekVector(config=SUITE[suite].trained, **changes)
