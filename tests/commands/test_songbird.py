"""Songbirds on the command line: songs are written, resynthesised from gestures, and refused in one line."""

import csv
import json
import re

import numpy as np
import pytest
import soundfile

from sonarium.__main__ import dispatch
from sonarium.commands.faults import UsageError

SMALL = "--birds 1 --songs 2 --shortest 3 --longest 5".split()


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songbird") / "songs"
    dispatch(["make", "songbird", *SMALL, "--days", "45", "90", "--out", str(folder)])
    return folder


def test_songs_are_written_with_all_that_is_known(songs, capsys):
    about = json.loads((songs / "factors.json").read_text())
    assert [factor["name"] for factor in about["factors"]] == ["day"]
    assert [one["entropy_rate"] > 0 for one in about["grammars"]] == [True] * 3
    with (songs / "segments.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == {f"clips/{clip}.wav" for clip in range(6)}
    tracks = np.load(songs / "tracks" / "0.npy")
    assert tracks.shape[1] == 5 and soundfile.info(songs / "clips" / "0.wav").frames // 16 == len(tracks)


def test_a_song_is_sung_again(songs, tmp_path, capsys):
    clip, out, table = songs / "clips" / "0.wav", tmp_path / "again.wav", tmp_path / "gestures.csv"
    capsys.readouterr()
    dispatch(["gestures", str(clip), "--out", str(out), "--table", str(table), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["pitch_error"] < 0.03 and told["voiced"] > 0.2
    assert soundfile.info(out).frames == soundfile.info(clip).frames
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == pytest.approx(1000 * told["seconds"], abs=1)
    assert {float(row["pressure"]) for row in rows if float(row["envelope"]) == 0} >= {0.15}
    dispatch(["gestures", str(clip)])
    assert "pitch of the song sung again" in capsys.readouterr().out


def test_what_is_no_song_is_refused_in_one_line(songs, tmp_path):
    silent, short = tmp_path / "silent.wav", tmp_path / "short.wav"
    soundfile.write(silent, np.zeros(16_000), 16_000)
    soundfile.write(short, np.full(400, 0.1), 16_000)
    cases = {
        silent: "is silent",
        short: "lasts 0.025 s",
        songs / "segments.csv": "not sound",
        tmp_path / "no": "no",
    }
    for path, message in cases.items():
        with pytest.raises(ValueError, match=re.escape(message)) as refused:
            dispatch(["gestures", str(path)])
        assert path.name in str(refused.value)
    with pytest.raises(UsageError, match="is a folder"):
        dispatch(["gestures", str(songs)])
    with pytest.raises(UsageError, match=r"does not end in \.wav"):
        dispatch(["gestures", str(silent), "--out", "song.mp3"])
    with pytest.raises(UsageError, match="rising order"):
        dispatch(["make", "songbird", *SMALL, "--days", "90", "45", "--out", str(tmp_path / "new")])


def test_a_gan_learns_songs_and_whole_files_go_through_its_codes(songs, tmp_path, capsys):
    """Train on one day, then on another from its weights; reconstructions have the length of the song."""
    world = ["--world", "songbird", *SMALL, "--days", "45", "90", "--ngf", "2", "--ndf", "2"]
    common = ["train", "mrgan", *world, "--steps", "1", "--batch-size", "4", "--json"]
    first, second, out = tmp_path / "45", tmp_path / "90", tmp_path / "again"
    dispatch([*common, "--only", "day=45", "--run", str(first)])
    dispatch([*common, "--only", "day=90", "--start-from", str(first), "--run", str(second)])
    assert json.loads((second / "config.json").read_text())["loop"]["start_from"] == str(first)
    song, rate = soundfile.read(songs / "clips" / "0.wav")
    for phase in ("kept", "griffin-lim"):
        capsys.readouterr()
        given = ["--phase", phase, "--iterations", "2", "--out", str(out / phase), "--json"]
        dispatch(["reconstruct", str(second), str(songs / "clips" / "0.wav"), *given])
        assert json.loads(capsys.readouterr().out)["files"] == ["0.wav"]
        made, made_rate = soundfile.read(out / phase / "0.wav")
        assert made_rate == rate and made.shape == song.shape and np.isfinite(made).all() and made.any()
    dispatch(["sample", str(second), "--count", "2", "--out", str(tmp_path / "samples")])
    assert len(list((tmp_path / "samples").glob("*.wav"))) == 2
    with pytest.raises(ValueError, match="no day is called '46': choose one of tutor, day 45, day 90"):
        dispatch([*common, "--only", "day=46", "--run", str(tmp_path / "46")])
    assert not (tmp_path / "46").exists()
