"""Annotations of segments: tables, evsonganaly, and the formats that crowsetta reads."""

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy.io import savemat
from worlds.recordings.listings import by_name, listed, table, touch
from worlds.recordings.noises import settings_for, write

from sonarium.worlds.recordings import annotations
from sonarium.worlds.recordings.survey import survey


def test_segments_from_a_table(tmp_path):
    touch(tmp_path, "b1/x.wav", "b2/y.wav", "b2/unmarked.wav")
    rows = [
        ["file", "bird", "onset_s", "offset_s", "label", "loudness"],
        ["b1/x.wav", "one", "0.5", "0.75", "b", "3"],
        ["b1/x.wav", "one", "0.1", "0.2", "a", "4"],
        ["b2/y.wav", "two", "0", "1", "a", "5"],
        ["b2/y.wav", "two", "2", "1", "wrong", "5"],
        ["b3/gone.wav", "three", "0", "1", "a", "5"],
    ]
    table(tmp_path / "segments.csv", *rows)
    listing = listed(tmp_path)
    assert (listing.layout, listing.factors, listing.group) == ("segments", ("bird",), "bird")
    found = {str(row.path.relative_to(tmp_path)): (dict(row.labels), row.segments) for row in listing.rows}
    assert found == {
        "b1/x.wav": ({"bird": "one"}, ((0.1, 0.2, "a"), (0.5, 0.75, "b"))),
        "b2/unmarked.wav": ({"bird": ""}, ()),
        "b2/y.wav": ({"bird": "two"}, ((0.0, 1.0, "a"),)),
        "b3/gone.wav": ({"bird": "three"}, ((0.0, 1.0, "a"),)),
    }
    assert [(fault.path.name, fault.reason) for fault in listing.remarks] == [
        ("y.wav", "segment 'wrong' from 2 to 1 s has no length and is left out")
    ]


def test_a_table_of_the_files_tells_what_segments_do_not(tmp_path):
    touch(tmp_path, "b1/x.wav", "b2/y.wav", "b2/unmarked.wav", "b2/alone.wav")
    rows = [["x.wav", "one", "0", "1", "a"], ["y.wav", "unknown", "0", "1", "a"]]
    heading = ["file", "bird", "onset", "offset", "label"]
    table(tmp_path / "segments.csv", heading, *([f"b{at}/{row[0]}", *row[1:]] for at, row in enumerate(rows, 1)))
    described = [
        ["Path", "bird", "sex", "frames"],
        ["b1/x.wav", "other", "f", "100"],
        ["./b2/y.wav", "two", "m", "200"],
        ["b2/unmarked.wav", "two", "m", "300"],
        ["b2/gone.wav", "two", "m", "300"],
    ]
    table(tmp_path / "files.csv", *described)
    listing = listed(tmp_path)
    assert (listing.factors, listing.group) == (("bird",), "bird")
    assert by_name(listing, tmp_path) == {
        "b1/x.wav": {"bird": "one", "sex": "f", "frames": "100"},
        "b2/y.wav": {"bird": "two", "sex": "m", "frames": "200"},
        "b2/unmarked.wav": {"bird": "two", "sex": "m", "frames": "300"},
        "b2/alone.wav": {"bird": "", "sex": "", "frames": ""},
    }
    table(tmp_path / "segments.csv", heading[:1] + heading[2:], ["b1/x.wav", "0", "1", "a"])
    assert (listed(tmp_path).factors, listed(tmp_path).group) == (("bird",), "bird")
    table(tmp_path / "files.csv", ["number", "sex"], ["1", "f"])
    assert by_name(listed(tmp_path), tmp_path)["b1/x.wav"] == {}


def test_segments_may_tell_how_long_they_last(tmp_path):
    touch(tmp_path, "x.wav")
    table(tmp_path / "segments.csv", ["file", "onset", "duration", "label"], ["x.wav", "0.5", "0.25", "a"])
    assert [row.segments for row in listed(tmp_path).rows] == [((0.5, 0.75, "a"),)]


def test_a_table_of_something_else_is_told(tmp_path):
    touch(tmp_path, "x.wav")
    for heading in (["file", "score"], ["score", "label"], ["file", "label", "onset"]):
        table(tmp_path / "annotations.csv", heading, ["x.wav"] * len(heading))
        with pytest.raises(ValueError, match="or take --layout folder if it is no table of segments"):
            listed(tmp_path)
    assert len(listed(tmp_path, "folder").rows) == 1


def test_segments_of_evsonganaly(tmp_path):
    touch(tmp_path, "bird1/a.cbin", "bird2/b.cbin")
    content = {"onsets": [[100.0], [300.0]], "offsets": [[200.0], [450.0]], "labels": "xy"}
    savemat(tmp_path / "bird1" / "a.cbin.not.mat", content)
    savemat(tmp_path / "bird2" / "b.cbin.not.mat", {"onsets": 5.0, "offsets": 6.0, "labels": "z"})
    listing = listed(tmp_path)
    assert (listing.layout, listing.factors, listing.group) == ("segments", ("individual",), "individual")
    assert [row.segments for row in listing.rows] == [((0.1, 0.2, "x"), (0.3, 0.45, "y")), ((0.005, 0.006, "z"),)]


def test_a_bad_annotation_is_a_fault_of_its_recording(tmp_path):
    content = {"onsets": [[10.0], [30.0]], "offsets": [[20.0], [45.0]], "labels": "xy"}
    for name in "abcd":
        write(tmp_path / "song" / f"{name}.wav", 0.1, ord(name))
        savemat(tmp_path / "song" / f"{name}.wav.not.mat", content)
    savemat(tmp_path / "song" / "b.wav.not.mat", content | {"labels": "xyz"})
    os.truncate(tmp_path / "song" / "c.wav.not.mat", 150)
    savemat(tmp_path / "song" / "d.wav.not.mat", {"onsets": [[10.0]], "labels": "x"})
    found = survey(settings_for(tmp_path / "song", seconds=0.01))
    assert [clip.row.path.name for clip in found.clips] == ["a.wav"]
    assert (found.quarantine.files, found.quarantine.fraction) == (4, 0.75)
    reasons = {fault.path.name: fault.reason for fault in found.quarantine.faults}
    assert reasons["b.wav"] == "has 2 onsets, 2 offsets and 3 labels in 'b.wav.not.mat'"
    assert reasons["c.wav"].startswith("has an annotation that cannot be read ('c.wav.not.mat': ")
    assert reasons["d.wav"] == "has an annotation that cannot be read ('d.wav.not.mat': 'offsets')"


def test_folders_behind_links_keep_their_annotations(tmp_path):
    touch(tmp_path, "elsewhere/bird1/a.cbin")
    content = {"onsets": [[100.0]], "offsets": [[200.0]], "labels": "x"}
    savemat(tmp_path / "elsewhere" / "bird1" / "a.cbin.not.mat", content)
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "bird2").symlink_to(tmp_path / "elsewhere" / "bird1")
    (tmp_path / "elsewhere" / "bird1" / "up").symlink_to(tmp_path / "songs")
    listing = listed(tmp_path / "songs")
    assert (listing.layout, [row.segments for row in listing.rows]) == ("segments", [((0.1, 0.2, "x"),)])


def test_other_annotations_need_crowsetta(tmp_path, monkeypatch):
    touch(tmp_path, "a.wav")
    monkeypatch.setitem(sys.modules, "crowsetta", None)
    with pytest.raises(ValueError, match="read by crowsetta, which is not installed: `pip install crowsetta`"):
        listed(tmp_path, "segments", annotations="timit")


@pytest.mark.skipif(importlib.util.find_spec("crowsetta") is None, reason="needs the optional package crowsetta")
def test_crowsetta_reads_other_annotations(tmp_path):
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "a.txt").write_text("0.1\t0.25\tx\n0.5\t0.75\ty\n")
    listing = listed(tmp_path, "segments", annotations="aud-seq")
    assert [row.segments for row in listing.rows] == [((0.1, 0.25, "x"), (0.5, 0.75, "y")), ()]
    with pytest.raises(ValueError, match=r"choose auto, csv, notmat, sidecar, .* or one of crowsetta's"):
        listed(tmp_path, "segments", annotations="carving")


def test_what_crowsetta_gives_becomes_segments(tmp_path):
    """In each of its types of annotation, as documented."""
    one = SimpleNamespace(onset_s=np.float64(0.5), offset_s=1.0, label="a")
    box = SimpleNamespace(onset=0.25, offset=2, label="b")
    sequence = SimpleNamespace(segments=[one])
    for given, expected in (
        (SimpleNamespace(seq=sequence), [(0.5, 1.0, "a")]),
        (SimpleNamespace(seq=[sequence, sequence]), [(0.5, 1.0, "a")] * 2),
        (SimpleNamespace(bboxes=[box]), [(0.25, 2.0, "b")]),
    ):
        assert list(annotations.stretches(given)) == expected


def sounds(root, *names):
    return annotations.Sounds(root, [root / name for name in names])


def test_annotations_find_the_recording_that_they_tell(tmp_path):
    known = sounds(tmp_path, "a.wav", "sub/b.wav", "Bird0/Wave/0.wav", "Bird1/Wave/0.wav", "Bird1/Wave/1.wav")
    for told, annotation, expected in (
        ("/far/away/b.wav", "x.csv", "sub/b.wav"),
        ("b.wav", "labels/x.csv", "sub/b.wav"),
        (tmp_path / "Bird1" / "Wave" / "0.wav", "Bird1/Annotation.xml", "Bird1/Wave/0.wav"),
        ("Bird0/Wave/0.wav", "labels/x.csv", "Bird0/Wave/0.wav"),
        ("Bird0/../Bird1/Wave/0.wav", "x.csv", "Bird1/Wave/0.wav"),
        ("Wave/0.wav", "Bird1/x.csv", "Bird1/Wave/0.wav"),
        ("0.wav", "Bird1/x.csv", "Bird1/Wave/0.wav"),
        ("/far/away/0.wav", "Bird0/x.csv", "Bird0/Wave/0.wav"),
        # Files that only another bird has count as missing here.
        (tmp_path / "Bird0" / "Wave" / "1.wav", "Bird0/Annotation.xml", "Bird0/Wave/1.wav"),
        ("1.wav", "Bird0/x.csv", "Bird0/1.wav"),
        ("Bird0/Wave/1.wav", "x.csv", "Bird0/Wave/1.wav"),
    ):
        assert known.named_by(Path(told), tmp_path / annotation) == tmp_path / expected
    for told, annotation in (("0.wav", "x.csv"), ("/far/away/0.wav", "labels/x.csv")):
        with pytest.raises(
            ValueError, match=r"may belong to '.*Bird0/Wave/0.wav' or to '.*Bird1/Wave/0.wav': name"
        ):
            known.named_by(Path(told), tmp_path / annotation)


def test_annotations_that_tell_no_recording_belong_to_the_one_of_their_name(tmp_path):
    known = sounds(tmp_path, "a.wav", "a.z.wav", "sub/b.wav", "sub/c.wav", "sub/c.flac")
    for annotation, expected in (
        ("a.txt", "a.wav"),
        ("a.z.txt", "a.z.wav"),
        ("a.selections.txt", "a.wav"),
        ("sub/b.wav.csv", "sub/b.wav"),
        ("sub/c.flac.csv", "sub/c.flac"),
    ):
        assert known.beside(tmp_path / annotation) == tmp_path / expected
    assert known.beside(tmp_path / "sub" / "a.txt") is known.beside(tmp_path / "README") is None
    with pytest.raises(ValueError, match=r"c.txt' may belong to '.*c.wav' or to '.*c.flac'"):
        known.beside(tmp_path / "sub" / "c.txt")


def stand_in(path):
    """Stand-in for crowsetta that reads lines NAME,ONSET,OFFSET,LABEL; a dash stands for an unknown value."""
    made = []
    for line in path.read_text().splitlines():
        name, onset, offset, label = line.split(",")
        times = [None if time == "-" else float(time) for time in (onset, offset)]
        segment = SimpleNamespace(onset_s=times[0], offset_s=times[1], label=label)
        told = None if name == "-" else Path(name)
        made.append(SimpleNamespace(notated_path=told, seq=SimpleNamespace(segments=[segment])))
    return SimpleNamespace(to_annot=lambda: made)


@pytest.fixture
def crowsetta(monkeypatch):
    formats = SimpleNamespace(as_list=lambda: ["lines"], by_name=lambda _: SimpleNamespace(ext=".txt"))
    transcriber = SimpleNamespace(from_file=stand_in)
    package = SimpleNamespace(formats=formats, Transcriber=lambda format: transcriber)
    monkeypatch.setitem(sys.modules, "crowsetta", cast(Any, package))


def test_files_of_birds_that_are_called_alike_keep_their_own_labels(tmp_path, crowsetta):
    for bird in ("Bird0", "Bird1"):
        touch(tmp_path, f"{bird}/Wave/0.wav", f"{bird}/Wave/1.wav")
        lines = [f"{tmp_path}/{bird}/Wave/0.wav,0.1,0.2,{bird}", f"1.wav,0.3,0.4,{bird}"]
        (tmp_path / bird / "labels.txt").write_text("\n".join(lines))
    for row in listed(tmp_path, annotations="lines").rows:
        assert [label for *_, label in row.segments] == [row.path.parts[-3]]


def test_files_that_are_no_annotations_are_passed_over(tmp_path, crowsetta):
    touch(tmp_path, "a.wav", "b.wav", "c.wav")
    for name, text in {
        "a": "-,0,1,x",
        "b": "soon",
        "c": "-,-,-,x",
        "README": "Sing, bird",
        "old": "-,0,1,x",
    }.items():
        (tmp_path / f"{name}.txt").write_text(text)
    listing = listed(tmp_path, annotations="lines")
    assert [row.segments for row in listing.rows] == [((0.0, 1.0, "x"),), (), ()]
    assert [(fault.path.name, fault.reason) for fault in listing.faults] == [
        (
            "b.wav",
            "has an annotation that cannot be read ('b.txt': not enough values to unpack (expected 4, got 1))",
        ),
        ("c.wav", "has an annotation whose times are not known in seconds ('c.txt')"),
    ]
    assert [(fault.path.name, fault.reason.partition(" (")[0]) for fault in listing.remarks] == [
        ("README.txt", "is not an annotation that can be read"),
        ("old.txt", "belongs to no recording beside it and is left out"),
    ]
    for name in "abc":
        (tmp_path / f"{name}.txt").unlink()
    with pytest.raises(
        ValueError, match=r"has no segments in files ending in .txt: choose another .*README.txt' is no"
    ):
        listed(tmp_path, annotations="lines")


@pytest.mark.skipif(importlib.util.find_spec("crowsetta") is None, reason="needs the optional package crowsetta")
def test_crowsetta_tells_birds_apart(tmp_path):
    for bird in ("Bird0", "Bird1"):
        sequences = ""
        for take in (0, 1, 2):
            if (bird, take) != ("Bird0", 2):
                write(tmp_path / bird / "Wave" / f"{take}.wav", 1.0)
            sequences += (
                f"<Sequence><WaveFileName>{take}.wav</WaveFileName><Position>0</Position><Length>8000</Length>"
                "<NumNote>1</NumNote><Note><Position>800</Position><Length>1600</Length>"
                f"<Label>{bird}</Label></Note></Sequence>"
            )
        (tmp_path / bird / "Annotation.xml").write_text(f"<Sequences>{sequences}</Sequences>")
    listing = listed(tmp_path, annotations="birdsong-recognition-dataset")
    assert len(listing.rows) == 6
    for row in listing.rows:
        bird, _, name = row.path.relative_to(tmp_path).parts
        assert row.segments == (() if (bird, name) == ("Bird0", "2.wav") else ((0.1, 0.3, bird),))
    assert [fault.path for fault in listing.faults] == [tmp_path / "Bird0" / "Wave" / "2.wav"]


def test_a_file_beside_each_recording(tmp_path):
    touch(tmp_path, "b1/x.wav", "b1/y.wav", "b2/z.wav", "b2/alone.wav")
    (tmp_path / "b1" / "x.json").write_text(
        '{"onset": [0.5, 0], "offset": [1, 0.25], "cluster": ["b", 7], "sr": 1}'
    )
    table(tmp_path / "b1" / "y.wav.csv", ["onset", "offset"], ["0.125", "0.5"])
    table(tmp_path / "b2" / "z.csv", ["onset_s", "offset_s", "label"], ["0.1", "0.2", "a"], ["0.3", "0.2", "back"])
    listing = listed(tmp_path)
    assert (listing.layout, listing.group, listing.faults) == ("segments", "individual", ())
    assert (listing.read, listing.passed) == ({".json": 1, ".csv": 2}, {})
    assert {row.path.name: (row.labels["individual"], row.segments) for row in listing.rows} == {
        "x.wav": ("b1", ((0.0, 0.25, "7"), (0.5, 1.0, "b"))),
        "y.wav": ("b1", ((0.125, 0.5, annotations.UNLABELLED),)),
        "z.wav": ("b2", ((0.1, 0.2, "a"),)),
        "alone.wav": ("b2", ()),
    }
    assert ["'back' from 0.3 to 0.2 s has no length" in remark.reason for remark in listing.remarks] == [True]


def test_birds_are_told_apart_whatever_lies_beside_their_folders(tmp_path):
    songs = [f"{bird}/{day}/{song}.wav" for bird in ("gy", "bl") for day in ("032212", "032312") for song in "ab"]
    touch(tmp_path, *songs, "test.wav")
    for song in songs:
        table(tmp_path / song.replace("wav", "csv"), ["onset", "offset", "label"], ["0.1", "0.2", "a"])
    listing = listed(tmp_path)
    expected = {song: dict(zip(("bird", "day"), song.split("/"), strict=False)) for song in songs}
    assert by_name(listing, tmp_path) == expected | {"test.wav": {"bird": "", "day": ""}}
    assert (listing.layout, listing.group) == ("segments", "bird")


def test_individuals_are_the_first_folders_that_differ(tmp_path):
    songs = [f"data/{bird}/{part}/{bird}{part}.wav" for bird in ("gy", "bl") for part in ("old", "new")]
    touch(tmp_path, *songs, "test.wav")
    for song in songs:
        table(tmp_path / song.replace("wav", "csv"), ["onset", "offset", "label"], ["0.1", "0.2", "a"])
    found = by_name(listed(tmp_path), tmp_path)
    assert found == {song: {"individual": song.split("/")[1]} for song in songs} | {"test.wav": {"individual": ""}}


def test_sidecars_may_be_empty_and_have_others_of_metadata_beside_them(tmp_path):
    touch(tmp_path, "b1/x.wav", "b1/y.wav", "b2/z.wav")
    heading = ["onset", "offset", "label"]
    table(tmp_path / "b1" / "x.csv", heading)
    table(tmp_path / "b1" / "y.csv", heading, ["-0.0004", "0.1", "a"], ["", "0.3", "b"], ["-2", "0.5", "c"])
    table(tmp_path / "b2" / "z.csv", heading, ["0.1", "0.2", "a"])
    (tmp_path / "b2" / "z.json").write_text('{"recordist": "anna"}')
    listing = listed(tmp_path)
    assert (listing.layout, listing.faults) == ("segments", ())
    assert {row.path.name: row.segments for row in listing.rows} == {
        "x.wav": (), "y.wav": ((0.0, 0.1, "a"),), "z.wav": ((0.1, 0.2, "a"),)
    }  # fmt: skip
    no_time, outside = (remark.reason for remark in listing.remarks)
    assert "'b'" in no_time and "has no beginning or no end" in no_time
    assert "'c' from -2 to 0.5 s lies outside the recording" in outside


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON that can be read"),
        ('{"onset": [1], "offset": []}', r"has the lists onset (1), offset (0): give onset, offset and cluster"),
        ('{"duration": 3}', "has the lists none"),
        ('{"onset": ["soon"], "offset": [1]}', "has 'soon' under 'onset' in its segment 1: give seconds there"),
        ('{"onset": [1], "cluster": ["a"]}', "none called stop, stop_s"),
    ],
)
def test_a_damaged_file_beside_a_recording_makes_it_a_bad_one(text, said, tmp_path):
    touch(tmp_path, "x.wav", "y.wav")
    (tmp_path / "x.json").write_text('{"onset": [0], "offset": [0.25], "cluster": ["a"]}')
    (tmp_path / "y.json").write_text(text)
    [fault] = listed(tmp_path).faults
    assert fault.path.name == "y.wav" and said in fault.reason


def test_files_beside_recordings_that_are_no_annotations_make_no_segments(tmp_path):
    touch(tmp_path, "a/x.wav", "b/y.wav")
    (tmp_path / "a" / "x.json").write_text('{"licence": "CC0", "tags": ["bird"]}')
    (tmp_path / "b" / "y.csv").write_text("time,level\n0,1\n")
    assert listed(tmp_path).layout == "folder"
