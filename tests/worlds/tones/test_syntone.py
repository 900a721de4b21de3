"""SynTone files: round trips, no half-written file passes for a complete one, and no pickle is executed."""

import errno
import json
import os
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import no_room_beyond

from sonarium.worlds.tones import syntone
from sonarium.worlds.tones.syntone import load_syntone, save_syntone
from sonarium.worlds.tones.world import Tones, TonesConfig

WORLD = Tones(TonesConfig(rate=8000, seconds=0.05, highest=4000.0, frequencies=4, amplitudes=3), seed=0)
CLASSES = ["sine", "triangle", "sawtooth", "square"]


class Trap:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def theirs(path: Path, **changed) -> dict:
    """Write a data set in the layout of SynTone's own script, with a pickled dictionary."""
    frequencies, amplitudes, waveforms = [], [], []
    for frequency in np.linspace(440, 8000, 3):
        for amplitude in np.linspace(0.1, 1.0, 2):
            for waveform in CLASSES:
                frequencies.append(frequency)
                amplitudes.append(amplitude)
                waveforms.append(waveform)
    arrays = {
        "x": np.random.default_rng(0).normal(size=(24, 100)),
        "y": np.tile(np.arange(4), 6),
        "metadata": {
            "freqs": np.array(frequencies),
            "amps": np.array(amplitudes),
            "waveforms": np.array(waveforms),
        },
        "classes": CLASSES,
    } | changed
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
    return arrays


def test_syntones_layout_is_read_by_numpy_without_pickles(tmp_path):
    told = []
    save_syntone(WORLD, tmp_path / "x.npz", lambda *report: told.append(report))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as data:
        assert set(data) == {"x", "y", "metadata", "classes"}
        np.testing.assert_array_equal(data["x"], WORLD.whole(torch.arange(48)).signal.numpy())
        np.testing.assert_array_equal(data["y"], np.tile(np.arange(4), 12))
        assert data["classes"].tolist() == CLASSES
        metadata = json.loads(str(data["metadata"]))
    assert metadata["waveforms"] == CLASSES * 12
    assert metadata["freqs"] == np.repeat(np.geomspace(220, 4000, 4), 12).tolist()
    assert metadata["amps"] == np.tile(np.repeat(np.linspace(0.1, 1, 3), 4), 4).tolist()
    assert told[-1] == ("writing clips", 48, 48)
    assert [file.name for file in tmp_path.iterdir()] == ["x.npz"]


def test_what_was_saved_loads_as_the_same_world(tmp_path):
    rich = Tones(TonesConfig(rate=8000, seconds=0.05, frequencies=2, amplitudes=1, phases=3, noises=2), seed=4)
    save_syntone(rich, tmp_path / "x.npz")
    read = load_syntone(tmp_path / "x.npz")
    index = torch.tensor([3, 0, 47, 11])
    assert read.factors == rich.factors and read.signal == rich.signal and len(read) == len(rich)
    assert torch.equal(read.whole(index).signal, rich.whole(index).signal)
    assert torch.equal(read.whole(index).factors, rich.whole(index).factors)
    assert torch.equal(read.factor_values(index), rich.factor_values(index))


def test_tracks_of_modulated_tones_load_as_they_were_saved(tmp_path):
    grid = TonesConfig(rate=8000, seconds=0.05, frequencies=2, amplitudes=1, glide_semitones=5.0, tremolo_db=9.0)
    world = Tones(grid, seed=4)
    save_syntone(world, tmp_path / "x.npz")
    read, index = load_syntone(tmp_path / "x.npz"), torch.tensor([3, 0, 7])
    planted, loaded = world.whole(index), read.whole(index)
    assert [(one.name, one.unit) for one in read.tracks] == [(one.name, one.unit) for one in world.tracks]
    assert loaded.tracks is not None and planted.tracks is not None and loaded.tracks.shape == (3, 50, 2)
    assert read.track_rate == world.track_rate and torch.equal(loaded.tracks, planted.tracks)
    assert torch.equal(loaded.signal, planted.signal)


@pytest.mark.parametrize(
    ("tracks", "told_of", "told"),
    [
        (None, [{"name": "pitch", "unit": ""}], "no array 'tracks'"),
        (np.zeros((24, 5)), [{"name": "pitch", "unit": ""}], "clip, frame, track"),
        (np.zeros((24, 9, 1)), [{"name": "pitch", "unit": ""}], r"\(24, 10, 1\) belong"),
        (np.zeros((24, 10, 2)), [{"name": "pitch", "unit": ""}], r"\(24, 10, 1\) belong"),
        (np.zeros((24, 10, 1)), [7], "tracks in its metadata without a name"),
    ],
)
def test_tracks_that_do_not_fit_are_refused(tmp_path, tracks, told_of, told):
    about = {"rate": 1000, "track_rate": 100.0, "tracks": told_of, "freqs": list(range(24))}
    theirs(tmp_path / "x.npz", metadata=np.array(json.dumps(about)), tracks=tracks)
    with pytest.raises(ValueError, match=told):
        load_syntone(tmp_path / "x.npz")


def test_a_pickled_file_of_syntone_is_read_and_not_unpickled(tmp_path):
    arrays = theirs(tmp_path / "their.npz")
    world = load_syntone(tmp_path / "their.npz")
    batch = world.whole(torch.arange(24))
    assert world.signal.shape == (100,) and world.signal.rate == 100
    assert load_syntone(tmp_path / "their.npz", rate=50).signal.rate == 50
    assert [factor.name for factor in world.factors] == ["waveform", "frequency", "amplitude"]
    assert world.factors[0].values == tuple(CLASSES)
    assert world.factors[1].values == (440.0, 4220.0, 8000.0)
    np.testing.assert_array_equal(batch.signal.numpy(), arrays["x"].astype(np.float32))
    np.testing.assert_array_equal(batch.factors[:, 0].numpy(), arrays["y"])
    np.testing.assert_array_equal(batch.factors[:, 1].numpy(), np.float32(arrays["metadata"]["freqs"]))
    np.testing.assert_array_equal(batch.factors[:, 2].numpy(), np.float32(arrays["metadata"]["amps"]))


def test_whole_numbers_in_a_pickle_are_not_read_as_fractions(tmp_path):
    amplitudes = np.tile(np.repeat([0.1, 1.0], 4), 3)
    theirs(tmp_path / "x.npz", metadata={"freqs": np.repeat([440, 4220, 8000], 8), "amps": amplitudes})
    assert [factor.name for factor in load_syntone(tmp_path / "x.npz").factors] == ["waveform", "amplitude"]


def test_a_trap_in_the_pickle_does_not_spring(tmp_path):
    theirs(tmp_path / "trap.npz", metadata={"freqs": Trap(tmp_path / "sprung")})
    world = load_syntone(tmp_path / "trap.npz")
    assert [factor.name for factor in world.factors] == ["waveform"]
    assert not (tmp_path / "sprung").exists()
    with np.load(tmp_path / "trap.npz", allow_pickle=True) as data:
        data["metadata"]
    assert (tmp_path / "sprung").exists(), "the trap works where a file is unpickled"


def with_sample(value: float) -> np.ndarray:
    samples = np.zeros((24, 100))
    samples[5, 7] = value
    return samples


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"x": with_sample(np.nan)}, "clip 5 is not finite at sample 7"),
        ({"x": with_sample(np.inf)}, "clip 5 is not finite at sample 7"),
        ({"x": np.zeros((0, 100))}, r"shape \(0, 100\)"),
        ({"x": np.zeros(24)}, r"shape \(24,\)"),
        ({"x": np.zeros((24, 100), int)}, "int64"),
        ({"x": np.array([[{}] * 3] * 24)}, "object"),
        ({"x": np.asfortranarray(np.zeros((24, 100)))}, "column by column"),
        ({"x": None}, "no array 'x'"),
        ({"y": None}, "no array 'y'"),
        ({"y": np.arange(3)}, "24 clips in x"),
        ({"y": np.full(24, 4)}, "numbered 4 to 4"),
        ({"y": np.full(24, -1)}, "numbered -1"),
        ({"y": np.zeros(24)}, "whole numbers"),
        ({"classes": np.arange(4)}, "names"),
        ({"metadata": np.array("{")}, "'metadata'"),
        ({"metadata": np.array("[]")}, "list"),
        ({"metadata": np.array('{"freqs": [1, 2]}')}, "frequency of its 24 clips"),
        ({"metadata": np.array(json.dumps({"freqs": [float("nan")] * 24}))}, "frequency of its 24 clips"),
        ({"metadata": np.array("{}"), "y": np.zeros(24, int)}, "all the same"),
        ({"metadata": np.array("[" * 100_000)}, "nested without end"),
        ({"metadata": np.array('{"factors": [7]}')}, "without a name and a unit"),
        ({"metadata": np.array('{"factors": {"name": "x"}}')}, "without a name and a unit"),
        ({"metadata": np.array('{"freqs": [[1], 2]}')}, "not a list of numbers"),
        ({"metadata": np.array('{"rate": "1000"}')}, "the rate '1000'"),
        ({"metadata": np.array('{"rate": -5}')}, "the rate -5"),
        ({"metadata": np.array(" " * 400_000)}, "1600128 bytes, at most"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_names_it(tmp_path, changed, told):
    theirs(tmp_path / "wrong.npz", **changed)
    with pytest.raises(ValueError, match=told) as caught:
        load_syntone(tmp_path / "wrong.npz")
    assert "wrong.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_no_file_another_kind_and_a_cut_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no file at"):
        load_syntone(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.npz is not a complete \.npz file"):
        load_syntone(tmp_path / "text.npz")
    save_syntone(WORLD, tmp_path / "x.npz")
    whole = (tmp_path / "x.npz").read_bytes()
    for kept in (0, 10, len(whole) // 2, len(whole) - 5):
        (tmp_path / "cut.npz").write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=r"cut\.npz"):
            load_syntone(tmp_path / "cut.npz")


def altered(content: bytes, random: np.random.Generator) -> bytes:
    """The content with a random change: cut, or with a bit, some bytes or a word of the header altered."""
    at, many = int(random.integers(len(content))), int(random.integers(1, 30))
    early = int(random.integers(min(len(content), 130)))
    words = [b"9999", b"0000", b"\xff" * 4, b"((((", b"-1, ", b"'O',", b"None", bytes([random.integers(256)])]
    return [
        content[:at],
        content[:at] + bytes([content[at] ^ 1 << random.integers(8)]) + content[at + 1 :],
        content[:at] + content[at + many :],
        content[:at] + random.bytes(many) + content[at:],
        content[:early] + random.choice(np.array(words, object)) + content[early + 4 :],
    ][random.integers(5)]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_altered_the_file_is_read_or_refused(seed, tmp_path):
    """Either the archive is altered, or one of its arrays in an intact archive."""
    theirs(tmp_path / "their.npz")
    save_syntone(WORLD, tmp_path / "ours.npz")
    random, read = np.random.default_rng(seed), 0
    for number in range(150):
        source, target = tmp_path / ("their.npz" if number % 2 else "ours.npz"), tmp_path / "altered.npz"
        if random.random() < 0.3:
            target.write_bytes(altered(source.read_bytes(), random))
        else:
            with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as other:
                spoilt = random.choice(archive.namelist())
                for name in archive.namelist():
                    content = archive.read(name)
                    other.writestr(name, altered(content, random) if name == spoilt else content)
        with suppress(ValueError):
            world = load_syntone(target)
            read += 1
            assert bool(torch.isfinite(world.whole(torch.arange(len(world))).signal).all())
    assert read < 75


def test_what_grows_without_measure_is_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((24, 40_000)), y=np.arange(24) % 4)
    monkeypatch.setattr(syntone, "UNPACKED", 1 << 20)
    with pytest.raises(
        ValueError, match=r"array 'x' of .*bomb.npz cannot be used: its \d+ bytes would become 7680128"
    ):
        load_syntone(tmp_path / "bomb.npz")


def test_a_flipped_bit_in_the_samples_is_noticed(tmp_path):
    save_syntone(WORLD, tmp_path / "x.npz")
    whole = bytearray((tmp_path / "x.npz").read_bytes())
    for place in range(200, len(whole) // 2, 997):
        flipped = whole.copy()
        flipped[place] ^= 0x10
        (tmp_path / "flipped.npz").write_bytes(flipped)
        with pytest.raises(ValueError, match=r"array 'x' of .*flipped\.npz"):
            load_syntone(tmp_path / "flipped.npz")


def test_a_full_disk_leaves_nothing_and_keeps_what_was_there(tmp_path):
    (tmp_path / "x.npz").write_text("of yesterday")
    with (
        no_room_beyond(4096),
        pytest.raises(OSError, match=r"cannot write .*x\.npz.* \(File too large\): raise the"),
    ):
        save_syntone(WORLD, tmp_path / "x.npz")
    assert [file.name for file in tmp_path.iterdir()] == ["x.npz"]
    assert (tmp_path / "x.npz").read_text() == "of yesterday"


def test_an_unwritable_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*choose a place that you may write to"):
        save_syntone(WORLD, tmp_path / "file" / "x.npz")
    with pytest.raises(ValueError, match=r"does not end in \.npz"):
        save_syntone(WORLD, tmp_path / "x.zip")


def test_an_interrupted_writing_leaves_nothing(tmp_path):
    def interrupt(*report) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_syntone(WORLD, tmp_path / "x.npz", progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_a_disk_error_keeps_its_reason(tmp_path, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left on device"):
        save_syntone(WORLD, tmp_path / "x.npz")
    assert not list(tmp_path.iterdir())
