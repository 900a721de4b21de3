"""Contract of every world, including the codes of a run and worlds of other packages."""

import pytest
import torch
from contracts.small import EVERY_WORLD, OF_CODES, config_of, world_of

from sonarium.catalogue import WORLDS
from sonarium.evaluation.splits import split_world
from sonarium.worlds.contract import Batch, World

MOST = 24
pytestmark = pytest.mark.parametrize("name", EVERY_WORLD)


def some(world: World) -> torch.Tensor:
    """Indices of clips, spread over the world."""
    return torch.linspace(0, len(world) - 1, min(MOST, len(world))).long()


def held(batch: Batch) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(batch).items() if value is not None}


def lengths_of(world: World, batch: Batch) -> torch.Tensor:
    if batch.lengths is not None:
        return batch.lengths
    return torch.full((len(batch.index),), batch.signal.shape[1])


def check_equal(world: World, row: Batch, at: int, whole: Batch, place: int) -> None:
    """Assert that a clip is equal in two batches, except for padding."""
    length = int(lengths_of(world, whole)[place])
    assert int(lengths_of(world, row)[at]) == length
    assert torch.equal(row.signal[at, :length], whole.signal[place, :length])
    assert torch.equal(row.factors[at], whole.factors[place])
    if whole.sources is not None:
        assert row.sources is not None
        assert torch.equal(row.sources[at, :length], whole.sources[place, :length])
    if whole.tracks is not None:
        assert row.tracks is not None
        frames = int(world.frames_of(torch.tensor([length])))
        assert torch.equal(row.tracks[at, :frames], whole.tracks[place, :frames])


def test_a_clip_follows_from_its_index_alone(name, made, folder):
    """In any batch, in any order, and in the same world built again."""
    world, again = made(name), world_of(name, folder)
    index = some(world)
    whole = world.whole(index)
    assert torch.equal(whole.index, index) and whole.features is None
    assert whole.signal.isfinite().all() and whole.signal.dtype == torch.float32
    backwards, anew = world.whole(index.flip(0)), again.whole(index)
    for place in range(len(index)):
        check_equal(world, backwards, len(index) - 1 - place, whole, place)
        check_equal(world, anew, place, whole, place)
    for place in (0, len(index) - 1):
        check_equal(world, world.whole(index[[place]]), 0, whole, place)
    twice = world.whole(index[[1, 1]])
    check_equal(world, twice, 0, whole, 1)
    check_equal(world, twice, 1, whole, 1)


def test_what_lies_beyond_a_clip_is_zero_and_its_length_is_true(name, made):
    world = made(name)
    index = some(world)
    batch, lengths = world.whole(index), world.lengths(index)
    assert torch.equal(lengths_of(world, batch), lengths)
    assert batch.signal.shape == (len(index), int(lengths.max()), *world.signal.shape[1:])
    for row, length in enumerate(lengths.tolist()):
        assert not batch.signal[row, length:].any()
    assert world.cropped() == bool((world.lengths(torch.arange(len(world))) != world.signal.shape[0]).any())


def test_a_piece_is_a_stretch_of_its_clip_and_follows_from_seed_and_step(name, made):
    world = made(name)
    index = some(world)[:8].repeat(2)
    batch, size = world.piece(index, 5, 11), world.signal.shape[0]
    assert batch.signal.shape == (len(index), *world.signal.shape)
    again = held(world.piece(index, 5, 11))
    assert again.keys() == held(batch).keys()
    assert all(torch.equal(again[part], value) for part, value in held(batch).items())
    rows = held(world.piece(index, 5, 11, rows=slice(4, 12)))
    assert all(torch.equal(rows[part], value[4:12]) for part, value in held(batch).items())
    whole, begin = world.whole(index), world.beginnings(index, 5, 11).tolist()
    for row, (length, own) in enumerate(zip(world.lengths(index).tolist(), lengths_of(world, batch), strict=True)):
        assert own == min(length, size) and 0 <= begin[row] <= length - int(own)
        clip, piece = whole.signal[row, :length], batch.signal[row]
        assert torch.equal(clip[begin[row] : begin[row] + own], piece[:own])
        assert not piece[own:].any()
    assert torch.equal(batch.factors, whole.factors)
    if world.cropped():
        others = [world.piece(index, seed, step).signal for seed, step in ((5, 12), (6, 11))]
        assert not any(torch.equal(other, batch.signal) for other in others)
        assert not world.excerpt(index).signal.isnan().any()
    assert world.excerpt(index).signal.shape == batch.signal.shape


def test_portions_are_clips_as_often_as_a_piece_fits(name, made):
    world = made(name)
    index = some(world)
    times = (world.lengths(index) // world.signal.shape[0]).clamp(min=1)
    assert torch.equal(world.portions(index), index.repeat_interleave(times))


def test_clips_with_their_own_tracks_are_the_clips(name, made):
    world = made(name)
    batch = world.whole(some(world)[:4])
    if batch.tracks is not None:
        again = world.remade(batch.index, batch.tracks)
        assert again is None or all(torch.equal(held(again)[part], value) for part, value in held(batch).items())


def test_sources_are_what_the_signal_is_the_sum_of(name, made):
    world = made(name)
    index = some(world)[:6]
    batch, piece = world.whole(index), world.piece(index, 0, 0)
    if world.signal.sources is None:
        assert batch.sources is None
        return
    for one in (batch, piece):
        assert one.sources is not None
        time = one.signal.shape[1]
        assert one.sources.shape == (len(index), time, world.signal.sources, *world.signal.shape[1:])
        torch.testing.assert_close(one.sources.sum(2), one.signal)
        assert one.sources.square().sum((1, 3)).all(), "a source is silent"


def test_factors_and_tracks_are_values_that_the_world_names(name, made):
    world = made(name)
    index = some(world)
    batch = world.whole(index)
    assert torch.equal(world.factor_values(index), batch.factors)
    columns = [(factor, batch.factors[:, at]) for at, factor in enumerate(world.factors)]
    assert batch.factors.shape == (len(index), len(world.factors))
    frames = None
    if world.tracks:
        assert batch.tracks is not None and world.track_rate > 0
        frames = world.frames_of(world.lengths(index))
        assert batch.tracks.shape == (len(index), int(frames.max()), len(world.tracks))
        for row, count in enumerate(frames.tolist()):
            assert not batch.tracks[row, count:].any()
        columns += [(factor, batch.tracks[..., at]) for at, factor in enumerate(world.tracks)]
        cut = world.piece(index, 1, 1).tracks
        assert cut is not None and cut.shape[1] == int(world.frames_of(torch.tensor([world.signal.shape[0]])))
    else:
        assert batch.tracks is None
    for factor, column in columns:
        assert column.isfinite().all(), factor.name
        if factor.discrete:
            assert len(set(factor.values)) == len(factor.values)
            assert ((column == column.round()) & (column >= 0) & (column < len(factor.values))).all(), factor.name
    names = [factor.name for factor in (*world.factors, *world.tracks)]
    assert len(set(names)) == len(names)


def test_segments_lie_within_their_clip(name, made):
    world = made(name)
    index = some(world)
    every = world.marks(index)
    assert len(every) == len(index) and every == world.marks(index)
    per_second = world.signal.steps_per_second
    for marks, length in zip(every, world.lengths(index).tolist(), strict=True):
        for start, stop, label in marks:
            assert per_second is not None and isinstance(label, str) and label
            # Codes have fewer frames than their clips have samples: the last frame may end before a segment does.
            spare = 1.0 if name == OF_CODES else 1e-6
            assert 0 <= start < stop <= length / per_second + spare


def test_no_group_and_no_recording_lies_in_two_parts_of_a_split(name, made):
    world = made(name)
    everything = torch.arange(len(world))
    groups = world.group(everything)
    assert groups.shape == everything.shape and world.recording(everything).shape == everything.shape
    assert 0 <= int(groups.min()) <= int(groups.max()) < len(world.group_names())
    assert len(set(world.group_names())) == len(world.group_names())
    for seed in range(3):
        split = split_world(world, seed, test=0.3, validation=0.2)
        assert torch.equal(torch.cat([side for _, side in split.items()]).sort().values, everything)
        for number in (world.group, world.recording):
            sides = [set(number(side).tolist()) for _, side in split.items()]
            assert sum(map(len, sides)) == len(set().union(*sides))
        again = split_world(world, seed, test=0.3, validation=0.2)
        assert all(
            torch.equal(one, other) for (_, one), (_, other) in zip(split.items(), again.items(), strict=True)
        )


def test_equal_samples_have_equal_names_and_others_have_others(name, made, folder):
    world, again = made(name), world_of(name, folder)
    index = some(world)
    names = world.identity(index)
    assert names == again.identity(index) == world.identity(index.flip(0))[::-1]
    batch = world.whole(index)
    samples = [batch.signal[row].numpy().tobytes() for row in range(len(index))]
    assert len(set(names)) >= len(set(samples)), "different samples have one name"


def test_a_batch_is_made_on_the_device_that_is_asked_for(name, made):
    world = made(name)
    index, device = some(world)[:3], "meta"
    try:
        world.whole(index, device)
    except RuntimeError:
        # A world that computes on its device cannot use the meta device, which has no values.
        device = "cuda"
        if not torch.cuda.is_available():
            pytest.skip(f"{name} computes on its device, which needs one beside the CPU")
    for batch in (world.whole(index, device), world.piece(index, 0, 0, device), world.excerpt(index, device)):
        assert {value.device.type for value in held(batch).values()} == {device}


def test_it_is_described_in_one_line(name, made):
    world = made(name)
    assert world.name and "\n" not in world.describe() and world.path(0)


def test_its_entry_tells_the_form_of_its_signal(name, made, folder):
    if name == OF_CODES:
        pytest.skip("codes have no entry")
    entry, signal = WORLDS[name], made(name).signal
    assert entry.kind == signal.kind and (signal.steps_per_second is None) == (signal.kind == "picture")
    if entry.signal is not None:
        assert entry.signal(config_of(name, folder)) == signal
