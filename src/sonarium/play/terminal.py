"""Playing in a terminal: keys without Enter (cbreak mode), and a drawing that is redrawn in place.

Whatever happens, the terminal is restored: its modes, its screen and its cursor.
"""

import os
import select
import shutil
import sys
import termios
import tty
from types import TracebackType

from sonarium.play.screen import HELP, Command, Screen, command_of
from sonarium.rooms.draw.ansi import FEWEST, text
from sonarium.rooms.seek.episode import Scene

KEYS = {
    "\x1b[A": "forward", "\x1b[B": "back", "\x1b[D": "left", "\x1b[C": "right",
    "\x1bOA": "forward", "\x1bOB": "back", "\x1bOD": "left", "\x1bOC": "right",
    "w": "forward", "s": "back", "a": "left", "d": "right",
    "q": "quit", "n": "next room", "\r": "next room", "\n": "next room",
    "h": "hide", "l": "levels", "i": "images",
}  # fmt: skip
"""Names of the keys by the characters that terminals send for them."""
ALTERNATE, USUAL = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""Switch to the alternate screen without a cursor, and back to the usual one with it."""
HOME, TO_END_OF_LINE, TO_END = "\x1b[H", "\x1b[K", "\x1b[J"
ESCAPE = "\x1b"
DISABLED = b"\x00"
WIDEST = 100
"""Maximum width of a drawing in columns."""


class Terminal(Screen):
    """A text screen."""

    def __init__(self) -> None:
        self.keyboard, self.screen = sys.stdin.fileno(), sys.stdout
        self.pressed = ""

    def __enter__(self) -> None:
        self.before = termios.tcgetattr(self.keyboard)
        tty.setcbreak(self.keyboard)
        modes = termios.tcgetattr(self.keyboard)
        # Suspended by Ctrl-Z, the program could not restore the terminal.
        modes[6][termios.VSUSP] = DISABLED
        termios.tcsetattr(self.keyboard, termios.TCSADRAIN, modes)
        self.screen.write(ALTERNATE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        termios.tcsetattr(self.keyboard, termios.TCSAFLUSH, self.before)
        self.screen.write(USUAL)
        self.screen.flush()

    def wait(self, seconds: float) -> None:
        """Wait until a key is pressed, or the time is over."""
        if select.select([self.keyboard], [], [], seconds)[0]:
            read = os.read(self.keyboard, 1024)
            # A terminal that has been closed reads as end of file.
            self.pressed += read.decode(errors="ignore") if read else "q"

    def command(self) -> Command:
        """Command of the keys pressed since the last call."""
        names, rest = [], self.pressed
        while rest:
            known = next((key for key in sorted(KEYS, key=len, reverse=True) if rest.startswith(key)), None)
            if known is None and rest in (ESCAPE, f"{ESCAPE}[", f"{ESCAPE}O"):
                break
            names.append(KEYS[known] if known is not None else "")
            rest = rest[len(known or " ") :]
        self.pressed = rest
        return command_of(names)

    def show(self, scene: Scene, status: str, hide: bool, levels: bool, images: bool) -> None:
        """Draw the scene and the texts, but no levels or images, for which characters are too coarse."""
        size = shutil.get_terminal_size()
        columns = max(FEWEST, min(size.columns - 1, 2 * (size.lines - 4), WIDEST))
        words = (line[: size.columns - 1] for line in (status, HELP))
        drawn = [*text(scene, columns, hide=hide, alike=True).split("\n"), *words]
        shown = [line + TO_END_OF_LINE for line in drawn[: size.lines]]
        self.screen.write(HOME + "\r\n".join(shown) + TO_END)
        self.screen.flush()
