"""Binaural mixtures of sounds in rooms: a world for separators.

Each clip is a random room with a few sources at random positions and a listener, still or moving. The reference of
each source is its spatial image: the source alone at the same ears and poses, with all its reverberation. The clip
is the sum of the images. A dry sound would be no reference, because it contains neither the room nor the ears.

Sounds are synthesised, of different kinds as far as there are enough, or recordings of different speakers. They
form disjoint sets, and every clip has its own room: a split by sets holds out both rooms and sounds.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.catalogue import ROOMS, WORLDS
from sonarium.config import Range, check_ranges
from sonarium.rooms.acoustics.geometry import Room
from sonarium.rooms.acoustics.reverberation import absorption_for, mean_free_path
from sonarium.rooms.acoustics.simulator import Acoustics
from sonarium.rooms.seek.config import MOST_SOURCES, SOUNDS, SeekConfig
from sonarium.rooms.seek.generate import Layout, draw_layout
from sonarium.rooms.seek.sounds import SHORTEST, Kind, Sounds, built_in_sound, clip, named_sounds
from sonarium.rooms.seek.synthesis import LOWEST_RATES, VOICES
from sonarium.worlds.contract import Batch, Progress, Signal, World, WorldEntry
from sonarium.worlds.recordings.layouts import Layout as FolderLayout

MOST_REFLECTIONS = 200
"""Maximum reflection order that a reverberation time may require."""

EARS_APART = {"none": 0.34, "sphere": 0.26}
"""Maximum ear distance in metres for each head model."""


@dataclass(frozen=True)
class MixturesConfig:
    """Sounds, rooms and listener."""

    sources: Annotated[int, Range(1, MOST_SOURCES)] = 2
    """Number of sources per mixture."""
    sounds: tuple[str, ...] = SOUNDS
    """Kinds of sound: phone, siren, tones, bird, babble; the sources of a mixture differ in kind as far as there
    are enough."""
    path: str | None = None
    """Folder of recordings to mix in place of synthesised sounds, or a manifest; the sources of a mixture are
    different speakers (birds, files)."""
    rt60: Annotated[float, Range(0, 60)] = 0.0
    """Reverberation time in seconds by Eyring's formula; 0 is anechoic, unless an `order` is given."""
    moving: bool = False
    """Let the listener move at random: in each window a step forward or back, or a turn."""
    clips: Annotated[int, Range(1, 10**7)] = 10_000
    """Number of mixtures."""
    sets: Annotated[int, Range(1, 10**4)] = 10
    """Number of disjoint sets of sounds; no two parts of a split share one."""
    variants: Annotated[int, Range(1, 1000)] = 8
    """Number of variants of each synthesised sound in a set."""
    seconds: Annotated[float, Range(0.1, 600)] = 4.0
    """Duration of a mixture in seconds."""
    rate: Annotated[int, Range(1000, 384_000)] = 8000
    """Sampling rate in Hz."""
    level: Annotated[float, Range(-120, 0)] = -30.0
    """Level of a source at 1 m, in dB(A) relative to full scale."""
    level_span: Annotated[float, Range(0, 60)] = 2.5
    """Half-width in dB of the interval around `level` from which each source draws its own."""
    room: str = "shoebox"
    """Room shape: shoebox, ngon (convex polygon), nonconvex (L, T, U or star), or of an installed package."""
    smallest: Annotated[float, Range(1, 10_000)] = 5.0
    """Minimum extent of a room in metres."""
    largest: Annotated[float, Range(1, 10_000)] = 10.0
    """Maximum extent of a room in metres."""
    height: Annotated[float | None, Range(0.1, 10_000)] = None
    """Room height in metres; without it rooms are two-dimensional."""
    order: Annotated[int | None, Range(0, 200)] = None
    """Maximum reflection order of the image-source method; by default as high as the reverberation time
    requires."""
    ear_distance: Annotated[float, Range(0, 0.34)] = 0.2
    """Distance between the ears in metres."""
    head: Literal["none", "sphere"] = "none"
    """Head model between the ears: none, or a rigid sphere with interaural delay and head shadow."""
    wall_distance: Annotated[float, Range(0, 10_000)] = 0.3
    """Minimum distance in metres of sources and listener from walls."""
    source_distance: Annotated[float, Range(1e-3, 10_000)] = 1.0
    """Minimum distance in metres between sources."""
    listener_distance: Annotated[float, Range(0.02, 10_000)] = 1.0
    """Minimum distance in metres between every source and the starting point of the listener."""
    window: Annotated[float, Range(0.02, 600)] = 0.25
    """Window length in seconds, in which a moving listener keeps its pose."""
    step: Annotated[float, Range(0, 1000)] = 0.5
    """Step length of a moving listener in metres; a step into a wall is not made."""
    turn: Annotated[float, Range(0, 180)] = 30.0
    """Turn angle of a moving listener in degrees."""
    layout: FolderLayout = "auto"
    """Layout of the folder; auto recognises it by metadata tables and file names."""
    pattern: str = ""
    """Pattern of labels in paths: {speaker}/{take}.wav, or a regular expression with (?P<speaker>...)."""
    group: str = ""
    """Label that identifies speakers; by default speaker, bird or the like, else each file is its own."""
    bad_fraction: Annotated[float, Range(0, 1)] = 0.01
    """Abort if more than this fraction of the recordings is bad."""
    cache: str | None = None
    """Cache folder for decoded recordings; by default sonarium/recordings in the user's cache folder."""

    def __post_init__(self) -> None:
        check_ranges(self)
        check_sounds(self)
        if self.largest < self.smallest:
            raise ValueError(f"smallest={self.smallest}, largest={self.largest}: give largest no less")
        if self.moving and self.window > self.seconds:
            raise ValueError(f"window={self.window} s is longer than seconds={self.seconds}: give a shorter one")
        if self.ear_distance > (most := EARS_APART[self.head]):
            raise ValueError(
                f"ear_distance={self.ear_distance}: with head={self.head} at most {most} m, from where on sound "
                "reaches one ear more than 1 ms after the other, which is as far as directions are looked for"
            )
        if self.room not in ROOMS:
            raise ValueError(f"room='{self.room}': choose one of {', '.join(ROOMS)}")

    @property
    def samples(self) -> int:
        return round(self.seconds * self.rate)

    @property
    def window_samples(self) -> int:
        return round(self.window * self.rate)


def check_sounds(config: MixturesConfig) -> None:
    """Raise ValueError for unknown, repeated or silent kinds of sound, and for too few of them."""
    for name in config.sounds:
        if name not in VOICES:
            raise ValueError(f"no kind of sound is called '{name}': choose of {', '.join(VOICES)}")
        if config.path is None and config.rate < (lowest := LOWEST_RATES.get(name, 0)):
            raise ValueError(f"the sound '{name}' is silent at rate={config.rate} Hz: give a rate of {lowest}")
    if len(set(config.sounds)) < len(config.sounds) or not config.sounds:
        raise ValueError(f"sounds={config.sounds}: name one kind or more, each once")
    if len(config.sounds) * config.variants < config.sources:
        raise ValueError(
            f"variants={config.variants} of {len(config.sounds)} kind(s) for sources={config.sources}: give more"
        )


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything a mixture is rendered from: room, sources, sounds and poses."""

    room: Room
    places: Float[np.ndarray, "source axis"]
    order: int
    poses: Float[np.ndarray, "window 3"]
    """x, y and heading of the listener in each window."""
    loops: list[Float[np.ndarray, " time"]]
    """Looped sound of each source."""
    offsets: Int[np.ndarray, " source"]
    """Sample of its loop at which each source starts."""


class Mixtures(World):
    """World of mixtures, each drawn from the seed and its index."""

    name = "mixtures"
    unit = "mixtures"
    group_kind = "set"

    def __init__(self, config: MixturesConfig, seed: int, recordings: World | None = None):
        self.config, self.seed, self.recordings = config, seed, recordings
        self.signal, self.factors = signal_of(config), ()
        self.rendered = self.planted = recordings is None
        self.seek = seek_config(config)
        self.members = [] if recordings is None else dealt(recordings, config, seed)
        """With recordings, the clips of each speaker in each set; otherwise empty."""
        self.sets = config.sets if recordings is None else len(self.members)
        self.sounds = cache(self.sounds_of)
        # Raise the error of impossible rooms now rather than in the middle of training.
        self.place(np.random.default_rng([seed, 0]))

    def __len__(self) -> int:
        return self.config.clips

    def whole(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        made = [rendered(self.scene(number), self.config) for number in index.tolist()]
        images = np.stack(made) if made else np.zeros((0, self.config.samples, self.config.sources, 2), np.float32)
        sources = torch.from_numpy(images)
        return Batch(index, sources.sum(2), torch.zeros(len(index), 0), sources=sources).to(device)

    def factor_values(self, index: Int[Tensor, " clip"]) -> Float[Tensor, "clip factor"]:
        return torch.zeros(len(index), 0)

    def group(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return index % self.sets

    def group_names(self) -> tuple[str, ...]:
        return tuple(f"set {number + 1}" for number in range(self.sets))

    def identity(self, index: Int[Tensor, " clip"]) -> list[str]:
        return [f"{self.content(number % self.sets)} {self.seed} {number}" for number in index.tolist()]

    def content(self, number: int) -> str:
        """Identifier of the sounds of a set: with recordings, a hash of their identities."""
        if self.recordings is None:
            return self.name
        own = torch.tensor([one for clips in self.members[number].values() for one in clips])
        return hashlib.blake2b(" ".join(self.recordings.identity(own)).encode(), digest_size=16).hexdigest()

    def scene(self, number: int) -> Scene:
        """Scene of a mixture, drawn from the seed and its number alone."""
        random = np.random.default_rng([self.seed, number, 0x5CE4E])
        layout, order = self.place(random)
        sounds = self.sounds(number % self.sets)
        picks, offsets = sounds.draw(random, self.config.sources)
        gains = 10 ** (random.uniform(-self.config.level_span, self.config.level_span, len(picks)) / 20)
        loops = [np.float32(gain) * sounds.loop(pick) for gain, pick in zip(gains, picks, strict=True)]
        return Scene(layout.room, self.heights(layout), order, self.poses(layout, random), loops, offsets)

    def place(self, random: np.random.Generator) -> tuple[Layout, int]:
        """A random room with sources and listener, and its maximum reflection order."""
        layout = draw_layout(self.seek, random)
        if not self.config.rt60:
            return layout, self.config.order or 0
        room = replace(layout.room, absorption=absorption_for(layout.room, self.config.rt60))
        enough = math.ceil(self.config.rt60 * room.speed / mean_free_path(room))
        if self.config.order is None and enough > MOST_REFLECTIONS:
            raise ValueError(
                f"rt60={self.config.rt60} s takes {enough} reflections in a room of {room.area:.0f} m²: give a "
                "shorter time, larger rooms, or an order"
            )
        return replace(layout, room=room), enough if self.config.order is None else self.config.order

    def heights(self, layout: Layout) -> Float[np.ndarray, "source axis"]:
        """Source positions in as many dimensions as the room has."""
        if self.config.height is None:
            return layout.sources
        return np.column_stack([layout.sources, np.full(len(layout.sources), self.seek.source_height)])

    def poses(self, layout: Layout, random: np.random.Generator) -> Float[np.ndarray, "window 3"]:
        """Pose of the listener in each window; a step into a wall is not made."""
        config = self.config
        if not config.moving:
            return layout.pose[None]
        found = [layout.pose]
        for move in random.integers(4, size=math.ceil(config.samples / config.window_samples) - 1).tolist():
            x, y, heading = found[-1]
            sign = 1 - 2 * (move % 2)
            pose = np.array([x, y, heading + sign * math.radians(config.turn)])
            if move < 2:
                way = sign * config.step
                pose = np.array([x + way * math.cos(heading), y + way * math.sin(heading), heading])
            stands = (
                layout.plan.holds(pose[None, :2])[0] and layout.plan.free(found[-1][None, :2], pose[None, :2])[0]
            )
            found.append(pose if stands else found[-1])
        return np.array(found)

    def sounds_of(self, number: int) -> Sounds:
        """The sounds of a set."""
        config = self.config
        common = config.rate, config.samples, config.level
        if self.recordings is not None:
            kinds = [
                Kind(name, len(own), partial(taken, self.recordings, own, *common[:2]))
                for name, own in self.members[number].items()
            ]
            return Sounds(kinds, *common)
        first = (self.seed * config.sets + number) * config.variants
        if len(config.sounds) >= config.sources:
            return named_sounds(config.sounds, config.variants, *common, first)
        # No two sources of a mixture play the same variant.
        kinds = [
            Kind(f"{name} {variant}", 1, partial(built_in_sound, name, *common[:2], first + variant))
            for name in config.sounds
            for variant in range(config.variants)
        ]
        return Sounds(kinds, *common)

    def describe(self) -> str:
        config = self.config
        what = ", ".join(config.sounds) if self.recordings is None else self.recordings.describe()
        where = f"reverberation time {config.rt60:g} s" if config.rt60 else "anechoic"
        if config.order and not config.rt60:
            where = f"reflections up to order {config.order}, absorption {self.seek.absorption}"
        return f"mixtures: {len(self)} of {config.sources} sources ({what}), {where}, in {self.sets} sets" + (
            ", the listener moves" if config.moving else ""
        )

    def keep(self, folder: Path) -> str:
        return "" if self.recordings is None else self.recordings.keep(folder)


def seek_config(config: MixturesConfig) -> SeekConfig:
    """Configuration for drawing rooms and positions as for agents; `place` sets the reverberation time."""
    middle = {} if config.height is None else dict.fromkeys(("ear_height", "source_height"), config.height / 2)
    return SeekConfig(
        sources=config.sources, actions="continuous", step=1e-3, radius=1e-3, rate=config.rate, room=config.room,
        smallest=config.smallest, largest=config.largest, order=0, ear_distance=config.ear_distance,
        wall_distance=config.wall_distance, source_distance=config.source_distance,
        start_distance=config.listener_distance, height=config.height, **middle,
    )  # fmt: skip


def dealt(recordings: World, config: MixturesConfig, seed: int) -> list[dict[str, list[int]]]:
    """Random partition of the speakers into sets: for each set, the clip numbers of each speaker."""
    every = torch.arange(len(recordings))
    long_enough = every[recordings.lengths(every) >= SHORTEST * config.rate]
    names, by_group = recordings.group_names(), {}
    for number, group in zip(long_enough.tolist(), recordings.group(long_enough).tolist(), strict=True):
        by_group.setdefault(names[group], []).append(number)
    if len(by_group) < config.sources:
        raise ValueError(
            f"'{config.path}' has recordings of {len(by_group)} {recordings.group_kind}(s), and a mixture has "
            f"{config.sources} sources of different ones: give a larger folder, or fewer --sources"
        )
    order = np.random.default_rng([seed, 0x5E75]).permutation(sorted(by_group)).tolist()
    sets = min(config.sets, len(order) // config.sources)
    return [{name: by_group[name] for name in order[number::sets]} for number in range(sets)]


def taken(world: World, own: list[int], rate: int, samples: int, number: int) -> Float[np.ndarray, " samples"]:
    """Recording `number` of the speaker whose clips are `own`."""
    return clip(world, rate, samples, own[number])


def rendered(scene: Scene, config: MixturesConfig) -> Float[np.ndarray, "time source ear"]:
    """Spatial image of each source at both ears: each source is rendered alone in the same room."""
    count, windows = len(scene.places), len(scene.poses)
    window = config.samples if windows == 1 else config.window_samples
    acoustics = Acoustics(
        count, 1, config.rate, window, scene.order, config.ear_distance, head=config.head, threads=1
    )
    for source in range(count):
        here = slice(source, source + 1)
        acoustics.enter(source, scene.room, scene.places[here], scene.loops[here], scene.offsets[here])
    heard = []
    for *place, heading in scene.poses.tolist():
        at = place if scene.room.height is None else [*place, scene.room.height / 2]
        heard.append(acoustics.hear(np.tile(at, (count, 1)), np.full(count, heading)))
    return np.ascontiguousarray(np.concatenate(heard, -1)[..., : config.samples].transpose(2, 0, 1))


def signal_of(config: MixturesConfig) -> Signal:
    """Signal specification of a mixture."""
    return Signal(
        "binaural", (config.samples, 2), config.rate,
        sources=config.sources, ear_distance=config.ear_distance, head=config.head,
    )  # fmt: skip


def build(config: MixturesConfig, seed: int, progress: Progress) -> Mixtures:
    """Mixtures of synthesised sounds, or of the recordings in a folder."""
    if config.path is None:
        return Mixtures(config, seed)
    entry = WORLDS["recordings"]
    same = ("path", "layout", "pattern", "group", "rate", "bad_fraction", "cache")
    chosen = entry.Config(**{name: getattr(config, name) for name in same})
    return Mixtures(config, seed, entry.build(chosen, seed, progress))


MIXTURES = WorldEntry(
    "binaural mixtures of sounds in rooms, each source known",
    "binaural",
    MixturesConfig,
    build,
    signal_of,
    main=("sources", "sounds", "path", "rt60", "moving", "seconds", "rate"),
)
