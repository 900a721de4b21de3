"""Measures of generation against closed forms, brute force and SciPy."""

import numpy as np
import pytest
from scipy import linalg

from sonarium.measures import generation as g


def draw(seed: int, rows: int, codes: int, shift: float = 0.0, spread: float = 1.0) -> np.ndarray:
    return shift + spread * np.random.default_rng(seed).normal(size=(rows, codes))


def test_kernel_distance_is_the_sum_over_pairs():
    real, made, width = draw(0, 7, 3), draw(1, 5, 3, 0.5), 1.3

    def kernel(x, y):
        return np.exp(-((x - y) ** 2).sum() / (2 * width**2))

    within = [
        np.mean([kernel(x, y) for a, x in enumerate(rows) for b, y in enumerate(rows) if a != b])
        for rows in (real, made)
    ]
    across = np.mean([kernel(x, y) for x in real for y in made])
    assert g.kernel_distance(real, made, width) == pytest.approx(100 * (sum(within) - 2 * across))


def test_kernel_distance_of_gaussians_in_closed_form_and_unbiased():
    # E k(x, y) for x ~ N(0, 1), y ~ N(m, 1): σ/√(σ² + 2) exp(−m²/2(σ² + 2)), in each dimension.
    width, shift = 1.5, 0.8
    each = width / np.sqrt(width**2 + 2)
    exact = 100 * (2 * each - 2 * each * np.exp(-(shift**2) / (2 * (width**2 + 2))))
    draws = [g.kernel_distance(draw(2 * s, 12, 1), draw(2 * s + 1, 12, 1, shift), width) for s in range(100)]
    assert np.mean(draws) == pytest.approx(exact, abs=4 * float(np.std(draws)) / 10)
    same = [g.kernel_distance(draw(2 * s, 12, 1), draw(2 * s + 1, 12, 1), width) for s in range(100)]
    assert np.mean(same) == pytest.approx(0, abs=4 * float(np.std(same)) / 10) and min(same) < 0


def test_the_bandwidth_is_the_median_distance_of_the_real_ones():
    real, made = draw(0, 9, 2), draw(1, 8, 2, spread=3)
    width = np.median([np.linalg.norm(x - y) for at, x in enumerate(real) for y in real[:at]])
    assert g.kernel_distance(real, made) == pytest.approx(g.kernel_distance(real, made, float(width)))
    # Hence the distance does not depend on the unit of the codes.
    assert g.kernel_distance(7 * real, 7 * made) == pytest.approx(g.kernel_distance(real, made))


@pytest.mark.parametrize("rows", [40, 3])
def test_frechet_distance_is_that_of_the_gaussians(rows):
    real, made = draw(0, rows, 4), draw(1, rows + 2, 4, 0.7, 2.0)
    one, other = np.cov(real.T), np.cov(made.T)
    # √(C₁C₂) by the symmetric form, whose eigenvalues are real.
    root = np.real(linalg.sqrtm(one + 1e-12 * np.eye(4)))
    middle = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0)).sum()
    exact = ((real.mean(0) - made.mean(0)) ** 2).sum() + np.trace(one + other) - 2 * middle
    assert g.frechet_distance(real, made) == pytest.approx(exact, rel=1e-4)
    assert g.frechet_distance(real, real + 2.0) == pytest.approx(16.0)


def test_neighbourhoods_by_brute_force():
    real, made, k = draw(0, 20, 2), draw(1, 15, 2, 0.6), 3

    def radius(rows, at):
        return sorted(np.linalg.norm(rows - rows[at], axis=1))[k]

    balls, made_balls = [radius(real, at) for at in range(20)], [radius(made, at) for at in range(15)]
    far = np.linalg.norm(real[:, None] - made, axis=2)
    hits = np.array([[far[r, m] < balls[r] for m in range(15)] for r in range(20)])
    lonely = [sorted(np.linalg.norm(real - real[at], axis=1))[1] for at in range(20)]
    expected = {
        "precision": np.mean([hits[:, m].any() for m in range(15)]),
        "recall": np.mean([any(far[r, m] < made_balls[m] for m in range(15)) for r in range(20)]),
        "density": hits.sum() / (k * 15),
        "coverage": np.mean([hits[r].any() for r in range(20)]),
        "authenticity": np.mean([far[:, m].min() > lonely[int(far[:, m].argmin())] for m in range(15)]),
    }
    assert g.neighbourhoods(real, made, k) == pytest.approx(expected)


def test_what_neighbourhoods_say_of_copies_and_of_strangers():
    real = draw(0, 60, 3)
    copied = g.neighbourhoods(real, real + 1e-6)
    assert copied["authenticity"] == 0 and copied["precision"] == copied["recall"] == copied["coverage"] == 1
    strange = g.neighbourhoods(real, real + 100)
    assert strange["authenticity"] == 1 and strange["precision"] == strange["coverage"] == strange["density"] == 0


def test_a_classifier_tells_strangers_and_not_the_songs_of_one_bird():
    # Songs differ, so a classifier trained on part of each song would discriminate all of them.
    def songs(seed, shift):
        rng = np.random.default_rng(seed)
        return np.repeat(rng.normal(size=(20, 3)), 10, 0) + 0.1 * rng.normal(size=(200, 3)) + shift

    groups = np.repeat(np.arange(20), 10)
    same = g.real_or_made(songs(0, 0), songs(1, 0), groups, groups)
    assert 0.2 < same < 0.8
    told = g.real_or_made(songs(0, 0), songs(1, 3.0), groups, groups)
    assert told > 0.97
    # Of two songs of each kind, one is for training and the other is scored.
    assert g.real_or_made(songs(0, 0)[:20], songs(1, 5.0)[:20], groups[:20], groups[:20]) == 1
    with pytest.raises(ValueError, match="two or more"):
        g.real_or_made(songs(0, 0)[:10], songs(1, 5.0)[:20], groups[:10], groups[:20])


def test_equal_floors_leave_song_and_remove_the_noise():
    rng = np.random.default_rng(0)
    song = np.zeros((400, 6))
    song[::2, :3] = 60.0
    quiet, loud = (level + 5 * np.log(rng.exponential(size=song.shape)) for level in (0.0, 20.0))
    real, made = g.equal_floors(np.maximum(song, quiet), np.maximum(song, loud))
    assert np.array_equal(real[::2, :3], song[::2, :3]) and np.array_equal(made[::2, :3], song[::2, :3])
    groups = np.repeat(np.arange(40), 10)
    assert g.real_or_made(np.maximum(song, quiet), np.maximum(song, loud), groups, groups) > 0.99
    assert abs(g.real_or_made(real, made, groups, groups) - 0.5) < 0.1


def test_wasserstein_of_a_shift_and_of_two_values():
    values = np.random.default_rng(0).normal(size=50)
    assert g.wasserstein(values, values + 0.3) == pytest.approx(0.3)
    assert g.wasserstein(np.array([0.0, 1.0]), np.array([0.0, 2.0])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="at least one"):
        g.wasserstein(values, np.zeros(0))


def test_stretches_and_the_gaps_between_them():
    sounding = np.array([0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 1], bool)
    durations, gaps = g.stretches(sounding, 10.0)
    assert durations.tolist() == [0.2, 0.1, 0.3] and gaps.tolist() == [0.3, 0.1]
    assert [len(one) for one in g.stretches(np.zeros(4, bool), 1.0)] == [0, 0]


def test_log_spectral_distance_of_a_gain_and_with_a_floor():
    real = np.random.default_rng(0).uniform(0.1, 1, (5, 4))
    assert g.log_spectral_distance(real, 10 * real) == pytest.approx(10.0)
    assert g.log_spectral_distance(real, 0 * real, floor_db=-100.0) > 80
    quiet = np.where(np.arange(4) == 0, 1.0, 1e-12)[None].repeat(3, 0)
    # All levels below the floor are equal.
    assert g.log_spectral_distance(quiet, np.where(quiet == 1, 1.0, 1e-15)) == 0
    assert g.reconstruction(real, real + 0.5) == pytest.approx({"l1": 0.5, "mse": 0.25})


@pytest.mark.parametrize("measure", [g.kernel_distance, g.frechet_distance, g.neighbourhoods])
def test_sets_that_cannot_be_compared_are_refused(measure):
    for real, made, said in (
        (draw(0, 9, 2), draw(0, 9, 3), "one embedding"),
        (draw(0, 1, 2), draw(0, 9, 2), "at least"),
        (draw(0, 9, 2), np.full((9, 2), np.nan), "NaN"),
    ):
        with pytest.raises(ValueError, match=said):
            measure(real, made)
