"""Default methods of `World`: pieces, excerpts, portions and tracks, each against brute force."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from worlds.varied import CLIP, Varied

from sonarium.worlds.codes import Codes, CodesConfig, Encoded
from sonarium.worlds.contract import Batch, Signal, World, crop
from sonarium.worlds.digits import Digits, DigitsConfig
from sonarium.worlds.tones.world import Tones, TonesConfig

SIZES = st.lists(st.integers(1, 130), min_size=1, max_size=7)
RATES = st.sampled_from([(100, 25.0), (100, 100 / 7), (22_050, 22_050 / 512), (16_000, 100.0), (100, 100.0)])


def tracks(batch):
    assert batch.tracks is not None
    return batch.tracks


def drawn(data):
    rate, track_rate = data.draw(RATES)
    return Varied(data.draw(SIZES), data.draw(st.integers(1, 90)), rate, track_rate)


def frames_by_hand(world, samples):
    """Number of whole hops within `samples`, in exact arithmetic."""
    hop = Fraction(world.signal.rate) / Fraction(world.track_rate).limit_denominator(10**6)
    hop = hop.limit_denominator(1000)
    return samples // hop


def check_rows(world, batch, index, start_of=None):
    """Check the position of every sample and frame of a batch, and return where each row begins."""
    size, starts = world.signal.shape[0], []
    assert batch.signal.shape == (len(index), size)
    assert batch.tracks.shape == (len(index), frames_by_hand(world, size), 2)
    assert batch.index.tolist() == index
    for row, clip in enumerate(index):
        length = int(world.sizes[clip])
        start = int(batch.signal[row, 0]) - CLIP * clip - 1
        count = min(length, size)
        assert 0 <= start <= length - count
        assert batch.lengths[row] == count
        expected = [CLIP * clip + start + at + 1 for at in range(count)] + [0] * (size - count)
        assert batch.signal[row].tolist() == expected
        first, frames = frames_by_hand(world, start), frames_by_hand(world, count)
        assert first + frames <= frames_by_hand(world, length)
        places = [CLIP * clip + first + at + 1 for at in range(frames)]
        assert batch.tracks[row, :, 0].tolist() == places + [0] * (batch.tracks.shape[1] - frames)
        assert batch.tracks[row, :, 1].tolist() == [(first + at) % 3 for at in range(frames)] + [0] * (
            batch.tracks.shape[1] - frames
        )
        assert batch.factors[row].tolist() == [clip % 2, 1 + clip % 2]
        starts.append(start)
    return starts


@given(data=st.data())
def test_a_piece_is_a_stretch_of_its_clip_with_its_tracks(data):
    world = drawn(data)
    index = data.draw(st.lists(st.integers(0, len(world) - 1), min_size=1, max_size=6))
    seed, step = data.draw(st.integers(0, 2**32)), data.draw(st.integers(0, 10**9))
    batch = world.piece(torch.tensor(index), seed, step)
    if set(world.sizes[index].tolist()) == {world.signal.shape[0]}:
        whole = world.whole(torch.tensor(index))
        assert torch.equal(batch.signal, whole.signal) and torch.equal(tracks(batch), tracks(whole))
        return
    check_rows(world, batch, index)
    alone = world.piece(torch.tensor(index[:1]), seed, step)
    assert torch.equal(alone.signal[0], batch.signal[0]), "the first of its kind follows from the clip alone"
    again = world.piece(torch.tensor(index), seed, step)
    assert torch.equal(again.signal, batch.signal) and torch.equal(tracks(again), tracks(batch))


@given(data=st.data())
def test_rows_of_a_batch_are_those_of_the_whole_batch(data):
    """As when several processes share a batch."""
    world = drawn(data)
    codes = Codes(CodesConfig(3), Encoded(torch.arange(40.0).reshape(20, 2), torch.tensor([1, 3, 9, 7]), 10.0))
    rows = data.draw(st.slices(6))
    assume(rows.step is None or rows.step > 0)
    for kind in (world, codes):
        index = torch.tensor(data.draw(st.lists(st.integers(0, len(kind) - 1), min_size=6, max_size=6)))
        whole, some = kind.piece(index, 3, 8), kind.piece(index, 3, 8, rows=rows)
        assert torch.equal(some.index, whole.index[rows]) and torch.equal(some.factors, whole.factors[rows])
        width = some.signal.shape[1]
        assert torch.equal(some.signal, whole.signal[rows, :width]) and not whole.signal[rows, width:].any()


@given(data=st.data())
def test_an_excerpt_is_the_middle(data):
    world = drawn(data)
    index = data.draw(st.lists(st.integers(0, len(world) - 1), min_size=1, max_size=6))
    starts = check_rows(world, world.excerpt(torch.tensor(index)), index)
    size = world.signal.shape[0]
    assert starts == [max(int(world.sizes[clip]) - size, 0) // 2 for clip in index]


def test_pieces_come_from_every_place_and_differ_within_a_batch():
    world = Varied([60], piece=40)
    index = torch.zeros(3, dtype=torch.int64)
    starts = [check_rows(world, world.piece(index, 1, step), [0, 0, 0]) for step in range(200)]
    assert {start for three in starts for start in three} == set(range(21))
    assert sum(len(set(three)) == 3 for three in starts) > 150


@given(data=st.data())
def test_portions_repeat_a_clip_as_often_as_a_piece_fits(data):
    world = drawn(data)
    index = data.draw(st.lists(st.integers(0, len(world) - 1), max_size=6))
    expected = [clip for clip in index for _ in range(max(int(world.sizes[clip]) // world.signal.shape[0], 1))]
    assert world.portions(torch.tensor(index, dtype=torch.int64)).tolist() == expected


@given(rates=RATES, samples=st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_frames_of_tracks_are_counted_exactly(rates, samples):
    world = Varied([1], 1, *rates)
    assert world.frames_of(torch.tensor(samples)).tolist() == [frames_by_hand(world, many) for many in samples]


@given(hops=st.integers(0, 10**6))
def test_a_frame_that_ends_with_the_last_sample_counts(hops):
    world = Varied([1], 1, 22_050, 22_050 / 512)
    assert world.frames_of(torch.tensor([512 * hops, 512 * hops - 1])).tolist() == [hops, hops - 1]


def test_whether_pieces_differ_follows_from_the_lengths():
    assert Varied([40, 41]).cropped() and not Varied([39, 40]).cropped()
    assert not Varied([40, 40]).cropped()
    for world in (Tones(TonesConfig(seconds=0.1, frequencies=2, amplitudes=2), 0), Digits(DigitsConfig(), 0)):
        assert not world.cropped()
        index = torch.tensor([3, 0, 3])
        for batch in (world.piece(index, 4, 5), world.excerpt(index)):
            assert torch.equal(batch.signal, world.whole(index).signal)
        assert world.lengths(index).tolist() == [world.signal.shape[0]] * 3
        assert world.portions(index).tolist() == [3, 0, 3]
        assert torch.equal(world.factor_values(index), world.whole(index).factors)
    varied, index = Varied([5] * 300), torch.arange(299, 0, -1)
    assert torch.equal(varied.factor_values(index), varied.whole(index).factors)
    assert varied.factor_values(index[:0]).shape == (0, 2)


def test_every_world_names_its_clips_and_groups():
    world = Tones(TonesConfig(seconds=0.1, frequencies=2, amplitudes=2), 0)
    index = torch.tensor([3, 0])
    assert world.group(index).tolist() == world.recording(index).tolist() == [3, 0]
    assert [world.group_names()[group] for group in world.group(index)] == ["3", "0"]
    assert world.identity(index) == ["tones 3", "tones 0"] and world.marks(index) == [(), ()]
    assert world.path(3) == "clip 3 of tones" and world.describe() == "tones: 16 clips"
    assert (world.group_kind, world.planted, world.tracks) == ("clip", True, ())


def test_a_batch_goes_to_a_device_whole():
    batch = Varied([5, 9]).whole(torch.tensor([1, 0]))
    moved = replace(batch, features=torch.ones(2, 3)).to("meta")
    for name in ("index", "signal", "factors", "features", "lengths", "tracks"):
        assert getattr(moved, name).device.type == "meta"
    assert batch.to("cpu").features is None


def test_features_cannot_be_cropped():
    world = Varied([50])
    batch = replace(world.whole(torch.tensor([0])), features=torch.ones(1, 3))
    at = torch.tensor([0])
    with pytest.raises(AssertionError, match="before the front end"):
        crop(batch, at, at + 3, 40, world.frames_of)


class Silent(World):
    name = "silent"
    signal = Signal("picture", (2, 2))
    factors = ()

    def __len__(self) -> int:
        return 3

    def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
        return Batch(index, torch.zeros(len(index), 2, 2), torch.zeros(len(index), 0))


def test_a_picture_has_no_time():
    world = Silent()
    assert world.piece(torch.tensor([2]), 0, 0).signal.shape == (1, 2, 2)
    with pytest.raises(AssertionError, match="picture"):
        world.frames_of(torch.tensor([3]))
