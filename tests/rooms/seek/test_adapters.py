"""Adapters to Stable-Baselines3 and CleanRL, against those libraries' own handling of single environments."""

import sys

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecMonitor

from sonarium.rooms.seek.adapters import CleanRL, to_sb3
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.vector import SeekVector

CONFIG = SeekConfig(
    sources=1, radius=1.5, start_distance=1.6, step=1.0, max_steps=9, order=1, threads=1, seconds=0.05, loop=0.5,
)  # fmt: skip


def rooms(count=3, mode="SameStep", **changes):
    return SeekVector(count, CONFIG, autoreset_mode=mode, **changes)


def equal(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[name], second[name]) for name in first)
    return np.array_equal(first, second)


@pytest.mark.parametrize("changes", [{}, {"pose": True, "oracle_info": True, "actions": "continuous"}])
def test_baselines_meets_what_its_own_loop_gives(changes):
    """Oracle: DummyVecEnv over single environments, including terminal observations and infos."""
    alone, together = DummyVecEnv([lambda: Seek(CONFIG, **changes)] * 3), to_sb3(rooms(**changes))
    assert alone.observation_space == together.observation_space and alone.action_space == together.action_space
    for envs in (alone, together):
        envs.seed(7)
    assert equal(alone.reset(), together.reset())
    random, ended, cut = np.random.default_rng(0), 0, 0
    for _ in range(30):
        shape = (3, 2) if "actions" in changes else (3,)
        actions = (
            random.uniform(-1, 1, shape).astype(np.float32) if "actions" in changes else random.integers(4, size=3)
        )
        expected, found = alone.step(actions), together.step(actions)
        assert equal(expected[0], found[0]) and equal(expected[2], found[2])
        np.testing.assert_array_equal(expected[1], found[1])
        assert found[1].dtype == expected[1].dtype
        for theirs, ours in zip(expected[3], found[3], strict=True):
            assert equal(theirs, ours)
            ended, cut = ended + ("terminal_observation" in ours), cut + ours["TimeLimit.truncated"]
        for theirs, ours in zip(alone.reset_infos, together.reset_infos, strict=True):
            assert equal(theirs, ours)
    assert ended >= cut > 0


def test_baselines_learns_on_them():
    envs = VecMonitor(VecCheckNan(to_sb3(rooms(2, observation="features", seconds=0.1))))
    learner = PPO("MlpPolicy", envs, n_steps=16, batch_size=16, n_epochs=1, device="cpu", seed=0)
    learner.learn(64)
    assert learner.num_timesteps == 64 and len(learner.ep_info_buffer or []) >= 2
    envs.close()


def test_what_a_vecenv_promises_besides():
    plain = rooms(2)
    envs = to_sb3(plain)
    envs.reset()
    assert envs.get_attr("config") == [CONFIG, CONFIG] and envs.env_is_wrapped(gymnasium.Wrapper) == [False, False]
    assert envs.has_attr("config") and not envs.has_attr("colour")
    assert [len(scene.sources) for scene in envs.env_method("scene")] == [1, 1]
    assert len(envs.env_method("scene", indices=1)) == 1
    envs.set_attr("spec", "ours")
    assert plain.spec == "ours"
    with pytest.raises(ValueError, match="without indices"):
        envs.set_attr("spec", "theirs", indices=0)
    with pytest.raises(ValueError, match="no method 'fly'"):
        envs.env_method("fly")
    envs.set_options({"colour": "red"})
    with pytest.raises(ValueError, match="option 'colour'"):
        envs.reset()


def test_baselines_sees_pictures():
    envs = to_sb3(rooms(2, render_mode="rgb_array"))
    envs.reset()
    tiled = envs.render()
    assert tiled is not None and tiled.ndim == 3
    assert to_sb3(rooms(1)).get_images() == [None]


def test_cleanrl_reads_what_gymnasium_used_to_tell():
    """CleanRL's loops read final_observation[slot], and episode r and l of every dictionary in final_info."""
    plain, older = rooms(), CleanRL(rooms())
    np.testing.assert_array_equal(plain.reset(seed=1)[0], older.reset(seed=1)[0])
    returns, lengths, ended = np.zeros(3), np.zeros(3, int), 0
    plain.action_space.seed(0)
    for _ in range(30):
        actions = plain.action_space.sample()
        observations, rewards, terminated, truncated, infos = plain.step(actions)
        found = older.step(actions)
        np.testing.assert_array_equal(observations, found[0])
        returns, lengths = returns + rewards, lengths + 1
        over = terminated | truncated
        assert ("final_info" in found[4]) == over.any() and "final_obs" not in found[4]
        for slot in np.flatnonzero(over):
            told = found[4]["final_info"][slot]
            assert told["found"] == infos["final_info"]["found"][slot]
            assert told["episode"]["r"] == pytest.approx([returns[slot]]) and told["episode"]["l"] == [
                lengths[slot]
            ]
            np.testing.assert_array_equal(found[4]["final_observation"][slot], infos["final_obs"][slot])
            returns[slot], lengths[slot], ended = 0, 0, ended + 1
        if over.any():
            assert found[4]["_final_observation"].tolist() == over.tolist() == found[4]["_final_info"].tolist()
            assert [info is not None for info in found[4]["final_info"]] == over.tolist()
    assert ended > 4


@pytest.mark.parametrize("adapter", [to_sb3, CleanRL])
@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_other_modes_are_refused(adapter, mode):
    with pytest.raises(ValueError, match="autoreset_mode='SameStep'"):
        adapter(rooms(mode=mode))


def test_without_baselines_the_remedy_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "sonarium.rooms.seek.sb3", raising=False)
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.vec_env", None)
    with pytest.raises(ValueError, match="pip install stable-baselines3"):
        to_sb3(rooms())
