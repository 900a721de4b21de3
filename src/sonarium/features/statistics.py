"""Mean, standard deviation and range of values, a batch at a time."""

import math

from jaxtyping import Float
from torch import Tensor


class Statistics:
    """Mean, standard deviation and range of a stream of values, in double precision."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares, self.low, self.high = 0, 0.0, 0.0, math.inf, -math.inf

    def add(self, new: Float[Tensor, "*any"]) -> None:
        if not new.numel():
            return
        values = new.double()
        number, centre = values.numel(), float(values.mean())
        # Chan, Golub and LeVeque's update: exact where the plain sum of squares would cancel.
        self.squares += float((values - centre).square().sum())
        self.squares += (centre - self.mean) ** 2 * self.count * number / (self.count + number)
        self.count += number
        self.mean += (centre - self.mean) * number / self.count
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def scale(self, scaling: str) -> tuple[float, float]:
        """Offset and divisor: `standard` for mean 0 and standard deviation 1, else for the range 0 to 1."""
        standard = scaling == "standard"
        offset, spread = (self.mean, self.deviation()) if standard else (self.low, self.high - self.low)
        # Constant values are only shifted.
        return offset, spread or 1.0

    def deviation(self) -> float:
        return math.sqrt(self.squares / self.count)
