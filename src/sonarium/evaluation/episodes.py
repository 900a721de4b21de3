"""Separation and localisation scores of a listener in the episodes that it plays.

At every step the estimates of a window are compared with the true images of the sources that still sound, at the
same pose and ears: by SNR, and by interaural time and level differences. The time difference also gives a lateral
angle, which is compared with that of the source. Controls are the mixture itself and the true images: the most
that two ears can tell in one window.

An estimate is matched with the source that it fits best by SNR. With more sources than estimates, sources without
a match are left out; so are sources that were found, and windows in which no other source sounds. A source that
sounds alone has no improvement: there is nothing to separate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from sonarium.evaluation.separating import mean
from sonarium.measures import separation as measures
from sonarium.measures.statistics import Interval, interval, rank_correlation
from sonarium.models.masking import BEST_SNR

QUIETEST = 1e-9
"""Mean square below which nothing sounds: −90 dB re full scale."""
BEYOND = 100.0
"""Decibels at which level differences are clipped."""
UNITS = {"snr_improvement": "dB", "itd_error": "µs", "ild_error": "dB", "location_error": "°"}
SCORES = tuple(UNITS)
CONTROLS = ("mixture", "true_sources")
"""Controls that replace the estimates."""
COMPARED = ("snr_improvement", "location_error")
"""Scores that are correlated with the success of an episode."""


@dataclass(frozen=True)
class TwoEars:
    """Properties of the two-ear recording."""

    rate: float
    """Samples per second."""
    distance: float
    """Metres between the ears."""
    head: measures.Head = "none"

    @property
    def latest(self) -> float:
        """The largest interaural time difference in seconds."""
        return float(measures.delay_of(np.array(np.pi / 2), self.distance, self.head))


def sounds(waves: Float[np.ndarray, "*some 2 time"]) -> Bool[np.ndarray, "*some"]:
    return np.square(waves, dtype=np.float64).mean((-2, -1)) > QUIETEST


def window_scores(
    images: Float[np.ndarray, "source 2 time"],
    estimates: Float[np.ndarray, "estimate 2 time"],
    mixture: Float[np.ndarray, "2 time"],
    lateral: Float[np.ndarray, " source"],
    ears: TwoEars,
) -> dict[str, float]:
    """Scores of one window, averaged over the sources matched with an estimate; `lateral` holds the angles of the
    sounding sources in radians. Scores of a control are prefixed with its name."""
    ratios = np.array([[ratio(image, estimate) for estimate in estimates] for image in images])
    source, estimate = measures.best_pairs(ratios)
    true, apart = images[source], sounds(mixture - images[source])
    gained = ratios[source, estimate] - [ratio(image, mixture) for image in true]
    found = {"snr_improvement": mean(gained[apart])}
    systems = {"": estimates[estimate], "mixture": np.broadcast_to(mixture, true.shape), "true_sources": true}
    told = measures.time_difference(np.stack(list(systems.values())), ears.rate, ears.latest)
    angles = np.abs(measures.lateral_angle(told, ears.distance, ears.head) - lateral[source])
    level = np.clip(measures.level_difference(np.stack(list(systems.values()))), -BEYOND, BEYOND)
    for number, name in enumerate(systems):
        errors = {
            "itd_error": 1e6 * np.abs(told[number] - told[2]),
            "ild_error": np.abs(level[number] - level[2]),
            "location_error": np.degrees(angles[number]),
        }
        kept = errors if name != "true_sources" else {"location_error": errors["location_error"]}
        found |= {f"{name}/{kind}".lstrip("/"): mean(values) for kind, values in kept.items()}
    return found


def ratio(image: Float[np.ndarray, "2 time"], estimate: Float[np.ndarray, "2 time"]) -> float:
    """SNR over both ears in decibels, clipped to ± 30 dB."""
    found = measures.snr(image.ravel().astype(np.float64), estimate.ravel().astype(np.float64))
    return float(np.clip(found, -BEST_SNR, BEST_SNR))


class Listening:
    """Window scores of several parallel episodes, one per slot."""

    def __init__(self, slots: int, ears: TwoEars, latency: int = 0):
        self.ears, self.latency = ears, latency
        """Delay of the estimates relative to the sound, in samples."""
        self.windows: list[list[dict[str, float]]] = [[] for _ in range(slots)]
        self.silent = np.zeros(slots, int)
        self.before: Float[np.ndarray, "slot wave 2 time"] | None = None
        """Last samples, not yet compared."""

    def take(
        self,
        mixture: Float[np.ndarray, "slot 2 time"],
        estimates: Float[np.ndarray, "slot estimate 2 time"],
        images: Float[np.ndarray, "slot source 2 time"],
        on: Bool[np.ndarray, "slot source"],
        lateral: Float[np.ndarray, "slot source"],
        first: Bool[np.ndarray, " slot"],
        going: Bool[np.ndarray, " slot"],
    ) -> None:
        """Score the next window of the slots whose episode is running (`going`); `first` marks the slots in which
        one begins."""
        true = self.delayed(np.concatenate([mixture[:, None], images], 1), first)
        for slot in np.flatnonzero(going).tolist():
            heard, apart = true[slot, 0], true[slot, 1:]
            there = on[slot] & sounds(apart)
            if not there.any():
                self.silent[slot] += 1
                continue
            row = window_scores(apart[there], estimates[slot], heard, lateral[slot, there], self.ears)
            self.windows[slot].append(row)

    def delayed(
        self, waves: Float[np.ndarray, "slot wave 2 time"], first: Bool[np.ndarray, " slot"]
    ) -> Float[np.ndarray, "slot wave 2 time"]:
        """Delay waves by the latency of the estimates."""
        if self.before is None:
            self.before = np.zeros((*waves.shape[:3], self.latency), waves.dtype)
        self.before[first] = 0
        joined = np.concatenate([self.before, waves], -1)
        self.before = joined[..., waves.shape[-1] :]
        return joined[..., : waves.shape[-1]]

    def episodes(self) -> list[dict[str, float]]:
        """For each slot, mean scores over its windows, the number of windows, and how many were silent and left
        out."""
        return [
            {name: mean([row[name] for row in rows]) for name in (rows[0] if rows else ())}
            | {"windows": len(rows), "silent": int(silent)}
            for rows, silent in zip(self.windows, self.silent, strict=True)
        ]


@dataclass(frozen=True)
class Heard:
    """Scores of a listener's episodes."""

    episodes: Sequence[Mapping[str, float]]
    """As `Listening.episodes` gives them."""
    outcome: str
    """Name of the measure of success, such as SNA."""
    success: Sequence[float]

    def finite(self, name: str) -> list[tuple[float, float]]:
        """Pairs of score and success, for the episodes that have this score."""
        pairs = [(one.get(name, np.nan), own) for one, own in zip(self.episodes, self.success, strict=True)]
        return [pair for pair in pairs if np.isfinite(pair[0])]

    def score(self, name: str) -> Interval | None:
        found = [value for value, _ in self.finite(name)]
        return interval(found) if found else None

    def correlation(self, name: str) -> Interval | None:
        """Rank correlation over episodes of a score with success."""
        pairs = self.finite(name)
        return rank_correlation([one for one, _ in pairs], [other for _, other in pairs]) if pairs else None

    @property
    def silent(self) -> int:
        return int(sum(one["silent"] for one in self.episodes))

    @property
    def windows(self) -> int:
        return int(sum(one["windows"] for one in self.episodes)) + self.silent

    def left_out(self) -> str:
        """Number of windows left out, in words."""
        return f"{self.silent} of {self.windows} windows, in which no source sounded, are left out"

    def correlations(self) -> list[str]:
        """Rank correlations with success, in words."""
        found = [(measures.MEANINGS[name].name, self.correlation(name)) for name in COMPARED]
        return [
            f"Rank correlation over episodes of {words} and {self.outcome}: {'none' if one is None else one}"
            for words, one in found
        ]

    def as_json(self) -> dict[str, Any]:
        """Scores with intervals over episodes, scores of the controls, and each episode."""
        found = {name: self.score(name) for name in SCORES}
        beside = {who: {name: self.score(f"{who}/{name}") for name in SCORES} for who in CONTROLS}
        rows = [
            {name: value if np.isfinite(value) else None for name, value in one.items()} | {self.outcome: own}
            for one, own in zip(self.episodes, self.success, strict=True)
        ]
        return {
            "scores": {name: asdict(one) for name, one in found.items() if one is not None},
            "controls": {
                who: {name: asdict(one) for name, one in scores.items() if one is not None}
                for who, scores in beside.items()
            },
            "rank_correlation": {
                self.outcome: {
                    name: None if (one := self.correlation(name)) is None else asdict(one) for name in COMPARED
                }
            },
            "windows": self.windows,
            "silent": self.silent,
            "episodes": rows,
        }
