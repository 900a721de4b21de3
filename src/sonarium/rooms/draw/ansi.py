"""Text rendering for terminals (render_mode ansi): Braille dots for lines, symbols for the listener and the
sources.

A Braille character holds 2 × 4 dots, so that lines are finer than characters.
"""

from itertools import groupby, pairwise

import numpy as np
from jaxtyping import Float

from sonarium.rooms.seek.episode import Scene

ARROWS = "→↗↑↖←↙↓↘"
"""Headings from 0 in steps of 45°."""
SOUNDING, FOUND, WRONG = "♪", "✓", "×"
FEWEST, TALLEST = 12, 0.5
"""Minimum number of columns, and maximum number of rows per column."""
PLAIN, WALL, WAY, NEAR, DISTRACTOR, LISTENER, QUIET = "", "1", "32", "33", "35", "1;36", "90"
"""Select Graphic Rendition codes (ECMA-48): reset, bold, green, yellow, magenta, bold cyan, grey."""
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""Bit of each dot of a Braille character."""
EMPTY = 0x2800


class Sheet:
    """A grid of characters, each with a colour."""

    def __init__(self, low: Float[np.ndarray, "2"], high: Float[np.ndarray, "2"], columns: int) -> None:
        across, up = (high - low).tolist()
        # A line of n intervals has n + 1 dots.
        self.scale = min((2 * columns - 1) / across, (4 * max(4, int(columns * TALLEST)) - 1) / up)
        self.low, self.high = low, high
        self.columns = int(np.floor(across * self.scale)) // 2 + 1
        self.rows = int(np.floor(up * self.scale)) // 4 + 1
        self.dots = np.zeros((self.rows, self.columns), int)
        self.signs: dict[tuple[int, int], str] = {}
        self.colours: dict[tuple[int, int], str] = {}

    def place(self, points: Float[np.ndarray, "point 2"]) -> tuple[np.ndarray, np.ndarray]:
        """Column and row of the dots nearest to points in metres, clipped to the grid."""
        across = np.rint((points[:, 0] - self.low[0]) * self.scale).astype(int)
        down = np.rint((self.high[1] - points[:, 1]) * self.scale).astype(int)
        return np.clip(across, 0, 2 * self.columns - 1), np.clip(down, 0, 4 * self.rows - 1)

    def line(self, points: Float[np.ndarray, "point 2"], colour: str) -> None:
        """A polyline of dots."""
        for start, end in pairwise(points):
            count = int(np.abs(end - start).max() * self.scale) + 2
            leg = start + np.linspace(0, 1, count)[:, None] * (end - start)
            for across, down in zip(*self.place(leg), strict=True):
                cell = int(down) // 4, int(across) // 2
                self.dots[cell] |= DOTS[down % 4, across % 2]
                self.colours[cell] = colour

    def sign(self, point: Float[np.ndarray, "2"], sign: str, colour: str) -> None:
        (across,), (down,) = self.place(point[None])
        cell = int(down) // 4, int(across) // 2
        self.signs[cell], self.colours[cell] = sign, colour

    def lines(self, colour: bool) -> list[str]:
        return [self.row(row, colour) for row in range(self.rows)]

    def row(self, row: int, colour: bool) -> str:
        """One row of text. Neighbours of one colour share an escape sequence, because terminals may be slow."""
        cells = [
            (self.colours.get((row, column), PLAIN), self.cell(row, column)) for column in range(self.columns)
        ]
        runs = [(kind, "".join(cell for _, cell in run)) for kind, run in groupby(cells, key=lambda one: one[0])]
        return "".join(painted(letters, kind) if colour else letters for kind, letters in runs)

    def cell(self, row: int, column: int) -> str:
        dots = int(self.dots[row, column])
        return self.signs.get((row, column)) or (chr(EMPTY + dots) if dots else " ")


def painted(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def text(scene: Scene, columns: int = 48, colour: bool = True, hide: bool = False, alike: bool = False) -> str:
    """The scene in at most `columns` columns of text, with a status line below. `hide` leaves out the sources
    that are still on; `alike` does not tell distractors from targets until they are found."""
    if columns < FEWEST:
        raise ValueError(f"got {columns} columns: give at least {FEWEST}")
    corners = scene.room.corners
    sheet = Sheet(corners.min(axis=0), corners.max(axis=0), columns)
    circle = np.linspace(0, 2 * np.pi, 49)
    around = scene.radius * np.stack([np.cos(circle), np.sin(circle)], axis=1)
    sheet.line(scene.trajectory[:, :2].astype(float), WAY)
    wrong = np.arange(len(scene.on)) >= scene.targets
    shown = [DISTRACTOR if other and not alike else NEAR for other in wrong.tolist()]
    for place, on, paint in zip(scene.sources[:, :2], scene.on, shown, strict=True):
        if on and not hide:
            sheet.line(np.clip(place + around, sheet.low, sheet.high), paint)
    sheet.line(np.concatenate([corners, corners[:1]]), WALL)
    for place, on, other, paint in zip(scene.sources[:, :2], scene.on, wrong, shown, strict=True):
        if not (on and hide):
            sign = SOUNDING if on else WRONG if other else FOUND
            sheet.sign(place.astype(float), sign, paint if on else QUIET)
    heading = float(scene.pose[2])
    sheet.sign(scene.pose[:2].astype(float), ARROWS[round(heading / (np.pi / 4)) % 8], LISTENER)
    found, total = scene.tally
    degrees = round(np.degrees(heading)) % 360
    below = f"step {len(scene.trajectory) - 1} · found {found} of {total} · heading {degrees}°"
    return "\n".join([*sheet.lines(colour), below])
