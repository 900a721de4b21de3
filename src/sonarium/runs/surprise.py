"""Surprise of sound, token by token, under the forecaster of a run, and the stretches that are unexpected.

A token is unexpected above a threshold, a given quantile of the surprise of tokens of the training split.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sonarium.measures.forecasts import exceedances
from sonarium.models.framing import Derived
from sonarium.runs.coder import Coder
from sonarium.runs.forecast import RunForecaster
from sonarium.worlds.contract import Mark


@dataclass(frozen=True)
class Track:
    """The surprise of one sound."""

    seconds: float
    """Duration of a token."""
    begin: float
    """Beginning of the first token in seconds."""
    values: Mapping[str, Float[np.ndarray, " token"]]
    """Surprise in nats, by measure; NaN during the burn-in."""
    threshold: float
    onsets: tuple[Mark, ...]
    """Stretches above the threshold, with their maximum in the label."""


@dataclass(frozen=True)
class SurpriseMeter:
    """Measures the surprise of sound."""

    forecaster: RunForecaster
    by: str
    """The measure that is compared with the threshold."""
    above: float
    """Quantile of the threshold in the surprise of tokens of the training split."""

    @property
    def measures(self) -> tuple[str, ...]:
        return tuple(self.forecaster.real.usual)

    @cached_property
    def coder(self) -> Coder:
        forecaster = self.forecaster
        learner, others = forecaster.learner, forecaster.real.others

        def measured(sound: Tensor, lengths: Tensor | None) -> Tensor:
            assert lengths is None, lengths
            return torch.stack([*learner.surprise(sound, others).values()], -1)

        # Surprise is computed like codes, so that sound of any length is supported.
        return Coder(Derived(learner, measured), forecaster.signal, forecaster.coder.below)

    @cached_property
    def threshold(self) -> float:
        return float(np.quantile(self.forecaster.real.usual[self.by].double().numpy(), self.above))

    def file(self, path: Path) -> Track:
        samples, power = self.coder.measure(path)
        needed = max(1, self.forecaster.learner.burn_in) + 1
        if (rows := self.coder.rows(samples)) < needed:
            raise ValueError(
                f"'{path}' has {rows} token(s), and {needed} are needed, one after the burn-in of the model: "
                f"{needed / self.coder.code_rate:.3f} s; leave it out"
            )
        return self.track(np.concatenate(list(self.coder.stream_file(path, samples, power))))

    def sound(self, signal: Float[Tensor, "1 time *rest"]) -> Track:
        """Surprise of an input of the learner."""
        return self.track(self.coder.encoder.encode(signal)[0].numpy())

    def wave(self, wave: Float[np.ndarray, " time"], rate: float) -> Track:
        """Surprise of a waveform at any sampling rate."""
        return self.track(self.coder.encode(wave, rate))

    def track(self, rows: Float[np.ndarray, "token measure"]) -> Track:
        rows = rows.astype(np.float64)
        rows[: self.forecaster.learner.burn_in] = np.nan
        values = dict(zip(self.measures, rows.T, strict=True))
        seconds, own = 1 / self.coder.code_rate, values[self.by]
        # Codes may overlap; a token stands for the time around its middle.
        begin = round(self.coder.code_first - seconds / 2, 9)
        marks = tuple(
            (begin + first * seconds, begin + (last + 1) * seconds, f"{self.by} {own[first : last + 1].max():.1f}")
            for first, last in exceedances(own, self.threshold)
        )
        return Track(seconds, begin, values, self.threshold, marks)


def surprise_meter(forecaster: RunForecaster, by: str = "", above: float = 0.99) -> SurpriseMeter:
    """A meter with one of the model's measures of surprise, by default the first."""
    known = tuple(forecaster.real.usual)
    by = by or known[0]
    if by not in known:
        raise ValueError(
            f"by={by}: the model of '{forecaster.folder}' has {' and '.join(known)}; give one of these"
        )
    if not 0 < above < 1:
        raise ValueError(f"above={above}: give a share between 0 and 1, such as .99")
    return SurpriseMeter(forecaster, by, above)
