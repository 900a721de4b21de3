"""What sounds when: tables of segments, evsonganaly, and the formats that crowsetta reads."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.io import savemat
from worlds.listings import listed, table, touch

from sonarium.worlds import annotations


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
        "b3/gone.wav": ({"bird": "three"}, ()),
    }
    assert [(fault.path.name, fault.reason) for fault in listing.remarks] == [
        ("y.wav", "segment 'wrong' from 2 to 1 s has no length and is left out")
    ]


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
    savemat(tmp_path / "bird1" / "a.cbin.not.mat", content | {"labels": "xyz"})
    with pytest.raises(ValueError, match="2 onsets, 2 offsets and 3 labels"):
        listed(tmp_path)
    (tmp_path / "bird1" / "a.cbin.not.mat").write_bytes(b"MATLAB 5.0" * 9)
    with pytest.raises(ValueError, match="not an annotation that can be read"):
        listed(tmp_path)


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
        listed(tmp_path, "segments", annotations="textgrid")


@pytest.mark.skipif(importlib.util.find_spec("crowsetta") is None, reason="needs the optional package crowsetta")
def test_crowsetta_reads_other_annotations(tmp_path):
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "a.txt").write_text("0.1\t0.25\tx\n0.5\t0.75\ty\n")
    listing = listed(tmp_path, "segments", annotations="aud-seq")
    assert [row.segments for row in listing.rows] == [((0.1, 0.25, "x"), (0.5, 0.75, "y")), ()]
    with pytest.raises(ValueError, match="choose auto, csv, notmat or one of crowsetta's"):
        listed(tmp_path, "segments", annotations="carving")


def test_what_crowsetta_gives_becomes_segments(tmp_path):
    """In each of its forms, as its documentation has them."""
    one = SimpleNamespace(onset_s=np.float64(0.5), offset_s=1.0, label="a")
    box = SimpleNamespace(onset=0.25, offset=2, label="b")
    sequence = SimpleNamespace(segments=[one])
    for given, expected in (
        (SimpleNamespace(seq=sequence), [(0.5, 1.0, "a")]),
        (SimpleNamespace(seq=[sequence, sequence]), [(0.5, 1.0, "a")] * 2),
        (SimpleNamespace(bboxes=[box]), [(0.25, 2.0, "b")]),
    ):
        assert list(annotations.stretches(given)) == expected
    paths = [tmp_path / "a.wav", tmp_path / "sub" / "b.wav"]
    assert annotations.sound_of(Path("/far/away/b.wav"), tmp_path / "x.txt", paths) == paths[1]
    assert annotations.sound_of(None, tmp_path / "a.txt", paths) == paths[0]
    assert annotations.sound_of(None, tmp_path / "sub" / "b.wav.csv", paths) == paths[1]
    assert annotations.sound_of(None, tmp_path / "c.txt", paths) == tmp_path / "c"
