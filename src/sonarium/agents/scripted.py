"""Scripted agents: lower and upper bounds for agents that learn.

Random draws its actions uniformly. Oracle reads the shortest path from `info`. LoudnessFollower is monaural: it
walks forward unless the level falls, and then turns at random, as bacteria climb a gradient (Berg & Brown, 1972).
DifferenceFollower is binaural: it scores every direction by the interaural phase difference (generalised
cross-correlation, Knapp & Carter, 1976) and the interaural level difference, and accumulates the scores while it
turns, because only head rotation resolves front-back confusion (Wallach, 1940).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Complex64, Float, Int

from sonarium.agents.contract import Agent, Info, Memory

FORWARD, BACK, LEFT, RIGHT = range(4)
"""The actions of an environment with `actions="turn"`."""
Actions = Int[np.ndarray, " slot"]
State = TypeVar("State")


@dataclass(frozen=True)
class Body:
    """Parameters of a scripted agent's actions and ears."""

    actions: str = "turn"
    """Action space of the environment; the agents need "turn": forward, back, turn left, turn right."""
    turn: float = 30.0
    """Angle of one turn in degrees."""
    ear_distance: float = 0.2
    """Distance between the ears in metres."""
    rate: int = 8000
    """Sampling rate of the observation in Hz."""
    speed: float = 343.0
    """Speed of sound in m/s."""

    def __post_init__(self) -> None:
        if self.actions != "turn":
            raise ValueError(
                f"the scripted agents go forward, go back and turn, but the environment has "
                f"actions='{self.actions}': choose actions='turn'"
            )
        for name in ("turn", "rate", "speed"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: give a positive number")
        if not 0 <= self.ear_distance < math.inf:
            raise ValueError(f"ear_distance={self.ear_distance}: give metres, 0 or more")


class Scripted(Agent):
    """A fixed rule for one body; all randomness comes from the generator passed to `act`."""

    generator_kind = "numpy"

    def __init__(self, body: Body) -> None:
        self.body = body
        self.turn = math.radians(body.turn)


def restarted(memory: State, initial: State, first: Bool[np.ndarray, " slot"]) -> State:
    """The memory, a dataclass of arrays, with its initial values in the slots where an episode begins."""
    if not first.any():
        return memory
    kept: Any = memory
    rows = {}
    for one in fields(kept):
        old, new = getattr(memory, one.name), getattr(initial, one.name)
        rows[one.name] = np.where(first.reshape(-1, *[1] * (old.ndim - 1)), new, old)
    return replace(kept, **rows)


class Random(Scripted):
    """Uniformly random actions, without memory."""

    def initial(self, slots: int) -> Memory:
        return ()

    def act(
        self,
        memory: Memory,
        observation: Float[np.ndarray, "slot 2 time"],
        first: Bool[np.ndarray, " slot"],
        generator: np.random.Generator,
        info: Info,
    ) -> tuple[Memory, Actions, dict[str, Any]]:
        return memory, generator.integers(0, 4, len(observation)), {}


@dataclass(frozen=True, eq=False)
class OracleMemory:
    place: Float[np.ndarray, "slot 2"]
    """Position at the last step."""
    moved: Bool[np.ndarray, " slot"]
    """Whether the last action was a step forward."""
    sidestep: Bool[np.ndarray, " slot"]
    """Whether it has just turned away from an obstacle."""


class Oracle(Scripted):
    """Turns toward the next point of the shortest path and walks; sidesteps where a corner blocks a step."""

    def initial(self, slots: int) -> OracleMemory:
        return OracleMemory(np.full((slots, 2), np.nan), np.zeros(slots, bool), np.zeros(slots, bool))

    def act(
        self,
        memory: OracleMemory,
        observation: Float[np.ndarray, "slot 2 time"],
        first: Bool[np.ndarray, " slot"],
        generator: np.random.Generator,
        info: Info,
    ) -> tuple[OracleMemory, Actions, dict[str, Any]]:
        if "bearing" not in info or "pose" not in info:
            raise ValueError(
                "the oracle reads the shortest path from the environment, but info has no 'bearing' and 'pose': "
                "make the environment with oracle_info=True"
            )
        memory = restarted(memory, self.initial(len(first)), first)
        bearing, place = np.asarray(info["bearing"], float), np.asarray(info["pose"], float)[:, :2]
        blocked = memory.moved & (place == memory.place).all(axis=1)
        # One turn away from the path, the next step slides along the obstacle.
        side = np.where(generator.random(len(bearing)) < 0.5, LEFT, RIGHT)
        nearer = np.where(bearing > 0, LEFT, RIGHT)
        turned = np.where(np.abs(bearing) > 0.2 * self.turn, nearer, side)
        toward = np.where(np.abs(bearing) <= self.turn * 0.5 * (1 + 1e-9), FORWARD, nearer)
        action = np.where(blocked, turned, np.where(memory.sidestep, FORWARD, toward))
        return OracleMemory(place, action == FORWARD, blocked), action, {}


@dataclass(frozen=True, eq=False)
class LoudnessMemory:
    level: Float[np.ndarray, " slot"]
    """Level of the last window in dB; −∞ where it does not count."""
    turns: Int[np.ndarray, " slot"]
    """Number of turns still to be made."""
    side: Int[np.ndarray, " slot"]
    """Their direction."""


class LoudnessFollower(Scripted):
    """Walks forward unless the level falls, then turns by a random angle; monaural."""

    quieter = 1.0
    """Smallest fall of the level between windows, in dB, that counts: the sounds themselves fluctuate."""

    def initial(self, slots: int) -> LoudnessMemory:
        return LoudnessMemory(np.full(slots, -np.inf), np.zeros(slots, np.int64), np.full(slots, LEFT))

    def act(
        self,
        memory: LoudnessMemory,
        observation: Float[np.ndarray, "slot 2 time"],
        first: Bool[np.ndarray, " slot"],
        generator: np.random.Generator,
        info: Info,
    ) -> tuple[LoudnessMemory, Actions, dict[str, Any]]:
        memory = restarted(memory, self.initial(len(first)), first)
        now = loudness(observation)
        walking = memory.turns == 0
        worse = walking & (now < memory.level - self.quieter)
        # At most half a revolution.
        most = max(1, int(180 / self.body.turn))
        turns = np.where(worse, generator.integers(1, most + 1, len(worse)), memory.turns)
        side = np.where(worse, generator.choice([LEFT, RIGHT], len(worse)), memory.side)
        # The level before a turn says nothing about the new direction.
        level = np.where(walking & ~worse, now, -np.inf)
        turning = turns > 0
        return LoudnessMemory(level, turns - turning, side), np.where(turning, side, FORWARD), {}


@dataclass(frozen=True, eq=False)
class DifferenceMemory:
    scores: Float[np.ndarray, "slot direction"]
    """How well each direction has explained the interaural differences, in a frame fixed at the start."""
    heading: Float[np.ndarray, " slot"]
    """Radians turned to the left since the start."""
    detour: Int[np.ndarray, " slot"]
    """Remaining steps of a random detour."""
    side: Int[np.ndarray, " slot"]
    """Direction of its turn."""


class DifferenceFollower(Scripted):
    """Turns toward the direction that best explains the interaural differences, and walks while it faces it."""

    directions = 72
    """Number of directions that are scored."""
    decay = 0.8
    """Fraction of the scores that is kept from step to step."""
    level_weight = 0.2
    """Weight of the interaural level difference against the phase difference."""
    margin = 0.25
    """Score by which a direction must exceed its mirror image behind the ears to be trusted."""
    exploration = 0.05
    """Probability per step of a random detour, which frees an agent that is stuck at a wall."""
    points = 33
    """Number of interaural delays that are scored, from right ear first to left ear first."""

    def __init__(self, body: Body) -> None:
        super().__init__(body)
        self.angles = 2 * np.pi * np.arange(self.directions) / self.directions
        largest = body.ear_distance / body.speed
        self.delays = tuple(np.linspace(-largest, largest, self.points).tolist())

    def initial(self, slots: int) -> DifferenceMemory:
        none = np.zeros(slots, np.int64)
        return DifferenceMemory(np.zeros((slots, self.directions)), np.zeros(slots), none, none)

    def act(
        self,
        memory: DifferenceMemory,
        observation: Float[np.ndarray, "slot 2 time"],
        first: Bool[np.ndarray, " slot"],
        generator: np.random.Generator,
        info: Info,
    ) -> tuple[DifferenceMemory, Actions, dict[str, Any]]:
        memory = restarted(memory, self.initial(len(first)), first)
        scores, heading = self.scored(memory, observation), memory.heading
        slot = np.arange(len(observation))
        best = scores.argmax(axis=1)
        bearing = wrapped(self.angles[best] - heading)
        behind = wrapped(np.pi - bearing + heading)
        mirror = np.rint(behind / self.angles[1]).astype(int) % self.directions
        faced = np.abs(bearing) <= self.turn * 0.5 * (1 + 1e-9)
        doubtful = scores[slot, best] - scores[slot, mirror] < self.margin
        # Straight ahead and straight behind sound alike until the head turns.
        action = np.where(faced & ~doubtful, FORWARD, np.where(bearing >= 0, LEFT, RIGHT))
        # A random detour is one turn and two steps forward.
        starts = (memory.detour == 0) & (generator.random(len(action)) < self.exploration)
        side = np.where(starts, generator.choice([LEFT, RIGHT], len(action)), memory.side)
        left = np.where(starts, 3, memory.detour)
        action = np.where(left == 3, side, np.where(left > 0, FORWARD, action))
        heading = heading + self.turn * ((action == LEFT).astype(float) - (action == RIGHT))
        return DifferenceMemory(scores, heading, np.maximum(left - 1, 0), side), action, {}

    def scored(
        self, memory: DifferenceMemory, observation: Float[np.ndarray, "slot 2 time"]
    ) -> Float[np.ndarray, "slot direction"]:
        """Scores updated with one more window."""
        fit = side_fit(observation, self.delays, self.body.rate)
        lean = np.tanh(level_difference(observation) / 6)
        side = np.sin(self.angles[None] - memory.heading[:, None])
        at = (side + 1) / 2 * (self.points - 1)
        low = np.clip(at.astype(int), 0, self.points - 2)
        fraction = at - low
        slot = np.arange(len(observation))[:, None]
        fits = (1 - fraction) * fit[slot, low] + fraction * fit[slot, low + 1]
        return self.decay * memory.scores + fits + self.level_weight * lean[:, None] * side


@lru_cache(maxsize=4)
def phases_of(delays: tuple[float, ...], samples: int, rate: int) -> Complex64[np.ndarray, "bin delay"]:
    """Phase factors that compensate each interaural delay at each frequency of a window."""
    hertz = np.fft.rfftfreq(samples, 1 / rate)
    return np.exp(-2j * np.pi * hertz[:, None] * np.array(delays)).astype(np.complex64)


def side_fit(
    observation: Float[np.ndarray, "slot 2 time"], delays: tuple[float, ...], rate: int
) -> Float[np.ndarray, "slot delay"]:
    """How well each delay of the right ear after the left explains the interaural phase, −1 to 1; 0 in silence."""
    left, right = np.moveaxis(np.fft.rfft(observation), 1, 0)
    cross = left * right.conj()
    size = np.abs(cross)
    # Weighted by the square root of the magnitude, between plain cross-correlation and the phase transform.
    whitened = cross / np.sqrt(size + 1e-12)
    total = np.sqrt(size).sum(axis=1, keepdims=True)
    return (whitened @ phases_of(delays, observation.shape[-1], rate)).real / (total + 1e-5)


def level_difference(observation: Float[np.ndarray, "slot 2 time"]) -> Float[np.ndarray, " slot"]:
    """Interaural level difference in dB, positive where the left ear is louder."""
    power = np.square(observation, dtype=np.float64).mean(axis=-1) + 1e-14
    return 10 * np.log10(power[:, 0] / power[:, 1])


def loudness(observation: Float[np.ndarray, "slot 2 time"]) -> Float[np.ndarray, " slot"]:
    """Mean power of both ears in dB."""
    return 10 * np.log10(np.square(observation, dtype=np.float64).mean(axis=(1, 2)) + 1e-14)


def wrapped(angle: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """The same angle in (−π, π]."""
    return np.pi - (np.pi - angle) % (2 * np.pi)


SCRIPTED: dict[str, Callable[[Body], Agent]] = {
    "random": Random,
    "oracle": Oracle,
    "loudness": LoudnessFollower,
    "difference": DifferenceFollower,
}
