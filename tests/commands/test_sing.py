"""Generated songs and development on the command line, on birds so small that each verb takes about a second."""

import json

import numpy as np
import pytest
import soundfile

from sonarium.__main__ import dispatch
from sonarium.commands.faults import UsageError
from sonarium.report.album import read_index

BIRD = "--world songbird --birds 1 --songs 5 --shortest 3 --longest 5".split()
FRONT = "--seconds 0.064 --fft 256 --hop 64 --mels 0 --network dense --latent 4 --test 0.2".split()


def read(capsys, *words):
    capsys.readouterr()
    dispatch([*map(str, words), "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonarium.runs.train.present", lambda *_: None)
        days = ["--days", "60", "90"]
        dispatch(["train", "vae", *BIRD, *days, *FRONT, "--steps", "20", "--run", str(folder / "vae")])
        below = ["--codes", str(folder / "vae"), "--steps", "2"]
        dispatch(["train", "hmm", *below, "--states", "4", "--run", str(folder / "hmm")])
        dispatch(["train", "gru", *below, "--units", "8", "--run", str(folder / "gru")])
    dispatch(["make", *BIRD[1:], "--out", str(folder / "songs")])
    return folder


@pytest.mark.parametrize("model", ["hmm", "gru"])
def test_a_model_of_sequences_sings(model, runs, tmp_path, capsys):
    words = ("sing", runs / model, "--seconds", 0.7, "--temperature", 0.8)
    found = read(capsys, *words, "--out", tmp_path / "song.wav")
    assert found == {
        "out": str(tmp_path / "song.wav"), "songs": 1, "seconds": 0.7, "rate": 16_000, "temperature": 0.8,
        "against": None,
    }  # fmt: skip
    wave, rate = soundfile.read(tmp_path / "song.wav", dtype="float32")
    assert rate == 16_000 and len(wave) == 11_200 and np.isfinite(wave).all() and wave.std() > 0
    read(capsys, *words, "--out", tmp_path / "again.wav")
    # The rounding of a Fourier transform depends on the alignment of its memory.
    again, _ = soundfile.read(tmp_path / "again.wav", dtype="float32")
    np.testing.assert_allclose(again, wave, rtol=0, atol=4 / 2**15)
    read(capsys, *words, "--seed", 1, "--out", tmp_path / "other.wav")
    other, _ = soundfile.read(tmp_path / "other.wav", dtype="float32")
    assert np.abs(other - wave).max() > 0.01


def test_songs_are_compared_with_recordings(runs, tmp_path, capsys):
    words = ("sing", runs / "hmm", "--seconds", 0.8, "--count", 4, "--against", runs / "songs" / "clips")
    found = read(capsys, *words, "--out", tmp_path / "songs")
    assert len(list((tmp_path / "songs").iterdir())) == 4
    measures = found["against"]["measures"]
    assert all(one.keys() == {"value", "floor"} for one in measures.values())
    assert measures["kernel_distance"]["value"] > measures["kernel_distance"]["floor"]
    assert "log-mel" in found["against"]["embedding"]
    dispatch([str(word) for word in (*words, "--out", tmp_path / "more")])
    assert "KAD" in capsys.readouterr().out


def test_what_cannot_sing_is_refused_in_one_line(runs, tmp_path):
    hmm, out = str(runs / "hmm"), str(tmp_path / "x.wav")
    for words, error, said in (
        ([str(runs / "vae"), "--out", out], ValueError, "draws no sequences"),
        ([hmm, "--out", out, "--best"], ValueError, "has no best weights"),
        ([hmm, "--out", "x.mp3"], UsageError, "does not end in .wav"),
        ([hmm, "--out", out, "--count", "2"], UsageError, "need a folder"),
        ([hmm, "--out", out, "--against", str(runs)], UsageError, "compares 4 songs or more"),
        ([hmm, "--out", str(runs), "--count", "2"], ValueError, "not an empty folder"),
        ([hmm, "--out", out, "--temperature", "0"], UsageError, "--temperature 0"),
    ):
        with pytest.raises(error, match=said) as refused:
            dispatch(["sing", *words])
        assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_codes_that_nothing_decodes_are_refused(runs, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonarium.runs.train.present", lambda *_: None)
        # The posteriors of a hidden Markov model are codes, too.
        words = f"train gru --units 4 --steps 1 --codes {runs / 'hmm'} --run {tmp_path / 'gru'}"
        dispatch(words.split())
    with pytest.raises(ValueError, match="holds a hmm of codes, which cannot decode codes to sound"):
        dispatch(["sing", str(tmp_path / "gru"), "--out", str(tmp_path / "x.wav")])


DEVELOP = "--states 3 --bootstrap 3".split()


def test_development_of_a_world_is_told_and_drawn(tmp_path, capsys):
    words = [
        "develop",
        *BIRD,
        "--days",
        "45",
        "90",
        "--labels",
        "--bootstrap",
        "3",
        "--out",
        str(tmp_path / "out"),
    ]
    found = read(capsys, *words)
    assert (
        found["unit"] == "syllables" and json.loads((tmp_path / "out" / "development.json").read_text()) == found
    )
    [bird] = found["birds"]
    assert [day["day"] for day in bird["days"]] == ["day 45", "day 90", "tutor"] and bird["reference"] == "tutor"
    early, late, tutor = bird["days"]
    for part in ("spectrum", "timing", "total"):
        assert early["parts"][part]["value"] > late["parts"][part]["value"] > tutor["parts"][part]["value"] - 1e-3
    assert early["parts"]["spectrum"]["low"] is not None and tutor["parts"]["spectrum"]["low"] is None
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "development.json", "development-1.png", "grammar-1.png",
    }  # fmt: skip
    with pytest.raises(ValueError, match="not an empty folder"):
        dispatch(words)


def test_development_of_a_run_is_on_its_page(runs, tmp_path, capsys):
    dispatch(["develop", str(runs / "vae"), *DEVELOP])
    told = capsys.readouterr().out
    assert "day 60" in told and "floor" in told and "bits a syllable" in told
    assert [medium.group for medium in read_index(runs / "vae" / "media")] == ["development/1"] * 2
    dispatch(["report", str(runs / "vae"), "--out", str(tmp_path / "page.html")])
    assert "Development by day" in (tmp_path / "page.html").read_text()


def test_frames_of_codes_are_compared_where_no_syllables_are(runs, capsys):
    found = read(capsys, "develop", runs / "vae", "--unit", "frames", *DEVELOP)
    assert found["unit"] == "frames" and len(found["birds"][0]["days"]) == 3


def test_what_does_not_develop_is_refused_in_one_line(runs):
    for words, error, said in (
        ([], UsageError, "give the folder of a run, or a world"),
        ([str(runs / "vae"), "--world", "songbird"], UsageError, "give the folder of a run, or a world"),
        (BIRD, ValueError, "no category 'day'"),
        (["--world", "digits"], UsageError, "has no sound"),
        (["--world", "nothing"], UsageError, "nothing"),
        ([*BIRD, "--days", "90", "45"], UsageError, "rising order"),
        ([*BIRD, "--days", "45", "90", "--states", "900"], ValueError, "give no more states"),
        ([*BIRD, "--days", "45", "90", "--reference", "day 7"], ValueError, "choose one of day 45, day 90, tutor"),
    ):
        with pytest.raises(error, match=said) as refused:
            dispatch(["develop", *words])
        assert "\n" not in str(refused.value)
