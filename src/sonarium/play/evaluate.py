"""Evaluation of agents on the same seeded episodes: scores; and films, sounds and pictures of the first ones."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import binomtest

from sonarium.agents.contract import Agent, SourceListener
from sonarium.agents.evaluate import generator_of
from sonarium.agents.scripted import SCRIPTED, Body, Scripted
from sonarium.evaluation.episodes import Heard
from sonarium.measures.statistics import Interval, interval, within
from sonarium.report.album import put
from sonarium.report.listening import EpisodeShown, Picture, Scores, listening_page
from sonarium.rooms.draw.film import Recorded, film, frames, still, wav
from sonarium.rooms.draw.floorplan import picture
from sonarium.rooms.draw.overlay import SoundField, sound_field
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import sound_in
from sonarium.rooms.seek.episode import Scene
from sonarium.rooms.seek.vector import SeekVector
from sonarium.runs.listening import Witness
from sonarium.worlds.contract import World

LONG = 2**20
"""Size in bytes from which a sound is not embedded in the page again: the film already contains it."""
MEASURES = {
    "success": "success rate: fraction of episodes in which all sources were found",
    "spl": "success weighted by path length",
    "sna": "success weighted by number of actions: times those of the oracle over those taken, at most 1",
    "found": "sources found",
    "steps": "episode length in steps",
    "return": "undiscounted return",
}
TITLES = {
    "random": "Random walk",
    "oracle": "Oracle",
    "loudness": "Loudness follower",
    "difference": "Difference follower",
}
BATCH = 64
"""Number of episodes that run in parallel."""
ORDER = 2
"""Largest reflection order of the image sources that are drawn."""
Progress = Callable[[str, int, int], None]
"""Callback with the stage, the number of episodes done, and their total number."""


def titled(agent: str) -> str:
    """Title of a scripted agent; others have the name of their run."""
    return TITLES.get(agent, agent)


@dataclass(frozen=True)
class EpisodeResult:
    """The outcome of one episode."""

    agent: str
    seed: int
    success: bool
    spl: float
    found: int
    steps: int
    earned: float
    walked: float
    shortest: float
    oracle_steps: int
    """Number of steps of the oracle in the same episode; 0 where its actions are different."""
    heard: Mapping[str, float] = field(default_factory=dict)
    """Scores of source separation and localisation, as in evaluation/episodes.py, where they were measured."""

    @property
    def sna(self) -> float:
        return self.success * self.oracle_steps / max(self.oracle_steps, self.steps, 1)

    def measures(self) -> dict[str, float]:
        values = (float(self.success), self.spl, self.sna, float(self.found), float(self.steps), self.earned)
        return dict(zip(MEASURES, values, strict=True))


@dataclass(frozen=True)
class Evaluation:
    """The results of all agents."""

    played: Sequence[EpisodeResult]
    episodes: int
    sources: int
    out: Path | None

    def agents(self) -> list[str]:
        return list(dict.fromkeys(one.agent for one in self.played))

    def scores(self, agent: str) -> dict[str, Interval]:
        """Means over the episodes of an agent, with 95 % confidence intervals."""
        own = [one.measures() for one in self.played if one.agent == agent]
        ends = {"spl": (0.0, 1.0), "sna": (0.0, 1.0), "found": (0.0, float(self.sources))}
        scores = {
            name: within(interval([one[name] for one in own]), *ends.get(name, (None, None))) for name in MEASURES
        }
        return scores | {"success": success_rate(sum(one["success"] > 0 for one in own), len(own))}

    def heard(self, agent: str) -> Heard | None:
        """Source separation and localisation in an agent's episodes, where they were measured."""
        own = [one for one in self.played if one.agent == agent and one.heard]
        return Heard([one.heard for one in own], "sna", [one.sna for one in own]) if own else None

    def rows(self) -> list[tuple[str, list[str]]]:
        """Agents, and their cells in a table of scores."""
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
        played = [dataclasses.asdict(one) | {"sna": one.sna} for one in self.played]
        return {"episodes": self.episodes, "out": out, "agents": agents, "played": played}


@dataclass
class Recorder:
    """Records one episode while it runs."""

    scenes: list[Scene] = field(default_factory=list)
    windows: list[Float[np.ndarray, "2 window"]] = field(default_factory=list)
    fields: list[SoundField] = field(default_factory=list)

    def take(self, scene: Scene, heard: Float[np.ndarray, "2 window"]) -> None:
        """Add the scene and its window of sound; the sound field changes only when a source is switched off or
        moves."""
        before = self.scenes[-1] if self.scenes else None
        if before and np.array_equal(scene.on, before.on) and np.array_equal(scene.sources, before.sources):
            there = self.fields[-1]
        else:
            there = sound_field(scene, loudest=self.fields[0].loudest if self.fields else None)
        self.scenes.append(scene)
        self.windows.append(heard.copy())
        self.fields.append(there)


def evaluate(
    agents: Sequence[str],
    config: SeekConfig,
    episodes: int,
    seed: int,
    films: int = 0,
    out: Path | None = None,
    progress: Progress = lambda stage, done, total: None,
    trained: Mapping[str, Agent] = MappingProxyType({}),
    listeners: Mapping[str, SourceListener] = MappingProxyType({}),
) -> Evaluation:
    """Run the scripted and the trained agents on the same episodes; with a folder, write films of the first ones
    and a page there. For agents in `listeners`, also measure source separation and localisation."""
    played: list[EpisodeResult] = []
    shown: list[EpisodeShown] = []
    with_oracle = dataclasses.replace(config, oracle_info=True)
    recorded = 0 if out is None else min(films, episodes)
    # A configuration that an agent cannot play, and a folder that cannot be written, fail before the first one has
    # played for minutes.
    made = {**{agent: SCRIPTED[agent](body_of(config)) for agent in agents}, **trained}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    # Steps can be compared with the oracle's only where its actions are the same.
    counted = config.actions == "turn"
    oracle_steps: dict[int, np.ndarray] = {}
    for agent in made:
        for start in range(0, episodes, BATCH):
            count = min(BATCH, episodes - start)
            progress(f"episodes of {agent}", start, episodes)
            recorders = [Recorder() for _ in range(max(0, min(recorded - start, count)))]
            if counted and start not in oracle_steps:
                oracle_steps[start] = steps_of_oracle(with_oracle, seed + start, count)
            begins = seed + start
            generator = (
                generator_of(made[agent], begins) if agent in trained else scripted_generator(agent, begins)
            )
            results = play(
                agent, made[agent], with_oracle, seed + start, count, generator, recorders,
                oracle_steps.get(start), listeners.get(agent),
            )  # fmt: skip
            played += results
            for number, (result, recorder) in enumerate(zip(results, recorders, strict=False)):
                assert out is not None
                progress(f"films of {agent}", start + number, recorded)
                shown.append(show(result, recorder, config, out))
        progress(f"episodes of {agent}", episodes, episodes)
    found = Evaluation(played, episodes, config.sources, out)
    if out is not None:
        write_page(found, shown, config, seed, out / "page.html")
    return found


def body_of(config: SeekConfig) -> Body:
    return Body(config.actions, config.turn, config.ear_distance, config.rate)


def scripted_generator(agent: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, list(SCRIPTED).index(agent)])


def steps_of_oracle(config: SeekConfig, seed: int, count: int) -> Int[np.ndarray, " episode"]:
    """Number of steps of the oracle in these episodes."""
    agent, generator = SCRIPTED["oracle"](body_of(config)), scripted_generator("oracle", seed)
    played = play("oracle", agent, config, seed, count, generator, [])
    return np.array([one.steps for one in played])


def play(
    name: str,
    agent: Agent,
    config: SeekConfig,
    seed: int,
    count: int,
    generator: Any,
    recorders: Sequence[Recorder],
    oracle_steps: Int[np.ndarray, " episode"] | None = None,
    listener: SourceListener | None = None,
    world: World | None = None,
) -> list[EpisodeResult]:
    """Play `count` episodes in parallel, one per slot; what follows in slots that end early does not count. With
    the agent's listener, also measure source separation and localisation. The sources play clips of the `world`,
    if given, in place of the sounds of the configuration."""
    counted = np.zeros(count, int) if oracle_steps is None else oracle_steps
    told = dataclasses.replace(config, source_info=listener is not None)
    rooms = SeekVector(count, told, render_mode="rgb_array", world=world)
    witness = None if listener is None else Witness(listener, rooms.metadata, count)
    memory, first, over = agent.initial(count), np.ones(count, bool), np.zeros(count, bool)
    observation, info = rooms.reset(seed=seed)
    shortest, earned, steps = info["reachable_distance"], np.zeros(count), np.zeros(count, int)
    results: list[EpisodeResult | None] = [None] * count
    going = np.ones(count, bool)
    record(recorders, rooms, observation, going)
    while going.any():
        seen = sound_in(observation) if isinstance(agent, Scripted) else observation
        if witness is not None:
            witness.take(memory, seen, first, info, going)
        memory, action, _ = agent.act(memory, seen, first, generator, info)
        observation, reward, terminated, truncated, info = rooms.step(action)
        memory = agent.rewarded(memory, reward)
        # Autoreset in the next step: the observation after the last one of an episode is the first of another.
        first, over = over, terminated | truncated
        earned, steps = earned + np.where(going, reward, 0), steps + going
        record(recorders, rooms, observation, going)
        for slot in np.flatnonzero(over & going):
            success = bool(terminated[slot] and info["found"][slot] == config.sources)
            walked, shorter = float(info["walked"][slot]), float(shortest[slot])
            results[slot] = EpisodeResult(
                name, seed + int(slot), success, spl_of(success, walked, shorter), int(info["found"][slot]),
                int(steps[slot]), float(earned[slot]), walked, shorter, int(counted[slot]),
            )  # fmt: skip
        going &= ~over
    rooms.close()
    played = [result for result in results if result is not None]
    if witness is None:
        return played
    return [dataclasses.replace(one, heard=own) for one, own in zip(played, witness.episodes(), strict=True)]


def spl_of(success: bool, walked: float, shortest: float) -> float:
    """Success weighted by path length (Anderson et al., 2018) of one episode."""
    return success * shortest / max(walked, shortest) if shortest > 0 else float(success)


def record(
    recorders: Sequence[Recorder],
    rooms: SeekVector,
    observation: Any,
    going: Bool[np.ndarray, " slot"],
) -> None:
    for slot, recorder in enumerate(recorders):
        if going[slot]:
            recorder.take(rooms.scene(slot), sound_in(observation)[slot])


def success_rate(successes: int, count: int) -> Interval:
    """Success rate with Wilson's interval, which is valid for few episodes, too."""
    limits = binomtest(successes, count).proportion_ci(0.95, method="wilson")
    return Interval(successes / count, None, float(limits.low), float(limits.high), count)


def written(name: str, score: Interval) -> str:
    """Text of a score with its interval."""
    digits = 2 if name in ("success", "spl", "sna", "found") else 1
    ends = [one for one in (score.low, score.high) if one is not None]
    mean, *limits = (f"{one:.{digits}f}".replace("-", "−") for one in (score.mean, *ends))
    return f"{mean} [{', '.join(limits)}]" if limits else mean


def show(one: EpisodeResult, recorder: Recorder, config: SeekConfig, out: Path) -> EpisodeShown:
    """Write the film, the sound and the pictures of an episode; return them for the page."""
    recorded = Recorded(recorder.scenes, np.stack(recorder.windows), config.rate, recorder.fields)
    name = f"{one.agent}-{one.seed}"
    first, last = recorder.scenes[0], recorder.scenes[-1]
    pictures = (
        Picture(
            "Trajectory",
            "Below it, the level of all sources together at the start; 0 dB is the direct sound of one at 1 m.",
            still(picture(last, field=recorder.fields[0])),
        ),
        Picture(
            "Image sources at the start",
            f"Up to order {ORDER}; for those audible at the listener, the reflection paths, and the beams of "
            "first-order reflections.",
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
        ("path walked", f"{one.walked:.1f} m"),
        ("shortest path", f"{one.shortest:.1f} m"),
        ("return", f"{one.earned:.1f}".replace("-", "−")),
    ]
    title = f"{titled(one.agent)}: {one.found} of {config.sources} found in {one.steps} steps"
    kept = sound if len(sound) < LONG else f"{name}.wav"
    return EpisodeShown(title, facts, (out / f"{name}.mp4").read_bytes(), poster, kept, pictures)


def write_page(found: Evaluation, shown: Sequence[EpisodeShown], config: SeekConfig, seed: int, out: Path) -> None:
    names = found.agents()
    title = f"{titled(names[0])} seeking sound sources" if len(names) == 1 else "Sound-source seeking"
    many = "one sound source" if config.sources == 1 else f"{config.sources} sound sources"
    wrong = ""
    if config.distractors:
        others = "one distractor" if config.distractors == 1 else f"{config.distractors} distractors"
        wrong = f" and {others}, purple in the pictures, which must not be found"
    lead = (
        f"Each room has {many}{wrong}; an agent switches a source off by coming within {config.radius:g} m of it. "
        "Agents observe binaural audio only; the oracle also knows the shortest path."
    )
    note = (
        f"All agents play the same {found.episodes} episodes, with seeds from {seed} on. Brackets: 95 % "
        "confidence interval over episodes, Wilson's for success, Student's t otherwise."
    )
    rows = [(titled(agent), cells) for agent, cells in found.rows()]
    scores = Scores(tuple(MEASURES), tuple(MEASURES.values()), rows, note)
    settings = [(name, str(value)) for name, value in dataclasses.asdict(config).items()]
    listening_page(title, lead, scores, shown, settings, out)
