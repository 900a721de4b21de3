"""Export to folders of sound files: round trips, and no half-written folder passes for a complete one."""

import csv
import json

import numpy as np
import pytest
import soundfile
import torch
from full_disk import no_room_beyond
from worlds.recordings.noises import settings_for, write
from worlds.varied import Varied

from sonarium.worlds.export import save_audio
from sonarium.worlds.recordings.world import Recordings
from sonarium.worlds.tones.world import Tones, TonesConfig

WORLD = Tones(TonesConfig(rate=8000, seconds=0.05, highest=4000.0, frequencies=4, amplitudes=3), seed=0)
CLASSES = ["sine", "triangle", "sawtooth", "square"]


def test_a_full_disk_leaves_nothing(tmp_path):
    long = Tones(TonesConfig(seconds=0.2, frequencies=1, amplitudes=1), 0)
    with no_room_beyond(4096), pytest.raises(OSError, match=r"cannot write .*sounds.* \(File too large\)"):
        save_audio(long, tmp_path / "sounds")
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*choose a place that you may write to"):
        save_audio(WORLD, tmp_path / "file" / "sounds")


def test_an_interrupted_writing_leaves_nothing(tmp_path):
    def interrupt(*report) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_audio(WORLD, tmp_path / "sounds", progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_sounds_reads_back(tmp_path):
    save_audio(WORLD, tmp_path / "sounds")
    batch = WORLD.whole(torch.arange(48))
    with (tmp_path / "sounds" / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    about = json.loads((tmp_path / "sounds" / "factors.json").read_text())
    assert len(rows) == 48 and about["rate"] == 8000
    assert about["factors"][1]["values"] == list(WORLD.factors[1].values)
    for at in (0, 13, 47):
        samples, rate = soundfile.read(tmp_path / "sounds" / rows[at]["file"], dtype="float32")
        np.testing.assert_array_equal(samples, batch.signal[at].numpy())
        assert rate == 8000 and rows[at]["waveform"] == CLASSES[at % 4]
        assert float(rows[at]["frequency"]) == pytest.approx(np.geomspace(220, 4000, 4)[at // 12])
    assert not (tmp_path / "sounds" / "segments.csv").exists()


def test_flac_is_softened_where_it_would_clip_and_parquet_tells_so(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    loud = Tones(TonesConfig(seconds=0.1, loudest=2.0, quietest=0.5, frequencies=2, amplitudes=2), 0)
    save_audio(loud, tmp_path / "sounds", format="flac", manifest="parquet")
    rows = parquet.read_table(tmp_path / "sounds" / "manifest.parquet").to_pylist()
    signals = loud.whole(torch.arange(16)).signal.numpy()
    assert {row["gain"] == 1.0 for row in rows} == {True, False}
    for row in rows:
        samples, _ = soundfile.read(tmp_path / "sounds" / row["file"], dtype="float32")
        np.testing.assert_allclose(samples / row["gain"], signals[row["clip"]], atol=5e-7)


def test_a_folder_in_use_is_not_overwritten(tmp_path):
    (tmp_path / "empty").mkdir()
    save_audio(WORLD, tmp_path / "empty")
    with pytest.raises(ValueError, match="not an empty folder"):
        save_audio(WORLD, tmp_path / "empty")
    with pytest.raises(ValueError, match="wav or flac"):
        save_audio(WORLD, tmp_path / "other", format="mp3")


def test_segments_and_tracks_are_written_with_the_sound(tmp_path):
    world = Varied([3000, 170, 640], rate=8000, track_rate=100.0)
    save_audio(world, tmp_path / "sounds")
    with (tmp_path / "sounds" / "segments.csv").open(
        newline="", encoding="utf-8", errors="surrogateescape"
    ) as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["path", "onset", "offset", "label"],
        ["clips/1.wav", "0.0", "0.05", "a"],
        ["clips/1.wav", "0.1", "0.2", "b\udcff"],
    ]
    about = json.loads((tmp_path / "sounds" / "factors.json").read_text())
    assert about["track_rate"] == 100 and [track["name"] for track in about["tracks"]] == ["place", "phase"]
    batch = world.whole(torch.arange(3))
    assert batch.tracks is not None
    for clip, frames in enumerate((37, 2, 8)):
        track = np.load(tmp_path / "sounds" / "tracks" / f"{clip}.npy")
        np.testing.assert_array_equal(track, batch.tracks[clip, :frames].numpy())
        assert soundfile.info(tmp_path / "sounds" / "clips" / f"{clip}.wav").frames == world.sizes[clip]


def test_segments_of_what_is_written_read_back(tmp_path):
    class Marked(Tones):
        def marks(self, index):
            return [((0.01, 0.02, "a"), (0.03, 0.05, f"{clip % 2}")) for clip in index.tolist()]

    world = Marked(TonesConfig(rate=8000, seconds=0.05, highest=3000.0, frequencies=4, amplitudes=3), seed=0)
    save_audio(world, tmp_path / "sounds")
    read = Recordings(settings_for(tmp_path / "sounds", layout="segments", seconds=0.05))
    everything = torch.arange(48)
    assert read.marks(everything) == world.marks(everything)
    assert not (tmp_path / "sounds" / "tracks").exists()


def test_labels_that_are_not_utf8_read_back(tmp_path):
    root = tmp_path / "songs"
    for name, seed in (("a.wav", 0), ("b.wav", 1)):
        write(root / name, seed=seed)
    (root / "manifest.csv").write_bytes(b"path,place\na.wav,caf\xe9\nb.wav,forest\n")
    world = Recordings(settings_for(root))
    save_audio(world, tmp_path / "written")
    assert b"caf\xe9" in (tmp_path / "written" / "manifest.csv").read_bytes()
    again = Recordings(settings_for(tmp_path / "written", labels=("place",)))
    assert again.factors[0].values == world.factors[0].values == ("caf\udce9", "forest")
