"""Recordings that change, have undecodable names or are too short: no leak, and nothing goes unreported."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from corpus import RATE, SMALL, TINY, WORDS, write_corpus
from worlds.recordings.noises import write

from sonarium.__main__ import dispatch


@pytest.fixture(autouse=True)
def plainly(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sonarium.runs.train.present", lambda *_: None)


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


def test_recordings_that_were_moved_are_found_again(speech, tmp_path):
    run, there, here = tmp_path / "run", tmp_path / "there", tmp_path / "here"
    speech.rename(there)
    train(there, run)
    there.rename(here)
    said = "if it was moved, write its new path in '.*run.config.json'"
    with pytest.raises(ValueError, match=said):
        dispatch(["score", str(run)])
    with pytest.raises(ValueError, match=said):
        train(there, run, "--steps", 3)
    for wrong in (run, tmp_path / "new"):
        with pytest.raises(ValueError, match="there is no folder or manifest") as caught:
            train(tmp_path / "nowhere", wrong)
        assert "moved" not in str(caught.value)
    # The path is ignored only where nothing is any more, and only for the same recordings.
    other = tmp_path / "other"
    shutil.copytree(here, other)
    write(other / WORDS[0] / "aaron_1.wav", 0.5, seed=99)
    with pytest.raises(ValueError, match=r"does not hold the recordings that '.*run' began with"):
        train(other, run, "--steps", 3)
    train(here, run, "--steps", 3)
    dispatch(["score", str(run)])
    here.rename(there)
    config = json.loads((run / "config.json").read_text())
    assert config["source"]["config"]["path"] == str(here)
    config["source"]["config"]["path"] = str(there)
    (run / "config.json").write_text(json.dumps(config))
    train(there, run, "--steps", 4)
    shutil.copytree(there, here)
    with pytest.raises(ValueError, match=r"source.config.path: .* in the folder, .* now"):
        train(here, run, "--steps", 5)


def test_groups_to_judge_on_can_be_named(speech, tmp_path, capsys):
    names = sorted({path.stem.split("_")[0] for path in speech.rglob("*.wav")})
    train(speech, tmp_path / "run", "--test-groups", names[0], names[1], "--validation-groups", names[2])
    told = json.loads((tmp_path / "run" / "split.json").read_text())
    assert (told["test"]["groups"], told["validation"]["groups"]) == (names[:2], names[2:3])
    assert f"test {len(told['test']['clips'])} clips of 2" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no speaker is called 'nobody'"):
        train(speech, tmp_path / "other", "--test-groups", "nobody")
    assert not (tmp_path / "other").exists()


def test_all_sound_can_be_heard_and_still_be_judged_by_group(speech, tmp_path, capsys, monkeypatch):
    heard = []
    monkeypatch.setattr("sonarium.runs.train.fit", lambda _, source, *rest: heard.append(source.index))
    for hear in ("train", "all"):
        train(speech, tmp_path / hear, "--train-on", hear)
    told = [json.loads((tmp_path / hear / "split.json").read_text()) for hear in ("train", "all")]
    assert told[0] == told[1]
    sides = [len(told[0][name]["clips"]) for name in ("train", "validation", "test")]
    assert [len(portions.unique()) for portions in heard] == [sides[0], sum(sides)]
    said = capsys.readouterr().err.splitlines()
    assert [
        "trained on the sound of all splits, without labels" in line for line in said if "split by" in line
    ] == [False, True]


def test_what_was_heard_is_told_with_the_scores(speech, tmp_path):
    train(speech, tmp_path / "run", "--train-on", "all")
    dispatch(["score", str(tmp_path / "run")])
    told = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert told["split"].endswith("; trained on the sound of all splits, without labels")


def test_one_recording_alone_can_be_learnt_from(tmp_path, capsys):
    bird = tmp_path / "alone" / "ba" / "ann_0.wav"
    write(bird, 2.0)
    with pytest.raises(ValueError, match="or --test 0, which trains on all clips and evaluates nothing"):
        train(tmp_path / "alone", tmp_path / "run", "--batch-size", 2)
    train(tmp_path / "alone", tmp_path / "run", "--batch-size", 2, "--test", 0)
    told = capsys.readouterr()
    assert "train 1 clips of 1, 0.00 h; there is no test split" in told.err and "score" not in told.out
    with pytest.raises(ValueError, match=r"no test split \(--test 0\): there is nothing to score"):
        dispatch(["score", str(tmp_path / "run")])
    dispatch(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    assert "there is no test split (--test 0)" in page and "not scored yet" not in page
    dispatch(["encode", str(tmp_path / "run"), str(bird.parent), "--out", str(tmp_path / "codes.npz")])


def test_who_speaks_is_a_label_of_the_clips_by_name_or_number(speech, tmp_path, capsys):
    for wrong in (2, -1, "singer"):
        with pytest.raises(
            ValueError, match=rf"--speaker {wrong}: the labels of these clips are word \(0\), speaker \(1\)"
        ):
            train(speech, tmp_path / "run", "--speaker", wrong, "--from-speaker", 4)
    assert not (tmp_path / "run").exists()
    for which in ("speaker", 1):
        train(speech, tmp_path / "run", "--speaker", which, "--from-speaker", 4)
        assert "are clips with the same speaker" in capsys.readouterr().err


def test_clips_of_nobody_are_told_and_are_nobodys_negatives(speech, tmp_path, capsys):
    files = sorted(speech.rglob("*.wav"))
    with open(speech / "manifest.csv", "w", newline="") as manifest:
        rows = csv.writer(manifest)
        rows.writerow(["path", "speaker"])
        rows.writerows(
            [path.relative_to(speech), path.stem.split("_")[0] if at % 3 else ""] for at, path in enumerate(files)
        )
    words = ["--path", str(speech / "manifest.csv"), "--rate", str(RATE), "--seconds", "0.4"]
    dispatch(["check", *words[1:2], *words[2:]])
    said = capsys.readouterr().out
    assert "speaker, 6 values: ann (" in said and f"; {len(files) // 3} clips unlabelled" in said
    with pytest.raises(ValueError, match="--speaker speaker: some clips have no speaker, and would count as one"):
        dispatch(
            [
                "train",
                "cpc",
                "--world",
                "recordings",
                *words,
                *TINY,
                "--run",
                str(tmp_path / "run"),
                "--speaker",
                "speaker",
                "--from-speaker",
                "4",
            ]
        )
    assert not (tmp_path / "run").exists()


def test_a_cosine_ends_with_the_training(speech, tmp_path):
    words = ["--schedule", "cosine", "--warmup-steps", 2]
    train(speech, tmp_path / "run", *words, "--steps", 4)
    told = json.loads((tmp_path / "run" / "config.json").read_text())
    assert told["model"]["config"]["schedule"]["decay_steps"] == 4
    with pytest.raises(ValueError, match=r"decay_steps: 4 in the folder, 8 now\): .* --start-from"):
        train(speech, tmp_path / "run", *words, "--steps", 8)
    # Its warm-up is a tenth of the training.
    train(speech, tmp_path / "short", "--schedule", "cosine", "--steps", 4)
    with pytest.raises(ValueError, match=r"schedule ends at another step .*warmup_steps: 0 in the folder, 1 now"):
        train(speech, tmp_path / "short", "--schedule", "cosine", "--steps", 12)
    train(speech, tmp_path / "run", *words, "--steps", 8, "--decay-steps", 4)


def test_causes_of_rendered_clips_may_stand_for_the_speaker(tmp_path, capsys):
    words = "--frequencies 4 --amplitudes 4 --speaker 0 --from-speaker 4 --from-batch 0 --from-sequence 0".split()
    dispatch(["train", "cpc", "--world", "tones", "--run", str(tmp_path / "run"), "--steps", "2", *words, *TINY])
    assert "step 2" in capsys.readouterr().out


def test_clips_that_teach_nothing_are_told_or_refused(tmp_path, capsys):
    for seed in range(8):
        write(tmp_path / "short" / "ba" / f"ann_{seed}.wav", 0.021, seed=seed)
    with pytest.raises(ValueError, match=r"all \d training clips are too short: a frame comes every 0.02 s"):
        train(tmp_path / "short", tmp_path / "run", "--group", "file", "--batch-size", 2)
    assert not (tmp_path / "run").exists()
    for seed in range(8, 20):
        write(tmp_path / "short" / "ba" / f"ann_{seed}.wav", 0.5, seed=seed)
    train(tmp_path / "short", tmp_path / "run", "--group", "file", "--batch-size", 2)
    assert "training clips are too short for two frames and add no loss" in capsys.readouterr().err


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


def test_a_batch_is_no_larger_than_the_pieces_there_are(tmp_path, capsys):
    for seed in range(4):
        write(tmp_path / "bird" / f"{seed}.wav", 2.0, seed=seed)
    given = ["--path", tmp_path / "bird", "--rate", RATE, "--seconds", 0.5, *TINY, "--run", tmp_path / "run"]
    words = ["train", "cpc", *map(str, given), "--batch-size", "64", "--test", "0"]
    said = "batch size 16 in place of 64: there are 16 pieces of 0.5 s (of 4 clips) to train on"
    dispatch([*words, "--steps", "1"])
    assert said in capsys.readouterr().err
    dispatch([*words, "--steps", "2"])
    assert said in capsys.readouterr().err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["source"]["world"] == "recordings" and config["source"]["clips"]["batch_size"] == 16


def test_a_piece_beyond_the_memory_is_refused_before_anything_is_written(speech, tmp_path):
    with pytest.raises(ValueError, match=r"a batch of 8 pieces of 6,912,000,000 samples takes 221 GB"):
        train(speech, tmp_path / "run", "--rate", 192000, "--seconds", 36000)
    assert not (tmp_path / "run").exists()


def test_where_memory_ends_before_the_first_checkpoint_no_folder_stays(speech, tmp_path, monkeypatch):
    def exhausted(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("sonarium.models.cpc.cpc.CPC.update", exhausted)
        with pytest.raises(MemoryError):
            train(speech, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(speech, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("sonarium.models.cpc.cpc.CPC.update", exhausted)
        with pytest.raises(MemoryError):
            train(speech, tmp_path / "run", "--steps", 3)
    assert (tmp_path / "run" / "checkpoints" / "step-2").is_dir()


def test_the_untrained_model_is_saved_by_no_steps_and_can_be_trained_later(speech, tmp_path, capsys):
    train(speech, tmp_path / "straight")
    train(speech, tmp_path / "run", "--steps", 0)
    assert "step 0: the untrained model is saved" in capsys.readouterr().out
    dispatch(["score", str(tmp_path / "run"), "--json"])
    [found] = json.loads(capsys.readouterr().out)["runs"]
    # Codes of an untrained model, like those of the control, up to the seed of the weights.
    assert found["step"] == 0 and found["scores"].keys() == found["controls"]["random"].keys()
    dispatch(["encode", str(tmp_path / "run"), str(speech / WORDS[0]), "--out", str(tmp_path / "codes.npz")])
    dispatch(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")])
    assert "untrained" in (tmp_path / "page.html").read_text()
    train(speech, tmp_path / "run")
    straight, later = (
        (tmp_path / name / "checkpoints" / "step-2" / "weights.safetensors").read_bytes()
        for name in ("straight", "run")
    )
    assert straight == later
