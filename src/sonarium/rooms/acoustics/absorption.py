"""Absorption by walls, broadband or per octave band, and by air (ISO 9613-1).

A wall's absorption coefficient α is the fraction of energy that a reflection absorbs; the pressure is multiplied
by sqrt(1 − α).
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
    """Relative humidity in per cent."""

    def __post_init__(self) -> None:
        if not (-50 <= self.temperature <= 60 and 0 <= self.humidity <= 100):
            raise ValueError(
                f"got air of {self.temperature} °C and {self.humidity} % humidity: ISO 9613-1 holds from "
                "−50 to 60 °C and from 0 to 100 %"
            )

    def absorption(self, frequency: Float[np.ndarray, " band"]) -> Float[np.ndarray, " band"]:
        """Attenuation of sound pressure in nepers per metre: ISO 9613-1, equations 3 to 5."""
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
    """Coefficients for all walls and bands, from one number, one per wall, or one per wall and band."""
    coefficients = np.asarray(absorption, np.float64)
    if not (np.isfinite(coefficients).all() and (coefficients >= 0).all() and (coefficients <= 1).all()):
        raise ValueError(f"got absorption {absorption}: expected coefficients from 0 to 1")
    check_bands(bands)
    columns = max(1, len(bands))
    if coefficients.ndim == 1:
        coefficients = coefficients[:, None]
    if coefficients.ndim > 2 or coefficients.shape not in ((), (walls, 1), (walls, columns)):
        raise ValueError(
            f"got absorption of shape {np.shape(absorption)} for {walls} walls and {len(bands)} bands: give one "
            "coefficient, one per wall (floor and ceiling last), or one per wall and band"
        )
    return np.broadcast_to(coefficients, (walls, columns)).copy()


def check_bands(bands: tuple[float, ...]) -> None:
    if any(not low < high for low, high in pairwise((0.0, *bands, np.inf))):
        raise ValueError(f"got bands {bands}: give increasing centre frequencies in Hz, such as {OCTAVES}")
