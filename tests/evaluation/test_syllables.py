"""Clusters of known types, labels of other days, and the probe fitted to few labelled songs."""

import numpy as np
import pytest

from sonarium.evaluation.labelling import LabellingConfig, SyllableProbe
from sonarium.evaluation.syllables import Repertoire, certainties, cluster, names, nearest
from sonarium.measures.sequence.boundaries import matched, syllable_error_rate

RATE = 500.0


def types(seed: int, counts: tuple[int, ...] = (40, 30, 12)) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings scattered around a centre per type, and their types."""
    centres = 4 * np.random.default_rng(7).standard_normal((len(counts), 20))
    truth = np.repeat(np.arange(len(counts)), counts)
    return centres[truth] + np.random.default_rng(seed).standard_normal((len(truth), 20)), truth


def test_types_are_found_and_named_by_frequency():
    rows, truth = types(0)
    found = cluster(rows)
    assert found.repertoire.labels.tolist() == [names(3)[one] for one in truth]
    assert not found.noise.all() and (found.certainty > 0).all()
    again = cluster(rows)
    assert np.array_equal(again.repertoire.points, found.repertoire.points)


def test_songs_of_another_day_have_the_same_labels():
    rows, _ = types(0)
    later, truth = types(1, (5, 50, 3))
    assigned = cluster(rows).repertoire.assign(later)
    assert assigned.labels.tolist() == [names(3)[one] for one in truth]
    halfway = cluster(rows).repertoire.assign((rows[:1] + rows[-1:]) / 2)
    assert 0 <= halfway.certainty[0] < assigned.certainty.min()
    with pytest.raises(ValueError, match="embeddings have 3 values, those of the repertoire 20"):
        cluster(rows).repertoire.assign(np.zeros((1, 3)))


def test_few_syllables_are_one_type():
    for count in (1, 2, 9):
        found = cluster(np.random.default_rng(0).standard_normal((count, 30)))
        assert set(found.repertoire.labels.tolist()) == {"a"} and found.noise.all()
        assert np.isfinite(found.certainty).all()
    assert cluster(np.zeros((30, 4))).repertoire.labels.shape == (30,)
    with pytest.raises(ValueError, match="0 embeddings: give at least one"):
        cluster(np.zeros((0, 4)))


def test_certainty_compares_with_the_nearest_other_label():
    known, labels = np.array([[0.0], [1.0], [10.0]]), np.array(["a", "a", "b"])
    found = nearest(np.array([[4.0], [10.0]]), known, labels)
    assert found.labels.tolist() == ["a", "b"]
    assert found.certainty == pytest.approx([1 - 3 / 6, 1])
    # The only b has no other b: nothing is nearer to it than an a.
    assert certainties(known, labels) == pytest.approx([1 - 1 / 10, 1 - 1 / 9, -1])
    assert nearest(known[:0], known, labels).labels.shape == (0,)
    assert nearest(known, known, np.array(["a"] * 3)).certainty.tolist() == [1, 1, 1]


def test_names_are_single_letters_as_long_as_there_are():
    assert names(3) == ["a", "b", "c"] and len(set(names(60))) == 60
    assert all(len(name) == 1 for name in names(52)) and names(53)[-1] == "type53"


def test_a_repertoire_projects_as_it_was_fitted():
    rows, _ = types(0)
    made = cluster(rows).repertoire
    assert isinstance(made, Repertoire) and np.allclose(made.project(rows), made.points)


def sung(seed: int, order: str) -> tuple[np.ndarray, list[tuple[float, float, str]]]:
    """Noisy frames and segments; the spectrum of each of three labels changes from its beginning to its end."""
    rng, marks = np.random.default_rng(seed), []
    shapes = np.random.default_rng(3).standard_normal((3, 2, 12))
    frames = 0.3 * rng.standard_normal((60 * len(order) + 40, 12))
    at = 40
    for label in order:
        length = int(rng.integers(30, 45))
        share = np.linspace(0, 1, length)[:, None]
        first, last = shapes["abc".index(label)]
        frames[at : at + length] += first * (1 - share) + last * share
        marks.append((at / RATE, (at + length) / RATE, label))
        at += length + int(rng.integers(5, 15))
    return frames, marks


def test_the_probe_finds_syllables_of_songs_that_it_was_not_fitted_to():
    songs, marks = zip(*(sung(seed, order) for seed, order in enumerate(("abcab", "aabccb"))), strict=True)
    probe = SyllableProbe(RATE).fit(songs, marks)
    frames, truth = sung(9, "baabcca")
    found = probe.label(frames)
    assert syllable_error_rate([[label for *_, label in found.marks]], [list("baabcca")]) == 0
    for side in (0, 1):
        assert matched(np.array([m[side] for m in found.marks]), np.array([m[side] for m in truth]), 0.01).f1 == 1
    assert min(found.certainty) > 0.9 and max(found.certainty) <= 1 + 1e-9
    assert probe.label(frames[:0]).marks == []
    # If frames begin later, all segments are later by the same time.
    late = [[(on + 0.03, off + 0.03, label) for on, off, label in own] for own in marks]
    moved = SyllableProbe(RATE, first=0.03).fit(songs, late).label(frames)
    np.testing.assert_allclose([m[:2] for m in moved.marks], np.array([m[:2] for m in found.marks]) + 0.03)


def test_a_label_that_occurs_once_and_songs_that_end_within_a_syllable():
    frames, marks = sung(1, "abc")
    end = int(marks[-1][0] * RATE) + 10
    probe = SyllableProbe(RATE, LabellingConfig(parts=3)).fit(
        [frames[:end]], [[*marks[:-1], (*marks[-1][:1], end / RATE, "c")]]
    )
    found = probe.label(frames)
    assert [label for *_, label in found.marks][:2] == ["a", "b"]
    with pytest.raises(ValueError, match="no labelled syllable"):
        SyllableProbe(RATE).fit([frames], [[]])
