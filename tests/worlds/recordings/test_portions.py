"""Long recordings are drawn more often, without repeated pieces in a batch; excerpts; files without padding."""

import numpy as np
import pytest
import soundfile
import torch

from sonarium.worlds.export import save_audio
from sonarium.worlds.recordings.world import Recordings, RecordingsConfig

RATE = 8000


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Recordings:
    """A short, a medium and a long recording, in which each sample encodes its position."""
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
    batch = world.excerpt(torch.tensor([0, 1, 2]))
    assert batch.signal.shape == (3, 800) and batch.lengths is not None
    assert batch.lengths.tolist() == [400, 800, 800]
    begins = (batch.signal[:, 0] * 2**15).round().int().tolist()
    assert begins == [1, 601, 3801]
    assert world.whole(torch.tensor([2])).signal.shape == (1, 8400), "whole clips are as long as they are"


def test_what_is_written_has_no_padding(world, tmp_path):
    save_audio(world, tmp_path / "out")
    frames = [soundfile.info(path).frames for path in sorted((tmp_path / "out" / "clips").glob("*.wav"))]
    assert frames == [400, 2000, 8400]
