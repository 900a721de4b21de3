"""Playing in a pygame window, where keys act as long as they are held."""

import time
from dataclasses import replace
from types import TracebackType

from PIL import Image

from sonarium.play.screen import HELP, MORE, MOVES, Command, Screen, command_of
from sonarium.rooms.draw import canvas
from sonarium.rooms.draw.floorplan import picture
from sonarium.rooms.draw.overlay import SoundField, sound_field
from sonarium.rooms.seek.episode import Scene

SIZE = 640
LINE, TYPE = 24, 14
"""Line height and font size of the text in pixels."""
ORDER = 2
"""Largest reflection order of the image sources that are drawn."""


class Window(Screen):
    """A window with the picture of the room and text below it."""

    def open(self) -> None:
        """Show the window; SDL raises its own errors where it cannot."""
        import pygame

        self.pygame = pygame
        pygame.display.init()
        self.held = {
            "forward": (pygame.K_UP, pygame.K_w), "back": (pygame.K_DOWN, pygame.K_s),
            "left": (pygame.K_LEFT, pygame.K_a), "right": (pygame.K_RIGHT, pygame.K_d),
        }  # fmt: skip
        self.struck = {
            pygame.K_q: "quit", pygame.K_ESCAPE: "quit", pygame.K_n: "next room", pygame.K_RETURN: "next room",
            pygame.K_h: "hide", pygame.K_l: "levels", pygame.K_i: "images",
        }  # fmt: skip
        self.moved = {key: name for name, keys in self.held.items() for key in keys}
        self.surface = pygame.display.set_mode((SIZE, SIZE + 3 * LINE))
        pygame.display.set_caption("Sonarium")
        self.names: list[str] = []
        self.field: tuple[object, bytes, SoundField] | None = None

    def __enter__(self) -> None:
        """Do nothing: the window is open already, because the choice of a screen depends on whether it can be."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pygame.display.quit()

    def wait(self, seconds: float) -> None:
        """Poll for keys; it waits 10 ms at most, because the window is redrawn often."""
        for event in self.pygame.event.get():
            if event.type == self.pygame.QUIT:
                self.names.append("quit")
            elif event.type == self.pygame.KEYDOWN:
                self.names.append(self.struck.get(event.key) or self.moved.get(event.key, ""))
        time.sleep(min(seconds, 0.01))

    def command(self) -> Command:
        """Command of the keys pressed since the last call and of those held down, several at once."""
        self.wait(0)
        pressed = self.pygame.key.get_pressed()
        struck, self.names = self.names, []
        moving = {name for name, keys in self.held.items() if any(pressed[key] for key in keys)} | set(struck)
        moves = [move for name, move in MOVES.items() if name in moving]
        return replace(command_of(struck), move=(sum(move[0] for move in moves), sum(move[1] for move in moves)))

    def show(self, scene: Scene, status: str, hide: bool, levels: bool, images: bool) -> None:
        """Draw the picture, and text below it."""
        field = self.field_of(scene) if levels else None
        seen = picture(scene, SIZE, field, ORDER if images else 0, hide, alike=True)
        whole = Image.new("RGB", (SIZE, SIZE + 3 * LINE), canvas.PAPER)
        whole.paste(Image.fromarray(seen))
        for number, line in enumerate((status, HELP, MORE)):
            place = (LINE, SIZE + (number + 0.5) * LINE)
            canvas.write(whole, place, line, TYPE, canvas.FAINT if number else canvas.INK, "lm")
        self.surface.blit(self.pygame.image.frombuffer(whole.tobytes(), whole.size, "RGB"), (0, 0))
        self.pygame.display.flip()

    def field_of(self, scene: Scene) -> SoundField:
        """Sound field of the scene, recomputed when a source is switched off or moves, or in another room."""
        sounding = scene.on.tobytes() + scene.sources.tobytes()
        if self.field is None or self.field[0] is not scene.room or self.field[1] != sounding:
            self.field = (scene.room, sounding, sound_field(scene))
        return self.field[2]
