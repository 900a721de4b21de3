"""Vectorised rooms: each equals a single environment, sample for sample, in every autoreset mode."""

from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import sonarium.rooms
from sonarium.rooms.acoustics.geometry import shoebox
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.episode import Episodes
from sonarium.rooms.seek.vector import SeekVector

ROOMS = 3
# Large radii and few steps, so that episodes often terminate and are often truncated.
CONFIG = SeekConfig(
    sources=1, radius=1.5, start_distance=1.6, step=1.0, max_steps=9, order=1, threads=1, oracle_info=True,
    room="nonconvex", seconds=0.05, loop=0.5,
)  # fmt: skip
MODES = list(AutoresetMode)
VARIANTS = [
    {},
    {"clock": "clip", "loop": 0.2, "room": "shoebox", "radius": 2.0, "start_distance": 2.1},
    {
        "observation": "features",
        "seconds": 0.1,
        "pose": True,
        "actions": "compass",
        "radius": 2.0,
        "start_distance": 2.1,
    },
    {"actions": "continuous", "same_config": True, "room": "ngon", "height": 3.0, "oracle_info": False},
]


def pair(mode, **changes):
    alone = SyncVectorEnv([lambda: Seek(CONFIG, **changes)] * ROOMS, autoreset_mode=mode)
    together = SeekVector(ROOMS, CONFIG, autoreset_mode=mode, **changes)
    assert together.observation_space == alone.observation_space and together.action_space == alone.action_space
    return alone, together


def same(alone, together):
    """Whether values are equal to the last bit, with the same types."""
    return data_equivalence(alone, together, exact=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("changes", VARIANTS, ids=range(len(VARIANTS)))
def test_rooms_together_are_as_rooms_alone(mode, changes):
    """Oracle: Gymnasium's SyncVectorEnv, for observations, rewards, ends of episodes, and all infos."""
    alone, together = pair(mode, **changes)
    assert same(alone.reset(seed=5), together.reset(seed=5))
    alone.action_space.seed(0)
    ended = np.zeros(2, int)
    for _ in range(24):
        actions = alone.action_space.sample()
        expected, found = alone.step(actions), together.step(actions)
        assert same(expected, found)
        ended += [found[2].sum(), found[3].sum()]
        over = found[2] | found[3]
        if mode is AutoresetMode.DISABLED and over.any():
            assert same(alone.reset(options={"reset_mask": over}), together.reset(options={"reset_mask": over}))
    assert ended[1] > 0 and ended.sum() > 4
    if changes.get("actions") != "continuous":
        assert ended[0] > 0


def test_slot_i_is_the_single_environment_of_seed_s_plus_i():
    together = SeekVector(3, CONFIG)
    observations, _ = together.reset(seed=40)
    for slot in range(3):
        np.testing.assert_array_equal(Seek(CONFIG).reset(seed=40 + slot)[0], observations[slot])
    by_list, _ = together.reset(seed=[42, 41, None])
    np.testing.assert_array_equal(by_list[:2], observations[[2, 1]])


def test_a_neighbour_changes_nothing():
    """A slot's episode does not depend on the rooms in other slots."""
    few, many = SeekVector(2, CONFIG), SeekVector(6, CONFIG)
    first, _ = few.reset(seed=3)
    second, _ = many.reset(seed=[3, 4, 90, 91, 92, 93])
    np.testing.assert_array_equal(first, second[:2])
    for action in (0, 2, 0, 0):
        heard, more = few.step(np.full(2, action)), many.step(np.full(6, action))
        np.testing.assert_array_equal(heard[0], more[0][:2])


def test_returned_data_is_never_written_to_again():
    for mode in MODES:
        together = SeekVector(ROOMS, CONFIG, autoreset_mode=mode)
        kept: list[Any] = [together.reset(seed=0)]
        together.action_space.seed(0)
        for number in range(12):
            kept.append(together.step(together.action_space.sample()))
            over = kept[-1][2] | kept[-1][3]
            if mode is AutoresetMode.DISABLED and over.any():
                kept.append(together.reset(options={"reset_mask": over}))
            if number == 5:
                copies, known = deepcopy(kept), len(kept)
        assert same(kept[:known], copies)


def test_make_vec_makes_it_by_default_and_by_name():
    for mode in (None, "vector_entry_point"):
        envs = gymnasium.make_vec(sonarium.rooms.SEEK, num_envs=3, vectorization_mode=mode, sources=1, threads=1)
        assert isinstance(envs, SeekVector) and envs.num_envs == 3 and envs.config.sources == 1
        assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        envs.close()
        envs.close()
    for name in (sonarium.rooms.SEEK, sonarium.rooms.SEEK_VECTOR):
        envs = gymnasium.make_vec(name, num_envs=2, threads=1, autoreset_mode="SameStep", max_episode_steps=3)
        assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        envs.reset(seed=0)
        assert [envs.step(np.array([2, 2]))[3].tolist() for _ in range(3)] == [
            [False] * 2,
            [False] * 2,
            [True] * 2,
        ]


def test_the_class_keeps_its_own_mode():
    SeekVector(1, CONFIG, autoreset_mode="Disabled")
    assert SeekVector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_gymnasiums_sync_mode_still_works():
    envs = gymnasium.make_vec(sonarium.rooms.SEEK, num_envs=2, vectorization_mode="sync", config=CONFIG)
    assert isinstance(envs, SyncVectorEnv)
    envs.reset(seed=0)
    envs.close()


def test_episode_statistics_count_every_step_once():
    envs = RecordEpisodeStatistics(SeekVector(ROOMS, CONFIG, oracle_info=False))
    envs.reset(seed=0)
    envs.action_space.seed(1)
    lengths = []
    for _ in range(40):
        infos = envs.step(envs.action_space.sample())[4]
        if "episode" in infos:
            lengths += infos["episode"]["l"][infos["_episode"]].tolist()
    assert lengths and max(lengths) == CONFIG.max_steps


def test_the_step_after_the_end_begins_anew_and_earns_nothing():
    envs = SeekVector(2, CONFIG, max_steps=2)
    envs.reset(seed=0)
    turn = np.array([2, 2])
    assert envs.step(turn)[3].tolist() == [False, False] and envs.step(turn)[3].tolist() == [True, True]
    _, rewards, terminated, truncated, infos = envs.step(turn)
    assert rewards.tolist() == [0, 0] and not terminated.any() and not truncated.any()
    assert infos["_reachable_distance"].all() and infos["walked"].tolist() == [0, 0]


def test_actions_of_rooms_that_begin_anew_may_be_anything():
    envs = SeekVector(2, CONFIG, max_steps=2)
    envs.reset(seed=0)
    for _ in range(2):
        envs.step(np.array([2, 2]))
    envs.step(np.array([99, -1]))
    with pytest.raises(ValueError, match=r"got the action array of shape \(2,\)"):
        envs.step(np.array([99, 0]))


@pytest.mark.parametrize(
    "wrong", [np.array([0.0, 1.0]), np.array([0]), np.array([0, 1, 2]), np.array([0, 4]), 0, np.array([[0], [1]])]
)
def test_actions_that_do_not_fit_are_refused(wrong):
    envs = SeekVector(2, CONFIG)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="got the action"):
        envs.step(wrong)


def test_what_comes_out_of_order_is_refused():
    envs = SeekVector(2, CONFIG, autoreset_mode="Disabled", max_steps=1)
    with pytest.raises(ResetNeeded, match="before reset"):
        envs.step(np.array([0, 0]))
    with pytest.raises(ResetNeeded, match="were never reset"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    envs.reset(seed=0)
    envs.step(np.array([2, 2]))
    with pytest.raises(ResetNeeded, match="room 0, whose episode is over"):
        envs.step(np.array([2, 2]))


@pytest.mark.parametrize("mask", [[True, False], np.array([1, 0]), np.array([False, False]), np.array([True])])
def test_masks_that_do_not_fit_are_refused(mask):
    envs = SeekVector(2, CONFIG, autoreset_mode="Disabled")
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="reset_mask"):
        envs.reset(options={"reset_mask": mask})


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_rooms_that_restart_by_themselves_are_reset_together(mode):
    envs = SeekVector(2, CONFIG, autoreset_mode=mode)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=f"autoreset_mode {mode}: make the environments with .*'Disabled'"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    envs.reset(options={"reset_mask": np.array([True, True])})


def test_wrong_numbers_of_rooms_and_seeds_are_refused():
    with pytest.raises(ValueError, match="num_envs=0"):
        SeekVector(0)
    with pytest.raises(ValueError, match="got 3 seeds for 2 rooms"):
        SeekVector(2, CONFIG).reset(seed=[1, 2, 3])


def test_a_given_room_is_the_same_in_all_slots():
    envs = SeekVector(3, CONFIG)
    hall = shoebox((9, 6))
    _, infos = envs.reset(seed=0, options={"room": hall, "pose": (4.0, 3.0, 1.0)})
    assert all(envs.scene(slot).room is hall for slot in range(3))
    np.testing.assert_allclose(infos["pose"], [[4, 3, 1]] * 3)
    assert not np.array_equal(infos["sources"][0], infos["sources"][1])


def test_pictures_of_all_rooms(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    envs = SeekVector(3, CONFIG, render_mode="rgb_array")
    envs.reset(seed=0)
    envs.step(np.array([0, 2, 3]))
    pictures = envs.render()
    assert len(pictures) == 3 and len({picture.tobytes() for picture in pictures}) == 3
    assert len(SeekVector(1, CONFIG, render_mode="ansi", max_steps=2).config.sounds) == 5
    assert SeekVector(2, CONFIG).render() is None
    window = SeekVector(2, CONFIG, render_mode="human")
    window.reset(seed=0)
    assert window.render() is None
    window.close()
    window.close()


def test_only_rooms_that_listen_pass_the_time():
    """Observing one slot, as after a reset, does not advance the time of the others."""
    episodes = Episodes(CONFIG, 3)
    for slot in range(3):
        episodes.begin(slot, np.random.default_rng(slot), True, None)
    twin = Episodes(CONFIG, 3)
    for slot in range(3):
        twin.begin(slot, np.random.default_rng(slot), True, None)
    episodes.observe()
    twin.observe()
    one: Any = episodes.observe(np.array([1]))
    both: Any = twin.observe()
    np.testing.assert_array_equal(one[0], both[1])
    rest: Any = episodes.observe(np.array([0, 2]))
    np.testing.assert_array_equal(rest, both[[0, 2]])
