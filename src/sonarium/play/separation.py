"""Figures and sounds of an agent's separator in an episode: the mask, the estimate and the direction of each
source, compared with the directions of the true sources.
"""

from collections.abc import Sequence

import numpy as np
from einops import rearrange
from jaxtyping import Float
from matplotlib.figure import Figure

from sonarium.agents.contract import Separated, stacked
from sonarium.agents.observing.listening import source_listener
from sonarium.measures.separation import Head, decibels, energy, lateral_angle, time_difference
from sonarium.play.imagination import Noted, as_loud, first_of
from sonarium.report.album import Medium, wav
from sonarium.report.separating import picture
from sonarium.report.style import FAINT, INK, LINES, SMALL, panels, png, sheet, tidy
from sonarium.rooms.draw.film import still
from sonarium.rooms.draw.floorplan import picture as plan
from sonarium.rooms.seek.episode import Scene

LONGEST = 48
"""Maximum number of windows that are drawn and played."""
QUIETEST = -25.0
"""Level in decibels re the loudest estimate of a window at which an estimate is too faint to be localised."""
DASHES = ("-", "--", ":", "-.")
"""Line styles of the true sources."""

MASKS = (
    "What both ears hear as the first episode begins; below it in each row what a source keeps of each bin (blue "
    "nothing, yellow all) and what that makes of the mixture (mean of both ears)."
)
HEARD = {
    True: "The separator goes on from window to window, as the agent hears it.",
    False: "Each window is separated by itself, as the agent hears it: sources can change places from one window "
    "to the next.",
}
"""Captions by whether the state of the separator is carried over."""
DIRECTIONS = (
    "From how far to the left or the right a source is heard, whether in front or behind: of each estimate by its "
    "interaural time difference in each window, as far as it is not too faint, and of the true sources as they "
    "are until they are found."
)
PLAN = "The room at the end of these windows, with the true sources and the way of the agent."


def heard_apart(noted: Noted, scenes: Sequence[Scene], head: Head) -> tuple[list[Medium], dict[str, bytes]]:
    """Pictures and sounds for a page; none for an agent that hears without a separator. The scenes are those of
    the observations, where they are known."""
    listener = source_listener(noted.agent)
    if listener is None or not noted.observations:
        return [], {}
    found = listener.separated(stacked([first_of(one) for one in noted.observations[:LONGEST]]))
    mixture, *estimates = joined(found)
    content = png(picture(mixture, found.masks, estimates, found.rate))
    drawn = [("masks", "Mixture and masks", f"{MASKS} {HEARD[found.carried]}", content)]
    if scenes:
        there = scenes[: len(found.mixture)]
        drawn.append(("directions", "Directions", DIRECTIONS, png(directions_chart(found, there, head))))
        drawn.append(("plan", "The true sources", PLAN, still(plan(there[-1]))))
    media = [Medium("picture", f"apart-{name}.png", title, said, "apart/first") for name, title, said, _ in drawn]
    files = {f"apart-{name}.png": content for name, _, _, content in drawn}
    names = ["mixture", *(f"source {number + 1}" for number in range(len(estimates)))]
    for name, wave in zip(names, as_loud([mixture, *estimates]), strict=True):
        file = f"apart-{name.replace(' ', '-')}.wav"
        said = f"{len(wave) / found.rate:.2g} s at both ears: use headphones."
        media.append(Medium("sound", file, name.capitalize(), said, "apart/first"))
        files[file] = wav(wave, found.rate)
    return media, files


def joined(found: Separated) -> list[Float[np.ndarray, "time 2"]]:
    """The mixture and each estimate, with their windows concatenated."""
    parts = [found.mixture, *np.moveaxis(found.sources, 1, 0)]
    return [rearrange(one, "window ear time -> (window time) ear") for one in parts]


def directions_chart(found: Separated, scenes: Sequence[Scene], head: Head) -> Figure:
    """Directions of estimates and true sources over time, in degrees to the left."""
    figure = sheet(6.2, 3.0)
    axes = panels(figure, 1, 1)[0][0]
    length = found.mixture.shape[2] / found.rate
    for number, true in enumerate(bearings(scenes).T):
        # A step function, constant in each window.
        times = np.repeat(length * np.arange(len(true) + 1), 2)[1:-1]
        sound, dashes = scenes[0].sounds[number], DASHES[number % len(DASHES)]
        axes.plot(times, np.repeat(true, 2), dashes, color=INK, linewidth=1.2, label=f"true: {sound}")
    heard = lateral(found, scenes[0].ear_distance, head)
    middles = length * (np.arange(len(heard)) + 0.5)
    for number, own in enumerate(heard.T):
        colour = LINES[number % len(LINES)]
        axes.plot(middles, own, "o", color=colour, markersize=4, alpha=0.8, label=f"source {number + 1}")
    axes.set_ylim(-95, 95)
    axes.set_yticks([-90, -45, 0, 45, 90])
    axes.axhline(0, color=FAINT, linewidth=0.6)
    tidy(axes, "", "time (s)", "degrees to the left", grid=True)
    figure.legend(loc="outside lower center", ncols=4, fontsize=SMALL, frameon=False, labelcolor=INK)
    return figure


def bearings(scenes: Sequence[Scene]) -> Float[np.ndarray, "step source"]:
    """Lateral angles of the true sources in degrees to the left, in front or behind; NaN for those found."""
    found = []
    for scene in scenes:
        x, y = (scene.sources - scene.pose[:2]).T
        aside = np.degrees(np.arcsin(np.sin(np.arctan2(y, x) - scene.pose[2])))
        found.append(np.where(scene.on, aside, np.nan))
    return np.stack(found)


def lateral(found: Separated, ear_distance: float, head: Head) -> Float[np.ndarray, "window source"]:
    """Lateral angle of each estimate in degrees to the left; NaN for faint ones."""
    delay = time_difference(found.sources, found.rate)
    power = energy(found.sources).sum(-1)
    level = decibels(power, np.broadcast_to(power.max(1, keepdims=True), power.shape))
    heard = np.degrees(lateral_angle(delay, ear_distance, head))
    return np.where(np.nan_to_num(level, nan=-np.inf) > QUIETEST, heard, np.nan)
