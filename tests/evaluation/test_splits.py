"""Splits of worlds: the same as in version 0.1, cheap for large worlds, and recorded by the content of clips."""

import json
import time
from collections.abc import Sequence

import pytest
import torch

from sonarium.evaluation.splits import Split, check, compare, hold, in_words, split_world
from sonarium.worlds.contract import Batch, Signal, World


class Grouped(World):
    """Clips of birds, a few recordings each."""

    name, group_kind, planted = "grouped", "bird", False
    signal = Signal("wave", (8000,), 8000)
    factors = ()

    def __init__(self, clips: int, groups: int, sounds: Sequence[str] = ()):
        self.clips, self.groups = clips, groups
        self.sounds = list(sounds) or [f"sound {clip}" for clip in range(clips)]

    def __len__(self) -> int:
        return self.clips

    def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
        raise AssertionError("a split reads no sound")

    def group(self, index: torch.Tensor) -> torch.Tensor:
        return index * 7919 % self.groups

    def group_names(self) -> tuple[str, ...]:
        return tuple(f"bird {number}" for number in range(self.groups))

    def recording(self, index: torch.Tensor) -> torch.Tensor:
        return torch.tensor([self.sounds.index(self.sounds[clip]) for clip in index.tolist()])

    def identity(self, index: torch.Tensor) -> list[str]:
        return [self.sounds[clip] for clip in index.tolist()]


def listed(split: Split[torch.Tensor]) -> list[list[int]]:
    return [side.tolist() for _, side in split.items()]


def test_equal_seeds_give_the_splits_of_version_0_1():
    assert listed(split_world(Grouped(10, 3), 1, 0.2, 0.2)) == [[1, 4, 7], [0, 3, 6, 9], [2, 5, 8]]
    assert listed(split_world(Grouped(10, 3), 1, 0.0)) == [list(range(10)), [], []]


def test_named_groups_are_the_parts():
    world = Grouped(9, 3)
    split = split_world(world, 0, test_groups=("bird 1",), validation_groups=("bird 0",))
    assert [world.group(side).unique().tolist() for _, side in split.items()] == [[2], [0], [1]]
    assert in_words(world, split).startswith("split by bird, none in two parts: train 3 clips of 1, 0.00 h; val")
    for test, validation, said in (
        (("owl",), (), "no bird is called 'owl': there are bird 0, bird 1, bird 2"),
        (("bird 0",), ("bird 0",), "bird 0 is in the validation and in the test split"),
        (("bird 0", "bird 1", "bird 2"), (), "are every bird: leave some for training"),
    ):
        with pytest.raises(ValueError, match=said):
            split_world(world, 0, test_groups=test, validation_groups=validation)
    with pytest.raises(ValueError, match="leave nothing to train on"):
        split_world(world, 0, 0.8, 0.2)


def test_one_recording_of_two_groups_is_refused():
    world = Grouped(6, 3, ["same" if clip in (0, 1) else str(clip) for clip in range(6)])
    with pytest.raises(ValueError, match=r"'clip 0 of grouped' in the .*'clip 1 of grouped' .* the same"):
        check(world, Split(torch.tensor([0, 3]), torch.tensor([], dtype=torch.int64), torch.tensor([1, 4])))


def test_the_record_of_a_split_goes_by_content(tmp_path):
    world = Grouped(6, 3)
    split = split_world(world, 0, 0.4)
    hold(world, split, tmp_path)
    record = json.loads((tmp_path / "split.json").read_text())
    assert record["group"] == "bird" and record.keys() == {"group", "train", "validation", "test"}
    assert record["test"]["clips"] == world.identity(split.test) and record["validation"]["groups"] == []
    hold(world, split, tmp_path)
    fewer = Grouped(6, 3, [*world.sounds[:5], "new"])
    with pytest.raises(ValueError, match=r"began with: 1 clip\(s\) came, 1 went, 0 would lie in another part"):
        compare(fewer, split, tmp_path)
    with pytest.raises(ValueError, match=r"0 clip\(s\) came, 0 went, \d would lie in another part of the split"):
        hold(world, Split(split.test, split.validation, split.train), tmp_path)
    (tmp_path / "split.json").write_text("{}")
    with pytest.raises(ValueError, match=r"split.json' is damaged: restore it"):
        compare(world, split, tmp_path)


def test_rendered_clips_are_not_recorded_and_split_at_once(tmp_path):
    class Rendered(World):
        name = "rendered"
        rendered = True
        signal = Signal("wave", (8000,), 8000)
        factors = ()

        def __len__(self) -> int:
            return 32_000

        def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
            raise AssertionError("a split renders no sound")

    world, start = Rendered(), time.perf_counter()
    split = split_world(world, 0, 0.2, 0.1)
    hold(world, split, tmp_path)
    compare(world, split, tmp_path)
    assert time.perf_counter() - start < 2 and not list(tmp_path.iterdir())
    assert [len(side) for _, side in split.items()] == [22_400, 3_200, 6_400]
    with pytest.raises(ValueError, match="world 'rendered' has no groups with names; use --test"):
        split_world(world, 0, test_groups=("17",))
