"""Walking through a room by keyboard in real time.

The window and the terminal are two screens of one walk. The environment steps whenever the audio output needs
another window of sound; without a key it steps on the spot, so that one can stand and listen.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from sonarium.play.audio_output import AudioOutput, open_output, quiet
from sonarium.play.evaluate import EpisodeResult, spl_of
from sonarium.play.screen import Command, Screen
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek, sound_in
from sonarium.rooms.seek.episode import tells_category

PLAYBACK_GAIN = 20.0
"""Gain in dB of playback over the observation, before clipping."""
YOU = "you"
"""The player, in a table of agents."""
POLL = 0.02
"""Longest time in seconds between two reads of the keys."""


@dataclass
class Tally:
    """Totals over all episodes of a walk."""

    episodes: int = 0
    finished: int = 0
    found: int = 0
    steps: int = 0
    earned: float = 0.0
    played: list[EpisodeResult] = field(default_factory=list)
    """Episodes of a measured walk; one that was abandoned counts as failed."""


class Walk:
    """Consecutive episodes, and what is displayed of them."""

    def __init__(self, config: SeekConfig, seed: int, measured: bool = False) -> None:
        self.room, self.seed, self.measured = Seek(replace(config, oracle_info=measured)), seed, measured
        self.tally = Tally()
        self.hide = self.levels = self.images = False
        self.begin()

    def begin(self) -> None:
        """Begin the next room; each has its own seed."""
        self.heard, self.info = self.room.reset(seed=self.seed + self.tally.episodes)
        self.shortest = float(self.info["reachable_distance"]) if self.measured else 0.0
        self.tally.episodes, self.steps = self.tally.episodes + 1, 0
        self.found, self.total, self.over, self.earned = 0, self.room.config.sources, "", 0.0
        self.success = False
        told = tells_category(self.room.config)
        self.sought = f"find: {self.room.scene().sounds[0]} · " if told else ""

    def step(self, command: Command) -> Float[np.ndarray, "2 time"]:
        """Take a step; return the next window of sound."""
        self.heard, reward, terminated, truncated, self.info = self.room.step(np.array(command.move, np.float32))
        found = int(self.info["found"])
        self.tally.found, self.found = self.tally.found + found - self.found, found
        self.tally.steps, self.steps = self.tally.steps + 1, self.steps + 1
        self.earned, self.tally.earned = self.earned + reward, self.tally.earned + reward
        if terminated and self.found == self.total:
            self.tally.finished += 1
            self.success = True
            self.over = "All sources found!"
        elif terminated:
            self.over = "That was a distractor."
        elif truncated:
            self.over = "Time is up."
        return sound_in(self.heard)

    def obey(self, command: Command) -> None:
        """Carry out the parts of a command other than movement."""
        self.hide, self.levels, self.images = (
            self.hide ^ command.hide,
            self.levels ^ command.levels,
            self.images ^ command.images,
        )
        if command.next_room:
            self.note()
            self.begin()

    def note(self) -> None:
        """Record the result of the episode, if the walk is measured."""
        if self.measured:
            walked = float(self.info["walked"])
            self.tally.played.append(
                EpisodeResult(
                    YOU, self.seed + self.tally.episodes - 1, self.success,
                    spl_of(self.success, walked, self.shortest), self.found, self.steps, float(self.earned),
                    walked, self.shortest, oracle_steps=0,
                )
            )  # fmt: skip

    def status(self, audible: bool) -> str:
        status = f"{self.over} n: next room · q: quit" if self.over else f"{self.sought}return {self.earned:.1f}"
        return status + ("" if audible else " · no sound device: silent")


def walk(config: SeekConfig, seed: int, screen: Screen, measured: bool = False) -> Tally:
    """Play until the player quits."""
    going = Walk(config, seed, measured)
    output = open_output(config.rate)
    try:
        with screen:
            stroll(going, screen, output)
    finally:
        output.close()
    if going.steps:
        going.note()
    return going.tally


def stroll(going: Walk, screen: Screen, output: AudioOutput) -> None:
    """Play at the pace of the audio; the picture is redrawn after each step."""
    while True:
        screen.wait(POLL)
        if not output.needs_window():
            continue
        command = screen.command()
        if command.quit:
            return
        going.obey(command)
        heard = sound_in(going.heard) * 0 if going.over else going.step(command)
        output.play(np.clip(heard * 10 ** (PLAYBACK_GAIN / 20), -1, 1))
        screen.show(going.room.scene(), going.status(output.audible), going.hide, going.levels, going.images)


def choose_screen(terminal: bool, remark: Callable[[str], None]) -> Screen:
    """A window if there is a display, otherwise or with `terminal` the terminal; a remark says why no window."""
    if not terminal and has_display():
        try:
            with quiet():
                from sonarium.play.window import Window

                window = Window()
                window.open()
            return window
        except ModuleNotFoundError:
            remark("pygame is not installed (`pip install pygame` for a window): playing in the terminal")
        except Exception as error:
            # SDL raises its own errors; after any of them the terminal is used.
            remark(f"no window can be shown ({error}): playing in the terminal")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ValueError(
            "playing by keyboard needs a display or a terminal, and there is neither: start it in a terminal, or "
            "let an agent play, as --agent difference"
        )
    try:
        from sonarium.play.terminal import Terminal
    except ModuleNotFoundError:  # Windows has no `termios`
        raise ValueError(
            "this system has no terminal to play in, and there is no window: `pip install pygame`, and leave "
            "out --terminal"
        ) from None

    return Terminal()


def has_display() -> bool:
    if sys.platform in ("darwin", "win32") or os.environ.get("SDL_VIDEODRIVER"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
