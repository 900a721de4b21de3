"""Interface of measures: functions of arrays that return named numbers, independent of worlds and models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Meaning:
    """Meaning of a score, for readers who do not know its paper, and its range."""

    name: str
    """Name of the score in tables."""
    sentence: str
    low: float | None = 0.0
    """Lower bound; None if there is none."""
    high: float | None = 1.0
    """Upper bound; None if there is none."""
    rising: bool = True
    """Whether higher is better."""

    @property
    def bounded(self) -> bool:
        """Whether there is an upper bound, so that a bar can show how near the score comes."""
        return self.high is not None


class CodeMeasure(Protocol):
    """Scores of codes, given the factors of the same clips."""

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
    """Names of the returned scores, and their meanings."""
