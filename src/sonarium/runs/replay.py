"""The replay buffer of a run: its episodes, each exported as JSON with its sound in separate files.

replay = open_replay(Path("runs/x"))
for episode in chosen(replay, 8, "newest"):
    print(episode.number, episode.held.reward, episode.held.ended)
export(replay, chosen(replay, 8, "best"), Path("episodes"))
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from einops import rearrange
from gymnasium import Space, spaces
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from sonarium.agents.replay import HeldEpisode, Recalled, Replay
from sonarium.agents.spaces import is_sound, nested
from sonarium.files import write_whole, written_aside
from sonarium.runs.build import Progress, Remark, open_plan, open_run, silent
from sonarium.runs.plan import RolloutsPlan
from sonarium.training.fit import below
from sonarium.training.restoring import restore_part

Order = Literal["newest", "best", "worst"]
MOST_NUMBERS = 64
"""Maximum size of an observation that is written to JSON as numbers."""
FRAMES = 32
"""Maximum number of pictures in a strip, evenly spaced in time."""


@dataclass(frozen=True)
class Episode:
    number: int
    """Number from 1, the oldest episode in the buffer."""
    held: HeldEpisode

    def facts(self) -> dict[str, Any]:
        """Row of the episode in the table."""
        held = self.held
        return {
            "number": self.number,
            "slot": held.slot,
            "first_step": held.begin,
            "steps": held.steps,
            "return": held.reward,
            "whole": held.whole,
            "ended": held.ended,
        }


@dataclass(frozen=True)
class OpenReplay:
    """Replay buffer of the newest complete checkpoint."""

    replay: Replay
    episodes: tuple[Episode, ...]
    step: int
    """Training step of the checkpoint."""
    env: str
    rate: int | None
    """Sampling rate in Hz of the sound, if the environment gives it."""


def open_replay(folder: Path, remark: Remark = lambda _: None) -> OpenReplay:
    """Open the replay buffer of a run's newest complete checkpoint; damaged segments are remarked and left out."""
    _, plan = open_plan(folder)
    if not isinstance(plan.source, RolloutsPlan):
        raise ValueError(f"'{folder}' holds a {plan.model}, which learns from clips: give the run of an agent")
    opened = open_run(folder, remark=remark)
    found = [(name, part) for name, part in opened.learner.parts().items() if isinstance(part, Replay)]
    if not found:
        raise ValueError(
            f"'{folder}' holds a {plan.model}, which keeps no replay: give the run of a dqn or a dreamer"
        )
    [(name, replay)] = found
    saved = opened.run.load()
    assert saved is not None, "it was opened"
    try:
        restore_part(name, replay, below(saved[2], "parts", name))
    except ValueError as error:
        raise ValueError(
            f"'{folder}/checkpoints/step-{saved[0]}' holds no replay of its agent: {error}; start a new run folder"
        ) from None
    for fault in opened.run.left_out:
        remark(f"{folder}: {fault}: left out")
    env = plan.source.rollouts.make()
    rate = env.metadata.get("sound_rate")
    env.close()
    episodes = tuple(Episode(number, held) for number, held in enumerate(replay.held(), 1))
    return OpenReplay(replay, episodes, saved[0], plan.source.rollouts.env, rate)


def chosen(opened: OpenReplay, count: int, order: Order) -> list[Episode]:
    """At most `count` episodes: the newest, or those with the highest or lowest return among the complete ones,
    from their first step to their end."""
    if not opened.episodes:
        raise ValueError(f"the replay of step {opened.step} holds no steps yet: train the agent longer")
    if order == "newest":
        return list(opened.episodes[::-1][:count])
    whole = [one for one in opened.episodes if one.held.whole and one.held.ended != "cut"]
    if not whole:
        raise ValueError(
            f"none of the {len(opened.episodes)} episodes that the replay holds is whole: give --order newest"
        )
    return sorted(whole, key=lambda one: one.held.reward, reverse=order == "best")[:count]


def export(
    opened: OpenReplay, episodes: Sequence[Episode], out: Path, rate: int = 0, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Write a new folder with a JSON file for each episode, its sound as a WAV file, and its pictures as a strip
    in a PNG file. The rate is required if the environment gives none. Returns the content of the JSON files
    without the steps."""
    if rate and opened.rate and rate != opened.rate:
        raise ValueError(f"--rate {rate}: the sound of {opened.env} has {opened.rate} Hz; leave it out")
    heard = any(is_sound(space) for space in opened.replay.simple)
    if heard and not (rate or opened.rate):
        raise ValueError(f"{opened.env} tells no sampling rate of its sound: give --rate HZ")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"'{out}' exists and is not an empty folder: give --out a new one")
    found = []
    with written_aside(out) as aside:
        aside.mkdir()
        for done, episode in enumerate(episodes, 1):
            files = Files(aside, f"episode-{episode.number}", rate or opened.rate or 0)
            steps = opened.replay.recall(episode.held)
            told = {"env": opened.env, **episode.facts()}
            told_steps = told | as_json(opened.replay, steps, files)
            write_whole(aside / f"{files.stem}.json", json.dumps(told_steps) + "\n")
            found.append({**episode.facts(), "files": [f"{files.stem}.json", *files.written]})
            progress("writing episodes", done, len(episodes))
    return found


class Files:
    """Writes the files of an episode, and keeps their names."""

    def __init__(self, folder: Path, stem: str, rate: int):
        self.folder, self.stem, self.rate = folder, stem, rate
        self.written: list[str] = []

    def name(self, suffix: str) -> str:
        """Name of the next file with this suffix; from the second on they are numbered."""
        count = sum(one.endswith(suffix) for one in self.written)
        self.written.append(f"{self.stem}{f'-{count + 1}' if count else ''}{suffix}")
        return self.written[-1]

    def sound(self, windows: Float[np.ndarray, "step channel sample"]) -> dict[str, Any]:
        """Write the concatenated windows as a WAV file."""
        name = self.name(".wav")
        joined = rearrange(windows, "step channel sample -> (step sample) channel").astype(np.float32)
        soundfile.write(self.folder / name, joined, self.rate, subtype="FLOAT")
        return {"sound": name, "rate": self.rate, "samples_per_step": windows.shape[2]}

    def pictures(self, frames: UInt8[np.ndarray, "step height width channel"]) -> dict[str, Any]:
        """Write up to FRAMES pictures side by side as a PNG file."""
        name = self.name(".png")
        steps = np.unique(np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).astype(int))
        strip = rearrange(frames[steps], "step height width channel -> height (step width) channel")
        Image.fromarray(strip[..., 0] if strip.shape[2] == 1 else strip).save(self.folder / name)
        return {"picture": name, "steps": steps.tolist()}


def as_json(replay: Replay, steps: Recalled, files: Files) -> dict[str, Any]:
    """The steps as JSON values: observations are those before each action and the one after the last."""
    parts = (seen(space, rows, files) for space, rows in zip(replay.simple, steps.parts, strict=True))
    return {
        "observations": nested(replay.space, parts),
        "actions": steps.action.tolist(),
        "rewards": steps.reward.tolist(),
        "terminated": steps.terminated.tolist(),
        "truncated": steps.truncated.tolist(),
        "priorities": None if steps.priority is None else steps.priority.tolist(),
    }


def seen(space: Space, rows: Shaped[np.ndarray, "step *observed"], files: Files) -> Any:
    """A part of the observations as JSON: numbers as they are, sound and pictures by the name of their file, of
    anything else only dtype and shape."""
    if is_sound(space):
        return files.sound(rows)
    if (frames := channels_last(space, rows)) is not None:
        return files.pictures(frames)
    if np.prod(rows.shape[1:]) <= MOST_NUMBERS:
        return rows.tolist()
    return {"left_out": f"{rows.dtype} of shape {rows.shape[1:]}"}


def channels_last(
    space: Space, rows: Shaped[np.ndarray, "step *observed"]
) -> UInt8[np.ndarray, "step height width channel"] | None:
    """Pictures of uint8, grey or colour, with channels last; None for anything else."""
    if not isinstance(space, spaces.Box) or rows.dtype != np.uint8 or rows.ndim not in (3, 4):
        return None
    if rows.ndim == 3:
        return rows[..., None]
    if rows.shape[3] in (1, 3, 4):
        return rows
    # Four channels before the others are a stack of frames.
    return rows.transpose(0, 2, 3, 1) if rows.shape[1] in (1, 3) else None
