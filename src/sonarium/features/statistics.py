"""Mean, deviation and range of cells that come a batch at a time."""

import math

from jaxtyping import Float
from torch import Tensor


class Statistics:
    """Mean, deviation and range of a stream of cells, in double precision."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares, self.low, self.high = 0, 0.0, 0.0, math.inf, -math.inf

    def add(self, new: Float[Tensor, "*any"]) -> None:
        if not new.numel():
            return
        cells = new.double()
        number, centre = cells.numel(), float(cells.mean())
        # Chan, Golub and LeVeque's update: exact where the plain sum of squares would cancel.
        self.squares += float((cells - centre).square().sum())
        self.squares += (centre - self.mean) ** 2 * self.count * number / (self.count + number)
        self.count += number
        self.mean += (centre - self.mean) * number / self.count
        self.low, self.high = min(self.low, float(cells.min())), max(self.high, float(cells.max()))

    def scale(self, scaling: str) -> tuple[float, float]:
        """What to take away and what to divide by: `standard` for mean 0 and deviation 1, else for 0 to 1."""
        standard = scaling == "standard"
        offset, spread = (self.mean, self.deviation()) if standard else (self.low, self.high - self.low)
        # Cells that never differ have nothing to be divided by.
        return offset, spread or 1.0

    def deviation(self) -> float:
        return math.sqrt(self.squares / self.count)
