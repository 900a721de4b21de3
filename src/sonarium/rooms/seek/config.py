"""The task of seeking sounds in rooms: every choice with its default and what it means.

The task is OtoWorld's (arXiv 2007.06123): walk through a room by ear, and switch off every source by coming near
it.
"""

import math
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal

from sonarium.features.ears import EarsConfig
from sonarium.rooms.seek.reward import REWARDS, Reward, RewardName

SOUNDS = ("phone", "siren", "tones", "bird", "babble")
MOST_SOURCES = 8
"""The shortest path through all sources is found by going through all sets of sources."""
LEEWAY = 0.05
"""Metres that are kept free between an ear and a wall."""


@dataclass(frozen=True)
class SeekConfig:
    """Rooms, sounds, actions, observations and rewards of the environment."""

    sources: int = 2
    """How many sources there are to find in each room."""
    actions: Literal["turn", "compass", "continuous"] = "turn"
    """turn: forward, back, turn left, turn right. compass: up, down, left, right, turn left, turn right.
    continuous: forward and left turn, each between -1 and 1 times `step` and `turn`."""
    observation: Literal["audio", "features"] = "audio"
    """What both ears hear: samples, or loudness with the differences of phase and level between the ears."""
    pose: bool = False
    """Observe x, y and heading too; without it the agent knows by ear alone where it is."""
    tell: bool = False
    """Put pose, sources and the way to the nearest one into `info`, for oracles and for measures."""
    reward: RewardName = "default"
    """Figures of the reward: our own, OtoWorld's, or those of its planning document."""
    figures: Reward | None = None
    """Other figures, instead of those that `reward` names."""
    max_steps: int = 500
    """An episode is truncated after so many steps."""
    step: float = 0.5
    """Metres that a move goes; a move that a wall blocks is not made at all."""
    turn: float = 30.0
    """Degrees that a turn takes."""
    radius: float = 0.5
    """A source is found, and switched off, from so many metres or nearer, if no wall lies between."""

    rate: int = 8000
    """Samples per second."""
    clock: Literal["stream", "clip"] = "stream"
    """stream: time passes while the agent walks, each observation is the next `seconds` of sound, and
    reverberation carries over. clip: each observation is the whole sound of `loop` seconds from its beginning."""
    seconds: float = 0.25
    """Length of an observation, and of a step, of a stream."""
    loop: float = 4.0
    """Seconds after which each source's sound begins again."""
    sounds: tuple[str, ...] = SOUNDS
    """Built-in sounds (phone, siren, tones, bird, babble), sound files, or folders of them."""
    new_sounds: bool = True
    """Draw which sound each source makes for every episode; otherwise source i makes the i-th sound."""
    variants: int = 4
    """How many different phones, sirens, ... are made of each built-in sound."""
    level: float = -30.0
    """Loudness of each source at a distance of 1 m, in dB (A) below full scale."""
    gain: float = 1.0
    """Factor of the observed samples, before they are clipped to -1 ... 1."""
    ears: EarsConfig = EarsConfig()
    """What of the sound the features keep."""

    room: Literal["fixed", "shoebox", "ngon", "nonconvex"] = "shoebox"
    """fixed: always the same, of `size` or with `corners`. Random: rectangles, convex polygons, or rooms
    in the shape of an L, T, U or star."""
    size: tuple[float, float] = (8.0, 8.0)
    """Metres of a fixed room along x and y."""
    corners: tuple[tuple[float, float], ...] = ()
    """Corners (x, y) of a fixed room that is not a rectangle."""
    height: float | None = None
    """Metres; without it the room is a plane, as in OtoWorld."""
    smallest: float = 5.0
    """Least extent of a random room in metres."""
    largest: float = 10.0
    """Greatest extent of a random room in metres."""
    fewest_sides: int = 5
    """Least number of walls of a random convex polygon."""
    most_sides: int = 8
    """Greatest number of walls of a random convex polygon."""
    irregular: float = 0.5
    """0: convex polygons are regular; up to 1: ever less so."""
    absorption: float = 0.3
    """Share of the energy that each wall takes from a reflection."""
    absorption_span: float = 0.0
    """Each episode draws its absorption from so much below to so much above `absorption`."""
    order: int = 3
    """Greatest number of reflections."""
    ear_distance: float = 0.2
    """Metres between the ears."""
    head: Literal["none", "sphere"] = "none"
    """Whether a head lies between the ears and shades the one that is turned away."""
    ear_height: float = 1.5
    """Metres above the floor, in a room with a height."""
    source_height: float = 1.2
    """Metres above the floor, in a room with a height."""
    same_config: bool = False
    """Draw room and places once, and keep them until the environment is seeded anew."""

    wall_distance: float = 0.3
    """Least distance in metres of sources and of the agent's start from walls."""
    source_distance: float = 2.0
    """Least distance in metres between sources."""
    start_distance: float = 1.5
    """Least distance in metres of the agent's start from every source."""
    threads: int | None = None
    """Threads that compute the sound; without a number, all processors."""
    device: str = "cpu"
    """Where sound and features are computed."""

    def __post_init__(self) -> None:
        check_numbers(self)
        check_choices(self)
        check_together(self)

    @property
    def margin(self) -> float:
        """How far the middle of the head stays away from walls, so that both ears stay inside."""
        return self.ear_distance / 2 + LEEWAY

    @property
    def window(self) -> int:
        """Samples of an observation."""
        return round(self.rate * (self.loop if self.clock == "clip" else self.seconds))

    @property
    def loop_samples(self) -> int:
        return round(self.rate * self.loop)

    @property
    def dimension(self) -> int:
        return 2 if self.height is None else 3

    @property
    def paid(self) -> Reward:
        """The figures that hold."""
        return REWARDS[self.reward] if self.figures is None else self.figures

    @property
    def extent(self) -> float:
        """No coordinate of a room's corner is greater than this, or less than minus this."""
        if self.room != "fixed":
            return self.largest
        return max(abs(value) for corner in self.corners or (self.size,) for value in corner)


def configured(config: SeekConfig | None, changes: dict[str, Any]) -> SeekConfig:
    """A configuration with some fields changed, as by `gymnasium.make(..., sources=3)`."""
    known = [field.name for field in fields(SeekConfig)]
    for name in changes:
        if name not in known:
            meant = get_close_matches(name, known, 1)
            hint = f"did you mean '{meant[0]}'?" if meant else f"the settings are {', '.join(known)}"
            raise ValueError(f"there is no setting '{name}' of a room to seek in: {hint}")
    return replace(config or SeekConfig(), **changes)


RANGES: dict[str, tuple[float, float]] = {
    "sources": (1, MOST_SOURCES),
    "max_steps": (1, math.inf),
    "step": (1e-3, math.inf),
    "turn": (1e-3, 180),
    "radius": (1e-3, math.inf),
    "rate": (1000, 384000),
    "seconds": (1e-3, math.inf),
    "loop": (0.1, 600),
    "variants": (1, 1000),
    "level": (-120, 0),
    "gain": (1e-9, math.inf),
    "smallest": (0.5, math.inf),
    "fewest_sides": (3, 64),
    "irregular": (0, 1),
    "absorption": (0, 1),
    "absorption_span": (0, 1),
    "order": (0, 200),
    "ear_distance": (0, 2),
    "wall_distance": (0, math.inf),
    "source_distance": (1e-3, math.inf),
    "start_distance": (0, math.inf),
}
"""From what to what a number may be, where that does not hang on another."""


def check_numbers(config: SeekConfig) -> None:
    """Refuse numbers outside their ranges, NaN among them."""
    ranges = RANGES | {
        "largest": (config.smallest, math.inf),
        "most_sides": (config.fewest_sides, 64),
    }
    if config.height is not None:
        ranges |= {
            "height": (0.1, math.inf),
            "ear_height": (LEEWAY, config.height - LEEWAY),
            "source_height": (LEEWAY, config.height - LEEWAY),
        }
    if config.threads is not None:
        ranges["threads"] = (1, math.inf)
    for name, (least, most) in ranges.items():
        value = getattr(config, name)
        if not (least <= value <= most and math.isfinite(value)):
            expected = f"from {least:g} to {most:g}" if math.isfinite(most) else f"of at least {least:g}"
            raise ValueError(f"{name}={value}: give a number {expected}")


def check_choices(config: SeekConfig) -> None:
    """Refuse fractions where things are counted, and words that nobody knows."""
    for name in ("sources", "max_steps", "rate", "variants", "fewest_sides", "most_sides", "order", "threads"):
        value = getattr(config, name)
        if value is not None and value != int(value):
            raise ValueError(f"{name}={value}: give a whole number")
    choices = {
        "actions": ("turn", "compass", "continuous"),
        "observation": ("audio", "features"),
        "reward": tuple(REWARDS),
        "clock": ("stream", "clip"),
        "room": ("fixed", "shoebox", "ngon", "nonconvex"),
        "head": ("none", "sphere"),
    }
    for name, known in choices.items():
        if getattr(config, name) not in known:
            raise ValueError(f"{name}='{getattr(config, name)}': choose one of {', '.join(known)}")
    if not config.sounds or isinstance(config.sounds, str):
        raise ValueError(
            f"sounds={config.sounds!r}: give a tuple of sounds, such as {SOUNDS}, of files or folders"
        )


def check_together(config: SeekConfig) -> None:
    """Refuse what each number alone would not show."""
    if config.radius < config.step / 2:
        raise ValueError(
            f"radius={config.radius} is less than half of step={config.step}: steps would lead past a source; "
            "widen the radius or shorten the step"
        )
    if config.start_distance <= config.radius:
        raise ValueError(
            f"start_distance={config.start_distance} is not more than radius={config.radius}: sources would be "
            "found before the first step; start farther away"
        )
    if not 0 <= config.absorption - config.absorption_span <= config.absorption + config.absorption_span <= 1:
        raise ValueError(
            f"absorption={config.absorption} ± absorption_span={config.absorption_span} leaves 0 ... 1: "
            "narrow the span"
        )
    if config.corners and config.room != "fixed":
        raise ValueError(f"corners are given, but room='{config.room}': give room='fixed' with them")
    if not all(math.isfinite(side) and side > 2 * config.margin for side in config.size):
        raise ValueError(
            f"size={config.size}: give lengths of more than {2 * config.margin:g} m, so that a head finds room"
        )
    if config.loop < config.seconds and config.clock == "stream":
        raise ValueError(
            f"loop={config.loop} s is less than seconds={config.seconds}, an observation: lengthen the loop"
        )
