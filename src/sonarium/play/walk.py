"""Walking through a room by keyboard in real time.

The window and the terminal are two screens of one walk. The environment steps whenever the audio output needs
another window of sound; without a key it steps on the spot, so that one can stand and listen.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from sonarium.play.audio_output import AudioOutput, open_output, quiet
from sonarium.play.screen import Command, Screen
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek

PLAYBACK_GAIN = 20.0
"""Gain in dB of playback over the observation, before clipping."""
POLL = 0.02
"""Longest time in seconds between two reads of the keys."""


@dataclass(frozen=True)
class Ended:
    """An episode that came to its end; walked and shortest path in metres where `info` has them."""

    seed: int
    success: bool
    found: int
    steps: int
    earned: float
    walked: float
    shortest: float


@dataclass
class Tally:
    """Totals over all episodes of a walk."""

    episodes: int = 0
    finished: int = 0
    found: int = 0
    steps: int = 0
    earned: float = 0.0
    ended: list[Ended] = field(default_factory=list)


class Walk:
    """One episode after another, and what is shown of it."""

    def __init__(self, config: SeekConfig, seed: int) -> None:
        self.room, self.seed = Seek(config), seed
        self.tally = Tally()
        self.hide = self.levels = self.images = False
        self.begin()

    def begin(self) -> None:
        """The next room; each has a seed of its own."""
        self.steps, seed = 0, self.seed + self.tally.episodes
        self.heard, info = self.room.reset(seed=seed)
        self.shortest = float(info.get("reachable_distance", 0.0))
        self.tally.episodes += 1
        self.found, self.total, self.over, self.earned = int(info["found"]), self.room.config.sources, "", 0.0

    def step(self, command: Command) -> Float[np.ndarray, "2 time"]:
        """The next window of sound."""
        self.heard, reward, terminated, truncated, info = self.room.step(np.array(command.move, np.float32))
        self.tally.found += int(info["found"]) - self.found
        self.found = int(info["found"])
        self.tally.steps += 1
        self.earned, self.tally.earned = self.earned + reward, self.tally.earned + reward
        self.steps += 1
        if terminated and self.found == self.total:
            self.tally.finished += 1
            self.over = "All sources found!"
        elif terminated:
            self.over = "That was a distractor."
        elif truncated:
            self.over = "Time is up."
        if self.over:
            walked, seed = float(info.get("walked", 0.0)), self.seed + self.tally.episodes - 1
            success = terminated and self.found == self.total
            self.tally.ended.append(
                Ended(seed, success, self.found, self.steps, self.earned, walked, self.shortest)
            )
        return self.heard

    def obey(self, command: Command) -> None:
        """What a key does besides walking."""
        self.hide, self.levels, self.images = (
            self.hide ^ command.hide,
            self.levels ^ command.levels,
            self.images ^ command.images,
        )
        if command.next_room:
            self.begin()

    def status(self, audible: bool) -> str:
        status = f"{self.over} n: next room · q: quit" if self.over else f"return {self.earned:.1f}"
        return status + ("" if audible else " · no sound device: silent")


def walk(config: SeekConfig, seed: int, screen: Screen) -> Tally:
    """Play until the player quits."""
    going = Walk(config, seed)
    output = open_output(config.rate)
    try:
        with screen:
            stroll(going, screen, output)
    finally:
        output.close()
    return going.tally


def stroll(going: Walk, screen: Screen, output: AudioOutput) -> None:
    """Audio sets the pace; the picture is redrawn after each step."""
    while True:
        screen.wait(POLL)
        if not output.needs_window():
            continue
        command = screen.command()
        if command.quit:
            return
        going.obey(command)
        heard = going.heard * 0 if going.over else going.step(command)
        output.play(np.clip(heard * 10 ** (PLAYBACK_GAIN / 20), -1, 1))
        screen.show(going.room.scene(), going.status(output.audible), going.hide, going.levels, going.images)


def choose_screen(terminal: bool, remark: Callable[[str], None]) -> Screen:
    """A window where there is a display, else or if wanted the terminal; a remark says why there is no window."""
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
            # SDL raises errors of its own; whatever it was, a terminal will do.
            remark(f"no window can be shown ({error}): playing in the terminal")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ValueError(
            "playing by keyboard needs a display or a terminal, and there is neither: start it in a terminal, or "
            "let an agent play, as --agent difference"
        )
    from sonarium.play.terminal import Terminal

    return Terminal()


def has_display() -> bool:
    if sys.platform in ("darwin", "win32") or os.environ.get("SDL_VIDEODRIVER"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
