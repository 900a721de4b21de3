"""Environment checkers of Gymnasium and Stable-Baselines3, all render modes, and reproducibility across
processes."""

import subprocess
import sys
import warnings
from itertools import product
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FlattenObservation
from stable_baselines3.common.env_checker import check_env as check_by_baselines

import sonarium.rooms  # noqa: F401
from sonarium.rooms.seek.env import Seek
from sonarium.worlds.tones.world import Tones, TonesConfig

KINDS = [
    {"actions": actions, "observation": observation, "clock": clock}
    for actions, observation, clock in product(
        ("turn", "compass", "continuous"), ("audio", "features"), ("stream", "clip")
    )
]
POSES = [kind | {"pose": True} for kind in (KINDS[0], KINDS[-1])]
QUICK = {"order": 1, "loop": 0.25, "seconds": 0.1, "threads": 1}
CHANGES = [{"room": "nonconvex", "oracle_info": True}, {"same_config": True}, {"head": "sphere", "height": 3.0}]


def made(changes, **more):
    return gymnasium.make("sonarium/Seek-v0", disable_env_checker=True, **QUICK | changes | more)


@pytest.mark.parametrize(
    "changes", [*KINDS, *POSES, *CHANGES], ids=lambda changes: "-".join(map(str, changes.values()))
)
def test_gymnasiums_checker_has_nothing_to_say(changes):
    check_env(made(changes).unwrapped, skip_render_check=True)


def test_gymnasiums_checker_draws_in_every_mode(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    check_env(made({}).unwrapped)


@pytest.mark.parametrize("changes", [*KINDS[:3], *POSES], ids=lambda changes: "-".join(map(str, changes.values())))
def test_baselines_checker_has_nothing_to_say(changes):
    """Except that two channels are neither an image nor a vector; flattened, they are a vector."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your observation .* has an unconventional shape")
        check_by_baselines(made(changes).unwrapped)
    if "pose" not in changes:
        check_by_baselines(FlattenObservation(made(changes)))


def test_the_wrappers_of_make_have_nothing_to_say():
    env = gymnasium.make("sonarium/Seek-v0", max_episode_steps=3, **QUICK)
    env.reset(seed=0)
    assert [env.step(2)[3] for _ in range(3)] == [False, False, True]
    env.close()


@pytest.mark.parametrize("room", ["fixed", "shoebox", "ngon", "nonconvex"])
@pytest.mark.parametrize("changes", [{}, {"clock": "clip", "loop": 0.5, "observation": "features"}])
def test_a_seed_fixes_the_episode_whatever_came_before(room, changes):
    env = Seek(room=room, threads=1, **changes)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(6)]

    def episode():
        first, _ = env.reset(seed=7)
        return [first, *(env.step(action)[0] for action in actions)]

    once = episode()
    for seed in range(3):
        env.reset(seed=seed)
        env.step(0)
    for before, after in zip(once, episode(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert not np.array_equal(env.reset(seed=8)[0], once[0])


STORY = """
import hashlib, numpy as np, sonarium.rooms, gymnasium
env = gymnasium.make("sonarium/Seek-v0", room="nonconvex", threads=1)
seen = hashlib.sha256(env.reset(seed=11)[0].tobytes())
random = np.random.default_rng(0)
for _ in range(3):
    for action in random.integers(4, size=5):
        observation, reward, *_ = env.step(int(action))
        seen.update(observation.tobytes() + np.float64(reward).tobytes())
    seen.update(env.reset()[0].tobytes())
told = seen.hexdigest()
"""


def test_a_seed_fixes_the_episodes_of_every_process():
    here: dict[str, str] = {}
    exec(STORY, here)
    command = [sys.executable, "-c", STORY + "print(told)"]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert there == here["told"] + "\n" and len(there) == 65


def test_importing_the_rooms_imports_no_kernel():
    story = "import sys, sonarium.rooms; print(sorted({'numba', 'torch', 'pygame'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", story], capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"


@pytest.mark.parametrize("mode", ["rgb_array", "ansi", None])
def test_pictures_change_as_one_walks(mode):
    env = made({}, render_mode=mode)
    env.reset(seed=0)
    first: Any = env.unwrapped.render()
    env.step(2)
    second: Any = env.unwrapped.render()
    if mode is None:
        assert first is None
        return
    if mode == "rgb_array":
        assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3 and np.ptp(first) > 100
        first, second = first.tobytes(), second.tobytes()
    assert type(first) is type(second) and first != second
    env.close()
    env.close()


def test_a_window_opens_and_closes_twice(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = Seek(render_mode="human", **QUICK)
    env.reset(seed=0)
    env.step(0)
    assert env.render() is None and env.window is not None
    env.close()
    env.close()
    assert env.window is None


def test_without_pygame_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    env = Seek(render_mode="human", **QUICK)
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match="pip install pygame"):
        env.reset(seed=0)


def test_unknown_modes_are_refused():
    with pytest.raises(ValueError, match="render_mode='film': choose one of human"):
        Seek(render_mode="film", **QUICK)


def test_clips_of_a_world_can_be_sought():
    world = Tones(TonesConfig(rate=8000, seconds=0.5, lowest=300.0, highest=2000.0, frequencies=5), seed=0)
    env = Seek(world=world, threads=1, order=0)
    observation, _ = env.reset(seed=0)
    assert np.abs(observation).max() > 1e-3 and env.scene().sounds == ("tones", "tones")
