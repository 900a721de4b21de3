"""Recognition of clear segments, in sounds whose words are known."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from sonarium.evaluation import recognition as own
from sonarium.evaluation.recognition import Gaussians, Recogniser

RATE, BANDS = 100.0, 20
WORDS = {"a": (2, 14), "b": (14, 2), "c": (8, 8)}
"""First and last band of a ridge that moves from one to the other."""


def sung(count: int, seed: int) -> tuple[list[np.ndarray], list[list[Any]]]:
    """Sounds of four words each, in noise and with pauses between words, and their segments."""
    random, songs, marks = np.random.default_rng(seed), [], []
    for _ in range(count):
        song, own_marks, now = 0.3 * random.standard_normal((180, BANDS)), [], 10
        for label in random.choice(list(WORDS), 4):
            frames = int(random.integers(20, 30))
            song[now : now + frames] += word(label, frames)
            own_marks.append((now / RATE, (now + frames) / RATE, str(label)))
            now += frames + int(random.integers(8, 14))
        songs.append(song)
        marks.append(own_marks)
    return songs, marks


def word(label: str, frames: int) -> np.ndarray:
    middle = np.linspace(*WORDS[label], frames)[:, None]
    return 3 * np.exp(-np.square((np.arange(BANDS) - middle) / 2))


def apart(songs: list[np.ndarray], marks: list[list[Any]]) -> tuple[list[np.ndarray], list[Any]]:
    both = [(song, mark) for song, own_marks in zip(songs, marks, strict=True) for mark in own_marks]
    return [song for song, _ in both], [mark for _, mark in both]


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser(RATE).fit(*sung(40, 0)).calibrate(*apart(*sung(60, 1)))


def test_real_segments_pass_at_the_stated_rate_and_only_under_their_own_label(recogniser):
    songs, marks = apart(*sung(80, 2))
    clear = recogniser.clear(songs, marks)
    # Tolerance for the binomial spread of 320 segments, and for that of the threshold.
    assert clear.mean() == pytest.approx(own.PASSED, abs=0.04)
    other = {"a": "b", "b": "c", "c": "a"}
    wrong = [(onset, offset, other[label]) for onset, offset, label in marks]
    assert not recogniser.clear(songs, wrong).any()


def test_what_is_no_word_is_not_clear_under_any_label(recogniser):
    random = np.random.default_rng(3)
    noise = [0.3 * random.standard_normal((60, BANDS)) for _ in range(20)]
    loud = [3 * rows for rows in noise]
    blurred = [
        np.pad(np.mean([word(label, 25) for label in WORDS], 0), ((5, 30), (0, 0))) + rows for rows in noise
    ]
    mixed = [np.pad(word("a", 25) + word("b", 25), ((5, 30), (0, 0))) + rows for rows in noise]
    backwards = [np.pad(word("c", 25), ((5, 30), (0, 0)))[:, ::-1].copy() + 4 + rows for rows in noise]
    for songs in (noise, loud, blurred, mixed, backwards):
        for label in WORDS:
            assert recogniser.clear(songs, [(0.05, 0.3, label)] * len(songs)).mean() <= 0.1
    # An intact word at the same place is clear.
    whole = [np.pad(word("a", 25), ((5, 30), (0, 0))) + rows for rows in noise]
    assert recogniser.clear(whole, [(0.05, 0.3, "a")] * len(whole)).mean() > 0.8


def test_a_segment_is_the_same_at_any_speed_but_for_its_duration():
    times = np.linspace(0, 1, 41)[:, None]
    slow = np.hstack([times, times**2])
    one = Recogniser(RATE).segment(slow, 0.1, 0.3)
    two = Recogniser(2 * RATE).segment(slow, 0.05, 0.15)
    np.testing.assert_allclose(one[:-1], two[:-1])
    assert one[-1] - two[-1] == pytest.approx(np.log(2))
    # Interpolation of a straight line is exact between frames.
    middles = 0.1 + (np.arange(own.POINTS) + 0.5) / own.POINTS * 0.2 - 0.005
    np.testing.assert_allclose(one[:-1].reshape(-1, 2)[:, 0], middles * RATE / 40, atol=1e-12)


def test_densities_are_those_of_gaussians():
    random = np.random.default_rng(0)
    roots = random.standard_normal((3, 4, 4))
    gaussians = Gaussians(random.standard_normal((3, 4)), roots @ roots.transpose(0, 2, 1))
    points = random.standard_normal((5, 4))
    expected = np.stack([
        multivariate_normal(mean, spread).logpdf(points)
        for mean, spread in zip(gaussians.means, gaussians.covariances, strict=True)
    ], 1)  # fmt: skip
    found = gaussians.log_densities(points)
    np.testing.assert_allclose(found - found[:1, :1], expected - expected[:1, :1], atol=1e-9)


def test_random_stretches_are_no_words():
    marks = [(0.1, 0.3, "a"), (0.4, 0.6, "b"), (0.7, 0.9, "a")]
    found = Recogniser(RATE).stretches(marks * 20, 1.0, np.random.default_rng(0))
    assert 5 < len(found) < 60
    for start, end in found:
        assert start >= 0 and end <= 1.0 + 1e-9
        assert all(min(end, off) - max(start, on) <= own.SHARED * (end - start) + 1e-9 for on, off, _ in marks)


def test_without_held_out_segments_half_is_the_threshold():
    assert Recogniser(RATE).fit(*sung(6, 0)).calibrate([], []).threshold == 0.5
