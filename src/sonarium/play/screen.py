"""Interface of a screen for walking by keyboard, a window or a terminal, which reads keys and shows the room."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from sonarium.rooms.seek.episode import Scene

MOVES = {"forward": (1.0, 0.0), "back": (-1.0, 0.0), "left": (0.0, 1.0), "right": (0.0, -1.0)}
"""The continuous action of each key: fractions of a step forward and of a turn to the left."""
HELP = "arrow keys or w a s d: walk and turn · h: hide the sources · n: next room · q: quit"
MORE = "l: sound pressure level · i: image sources"


@dataclass(frozen=True)
class Command:
    """A command of the player."""

    move: tuple[float, float] = (0.0, 0.0)
    quit: bool = False
    next_room: bool = False
    hide: bool = False
    levels: bool = False
    images: bool = False
    """The last three are toggles."""


def command_of(names: Sequence[str]) -> Command:
    """Command of pressed keys, from their names in order; of the movement keys the last one counts."""
    moves = [MOVES[name] for name in names if name in MOVES]
    return Command(
        move=moves[-1] if moves else (0.0, 0.0),
        quit="quit" in names,
        next_room="next room" in names,
        hide=names.count("hide") % 2 == 1,
        levels=names.count("levels") % 2 == 1,
        images=names.count("images") % 2 == 1,
    )


class Screen(ABC):
    """A window or a terminal; as a context manager it restores what it changed."""

    @abstractmethod
    def __enter__(self) -> None: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Wait for keys, for no longer than this."""

    @abstractmethod
    def command(self) -> Command:
        """Command of the keys pressed since the last call."""

    @abstractmethod
    def show(self, scene: Scene, status: str, hide: bool, levels: bool, images: bool) -> None:
        """Draw the scene, a status line, and the list of keys."""
