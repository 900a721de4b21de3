"""Long recordings are drawn from more often, no piece twice in a batch; excerpts; and splits of few groups."""

import numpy as np
import pytest
import soundfile
import torch

from sonarium.worlds.contract import Batch, Signal, World, split
from sonarium.worlds.export import save_audio
from sonarium.worlds.recordings.world import Recordings, RecordingsConfig

RATE = 8000


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Recordings:
    """A short, a middling and a long recording, each sample of which tells its place."""
    folder = tmp_path_factory.mktemp("portions")
    for name, seconds in (("a", 0.05), ("b", 0.25), ("c", 1.05)):
        ramp = np.arange(round(seconds * RATE), dtype=np.int16) + 1
        (folder / "in").mkdir(exist_ok=True)
        soundfile.write(folder / "in" / f"{name}.wav", ramp, RATE)
    return Recordings(RecordingsConfig(path=f"{folder}/in", rate=RATE, seconds=0.1, cache=f"{folder}/cache"))


def test_a_clip_comes_as_often_as_a_piece_goes_into_it(world):
    assert world.portions(torch.tensor([2, 0, 1])).tolist() == [2] * 10 + [0] + [1] * 2


def test_the_same_clip_gives_several_pieces_of_one_batch(world):
    both = world.piece(torch.tensor([2, 0, 2, 2]), seed=3, step=5)
    begins = (both.signal[:, 0] * 2**15).round().int().tolist()
    assert len({begins[0], begins[2], begins[3]}) == 3
    alone = world.piece(torch.tensor([2]), seed=3, step=5)
    assert torch.equal(alone.signal[0], both.signal[0]), "the first follows from the clip alone"
    again = world.piece(torch.tensor([0, 2, 2]), seed=3, step=5)
    assert torch.equal(again.signal[1:], both.signal[[0, 2]])


def test_excerpts_are_the_middle_of_each_clip(world):
    batch = world.excerpts().whole(torch.tensor([0, 1, 2]))
    assert batch.signal.shape == (3, 800) and batch.lengths is not None
    assert batch.lengths.tolist() == [400, 800, 800]
    begins = (batch.signal[:, 0] * 2**15).round().int().tolist()
    assert begins == [1, 601, 3801]
    assert world.whole(torch.tensor([2])).signal.shape == (1, 8400), "the world itself still has whole clips"
    assert torch.equal(
        world.excerpts().entire().whole(torch.tensor([0, 2])).signal, world.whole(torch.tensor([0, 2])).signal
    )


def test_what_is_written_has_no_padding(world, tmp_path):
    save_audio(world, tmp_path / "out")
    frames = [soundfile.info(path).frames for path in sorted((tmp_path / "out" / "clips").glob("*.wav"))]
    assert frames == [400, 2000, 8400]


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
    parts = split(world, seed=0, validation=validation)
    sides = (parts.train, parts.validation, parts.test)
    assert tuple(len(set(world.group(side).tolist())) for side in sides) == expected
    assert sorted(torch.cat(sides).tolist()) == list(range(len(world)))


def test_one_group_cannot_be_split():
    with pytest.raises(ValueError, match=r"has 1 group\(s\), no part of which may be on both sides"):
        split(Grouped(1), seed=0)
