"""Bad files of every kind are set aside with their reasons, and no good file is lost."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from worlds.recordings.noises import RATE, settings_for, whole, write

from sonarium.worlds.recordings.survey import survey
from sonarium.worlds.recordings.world import Recordings


def damage(root):
    """Write bad files of every kind, and return the expected reason for each."""
    write(root / "cut.wav")
    os.truncate(root / "cut.wav", 3000)
    write(root / "cut.flac", seconds=2)
    os.truncate(root / "cut.flac", 9000)
    write(root / "flipped.flac", seconds=2)
    content = bytearray((root / "flipped.flac").read_bytes())
    content[9000] ^= 0x10
    (root / "flipped.flac").write_bytes(content)
    write(root / "cut.ogg", seconds=2)
    os.truncate(root / "cut.ogg", 5000)
    write(root / "cut.mp3", seconds=2)
    os.truncate(root / "cut.mp3", 5000)
    (root / "empty.wav").touch()
    (root / "text.WAV").write_text("not sound\n" * 99)
    soundfile.write(root / "nan.wav", np.array([0.1] * 900 + [np.nan]), RATE, "FLOAT")
    soundfile.write(root / "silent.wav", np.zeros(900, np.float32), RATE)
    write(root / "short.wav", seconds=0.01)
    soundfile.write(root / "nothing.aiff", np.zeros(0, np.float32), RATE)
    (root / "dangling.wav").symlink_to(root / "nowhere")
    (root / "itself.wav").symlink_to("itself.wav")
    (root / "no rec.cbin").write_bytes(bytes(100))
    return {
        "cut.wav": "is cut short",
        "cut.flac": "is not sound that can be read",
        "flipped.flac": "",
        "cut.ogg": "is cut short",
        "cut.mp3": "is cut short",
        "empty.wav": "is empty",
        "text.WAV": "is not sound that can be read",
        "nan.wav": "NaN or infinite",
        "silent.wav": "is silent",
        "short.wav": "lasts 0.01 s, allowed are 0.02",
        "nothing.aiff": "holds no samples",
        "dangling.wav": "leads nowhere",
        "itself.wav": "leads nowhere",
        "no rec.cbin": "no .rec file",
    }


GOOD = (
    "plain.wav",
    "with space.WAV",
    "Ünïcödé 鳥.FLAC",
    "sub folder/song.Ogg",
    "loud.mp3",
    "new\nline.aiff",
    ".hid.wav",
)


def good_files(root):
    for seed, name in enumerate(GOOD):
        form = {"format": {".mp3": "MP3", ".Ogg": "OGG"}.get(Path(name).suffix)} if "." in name else {}
        write(root / name, 0.5, seed, **form)
    latin = os.fsdecode(os.fsencode(root) + b"/caf\xe9.wav")
    (root / "plain.wav").rename(latin)
    write(root / "plain.wav", 0.5, 99)
    (root / "link.wav").symlink_to(root / "plain.wav")
    return {*GOOD, "link.wav", Path(latin).name}


def test_exactly_the_good_files_survive(tmp_path):
    root = tmp_path / "sounds"
    good, reasons = good_files(root), damage(root)
    found = survey(settings_for(root))
    assert {clip.row.path.relative_to(root).as_posix() for clip in found.clips} == good
    told = {fault.path.name: fault.reason for fault in found.quarantine.faults}
    assert set(told) == set(reasons)
    for name, reason in reasons.items():
        assert reason in told[name]
    assert found.quarantine.files == len(good) + len(reasons)
    world = Recordings(settings_for(root, bad_fraction=1.0))
    assert {path.relative_to(root).as_posix() for path in world.paths} == good
    for path, samples, length in zip(world.paths, *whole(world), strict=True):
        with open(path, "rb") as file:
            expected = soundfile.read(file, dtype="float32")[0]
        assert int(length) == len(expected)
        # Lossy formats are decoded to more than 16 bits.
        np.testing.assert_allclose(samples[: int(length)], expected, rtol=0, atol=2e-5)
    world.quarantine.write(tmp_path)
    record = json.loads((tmp_path / "quarantine.json").read_text())
    assert record["files"] == len(good) + len(reasons)
    assert {Path(bad["path"]).name: bad["reason"] for bad in record["bad_files"]} == told


@pytest.mark.parametrize(("bad", "allowed"), [(1, True), (2, False)])
def test_too_many_bad_files_stop_everything_with_their_list(bad, allowed, tmp_path):
    root = tmp_path / "sounds"
    for number in range(100 - bad):
        write(root / f"{number}.wav", 0.1, number)
    for number in range(bad):
        (root / f"bad {number}.wav").write_text("text")
    if allowed:
        assert len(Recordings(settings_for(root))) == 99
        return
    with pytest.raises(ValueError, match=r"2 of 100 files .* are bad \(2.0%, allowed are 1.0%\): .*bad 0.*bad 1"):
        Recordings(settings_for(root))
    assert len(Recordings(settings_for(root, bad_fraction=0.02))) == 98


def test_nothing_but_bad_files_is_refused_whatever_is_allowed(tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "a.wav").touch()
    with pytest.raises(ValueError, match=r"has no sound that can be used: .*a.wav' is empty"):
        Recordings(settings_for(tmp_path / "sounds", bad_fraction=1.0))


def test_bad_files_and_bad_stretches_that_leave_nothing_are_refused_together(tmp_path):
    root = tmp_path / "sounds"
    write(root / "good.wav")
    write(root / "short.wav", seconds=0.01)
    (root / "manifest.csv").write_text("path,start,stop,class\ngood.wav,2,3,a\nshort.wav,0,1,b\n")
    with pytest.raises(ValueError, match=r"has no sound that can be used: .*short.wav.*good.wav"):
        Recordings(settings_for(root, bad_fraction=1.0))


def test_unknown_speakers_are_one_group_whatever_they_are_called(tmp_path):
    for name in "abc":
        write(tmp_path / f"{name}.wav", seed=ord(name))
    (tmp_path / "manifest.csv").write_text("path,speaker\na.wav,\nb.wav,unknown\nc.wav,\n")
    assert survey(settings_for(tmp_path)).group == "file"
