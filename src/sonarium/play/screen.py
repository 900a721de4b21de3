"""What a screen promises to a walk by keyboard: to listen for keys, and to show the room."""

from abc import ABC, abstractmethod
from types import TracebackType

from sonarium.play.keys import Wish
from sonarium.rooms.seek.episode import Scene


class Screen(ABC):
    """A window or a terminal; it is used as a context, and leaves all as it was."""

    @abstractmethod
    def __enter__(self) -> None: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Listen for keys, no longer than this."""

    @abstractmethod
    def wish(self) -> Wish:
        """What the keys since the last time ask for."""

    @abstractmethod
    def show(self, scene: Scene, state: str, hide: bool, levels: bool, images: bool) -> None:
        """The scene, how things stand, and which keys there are."""
