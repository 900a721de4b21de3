"""Films of a trained agent: a room with its binaural sound, the binaural sound alone, or the rendered frames of
any other environment.

For rooms there is also a plot of the number of steps against the initial distance.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image

from sonarium.agents.contract import Agent, Stochastic
from sonarium.agents.evaluate import generator_of, side_by_side
from sonarium.agents.guards import Guarded, naming_faults
from sonarium.agents.rollout import RolloutConfig
from sonarium.agents.scripted import SCRIPTED
from sonarium.environment import EnvironmentFault
from sonarium.measures.separation import Head
from sonarium.play.evaluate import BATCH, EpisodeResult, Recorder, play
from sonarium.play.imagination import Noted, Remark, beside, one_step_ahead
from sonarium.play.imagination import media as media_of
from sonarium.play.separation import heard_apart
from sonarium.play.walk import YOU
from sonarium.report.album import Medium, add
from sonarium.report.style import INK, LINES, SMALL, panels, png, sheet, tidy
from sonarium.rooms.draw import canvas
from sonarium.rooms.draw.film import Recorded, View, film
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek, sound_in
from sonarium.runs.build import Opened, open_run
from sonarium.runs.plan import RolloutsPlan

Progress = Callable[[str, int, int], object]
PICTURES = "rgb_array"
FRAMES = 30
"""Default frame rate in frames per second, of an environment that declares none."""
CAPTION = 20
"""Height in pixels of the caption below a frame."""


@dataclass
class Watched:
    """Record of one episode."""

    seed: int
    rewards: list[float] = field(default_factory=list)
    file: str = ""

    @property
    def earned(self) -> float:
        return sum(self.rewards)

    def facts(self) -> dict[str, Any]:
        return {"seed": self.seed, "return": self.earned, "steps": len(self.rewards), "film": self.file}


class Shown(Guarded):
    """Wrapper that passes the observation at each step to the callback `look`."""

    def __init__(self, env: gymnasium.Env, name: str):
        super().__init__(env, name)
        self.watched, self.look = Watched(0), ignore

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        observation, info = super().reset(seed=seed, options=options)
        self.look(observation, self.watched)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        self.watched.rewards.append(reward)
        self.look(observation, self.watched)
        return observation, reward, terminated, truncated, info

    def picture(self) -> UInt8[np.ndarray, "row column 3"]:
        """Rendered frame of the current state."""
        with naming_faults(self.name):
            drawn = np.asarray(self.env.render())
        if drawn.dtype.kind not in "biuf" or drawn.ndim != 3 or drawn.shape[2] not in (3, 4):
            shape = f"an array of shape {drawn.shape}" if drawn.ndim else repr(drawn.item())
            raise EnvironmentFault(
                f"--env {self.name}: render() returns {shape}, and a film needs arrays of (height, width, 3) in "
                f"{PICTURES}: fix the environment"
            )
        # Some frames have an alpha channel.
        return drawn[..., :3].astype(np.uint8)


def ignore(observation: Any, watched: Watched) -> None:
    """Do nothing; the default callback."""


def watch(
    opened: Opened,
    out: Path,
    episodes: int,
    seed: int,
    sampled: bool,
    plotted: int,
    progress: Progress = lambda stage, done, total: None,
    remark: Remark = lambda text: None,
    view: View = "above",
) -> list[Watched]:
    """Film episodes with seeds from `seed` on, with the most probable actions or sampled ones, into a folder with
    an index of media; rooms are seen from above, or by ear. What cannot be shown is remarked once."""
    remark = once(remark)
    agent, rollouts = agent_of(opened), rollouts_of(opened)
    name = rollouts.env
    if isinstance(agent, Stochastic):
        agent.greedy = not sampled
    env = Shown(with_pictures(rollouts), name)
    in_room = isinstance(env.unwrapped, Seek)
    if view == "ears" and not in_room:
        env.close()
        raise ValueError(
            f"--view ears: nothing is heard in {name}, which is not a room of sonarium/Seek-v0; leave it out"
        )
    found, media, files = [], [], {}
    for number in range(episodes):
        progress("films", number, episodes)
        env.watched = Watched(seed + number, file=f"episode-{seed + number}.mp4")
        generator, noted = generator_of(agent, seed + number), Noted(agent)
        recorder = Recorder()
        content = (
            room_film(env, noted, generator, recorder, remark, view)
            if in_room
            else picture_film(env, noted, generator)
        )
        if not number:
            media, files = dreamt(noted, env, generator, remark)
            more, its = heard_apart(noted, recorder.scenes, head_of(env))
            media, files = [*media, *more], {**files, **its}
        found.append(env.watched)
        files[env.watched.file] = content
        said = f"Seed {env.watched.seed}: return {env.watched.earned:.2f} in {len(env.watched.rewards)} steps."
        title = f"Episode {env.watched.seed}{', by ear' if view == 'ears' else ''}"
        media.append(Medium("film", env.watched.file, title, said, "episodes/films"))
    progress("films", episodes, episodes)
    charts = [("rewards.png", "Reward within an episode", REWARDS, rewards_chart(found))]
    if in_room and plotted:
        assert isinstance(env.unwrapped, Seek)
        played = many(agent, env, seed, plotted, progress)
        charts.append(("distances.png", "Initial distance and steps", DISTANCES, distances_chart(played)))
    for file, title, caption, figure in charts:
        files[file] = png(figure)
        media.append(Medium("picture", file, title, caption, f"episodes/{file}"))
    env.close()
    add(out, media, files)
    return found


def once(remark: Remark) -> Remark:
    """Wrap `remark` so that each remark is made once."""
    made: set[str] = set()

    def first(text: str) -> None:
        if text not in made:
            made.add(text)
            remark(text)

    return first


def dreamt(noted: Noted, env: Shown, generator: Any, remark: Remark) -> tuple[list[Medium], dict[str, bytes]]:
    """Media of what the agent imagined in an episode, if it is an `Imaginer`."""
    rate = env.metadata.get("sound_rate")
    found = beside(noted, env.observation_space, generator, remark)
    return ([], {}) if found is None else media_of(found, env.observation_space, rate)


REWARDS = "The reward of each step of the episodes that are filmed, and the sum of rewards so far."
DISTANCES = (
    "Each mark is an episode: the length of the shortest path at its beginning, and the steps that it took. "
    "Crosses are episodes in which not all sources were found."
)


def agent_of(opened: Opened) -> Agent:
    if not isinstance(opened.learner, Agent):
        raise ValueError(
            f"'{opened.run.folder}' is a run of {opened.plan.model}, which does not act: name one of an agent"
        )
    return opened.learner


def rollouts_of(opened: Opened) -> RolloutConfig:
    assert isinstance(opened.plan.source, RolloutsPlan), opened.plan.source
    return opened.plan.source.rollouts


def with_pictures(rollouts: RolloutConfig) -> gymnasium.Env:
    """A copy of an environment that renders frames, refused where it cannot."""
    # Many render with SDL, which otherwise requires a display and a sound card.
    for driver in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        os.environ.setdefault(driver, "dummy")
    bare, name = rollouts.make(), rollouts.env
    modes = bare.metadata.get("render_modes") or []
    bare.close()
    if PICTURES not in modes:
        raise ValueError(
            f"--env {name} has no pictures: it renders {', '.join(modes) or 'nothing'}, and a film needs "
            f"{PICTURES} among its render_modes"
        )
    return rollouts.make(render_mode=PICTURES)


def against(folder: Path, remark: Callable[[str], object]) -> tuple[str, Agent, SeekConfig]:
    """Name, agent, which takes its most probable actions, and room configuration of a run that others play
    against."""
    opened = open_run(folder, remark=remark)
    for line in opened.remarks:
        remark(line)
    agent, rollouts = agent_of(opened), rollouts_of(opened)
    env, name = rollouts.make(), rollouts.env
    room = env.unwrapped
    env.close()
    if not isinstance(room, Seek):
        raise ValueError(f"--against {folder}: its agent acts in {name}; name a run in sonarium/Seek-v0")
    if room.world is not None:
        raise ValueError(f"--against {folder}: the sources of {name} play a world, which nobody else can hear")
    if isinstance(agent, Stochastic):
        agent.greedy = True
    named = folder.resolve().name
    return f"{named} (run)" if named in (*SCRIPTED, YOU) else named, agent, config_of(env)


def head_of(env: Shown) -> Head:
    """Head model between the ears."""
    return env.unwrapped.config.head if isinstance(env.unwrapped, Seek) else "none"


def room_film(env: Shown, agent: Noted, generator: Any, recorder: Recorder, remark: Remark, view: View) -> bytes:
    """Film of a room with its binaural sound, or of the sound alone; the scenes are kept in the recorder."""
    room = env.unwrapped
    assert isinstance(room, Seek)

    def look(observation: Any, watched: Watched) -> None:
        recorder.take(room.scene(), room.heard())

    env.look = look
    side_by_side(agent, [env], [env.watched.seed], generator)
    windows, hears = np.stack(recorder.windows), room.config.observation == "audio"
    dreamt = one_step_ahead(agent, generator, remark) if hears else None
    if dreamt is not None:
        # Nothing is imagined of the first window.
        dreamt = np.concatenate([np.zeros_like(windows[:1]), sound_in(dreamt)])
        dreamt = np.concatenate([dreamt, np.zeros_like(windows[len(dreamt) :])])
    recorded = Recorded(recorder.scenes, windows, room.config.rate, recorder.fields, dreamt)
    return made(lambda path: film(recorded, path, view=view))


def picture_film(env: Shown, agent: Agent, generator: Any) -> bytes:
    """Film of the rendered frames of an environment, encoded one by one."""

    def write(path: Path) -> None:
        import av

        rate = Fraction(env.metadata.get("render_fps") or FRAMES).limit_denominator(1000)
        with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as out:
            seen = out.add_stream("libx264", rate=rate)
            seen.pix_fmt, seen.options = "yuv420p", {"crf": "22", "preset": "veryfast"}

            def look(observation: Any, watched: Watched) -> None:
                frame = captioned(env.picture(), watched)
                if not watched.rewards:
                    seen.height, seen.width = frame.shape[:2]
                out.mux(seen.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

            env.look = look
            side_by_side(agent, [env], [env.watched.seed], generator)
            out.mux(seen.encode())

    return made(write)


def made(write: Callable[[Path], None]) -> bytes:
    """Bytes that a function writes to a file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write(path)
        return path.read_bytes()


def captioned(picture: UInt8[np.ndarray, "row column 3"], watched: Watched) -> UInt8[np.ndarray, "higher wider 3"]:
    """The frame with the step and the return so far below it; sides are even, as the video codec requires."""
    height, width = picture.shape[:2]
    image = Image.new("RGB", (width + width % 2, height + CAPTION + height % 2), canvas.PAPER)
    image.paste(Image.fromarray(np.ascontiguousarray(picture)))
    said = f"step {len(watched.rewards)} · return {watched.earned:.2f}"
    canvas.write(image, (6, image.height - CAPTION / 2), said, 12, canvas.FAINT, "lm")
    return np.asarray(image)


def config_of(env: gymnasium.Env) -> SeekConfig:
    """Configuration of a room, with the limit of steps that it is registered with."""
    room = env.unwrapped
    assert isinstance(room, Seek)
    limits = [room.config.max_steps, *([env.spec.max_episode_steps] if env.spec else [])]
    return replace(room.config, max_steps=min(filter(None, limits)))


def many(agent: Agent, env: Shown, seed: int, count: int, progress: Progress) -> list[EpisodeResult]:
    """Results of episodes in a room, played in parallel."""
    room = env.unwrapped
    assert isinstance(room, Seek)
    config, played = replace(config_of(env), oracle_info=True), []
    for start in range(0, count, BATCH):
        progress("episodes", start, count)
        some = min(BATCH, count - start)
        generator = generator_of(agent, seed + start)
        played += play("run", agent, config, seed + start, some, generator, [], world=room.world)
    progress("episodes", count, count)
    return played


def rewards_chart(found: list[Watched]) -> Figure:
    """Reward of each step above, sum so far below; a line for each episode."""
    figure = sheet(5.4, 4.2)
    [above], [below] = panels(figure, 2, 1)
    for number, one in enumerate(found):
        steps = range(1, len(one.rewards) + 1)
        colour, style = LINES[number % len(LINES)], "-" if number < len(LINES) else "--"
        above.plot(steps, one.rewards, style, color=colour, linewidth=0.9)
        below.plot(steps, np.cumsum(one.rewards), style, color=colour, linewidth=1.4, label=f"seed {one.seed}")
    tidy(above, "", "", "reward", grid=True)
    tidy(below, "", "step", "sum of rewards", grid=True)
    if len(found) <= len(LINES):
        below.legend(fontsize=SMALL, frameon=False, labelcolor=INK)
    return figure


def distances_chart(played: list[EpisodeResult]) -> Figure:
    figure = sheet(5.4, 3.4)
    axes = panels(figure, 1, 1)[0][0]
    for success, mark, name in ((True, "o", "all found"), (False, "x", "not all found")):
        own = [one for one in played if one.success is success]
        axes.scatter(
            [one.shortest for one in own],
            [one.steps for one in own],
            14,
            LINES[not success],
            marker=mark,
            label=f"{name} ({len(own)})",
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    tidy(axes, "", "shortest path at the beginning (m)", "steps of the episode", grid=True)
    axes.legend(fontsize=SMALL, frameon=False, labelcolor=INK)
    return figure
