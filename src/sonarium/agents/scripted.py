"""Agents that follow a rule: bounds and controls for agents that learn.

Random walks at random. Oracle is told the way. LoudnessFollower has one ear and goes on as long as it grows
louder, as bacteria climb a gradient (Berg & Brown, 1972). DifferenceFollower has two: it asks of every direction
how well the delay between its ears fits (generalised cross-correlation, Knapp & Carter, 1976) and how their levels
differ, and remembers the answers while it turns, for only turning tells front from back (Wallach, 1940).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Complex64, Float, Int

from sonarium.agents.contract import Agent, Info

FORWARD, BACK, LEFT, RIGHT = range(4)
"""The actions of an environment whose kind of action is "turn"."""


@dataclass(frozen=True)
class Body:
    """What an agent knows of its own body and of its actions."""

    actions: str = "turn"
    """Kind of action of the environment; the rules are made for "turn": forward, back, turn left, turn right."""
    turn: float = 30.0
    """Degrees that a turn takes."""
    ear_distance: float = 0.2
    """Metres between the ears."""
    rate: int = 8000
    """Samples per second of what is heard."""
    speed: float = 343.0
    """Metres that sound goes in a second."""

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


class Random(Agent):
    """Each action as likely as any other."""

    def __init__(self, body: Body, generator: np.random.Generator) -> None:
        self.generator = generator

    def reset(self, count: int) -> None:
        pass

    def forget(self, ended: Bool[np.ndarray, " slot"]) -> None:
        pass

    def act(self, observation: Float[np.ndarray, "slot 2 time"], info: Info) -> Int[np.ndarray, " slot"]:
        return self.generator.integers(0, 4, len(observation))


class Oracle(Agent):
    """Turns to where the way leads, and goes; where a corner is in the way, it steps aside."""

    def __init__(self, body: Body, generator: np.random.Generator) -> None:
        self.turn = math.radians(body.turn)
        self.generator = generator

    def reset(self, count: int) -> None:
        self.place = np.full((count, 2), np.nan)
        self.went = np.zeros(count, bool)
        self.aside = np.zeros(count, np.int64)

    def forget(self, ended: Bool[np.ndarray, " slot"]) -> None:
        self.place[ended], self.went[ended], self.aside[ended] = np.nan, False, 0

    def act(self, observation: Float[np.ndarray, "slot 2 time"], info: Info) -> Int[np.ndarray, " slot"]:
        if "bearing" not in info or "pose" not in info:
            raise ValueError(
                "the oracle is told the way by the environment, but info has no 'bearing' and 'pose': "
                "make the environment with tell=True"
            )
        bearing, place = np.asarray(info["bearing"], float), np.asarray(info["pose"], float)[:, :2]
        blocked = self.went & (place == self.place).all(axis=1)
        # One turn past the way, the next step slides along what is there.
        side = np.where(self.generator.random(len(bearing)) < 0.5, LEFT, RIGHT)
        nearer = np.where(bearing > 0, LEFT, RIGHT)
        certain = np.abs(bearing) > 0.2 * self.turn
        turned = np.where(certain, nearer, side)
        toward = np.where(np.abs(bearing) <= self.turn * 0.5 * (1 + 1e-9), FORWARD, nearer)
        action = np.where(blocked, turned, np.where(self.aside > 0, FORWARD, toward))
        self.aside = np.where(blocked, 1, 0)
        self.went, self.place = action == FORWARD, place
        return action


class LoudnessFollower(Agent):
    """Goes on while it does not grow quieter, else turns by chance; one ear would do."""

    quieter = 1.0
    """Decibels from one window to the next that make it quieter; sounds come and go by themselves."""

    def __init__(self, body: Body, generator: np.random.Generator) -> None:
        self.generator = generator
        # Half a turn round at most, in whole turns.
        self.most_turns = max(1, int(180 / body.turn))

    def reset(self, count: int) -> None:
        self.before = np.full(count, -np.inf)
        self.turns, self.side = np.zeros(count, np.int64), np.full(count, LEFT)

    def forget(self, ended: Bool[np.ndarray, " slot"]) -> None:
        self.before[ended], self.turns[ended] = -np.inf, 0

    def act(self, observation: Float[np.ndarray, "slot 2 time"], info: Info) -> Int[np.ndarray, " slot"]:
        now = loudness(observation)
        walking = self.turns == 0
        worse = walking & (now < self.before - self.quieter)
        self.turns[worse] = self.generator.integers(1, self.most_turns + 1, len(worse))[worse]
        self.side[worse] = self.generator.choice([LEFT, RIGHT], len(worse))[worse]
        # What was heard before it turned says nothing about the new way.
        self.before = np.where(walking & ~worse, now, -np.inf)
        turning = self.turns > 0
        self.turns[turning] -= 1
        return np.where(turning, self.side, FORWARD)


class DifferenceFollower(Agent):
    """Turns to where the differences between its ears point, and goes ahead when they point nowhere else."""

    directions = 72
    """On which it has an opinion."""
    memory = 0.8
    """Share of the opinions that outlasts a step."""
    level_weight = 0.2
    """How much the difference of level counts beside that of phase."""
    sure = 0.25
    """How much better than its mirror image behind the ears a direction must fit to be trusted."""
    roused = 0.05
    """How often it tries something else, for it may stand before a wall."""
    points = 33
    """Delays that are looked at, from the right ear first to the left ear first."""

    def __init__(self, body: Body, generator: np.random.Generator) -> None:
        self.generator, self.body = generator, body
        self.turn = math.radians(body.turn)
        self.angles = 2 * np.pi * np.arange(self.directions) / self.directions
        largest = body.ear_distance / body.speed
        self.delays = tuple(np.linspace(-largest, largest, self.points).tolist())

    def reset(self, count: int) -> None:
        self.opinion = np.zeros((count, self.directions))
        self.heading = np.zeros(count)
        self.errand = np.zeros((count, 2), np.int64)

    def forget(self, ended: Bool[np.ndarray, " slot"]) -> None:
        self.opinion[ended], self.heading[ended], self.errand[ended] = 0, 0, 0

    def act(self, observation: Float[np.ndarray, "slot 2 time"], info: Info) -> Int[np.ndarray, " slot"]:
        self.listen(observation)
        slot = np.arange(len(observation))
        best = self.opinion.argmax(axis=1)
        bearing = wrapped(self.angles[best] - self.heading)
        behind = wrapped(np.pi - bearing + self.heading)
        mirror = np.rint(behind / self.angles[1]).astype(int) % self.directions
        ahead = np.abs(bearing) <= self.turn * 0.5 * (1 + 1e-9)
        doubtful = self.opinion[slot, best] - self.opinion[slot, mirror] < self.sure
        # Straight ahead sounds as straight behind, until one turns the head.
        action = np.where(ahead & ~doubtful, FORWARD, np.where(bearing >= 0, LEFT, RIGHT))
        action = self.on_errand(action)
        self.heading += self.turn * ((action == LEFT).astype(float) - (action == RIGHT))
        return action

    def on_errand(self, action: Int[np.ndarray, " slot"]) -> Int[np.ndarray, " slot"]:
        """Now and then a turn and two steps that the ears did not ask for."""
        starts = (self.errand[:, 0] == 0) & (self.generator.random(len(action)) < self.roused)
        side = self.generator.choice([LEFT, RIGHT], len(action))
        self.errand[starts] = np.stack([np.full(len(action), 3), side], axis=1)[starts]
        left = self.errand[:, 0]
        chosen = np.where(left == 3, self.errand[:, 1], FORWARD)
        busy = left > 0
        self.errand[busy, 0] -= 1
        return np.where(busy, chosen, action)

    def listen(self, observation: Float[np.ndarray, "slot 2 time"]) -> None:
        """Let each direction gain by how well it explains what is heard now."""
        fit = side_fit(observation, self.delays, self.body.rate)
        lean = np.tanh(level_difference(observation) / 6)
        side = np.sin(self.angles[None] - self.heading[:, None])
        at = (side + 1) / 2 * (self.points - 1)
        low = np.clip(at.astype(int), 0, self.points - 2)
        share = at - low
        slot = np.arange(len(observation))[:, None]
        fits = (1 - share) * fit[slot, low] + share * fit[slot, low + 1]
        self.opinion = self.memory * self.opinion + fits + self.level_weight * lean[:, None] * side


@lru_cache(maxsize=4)
def phases_of(delays: tuple[float, ...], samples: int, rate: int) -> Complex64[np.ndarray, "bin delay"]:
    """What undoes the difference of phase that each delay makes at each frequency of a window."""
    hertz = np.fft.rfftfreq(samples, 1 / rate)
    return np.exp(-2j * np.pi * hertz[:, None] * np.array(delays)).astype(np.complex64)


def side_fit(
    observation: Float[np.ndarray, "slot 2 time"], delays: tuple[float, ...], rate: int
) -> Float[np.ndarray, "slot delay"]:
    """How well each delay of the right ear after the left one explains the phases, from −1 to 1; 0 in silence."""
    left, right = np.moveaxis(np.fft.rfft(observation), 1, 0)
    cross = left * right.conj()
    size = np.abs(cross)
    # Phases count by the root of their strength, which keeps loud lines from drowning all the others.
    whitened = cross / np.sqrt(size + 1e-12)
    total = np.sqrt(size).sum(axis=1, keepdims=True)
    return (whitened @ phases_of(delays, observation.shape[-1], rate)).real / (total + 1e-5)


def level_difference(observation: Float[np.ndarray, "slot 2 time"]) -> Float[np.ndarray, " slot"]:
    """Decibels of the left ear above the right one."""
    power = np.square(observation, dtype=np.float64).mean(axis=-1) + 1e-14
    return 10 * np.log10(power[:, 0] / power[:, 1])


def loudness(observation: Float[np.ndarray, "slot 2 time"]) -> Float[np.ndarray, " slot"]:
    """Decibels of the mean power of both ears."""
    return 10 * np.log10(np.square(observation, dtype=np.float64).mean(axis=(1, 2)) + 1e-14)


def wrapped(angle: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """The same angle in (−π, π]."""
    return np.pi - (np.pi - angle) % (2 * np.pi)


SCRIPTED: dict[str, Callable[[Body, np.random.Generator], Agent]] = {
    "random": Random,
    "oracle": Oracle,
    "loudness": LoudnessFollower,
    "difference": DifferenceFollower,
}
