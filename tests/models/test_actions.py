"""Actions of a world model: from tracks, labels and time to numbers of each token."""

from dataclasses import replace

import pytest
import torch
from contracts.small import Ramps

from sonarium.models.actions import Action, Actions, averaged, completed, parsed
from sonarium.worlds.contract import UNKNOWN, Factor

WORLD = Ramps()
"""100 samples and 20 frames of tracks a second."""


def actions(*names: str, token_rate: float = 5.0) -> Actions:
    return Actions(parsed(completed(names, WORLD)), token_rate).double()


def test_a_name_is_completed_by_its_place_in_the_world():
    found = completed(("half", "number", "elapsed"), WORLD)
    assert parsed(found) == (
        Action("half", "track", 1, 2, 20.0),
        Action("number", "label", 1, 1),
        Action("elapsed", "time", 0, 1),
    )
    assert completed(found, WORLD) == found


def test_tracks_are_averaged_over_each_token_and_scaled():
    own, batch = actions("time", "half"), WORLD.whole(torch.arange(4))
    assert batch.tracks is not None
    frames = batch.tracks.double()
    for _ in own.see([batch], 2):
        pass
    values = frames[:, :8, 0].view(4, 2, 4).mean(2)
    made = own(batch, 2)
    assert made.shape == (4, 2, own.width) and own.width == 4 and bool((made[..., 0] == 1).all())
    mean, spread = values.mean(), values.std(correction=0)
    torch.testing.assert_close(made[..., 1], (values - mean) / spread, rtol=1e-6, atol=1e-6)
    half = (frames[:, :8, 1].view(4, 2, 4)).mean(2)
    torch.testing.assert_close(made[..., 2:], torch.stack([1 - half, half], -1))
    assert not own.unknown(2, 3).any()


def test_labels_hold_for_the_whole_clip_and_time_runs():
    own, batch = actions("parity", "elapsed"), WORLD.whole(torch.arange(2))
    made = own(batch, 3)
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()[:, None].expand(-1, 3, -1)
    assert torch.equal(made[..., 1:3], expected)
    torch.testing.assert_close(made[..., 3], torch.tensor([0.0, 0.2, 0.4]).double().expand(2, -1))


def test_a_token_shorter_than_a_frame_takes_the_frame_it_lies_in():
    frames = torch.arange(3.0)[None, :, None]
    assert averaged(frames, 6, 0.5)[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert averaged(frames, 3, 1.5)[0, :, 0].tolist() == [0, 1.5, 2]
    # Beyond the last frame that one stays.
    assert averaged(frames, 5, 1.0)[0, :, 0].tolist() == [0, 1, 2, 2, 2]


class Unlabelled(Ramps):
    factors = (Factor("parity", ("even", UNKNOWN)),)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: completed(("pitch",), WORLD), "this world has parity, number, time, half; choose of these"),
        (lambda: completed(("parity",), Unlabelled()), "some clips have no parity"),
        (lambda: parsed(("pitch",)), "give the name of a track or label"),
        (lambda: parsed(("pitch:track:0:1:nan",)), "give the name of a track or label"),
        (lambda: parsed(("pitch:track:0:99999999999:1.0",)), "give the name of a track or label"),
    ],
)
def test_actions_that_a_world_does_not_have_are_refused(act, said):
    with pytest.raises(ValueError, match=said):
        act()


def test_clips_without_the_tracks_are_refused():
    batch = replace(WORLD.whole(torch.arange(2)), tracks=None)
    with pytest.raises(ValueError, match="use the world that the model was trained on"):
        actions("time")(batch, 2)
