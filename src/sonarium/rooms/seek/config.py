"""Configuration of sound-source seeking.

The task is OtoWorld's (arXiv 2007.06123): navigate a room by binaural audio, and switch off every source by coming
near it.
"""

import math
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from sonarium.catalogue import ROOMS
from sonarium.config import Range, check_ranges
from sonarium.features.ears import EarsConfig
from sonarium.rooms.acoustics.geometry import SPEED
from sonarium.rooms.acoustics.limits import LONGEST_RESPONSE, MOST_IMAGES
from sonarium.rooms.seek.reward import REWARDS, Reward, RewardName

SOUNDS = ("phone", "siren", "tones", "bird", "babble")
MOST_SOURCES = 8
"""Maximum number of sources: time and memory of the shortest path through them are exponential in it."""
MOST_SAMPLES = 2**28
"""Maximum number of samples of all sounds together: a gigabyte."""
LARGEST_ROOM = 10_000.0
"""Maximum extent of a room in metres."""
LEEWAY = 0.05
"""Clearance in metres between an ear and a wall."""


@dataclass(frozen=True)
class SeekConfig:
    """Rooms, sounds, actions, observations and rewards of the environment."""

    sources: Annotated[int, Range(1, MOST_SOURCES)] = 2
    """Number of sound sources in each room."""
    actions: Literal["turn", "compass", "continuous"] = "turn"
    """Action space. turn: forward, back, turn left, turn right. compass: up, down, left, right, turn left, turn
    right. continuous: forward and left turn, each from -1 to 1 times `step` and `turn`."""
    observation: Literal["audio", "features"] = "audio"
    """Observation: audio (the binaural waveform), or features (log-mel bands with interaural phase and level
    differences)."""
    pose: bool = False
    """Add x, y and heading to the observation."""
    oracle_info: bool = False
    """Add pose, source positions and the shortest path to the nearest source to `info`, for oracles and SPL."""
    source_info: bool = False
    """Add the lateral angle and separate sound of each source to `info`, for measures of separation and
    localisation; each source is then rendered once more."""
    reward: RewardName = "default"
    """Reward function: default (progress along the shortest path), otoworld, or document (OtoWorld's planning
    document)."""
    figures: Reward | None = None
    """Reward weights that replace those of `reward`."""
    max_steps: Annotated[int, Range(1, 10**7)] = 500
    """Steps after which an episode is truncated."""
    step: Annotated[float, Range(1e-3, 1000)] = 0.5
    """Step length in metres; a step into a wall is not made."""
    turn: Annotated[float, Range(1e-3, 180)] = 30.0
    """Turn angle in degrees."""
    radius: Annotated[float, Range(1e-3, 1000)] = 0.5
    """Distance in metres at which a source in line of sight is found, and switched off."""
    distractors: Annotated[int, Range(0, MOST_SOURCES - 1)] = 0
    """Number of distractors: sources that must not be found, each of another kind of sound than the target, which
    is then the only other source."""
    target: Literal["sound", "category"] = "sound"
    """Identification of the target. sound: its dry sound is all that is heard in the first `cue` seconds.
    category: the observation holds its index in `sounds`."""
    cue: Annotated[float, Range(1e-3, 600)] = 0.5
    """Duration in seconds of the target's sound at the start of an episode, rounded up to whole observations."""
    wrong: Literal["ends", "costs"] = "ends"
    """Effect of finding a distractor. ends: the episode terminates. costs: only the reward of a distractor."""
    moving: Annotated[float, Range(0, 1000)] = 0.0
    """Distance in metres per step that each source moves, on a random walk."""

    rate: Annotated[int, Range(1000, 384000)] = 8000
    """Sampling rate in Hz."""
    clock: Literal["stream", "clip"] = "stream"
    """Timing of the audio. stream: continuous, each observation is the next `seconds` of it, and reverberation
    carries over. clip: each observation is the whole sound of `loop` seconds from its beginning."""
    seconds: Annotated[float, Range(1e-3, 600)] = 0.25
    """Duration of a step, and of its observation, in a stream."""
    loop: Annotated[float, Range(0.1, 600)] = 4.0
    """Duration in seconds after which each source's sound repeats."""
    sounds: tuple[str, ...] = SOUNDS
    """Source sounds: built-in ones (phone, siren, tones, bird, babble), audio files, or folders of them."""
    new_sounds: bool = True
    """Draw the sound of each source anew in every episode; otherwise source i plays the i-th sound."""
    variants: Annotated[int, Range(1, 1000)] = 4
    """Number of variants of each built-in sound."""
    level: Annotated[float, Range(-120, 0)] = -30.0
    """Level of each source at 1 m, in dB(A) relative to full scale."""
    first_variant: Annotated[int, Range(0, 2**31)] = 0
    """Index of the first variant of each built-in sound; others are other sounds of the same kinds."""
    stops: Annotated[float | None, Range(0, 10**6, above=True)] = None
    """Seconds after which all sources fall silent; they can still be found. A step lasts `seconds`."""
    burst: Annotated[float | None, Range(0.02, 600)] = None
    """Duration in seconds of the loudest part of an intermittent sound, which is heard once in every `period`."""
    period: Annotated[float, Range(0.1, 600)] = 4.0
    """Period of intermittent sounds in seconds; `loop` is a multiple of it."""
    diffuse_noise: Annotated[float | None, Range(-120, 0)] = None
    """Level of white noise independent at each ear, root mean square in dB relative to full scale."""
    point_noise: Annotated[float | None, Range(-120, 0)] = None
    """Level at 1 m, likewise, of a point source of white noise, which cannot be found."""
    gain: Annotated[float, Range(1e-9, 1e9)] = 1.0
    """Gain factor of the observed audio, before it is clipped to -1 ... 1."""
    ears: EarsConfig = EarsConfig()
    """Parameters of the features."""

    room: str = "shoebox"
    """Room shape. fixed: always the same, of `size` or with `corners`. Random: shoebox, ngon (convex polygon),
    nonconvex (L, T, U or star), or a shape of an installed package."""
    size: Annotated[tuple[float, float], Range(0, LARGEST_ROOM, above=True)] = (8.0, 8.0)
    """Size of a fixed room along x and y in metres."""
    corners: Annotated[tuple[tuple[float, float], ...], Range(-LARGEST_ROOM, LARGEST_ROOM)] = ()
    """Corners (x, y) in metres of a fixed room that is not a rectangle."""
    height: Annotated[float | None, Range(0.1, LARGEST_ROOM)] = None
    """Room height in metres; without it the room is two-dimensional, as in OtoWorld."""
    smallest: Annotated[float, Range(0.5, LARGEST_ROOM)] = 5.0
    """Minimum extent of a random room in metres."""
    largest: Annotated[float, Range(0.5, LARGEST_ROOM)] = 10.0
    """Maximum extent of a random room in metres."""
    fewest_sides: Annotated[int, Range(3, 64)] = 5
    """Minimum number of walls of an ngon."""
    most_sides: Annotated[int, Range(3, 64)] = 8
    """Maximum number of walls of an ngon."""
    irregular: Annotated[float, Range(0, 1)] = 0.5
    """Irregularity of an ngon, from 0 (regular) to 1."""
    absorption: Annotated[float, Range(0, 1)] = 0.3
    """Energy absorption coefficient of the walls."""
    absorption_span: Annotated[float, Range(0, 1)] = 0.0
    """Half-width of the interval around `absorption` from which each episode draws its coefficient."""
    rt60: Annotated[float | None, Range(1e-3, 60)] = None
    """Reverberation time in seconds by Eyring's formula, from which the absorption is set in place of
    `absorption`; `order` must be high enough for reflections that late. Random rooms that are too small for
    `order` are redrawn."""
    order: Annotated[int, Range(0, 200)] = 3
    """Maximum reflection order of the image-source method."""
    most_images: Annotated[int, Range(1)] = MOST_IMAGES
    """Maximum number of image sources per source; exceeding it, as at a high order, is an error."""
    longest_response: Annotated[float, Range(0, above=True)] = LONGEST_RESPONSE
    """Maximum duration of an impulse response in seconds; exceeding it, as in a room of kilometres, is an
    error."""
    ear_distance: Annotated[float, Range(0, 2)] = 0.2
    """Distance between the ears in metres."""
    head: Literal["none", "sphere"] = "none"
    """Head model between the ears: none, or a rigid sphere with interaural delay and head shadow."""
    ear_height: Annotated[float, Range(LEEWAY, LARGEST_ROOM)] = 1.5
    """Height of the ears above the floor in metres, in a room with a height."""
    source_height: Annotated[float, Range(LEEWAY, LARGEST_ROOM)] = 1.2
    """Height of the sources above the floor in metres, in a room with a height."""
    same_config: bool = False
    """Keep room, source positions and start pose over episodes until the environment is seeded again."""
    layout_seed: Annotated[int | None, Range(0, 2**32)] = None
    """Random seed of the room, source positions and start pose of all episodes, however the environment is seeded;
    by default each episode draws its own."""

    wall_distance: Annotated[float, Range(0, LARGEST_ROOM)] = 0.3
    """Minimum distance in metres of sources and of the start from walls."""
    source_distance: Annotated[float, Range(1e-3, LARGEST_ROOM)] = 2.0
    """Minimum distance in metres between sources."""
    start_distance: Annotated[float, Range(0, LARGEST_ROOM)] = 1.5
    """Minimum distance in metres of the start from every source."""
    threads: Annotated[int | None, Range(1, 1024)] = None
    """Number of CPU threads for the acoustics; by default all processors."""
    device: str = "cpu"
    """Torch device on which audio and features are computed."""

    def __post_init__(self) -> None:
        check_ranges(self)
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
    def findable(self) -> int:
        """Number of sources that can be found, including distractors."""
        return self.sources + self.distractors

    @property
    def emitters(self) -> int:
        """Number of sound sources, including the noise source."""
        return self.findable + (self.point_noise is not None)

    @property
    def cued_steps(self) -> int:
        """Number of observations at the start of an episode that play the cue, the target's sound."""
        return math.ceil(self.cue * self.rate / self.window) if self.distractors and self.target == "sound" else 0

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

    @property
    def longest(self) -> float:
        """Maximum extent of a room along x or y in metres, regardless of its position."""
        if self.room != "fixed":
            return self.largest
        corners = self.corners or ((0.0, 0.0), self.size)
        return max(max(values) - min(values) for values in zip(*corners, strict=True))


def configured(config: SeekConfig | None, changes: dict[str, Any]) -> SeekConfig:
    """A configuration with some fields changed, as by `gymnasium.make(..., sources=3)`."""
    known = [field.name for field in fields(SeekConfig)]
    for name in changes:
        if name not in known:
            meant = get_close_matches(name, known, 1)
            hint = f"did you mean '{meant[0]}'?" if meant else f"the fields are {', '.join(known)}"
            raise ValueError(f"SeekConfig has no field '{name}': {hint}")
    return replace(config or SeekConfig(), **changes)


def check_numbers(config: SeekConfig) -> None:
    """Raise ValueError for numbers outside ranges that depend on other numbers."""
    ranges = {"largest": Range(config.smallest), "most_sides": Range(config.fewest_sides)}
    if config.height is not None:
        inside = Range(LEEWAY, config.height - LEEWAY)
        ranges |= {"ear_height": inside, "source_height": inside}
    for name, own in ranges.items():
        if not own.holds(getattr(config, name)):
            raise ValueError(f"{name}={getattr(config, name)}: give {own.words()}")


def check_choices(config: SeekConfig) -> None:
    """Raise ValueError for an unknown kind of room, and for a single sound in place of a tuple."""
    kinds = ("fixed", *ROOMS)
    if config.room not in kinds:
        raise ValueError(f"room='{config.room}': choose one of {', '.join(kinds)}")
    if not config.sounds or isinstance(config.sounds, str):
        raise ValueError(
            f"sounds={config.sounds!r}: give a tuple of sounds, such as {SOUNDS}, of files or folders"
        )


def check_together(config: SeekConfig) -> None:
    """Raise ValueError for values that contradict each other."""
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
    if config.rt60 is not None and config.absorption_span:
        raise ValueError(
            f"rt60={config.rt60:g} sets the absorption of each room, so that absorption_span="
            f"{config.absorption_span:g} changes nothing: leave one of them out"
        )
    check_modes(config)
    if config.corners and config.room != "fixed":
        raise ValueError(f"corners are given, but room='{config.room}': give room='fixed' with them")
    if not all(side > 2 * config.margin for side in config.size):
        raise ValueError(
            f"size={config.size}: give lengths of more than {2 * config.margin:g} m, so that a head fits in"
        )
    farthest, seconds = config.longest * config.order, config.longest * config.order / SPEED
    if seconds > config.longest_response:
        raise ValueError(
            f"in a room of {config.longest:g} m, order={config.order} reaches {farthest:g} m, and responses last "
            f"more than longest_response={config.longest_response:g} s: give smaller rooms, a lower order, or a "
            "larger longest_response"
        )
    if max(config.window, config.variants * len(config.sounds) * config.loop_samples) > MOST_SAMPLES:
        raise ValueError(
            f"observations of {config.window:,} samples, and {config.variants} variants of {len(config.sounds)} "
            f"sounds of {config.loop_samples:,} samples, are more than {MOST_SAMPLES:,}: give shorter seconds or "
            "loop, a lower rate, or fewer variants"
        )
    if config.loop < config.seconds and config.clock == "stream":
        raise ValueError(
            f"loop={config.loop} s is less than seconds={config.seconds}, an observation: lengthen the loop"
        )


def check_modes(config: SeekConfig) -> None:
    """Raise ValueError for ambiguous distractors, and for bursts that do not fit their period."""
    if config.distractors and config.sources > 1:
        raise ValueError(
            f"distractors={config.distractors} with sources={config.sources}: the target is one source; give "
            "sources=1, or no distractors"
        )
    kinds = len(set(config.sounds))
    if config.distractors and (config.findable > kinds or kinds < len(config.sounds)):
        raise ValueError(
            f"a target and {config.distractors} distractors need as many kinds of sound, each named once, but "
            f"sounds names {kinds} in {len(config.sounds)}: give more sounds, or fewer distractors"
        )
    if config.burst is None:
        return
    if config.burst > config.period:
        raise ValueError(f"burst={config.burst} s is more than period={config.period} s: give a shorter burst")
    periods = config.loop_samples / round(config.period * config.rate)
    if periods != round(periods):
        raise ValueError(
            f"loop={config.loop} s is not a multiple of period={config.period} s: give loop="
            f"{config.period * max(1, round(periods)):g}"
        )
