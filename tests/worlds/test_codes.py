"""Codes as a world: pieces as in the contract, all metadata of the encoded clips, stored without loss."""

import json
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from worlds.varied import Varied

from sonarium.worlds.codes import Codes, CodesConfig, Encoded, frames_in_tracks, gather
from sonarium.worlds.contract import World

SIZES = [130, 17, 64, 40, 99]
HOP = 4


def encode(world, batch_size=2):
    """Stand-in for a model with a hop of four samples: codes are the first sample of each hop and its negative."""
    for index in torch.arange(len(world)).split(batch_size):
        batch = world.whole(index)
        first = batch.signal[:, : batch.signal.shape[1] // HOP * HOP : HOP]
        yield batch, torch.stack([first, -first], dim=2), world.lengths(index) // HOP


def encoded_world(sizes=SIZES, rate=100, track_rate=25.0):
    world = Varied(sizes, 40, rate, track_rate)
    return world, gather(world, encode(world), rate / HOP, 0.5 * HOP / rate)


def equal(one, other):
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in ((getattr(one, part.name), getattr(other, part.name)) for part in fields(one))
    )


def test_what_is_known_of_the_clips_is_that_of_the_world_below():
    world, found = encoded_world()
    codes, everything = Codes(CodesConfig(), found), torch.arange(len(world))
    assert len(codes) == 5 and codes.lengths(everything).tolist() == [32, 4, 16, 10, 24]
    assert codes.signal.kind == "codes" and codes.signal.shape == (64, 2) and codes.signal.frame_rate == 25
    assert (codes.factors, codes.tracks, codes.group_kind, codes.planted) == (
        world.factors, world.tracks, "pair", True,
    )  # fmt: skip
    assert codes.group(everything).tolist() == [0, 0, 1, 1, 2] and codes.group_names() == world.group_names()
    assert codes.marks(torch.tensor([1, 0])) == world.marks(torch.tensor([1, 0]))
    assert codes.identity(torch.tensor([3])) == ["varied 3"] and codes.path(3) == "clip 3 of varied"
    assert codes.recording(everything).tolist() == [0, 1, 2, 3, 4]
    assert codes.describe() == "codes of varied: 5 clips, 86 frames of 2 codes at 25 frames a second"
    batch, below = codes.whole(torch.tensor([3, 0])), world.whole(torch.tensor([3, 0]))
    assert batch.signal.shape == (2, 32, 2) and batch.lengths is not None and batch.tracks is not None
    assert torch.equal(batch.factors, below.factors) and torch.equal(
        codes.factor_values(everything)[3], below.factors[0]
    )
    assert batch.lengths.tolist() == [10, 32]
    assert torch.equal(batch.signal[1, :, 0], below.signal[1, :128:4])
    assert torch.equal(batch.signal[0, :10, 1], -below.signal[0, :40:4]) and not batch.signal[0, 10:].any()
    assert below.tracks is not None
    # The tracks have the same rate as the codes, so that they stay unchanged.
    assert torch.equal(batch.tracks[1], below.tracks[1, :32]) and not batch.tracks[0, 10:].any()


@given(sizes=st.lists(st.integers(HOP, 200), min_size=1, max_size=6), frames=st.integers(0, 40), data=st.data())
def test_pieces_and_excerpts_are_those_of_the_contract(sizes, frames, data):
    found = encoded_world(sizes)[1]
    codes = Codes(CodesConfig(frames), found)
    index = torch.tensor(data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=5)))
    for quick, plain in (
        (codes.piece(index, 3, 7), World.piece(codes, index, 3, 7)),
        (codes.excerpt(index), World.excerpt(codes, index)),
    ):
        assert equal(quick, plain)
    if frames == 0:
        assert not (codes.lengths(torch.arange(len(codes))) > codes.signal.shape[0]).any()


def test_tracks_are_those_at_the_middle_of_each_frame():
    assert frames_in_tracks(4, 10.0, 0.05, 25.0, 100).tolist() == [1, 3, 6, 8]
    assert frames_in_tracks(4, 50.0, 0.01, 25.0, 100).tolist() == [0, 0, 1, 1]
    assert frames_in_tracks(3, 10.0, 0.05, 25.0, 5).tolist() == [1, 3, 4], "none beyond the last"
    assert frames_in_tracks(3, 10.0, 0.0, 25.0, 100).tolist() == [0, 2, 5], "the first frame may lie elsewhere"
    world, found = encoded_world(track_rate=50.0)
    assert found.track_values is not None
    below = world.whole(torch.tensor([1])).tracks
    assert below is not None and torch.equal(found.track_values[32:36], below[0, [1, 3, 5, 7]])


def test_all_of_it_is_kept_without_pickle(tmp_path):
    _, found = encoded_world()
    found.save(tmp_path / "codes")
    assert sorted(path.name for path in (tmp_path / "codes").iterdir()) == ["codes.json", "codes.safetensors"]
    again = Encoded.load(tmp_path / "codes")
    assert equal(found, again)
    assert "\udce9" in again.group_names[0] and "\udcff" in again.marks[1][1][2], "not UTF-8, and survives"
    assert Codes(CodesConfig(8), again).group_names() == again.group_names
    bare = Encoded(torch.arange(6.0).reshape(3, 2), torch.tensor([1, 2]), 12.5)
    bare.save(tmp_path / "bare")
    assert equal(bare, Encoded.load(tmp_path / "bare"))


def test_groups_that_are_the_recordings_are_kept(tmp_path):
    clips = torch.tensor([0, 1])
    found = Encoded(torch.zeros(3, 2), torch.tensor([1, 2]), 12.5, groups=clips, recordings=clips)
    found.save(tmp_path / "codes")
    assert equal(found, Encoded.load(tmp_path / "codes"))


def test_a_run_keeps_its_codes_once(tmp_path):
    found = encoded_world()[1]
    codes = Codes(CodesConfig(), found)
    codes.keep(tmp_path)
    written = (tmp_path / "codes" / "codes.json").stat().st_mtime_ns
    codes.keep(tmp_path)
    assert (tmp_path / "codes" / "codes.json").stat().st_mtime_ns == written
    assert equal(Encoded.load(tmp_path / "codes"), found)


def test_plain_codes_need_nothing_else():
    codes = Codes(CodesConfig(0), Encoded(torch.arange(6.0).reshape(3, 2), torch.tensor([1, 2]), 12.5))
    index = torch.tensor([1, 0])
    batch = codes.whole(index)
    assert batch.signal.tolist() == [[[2, 3], [4, 5]], [[0, 1], [0, 0]]] and batch.factors.shape == (2, 0)
    assert batch.tracks is None and codes.signal.shape == (2, 2)
    assert (codes.group(index).tolist(), codes.recording(index).tolist()) == ([1, 0], [1, 0])
    assert (codes.group_names(), codes.marks(index)) == (("0", "1"), [(), ()])
    assert (codes.identity(index), codes.path(1)) == (["codes 1", "codes 0"], "clip 1 of codes")
    assert codes.whole(torch.empty(0, dtype=torch.int64)).signal.shape == (0, 0, 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lengths": torch.tensor([1, 1])}, "3 frames, the lengths sum to 2"),
        ({"codes": torch.full((3, 2), float("nan"))}, "NaN or infinite"),
        ({"paths": ("a", "b", "c")}, "2 clips, 3 paths"),
        ({"identities": ("a",)}, "2 clips, 1 identities"),
        ({"track_values": torch.zeros(3, 1)}, r"tracks of shape \(3, 1\), expected is \(3, 0\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, reason):
    fine = Encoded(torch.zeros(3, 2), torch.tensor([1, 2]), 12.5)
    with pytest.raises(ValueError, match=reason):
        replace(fine, **changes)


def test_no_clips_and_negative_pieces_are_refused():
    with pytest.raises(ValueError, match="none of 0 clips has a frame"):
        Codes(CodesConfig(), Encoded(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 1.0))
    with pytest.raises(ValueError, match="frames=-1"):
        CodesConfig(-1)


def test_damage_is_told_with_the_folder(tmp_path):
    with pytest.raises(ValueError, match=r"nothing' cannot be read .*encode again"):
        Encoded.load(tmp_path / "nothing")
    found = encoded_world()[1]
    for number, damage in enumerate((cut_arrays, no_json, another_format, another_field)):
        folder = tmp_path / str(number)
        found.save(folder)
        damage(folder)
        with pytest.raises(ValueError, match=rf"{number}' cannot be read"):
            Encoded.load(folder)


def cut_arrays(folder):
    path = folder / "codes.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def no_json(folder):
    (folder / "codes.json").write_text("{")


def another_format(folder):
    path = folder / "codes.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))


def another_field(folder):
    path = folder / "codes.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "more": 1}))


def test_clips_without_a_frame_keep_their_number_and_are_all_padding():
    found = encoded_world([3, 50, 2, 9])[1]
    codes, everything = Codes(CodesConfig(5), found), torch.arange(4)
    assert codes.lengths(everything).tolist() == [0, 12, 0, 2]
    batch = codes.whole(everything)
    assert batch.lengths is not None and batch.lengths.tolist() == [0, 12, 0, 2]
    assert not batch.signal[[0, 2]].any() and codes.group(everything).tolist() == [0, 0, 1, 1]
    assert codes.piece(torch.tensor([0]), 0, 0).signal.tolist() == [[[0, 0]] * 5]
