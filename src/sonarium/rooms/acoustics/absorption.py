"""What takes sound away: walls, by octave band or with one figure, and air (ISO 9613-1).

A wall's absorption is the share of the energy that a reflection takes; the pressure keeps sqrt(1 − share).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

OCTAVES = (125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)
Absorption = float | Sequence[float] | Sequence[Sequence[float]] | Float[np.ndarray, "..."]


@dataclass(frozen=True)
class Air:
    """Air at sea level."""

    temperature: float = 20.0
    """Degrees Celsius."""
    humidity: float = 50.0
    """Relative, in per cent."""

    def __post_init__(self) -> None:
        if not (-50 <= self.temperature <= 60 and 0 <= self.humidity <= 100):
            raise ValueError(
                f"got air of {self.temperature} °C and {self.humidity} % humidity: ISO 9613-1 holds from "
                "−50 to 60 °C and from 0 to 100 %"
            )

    def absorption(self, frequency: Float[np.ndarray, " band"]) -> Float[np.ndarray, " band"]:
        """Nepers of sound pressure a metre: ISO 9613-1, equations 3 to 5."""
        kelvin, triple, reference = self.temperature + 273.15, 273.16, 293.15
        warmth = kelvin / reference
        saturation = 10 ** (-6.8346 * (triple / kelvin) ** 1.261 + 4.6151)
        water = self.humidity * saturation
        oxygen = 24 + 4.04e4 * water * (0.02 + water) / (0.391 + water)
        nitrogen = warmth**-0.5 * (9 + 280 * water * np.exp(-4.170 * (warmth ** (-1 / 3) - 1)))
        relaxing = 0.01275 * np.exp(-2239.1 / kelvin) / (oxygen + frequency**2 / oxygen)
        relaxing = relaxing + 0.1068 * np.exp(-3352.0 / kelvin) / (nitrogen + frequency**2 / nitrogen)
        return frequency**2 * (1.84e-11 * warmth**0.5 + warmth**-2.5 * relaxing)


def per_wall(absorption: Absorption, walls: int, bands: tuple[float, ...]) -> Float[np.ndarray, "wall band"]:
    """One figure, one a wall, or one a wall and band, as a table of all walls and bands."""
    shares = np.asarray(absorption, np.float64)
    if not (np.isfinite(shares).all() and (shares >= 0).all() and (shares <= 1).all()):
        raise ValueError(f"got absorption {absorption}: shares of the energy between 0 and 1 are expected")
    check_bands(bands)
    columns = max(1, len(bands))
    if shares.ndim == 1:
        shares = shares[:, None]
    if shares.ndim > 2 or shares.shape not in ((), (walls, 1), (walls, columns)):
        raise ValueError(
            f"got absorption of shape {np.shape(absorption)} for {walls} walls and {len(bands)} bands: give one "
            "figure, one a wall (floor and ceiling last), or one a wall and band"
        )
    return np.broadcast_to(shares, (walls, columns)).copy()


def check_bands(bands: tuple[float, ...]) -> None:
    if any(not low < high for low, high in pairwise((0.0, *bands, np.inf))):
        raise ValueError(f"got bands {bands}: give rising centre frequencies in Hz, such as {OCTAVES}")
