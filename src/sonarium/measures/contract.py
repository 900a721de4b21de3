"""What a measure is: a function of arrays that returns named numbers. It knows no world and no model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Meaning:
    """What one score means, for people who have not read its paper."""

    name: str
    """As it stands in tables."""
    sentence: str
    share: bool = True
    """Whether it lies between 0 and 1."""
    rising: bool = True
    """Whether more is better."""


class CodeMeasure(Protocol):
    """Scores of codes by the factors of the same clips."""

    def __call__(
        self,
        codes: Float[np.ndarray, "clip code"],
        factors: Float[np.ndarray, "clip factor"],
        discrete: tuple[bool, ...],
        seed: int,
    ) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class MeasureEntry:
    """A measure in the catalogue: `sonarium score` applies it to every run with known factors, and to its controls."""

    summary: str
    function: Callable[..., Mapping[str, float]]
    """A `CodeMeasure`."""
    scores: Mapping[str, Meaning] = field(default_factory=dict)
    """The names that it returns, and what they mean."""
