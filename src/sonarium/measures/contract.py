"""What a measure is: a function of arrays that returns named numbers. It knows no world and no model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Meaning:
    """What one score means, for readers who do not know its paper, and the range that it lies in."""

    name: str
    """As it stands in tables."""
    sentence: str
    low: float | None = 0.0
    """The least value it can take; None if there is none."""
    high: float | None = 1.0
    """The greatest value it can take; None if there is none."""
    rising: bool = True
    """Whether more is better."""

    @property
    def bounded(self) -> bool:
        """Whether it has a greatest value, so that a bar can show how near it comes."""
        return self.high is not None


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
    """A measure in the catalogue; `sonarium score` applies it to runs with planted factors, and their controls."""

    summary: str
    function: Callable[..., Mapping[str, float]]
    """A `CodeMeasure`."""
    scores: Mapping[str, Meaning] = field(default_factory=dict)
    """The names that it returns, and what they mean."""
