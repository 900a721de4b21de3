"""Recordings as a world: no good file is lost, no bad one is used, and pieces are excerpts of their files."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.recordings.noises import everything, settings_for, whole, write

from sonarium.worlds.recordings.world import Recordings, RecordingsConfig


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Six clips of 0.3 to 0.8 s of three speakers, with their samples."""
    root = tmp_path_factory.mktemp("corpus") / "sounds"
    sounds = [write(root / f"{'abc'[at % 3]}_{at}.wav", 0.3 + at / 10, at) for at in range(6)]
    order = sorted(range(6), key=lambda at: f"{'abc'[at % 3]}_{at}")
    return root, [sounds[at] for at in order]


def world_of(corpus, **changes):
    return Recordings(settings_for(corpus[0], **{"pattern": "{speaker}_{number}.wav", **changes}))


def test_whole_clips_come_with_zeros_behind_them(corpus):
    world = world_of(corpus)
    index = torch.tensor([4, 0, 5])
    batch = world.whole(index)
    assert batch.signal.shape == (3, max(len(corpus[1][at]) for at in index))
    assert batch.lengths is not None
    for row, clip in enumerate(index.tolist()):
        expected = corpus[1][clip]
        assert int(batch.lengths[row]) == len(expected)
        np.testing.assert_array_equal(batch.signal[row, : len(expected)], expected)
        assert not batch.signal[row, len(expected) :].any()
    assert world.lengths(index).tolist() == [len(corpus[1][at]) for at in index]
    assert world.whole(torch.empty(0, dtype=torch.int64)).signal.shape == (0, 0)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), step=st.integers(0, 10**9), order=st.permutations(range(6)))
def test_a_piece_follows_from_seed_step_and_clip_alone(corpus, seed, step, order):
    world = world_of(corpus)
    batch = world.piece(torch.tensor(order), seed, step)
    assert batch.signal.shape == (6, world.signal.shape[0])
    assert batch.lengths is not None
    for row, clip in enumerate(order):
        sound, length = corpus[1][clip], int(batch.lengths[row])
        piece = batch.signal[row].numpy()
        assert length == min(len(sound), world.signal.shape[0])
        begin = starts_of(sound, piece[:length])
        assert len(begin) == 1
        assert not piece[length:].any()
        alone = world.piece(torch.tensor([clip]), seed, step)
        assert torch.equal(alone.signal[0], batch.signal[row])


def starts_of(sound, piece):
    """Positions of a piece in a sound, by brute-force search."""
    return [at for at in range(len(sound) - len(piece) + 1) if np.array_equal(sound[at : at + len(piece)], piece)]


def test_pieces_come_from_everywhere_and_change_with_seed_and_step(corpus):
    world = world_of(corpus)
    longest = int(world.lengths(everything(world)).argmax())
    sound, piece = corpus[1][longest], world.signal.shape[0]
    spare = len(sound) - piece
    found = []
    for seed, step in [(0, step) for step in range(300)] + [(seed, 0) for seed in range(1, 300)]:
        drawn = world.piece(torch.tensor([longest]), seed, step).signal[0].numpy()
        fits = np.all([sound[at : spare + 1 + at] == drawn[at] for at in range(6)], axis=0)
        found.append(int(np.flatnonzero(fits)[0]))
    counts = np.histogram(found, 10, (0, spare + 1))[0]
    # Chi-square with 9 degrees of freedom exceeds 27.9 with a probability of 0.001.
    assert ((counts - 59.9) ** 2 / 59.9).sum() < 27.9
    assert len(set(found)) > 450


def test_any_number_of_workers_draws_the_same(corpus):
    world = world_of(corpus)
    steps = Steps(world)
    alone = [steps[step] for step in range(6)]
    for workers in (1, 2):
        loader = torch.utils.data.DataLoader(steps, batch_size=None, num_workers=workers)
        for expected, found in zip(alone, loader, strict=True):
            assert torch.equal(expected, found)


class Steps(torch.utils.data.Dataset):
    def __init__(self, world):
        self.world = world

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.world.piece(everything(self.world), 3, index).signal


def test_labels_become_factors_and_groups(corpus):
    world = world_of(corpus)
    assert [(factor.name, factor.values) for factor in world.factors] == [
        ("speaker", ("a", "b", "c")),
        ("number", ("0", "1", "2", "3", "4", "5")),
    ]
    assert world.whole(everything(world)).factors.tolist() == [[0, 0], [0, 3], [1, 1], [1, 4], [2, 2], [2, 5]]
    assert world.factor_values(torch.tensor([5, 0])).tolist() == [[2, 5], [0, 0]]
    assert (world.group_kind, world.group_names()) == ("speaker", ("a", "b", "c"))
    assert world.group(torch.tensor([5, 0, 1])).tolist() == [2, 0, 0]
    other = world_of(corpus, labels=("number",), group="folder")
    assert [factor.name for factor in other.factors] == ["number"]
    assert other.group_names() == (".",)
    assert world_of(corpus, pattern="").factors == ()
    assert len(world_of(corpus, pattern="").group_names()) == 6


def test_whole_numbers_are_in_their_order(tmp_path):
    for number in ("9", "10", "1"):
        write(tmp_path / "sounds" / number / "x.wav", seed=int(number))
    write(tmp_path / "sounds" / "x.wav", seed=4)
    world = Recordings(settings_for(tmp_path / "sounds"))
    assert world.factors[0].values == ("1", "10", "9", "unknown")
    (tmp_path / "sounds" / "x.wav").unlink()
    assert Recordings(settings_for(tmp_path / "sounds")).factors[0].values == ("1", "9", "10")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": ("bird",)}, "--labels bird: these recordings have the labels speaker, number"),
        ({"group": "bird"}, "--group bird: choose one of speaker, number, file, folder"),
        ({"clip": "segment"}, "has no annotated segments"),
        ({"path": None}, "which recordings"),
    ],
)
def test_what_is_asked_for_has_to_be_there(changes, reason, corpus):
    config = replace(settings_for(corpus[0], pattern="{speaker}_{number}.wav"), **changes)
    with pytest.raises(ValueError, match=reason):
        Recordings(config)


def test_settings_have_to_make_sense():
    for wrong in ({"rate": 0}, {"seconds": 0}, {"seconds": 1e-9}, {"bad_fraction": 2}, {"channel": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(RecordingsConfig(), **wrong)


def manifest(root, rows, name="manifest.csv"):
    with open(root / name, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_a_stretch_of_a_manifest_is_a_part_of_its_file(tmp_path):
    root = tmp_path / "sounds"
    sound = write(root / "x.wav", 2.0)
    rows = [["path", "start", "stop", "call"], ["x.wav", "0.25", "0.75", "a"], ["x.wav", "1.5", "", "b"],
            ["x.wav", "", "2.005", "c"]]  # fmt: skip
    manifest(root, rows)
    world = Recordings(settings_for(root))
    batch = world.whole(everything(world))
    assert batch.lengths is not None
    for row, (first, last) in enumerate([(2000, 6000), (12_000, 16_000), (0, 16_000)]):
        assert int(batch.lengths[row]) == last - first
        np.testing.assert_array_equal(batch.signal[row, : last - first], sound[first:last])
    # Segments of one file form one group, unless a label says otherwise.
    assert world.group(everything(world)).tolist() == [0, 0, 0]
    wrong = [["x.wav", "1.9", "2.1", "d"], ["x.wav", "0.5", "0.5", "e"], ["x.wav", "-1", "1", "f"]]
    manifest(root, [*rows, *wrong, ["gone.wav", "", "", "g"]])
    with pytest.raises(ValueError, match=r"1 of 2 files, and 3 of 7 clips, .* are bad"):
        Recordings(settings_for(root, bad_fraction=0.3))
    lenient = Recordings(settings_for(root, bad_fraction=0.5))
    assert len(lenient) == 3
    assert [fault.reason for fault in lenient.quarantine.stretches] == [
        "has no stretch from 1.9 to 2.1 s: it lasts 2.000 s",
        "has no stretch from 0.5 to 0.5 s: the stop has to come after the start",
        "has no stretch from -1 to 1 s: it lasts 2.000 s",
    ]
    assert [fault.reason for fault in lenient.quarantine.faults] == ["does not exist"]


def annotated(root):
    sound = write(root / "x.wav", 1.0)
    write(root / "y.wav", 1.0, 1)
    rows = [["file", "onset", "offset", "label", "bird"], ["x.wav", "0.1", "0.2", "a", "one"],
            ["x.wav", "0.5", "0.75", "b", "one"], ["y.wav", "0.9", "1.5", "a", "two"],
            ["y.wav", "3", "4", "a", "two"]]  # fmt: skip
    manifest(root, rows, "segments.csv")
    return sound


def test_segments_say_what_sounds_when(tmp_path):
    root = tmp_path / "sounds"
    annotated(root)
    world = Recordings(settings_for(root))
    assert world.marks(torch.tensor([1, 0])) == [((0.9, 1.0, "a"),), ((0.1, 0.2, "a"), (0.5, 0.75, "b"))]
    assert [fault.reason for fault in world.quarantine.remarks] == [
        f"segment 'a' from {stretch} s goes beyond the end at 1.000 s" for stretch in ("0.9 to 1.5", "3 to 4")
    ]
    assert world.group_kind == "bird"


def test_each_segment_may_be_a_clip(tmp_path):
    root = tmp_path / "sounds"
    sound = annotated(root)
    with pytest.raises(ValueError, match=r"1 of 4 clips, .* has no stretch from 3 to 4 s: it lasts 1.000 s"):
        Recordings(settings_for(root, clip="segment"))
    world = Recordings(settings_for(root, clip="segment", bad_fraction=0.25))
    assert [(factor.name, factor.values) for factor in world.factors] == [
        ("bird", ("one", "two")),
        ("label", ("a", "b")),
    ]
    signal, lengths = whole(world)
    assert lengths.tolist() == [800, 2000, 800]
    np.testing.assert_array_equal(signal[0, :800], sound[800:1600])
    np.testing.assert_array_equal(signal[1], sound[4000:6000])
    assert world.marks(torch.tensor([1])) == [((0.0, 0.25, "b"),)]
    assert [fault.reason for fault in world.quarantine.remarks] == [
        "segment 'a' from 0.9 to 1.5 s goes beyond the end at 1.000 s"
    ]


def test_real_digits(shared_data, tmp_path):
    root = shared_data / "fsdd"
    world = Recordings(RecordingsConfig(path=str(root), rate=8_000, cache=str(tmp_path)))
    assert len(world) == 2000
    assert float(world.lengths(everything(world)).sum()) / world.rate == pytest.approx(960.6, abs=0.1)
    assert world.group_names() == ("george", "jackson", "lucas", "theo")
    with open(root / "files.csv", newline="") as file:
        frames = {row["file"]: int(row["frames"]) for row in csv.DictReader(file)}
    names = [path.relative_to(root).as_posix() for path in world.paths]
    assert dict(zip(names, world.lengths(everything(world)).tolist(), strict=True)) == frames
    batch = world.whole(torch.tensor([7, 1999]))
    for row, clip in enumerate((7, 1999)):
        expected = soundfile.read(world.paths[clip], dtype="float32")[0]
        np.testing.assert_array_equal(batch.signal[row, : len(expected)], expected)


def test_real_song(shared_data, tmp_path):
    config = RecordingsConfig(path=str(shared_data / "bengalese_finch"), rate=32_000, cache=str(tmp_path))
    world = Recordings(config)
    assert len(world) == 14
    assert float(world.lengths(everything(world)).sum()) / world.rate == pytest.approx(128.3, abs=0.05)
    marks = world.marks(everything(world))
    assert sum(map(len, marks)) == 799
    syllables = Recordings(replace(config, clip="segment", group="file"))
    assert len(syllables) == 799
    assert len(syllables.factors[-1].values) == 11
    assert len(syllables.group_names()) == 14
