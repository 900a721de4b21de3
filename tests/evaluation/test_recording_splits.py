"""Splits of recordings: no group, file or sound is in two parts of a split; few groups; named groups."""

import pytest
import torch
from worlds.recordings.noises import settings_for, write

from sonarium.evaluation.splits import check, in_words, split_world
from sonarium.measures.splits import Split
from sonarium.worlds.contract import Batch, Signal, World
from sonarium.worlds.recordings.world import Recordings
from sonarium.worlds.tones.world import Tones, TonesConfig


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Six clips of three speakers."""
    root = tmp_path_factory.mktemp("corpus") / "sounds"
    sounds = [write(root / f"{'abc'[at % 3]}_{at}.wav", 0.3 + at / 10, at) for at in range(6)]
    order = sorted(range(6), key=lambda at: f"{'abc'[at % 3]}_{at}")
    return root, [sounds[at] for at in order]


def world_of(corpus, **changes):
    return Recordings(settings_for(corpus[0], **{"pattern": "{speaker}_{number}.wav", **changes}))


def test_splits_keep_groups_together_and_leaks_are_refused(corpus):
    world = world_of(corpus)
    parts = split_world(world, seed=0, test=0.34)
    check(world, parts)
    said = "split by speaker, none in two parts: train 4 clips of 2, 0.00 h; test 2 clips of 1, 0.00 h"
    assert in_words(world, parts) == said
    leaky = Split(torch.tensor([0, 2]), torch.tensor([4]), torch.tensor([1, 5]))
    with pytest.raises(ValueError, match="the split leaks: speaker a is in the train and in the test split"):
        check(world, leaky)
    with pytest.raises(ValueError, match="speaker c is in the train and in the validation split"):
        check(world, Split(torch.tensor([0, 4]), torch.tensor([5]), torch.tensor([2])))
    with pytest.raises(ValueError, match="does not have"):
        check(world, Split(torch.tensor([0, 4]), torch.tensor([2]), torch.tensor([6])))
    chosen = split_world(world, 0, test_groups=["b"], validation_groups=["c"])
    assert [part.tolist() for part in (chosen.train, chosen.validation, chosen.test)] == [[0, 1], [4, 5], [2, 3]]
    with pytest.raises(ValueError, match="no speaker is called 'z': there are a, b, c"):
        split_world(world, 0, test_groups=["z"])
    with pytest.raises(ValueError, match="are every speaker: leave some for training"):
        split_world(world, 0, test_groups=("a", "b"), validation_groups=("c",))
    with pytest.raises(ValueError, match="name the groups of the test split, too"):
        split_world(world, 0, validation_groups=("c",))
    with pytest.raises(ValueError, match="world 'tones' has no groups with names"):
        split_world(Tones(TonesConfig(), 0), 0, test_groups=("b",))


def test_files_are_groups_by_their_path_in_the_folder(corpus):
    world = world_of(corpus, pattern="", group="file")
    root, names = corpus[0], [path.name for path in world.paths]
    assert sorted(world.group_names()) == sorted(names)
    for said in (names[1], str(root / names[1])):
        assert split_world(world, 0, test_groups=[said]).test.tolist() == [1]


def test_the_same_sound_under_two_names_leaks(tmp_path):
    root = tmp_path / "sounds"
    for seed, name in enumerate(("ann/1.wav", "bob/2.wav")):
        write(root / name, seed=seed)
    (root / "bob" / "copy.wav").write_bytes((root / "ann" / "1.wav").read_bytes())
    world = Recordings(settings_for(root, group="label"))
    with pytest.raises(
        ValueError, match=r"ann/1.wav' in the train split and .*bob/copy.wav' .* the same recording"
    ):
        split_world(world, 0, test_groups=["bob"])
    # If each file is its own group, the two copies are one group.
    alone = Recordings(settings_for(root))
    assert len(alone.group_names()) == 2
    assert alone.groups[0] == alone.groups[2]


class Grouped(World):
    name = "grouped"
    signal = Signal("wave", (1,), 1)
    factors = ()

    def __init__(self, groups: int):
        self.groups = groups

    def __len__(self) -> int:
        return 3 * self.groups

    def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
        raise NotImplementedError

    def group(self, index: torch.Tensor) -> torch.Tensor:
        return index % self.groups


@pytest.mark.parametrize(
    ("groups", "validation", "expected"),
    [(2, 0.0, (1, 0, 1)), (2, 0.2, (1, 0, 1)), (3, 0.1, (1, 1, 1)), (4, 0.0, (3, 0, 1))],
)
def test_few_groups_are_dealt_so_that_each_part_has_one(groups, validation, expected):
    world = Grouped(groups)
    parts = split_world(world, seed=0, validation=validation)
    sides = (parts.train, parts.validation, parts.test)
    assert tuple(len(set(world.group(side).tolist())) for side in sides) == expected
    assert sorted(torch.cat(sides).tolist()) == list(range(len(world)))


def test_one_group_cannot_be_split():
    with pytest.raises(ValueError, match=r"has 1 group\(s\), none of which may be in two splits"):
        split_world(Grouped(1), seed=0)
