"""Episodes in many rooms in parallel: transition, reward and observation of a step.

Both environments use this engine, the single one with one slot. Movement and reward are NumPy operations over all
slots; only slots that begin an episode or find a source are handled one by one.

A source is found when the centre of the head is within the radius, in the floor plan, and in line of sight. A move
into a wall, or nearer to one than an ear allows, is not made; turning is always possible.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from jaxtyping import Bool, Float, Int

from sonarium.features.ears import Ears
from sonarium.rooms.acoustics.geometry import Room
from sonarium.rooms.acoustics.simulator import Acoustics
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.generate import TURNS, Layout, Wanted, draw_layout, draw_walk
from sonarium.rooms.seek.noise import add_noise, drawn_starts, white
from sonarium.rooms.seek.paths import Walking
from sonarium.rooms.seek.reward import reward
from sonarium.rooms.seek.sounds import Pick, Sounds, loudest, named_sounds, world_sounds
from sonarium.worlds.contract import World

OPTIONS = ("room", "places", "pose")
"""Options of `reset`: a Room, x and y of each source, and x, y, heading of the start."""
AHEAD = 3
"""Steps that the oracle looks ahead for distractors."""
CLEARANCE = 0.02
"""Metres beyond the radius by which the oracle passes distractors."""
COMPASS = np.array([(0, 1), (0, -1), (-1, 0), (1, 0), (0, 0), (0, 0)], np.float64)


@dataclass(frozen=True, eq=False)
class Scene:
    """The data for a picture of an episode."""

    room: Room
    pose: Float[np.ndarray, "3"]
    """x, y, heading."""
    trajectory: Float[np.ndarray, "step 3"]
    """All poses since the start, the current one last."""
    sources: Float[np.ndarray, "source 2"]
    on: Bool[np.ndarray, " source"]
    found_at: Int[np.ndarray, " source"]
    """The step at which each source was found, -1 for those that are on."""
    sounds: tuple[str, ...]
    """Name of the sound of each source."""
    radius: float
    ear_distance: float
    ear_height: float
    level_map: Callable[[Float[np.ndarray, "point axis"]], Float[np.ndarray, " point"]]
    """Level in dB of the sources that are on, at points of the room; valid until the next episode begins."""
    distractors: int = 0
    """Number of distractors, which are the last of the sources."""

    @property
    def targets(self) -> int:
        return len(self.on) - self.distractors

    @property
    def tally(self) -> tuple[int, int]:
        """Number of targets found, and of all targets."""
        return int((~self.on[: self.targets]).sum()), self.targets


@dataclass(frozen=True, eq=False)
class Outcome:
    """Reward and end of episode, in every slot."""

    reward: Float[np.ndarray, " slot"]
    terminated: Bool[np.ndarray, " slot"]
    truncated: Bool[np.ndarray, " slot"]


class Episodes:
    """Rooms in parallel, each with an agent and its sources."""

    def __init__(self, config: SeekConfig, slots: int, world: World | None = None, record: bool = False) -> None:
        self.config, self.slots, self.record = config, slots, record
        self.sounds = sounds_of(config, world)
        self.acoustics = Acoustics(
            slots, config.emitters, config.rate, config.window, config.order, config.ear_distance, config.clock,
            config.head, threads=config.threads, device=config.device, most_images=config.most_images,
            longest_response=config.longest_response, apart=config.source_info,
        )  # fmt: skip
        self.images = np.zeros((slots, config.findable * config.source_info, 2, config.window), np.float32)
        """Last spatial image of each source (with `source_info`), before clipping."""
        self.walking = Walking(slots, config.sources, moving=config.moving > 0)
        self.ears = Ears(config.ears, config.rate).to(config.device) if config.observation == "features" else None
        self.measured = config.oracle_info or config.paid.progress != 0
        both = (slots, config.findable)
        self.place, self.heading = np.zeros((slots, 2)), np.zeros(slots)
        self.source, self.on = np.zeros((*both, 2)), np.zeros(both, bool)
        self.found_at = np.full(both, -1)
        self.steps, self.walked = np.zeros(slots, int), np.zeros(slots)
        self.running = np.zeros(slots, bool)
        # Shortest paths: length to each source, its first waypoint, and length through all sources that are on.
        targets = (slots, config.sources)
        self.lengths, self.waypoints, self.left = np.zeros(targets), np.zeros((*targets, 2)), np.zeros(slots)
        self.layouts: list[Layout | None] = [None] * slots
        self.picks: list[list[Pick]] = [[]] * slots
        self.walks = np.zeros((*both, TURNS, 2))
        """Waypoints of the walks of moving sources."""
        self.noise_starts = np.zeros((slots, 2), np.int64)
        self.cues = np.zeros((slots, config.cued_steps * config.window), np.float32)
        """Sound of the target that is played at the start of an episode."""
        self.trace = np.zeros((slots, config.max_steps + 1 if record else 0, 3))
        self.heard = np.zeros((slots if record else 0, 2, config.window), np.float32)
        """Last binaural waveform, even if features are observed."""

    def begin(self, slot: int, random: np.random.Generator, seeded: bool, options: dict[str, Any] | None) -> None:
        """Start a new episode in a slot; if `seeded`, its generator is new and `same_config` keeps nothing."""
        config, old = self.config, self.layouts[slot]
        wanted = wanted_by(options)
        keep = config.same_config and not seeded and options is None and old is not None
        places = random if config.layout_seed is None else np.random.default_rng(config.layout_seed)
        layout = old if keep and old is not None else draw_layout(config, places, wanted)
        picks, offsets = self.sounds.draw(random, config.findable, config.new_sounds)
        # Drawn after everything that the default settings draw, so that their episodes do not change.
        if config.point_noise is not None:
            offsets = np.append(offsets, random.integers(config.loop_samples))
        if config.diffuse_noise is not None:
            self.noise_starts[slot] = drawn_starts(random)
        if config.moving:
            self.walks[slot] = [
                draw_walk(config, layout.room, layout.plan, start, random)
                for start in layout.sources[: config.findable]
            ]
        self.enter(slot, layout, picks, offsets)
        self.on[slot], self.found_at[slot] = True, -1
        self.place[slot], self.heading[slot] = layout.pose[:2], wrapped(layout.pose[2:])[0]
        self.steps[slot], self.walked[slot], self.running[slot] = 0, 0.0, True
        if self.measured:
            self.measure(np.array([slot]))
        self.note()

    def enter(self, slot: int, layout: Layout, picks: list[Pick], offsets: Int[np.ndarray, " emitter"]) -> None:
        """Put a room with its sources and their sounds into a slot."""
        config = self.config
        self.layouts[slot], self.picks[slot] = layout, picks
        loops = [self.sounds.loop(pick) for pick in picks]
        if config.point_noise is not None:
            loops.append(np.resize(white(config.point_noise), config.loop_samples))
        self.acoustics.enter(slot, layout.room, self.lifted(layout.sources, config.source_height), loops, offsets)
        if config.stops is not None and config.clock == "stream":
            self.acoustics.stop(slot, slice(config.findable), round(config.stops * config.rate))
        self.walking.enter(slot, layout.plan, layout.sources[: config.sources])
        self.source[slot] = layout.sources[: config.findable]
        if config.cued_steps:
            told = self.sounds.whole(picks[0])
            samples = min(self.cues.shape[1], len(told))
            first = loudest(told, samples)
            self.cues[slot] = np.resize(told[first : first + samples], self.cues.shape[1])

    def measure(self, rows: Int[np.ndarray, " row"]) -> None:
        """Update the shortest paths."""
        self.lengths[rows], self.waypoints[rows] = self.walking.ahead(self.place[rows], rows)
        self.left[rows] = self.walking.left(self.lengths[rows], self.on[rows, : self.config.sources], rows)

    def step(self, actions: np.ndarray, stepping: Bool[np.ndarray, " slot"]) -> Outcome:
        """Take one action in every slot that is `stepping`; the others stand still, with reward 0."""
        if not (self.running | ~stepping).all():
            late = int(np.argmin(self.running | ~stepping))
            raise ResetNeeded(f"step() in room {late}, whose episode is over or has not begun: call reset() first")
        config = self.config
        moves, turns = self.moves(actions)
        moves[~stepping], turns[~stepping] = 0, 0
        goal = self.place + moves
        goal = np.where(self.walking.free(self.place, goal)[:, None], goal, self.place)
        self.walked += np.linalg.norm(goal - self.place, axis=1)
        self.place, self.heading = goal, wrapped(self.heading + turns)
        self.steps += stepping
        before = self.on.copy()
        self.go_on(stepping)
        distance = np.where(before, np.linalg.norm(self.source - goal[:, None], axis=-1), np.inf)
        self.find((distance <= config.radius) & stepping[:, None])
        left_before = self.left
        if self.measured:
            self.left = left_before.copy()
            self.measure(self.walking.every_slot)
        targets = config.sources
        switched_off = before & ~self.on
        found = switched_off[:, :targets].sum(axis=1)
        wrong = switched_off[:, targets:].sum(axis=1) if config.distractors else None
        nearest = distance[:, :targets].min(axis=1)
        earned = reward(config.paid, turns != 0, found, nearest, left_before, self.left, wrong)
        terminated = stepping & ~self.on[:, :targets].any(axis=1)
        if wrong is not None and config.wrong == "ends":
            terminated |= wrong > 0
        truncated = stepping & ~terminated & (self.steps >= config.max_steps)
        self.running &= ~(terminated | truncated)
        self.note()
        return Outcome(np.where(stepping, earned, 0.0), terminated, truncated)

    def go_on(self, stepping: Bool[np.ndarray, " slot"]) -> None:
        """Advance the sources by a step: those that are on walk, and fall silent after `stops` with clock clip."""
        config = self.config
        if config.moving:
            moving = self.on & stepping[:, None]
            walked = along(self.walks, config.moving * self.steps)
            self.source = np.where(moving[..., None], walked, self.source)
            if moving.any():
                self.follow(moving)
        if config.stops is not None and config.clock == "clip":
            over = np.zeros((self.slots, config.emitters), bool)
            over[:, : config.findable] = (self.steps * config.seconds >= config.stops)[:, None]
            self.acoustics.silence(over)

    def follow(self, moving: Bool[np.ndarray, "slot source"]) -> None:
        """Update the acoustics and the shortest paths for sources that have moved."""
        flat = self.source.reshape(-1, 2)
        places = self.lifted(flat, self.config.source_height).reshape(*moving.shape, -1)
        self.acoustics.follow(moving, places)
        if self.measured:
            self.walking.move(self.source[:, : self.config.sources].copy())

    def find(self, near: Bool[np.ndarray, "slot source"]) -> None:
        """Switch off near sources in line of sight."""
        for slot in np.flatnonzero(near.any(axis=1)).tolist():
            layout = self.layouts[slot]
            assert layout is not None
            sources = np.flatnonzero(near[slot])
            here = np.broadcast_to(self.place[slot], (len(sources), 2))
            for source in sources[layout.room.in_sight(here, self.source[slot, sources])]:
                self.on[slot, source], self.found_at[slot, source] = False, self.steps[slot]
                self.acoustics.switch_off(slot, int(source))

    def moves(self, actions: np.ndarray) -> tuple[Float[np.ndarray, "slot 2"], Float[np.ndarray, " slot"]]:
        """Displacement along x and y in metres, and rotation to the left in radians, of each action."""
        config = self.config
        angle = np.radians(config.turn)
        ahead = config.step * np.stack([np.cos(self.heading), np.sin(self.heading)], axis=1)
        if config.actions == "continuous":
            forward, left = actions[:, :1].astype(np.float64), actions[:, 1].astype(np.float64)
            return forward * ahead, left * angle
        if config.actions == "compass":
            return config.step * COMPASS[actions], angle * ((actions == 4).astype(float) - (actions == 5))
        forward = (actions == 0).astype(float) - (actions == 1)
        return forward[:, None] * ahead, angle * ((actions == 2).astype(float) - (actions == 3))

    def note(self) -> None:
        """Record the poses for pictures."""
        if self.record:
            self.trace[self.walking.every_slot, self.steps] = self.poses()

    def poses(self) -> Float[np.ndarray, "slot 3"]:
        return np.concatenate([self.place, self.heading[:, None]], axis=1)

    def lifted(self, points: Float[np.ndarray, "point 2"], height: float) -> Float[np.ndarray, "point axis"]:
        """Points of the floor plan with a height, in a room that has one."""
        return points if self.config.height is None else np.column_stack([points, np.full(len(points), height)])

    def observe(self, rows: Int[np.ndarray, " row"] | None = None) -> np.ndarray | dict[str, np.ndarray]:
        """The next observation, in all slots or in some; time advances only there."""
        here = slice(None) if rows is None else rows
        places = self.lifted(self.place[here], self.config.ear_height)
        heard = self.acoustics.hear(places, self.heading[here], rows)
        if self.config.diffuse_noise is not None:
            passed = self.steps[here, None] * self.config.window
            add_noise(heard, self.config.diffuse_noise, self.noise_starts[here] + passed)
        if self.acoustics.images is not None:
            self.images[here] = self.config.gain * self.acoustics.images[here, : self.config.findable]
        if self.config.cued_steps:
            self.tell(heard, np.arange(self.slots) if rows is None else rows)
        if self.config.gain != 1:
            heard *= self.config.gain
        np.clip(heard, -1, 1, out=heard)
        if self.record:
            self.heard[here] = heard
        name, sensed = "audio", heard
        if self.ears is not None:
            with torch.no_grad():
                felt = self.ears(torch.from_numpy(heard).to(self.config.device))
            limit = feature_limit(self.config)
            name, sensed = "features", felt.clamp(-limit, limit).cpu().numpy().astype(np.float32)
        observed = {name: sensed}
        if self.config.pose:
            observed["pose"] = self.poses()[here].astype(np.float32)
        if tells_category(self.config):
            kinds = np.array([picks[0].kind if picks else 0 for picks in self.picks])
            observed["target"] = kinds[here]
        return sensed if len(observed) == 1 else observed

    def tell(self, heard: Float[np.ndarray, "row 2 window"], rows: Int[np.ndarray, " row"]) -> None:
        """Replace the sound of the room by the target's dry sound, the cue, at the start of episodes."""
        window = self.config.window
        for row in np.flatnonzero(self.steps[rows] < self.config.cued_steps).tolist():
            first = int(self.steps[rows[row]]) * window
            heard[row] = self.cues[rows[row], first : first + window]
            # The sources of the room are inaudible during the cue.
            self.images[rows[row]] = 0

    def info(self) -> dict[str, np.ndarray]:
        """`info` of every slot."""
        targets = self.config.sources
        on = self.on[:, :targets]
        told = {"found": (~on).sum(axis=1), "is_success": ~on.any(axis=1)}
        if self.config.distractors:
            told["wrong"] = (~self.on[:, targets:]).sum(axis=1)
        if self.config.source_info:
            told |= {"images": self.images.copy(), "lateral": self.lateral(), "on": self.on.copy()}
        if not self.config.oracle_info:
            return told
        rows = self.walking.every_slot
        lengths = np.where(on, self.lengths, np.inf)
        nearest = lengths.argmin(axis=1)
        way = self.waypoints[rows, nearest] - self.place
        any_on = on.any(axis=1)
        bearing = wrapped(np.arctan2(way[:, 1], way[:, 0]) - self.heading)
        if self.config.distractors:
            bearing = self.past_distractors(bearing, np.linalg.norm(way, axis=1))
        return told | {
            "pose": self.poses(),
            "sources": self.source.copy(),
            "on": self.on.copy(),
            "bearing": np.where(any_on, bearing, 0.0),
            "distance": np.where(any_on, lengths[rows, nearest], 0.0),
            "walked": self.walked.copy(),
        }

    def lateral(self) -> Float[np.ndarray, "slot source"]:
        """Angle in radians of each source from the plane between the ears, positive to the left; the same in front
        and behind."""
        way = self.source - self.place[:, None]
        left = np.stack([-np.sin(self.heading), np.cos(self.heading)], axis=1)
        tall = 0.0 if self.config.height is None else self.config.source_height - self.config.ear_height
        distance = np.sqrt(np.square(way).sum(axis=-1) + tall**2)
        aside = (way * left[:, None]).sum(axis=-1)
        return np.arcsin(np.clip(aside / np.maximum(distance, 1e-9), -1, 1))

    def past_distractors(
        self, bearing: Float[np.ndarray, " slot"], distance: Float[np.ndarray, " slot"]
    ) -> Float[np.ndarray, " slot"]:
        """The turn nearest to the bearing after which the next step meets no wall and the next `AHEAD` steps no
        distractor; the bearing itself where nothing is in the way."""
        config, angle = self.config, np.radians(self.config.turn)
        turns = angle * np.arange(-math.ceil(np.pi / angle), math.ceil(np.pi / angle) + 1)
        candidates = np.concatenate([bearing[:, None], np.broadcast_to(turns, (self.slots, len(turns)))], axis=1)
        heading = self.heading[:, None] + candidates
        ahead = np.stack([np.cos(heading), np.sin(heading)], axis=-1)
        offset = (self.source[:, config.sources :] - self.place[:, None])[:, None]
        reach = np.minimum(AHEAD * config.step, distance)[:, None, None]
        on_way = np.clip((offset * ahead[:, :, None]).sum(axis=-1), 0, reach)
        apart = np.linalg.norm(offset - on_way[..., None] * ahead[:, :, None], axis=-1)
        near = self.on[:, None, config.sources :] & (apart <= config.radius + CLEARANCE)
        blocked = near.any(axis=2)
        # The steps along the bearing itself deviate from it by up to half a step.
        within = apart[:, 0] <= config.radius + config.step / 2
        blocked[:, 0] |= (self.on[:, config.sources :] & within).any(axis=1)
        ends = self.place[:, None] + config.step * ahead
        for number in range(candidates.shape[1]):
            blocked[:, number] |= ~self.walking.free(self.place, ends[:, number])
        cost = np.abs(wrapped(candidates - bearing[:, None])) + np.where(blocked, 2 * np.pi, 0.0)
        return wrapped(candidates[self.walking.every_slot, cost.argmin(axis=1)])

    def scene(self, slot: int) -> Scene:
        """The data for a picture of this slot."""
        layout, config = self.layouts[slot], self.config
        if layout is None:
            raise ResetNeeded("nothing to render yet: call reset() first")
        trace = self.trace[slot, : self.steps[slot] + 1] if self.record else self.poses()[slot : slot + 1]
        return Scene(
            layout.room, self.poses()[slot], trace.copy(), self.source[slot].copy(), self.on[slot].copy(),
            self.found_at[slot].copy(), self.sounds.names(self.picks[slot]), config.radius,
            config.ear_distance, config.ear_height,
            partial(self.acoustics.levels, slot), config.distractors,
        )  # fmt: skip


def along(
    walks: Float[np.ndarray, "slot source turn 2"], walked: Float[np.ndarray, " slot"]
) -> Float[np.ndarray, "slot source 2"]:
    """Positions on the walks, to and fro between their waypoints, after a number of metres."""
    legs = np.linalg.norm(np.diff(walks, axis=2), axis=-1)
    passed = np.cumsum(legs, axis=2)
    total = np.maximum(passed[..., -1], 1e-9)
    there = walked[:, None] % (2 * total)
    there = np.minimum(there, 2 * total - there)
    leg = np.minimum((passed <= there[..., None]).sum(axis=2), legs.shape[2] - 1)[..., None]
    left = np.take_along_axis(passed, leg, 2) - there[..., None]
    ends = np.take_along_axis(walks, leg[..., None] + 1, 2)[..., 0, :]
    starts = np.take_along_axis(walks, leg[..., None], 2)[..., 0, :]
    back = np.clip(left / np.maximum(np.take_along_axis(legs, leg, 2), 1e-9), 0, 1)
    return ends + back * (starts - ends)


def tells_category(config: SeekConfig) -> bool:
    return config.distractors > 0 and config.target == "category"


def wrapped(angle: Float[np.ndarray, "*slots"]) -> Float[np.ndarray, "*slots"]:
    """The angle in (−π, π]."""
    return np.pi - (np.pi - angle) % (2 * np.pi)


def feature_limit(config: SeekConfig) -> float:
    """Bound of the absolute value of features: level differences are largest, and loud sounds slightly exceed
    1."""
    return max(2.0, config.ears.level_limit / config.ears.level_unit)


def sounds_of(config: SeekConfig, world: World | None) -> Sounds:
    burst = None
    if config.burst is not None:
        burst = round(config.burst * config.rate), round(config.period * config.rate)
    if world is not None:
        if config.distractors:
            raise ValueError(
                "a world has one kind of sound, from which no distractor differs: give sounds instead"
            )
        return world_sounds(world, config.rate, config.loop_samples, config.level, burst)
    return named_sounds(
        config.sounds, config.variants, config.rate, config.loop_samples, config.level, config.first_variant, burst
    )


def wanted_by(options: dict[str, Any] | None) -> Wanted:
    """The options of a reset, checked."""
    options = options or {}
    for name in options:
        if name not in OPTIONS:
            raise ValueError(f"reset got the option '{name}': the options are {', '.join(OPTIONS)}")
    room, places, pose = (options.get(name) for name in OPTIONS)
    if room is not None and not isinstance(room, Room):
        raise ValueError(
            f"reset got a room of type {type(room).__name__}: give a Room, as made by shoebox or polygon"
        )
    arrays = [None if value is None else np.asarray(value, np.float64) for value in (places, pose)]
    return Wanted(room, *arrays)
