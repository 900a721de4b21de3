"""Steps in each mode that makes seeking hard, compared with the default at the same number of sound sources."""

from typing import Any

import numpy as np

from sonarium.bench.timing import case, interleaved
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.vector import SeekVector

ROOMS = 64
STEPS = 16
MODES: dict[str, dict[str, Any]] = {
    "diffuse noise": {"diffuse_noise": -30.0},
    "point noise": {"point_noise": -30.0},
    "sounds that stop": {"stops": 2.0},
    "intermittent sounds": {"burst": 0.3},
    "target told by sound": {"sources": 1, "distractors": 3},
    "target told as a category": {"sources": 1, "distractors": 3, "target": "category"},
    "moving sources": {"moving": 0.25},
    "moving sources, non-convex rooms": {"moving": 0.25, "room": "nonconvex"},
    "the whole clip, moving sources": {"moving": 0.25, "clock": "clip", "loop": 1.0, "period": 1.0},
    "reverberation time 0.3 s, order 20": {"rt60": 0.3, "order": 20},
    "reverberation time 0.5 s, order 30": {"rt60": 0.5, "order": 30},
    "reverberation time 0.8 s, order 40": {"rt60": 0.8, "order": 40},
    "three dimensions, order 12": {"height": 3.0, "absorption": 0.1, "order": 12},
}


def cases(repeats: int = 5, rooms: int = ROOMS, steps: int = STEPS) -> list[dict[str, Any]]:
    return [mode(name, changes, repeats, rooms, steps) for name, changes in MODES.items()]


def mode(name: str, changes: dict[str, Any], repeats: int, rooms: int, steps: int) -> dict[str, Any]:
    own = SeekConfig(**changes)
    same = {field: value for field, value in changes.items() if field in ("room", "clock", "loop", "period")}
    both = [SeekVector(rooms, config) for config in (own, SeekConfig(sources=own.emitters, **same))]
    for environment in both:
        environment.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 4, (steps, rooms))

    def walk(environment: SeekVector) -> None:
        for action in actions:
            environment.step(action)

    times = interleaved(lambda: walk(both[0]), lambda: walk(both[1]), repeats)
    return case(name, f"{rooms} rooms x {steps} steps, random actions", f"default, {own.emitters} sources", *times)
