"""Annotation formats of other programs: round trips of segments, and files as those programs write them."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.recordings.listings import listed, touch

from sonarium.worlds.recordings import annotations
from sonarium.worlds.recordings.formats import (
    WRITERS,
    read_audacity,
    read_raven,
    read_textgrid,
    refused,
    write_table,
)
from sonarium.worlds.recordings.listing import folder_labels

LETTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"])


@st.composite
def songs(draw, longest: int = 5):
    """Strategy for consecutive segments of any length and distance, with labels of any printable characters."""
    steps = draw(st.lists(st.floats(1e-6, 30), max_size=8))
    times = [sum(steps[: at + 1]) for at in range(len(steps))]
    texts = st.text(LETTERS, min_size=1, max_size=longest).map(str.strip).filter(bool)
    return [(start, stop, draw(texts)) for start, stop in zip(times[::2], times[1::2], strict=False)]


@pytest.mark.parametrize("form", ["textgrid", "raven", "audacity"])
@given(marks=songs())
@settings(max_examples=25)
def test_what_is_written_is_read_to_the_last_bit(tmp_path_factory, form, marks):
    sound = tmp_path_factory.mktemp("song") / "song.wav"
    path = WRITERS[form].beside(sound)
    WRITERS[form].write(path, marks, 200.0, 32_000)
    find, read = annotations.BESIDE[form]
    assert list(read(path)) == marks
    assert not marks or find(sound) == path


@given(marks=songs(longest=1))
@settings(max_examples=25)
def test_milliseconds_round_the_last_bit_at_most(tmp_path_factory, marks):
    marks = [(start, stop, "a") for start, stop, _ in marks]
    path = tmp_path_factory.mktemp("song") / "song.cbin.not.mat"
    WRITERS["notmat"].write(path, marks, 200.0, 32_000)
    read = list(annotations.read_notmat(path))
    assert [label for *_, label in read] == ["a"] * len(marks)
    for ours, theirs in zip(marks, read, strict=True):
        assert theirs[:2] == pytest.approx(ours[:2], rel=3e-16, abs=0)


def test_a_table_holds_all_songs(tmp_path):
    marks = [(0.1, 1 / 3, 'a "quoted", label'), (0.5, 0.7, "b")]
    for name in ("one", "two"):
        touch(tmp_path, f"{name}.wav")
    write_table(tmp_path / "segments.csv", {"one.wav": marks, "two.wav": []})
    listing = listed(tmp_path)
    assert [row.segments for row in listing.rows] == [tuple(marks), ()]


def test_names_that_are_not_utf8_are_written(tmp_path):
    name = os.fsdecode(b"caf\xe9.wav")
    write_table(tmp_path / "segments.csv", {name: [(0.1, 0.2, "a")]})
    assert os.fsencode(name) + b",0.1,0.2,a" in (tmp_path / "segments.csv").read_bytes()
    path = WRITERS["notmat"].beside(tmp_path / name)
    WRITERS["notmat"].write(path, [(0.1, 0.2, "a")], 1.0, 8000)
    assert list(annotations.read_notmat(path)) == [(0.1, 0.2, "a")]


def test_overlaps_of_rounded_times_become_boundaries(tmp_path):
    marks = [(0.1, 0.2005, "a"), (0.2, 0.3, "b")]
    assert refused(marks, 1.0) == []
    WRITERS["textgrid"].write(tmp_path / "a.TextGrid", marks, 1.0, 8000)
    assert list(read_textgrid(tmp_path / "a.TextGrid")) == [(0.1, 0.2005, "a"), (0.2005, 0.3, "b")]


def test_each_format_is_recognised_in_a_folder(tmp_path):
    for form, writer in WRITERS.items():
        folder = tmp_path / form
        touch(folder, "a.wav")
        writer.write(writer.beside(folder / "a.wav"), [(0.25, 0.5, "x")], 1.0, 8000)
        listing = listed(folder)
        assert (listing.layout, [row.segments for row in listing.rows]) == ("segments", [((0.25, 0.5, "x"),)]), (
            form
        )


def test_the_short_text_form_and_other_tiers_of_praat(tmp_path):
    short = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n2\n<exists>\n2\n'
    short += '"TextTier"\n"clicks"\n0\n2\n1\n0.5\n"7"\n"IntervalTier"\n"notes"\n0\n2\n3\n0\n0.5\n""\n0.5\n1.25\n'
    short += '"say ""a"" 5"\n1.25\n2\n"b"\n'
    path = tmp_path / "a.TextGrid"
    for encoding in ("utf-8", "utf-16"):
        path.write_text(short, encoding=encoding)
        assert read_textgrid(path) == [(0.5, 1.25, 'say "a" 5'), (1.25, 2, "b")]
    path.write_text(short[:-12])
    with pytest.raises(ValueError, match=r"cannot be read \('a.TextGrid': it is cut short"):
        read_textgrid(path)
    path.write_text("no annotation")
    with pytest.raises(ValueError, match="does not begin as a TextGrid"):
        read_textgrid(path)


def test_ravens_views_are_one_selection_and_its_label_has_many_names(tmp_path):
    path = tmp_path / "a.Table.1.selections.txt"
    head = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tSpecies\n"
    path.write_text(head + "1\tWaveform 1\t1\t0.5\t1\tfinch\n1\tSpectrogram 1\t1\t0.5\t1\tfinch\n")
    assert read_raven(path) == [(0.5, 1, "finch")]
    path.write_text(head + "1\tWaveform 1\t1\t0.5\n")
    with pytest.raises(ValueError, match="fewer fields than the heading"):
        read_raven(path)
    path.write_text("Selection\tBegin Time (s)\n1\t0.5\n")
    with pytest.raises(ValueError, match="no column End Time"):
        read_raven(path)


def test_audacitys_frequencies_are_passed_over(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("0.5\t1.0\tx\n\\\t200.0\t900.0\n2.0\t2.5\n")
    assert read_audacity(path) == [(0.5, 1.0, "x"), (2.0, 2.5, "")]
    path.write_text("0.5 1.0 x\n")
    with pytest.raises(ValueError, match="apart by tabs"):
        read_audacity(path)


def test_labels_that_a_format_cannot_hold_are_refused(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(ValueError, match=r"'syll' from 0 to 1 s has 4 characters, .not.mat holds one"):
        WRITERS["notmat"].write(path, [(0.0, 1.0, "syll")], 1.0, 8000)
    for form in ("raven", "audacity"):
        with pytest.raises(ValueError, match="holds a tab or a new line"):
            WRITERS[form].write(path, [(0.0, 1.0, "a\tb")], 1.0, 8000)
    with pytest.raises(ValueError, match=r"'b' begins at 0.5 s"):
        WRITERS["textgrid"].write(path, [(0.0, 1.0, "a"), (0.5, 2.0, "b")], 3.0, 8000)
    assert not path.exists()


def test_each_fault_of_segments_has_its_line():
    marks = [(0.5, 0.4, "a"), (0.9, 1.5, "b"), (0.1, 0.2, " "), (0.2, 0.4, "c"), (0.3, 0.5, "d"), (-1, 0, "e")]
    faults = refused(marks, 1.0)
    words = ("no length", "outside the recording", "no label", "outside", "overlap")
    assert len(faults) == len(words)
    assert all(word in fault for word, fault in zip(words, faults, strict=True))
    assert refused([(0.0, 0.5, "a"), (0.5, 1.0, "b")], 1.0) == []


@pytest.mark.parametrize("day", ["2012-03-24", "20120324", "032412", "day_45", "45dph", "90 dph", "24.03.2012"])
def test_folders_of_days_name_bird_and_day(tmp_path, day):
    for bird in ("gy", "bk"):
        touch(tmp_path, f"{bird}/{day}/song.wav")
    listing = listed(tmp_path)
    assert (listing.factors, listing.group) == (("bird", "day"), "bird")
    assert [row.labels for row in listing.rows] == [{"bird": bird, "day": day} for bird in ("bk", "gy")]
    writer = WRITERS["notmat"]
    writer.write(writer.beside(tmp_path / "gy" / day / "song.wav"), [(0.0, 0.1, "a")], 1.0, 8000)
    listing = listed(tmp_path)
    assert (listing.layout, listing.group) == ("segments", "bird")
    assert [row.labels for row in listing.rows] == [{"bird": bird, "day": day} for bird in ("bk", "gy")]


def test_other_folders_keep_their_names():
    root = Path("songs")
    assert folder_labels([root / "cat" / name / "1.wav" for name in ("old", "12")], root) == {}
    assert folder_labels([root / "gy" / "day45" / "1.wav", root / "1.wav"], root) == {}
    assert folder_labels([root / "45dph" / "1.wav"], root) == folder_labels([], root) == {}
