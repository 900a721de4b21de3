"""State of the environments: saved and restored, copied, or pickled, they continue bit for bit."""

import json
import pickle
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from threading import Lock
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit
from typechecking import unchecked

import sonarium.rooms
from sonarium.rooms.acoustics.absorption import Air
from sonarium.rooms.acoustics.geometry import polygon
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.state import loaded_room, saved_room
from sonarium.rooms.seek.vector import SeekVector
from sonarium.training.state import pack, unpack

# Short windows and few steps, so that episodes end in every way.
CONFIG = SeekConfig(
    threads=1, seconds=0.05, loop=0.5, period=0.5, oracle_info=True, order=1, max_steps=9, radius=1.0, step=1.0,
    start_distance=1.5,
)  # fmt: skip
HARD: dict[str, dict[str, Any]] = {
    "stream": {"moving": 0.25, "diffuse_noise": -40.0, "point_noise": -40.0, "burst": 0.1, "stops": 0.2},
    "bent": {"room": "nonconvex", "moving": 0.25, "same_config": True, "observation": "features", "seconds": 0.1},
    "clip": {"clock": "clip", "loop": 0.25, "height": 3.0, "moving": 0.25, "stops": 0.2, "sources": 1,
             "distractors": 2, "target": "category", "wrong": "costs", "pose": True},
    "cue": {"sources": 1, "distractors": 2, "cue": 0.12},
    "apart": {"source_info": True, "moving": 0.25},
}  # fmt: skip


def through_files(state, folder):
    """The state after a round trip through the JSON and tensors of a checkpoint."""
    tensors: dict[str, torch.Tensor] = {}
    packed = json.loads(json.dumps(pack(state, tensors, folder)))
    return unpack(packed, tensors, folder)


@pytest.mark.parametrize(
    ("name", "mode"), list(zip(HARD, ["NextStep", "SameStep", "SameStep", "NextStep", "SameStep"], strict=True))
)
def test_rooms_go_on_bit_for_bit(name, mode, tmp_path):
    rooms, other = (SeekVector(3, CONFIG, autoreset_mode=mode, **HARD[name]) for _ in range(2))
    rooms.reset(seed=4)
    actions = np.random.default_rng(0).integers(0, 4, (20, 3))
    ended = [rooms.step(action) for action in actions[:12]]
    assert any((step[2] | step[3]).any() for step in ended), "an episode has begun since the seed"
    other.reset(seed=0)
    other.load_state_dict(through_files(rooms.state_dict(), tmp_path))
    copies = [other, deepcopy(rooms), pickle.loads(pickle.dumps(rooms))]
    for action in actions[12:]:
        expected = rooms.step(action)
        for one in copies:
            assert data_equivalence(one.step(action), expected, exact=True)


@pytest.mark.parametrize("name", HARD)
def test_a_single_room_and_a_wrapped_one_are_pickled(name):
    """The random generator is included, so that later episodes are the same, too."""
    changes: dict[str, Any] = HARD[name] | {"render_mode": "rgb_array"}
    for make in (
        lambda: Seek(CONFIG, **changes),
        lambda: gymnasium.make(sonarium.rooms.SEEK, config=CONFIG, **changes),
        lambda: RecordEpisodeStatistics(TimeLimit(Seek(CONFIG, **changes), 5)),
    ):
        room = make()
        room.reset(seed=3)
        room.step(2)
        other = pickle.loads(pickle.dumps(room))
        for action in (0, 0, 1, 2, 0, 3, 0):
            mine, its = room.step(action), other.step(action)
            # The wall time of an episode is not part of the state.
            for told in (mine, its):
                told[4].get("episode", {}).pop("t", None)
            assert data_equivalence(mine, its, exact=True)
            np.testing.assert_array_equal(room.render(), other.render())
            if mine[2] or mine[3]:
                assert data_equivalence(room.reset(), other.reset(), exact=True)


def test_disabled_autoreset_keeps_what_was_observed_last():
    rooms, other = (SeekVector(2, CONFIG, autoreset_mode="Disabled", max_steps=2) for _ in range(2))
    rooms.reset(seed=4)
    for _ in range(2):
        rooms.step(np.zeros(2, int))
    other.load_state_dict(rooms.state_dict())
    some = {"reset_mask": np.array([True, False])}
    assert data_equivalence(other.reset(options=some), rooms.reset(options=some), exact=True)


def test_a_room_that_was_given_is_kept_with_its_bands_and_air():
    corners = [(0, 0), (6, 0), (6, 3), (3, 3), (3, 6), (0, 6)]
    room = polygon(corners, absorption=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    alone, other = Seek(CONFIG, radius=0.6), Seek(CONFIG, radius=0.6)
    alone.reset(seed=3, options={"room": room})
    alone.step(2)
    other.load_state_dict(alone.state_dict())
    assert data_equivalence(alone.step(0), other.step(0), exact=True)
    np.testing.assert_array_equal(alone.scene().trajectory, other.scene().trajectory)
    banded = polygon(corners, 3.0, 0.3, air=Air(10.0, 30.0), speed=340.0)
    again = loaded_room(saved_room(banded))
    assert (again.air, again.bands, again.speed, again.height) == (banded.air, banded.bands, 340.0, 3.0)
    np.testing.assert_array_equal(again.absorption, banded.absorption)
    with unchecked():
        # Whole numbers are numbers, too.
        whole = Air(20, 50)
    assert loaded_room(saved_room(replace(banded, air=whole))).air == whole


def test_a_window_is_no_part_of_a_copy():
    room = Seek(CONFIG)
    room.reset(seed=0)
    # A lock stands in for a window, which cannot be copied either.
    room.window = lock = cast(Any, Lock())
    assert deepcopy(room).window is None and room.window is lock


WRONG: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "nan": (("arrays", "place", 0, 0), np.nan, "NaN"),
    "outside": (("arrays", "place", 0), np.array([99.0, 99.0]), "not in its room"),
    "a source outside": (("arrays", "source", 0, 0), np.array([99.0, 99.0]), "not in its room"),
    "another type": (("arrays", "on"), np.zeros((2, 2)), "array of bool"),
    "another shape": (("arrays", "heading"), np.zeros(5), "shape"),
    "too many steps": (("arrays", "steps", 0), 10**6, "steps reaches"),
    "negative": (("time", 0), -1, "time reaches"),
    "no kind": (("slots", 0, "sounds", 0, 0), 99, "none of"),
    "no number": (("slots", 0, "sounds", 0, 1), "0", "whole numbers"),
    "beyond its end": (("slots", 0, "sounds", 0, 2), 10**9, "after its recording"),
    "few sounds": (("slots", 0, "sounds"), [], "expected 2"),
    "few rooms": (("slots",), [], "list of 2 rooms"),
    "crossed walls": (
        ("slots", 0, "room", "corners"),
        np.array([(0, 0), (5, 5), (5, 0), (0, 5.0)]),
        "cross or touch",
    ),
    "clockwise": (
        ("slots", 0, "room", "corners"),
        np.array([(0, 0), (0, 9), (9, 9), (9, 0.0)]),
        "counter-clockwise",
    ),
    "tall": (("slots", 0, "room", "height"), 3.0, "absorption|coefficients|dimensions"),
    "absorbing": (("slots", 0, "room", "absorption"), np.full((4, 1), 7.0), "absorption"),
    "supersonic": (("slots", 0, "room", "speed"), -1.0, "speed"),
    "tails": (("tails", 0, 0, 0), np.inf, "NaN"),
    "no trace": (("trace",), np.zeros((2, 0, 3)), "trace has 0 poses"),
}


@pytest.fixture(scope="module")
def saved():
    rooms = SeekVector(2, CONFIG, render_mode="ansi")
    rooms.reset(seed=4)
    rooms.step(np.zeros(2, int))
    return rooms, rooms.state_dict()


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_state_of_theirs_is_refused(name, saved):
    rooms, state = saved
    damaged = deepcopy(state)
    (*way, last), value, said = WRONG[name]
    part = damaged["episodes"]
    for key in way:
        part = part[key]
    part[last] = value
    with pytest.raises(ValueError, match=said):
        deepcopy(rooms).load_state_dict(damaged)
    deepcopy(rooms).load_state_dict(state)


def test_generators_are_checked(saved):
    rooms, state = saved
    wrong = {
        "expected the state of a generator": {"randoms": [1, 2]},
        "none of 2 rooms": {"randoms": []},
        "a generator|none of 2": {"begun": 1},
        "not an observation": {"last": 3},
        "over is": {"over": np.zeros(2)},
    }
    for said, change in wrong.items():
        with pytest.raises(ValueError, match=said):
            deepcopy(rooms).load_state_dict(state | change)
    assert all(one is not other for one, other in pairwise([*rooms.randoms, *state["randoms"]]))
