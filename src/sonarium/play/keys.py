"""Which key does what, in the window and in the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

MOVES = {"forward": (1.0, 0.0), "back": (-1.0, 0.0), "left": (0.0, 1.0), "right": (0.0, -1.0)}
"""Shares of a step ahead and of a turn to the left."""
KEYS = {
    "\x1b[A": "forward", "\x1b[B": "back", "\x1b[D": "left", "\x1b[C": "right",
    "\x1bOA": "forward", "\x1bOB": "back", "\x1bOD": "left", "\x1bOC": "right",
    "w": "forward", "s": "back", "a": "left", "d": "right",
    "q": "leave", "n": "again", "\r": "again", "\n": "again", "h": "hide", "l": "levels", "i": "images",
}  # fmt: skip
"""What terminals send for each key."""
HELP = "arrow keys or w a s d: walk and turn · h: hide the sources · n: another room · q: leave"
MORE = "l: how loud it is where · i: image sources"


@dataclass(frozen=True)
class Wish:
    """What the player asks for."""

    move: tuple[float, float] = (0.0, 0.0)
    leave: bool = False
    again: bool = False
    hide: bool = False
    levels: bool = False
    images: bool = False
    """The last three turn something on or off."""


def wish_of(names: Sequence[str]) -> Wish:
    """The wish behind the names of keys in their order."""
    moves = [MOVES[name] for name in names if name in MOVES]
    return Wish(
        move=moves[-1] if moves else (0.0, 0.0),
        leave="leave" in names,
        again="again" in names,
        hide=names.count("hide") % 2 == 1,
        levels=names.count("levels") % 2 == 1,
        images=names.count("images") % 2 == 1,
    )
