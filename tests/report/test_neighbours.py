"""Figures against their data: positions, colours and neighbours."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from sklearn.metrics import silhouette_score
from typechecking import unchecked

from sonarium.report.neighbours import (
    MOST_LABELS,
    RIGHT,
    WRONG,
    code_map,
    in_order,
    one_of_each,
    retrieval_picture,
    retrieval_table,
    shortened,
    tsne,
)
from sonarium.report.style import png


def fresh(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def blobs(rows: int, classes: int = 3):
    label = np.arange(rows) % classes
    return 6 * fresh(1).normal(size=(classes, 5))[label] + fresh(2).normal(size=(rows, 5)), label


def test_the_map_keeps_neighbours_together_in_any_scale() -> None:
    codes, label = blobs(60)
    once, again = tsne(codes, fresh(0)), tsne(codes * 9 + 4, fresh(0))
    assert silhouette_score(once, label) > 0.6
    np.testing.assert_allclose(once, again, atol=1e-2)
    assert tsne(codes[:5], fresh()).shape == (5, 2)


def test_codes_that_say_nothing_have_a_map() -> None:
    """For constant codes, and for a one-dimensional code."""
    np.testing.assert_array_equal(tsne(np.full((20, 5), 0.1), fresh()), np.zeros((20, 2)))
    points = tsne(fresh(1).normal(size=(20, 1)), fresh())
    assert np.isfinite(points).all() and (np.ptp(points, axis=0) > 0).all()


def test_the_map_loads_scikit_learn_only_when_it_is_drawn() -> None:
    import subprocess

    code = "import sys, sonarium.report.neighbours; print('sklearn.manifold' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_every_label_has_its_colour_and_mark() -> None:
    points, labels = fresh().normal(size=(90, 2)), np.arange(90) % 12
    figure = code_map(points, labels.astype(str), "a map", "digit")
    drawn = figure.axes[0].collections
    assert [one.get_label() for one in drawn] == [str(number) for number in range(12)]
    colours = [to_hex(np.atleast_2d(np.asarray(one.get_facecolor()))[0]) for one in drawn]
    shapes = [np.asarray(one.get_paths()[0].vertices).tobytes() for one in drawn]
    looks = set(zip(colours, shapes, strict=True))
    assert len(looks) == 12
    for number, one in enumerate(drawn):
        np.testing.assert_allclose(np.asarray(one.get_offsets()), points[labels == number])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [str(number) for number in range(12)]
    assert png(figure)


def test_labels_that_cannot_be_told_apart_are_drawn_together() -> None:
    labels = np.concatenate([np.arange(50), np.arange(40, 50)])  # the last ten come twice
    figure = code_map(fresh().normal(size=(60, 2)), labels)
    names = [one.get_label() for one in figure.axes[0].collections]
    assert len(names) == MOST_LABELS + 1 and names[-1] == f"{50 - MOST_LABELS} others"
    assert {str(label) for label in range(40, 50)} <= set(names)
    assert sum(len(np.asarray(one.get_offsets())) for one in figure.axes[0].collections) == 60


def test_numbers_are_ordered_by_size() -> None:
    assert in_order(np.array(["10", "9", "-1"])) == ["-1", "9", "10"]
    assert in_order(np.array(["b", "10", "a"])) == ["10", "a", "b"]
    assert in_order(np.array([10, 9])) == [9, 10]
    assert in_order(np.array(["²", "--5"])) == ["--5", "²"], "no numbers"


def test_the_table_tells_who_is_near() -> None:
    codes, label = blobs(40)
    names = np.array(["cow", "dog", "hen"])[label]
    groups = np.arange(40) // 6
    table = retrieval_table(codes, names, fresh(), groups, queries=4, nearest=3)
    assert [one.label for one in table] == sorted(one.label for one in table)
    assert {one.label for one in table} == {"cow", "dog", "hen"}
    directions = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    for one in table:
        cosines = directions @ directions[one.row]
        cosines[groups == groups[one.row]] = -2
        assert [found.row for found in one.found] == np.argsort(-cosines)[:3].tolist()
        for found in one.found:
            assert found.cosine == pytest.approx(cosines[found.row])
            assert found.label == names[found.row] and found.alike == (found.label == one.label)


def test_the_picture_of_the_table_is_blue_where_labels_agree() -> None:
    draw = fresh(3)
    table = retrieval_table(draw.normal(size=(30, 3)), draw.choice(["a", "b"], 30), draw, queries=5, nearest=4)
    axes = retrieval_picture(table, "letter").axes[0]
    papers = [to_hex(patch.get_facecolor()) for patch in axes.patches]
    assert papers == [RIGHT if found.alike else WRONG for one in table for found in one.found]
    assert {RIGHT, WRONG} == set(papers)
    written = [text.get_text() for text in axes.texts]
    expected = []
    for one in table:
        expected.append(one.label)
        for found in one.found:
            expected += [found.label, f"{found.cosine:.2f}"]
    assert written == expected
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["letter", "nearest", "2.", "3.", "4."]


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30), st.integers(1, 12), st.integers(0, 9))
def test_each_label_is_asked_before_any_is_asked_twice(letters, count, seed) -> None:
    labels = np.array(letters)
    rows = one_of_each(labels, fresh(seed), count)
    assert len(set(rows)) == len(rows) == min(count, len(labels))
    left = [(labels == one).sum() - (labels[rows] == one).sum() for one in np.unique(labels)]
    drawn = [(labels[rows] == one).sum() for one in np.unique(labels)]
    for mine, spare in zip(drawn, left, strict=True):
        assert mine >= max(drawn) - 1 or spare == 0


def test_long_names_keep_both_ends() -> None:
    assert shortened("a-name-of-16-chr") == "a-name-of-16-chr"
    assert shortened("george_said_this_3") == "george_…d_this_3"


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: tsne(np.ones((3, 2)), fresh()), "got 3 rows: a map needs at least 4"),
        (lambda: code_map(np.ones((3, 2)), np.arange(4)), "got 3 points and 4 labels"),
        (lambda: retrieval_picture([]), "the table has no rows"),
    ],
)
def test_what_cannot_be_drawn_is_refused(ask, says) -> None:
    with unchecked(), pytest.raises(ValueError, match=says):
        ask()


def test_names_with_an_underscore_are_in_the_key() -> None:
    figure = code_map(np.zeros((2, 2)), np.array(["_noise_", "yes"]))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["_noise_", "yes"]


def test_labels_that_are_no_text_are_drawn_with_escapes() -> None:
    figure = code_map(np.zeros((3, 2)), np.array(["\udcff", "\x1b[31m", "鷹"]))
    assert png(figure).startswith(b"\x89PNG")
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [r"\x1b[31m", "鷹", r"\udcff"]
