"""Contract of every measure: bounds, equal scores for equal arrays, invariance to the order of codes and of clips,
and a score above chance for the factors themselves."""

import numpy as np
import pytest

from sonarium.catalogue import MEASURES
from sonarium.measures import disentanglement
from sonarium.measures.contract import MeasureEntry
from sonarium.measures.disentanglement.scores import disentangle

DISCRETE = (True, False, True)
CLIPS = 240
ALIKE = 0.01
"""Tolerance, in addition to twice the spread over a few seeds."""


def built_in(codes, factors, discrete, seed):
    """The measures that are always applied."""
    found = disentangle(codes, factors, list(discrete), seed=seed, permutations=0)
    return {name: found[name] for name in disentanglement.MEANINGS if name in found}


EVERY = MEASURES.loadable() | {
    "disentanglement": MeasureEntry("what is always applied", built_in, disentanglement.MEANINGS)
}
LEFT_OUT = {("disentanglement", "one alive"): {"dci_completeness"}}
"""By measure and kind of codes: scores that are omitted because they would be trivial."""
pytestmark = pytest.mark.parametrize("name", EVERY)


def factors_of(clips: int = CLIPS) -> np.ndarray:
    """Two categorical factors and a number, independent of each other."""
    random = np.random.default_rng(0)
    return (
        np.stack([random.integers(0, 3, clips), random.integers(0, 10, clips), random.integers(0, 4, clips)], 1)
        * 1.0
    )


def codes_of(kind: str, factors: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(1)
    noise = random.standard_normal((len(factors), 4))
    if kind == "factors":
        return np.concatenate([factors, 0.01 * noise[:, :1]], 1)
    if kind == "mixed":
        return factors @ random.standard_normal((3, 4)) + 0.1 * noise
    if kind == "constant":
        return np.ones_like(noise)
    if kind == "one alive":
        return noise * [0, 1, 0, 0]
    return noise


KINDS = ("factors", "mixed", "chance", "constant", "one alive")


@pytest.mark.parametrize("kind", KINDS)
def test_scores_lie_in_the_range_that_is_stated(name, kind):
    entry, factors = EVERY[name], factors_of()
    codes = codes_of(kind, factors)
    before = codes.copy(), factors.copy()
    found = entry.function(codes, factors, DISCRETE, 5)
    assert found.keys() == entry.scores.keys() - LEFT_OUT.get((name, kind), set())
    for key, value in found.items():
        meaning = entry.scores[key]
        assert np.isfinite(value), key
        assert meaning.low is None or value >= meaning.low, key
        assert meaning.high is None or value <= meaning.high, key
        assert meaning.name and meaning.sentence.endswith("."), key
    assert (codes == before[0]).all() and (factors == before[1]).all()
    assert entry.function(codes, factors, DISCRETE, 5) == found


def test_the_order_of_codes_and_clips_does_not_matter(name):
    """Up to the random numbers of a measure: halves of the clips, random forests."""
    entry, factors = EVERY[name], factors_of()
    codes = codes_of("mixed", factors)
    random = np.random.default_rng(2)
    found = entry.function(codes, factors, DISCRETE, 5)
    # Variation of a score over seeds, for the same clips.
    others = [entry.function(codes, factors, DISCRETE, seed) for seed in range(6, 11)]
    shuffled = random.permutation(CLIPS)
    by_code = entry.function(codes[:, [2, 0, 3, 1]], factors, DISCRETE, 5)
    by_clip = entry.function(codes[shuffled], factors[shuffled], DISCRETE, 5)
    for key, value in found.items():
        spread = np.ptp([value, *(other[key] for other in others)])
        assert by_code[key] == pytest.approx(value, abs=ALIKE + 2 * spread), key
        assert by_clip[key] == pytest.approx(value, abs=ALIKE + 2 * spread), key


def test_the_factors_themselves_are_above_chance(name):
    entry, factors = EVERY[name], factors_of()
    best, chance = (
        entry.function(codes_of(kind, factors), factors, DISCRETE, 5) for kind in ("factors", "chance")
    )
    for key, meaning in entry.scores.items():
        assert best[key] > chance[key] + 0.05 if meaning.rising else best[key] <= chance[key], key
