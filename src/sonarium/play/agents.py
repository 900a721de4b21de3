"""Scripted agents in the same seeded episodes: what came of it, and films, sounds and pictures of some of them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import binomtest

from sonarium.agents.scripted import SCRIPTED, Body
from sonarium.commands.progress import bars
from sonarium.measures.statistics import Interval, interval, within
from sonarium.report.album import put
from sonarium.report.listening import EpisodeShown, Picture, Scores, listening_page
from sonarium.rooms.draw.film import Recorded, film, frames, still, wav
from sonarium.rooms.draw.overlay import SoundField, sound_field
from sonarium.rooms.draw.plan import picture
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.episode import Scene
from sonarium.rooms.seek.vector import SeekVector

LONG = 2**20
"""Bytes of a sound that is not kept in the page a second time: the film has it already."""
MEASURES = {
    "success": "share of the episodes in which all sources were found",
    "spl": "success weighted by the shortest path over the path gone",
    "found": "sources found",
    "steps": "steps until the end",
    "return": "sum of the rewards",
}
TITLES = {
    "random": "Random walk",
    "oracle": "Oracle",
    "loudness": "Loudness follower",
    "difference": "Difference follower",
}
BATCH = 64
"""Episodes that are played side by side."""
ORDER = 2
"""Greatest number of reflections of the images that are drawn."""


@dataclass(frozen=True)
class Played:
    """What came of one episode."""

    agent: str
    seed: int
    success: bool
    spl: float
    found: int
    steps: int
    earned: float
    walked: float
    shortest: float

    def measured(self) -> dict[str, float]:
        values = (float(self.success), self.spl, float(self.found), float(self.steps), self.earned)
        return dict(zip(MEASURES, values, strict=True))


@dataclass(frozen=True)
class Contest:
    """All episodes of all agents."""

    played: Sequence[Played]
    episodes: int
    sources: int
    out: Path | None

    def agents(self) -> list[str]:
        return list(dict.fromkeys(one.agent for one in self.played))

    def scores(self, agent: str) -> dict[str, Interval]:
        """Means over the episodes of an agent, with the 95 % intervals."""
        own = [one.measured() for one in self.played if one.agent == agent]
        ends = {"spl": (0.0, 1.0), "found": (0.0, float(self.sources))}
        scores = {
            name: within(interval([one[name] for one in own]), *ends.get(name, (None, None))) for name in MEASURES
        }
        return scores | {"success": share_of(sum(one["success"] > 0 for one in own), len(own))}

    def rows(self) -> list[tuple[str, list[str]]]:
        """As it is written in a table."""
        return [
            (agent, [written(name, one) for name, one in self.scores(agent).items()]) for agent in self.agents()
        ]

    def as_json(self) -> dict[str, Any]:
        agents = {
            agent: {
                name: {"mean": one.mean, "low": one.low, "high": one.high}
                for name, one in self.scores(agent).items()
            }
            for agent in self.agents()
        }
        out = None if self.out is None else str(self.out)
        played = [dataclasses.asdict(one) for one in self.played]
        return {"episodes": self.episodes, "out": out, "agents": agents, "played": played}


@dataclass
class Reel:
    """What is recorded of one episode while it goes on."""

    scenes: list[Scene] = field(default_factory=list)
    windows: list[Float[np.ndarray, "2 window"]] = field(default_factory=list)
    fields: list[SoundField] = field(default_factory=list)

    def take(self, scene: Scene, heard: Float[np.ndarray, "2 window"]) -> None:
        """The scene and what is heard in it; how loud it is changes only when a source falls silent."""
        if self.scenes and (scene.on == self.scenes[-1].on).all():
            there = self.fields[-1]
        else:
            there = sound_field(scene, loudest=self.fields[0].loudest if self.fields else None)
        self.scenes.append(scene)
        self.windows.append(heard.copy())
        self.fields.append(there)


def contest(
    agents: Sequence[str], config: SeekConfig, episodes: int, seed: int, films: int, out: Path | None
) -> Contest:
    """Let each agent play the same episodes; with a folder, show the first ones there."""
    played: list[Played] = []
    shown: list[EpisodeShown] = []
    told = dataclasses.replace(config, tell=True)
    recorded = 0 if out is None else min(films, episodes)
    for agent in agents:
        # A fault of the words should show before the first agent has played for minutes.
        SCRIPTED[agent](body_of(config), np.random.default_rng(0))
    with bars() as progress:
        for agent in agents:
            for start in range(0, episodes, BATCH):
                count = min(BATCH, episodes - start)
                progress(f"{agent} plays", start, episodes, {})
                reels = [Reel() for _ in range(max(0, min(recorded - start, count)))]
                came = play(agent, told, seed + start, count, reels)
                played += came
                for one, reel in zip(came, reels, strict=False):
                    assert out is not None
                    progress(f"films of {agent}", start + len(shown), recorded, {})
                    shown.append(show(one, reel, config, out))
            progress(f"{agent} plays", episodes, episodes, {})
    found = Contest(played, episodes, config.sources, out)
    if out is not None:
        write_page(found, shown, config, seed, out / "page.html")
    return found


def body_of(config: SeekConfig) -> Body:
    return Body(config.actions, config.turn, config.ear_distance, config.rate)


def play(agent: str, config: SeekConfig, seed: int, count: int, reels: Sequence[Reel]) -> list[Played]:
    """One episode in each of so many rooms side by side; those that end early wait for the others."""
    rooms = SeekVector(count, config, render_mode="rgb_array")
    player = SCRIPTED[agent](body_of(config), np.random.default_rng([seed, list(SCRIPTED).index(agent)]))
    player.reset(count)
    heard, info = rooms.reset(seed=seed)
    shortest, earned, steps = info["reachable_distance"], np.zeros(count), np.zeros(count, int)
    ends: list[Played | None] = [None] * count
    going = np.ones(count, bool)
    record(reels, rooms, heard, going)
    while going.any():
        heard, reward, terminated, truncated, info = rooms.step(player.act(heard, info))
        earned, steps = earned + np.where(going, reward, 0), steps + going
        record(reels, rooms, heard, going)
        ended = terminated | truncated
        for slot in np.flatnonzero(ended & going):
            success, walked, shorter = bool(terminated[slot]), float(info["walked"][slot]), float(shortest[slot])
            spl = success * shorter / max(walked, shorter) if shorter > 0 else float(success)
            ends[slot] = Played(
                agent, seed + int(slot), success, spl, int(info["found"][slot]), int(steps[slot]),
                float(earned[slot]), walked, shorter,
            )  # fmt: skip
        player.forget(ended)
        going &= ~ended
    rooms.close()
    return [end for end in ends if end is not None]


def record(
    reels: Sequence[Reel],
    rooms: SeekVector,
    heard: Float[np.ndarray, "slot 2 window"],
    going: Bool[np.ndarray, " slot"],
) -> None:
    for slot, reel in enumerate(reels):
        if going[slot]:
            reel.take(rooms.scene(slot), heard[slot])


def share_of(successes: int, count: int) -> Interval:
    """A share with Wilson's interval, which holds for few episodes too."""
    limits = binomtest(successes, count).proportion_ci(0.95, method="wilson")
    return Interval(successes / count, None, float(limits.low), float(limits.high), count)


def written(name: str, score: Interval) -> str:
    """A score as people write it."""
    digits = 2 if name in ("success", "spl", "found") else 1
    ends = [one for one in (score.low, score.high) if one is not None]
    mean, *limits = (f"{one:.{digits}f}".replace("-", "−") for one in (score.mean, *ends))
    return f"{mean} [{', '.join(limits)}]" if limits else mean


def show(one: Played, reel: Reel, config: SeekConfig, out: Path) -> EpisodeShown:
    """Write the film, the sound and the pictures of an episode, and keep them for the page."""
    recorded = Recorded(reel.scenes, np.stack(reel.windows), config.rate, reel.fields)
    name = f"{one.agent}-{one.seed}"
    first, last = reel.scenes[0], reel.scenes[-1]
    pictures = (
        Picture(
            "The way gone",
            "Below it, how loud all sources together were at first; 0 dB is one of them, directly, at 1 m.",
            still(picture(last, field=reel.fields[0])),
        ),
        Picture(
            "How the sound came at first",
            f"Image sources up to order {ORDER}; where one is heard, its way over the walls, and the beams of "
            "single reflections.",
            still(picture(first, images=ORDER)),
        ),
    )
    sound = wav(recorded)
    put(out / f"{name}.wav", sound)
    for ending, made in zip(("way", "images"), pictures, strict=True):
        put(out / f"{name}-{ending}.png", made.png)
    film(recorded, out / f"{name}.mp4")
    poster = still(next(frames(recorded)))
    facts = [
        ("seed", str(one.seed)),
        ("sounds", ", ".join(first.sounds)),
        ("walls", str(len(first.room.corners))),
        ("area", f"{first.room.area:.0f} m²"),
        ("way gone", f"{one.walked:.1f} m"),
        ("shortest way", f"{one.shortest:.1f} m"),
        ("return", f"{one.earned:.1f}".replace("-", "−")),
    ]
    title = f"{TITLES[one.agent]}: {one.found} of {config.sources} found in {one.steps} steps"
    kept = sound if len(sound) < LONG else f"{name}.wav"
    return EpisodeShown(title, facts, (out / f"{name}.mp4").read_bytes(), poster, kept, pictures)


def write_page(found: Contest, shown: Sequence[EpisodeShown], config: SeekConfig, seed: int, out: Path) -> None:
    names = found.agents()
    title = f"{TITLES[names[0]]} in search of sounds" if len(names) == 1 else "Agents in search of sounds"
    lead = (
        f"In each room there are {config.sources} sources of sound. Whoever comes within {config.radius:g} m of "
        "one switches it off; all that an agent knows of the room is what comes to its two ears (the oracle alone "
        "is told the way)."
    )
    note = (
        f"Each agent played the same episodes, {found.episodes} in all, with seeds from {seed} on. "
        "Brackets hold the 95 % interval over episodes: Wilson's for success, Student's t otherwise."
    )
    rows = [(TITLES[agent], cells) for agent, cells in found.rows()]
    scores = Scores(tuple(MEASURES), tuple(MEASURES.values()), rows, note)
    settings = [(name, str(value)) for name, value in dataclasses.asdict(config).items()]
    listening_page(title, lead, scores, shown, settings, out)
