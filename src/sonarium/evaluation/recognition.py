"""Whether a segment of generated sound is a clear word (syllable), by a recogniser of whole segments that is
fitted to real sound only.

A segment is represented by its log-mel frames at evenly spaced times and the logarithm of its duration. Principal
components and linear discriminant analysis (Fisher, 1936) of the segments of real training clips give the
directions in which each label is a Gaussian with one common covariance. Random stretches of the same clips, which
are no words, form one more class with a covariance of its own, which takes what is unlike any word. A segment is
clear if the posterior of its label, with a uniform prior over classes, is above one half and above a threshold
that a stated share of held-out real segments pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

from sonarium.evaluation.labelling import covariance, discriminant
from sonarium.measures.probes.classifiers import principal_axes
from sonarium.worlds.contract import Mark

POINTS = 8
"""Number of times at which the frames of a segment are sampled."""
COMPONENTS = 48
"""Principal components of segments."""
SHRINKAGE = 0.1
"""Shrinkage of the within-class covariance towards a sphere."""
SHARED = 0.5
"""Maximum overlap of a random stretch with a segment, as a fraction of its duration."""
PASSED = 0.95
"""Share of held-out real segments that pass as clear."""
SEED = 0

Frames = Float[np.ndarray, "_frame band"]


@dataclass(frozen=True)
class Gaussians:
    """Gaussian classes with these means and covariances."""

    means: Float[np.ndarray, "class_ direction"]
    covariances: Float[np.ndarray, "class_ direction direction"]

    def log_densities(self, points: Float[np.ndarray, "segment direction"]) -> Float[np.ndarray, "segment class_"]:
        """Log density in each class, up to a constant."""
        found = []
        for mean, spread in zip(self.means, self.covariances, strict=True):
            root = np.linalg.cholesky(spread)
            scaled = np.linalg.solve(root, (points - mean).T)
            found.append(-0.5 * np.square(scaled).sum(0) - np.log(np.diag(root)).sum())
        return np.stack(found, 1)


class Recogniser:
    """Recogniser fitted to real segments; `calibrate` sets the threshold on others."""

    threshold: float = 0.5

    def __init__(self, rate: float, first: float = 0.0):
        """`rate` in frames per second, and the time at which frame 0 begins."""
        self.rate, self.first = rate, first

    def fit(self, songs: Sequence[Frames], marks: Sequence[Sequence[Mark]]) -> "Recogniser":
        both = [(song, own) for song, own in zip(songs, marks, strict=True) if len(song) and own]
        if not both:
            raise ValueError("no labelled segment: give at least one sound with its segments")
        self.labels = sorted({label for _, own in both for *_, label in own})
        random = np.random.default_rng([SEED, 0xC1EA])
        segments, classes = [], []
        for song, own in both:
            others = self.stretches(own, len(song) / self.rate, random)
            segments += [self.segment(song, onset, offset) for onset, offset, *_ in (*own, *others)]
            classes += [self.labels.index(label) for *_, label in own] + [len(self.labels)] * len(others)
        seen, which = np.stack(segments), np.array(classes)
        self.mean = seen.mean(0)
        axes = principal_axes(seen - self.mean)[1][:, -COMPONENTS:]
        self.directions = axes @ discriminant((seen - self.mean) @ axes, which, SHRINKAGE)
        points = (seen - self.mean) @ self.directions
        means = np.stack([points[which == one].mean(0) for one in range(which.max() + 1)])
        word = which < len(self.labels)
        within = covariance(points[word] - means[which[word]])
        spreads = [within] * len(self.labels)
        if not word.all():
            # Broader than a word, so that what is far from all words belongs to this class.
            spreads.append(covariance(points[~word] - means[-1]) + within)
        self.gaussians = Gaussians(means, np.stack(spreads))
        return self

    def stretches(
        self, marks: Sequence[Mark], seconds: float, random: np.random.Generator
    ) -> list[tuple[float, float]]:
        """Random stretches, one per segment and of its length, without those that largely overlap a segment."""
        found = []
        for onset, offset, _ in marks:
            long = offset - onset
            start = float(random.uniform(0, max(seconds - long, 0)))
            shared = max((min(start + long, end) - max(start, begin) for begin, end, _ in marks), default=0.0)
            if shared <= SHARED * long:
                found.append((start, start + long))
        return found

    def segment(self, song: Frames, onset: float, offset: float) -> Float[np.ndarray, " number"]:
        """Feature vector of a segment, of fixed size for any duration."""
        first, last = ((one - self.first) * self.rate - 0.5 for one in (onset, offset))
        places = first + (np.arange(POINTS) + 0.5) / POINTS * (last - first)
        low = np.clip(np.floor(places).astype(int), 0, len(song) - 1)
        high, share = np.minimum(low + 1, len(song) - 1), np.clip(places - low, 0, 1)[:, None]
        frames = (1 - share) * song[low] + share * song[high]
        return np.append(frames.ravel(), np.log(max(offset - onset, 1 / self.rate)))

    def posteriors(self, songs: Sequence[Frames], marks: Sequence[Mark]) -> Float[np.ndarray, " segment"]:
        """Posterior of the label of one segment per song."""
        if not marks:
            return np.zeros(0)
        rows = [self.segment(song, onset, offset) for song, (onset, offset, _) in zip(songs, marks, strict=True)]
        points = (np.stack(rows) - self.mean) @ self.directions
        own: Int[np.ndarray, " segment"] = np.array([self.labels.index(label) for *_, label in marks])
        return softmax(self.gaussians.log_densities(points), 1)[np.arange(len(own)), own]

    def calibrate(self, songs: Sequence[Frames], marks: Sequence[Mark]) -> "Recogniser":
        """Set the threshold on held-out real segments, one per song."""
        if len(marks):
            self.threshold = max(0.5, float(np.quantile(self.posteriors(songs, marks), 1 - PASSED)))
        return self

    def clear(self, songs: Sequence[Frames], marks: Sequence[Mark]) -> np.ndarray:
        """Mask of the clear segments, one per song."""
        return self.posteriors(songs, marks) >= self.threshold
