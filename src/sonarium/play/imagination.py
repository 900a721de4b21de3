"""Imagined and actual observations of an agent, compared for the same actions from one step of an episode on.

Binaural sound is shown as figures and sounds, pictures at every few steps, numbers as line plots.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from einops import rearrange
from gymnasium import Space
from jaxtyping import Bool, Float, Shaped
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sonarium.agents.contract import Agent, Imaginer, Info, Memory, NotObservable, States, stacked
from sonarium.agents.rollout import leaves, rebuilt
from sonarium.agents.spaces import flat, is_sound, parts_of
from sonarium.features.ears import Ears, EarsConfig
from sonarium.report.album import Medium, wav
from sonarium.report.style import FIELD, INK, LINES, SMALL, bare, panels, png, sheet, tidy

Remark = Callable[[str], object]
LONGEST = 16
"""Maximum number of imagined steps."""
MOST_NUMBERS = 8
"""Maximum number of dimensions of an observation that are drawn."""
MOST_PICTURES = 8
PEAK = 0.9
DEEPEST = 60.0
"""Dynamic range in decibels that is drawn, below the loudest band."""


@dataclass
class Noted(Agent):
    """An agent whose memories, actions, observations and rewards in one episode are recorded."""

    agent: Agent
    memories: list[Memory] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    observations: list[Any] = field(default_factory=list)
    rewards: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator_kind = self.agent.generator_kind

    def initial(self, slots: int) -> Memory:
        return self.agent.initial(slots)

    def act(
        self, memory: Memory, observation: Any, first: Bool[np.ndarray, " slot"], generator: Any, info: Info
    ) -> tuple[Memory, Shaped[np.ndarray, "slot *action"], dict[str, Any]]:
        memory, action, extras = self.agent.act(memory, observation, first, generator, info)
        self.memories.append(memory)
        self.actions.append(action)
        self.observations.append(observation)
        return memory, action, extras

    def rewarded(self, memory: Memory, reward: Float[np.ndarray, " slot"]) -> Memory:
        self.rewards.append(reward)
        return self.agent.rewarded(memory, reward)

    @property
    def steps(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class Beside:
    """Actual and imagined continuation of an episode from one step on, with a row for each step."""

    came: list[np.ndarray]
    """Actual observations, by part."""
    imagined: list[np.ndarray] | None
    """Imagined observations, by part; None where the agent cannot decode them."""
    reward: Float[np.ndarray, " step"]
    expected: Float[np.ndarray, " step"]
    goes_on: Float[np.ndarray, " step"]
    """Predicted probability that the episode continues."""


def beside(noted: Noted, space: Space, generator: torch.Generator, remark: Remark) -> Beside | None:
    """Comparison from a third of an episode on; None if it is too short, or the agent is no `Imaginer`. A remark
    says why, where observations cannot be decoded."""
    agent, moment = noted.agent, noted.steps // 3
    steps = min(LONGEST, noted.steps - 1 - moment)
    if not isinstance(agent, Imaginer) or steps < 1:
        return None
    actions = np.stack(noted.actions[moment : moment + steps])
    states = agent.imagined(noted.memories[moment], actions, generator)[:, 0]
    reward, goes_on = agent.expected(states)
    came = stacked([first_of(one) for one in noted.observations[moment + 1 : moment + 1 + steps]])
    earned = np.stack(noted.rewards[moment : moment + steps])[:, 0]
    observed = observed_in(agent, states, remark)
    imagined = None if observed is None else flat(space, observed)
    return Beside(flat(space, came), imagined, earned, reward, goes_on)


def observed_in(agent: Imaginer, states: States, remark: Remark) -> Any | None:
    """Observations decoded from consecutive states; None, and a remark, where the agent cannot decode them."""
    try:
        return agent.observed_in(states)
    except NotObservable as why:
        remark(f"what was imagined is not shown: {why}")
        return None


def one_step_ahead(noted: Noted, generator: torch.Generator, remark: Remark) -> Any | None:
    """One-step predictions of the observation after each step but the last; None where the agent is no `Imaginer`
    or, with a remark, cannot decode them."""
    agent = noted.agent
    if not isinstance(agent, Imaginer) or noted.steps < 2:
        return None
    rows = zip(*(leaves(memory) for memory in noted.memories[:-1]), strict=True)
    memory = rebuilt(noted.memories[0], map(joined, rows), torch.device("cpu"))
    actions = np.concatenate(noted.actions[:-1])[None]
    return observed_in(agent, agent.imagined(memory, actions, generator)[0], remark)


def joined(rows: Sequence[Any]) -> Any:
    return torch.cat(list(rows)) if isinstance(rows[0], torch.Tensor) else np.concatenate(rows)


def first_of(observation: Any) -> Any:
    """The observation in the only slot."""
    if isinstance(observation, dict):
        return {name: first_of(part) for name, part in observation.items()}
    return tuple(map(first_of, observation)) if isinstance(observation, tuple) else observation[0]


def media(found: Beside, space: Space, rate: int | None) -> tuple[list[Medium], dict[str, bytes]]:
    """Pictures and sounds of both for a page; `rate` is the sampling rate of sound. The reward is plotted even
    where observations cannot be decoded."""
    listed, files = [], {}

    def keep(kind: Any, file: str, title: str, caption: str, content: bytes, card: str) -> None:
        listed.append(Medium(kind, file, title, caption, f"imagination/{card}"))
        files[file] = content

    pairs = [] if found.imagined is None else zip(parts_of(space), found.came, found.imagined, strict=True)
    for number, (one, came, imagined) in enumerate(pairs):
        file = f"imagined-{number}"
        if is_sound(one) and came.shape[1] == 2 and rate:
            waves = as_loud([rearrange(each, "step ear time -> (step time) ear") for each in (came, imagined)])
            keep("picture", f"{file}.png", "Both ears", HEARD, png(ears_chart(waves, rate)), file)
            for wave, name in zip(waves, ("What came", "What was imagined"), strict=True):
                own = f"{file}-{'came' if wave is waves[0] else 'dreamt'}.wav"
                keep("sound", own, name, f"{len(wave) / rate:.2g} s at both ears.", wav(wave, rate), file)
        elif one.dtype == np.uint8 and came.ndim >= 3:
            keep("picture", f"{file}.png", "Pictures", SEEN, png(pictures_chart(came, imagined)), file)
        else:
            rows = [each.reshape(len(each), -1)[:, :MOST_NUMBERS] for each in (came, imagined)]
            keep("picture", f"{file}.png", "Observed numbers", SEEN, png(numbers_chart(*rows)), file)
    keep("picture", "imagined-reward.png", "Reward", REWARD, png(reward_chart(found)), "reward")
    return listed, files


def as_loud(waves: Sequence[Float[np.ndarray, "time 2"]]) -> list[Float[np.ndarray, "time 2"]]:
    """Waves at a peak of `PEAK`, with one gain for all."""
    peak = max(float(np.abs(wave).max(initial=0)) for wave in waves)
    return [wave * np.float32(PEAK / peak if peak > 0 else 1.0) for wave in waves]


HEARD = (
    "Loudness in mel bands, and the level of the left ear above the right one (blue), over time: what came "
    "after a moment of the first episode, and what the agent imagined there of the same actions."
)
SEEN = (
    "What came after a moment of the first episode, and what the agent imagined there of the same actions, step "
    "by step."
)
REWARD = "The reward of each step that came, and what the agent expected there; and whether the episode goes on."


def ears_chart(waves: Sequence[Float[np.ndarray, "time 2"]], rate: int) -> Figure:
    """Figure with a column for the actual sound, and one for the imagined sound."""
    ears = Ears(EarsConfig(), rate)
    rows = [ears(torch.from_numpy(np.float32(wave.T))[None])[0].numpy() for wave in waves]
    figure = sheet(6.2, 2.9)
    grid = panels(figure, 2, 2, shared=True)
    loud = [-ears.config.floor_db / 2 * (np.maximum(*np.split(one[:64], 2)) - 1) for one in rows]
    high = max(float(one.max()) for one in loud)
    for column, (name, own, one) in enumerate(zip(("what came", "what was imagined"), loud, rows, strict=True)):
        extent = (0, len(waves[column]) / rate, -0.5, len(own) - 0.5)
        audible = (own - high + DEEPEST) / DEEPEST
        level = np.ma.masked_less(one[-32:], -np.inf)
        shown = {"aspect": "auto", "origin": "lower", "extent": extent}
        grid[0][column].imshow(own, cmap=FIELD, vmin=high - DEEPEST, vmax=high, **shown)
        grid[1][column].imshow(level * audible.clip(0, 1), cmap="RdBu", vmin=-2, vmax=2, **shown)
        tidy(grid[0][column], name, "", "loudness" if not column else "")
        tidy(grid[1][column], "", "s after the moment", "left ear louder" if not column else "")
    grid[0][0].set_yticks([])
    return figure


def pictures_chart(came: np.ndarray, imagined: np.ndarray) -> Figure:
    chosen = np.unique(np.linspace(0, len(came) - 1, min(MOST_PICTURES, len(came))).round().astype(int))
    figure = sheet(0.9 * len(chosen) + 0.3, 2.2)
    grid = panels(figure, 2, len(chosen))
    for row, (name, pictures) in enumerate((("came", came), ("imagined", imagined))):
        for column, step in enumerate(chosen.tolist()):
            picture = pictures[step]
            if picture.ndim == 3 and picture.shape[0] < picture.shape[-1]:
                picture = np.moveaxis(picture, 0, -1)
            shown = picture.squeeze(-1) if picture.shape[-1] == 1 and picture.ndim == 3 else picture
            grid[row][column].imshow(shown, cmap="gray")
            bare(grid[row][column])
            grid[row][column].set_title(f"+{step + 1}" if not row else "", fontsize=SMALL, color=INK)
        grid[row][0].set_ylabel(name, fontsize=SMALL, color=INK)
    return figure


def numbers_chart(came: Float[np.ndarray, "step number"], imagined: Float[np.ndarray, "step number"]) -> Figure:
    numbers = came.shape[1]
    figure = sheet(5.6, 0.8 * numbers + 0.6)
    grid = panels(figure, numbers, 1, shared=False)
    for number, [axes] in enumerate(grid):
        lines(axes, came[:, number], imagined[:, number])
        tidy(axes, "", "step after the moment" if number == numbers - 1 else "", f"number {number}", grid=True)
    grid[0][0].legend(fontsize=SMALL, frameon=False, labelcolor=INK, ncols=2)
    return figure


def reward_chart(found: Beside) -> Figure:
    figure = sheet(5.6, 2.6)
    [above], [below] = panels(figure, 2, 1, shared=False)
    lines(above, found.reward, found.expected)
    above.legend(fontsize=SMALL, frameon=False, labelcolor=INK, ncols=2)
    tidy(above, "", "", "reward", grid=True)
    below.plot(range(1, len(found.goes_on) + 1), found.goes_on, color=LINES[1], linewidth=1.2)
    below.set_ylim(-0.05, 1.05)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(below, "", "step after the moment", "goes on", grid=True)
    return figure


def lines(axes: Any, came: Float[np.ndarray, " step"], imagined: Float[np.ndarray, " step"]) -> None:
    steps = range(1, len(came) + 1)
    axes.plot(steps, came, color=LINES[0], linewidth=1.6, label="came")
    axes.plot(steps, imagined, color=LINES[1], linewidth=1.2, linestyle="--", label="imagined")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
