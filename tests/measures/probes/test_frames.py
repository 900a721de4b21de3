"""Rows of frames and of clips, and the frames of marked segments, against loops over clips."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typechecking import unchecked

from sonarium.measures.probes.frames import clip_means, flattened, rows_of, without_clip_mean
from sonarium.measures.probes.segments import frames_of_segments, labels_of_frames

some_counts = st.lists(st.integers(0, 6), min_size=1, max_size=6).filter(any)


def padded(counts, seed: int = 0) -> np.ndarray:
    """Random codes with NaN in the padding, which must never be used."""
    codes = np.random.default_rng(seed).normal(size=(len(counts), 6, 2))
    for clip, count in enumerate(counts):
        codes[clip, count:] = np.nan
    return codes


@given(some_counts)
def test_rows_are_the_frames_and_clips_that_are_sound(counts) -> None:
    codes, numbers = padded(counts), np.array(counts)
    rows, clips = flattened(codes, numbers)
    own = [codes[clip, :count] for clip, count in enumerate(counts)]
    np.testing.assert_array_equal(rows, np.concatenate(own))
    assert clips.tolist() == [clip for clip, count in enumerate(counts) for _ in range(count)]
    kept = [clip for clip, count in enumerate(counts) if count]
    means, named = clip_means(rows, clips)
    assert named.tolist() == kept
    np.testing.assert_allclose(means, [own[clip].mean(0) for clip in kept], atol=1e-12)
    centred = [own[clip] - own[clip].mean(0) for clip in kept]
    np.testing.assert_allclose(without_clip_mean(rows, clips), np.concatenate(centred), atol=1e-12)
    np.testing.assert_allclose(rows_of(codes, numbers, "frame", remove_mean=True)[0], np.concatenate(centred))
    np.testing.assert_allclose(rows_of(codes, numbers, "clip")[0], means)


@given(some_counts, st.booleans())
def test_thirds_of_clips(counts, remove_mean) -> None:
    codes = padded(counts)
    rows, clips = rows_of(codes, np.array(counts), "clip", "thirds", remove_mean)
    assert clips.tolist() == [clip for clip, count in enumerate(counts) if count]
    for row, clip in zip(rows, clips, strict=True):
        own = codes[clip, : counts[clip]]
        centred = own - own.mean(0) * remove_mean
        n = len(own)
        thirds = [centred[part * n // 3 : -(-(part + 1) * n // 3)].mean(0) for part in range(3)]
        np.testing.assert_allclose(row, np.concatenate([*thirds, own.std(0)]), atol=1e-12)


def test_clips_out_of_order_have_their_own_means() -> None:
    rows, clips = np.array([[1.0], [10.0], [3.0]]), np.array([7, 2, 7])
    means, named = clip_means(rows, clips)
    assert means[:, 0].tolist() == [10, 2] and named.tolist() == [2, 7]
    assert without_clip_mean(rows, clips)[:, 0].tolist() == [-1, 0, 1]


def test_pieces_are_the_frames_between_their_marks() -> None:
    codes = np.arange(20.0).reshape(2, 10, 1)
    marks = [[(0.1, 0.3, "a"), (0.31, 0.39, "b"), (0.7, 9.0, "c")], [(0.0, 0.1, "a")]]
    found = frames_of_segments(codes, np.array([10, 10]), marks, rate=10)
    assert found.codes[:, 0].tolist() == [1, 2, 4, 7, 8, 9, 10]
    assert found.item.tolist() == [0, 0, 1, 2, 2, 2, 3]
    assert found.label.tolist() == ["a", "b", "c", "a"] and found.clip.tolist() == [0, 0, 0, 1]
    late = frames_of_segments(codes, np.array([10, 10]), marks, rate=10, first=0.05)
    assert late.codes[:2, 0].tolist() == [1, 2] and late.codes[2, 0] == 3


@given(
    start=st.floats(0, 2),
    length=st.floats(0.001, 1),
    rate=st.sampled_from([10.0, 97.0, 100.0]),
    count=st.integers(200, 400),
)
def test_every_piece_has_a_frame_and_frames_agree_with_their_labels(start, length, rate, count) -> None:
    codes = np.arange(float(count))[None, :, None]
    marks = [[(start, start + length, "x")]]
    found = frames_of_segments(codes, np.array([count]), marks, rate)
    labels = labels_of_frames(np.array([count]), marks, rate)
    inside = found.codes[:, 0].astype(int)
    assert np.flatnonzero(labels == "x").tolist() == inside.tolist()
    times = np.arange(count) / rate
    clear = 1e-6  # rounding may put a frame at a mark on either side
    surely = np.flatnonzero((times >= start + clear) & (times < start + length - clear))
    assert len(inside) >= 1 and set(surely) <= set(inside)
    if len(inside) > 1:
        assert (times[inside] >= start - clear).all() and (times[inside] < start + length + clear).all()
    else:
        assert abs(times[inside[0]] - (start + length / 2)) <= 1 / rate + length


def test_frames_without_a_mark_are_told() -> None:
    labels = labels_of_frames(np.array([3, 2]), [[(0.5, 2, "long"), (1, 2, "b")], []], rate=1, unmarked="rest")
    assert labels.tolist() == ["rest", "b", "rest", "rest", "rest"]


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: flattened(padded([3]), np.array([7])), "counts from 7 to 7 for clips of up to 6 frames"),
        (lambda: rows_of(padded([3]), np.array([3]), "clip", "mean", True), "less the clip's mean is zero"),
        (lambda: rows_of(padded([3]), np.array([3]), "song"), "got level='song'"),  # pyright: ignore
        (lambda: labels_of_frames(np.array([3]), [[(2, 1, "a")]], 1), "'a' of clip 0 is marked from 2 to 1"),
        (lambda: labels_of_frames(np.array([3]), [], 1), "got marks of 0 clips and 1 counts"),
        (lambda: labels_of_frames(np.array([3]), [[]], 0), "got rate=0"),
        (
            lambda: labels_of_frames(np.array([9]), [[(2000, 2100, "a")]], 5),
            "begins at 2000 s, but its 9 frames",
        ),
        (lambda: labels_of_frames(np.array([0]), [[(0, 1, "a")]], 1), "clip 0 has no frames, but marks"),
        (lambda: frames_of_segments(padded([3]), np.array([3]), [[]], 1), "no clip has a segment"),
    ],
)
def test_what_cannot_be_is_refused(ask, says) -> None:
    with unchecked(), pytest.raises(ValueError, match=says):
        ask()
