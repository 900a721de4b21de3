"""Layouts of corpora on disk: every file is listed under its own name, with its labels."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from worlds.recordings.listings import by_name, listed, table, touch

from sonarium.worlds.recordings.listing import match_all, named, walk


def test_no_name_of_a_file_of_sound_is_missed(tmp_path):
    names = [
        "plain.wav", "with space.WAV", "Ünïcödé 鳥.flac", "a.b.c.Ogg", "deep/er/song.mp3", "new\nline.aiff",
        "semi;colon,comma.AIF", "quote\"'.oga", "x.cbin", "folder.wav/inner.opus", "-dash.wav", "%20{brace}.wav",
        " .wav", ".hidden.wav",
    ]  # fmt: skip
    touch(tmp_path, *names, "remark.txt", "SONG.JPG", "wav", "._plain.wav")
    latin = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    latin.write_bytes(b"sound")
    (tmp_path / "link.wav").symlink_to(tmp_path / "plain.wav")
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "nowhere")
    (tmp_path / "itself.wav").symlink_to("itself.wav")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "deep")
    (tmp_path / "deep" / "up").symlink_to(tmp_path)
    found, passed = walk(tmp_path)
    expected = {*names, "link.wav", "dangling.wav", "itself.wav", "elsewhere/er/song.mp3"}
    assert {path.relative_to(tmp_path).as_posix() for path in found} == expected | {latin.name}
    assert found == sorted(found)
    assert passed == {".txt": 1, ".jpg": 1, "(none)": 1, ".wav": 1}


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    touch(tmp_path, "a/x.wav", "b/y.wav")
    own = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: own("/nowhere" if Path(path).name == "b" else path))
    with pytest.raises(ValueError, match=r"the folder '.*/b' cannot be read \(No such file or directory\)"):
        walk(tmp_path)


@pytest.mark.parametrize("mode", [0, 0o444, 0o111])
def test_a_folder_that_may_not_be_read_is_told(mode, tmp_path):
    touch(tmp_path, "a/x.wav", "b/y.wav", "b/config.json")
    (tmp_path / "b").chmod(mode)
    try:
        if os.access(tmp_path / "b", os.R_OK | os.X_OK):
            pytest.skip("needs a user whom modes hold back")
        for root in (tmp_path, tmp_path / "b"):
            with pytest.raises(ValueError, match=r"the folder '.*/b' cannot be read \(Permission denied\)"):
                listed(root)
    finally:
        (tmp_path / "b").chmod(0o755)


def test_folders_are_labels(tmp_path):
    touch(tmp_path, "cat/1.wav", "dog/1.wav", "loose.wav")
    listing = listed(tmp_path)
    assert (listing.layout, listing.factors, listing.group) == ("folder", ("label",), None)
    assert by_name(listing, tmp_path) == {
        "cat/1.wav": {"label": "cat"},
        "dog/1.wav": {"label": "dog"},
        "loose.wav": {"label": ""},
    }
    touch(tmp_path, "cat/old/2.wav")
    listing = listed(tmp_path)
    assert listing.factors == ("level1", "level2")
    assert by_name(listing, tmp_path)["cat/old/2.wav"] == {"level1": "cat", "level2": "old"}


@pytest.mark.parametrize(
    ("pattern", "labels"),
    [
        ("{speaker}/{digit}_{take}.wav", {"speaker": "ann", "digit": "7", "take": "a_b"}),
        ("{digit}_{take}", {"digit": "7", "take": "a_b"}),
        ("{top}/{speaker}/{name}.wav", {"top": "set", "speaker": "ann", "name": "7_a_b"}),
        (r"(?P<digit>\d)_(?P<rest>\w)", {"digit": "7", "rest": "a"}),
    ],
)
def test_patterns_tell_labels(pattern, labels, tmp_path):
    touch(tmp_path, "set/ann/7_a_b.wav")
    listing = listed(tmp_path, pattern=pattern)
    assert by_name(listing, tmp_path) == {"set/ann/7_a_b.wav": labels}
    assert listing.factors == tuple(labels)
    assert listing.group == ("speaker" if "speaker" in labels else None)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("plain.wav", "names no label"),
        ("(?P<x>[", "cannot be used"),
        ("{a}/{a}.wav", "cannot be used"),
        ("{a}_{b}_{c}.wav", r"1 of 2 files do not match .* such as 'ann/7.wav'"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(pattern, reason, tmp_path):
    touch(tmp_path, "ann/7.wav", "bob/7_8_9.wav")
    with pytest.raises(ValueError, match=reason):
        listed(tmp_path, "folder", pattern=pattern)


def test_a_pattern_takes_names_literally(tmp_path):
    touch(tmp_path, "a+b(1).wav")
    assert match_all("a+b({n}).wav", [tmp_path / "a+b(1).wav"], tmp_path) == {tmp_path / "a+b(1).wav": {"n": "1"}}
    with pytest.raises(ValueError, match="do not match"):
        match_all("a.b({n}).wav", [tmp_path / "a+b(1).wav"], tmp_path)
    # Otherwise the label would replace the file as the group that a split keeps together.
    with pytest.raises(ValueError, match="--group file is each file itself; call the label otherwise"):
        match_all("{speaker}({file}).wav", [tmp_path / "a+b(1).wav"], tmp_path)


def test_other_refusals(tmp_path):
    (tmp_path / "m.parquet").write_text("x")
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "notes/a.txt", "b.wav")
    for root, layout, reason in (
        ("nothing", "auto", "there is no folder or manifest"),
        ("m.parquet", "auto", "not Parquet that can be read"),
        ("b.wav", "fsdd", "is a file: the layout 'fsdd' needs a folder"),
        ("b.wav", "auto", "b.wav' is one recording: give the folder that it is in"),
        ("empty", "auto", "names no recordings: it holds no files"),
        ("notes", "auto", "names no recordings: it holds 1 of .txt"),
        ("notes", "manifest", "has none of manifest.csv"),
        ("notes", "common-voice", "has no table"),
        ("notes", "segments", "has no annotation"),
        (".", "fsdd", "none of the 1 files .* is named like the files of layout 'fsdd'"),
    ):
        with pytest.raises(ValueError, match=reason):
            listed(tmp_path / root, layout)


def test_librispeech(tmp_path):
    names = ["train-clean-100/19/198/19-198-0001.flac", "test-other/367/130732/367-130732-0000.flac"]
    touch(tmp_path, *names)
    text = ";ID |SEX| SUBSET\n19 | F | train-clean-100 | 25 | Kara\n367 | M | test-other | 8 | X\n"
    (tmp_path / "SPEAKERS.TXT").write_text(text)
    listing = listed(tmp_path)
    assert (listing.layout, listing.factors, listing.group) == (
        "librispeech", ("speaker", "subset", "sex"), "speaker"
    )  # fmt: skip
    assert by_name(listing, tmp_path) == {
        names[0]: {"speaker": "19", "chapter": "198", "subset": "train-clean-100", "sex": "F"},
        names[1]: {"speaker": "367", "chapter": "130732", "subset": "test-other", "sex": "M"},
    }
    inner = listed(tmp_path / "test-other")
    assert [dict(row.labels)["sex"] for row in inner.rows] == ["M"]


def test_fsdd_and_a_stray_file(tmp_path):
    names = [f"recordings/{digit}_{speaker}_{take}.wav" for digit in "07" for speaker in ("ann", "bob") for take in
             (0, 4, 5)]  # fmt: skip
    touch(tmp_path, *names, "recordings/noise.wav")
    listing = listed(tmp_path)
    assert (listing.layout, listing.factors, listing.group) == ("fsdd", ("digit", "speaker"), "speaker")
    found = by_name(listing, tmp_path)
    assert set(found) == {*names, "recordings/noise.wav"}
    assert found["recordings/7_bob_5.wav"] == {"digit": "7", "speaker": "bob", "take": "5", "part": "train"}
    assert found["recordings/7_bob_4.wav"]["part"] == "test"
    assert set(found["recordings/noise.wav"].values()) == {""}
    assert [fault.path.name for fault in listing.remarks] == ["noise.wav"]


def test_esc_in_its_three_forms(tmp_path):
    touch(tmp_path / "ten", "rain/1-17367-A.ogg", "dog_bark/2-4-B.ogg")
    listing = listed(tmp_path / "ten")
    assert (listing.layout, listing.factors, listing.group) == ("esc", ("class", "fold"), "fold")
    assert by_name(listing, tmp_path / "ten") == {
        "rain/1-17367-A.ogg": {"class": "rain", "fold": "1", "source": "17367"},
        "dog_bark/2-4-B.ogg": {"class": "dog_bark", "fold": "2", "source": "4"},
    }
    touch(tmp_path / "fifty", "audio/1-100032-A-0.wav", "audio/5-9-A-10.wav")
    assert {row.labels["class"] for row in listed(tmp_path / "fifty").rows} == {"0", "10"}
    rows = ["1-100032-A-0.wav", "1", "0", "dog"], ["5-9-A-10.wav", "5", "10", "rain"]
    table(tmp_path / "fifty" / "meta" / "esc50.csv", ["filename", "fold", "target", "category"], *rows)
    for root in (tmp_path / "fifty", tmp_path / "fifty" / "audio"):
        assert [row.labels["class"] for row in listed(root).rows] == ["dog", "rain"]


def test_a_table_of_esc_with_other_columns_is_told(tmp_path):
    touch(tmp_path, "audio/1-100032-A-0.wav")
    table(tmp_path / "meta" / "esc50.csv", ["File", "Class"], ["1-100032-A-0.wav", "dog"])
    assert [row.labels["class"] for row in listed(tmp_path).rows] == ["dog"]
    table(tmp_path / "meta" / "esc50.csv", ["file", "target"], ["1-100032-A-0.wav", "0"])
    with pytest.raises(ValueError, match=r"esc50.csv' has the columns file, target, and none called label"):
        listed(tmp_path)


def common_voice(root):
    touch(root, "clips/a.mp3", "clips/b.mp3", "clips/c.mp3")
    heading = ["client_id", "path", "sentence", "age", "gender", "accents", "locale"]
    rows = {
        "a": ["ann", "a.mp3", 'He said: "go', "twenties", "female", "", "en"],
        "b": ["bob", "b", "it's, fine", "", "male", "us", "en"],
        "c": ["cec", "c.mp3", "x", "fifties", "male", "us", "en"],
    }
    for part, clips in {"validated": "ab", "train": "a", "test": "b", "other": "c"}.items():
        lines = ["\t".join(row) for row in (heading, *(rows[clip] for clip in clips))]
        (root / f"{part}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_common_voice(tmp_path):
    common_voice(tmp_path)
    listing = listed(tmp_path)
    assert (listing.layout, listing.group) == ("common-voice", "speaker")
    assert set(listing.factors) == {"speaker", "part", "accent", "age", "gender"}
    found = by_name(listing, tmp_path)
    assert found["clips/b.mp3"] == {
        "speaker": "bob", "part": "test", "accent": "us", "age": "", "gender": "male", "locale": "en"
    }  # fmt: skip
    assert set(found) == {"clips/a.mp3", "clips/b.mp3"}
    assert set(by_name(listed(tmp_path, subset="other"), tmp_path)) == {"clips/c.mp3"}
    (tmp_path / "validated.tsv").unlink()
    assert set(by_name(listed(tmp_path), tmp_path)) == {"clips/a.mp3", "clips/b.mp3"}
    with pytest.raises(ValueError, match=r"no table dev with clips: choose a --subset of other, test, train"):
        listed(tmp_path, subset="dev")


def test_a_table_of_common_voice_may_be_empty(tmp_path):
    common_voice(tmp_path)
    heading = (tmp_path / "test.tsv").read_text().partition("\n")[0]
    (tmp_path / "dev.tsv").write_text(f"{heading}\n")
    assert set(by_name(listed(tmp_path), tmp_path)) == {"clips/a.mp3", "clips/b.mp3"}


def test_recordings_named_by_their_day_are_not_those_of_a_corpus(tmp_path):
    touch(tmp_path, "gy6or6/2012-03-24.wav", "bk1/2012-03-25.wav")
    assert (listed(tmp_path).layout, listed(tmp_path).factors) == ("folder", ("label",))


def test_hints_that_a_layout_does_not_use_are_refused(tmp_path):
    touch(tmp_path, "x/a.wav", "y/b.wav")
    table(tmp_path / "m.csv", ["path", "label"], ["a.wav", "x"])
    for root, layout, hints, reason in (
        ("m.csv", "auto", {"subset": "train"}, "--subset train: the layout 'manifest' has no subsets"),
        (".", "auto", {"subset": "train"}, "--subset train: the layout 'folder' has no subsets"),
        (".", "folder", {"annotations": "notmat"}, "--annotations notmat: the layout 'folder' has no annotations"),
        ("m.csv", "auto", {"annotations": "csv"}, "--annotations csv: the layout 'manifest' has no annotations"),
        (".", "auto", {"annotations": "csv"}, "has none of segments.csv"),
    ):
        with pytest.raises(ValueError, match=reason):
            listed(tmp_path / root, layout, **hints)


@pytest.mark.parametrize(
    ("folder", "layout", "clips", "group", "factors"),
    [
        ("fsdd", "fsdd", 2000, "speaker", ("digit", "speaker")),
        ("esc10", "esc", 158, "fold", ("class", "fold")),
        ("librispeech", "librispeech", 110, "speaker", ("speaker", "subset", "sex")),
        ("bengalese_finch", "segments", 14, "individual", ()),
        ("speech_phones", "segments", 19, "speaker", ("speaker",)),
        ("zebra_finch", "segments", 26, "individual", ("individual",)),
        ("canary", "segments", 4, "individual", ("individual",)),
        ("vctk/files.csv", "manifest", 30, "speaker", ("speaker", "sex", "sentence")),
    ],
)
def test_real_corpora(folder, layout, clips, group, factors, shared_data):
    listing = listed(shared_data / folder)
    assert (listing.layout, len(listing.rows), listing.group) == (layout, clips, group)
    assert set(listing.factors) == set(factors)


def test_real_files_are_described_by_their_table(shared_data):
    speakers = [row.labels["speaker"] for row in listed(shared_data / "speech_phones").rows]
    assert len(speakers) == 19 and set(speakers) == {"spk1", "spk2", "4051", "4397", "5678", "slt", "aew", "axb"}
    sets = {row.labels["set"] for row in listed(shared_data / "zebra_finch").rows}
    assert sets == {"das_male", "adults", "juveniles"}


@pytest.mark.parametrize("layout", ["fsdd", "esc", "librispeech"])
def test_real_labels_are_those_of_the_description(layout, shared_data):
    folder = shared_data / {"esc": "esc10"}.get(layout, layout)
    listing = listed(folder, layout)
    with open(folder / "files.csv", newline="") as file:
        expected = {row["file"]: row for row in csv.DictReader(file)}
    found = by_name(listing, folder)
    assert set(found) == set(expected)
    known = {"part": "official_split", "take": "index"}
    for name, labels in found.items():
        for label, value in labels.items():
            column = known.get(label, label)
            assert column not in expected[name] or value == expected[name][column]


def test_real_songs_have_the_segments_of_the_table(shared_data):
    by_table = listed(shared_data / "bengalese_finch")
    by_matlab = listed(shared_data / "bengalese_finch", annotations="notmat")
    assert sum(len(row.segments) for row in by_table.rows) == 799
    for one, other in zip(by_table.rows, by_matlab.rows, strict=True):
        assert one.path == other.path
        assert [label for *_, label in one.segments] == [label for *_, label in other.segments]
        times = [np.array([segment[:2] for segment in row.segments]) for row in (one, other)]
        np.testing.assert_allclose(times[0], times[1], rtol=0, atol=1e-6)


@given(some.lists(some.sampled_from(["x", "X", "x-1", "X-2", "y"]), max_size=8))
def test_files_of_the_same_name_are_told_apart_and_others_keep_theirs(stems):
    found = named([Path(str(at)) / f"{stem}.wav" for at, stem in enumerate(stems)])
    # On many a Mac and on Windows, x.wav and X.wav are one file.
    assert len({name.lower() for name in found}) == len(stems)
    alike = [stem.lower() for stem in stems]
    for stem, name in zip(stems, found, strict=True):
        assert name == stem if alike.count(stem.lower()) == 1 else name.startswith(f"{stem}-")
