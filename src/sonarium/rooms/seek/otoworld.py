"""The environments of OtoWorld's two experiments (arXiv 2007.06123): a telephone and a siren in an anechoic room
of 8 × 8 m.

Each observation is the whole sound from its beginning, as in OtoWorld, but of 1 s instead of 4.3 s. Sources are at
least two steps apart, and the start is at least two radii from them. The originals have OtoWorld's reward and
observe x, y and heading; the others have the default reward and observe only sound.
"""

from dataclasses import replace
from typing import Any

from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.vector import SeekVector

BOTH = SeekConfig(
    max_steps=1000,
    radius=1.0,
    clock="clip",
    loop=1.0,
    sounds=("phone", "siren"),
    new_sounds=False,
    variants=1,
    room="fixed",
    size=(8.0, 8.0),
    absorption=1.0,
    order=10,
    start_distance=2.0,
)
OWN = {
    "1": replace(BOTH, step=0.5, source_distance=1.0),
    "2": replace(BOTH, step=1.0, source_distance=2.0, layout_seed=7),
}
EXPERIMENTS = OWN | {f"{name}-original": replace(one, pose=True, reward="otoworld") for name, one in OWN.items()}
"""The environments of `sonarium.rooms.OTOWORLD`."""


def single(experiment: str, **changes: Any) -> Seek:
    """One room of an experiment."""
    return Seek(EXPERIMENTS[experiment], **changes)


def vector(experiment: str, **changes: Any) -> SeekVector:
    """Parallel rooms of an experiment."""
    return SeekVector(config=EXPERIMENTS[experiment], **changes)
