"""Recordings that change, whose names are no text, that are too short: no leak, and no silence."""

import csv
import json
import os
from pathlib import Path

import pytest
from corpus import SMALL, TINY, WORDS, write_corpus
from noises import write

from sonarium.__main__ import dispatch


@pytest.fixture(autouse=True)
def plainly(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sonarium.commands.train.present", lambda *_: None)


@pytest.fixture
def speech(tmp_path) -> Path:
    return write_corpus(tmp_path / "speech")


def train(folder: Path, run: Path, *words: object) -> None:
    given = ["--path", folder, *SMALL, *TINY, "--run", run, "--steps", 2, *words]
    dispatch(["train", "cpc", "--world", "recordings", *map(str, given)])


def test_a_run_goes_on_with_the_recordings_that_it_began_with(speech, tmp_path):
    run = tmp_path / "run"
    train(speech, run)
    told = json.loads((run / "split.json").read_text())
    sides = [set(told[name]["groups"]) for name in ("train", "validation", "test")]
    assert told["group"] == "speaker" and not sides[0] & sides[2] and sides[1] == set()
    train(speech, run, "--steps", 3)
    new = speech / WORDS[0] / "aaron_1.wav"
    write(new, 0.5, seed=99)
    said = (
        r"does not hold the recordings that '.*run' began with: 1 clip\(s\) came, 0 went, \d+ would lie in another"
    )
    with pytest.raises(ValueError, match=said):
        train(speech, run, "--steps", 4)
    with pytest.raises(ValueError, match=said):
        dispatch(["score", str(run)])
    new.unlink()
    train(speech, run, "--steps", 4)
    (run / "split.json").write_text("{}")
    with pytest.raises(ValueError, match=r"split.json' is damaged: restore it"):
        dispatch(["score", str(run)])


def test_groups_to_judge_on_can_be_named(speech, tmp_path, capsys):
    names = sorted({path.stem.split("_")[0] for path in speech.rglob("*.wav")})
    train(speech, tmp_path / "run", "--test-groups", names[0], names[1], "--validation-groups", names[2])
    told = json.loads((tmp_path / "run" / "split.json").read_text())
    assert (told["test"]["groups"], told["validation"]["groups"]) == (names[:2], names[2:3])
    assert f"test {len(told['test']['clips'])} clips of 2" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no speaker is called 'nobody'"):
        train(speech, tmp_path / "other", "--test-groups", "nobody")
    assert not (tmp_path / "other").exists()


def test_the_number_of_the_speaker_is_a_label_of_the_clips(speech, tmp_path, capsys):
    for number in (2, -1):
        with pytest.raises(
            ValueError, match=f"--speaker {number}: the labels of these clips are 0 word, 1 speaker"
        ):
            train(speech, tmp_path / "run", "--speaker", number, "--from-speaker", 4)
    assert not (tmp_path / "run").exists()
    train(speech, tmp_path / "run", "--speaker", 1, "--from-speaker", 4)
    assert "are of the same speaker (of 0 word, 1 speaker)" in capsys.readouterr().err


def test_causes_of_rendered_clips_may_stand_for_the_speaker(tmp_path, capsys):
    words = "--frequencies 4 --amplitudes 4 --speaker 0 --from-speaker 4 --from-batch 0 --from-sequence 0".split()
    dispatch(["train", "cpc", "--world", "tones", "--run", str(tmp_path / "run"), "--steps", "2", *words, *TINY])
    assert "step 2" in capsys.readouterr().out


def test_clips_that_teach_nothing_are_told_or_refused(tmp_path, capsys):
    for seed in range(8):
        write(tmp_path / "short" / "ba" / f"ann_{seed}.wav", 0.021, seed=seed)
    with pytest.raises(ValueError, match=r"all \d clips to learn from are too short: a frame comes every 0.02 s"):
        train(tmp_path / "short", tmp_path / "run", "--group", "file", "--batch", 2)
    assert not (tmp_path / "run").exists()
    for seed in range(8, 20):
        write(tmp_path / "short" / "ba" / f"ann_{seed}.wav", 0.5, seed=seed)
    train(tmp_path / "short", tmp_path / "run", "--group", "file", "--batch", 2)
    assert "clips to learn from are too short for two frames, and teach nothing" in capsys.readouterr().err


def test_names_that_are_no_text_do_no_harm(speech, tmp_path, capsys):
    odd = Path(os.fsdecode(os.fsencode(speech / WORDS[0]) + b"/ann_b\xe4h.wav"))
    write(tmp_path / "plain.wav", 0.5, seed=5)
    (tmp_path / "plain.wav").rename(odd)
    train(speech, tmp_path / "run")
    dispatch(["score", str(tmp_path / "run")])
    for suffix in ("csv", "npz", "parquet"):
        if suffix == "parquet":
            pytest.importorskip("pyarrow")
        dispatch(["encode", str(tmp_path / "run"), str(odd), "--out", str(tmp_path / f"codes.{suffix}")])
    with open(tmp_path / "codes.csv", newline="") as file:
        assert next(iter(csv.DictReader(file)))["path"].endswith("ann_b?h.wav")
    dispatch(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").read_bytes().startswith(b"<!doctype html>")
