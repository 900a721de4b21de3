"""The state of the environments as trees for checkpoints, from which they continue bit for bit.

A state holds what was drawn, not what is computed from it: rooms but no image sources, and for each sound its
kind, its number and the start of the excerpt. Loaded states are untrusted: type, shape and range are checked.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from sonarium.environment import Tree
from sonarium.rooms.acoustics.absorption import Air
from sonarium.rooms.acoustics.geometry import Room, polygon
from sonarium.rooms.acoustics.simulator import NEVER
from sonarium.rooms.seek.episode import Episodes
from sonarium.rooms.seek.generate import Layout
from sonarium.rooms.seek.paths import plan_of

OF_EPISODES = (
    "place",
    "heading",
    "source",
    "on",
    "found_at",
    "steps",
    "walked",
    "running",
    "walks",
    "noise_starts",
)
LATEST = 2**48
"""Upper bound of the steps and samples of an episode."""


def saved(episodes: Episodes) -> Tree:
    """Complete state of parallel episodes, except the configuration."""
    acoustics = episodes.acoustics
    steps = int(episodes.steps.max())
    return {
        "arrays": {name: getattr(episodes, name).copy() for name in OF_EPISODES},
        "trace": episodes.trace[:, : steps + 1].copy(),
        "slots": [saved_slot(episodes, slot) for slot in range(episodes.slots)],
        "offsets": acoustics.bank.offsets.copy(),
        "heard": acoustics.slots.heard.copy(),
        "time": acoustics.time.copy(),
        "ends": acoustics.ends.copy(),
        "tails": np.array(acoustics.convolver.backend.here(acoustics.convolver.tails)),
    } | ({"alone": tails_alone(episodes)} if episodes.config.source_info else {})


def tails_alone(episodes: Episodes) -> Float[np.ndarray, "source slot 2 fade"]:
    """Cross-fade tails of each source alone, with `source_info`."""
    acoustics = episodes.acoustics
    return np.stack([np.array(acoustics.convolver.backend.here(own)) for own in acoustics.tails])


def saved_slot(episodes: Episodes, slot: int) -> Tree:
    """Room, layout and sounds of one slot; None before its first episode."""
    layout = episodes.layouts[slot]
    if layout is None:
        return None
    return {
        "room": saved_room(layout.room),
        "sources": layout.sources.copy(),
        "pose": layout.pose.copy(),
        "sounds": [[pick.kind, pick.number, pick.start] for pick in episodes.picks[slot]],
    }


def saved_room(room: Room) -> Tree:
    return {
        "corners": room.corners.copy(),
        "height": None if room.height is None else float(room.height),
        "absorption": room.absorption.copy(),
        "bands": list(room.bands),
        "air": None if room.air is None else [float(room.air.temperature), float(room.air.humidity)],
        "speed": float(room.speed),
    }


def load(episodes: Episodes, state: Tree) -> None:
    """Continue from a state; raises ValueError if it does not fit these episodes."""
    acoustics = episodes.acoustics
    offsets = array(state, "offsets", acoustics.bank.offsets)
    found = {name: array(state["arrays"], name, getattr(episodes, name)) for name in OF_EPISODES}
    heard = array(state, "heard", acoustics.slots.heard)
    time, ends = array(state, "time", acoustics.time), array(state, "ends", acoustics.ends)
    own = np.array(acoustics.convolver.backend.here(acoustics.convolver.tails))
    tails, trace = array(state, "tails", own), array(state, "trace", episodes.trace, rows=True)
    alone = array(state, "alone", tails_alone(episodes)) if episodes.config.source_info else []
    limits = {"steps": episodes.config.max_steps, "found_at": episodes.config.max_steps, "noise_starts": LATEST}
    for name, highest in limits.items():
        check_between(name, found[name], -1 if name == "found_at" else 0, highest)
    for name, numbers, highest in (("offsets", offsets, LATEST), ("time", time, LATEST), ("ends", ends, NEVER)):
        check_between(name, numbers, 0, highest)
    if not isinstance(state["slots"], list) or len(state["slots"]) != episodes.slots:
        raise ValueError(f"slots is not a list of {episodes.slots} rooms")
    if trace.shape[1] > episodes.trace.shape[1] or trace.shape[1] < min(
        episodes.trace.shape[1], int(found["steps"].max()) + 1
    ):
        raise ValueError(f"trace has {trace.shape[1]} poses, expected those of all steps")
    begun = np.array([one is not None for one in state["slots"]])
    for slot in np.flatnonzero(begun).tolist():
        load_slot(episodes, slot, state["slots"][slot], offsets[slot])
    for name, value in found.items():
        setattr(episodes, name, value)
    check_places(episodes, begun)
    if episodes.config.moving:
        # Move the acoustics of all sources, found ones included, from their first to their saved positions.
        episodes.follow(np.broadcast_to(begun[:, None], episodes.on.shape))
    episodes.trace[:, : trace.shape[1]] = trace
    acoustics.slots.heard, acoustics.time, acoustics.ends = heard, time, ends
    acoustics.convolver.tails = acoustics.convolver.backend.there(tails)
    acoustics.tails = [acoustics.convolver.backend.there(own) for own in alone]
    if episodes.measured and begun.any():
        episodes.measure(np.flatnonzero(begun))


def load_slot(episodes: Episodes, slot: int, state: Tree, offsets: np.ndarray) -> None:
    config = episodes.config
    room = loaded_room(state["room"])
    if room.dimension != config.dimension:
        raise ValueError(f"the room has {room.dimension} dimensions, expected {config.dimension}")
    sources = array(state, "sources", np.zeros((config.emitters, 2)))
    layout = Layout(room, plan_of(room, config.margin), sources, array(state, "pose", np.zeros(3)))
    if not layout.plan.holds(sources).all():
        raise ValueError("a source is not in its room")
    sounds = state["sounds"]
    if not isinstance(sounds, list) or len(sounds) != config.findable:
        raise ValueError(f"sounds is {sounds!r:.60}, expected {config.findable} of them")
    picks = [episodes.sounds.picked(*one) for one in sounds if isinstance(one, list) and len(one) == 3]
    if len(picks) != len(sounds):
        raise ValueError(f"sounds is {sounds!r:.60}, expected kind, number and start of each")
    episodes.enter(slot, layout, picks, offsets)


def loaded_room(state: Tree) -> Room:
    """Room of a saved state; `polygon` checks its arguments."""
    air, bands = state["air"], state["bands"]
    corners, absorption = (np.array(state[name]) for name in ("corners", "absorption"))
    if not all(type(number) is float for number in (state["speed"], *bands, *(air or ()))):
        raise ValueError("the room's speed of sound, bands and air are no numbers")
    if not isinstance(state["height"], float | None):
        raise ValueError(f"the room's height is {state['height']!r:.60}, expected metres")
    for name, value in (("corners", corners), ("absorption", absorption)):
        if value.dtype != np.float64 or value.ndim != 2:
            raise ValueError(f"the room's {name} are an array of {value.dtype} and shape {value.shape}")
    # One coefficient for each wall and band; a room without bands has a single column.
    given: Any = absorption if bands else absorption[:, 0]
    made = polygon(corners, state["height"], given, bands, None if air is None else Air(*air), state["speed"])
    if not np.array_equal(made.corners, corners) or not np.array_equal(made.absorption, absorption):
        raise ValueError("the room's corners are not in counter-clockwise order")
    return made


def check_places(episodes: Episodes, begun: Bool[np.ndarray, " slot"]) -> None:
    """Raise ValueError if an agent or a source is outside its room."""
    for slot in np.flatnonzero(begun).tolist():
        layout = episodes.layouts[slot]
        assert layout is not None
        if not layout.plan.holds(np.concatenate([episodes.place[slot, None], episodes.source[slot]])).all():
            raise ValueError("the agent or a source is not in its room")


def array(state: Tree, name: str, own: np.ndarray, rows: bool = False) -> np.ndarray:
    """Copy of a saved array, which must have the type and shape of `own`; with `rows`, any length along axis 1."""
    saved = state[name]
    fits = isinstance(saved, np.ndarray) and saved.dtype == own.dtype and saved.ndim == own.ndim
    if fits and rows:
        fits = saved.shape[0] == own.shape[0] and saved.shape[2:] == own.shape[2:]
    elif fits:
        fits = saved.shape == own.shape
    if not fits:
        raise ValueError(f"{name} is {saved!r:.60}, expected an array of {own.dtype} and shape {own.shape}")
    if saved.dtype.kind == "f" and not np.isfinite(saved).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    return saved.copy()


def check_between(name: str, numbers: np.ndarray, low: int, high: int) -> None:
    if numbers.size and not (low <= numbers.min() and numbers.max() <= high):
        raise ValueError(f"{name} reaches from {numbers.min()} to {numbers.max()}, expected {low} to {high}")
