"""`sonarium check`: contents of a folder, bad files with reasons, and an exit code that says if it is ready."""

import json

import numpy as np
import pytest
import soundfile

from sonarium.commands.check import main
from sonarium.commands.faults import UsageError
from sonarium.worlds.recordings import survey

RATE = 8_000


def write(path, seconds, seed, rate=RATE, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, (round(seconds * rate), channels))
    soundfile.write(path, samples, rate)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "sounds of birds"
    for seed in range(3):
        write(root / "tit" / f"{seed}.wav", 1 + seed, seed)
    write(root / "jay" / "a.flac", 3.0, 9, 16_000, 2)
    (root / "notes.txt").write_text("x")
    return root


@pytest.fixture
def check(tmp_path, capsys):
    def call(*words):
        code = 0
        try:
            main([*map(str, words), "--cache", str(tmp_path / "cache"), "--rate", "8000"])
        except SystemExit as stop:
            code = stop.code
        out, said = capsys.readouterr()
        assert said == ""
        return code, out

    return call


def test_everything_is_told_as_json(folder, check):
    code, out = check(folder, "--json")
    told = json.loads(out)
    assert code == 0
    cache = told.pop("cache")
    assert cache["bytes"] == 2 * RATE * 9
    assert cache["damage"] is None
    assert told.pop("hours") == pytest.approx(9 / 3600)
    groups = told.pop("groups")
    assert {name: sums["clips"] for name, sums in groups.items()} == {
        str(folder / name): 1 for name in ("tit/0.wav", "tit/1.wav", "tit/2.wav", "jay/a.flac")
    }
    assert told == {
        "path": str(folder), "layout": "folder", "ok": True, "refused": None, "files": 4, "clips": 4,
        "seconds": [1.0, 2.5, 3.0], "pieces": 6, "read": {},
        "rates": {"8000": 3, "16000": 1}, "channels": {"1": 3, "2": 1}, "formats": {"FLAC": 1, "WAV": 3},
        "labels": {"label": {"jay": 1, "tit": 3}}, "segments": {}, "group": "file", "bad_files": [],
        "bad_clips": [], "remarks": [], "duplicates": [], "leaks": [], "passed_over": {".txt": 1},
    }  # fmt: skip


def test_pieces_are_counted_in_samples(folder, check):
    _, out = check(folder, "--seconds", "0.2", "--json")
    # By division of floating-point numbers, a second holds only four of them.
    assert json.loads(out)["pieces"] == 5 + 10 + 15 + 15


def test_everything_is_told_in_words(folder, check):
    code, out = check("--group", "label", folder)
    assert code == 0
    for words in (
        f"{folder}: layout folder, 4 files, 4 clips",
        "0.003; clips last 1.00 to 3.00 s, median 2.50 s",
        "8000 Hz (3), 16000 Hz (1)",
        "label, 2 values: jay (1), tit (3)",
        "label, 2 groups: jay (1), tit (3)",
        ".txt (1)",
        "ready: 0 of 4 files bad (0.00%, allowed are 1.00%)",
    ):
        assert words in out


def test_bad_files_are_listed_with_their_reasons_and_the_exit_code_tells(folder, check):
    for number in range(15):
        (folder / f"bad {number}.wav").write_text("text")
    code, out = check(folder)
    assert code == 1
    for number in range(15):
        assert f"{folder / f'bad {number}.wav'} is not sound that can be read (Format not recognised)" in out
    assert "not ready: 15 of 19 files bad (78.95%, allowed are 1.00%): repair or remove them" in out
    code, out = check(folder, "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["files"], told["clips"], len(told["bad_files"])) == (1, False, 19, 4, 15)
    assert check(folder, "--bad-fraction", "0.8")[0] == 0


def test_nothing_but_bad_files_is_not_ready(tmp_path, check):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.wav").touch()
    code, out = check(tmp_path / "bad", "--bad-fraction", "1")
    assert code == 1
    assert "no clip is left" in out
    code, out = check(tmp_path / "bad", "--json", "--bad-fraction", "1")
    assert (code, json.loads(out)["seconds"]) == (1, [])


def test_the_same_recording_twice_is_told(folder, check):
    for name in ("tit/copy.wav", "jay/copy.wav"):
        (folder / name).write_bytes((folder / "tit" / "0.wav").read_bytes())
    names = sorted(str(folder / name) for name in ("tit/0.wav", "tit/copy.wav", "jay/copy.wav"))
    told = json.loads(check(folder, "--json", "--group", "label")[1])
    assert (told["duplicates"], told["leaks"]) == ([names], [names])
    told = json.loads(check(folder, "--json")[1])
    assert (told["duplicates"], told["leaks"]) == ([names], [])
    code, out = check(folder, "--group", "label")
    assert code == 1 and " = ".join(names) in out
    assert f"in several groups, which no two parts of a split may share: {names[0]}" in out
    assert "not ready" in out and "are the same recording (1 such)" in out


@pytest.mark.parametrize("group", ["who", "file"])
def test_it_is_not_ready_where_no_split_could_be_trusted(group, folder, tmp_path, check):
    """In each file two speakers alternate; the column `all` has a single group."""
    rows = [
        f"{path},{start},{start + 0.5},{'ab'[int(2 * start)]},x"
        for path in folder.rglob("*.wav")
        for start in (0, 0.5)
    ]
    (tmp_path / "turns.csv").write_text("\n".join(["path,start,stop,who,all", *rows]))
    code, out = check(tmp_path / "turns.csv", "--group", group, "--json")
    told = json.loads(out)
    assert code == (1 if group == "who" else 0) and told["ok"] == (code == 0)
    if code:
        assert len(told["leaks"]) == 3 and told["duplicates"] == []
        assert "are in the train and in the test split (3 such files)" in told["refused"]
        code, out = check(tmp_path / "turns.csv", "--group", "all")
        assert code == 1 and "not ready: 0 of 3 files bad" in out and "it has 1 group(s)" in out


def test_segments_and_remarks_are_told(tmp_path, check):
    for seed, name in enumerate("xy"):
        write(tmp_path / "song" / f"{name}.wav", 1.0, seed)
    (tmp_path / "song" / "segments.csv").write_text("file,onset,offset,label\nx.wav,0.1,0.2,a\nx.wav,0.5,0.4,b\n")
    code, out = check(tmp_path / "song")
    assert code == 0
    assert "1 with 1 labels: a (1)" in out
    assert "segment 'b' from 0.5 to 0.4 s has no length and is left out" in out


@pytest.mark.parametrize("gone", ["gone.wav,0.1,0.2,a", "gone.wav,0.2,0.1,a"])
def test_each_segment_or_not_the_same_files_are_bad(gone, tmp_path, check):
    song = tmp_path / "song"
    write(song / "x.wav", 1.0, 0)
    write(song / "unmarked.wav", 1.0, 1)
    (song / "segments.csv").write_text(f"file,onset,offset,label\nx.wav,0.1,0.2,a\n{gone}\n")
    for words in ([], ["--clip", "segment"]):
        code, out = check(song, "--json", *words)
        told = json.loads(out)
        assert (code, told["bad_files"]) == (1, [{"path": str(song / "gone.wav"), "reason": "does not exist"}])
    assert told["labels"] == {"label": {"a": 1}}


@pytest.mark.parametrize("words", [[], ["x", "--path", "y"]])
def test_one_folder_has_to_be_named(words):
    with pytest.raises(UsageError, match="check which recordings"):
        main(words)


def test_a_folder_that_is_not_there_is_told(check, tmp_path):
    with pytest.raises(ValueError, match="there is no folder or manifest"):
        check(tmp_path / "nothing")


def test_the_path_may_be_a_flag(folder, check):
    assert check("--path", folder)[0] == 0


def test_checking_first_makes_the_cache_for_training(folder, check, tmp_path, monkeypatch):
    check(folder)
    monkeypatch.setattr("sonarium.worlds.recordings.cache.build", lambda *_: pytest.fail("decoded again"))
    config = survey.RecordingsConfig(path=str(folder), cache=str(tmp_path / "cache"), rate=RATE)
    assert len(survey.survey(config).clips) == 4


def test_names_cannot_command_the_terminal(tmp_path, check):
    write(tmp_path / "song" / "red\x1b[31m\n.wav", 1.0, 0)
    write(tmp_path / "song" / "b.wav", 1.0, 1)
    (tmp_path / "song" / "bad\x1b]0;title\x07.wav").write_text("no sound")
    label = "\x1b[2Jwiped"
    (tmp_path / "song" / "segments.csv").write_text(f"file,onset,offset,label\nb.wav,0.1,0.2,{label}\n")
    out = check(tmp_path / "song", "--group", "file")[1]
    assert out.isascii() and out.replace("\n", "").isprintable()
    assert r"bad\x1b]0;title\x07.wav is not sound" in out and r"\x1b[2Jwiped (1)" in out


def test_blanks_and_silence_are_told_by_name(tmp_path, check):
    write(tmp_path / "song" / "x.wav", 1.0, 0)
    write(tmp_path / "song" / "y.wav", 1.0, 1)
    rows = [f"x.wav,{at / 10},{at / 10 + 0.1},{label}" for at, label in enumerate(["", "a", "", "SIL", "a", "h#"])]
    (tmp_path / "song" / "segments.csv").write_text("\n".join(["file,onset,offset,label", *rows]))
    out = check(tmp_path / "song")[1]
    assert '6 with 4 labels: "" (2), SIL (1), a (2), h# (1)' in out
    assert '"" (2): blank, which is no label: taken as unmarked' in out
    assert "SIL (1), h# (1): labels like all others" in out


def test_what_is_read_and_what_is_passed_over_is_told(tmp_path, check):
    song = tmp_path / "song"
    for seed, name in enumerate("xy"):
        write(song / f"{name}.wav", 1.0, seed)
        (song / f"{name}.json").write_text('{"onset": [0.1], "offset": [0.2], "cluster": ["a"], "sr": 8000}')
    for name in ("notes.md", "labels.TextGrid"):
        (song / name).write_text("x")
    code, out = check(song)
    assert code == 0 and "2 with 1 labels: a (2)" in out and "labels from .json (2)" in out
    assert ".textgrid (1): labels or segments in them are not read; --annotations" in out
    assert ".md (1): no sound" in out
    (song / "segments.csv").write_text("file,onset,offset,label\nx.wav,0.1,0.2,b\n")
    code, out = check(song)
    assert code == 0 and "1 with 1 labels: b (1)" in out and "labels from .csv (1)" in out
    assert ".json (2): segments, for which those of .csv stand: --annotations can choose" in out
    assert "2 with 1 labels: a (2)" in check(song, "--annotations", "sidecar")[1]


def test_real_corpora(shared_data, tmp_path, check):
    code, out = check(shared_data / "bengalese_finch", "--json")
    told = json.loads(out)
    assert (code, told["files"], sum(told["segments"].values()), told["rates"]) == (0, 14, 799, {"32000": 14})
    assert told["hours"] == pytest.approx(128.3 / 3600, rel=1e-3)
    # There is one bird, so the groups of the split are songs.
    assert told["group"] == "file" and len(told["groups"]) == 14
    # Counts of its README.
    told = json.loads(check(shared_data / "zebra_finch" / "adults", "--json")[1])
    assert (told["segments"], told["read"]) == ({"zebra_finch_0": 63 + 45 + 136}, {".json": 13})
    told = json.loads(check(shared_data / "librispeech", "--json")[1])
    assert (told["files"], told["layout"], len(told["groups"])) == (110, "librispeech", 47)
