"""Seek obeys the API of Gymnasium and the laws of acoustics: a source on the left sounds left, a found one is
silent."""

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from typechecking import unchecked

import sonarium.rooms
from sonarium.rooms.acoustics.geometry import polygon, shoebox
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.vector import SeekVector

FORWARD, BACK, LEFT, RIGHT = range(4)
ELL = polygon([(0, 0), (8, 0), (8, 3), (3, 3), (3, 8), (0, 8)], absorption=1.0)
HALL = shoebox((12, 8), absorption=1.0)


def seek(room=HALL, places=((9.0, 4.0),), pose=(3.0, 4.0, 0.0), **changes):
    """An environment without reflections unless `changes` set them."""
    env = Seek(SeekConfig(sources=len(places), order=0, oracle_info=True, threads=1), **changes)
    observation, info = env.reset(seed=0, options={"room": room, "places": places, "pose": pose})
    return env, observation, info


def test_importing_rooms_registers_both_names():
    assert {sonarium.rooms.SEEK, sonarium.rooms.SEEK_VECTOR} <= set(gymnasium.registry)
    env = gymnasium.make("sonarium/Seek-v0", sources=1, threads=1, disable_env_checker=True)
    assert isinstance(env.unwrapped, Seek) and env.unwrapped.config.sources == 1
    with pytest.raises(ValueError, match="did you mean 'sources'"):
        gymnasium.make("sonarium/Seek-v0", surces=1)


def test_turning_left_is_left_and_moves_follow_the_heading():
    env, _, _ = seek(turn=90.0, step=1.0)
    poses = [env.step(action)[4]["pose"] for action in (LEFT, FORWARD, LEFT, FORWARD, RIGHT, RIGHT, BACK)]
    expected = [(3, 4, 90), (3, 5, 90), (3, 5, 180), (2, 5, 180), (2, 5, 90), (2, 5, 0), (1, 5, 0)]
    np.testing.assert_allclose(np.array(poses) * [1, 1, 180 / np.pi], expected, atol=1e-9)


def test_the_compass_moves_along_the_axes_whatever_the_heading():
    env, _, _ = seek(actions="compass", pose=(3.0, 4.0, 1.0), step=1.0, radius=0.8)
    poses = [env.step(action)[4]["pose"] for action in range(6)]
    turn = math.radians(30)
    expected = [(3, 5, 1), (3, 4, 1), (2, 4, 1), (3, 4, 1), (3, 4, 1 + turn), (3, 4, 1)]
    np.testing.assert_allclose(poses, expected, atol=1e-9)


def test_continuous_actions_are_shares_of_a_step_and_a_turn():
    env, _, _ = seek(actions="continuous")
    pose = env.step(np.array([0.5, 0.0], np.float32))[4]["pose"]
    np.testing.assert_allclose(pose, [3.25, 4, 0])
    pose = env.step(np.array([-1.0, -0.5], np.float32))[4]["pose"]
    np.testing.assert_allclose(pose, [2.75, 4, -math.radians(15)])
    assert env.step(np.array([0.0, 1.0], np.float32))[4]["pose"][2] == pytest.approx(math.radians(15))


def lag(heard):
    """Delay in samples of the right ear relative to the left."""
    left, right = heard.astype(float)
    size = 2 * heard.shape[1]
    found = np.fft.irfft(np.fft.rfft(right, 16 * size // 16) * np.conj(np.fft.rfft(left, size)), 16 * size)
    return (np.argmax(np.r_[found[-512:], found[:512]]) - 512) / 16


@pytest.mark.parametrize(("degrees", "side"), [(0, 0), (90, -1), (-90, 1), (45, -math.sqrt(0.5)), (180, 0)])
def test_ears_lie_left_and_right_of_the_heading(degrees, side):
    """OtoWorld's lie in front and behind. Turned left of a source, the agent hears it at the right ear first."""
    _, heard, _ = seek(pose=(3.0, 4.0, math.radians(degrees)), sounds=("babble",), ear_distance=0.4, rate=16000)
    assert lag(heard) == pytest.approx(side * 0.4 / 343 * 16000, abs=1.2)


def test_turning_left_takes_the_sound_to_the_right():
    env, _, info = seek(sounds=("babble",), head="sphere", order=0)
    assert info["bearing"] == pytest.approx(0)
    for _ in range(2):
        heard, _, _, _, info = env.step(LEFT)
    assert info["bearing"] == pytest.approx(-math.radians(60))
    left, right = np.square(heard[:, 200:]).mean(axis=1)
    assert right > 1.3 * left and lag(heard) < -1


def test_walls_block_and_the_agent_stays_put():
    env, _, _ = seek(pose=(0.4, 4.0, math.pi))
    for _ in range(3):
        pose = env.step(FORWARD)[4]["pose"]
        np.testing.assert_allclose(pose, [0.4, 4.0, math.pi])
    assert env.step(BACK)[4]["pose"][0] == pytest.approx(0.9)


def test_no_step_leads_through_a_thin_wall():
    fence = polygon([(0, 0), (4, 0), (4, 2.9), (4.2, 2.9), (4.2, 0), (8, 0), (8, 4), (0, 4)])
    env, _, _ = seek(fence, [(6.0, 1.0)], (3.7, 1.0, 0.0), step=1.0)
    assert env.step(FORWARD)[4]["pose"][0] == 3.7


@pytest.mark.parametrize("actions", ["turn", "compass", "continuous"])
@pytest.mark.parametrize("room", ["ngon", "nonconvex"])
def test_both_ears_stay_inside_whatever_is_done(room, actions):
    env = Seek(room=room, actions=actions, order=0, threads=1, oracle_info=True, seconds=0.01, step=0.9)
    env.action_space.seed(0)
    for seed in range(2):
        env.reset(seed=seed)
        for _ in range(40):
            _, _, terminated, _, info = env.step(env.action_space.sample())
            x, y, heading = info["pose"]
            side = 0.1 * np.array([-math.sin(heading), math.cos(heading)])
            assert env.scene().room.inside(np.array([x, y]) + np.stack([side, -side])).all()
            if terminated:
                break


def test_a_source_is_found_from_its_radius_and_falls_silent():
    env, _, info = seek(places=((4.4, 4.0), (9.0, 4.0)), step=0.5, radius=0.5)
    assert info["found"] == 0 and info["on"].tolist() == [True, True]
    _, _, terminated, _, info = env.step(FORWARD)
    assert info["found"] == 0, "0.9 m are too far"
    _, earned, terminated, _, info = env.step(FORWARD)
    assert info["found"] == 1 and info["on"].tolist() == [False, True] and not terminated and earned > 9
    assert env.scene().found_at.tolist() == [2, -1]
    assert env.step(BACK)[1] < 9, "it is paid once"


def test_a_source_behind_a_wall_is_not_found():
    fence = polygon([(0, 0), (4, 0), (4, 2.9), (4.2, 2.9), (4.2, 0), (8, 0), (8, 4), (0, 4)])
    env, _, _ = seek(fence, [(4.4, 1.0)], (3.3, 1.0, 0.0), radius=0.9)
    _, _, terminated, _, info = env.step(FORWARD)
    assert abs(info["pose"][0] - 3.8) < 1e-9 and not terminated and info["found"] == 0
    env, _, _ = seek(shoebox((8, 4)), [(4.4, 1.0)], (3.3, 1.0, 0.0), radius=0.9)
    assert env.step(FORWARD)[2], "without the wall it is"


def test_finding_all_terminates_and_time_truncates():
    env, _, _ = seek(places=((4.4, 4.0),), max_steps=2)
    assert env.step(FORWARD)[2:4] == (False, False)
    assert env.step(FORWARD)[2:4] == (True, False), "found in the last step: over, not cut off"
    env, _, _ = seek(max_steps=2)
    assert env.step(LEFT)[2:4] == (False, False)
    assert env.step(LEFT)[2:4] == (False, True)
    with pytest.raises(ResetNeeded, match="over or has not begun: call reset"):
        env.step(LEFT)
    env.reset()
    env.step(LEFT)


def test_nothing_can_be_done_before_the_first_reset():
    env = Seek(threads=1)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(LEFT)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.scene()


@pytest.mark.parametrize(
    ("actions", "wrong"),
    [
        ("turn", 4), ("turn", -1), ("turn", 1.0), ("turn", math.nan), ("turn", [0, 1]), ("turn", True),
        ("compass", 6), ("continuous", [0.0, 1.1]), ("continuous", [math.nan, 0.0]),
        ("continuous", [math.inf, 0.0]), ("continuous", 0), ("continuous", [0.0, 0.0, 0.0]), ("turn", None),
    ],
)  # fmt: skip
def test_actions_outside_their_space_are_refused(actions, wrong):
    env, _, _ = seek(actions=actions)
    before = env.scene().pose
    with pytest.raises(ValueError, match="got the action"):
        env.step(wrong)
    np.testing.assert_array_equal(env.scene().pose, before)
    env.step(env.action_space.sample())


@pytest.mark.parametrize("clock", ["stream", "clip"])
def test_only_when_all_is_off_is_there_silence(clock):
    env, heard, _ = seek(places=((4.0, 4.0), (5.0, 4.0)), clock=clock, loop=1.0)
    assert np.abs(heard).max() > 0
    for number in range(4):
        heard, _, terminated, _, _ = env.step(FORWARD)
        assert (np.abs(heard).max() > 0) or terminated, number
        if terminated:
            break
    assert terminated
    if clock == "clip":
        assert np.abs(heard).max() == 0


@pytest.mark.parametrize("order", [0, 2])
def test_walls_that_take_everything_leave_the_direct_sound(order):
    _, heard, _ = seek(order=order)
    assert np.abs(heard).max() > 1e-4


def test_silence_behind_a_wall_is_legal():
    """No line of sight and fully absorbing walls: all samples are zero, although the source is on."""
    env, heard, info = seek(ELL, [(7.0, 1.0)], (1.0, 7.0, 0.0), order=2)
    assert np.abs(heard).max() == 0 and info["distance"] > 8 and info["on"].all()
    for action in (LEFT, FORWARD, BACK, RIGHT):
        heard, earned, *_ = env.step(action)
        assert np.isfinite(heard).all() and np.isfinite(earned)


def test_what_is_told_of_the_way_leads_round_the_corner():
    env, _, info = seek(ELL, [(7.0, 1.0), (2.5, 5.0)], (1.0, 7.0, 0.0))
    to_second = np.array([2.5 - 1.0, 5.0 - 7.0])
    assert info["distance"] == pytest.approx(np.hypot(*to_second))
    assert info["bearing"] == pytest.approx(math.atan2(to_second[1], to_second[0]))
    bend = np.array([2.85, 2.85])
    second = np.array([2.5, 5.0])
    rest = np.hypot(*(bend - second)) + np.hypot(*(np.array([7.0, 1.0]) - bend))
    assert info["reachable_distance"] == pytest.approx(np.hypot(*to_second) + rest)
    assert info["walked"] == 0
    assert [env.step(BACK)[4]["walked"] for _ in range(3)] == pytest.approx([0.5, 0.5, 0.5]), "a wall is behind"
    assert env.step(FORWARD)[4]["walked"] == pytest.approx(1.0)


def test_without_tell_only_the_count_is_told():
    env = Seek(threads=1)
    assert env.reset(seed=0)[1] == {"found": 0, "is_success": False}
    assert set(env.step(LEFT)[4]) == {"found", "is_success"}


def test_samples_seldom_reach_their_bounds():
    clipped = heard = 0
    for seed in range(6):
        env = Seek(room=("shoebox", "nonconvex")[seed % 2], threads=1)
        observation, _ = env.reset(seed=seed)
        env.action_space.seed(seed)
        for _ in range(30):
            clipped, heard = clipped + (np.abs(observation) >= 1).sum(), heard + observation.size
            loud = np.sqrt(np.mean(observation**2))
            assert 1e-4 < loud < 0.5
            observation, _, terminated, _, _ = env.step(env.action_space.sample())
            if terminated:
                break
    assert clipped < 1e-4 * heard


def test_gain_scales_and_clips():
    _, plain, _ = seek()
    _, doubled, _ = seek(gain=2.0)
    _, huge, _ = seek(gain=1e4)
    np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-6)
    assert np.abs(huge).max() == 1


def test_the_same_config_keeps_room_and_places_until_it_is_seeded():
    env = Seek(same_config=True, room="nonconvex", threads=1, oracle_info=True)
    _, first = env.reset(seed=1)
    corners = env.scene().room.corners
    first_sounds = [env.scene().sounds]
    for _ in range(4):
        _, again = env.reset()
        np.testing.assert_array_equal(again["sources"], first["sources"])
        np.testing.assert_array_equal(again["pose"], first["pose"])
        np.testing.assert_array_equal(env.scene().room.corners, corners)
        first_sounds.append(env.scene().sounds)
    assert len(set(first_sounds)) > 1, "sounds are new nevertheless"
    _, other = env.reset(seed=2)
    assert not np.array_equal(other["sources"], first["sources"])
    _, back = env.reset(seed=1)
    np.testing.assert_array_equal(back["sources"], first["sources"])


def test_a_layout_seed_keeps_room_and_places_whatever_the_seed():
    config: dict[str, Any] = {"layout_seed": 3, "room": "nonconvex", "threads": 1, "oracle_info": True}
    env, many = Seek(**config), SeekVector(3, **config)
    _, first = env.reset(seed=1)
    corners, sounds = env.scene().room.corners, []
    for seed in (None, 1, 2, 3):
        _, again = env.reset(seed=seed)
        for name in ("sources", "pose"):
            np.testing.assert_array_equal(again[name], first[name])
        np.testing.assert_array_equal(env.scene().room.corners, corners)
        sounds.append(env.scene().sounds)
    assert len(set(sounds)) > 1, "sounds are new nevertheless"
    _, infos = many.reset(seed=7)
    np.testing.assert_array_equal(infos["pose"], np.stack([first["pose"]] * 3))
    config["layout_seed"] = 4
    _, other = Seek(**config).reset(seed=1)
    assert not np.array_equal(other["sources"], first["sources"])
    _, put = env.reset(seed=1, options={"room": shoebox((8, 8)), "pose": (4.0, 4.0, 0.0)})
    np.testing.assert_array_equal(put["pose"], (4.0, 4.0, 0.0))


def test_a_room_with_a_height():
    env = Seek(height=3.0, threads=1, order=1)
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space and np.abs(observation).max() > 0
    assert env.scene().room.dimension == 3


def test_the_scene_keeps_the_trajectory():
    env, _, _ = seek()
    for action in (FORWARD, LEFT, FORWARD):
        env.step(action)
    scene = env.scene()
    assert scene.trajectory.shape == (4, 3) and (scene.trajectory[-1] == scene.pose).all()
    np.testing.assert_allclose(scene.trajectory[0], [3, 4, 0])
    levels = scene.level_map(np.array([[8.0, 4.0], [1.0, 1.0]]))
    assert levels[0] > levels[1]
    env.reset(seed=3)
    assert len(env.scene().trajectory) == 1 and len(scene.trajectory) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": 1}, "option 'colour': the options are room, places, pose"),
        ({"room": 3}, "room of type int"),
        ({"room": HALL, "places": [(20.0, 4.0)]}, "source 0 at .* is not in the room"),
        ({"room": HALL, "places": [(9.0, 4.0)], "pose": (3.0, -1.0, 0.0)}, "pose at .* is not in the room"),
    ],
)
def test_options_that_cannot_be_met_are_refused(options, message):
    env, _, _ = seek()
    with unchecked(), pytest.raises(ValueError, match=message):
        env.reset(options=options)


def test_a_room_beyond_the_poses_space_is_refused():
    env = Seek(pose=True, threads=1)
    with pytest.raises(ValueError, match=r"a corner at 12.*bounded by 10"):
        env.reset(options={"room": HALL})


def test_what_is_heard_is_known_whatever_is_observed():
    audio, features = (Seek(observation=observation, threads=1) for observation in ("audio", "features"))
    for action in (None, 0, 2, 0):
        sound, *_ = audio.reset(seed=3) if action is None else audio.step(action)
        _ = features.reset(seed=3) if action is None else features.step(action)
        np.testing.assert_array_equal(audio.heard(), sound)
        np.testing.assert_array_equal(features.heard(), sound)
