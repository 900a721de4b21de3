"""Generated songs against real ones: scores are at the floor where they are alike, and above it elsewhere."""

import numpy as np
import pytest

from sonarium.evaluation.generation import MEANINGS, compare_songs

RATE = 16_000


def songs(seed, hertz, count=6, noise=0.001, gap=0.05):
    """Notes of 60 to 100 ms in noise."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        parts = [np.zeros(800)]
        for _ in range(6):
            times = np.arange(int(rng.uniform(0.06, 0.1) * RATE)) / RATE
            tone = sum(np.sin(2 * np.pi * k * hertz * rng.uniform(0.97, 1.03) * times) / k for k in (1, 2, 3))
            parts += [0.2 * tone * np.hanning(len(times)) ** 0.3, np.zeros(int(gap * RATE))]
        song = np.concatenate(parts)
        found.append((song + noise * rng.normal(size=len(song))).astype(np.float32))
    return found


@pytest.fixture(scope="module")
def real():
    return songs(0, 900.0)


def test_songs_of_one_voice_stand_at_the_floor_whatever_their_noise(real):
    found = compare_songs(real, songs(1, 900.0, noise=0.004), RATE)
    assert found.keys() == MEANINGS.keys()
    assert found["kernel_distance"]["value"] < found["kernel_distance"]["floor"] + 1.5
    assert found["auc"]["value"] < 0.75 and found["pitch"]["value"] < 0.1
    assert found["duration"]["value"] < 25 and found["gap"]["value"] < 15


def test_another_voice_stands_above_it_in_what_differs(real):
    found = compare_songs(real, songs(1, 1800.0, gap=0.09), RATE)
    assert found["kernel_distance"]["value"] > found["kernel_distance"]["floor"] + 10
    assert found["auc"]["value"] > 0.95 and found["precision"]["value"] < 0.2
    assert found["pitch"]["value"] == pytest.approx(1.0, abs=0.15)
    assert found["gap"]["value"] == pytest.approx(40, abs=15) and found["duration"]["value"] < 25


def test_too_few_songs_and_silence_are_refused(real):
    with pytest.raises(ValueError, match=r"3 made song\(s\): give 4"):
        compare_songs(real, real[:3], RATE)
    silent = [np.zeros(8000, np.float32)] * 4
    with pytest.raises(ValueError, match="in the made songs"):
        compare_songs(real, silent, RATE)
