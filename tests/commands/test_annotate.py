"""`sonarium annotate`: folders of days annotated by clusters, like an earlier annotation, or from a few labels."""

import csv
import json

import numpy as np
import pytest
import soundfile

from sonarium.__main__ import dispatch
from sonarium.commands.faults import UsageError
from sonarium.worlds.recordings.layouts import Hints, list_clips

RATE = 16_000
NOTES = {"x": 1500, "y": 3000, "z": 6000}


def sing(path, order: str, seed: int) -> list[tuple[float, float, str]]:
    """Write a song with one tone per label; return (start, stop, label) of each tone."""
    rng, marks, at = np.random.default_rng(seed), [], 0.15
    for label in order:
        length = 0.06 + 0.01 * rng.random()
        marks.append((round(at, 3), round(at + length, 3), label))
        at += length + 0.04
    time = np.arange(round((at + 0.2) * RATE)) / RATE
    wave = 1e-3 * rng.standard_normal(len(time))
    for start, stop, label in marks:
        wave += 0.3 * np.sin(2 * np.pi * NOTES[label] * time) * ((time >= start) & (time < stop))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, RATE)
    return marks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two days of a bird, a day without song and with a corrupt file; and the true segments of each song."""
    root = tmp_path_factory.mktemp("annotate") / "songs"
    truth = {
        f"gy/{day}/{n}.wav": sing(root / "gy" / day / f"{n}.wav", "xyzxyzxyz", n)
        for day in ("day1", "day2")
        for n in (1, 2)
    }
    silence = 1e-3 * np.random.default_rng(5).standard_normal(RATE)
    (root / "gy" / "day3").mkdir()
    soundfile.write(root / "gy" / "day3" / "1.wav", silence, RATE)
    (root / "gy" / "day3" / "2.wav").write_bytes(b"RIFFnothing")
    return root, truth


def annotate(capsys, *words) -> dict:
    capsys.readouterr()
    dispatch(["annotate", *map(str, words), "--json"])
    return json.loads(capsys.readouterr().out)


def rows_of(out) -> list[dict[str, str]]:
    with (out / "segments.csv").open() as file:
        return list(csv.DictReader(file))


def test_clusters_then_the_same_labels_on_other_songs(folder, tmp_path, capsys):
    root, truth = folder
    told = annotate(capsys, root, "--out", tmp_path / "one", "--review", 2)
    assert told["syllables"] == 36 and told["labels"] == {"gy": {"a": 12, "b": 12, "c": 12}}
    assert told["remarks"][0].startswith(f"'{root}/gy/day3/2.wav' is ")
    assert told["remarks"][1:] == ["day 'day3' of bird 'gy' has no syllable in its 1 recording(s)"]
    named = {}
    for row, (start, stop, label) in zip(
        rows_of(tmp_path / "one"), [mark for marks in truth.values() for mark in marks], strict=True
    ):
        assert abs(float(row["onset"]) - start) < 0.01 and abs(float(row["offset"]) - stop) < 0.015
        assert named.setdefault(label, row["label"]) == row["label"]
    page = (tmp_path / "one" / "review.html").read_text()
    assert page.count("<audio") == 2 and "://" not in page
    later = annotate(capsys, root, "--out", tmp_path / "two", "--like", tmp_path / "one", "--review", 0)
    assert later["review"] is None
    assert [row["label"] for row in rows_of(tmp_path / "two")] == [
        row["label"] for row in rows_of(tmp_path / "one")
    ]
    with pytest.raises(ValueError, match="is already there: give another --out, or --replace"):
        annotate(capsys, root, "--out", tmp_path / "one")
    annotate(capsys, root, "--out", tmp_path / "one", "--replace", "--review", 0)


def test_a_few_labels_name_all_songs_and_are_kept(folder, tmp_path, capsys):
    root, truth = folder
    table = tmp_path / "few.csv"
    lines = [f"{name},{a},{b},{c}" for name in list(truth)[:1] for a, b, c in truth[name]]
    table.write_text("\n".join(["file,onset,offset,label", *lines]))
    told = annotate(capsys, root, "--out", tmp_path / "out", "--labels", table, "--to", "textgrid", "--review", 0)
    assert told["labels"] == {"gy": {"x": 12, "y": 12, "z": 12}}
    read = annotated(tmp_path / "out", root)
    assert list(read["gy/day1/1.wav"]) == truth["gy/day1/1.wav"]
    for name, marks in truth.items():
        assert [label for *_, label in read[name]] == [label for *_, label in marks]


def annotated(out, root) -> dict:
    """Annotations as they are read back, with their recordings copied next to them."""
    for path in root.rglob("*.wav"):
        (out / path.relative_to(root)).write_bytes(path.read_bytes())
    return {str(row.path.relative_to(out)): row.segments for row in list_clips(out, "auto", Hints()).rows}


FAULTS = {
    "gy/day1/1.wav,0.1,0.2,x\ngy/day1/1.wav,0.15,0.3,y": "'x' from 0.1 to 0.2 s and 'y' .* overlap",
    "gy/day1/1.wav,0.1,99,x": "from 0.1 to 99 s lies outside the recording, which lasts",
    'gy/day1/1.wav,0.1,0.2,""': "from 0.1 to 0.2 s has no label: name it",
    "gy/day1/1.wav,0.2,0.1,x": "has no length",
    "gy/day1/9.wav,0.1,0.2,x": "9.wav', which is no recording in",
}


@pytest.mark.parametrize("lines", FAULTS)
def test_faults_of_labels_are_told_and_nothing_is_written(folder, tmp_path, lines):
    (tmp_path / "few.csv").write_text(f"file,onset,offset,label\n{lines}\n")
    with pytest.raises(ValueError, match=FAULTS[lines]):
        dispatch(
            ["annotate", str(folder[0]), "--out", str(tmp_path / "out"), "--labels", str(tmp_path / "few.csv")]
        )
    assert not (tmp_path / "out").exists()


def test_contradictory_words_and_missing_folders(folder, tmp_path):
    root, out = str(folder[0]), ["--out", str(tmp_path / "out")]
    with pytest.raises(UsageError, match="give one of them"):
        dispatch(["annotate", root, *out, "--labels", "a.csv", "--like", "b"])
    with pytest.raises(UsageError, match="got 3 paths"):
        dispatch(["annotate", root, root, root, *out])
    with pytest.raises(ValueError, match="there is no folder"):
        dispatch(["annotate", str(tmp_path / "nowhere"), *out])
    with pytest.raises(ValueError, match="give the --out of an earlier annotation"):
        dispatch(["annotate", root, *out, "--like", str(tmp_path)])
    (tmp_path / "syllables.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is no repertoire that can be read"):
        dispatch(["annotate", root, *out, "--like", str(tmp_path)])
