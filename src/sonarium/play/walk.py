"""Walking through a room by keyboard: time passes as in the world, and sound is heard as it is made.

The window and the terminal are two screens of one walk. A step is made whenever the sound device needs another
window; a key that is not pressed is a step on the spot, so that one can stand and listen.
"""

import os
import sys
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sonarium.commands.faults import UsageError, say
from sonarium.play.audio_output import Loudspeaker, loudspeaker, quiet
from sonarium.play.keys import Wish
from sonarium.play.screen import Screen
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek

LOUDER = 20.0
"""Decibels by which what is played is louder than what agents hear, before it is limited."""
PATIENCE = 0.02
"""Seconds at most between two looks at the keys."""


@dataclass
class Tally:
    """All episodes of a walk."""

    episodes: int = 0
    finished: int = 0
    found: int = 0
    steps: int = 0
    earned: float = 0.0


class Walk:
    """One episode after another, and how it looks."""

    def __init__(self, config: SeekConfig, seed: int) -> None:
        self.room, self.seed = Seek(config), seed
        self.tally = Tally()
        self.hide = self.levels = self.images = False
        self.begin()

    def begin(self) -> None:
        """The next room; each has a seed of its own."""
        self.heard, info = self.room.reset(seed=self.seed + self.tally.episodes)
        self.tally.episodes += 1
        self.found, self.total, self.over, self.earned = int(info["found"]), self.room.config.sources, "", 0.0

    def step(self, wish: Wish) -> Float[np.ndarray, "2 time"]:
        """What is heard next."""
        self.heard, reward, terminated, truncated, info = self.room.step(np.array(wish.move, np.float32))
        self.tally.found += int(info["found"]) - self.found
        self.found = int(info["found"])
        self.tally.steps += 1
        self.earned, self.tally.earned = self.earned + reward, self.tally.earned + reward
        if terminated:
            self.tally.finished += 1
            self.over = "All found!"
        elif truncated:
            self.over = "The time is over."
        return self.heard

    def obey(self, wish: Wish) -> None:
        """What a key does besides walking."""
        self.hide, self.levels, self.images = (
            self.hide ^ wish.hide,
            self.levels ^ wish.levels,
            self.images ^ wish.images,
        )
        if wish.again:
            self.begin()

    def state(self, heard: bool) -> str:
        """How things stand."""
        state = f"{self.over} n: another room · q: leave" if self.over else f"return {self.earned:.1f}"
        silent = "" if heard else " · no sound device here: silent"
        return state + silent


def walk(config: SeekConfig, seed: int, terminal: bool) -> Tally:
    """Play until the player leaves."""
    screen = choose_screen(terminal)
    going = Walk(config, seed)
    speaker = loudspeaker(config.rate)
    try:
        with screen:
            stroll(going, screen, speaker)
    finally:
        speaker.close()
    return going.tally


def stroll(going: Walk, screen: Screen, speaker: Loudspeaker) -> None:
    """Sound is made in time; the picture is renewed after each step."""
    while True:
        screen.wait(PATIENCE)
        if not speaker.hungry():
            continue
        wish = screen.wish()
        if wish.leave:
            return
        going.obey(wish)
        heard = going.heard * 0 if going.over else going.step(wish)
        speaker.play(np.clip(heard * 10 ** (LOUDER / 20), -1, 1))
        screen.show(going.room.scene(), going.state(speaker.heard), going.hide, going.levels, going.images)


def choose_screen(terminal: bool) -> Screen:
    """A window where one can be shown and is not declined, else the terminal."""
    if not terminal and displayed():
        try:
            with quiet():
                from sonarium.play.window import Window

                window = Window()
                window.open()
            return window
        except ModuleNotFoundError:
            say("pygame is not installed (`pip install pygame` for a window): playing in the terminal")
        except Exception as error:
            # SDL's own errors: whatever it was, a terminal will do.
            say(f"no window can be shown ({error}): playing in the terminal")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "to play by keyboard, a display or a terminal is needed, and here is neither: start it in a terminal, "
            "or let an agent play, as --agent difference"
        )
    from sonarium.play.terminal import Terminal

    return Terminal()


def displayed() -> bool:
    """Whether this machine has a screen for windows."""
    if sys.platform in ("darwin", "win32") or os.environ.get("SDL_VIDEODRIVER"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
