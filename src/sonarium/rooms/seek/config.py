"""Configuration of sound-source seeking.

The task is OtoWorld's (arXiv 2007.06123): navigate a room by binaural audio, and switch off every source by coming
near it.
"""

import math
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal

from sonarium.catalogue import ROOMS
from sonarium.features.ears import EarsConfig
from sonarium.rooms.seek.reward import REWARDS, Reward, RewardName

SOUNDS = ("phone", "siren", "tones", "bird", "babble")
MOST_SOURCES = 8
"""The shortest path through all sources takes time and memory that are exponential in their number."""
LEEWAY = 0.05
"""Clearance in metres between an ear and a wall."""


@dataclass(frozen=True)
class SeekConfig:
    """Rooms, sounds, actions, observations and rewards of the environment."""

    sources: int = 2
    """Number of sound sources in each room."""
    actions: Literal["turn", "compass", "continuous"] = "turn"
    """Action space. turn: forward, back, turn left, turn right. compass: up, down, left, right, turn left, turn
    right. continuous: forward and left turn, each from -1 to 1 times `step` and `turn`."""
    observation: Literal["audio", "features"] = "audio"
    """audio: the binaural waveform. features: log-mel bands with interaural phase and level differences."""
    pose: bool = False
    """Add x, y and heading to the observation."""
    oracle_info: bool = False
    """Put pose, source positions and the shortest path to the nearest source into `info`, for oracles and SPL."""
    reward: RewardName = "default"
    """Reward function: the default (progress along the shortest path), OtoWorld's, or its planning document's."""
    figures: Reward | None = None
    """Reward weights that replace those of `reward`."""
    max_steps: int = 500
    """Steps after which an episode is truncated."""
    step: float = 0.5
    """Step length in metres; a step into a wall is not made."""
    turn: float = 30.0
    """Turn angle in degrees."""
    radius: float = 0.5
    """Distance in metres at which a source in sight is found, and switched off."""

    rate: int = 8000
    """Sampling rate in Hz."""
    clock: Literal["stream", "clip"] = "stream"
    """stream: audio is continuous, each observation is the next `seconds` of it, and reverberation carries over.
    clip: each observation is the whole sound of `loop` seconds from its beginning."""
    seconds: float = 0.25
    """Duration of a step, and of its observation, in a stream."""
    loop: float = 4.0
    """Duration in seconds after which each source's sound repeats."""
    sounds: tuple[str, ...] = SOUNDS
    """Source sounds: built-in ones (phone, siren, tones, bird, babble), audio files, or folders of them."""
    new_sounds: bool = True
    """Draw the sound of each source anew in every episode; otherwise source i plays the i-th sound."""
    variants: int = 4
    """Number of variants of each built-in sound."""
    level: float = -30.0
    """Level of each source at 1 m, in dB(A) relative to full scale."""
    gain: float = 1.0
    """Gain factor of the observed audio, before it is clipped to -1 ... 1."""
    ears: EarsConfig = EarsConfig()
    """Parameters of the features."""

    room: str = "shoebox"
    """Room shape. fixed: always the same, of `size` or with `corners`. Random: shoebox, ngon (convex polygon),
    nonconvex (L, T, U or star), or a shape of an installed package."""
    size: tuple[float, float] = (8.0, 8.0)
    """Size of a fixed room along x and y in metres."""
    corners: tuple[tuple[float, float], ...] = ()
    """Corners (x, y) in metres of a fixed room that is not a rectangle."""
    height: float | None = None
    """Room height in metres; without it the room is two-dimensional, as in OtoWorld."""
    smallest: float = 5.0
    """Minimum extent of a random room in metres."""
    largest: float = 10.0
    """Maximum extent of a random room in metres."""
    fewest_sides: int = 5
    """Minimum number of walls of an ngon."""
    most_sides: int = 8
    """Maximum number of walls of an ngon."""
    irregular: float = 0.5
    """Irregularity of an ngon, from 0 (regular) to 1."""
    absorption: float = 0.3
    """Energy absorption coefficient of the walls."""
    absorption_span: float = 0.0
    """Half-width of the interval around `absorption` from which each episode draws its coefficient."""
    order: int = 3
    """Maximum reflection order of the image-source method."""
    ear_distance: float = 0.2
    """Distance between the ears in metres."""
    head: Literal["none", "sphere"] = "none"
    """Head model between the ears: none, or a rigid sphere with interaural delay and head shadow."""
    ear_height: float = 1.5
    """Height of the ears above the floor in metres, in a room with a height."""
    source_height: float = 1.2
    """Height of the sources above the floor in metres, in a room with a height."""
    same_config: bool = False
    """Keep room, source positions and start pose over episodes until the environment is seeded again."""

    wall_distance: float = 0.3
    """Minimum distance in metres of sources and of the start from walls."""
    source_distance: float = 2.0
    """Minimum distance in metres between sources."""
    start_distance: float = 1.5
    """Minimum distance in metres of the start from every source."""
    threads: int | None = None
    """Number of threads for the acoustics; by default, all processors."""
    device: str = "cpu"
    """Torch device on which audio and features are computed."""

    def __post_init__(self) -> None:
        check_numbers(self)
        check_choices(self)
        check_together(self)

    @property
    def margin(self) -> float:
        """Minimum distance of the centre of the head from walls, so that both ears stay inside."""
        return self.ear_distance / 2 + LEEWAY

    @property
    def window(self) -> int:
        """Length of an observation in samples."""
        return round(self.rate * (self.loop if self.clock == "clip" else self.seconds))

    @property
    def loop_samples(self) -> int:
        return round(self.rate * self.loop)

    @property
    def dimension(self) -> int:
        return 2 if self.height is None else 3

    @property
    def paid(self) -> Reward:
        """The reward weights that apply."""
        return REWARDS[self.reward] if self.figures is None else self.figures

    @property
    def extent(self) -> float:
        """Bound of the absolute value of every coordinate of a corner."""
        if self.room != "fixed":
            return self.largest
        return max(abs(value) for corner in self.corners or (self.size,) for value in corner)


def configured(config: SeekConfig | None, changes: dict[str, Any]) -> SeekConfig:
    """A configuration with some fields changed, as by `gymnasium.make(..., sources=3)`."""
    known = [field.name for field in fields(SeekConfig)]
    for name in changes:
        if name not in known:
            meant = get_close_matches(name, known, 1)
            hint = f"did you mean '{meant[0]}'?" if meant else f"the fields are {', '.join(known)}"
            raise ValueError(f"SeekConfig has no field '{name}': {hint}")
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
"""Ranges of numbers that do not depend on other fields."""


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
    """Refuse fractions where integers are expected, and unknown choices."""
    for name in ("sources", "max_steps", "rate", "variants", "fewest_sides", "most_sides", "order", "threads"):
        value = getattr(config, name)
        if value is not None and value != int(value):
            raise ValueError(f"{name}={value}: give a whole number")
    choices = {
        "actions": ("turn", "compass", "continuous"),
        "observation": ("audio", "features"),
        "reward": tuple(REWARDS),
        "clock": ("stream", "clip"),
        "room": ("fixed", *ROOMS),
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
    """Refuse combinations of values that contradict each other."""
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
            f"size={config.size}: give lengths of more than {2 * config.margin:g} m, so that a head fits in"
        )
    if config.loop < config.seconds and config.clock == "stream":
        raise ValueError(
            f"loop={config.loop} s is less than seconds={config.seconds}, an observation: lengthen the loop"
        )
