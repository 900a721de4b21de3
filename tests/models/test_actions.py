"""Actions of a world model per token, from tracks, labels and elapsed time."""

import re
from dataclasses import replace

import pytest
import torch
from contracts.small import Ramps

from sonarium.models.actions import Action, Actions, Change, averaged, change, completed, parsed
from sonarium.worlds.contract import UNKNOWN, Batch, Factor

WORLD = Ramps()
"""World with a sampling rate of 100 Hz, and tracks with a frame rate of 20 Hz."""


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


def whole(batch: Batch, tokens: int) -> torch.Tensor:
    return torch.full((len(batch.index),), tokens)


def test_what_lies_behind_the_end_of_a_clip_is_not_measured():
    own, batch = actions("time"), WORLD.whole(torch.arange(4))
    assert batch.tracks is not None
    for _ in own.see([batch], 2, lambda batch, tokens: torch.tensor([2, 1, 1, 0])):
        pass
    values = batch.tracks[:, :8, 0].double().view(4, 2, 4).mean(2)
    there = torch.cat([values[0], values[1:3, 0]])
    torch.testing.assert_close(own.mean[0].double(), there.mean())
    torch.testing.assert_close(own.scale[0].double(), there.std(correction=0))


def test_an_action_that_is_there_twice_is_refused():
    with pytest.raises(ValueError, match="--actions half: it is there twice; give each once"):
        completed(("half", "number", "half"), WORLD)


def test_tracks_are_averaged_over_each_token_and_scaled():
    own, batch = actions("time", "half"), WORLD.whole(torch.arange(4))
    assert batch.tracks is not None
    frames = batch.tracks.double()
    for _ in own.see([batch], 2, whole):
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
    # The last frame is held beyond the end.
    assert averaged(frames, 5, 1.0)[0, :, 0].tolist() == [0, 1, 2, 2, 2]


class Unlabelled(Ramps):
    factors = (Factor("parity", ("even", UNKNOWN)),)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: completed(("pitch",), WORLD), "this world has parity, number, time, half; choose of these"),
        (
            lambda: completed(("parity",), Unlabelled()),
            "parity: 10 of 20 clips have no parity, the first clip 1 of ramps; label them",
        ),
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


def fitted(*names: str) -> tuple[Actions, tuple]:
    own, batch = actions(*names), WORLD.whole(torch.arange(8))
    for _ in own.see([batch], 2, whole):
        pass
    return own, own.taken([batch], 2, WORLD)


def test_a_number_with_a_sign_is_added_and_another_is_set():
    own, taken = fitted("number", "parity", "elapsed")
    assert [(one.name, one.names, one.low, one.high) for one in taken] == [
        ("number", (), 0.0, 7.0), ("parity", ("even", "odd"), 0.0, 0.0), ("elapsed", (), 0.0, 0.2),
    ]  # fmt: skip
    batch = WORLD.whole(torch.tensor([2, 3]))
    given = own(batch, 2)
    made = own.steered(given, [change("number=+1.5"), change("parity=odd")], taken)
    expected = own(replace(batch, factors=torch.tensor([[1.0, 3.5], [1.0, 4.5]])), 2)
    torch.testing.assert_close(made, expected)
    fixed = own.steered(given, [change("number=6")], taken)
    torch.testing.assert_close(fixed, own(replace(batch, factors=torch.tensor([[0.0, 6.0], [1.0, 6.0]])), 2))
    assert torch.equal(given, own(batch, 2))


def test_a_value_that_the_training_split_does_not_have_is_refused():
    own, even = actions("parity", "half"), WORLD.whole(torch.arange(0, 8, 2))
    taken = own.taken([even], 2, WORLD)
    assert [one.names for one in taken] == [("even", ""), ("first", "second")]
    assert str(taken[0]) == "parity (even)"
    given = own(even, 2)
    made = own.steered(given, [change("half=second"), change("parity=even")], taken)
    assert bool((made[..., 1:] == torch.tensor([1.0, 0, 0, 1])).all())
    with pytest.raises(ValueError, match="of parity the training split has even; give one of these"):
        own.steered(given, [change("parity=odd")], taken)


def test_padding_takes_no_value():
    own, batch = actions("time", "half"), WORLD.whole(torch.tensor([0, 3]))
    assert batch.tracks is not None and batch.lengths is not None
    inside = torch.arange(batch.tracks.shape[1]) < (batch.lengths[:, None] * 20 // 100)
    padded = replace(batch, tracks=inside[..., None].expand(-1, -1, 2).float())
    assert not bool(inside.all())
    time, half = own.taken([padded], 3, WORLD)
    assert half.names == ("", "second") and (time.low, time.high) == (1, 1)


def test_what_pieces_do_not_show_is_found_in_the_clips():
    """Pieces of one token lack the second half and most of the elapsed time, and four clips lack some numbers."""
    own, some = actions("half", "parity", "number", "elapsed", "time"), WORLD.whole(torch.arange(0, 8, 2))
    pieces = own.taken([some], 1, WORLD)
    assert pieces[0].names == ("first", "") and pieces[1].names == ("even", "")
    half, parity, number, elapsed, time = own.taken_by_all(pieces, WORLD, torch.arange(10), 3)
    assert half.names == ("first", "second") and parity.names == ("even", "odd")
    assert (number.low, number.high) == (0, 9) and (elapsed.low, elapsed.high) == (0, pytest.approx(0.4))
    assert time == pieces[4]
    assert own.taken_by_all(pieces, WORLD, torch.arange(0, 10, 2), 3)[1].names == ("even", "")


def test_time_counts_from_the_beginning_of_the_recording():
    own, taken = fitted("elapsed", "number")
    made = own.assumed(2, 3, begin=7.5)
    seconds = made[..., 1] * own.scale[0] + own.mean[0]
    torch.testing.assert_close(seconds[0, 2:], torch.tensor([7.9, 8.1, 8.3]).double())
    assert not made[:, :2].any()
    given = own(WORLD.whole(torch.arange(3)), 4)
    later = own.timed(given, 0.6)
    torch.testing.assert_close(
        own.in_world(later)[..., 0], torch.tensor([0.6, 0.8, 1.0, 1.2]).double().expand(3, -1)
    )
    torch.testing.assert_close(later[..., [0, 2]], given[..., [0, 2]])
    torch.testing.assert_close(own.in_world(given)[..., 1], torch.arange(3.0).double()[:, None].expand(-1, 4))
    # Tokens begin at 0 and 0.2 s in training; unknown actions do not count.
    assert own.too_late(own.assumed(2, 3, begin=7.5), taken).startswith(
        "elapsed reaches 8.3 s, and the model was trained on 0 to 0.2 s of a piece"
    )
    assert own.too_late(given[:, :2], taken) == "" and own.too_late(own.unknown(1, 9), taken) == ""


def test_what_is_unknown_is_assumed_to_be_as_usual():
    own, taken = fitted("number", "parity", "elapsed")
    made = own.assumed(2, 2)
    assert not made[:, :2].any() and bool((made[:, 2:, 0] == 1).all()) and not made[:, 2:, 1:4].any()
    torch.testing.assert_close(made[0, 2:, 4] * own.scale[2] + own.mean[2], torch.tensor([0.4, 0.6]).double())
    with pytest.raises(ValueError, match="'parity' is not known of this sound: give it, too, one of even, odd"):
        own.steered(made[:, 2:], [change("number=+1")], taken)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("pitch=+1", "action 'pitch': the model knows number (0 to 7); parity (even, odd); choose of these"),
        ("number=+9", "reaches 12, and the training split has 0 to 7: give -2 to +4"),
        ("number=8", "reaches 8, and the training split has 0 to 7: give 0 to 7"),
        ("number=x", "number is a number; give one, as +0.3"),
        ("number=nan", "number is a number; give one, as +0.3"),
        ("parity=prime", "of parity the training split has even, odd; give one of these"),
    ],
)
def test_an_action_that_the_model_has_not_met_is_refused(written, said):
    own, taken = fitted("number", "parity")
    given = own(WORLD.whole(torch.tensor([2, 3])), 2)
    with pytest.raises(ValueError, match=re.escape(said)):
        own.steered(given, [change(written)], taken)


def test_a_change_has_a_name_and_a_value():
    assert change("a=+1") == Change("a", "+1", True) and change("a=1") == Change("a", "1")
    assert change("a==-1") == Change("a", "-1") and change("a=-1").relative
    for wrong in ("x", "=1", "x=", "x=="):
        with pytest.raises(ValueError, match="give NAME=VALUE"):
            change(wrong)
    with pytest.raises(ValueError, match="the model knows none; train it with --actions"):
        actions().steered(torch.zeros(1, 2, 0).double(), [change("x=1")], ())
