"""OtoWorld's two experiments: their environments, and the presets of DQN that hear with a separator."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stub_engine import StubEngine

import sonarium.rooms
from sonarium.__main__ import dispatch
from sonarium.agents.contract import Separation
from sonarium.agents.dqn import DQN
from sonarium.agents.presets import DQN_ENTRY
from sonarium.agents.rollout import RolloutConfig, Rollouts
from sonarium.commands.train import plan_from
from sonarium.play.evaluate import play
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.otoworld import EXPERIMENTS
from sonarium.rooms.seek.reward import REWARDS
from sonarium.rooms.seek.vector import SeekVector
from sonarium.runs.build import ears_of, open_run, plan_with_ears
from sonarium.runs.plan import RolloutsPlan
from sonarium.training.state import FileSegments

PRESETS = ("otoworld-1", "otoworld-2")
TINY = (
    "--sounds phone siren --clips 16 --sets 4 --seconds 1 --batch-size 4 --units 4 --no-pictures --device cpu "
    "--test 0.25 --validation 0"
)
SMALL = "--envs 2 --rollout-steps 4 --gradient-steps 2 --learning-starts 8 --no-pictures --device cpu"
SHORT = "sonarium-tests/Short-v0"


@pytest.fixture(scope="module")
def separator(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("separator") / "run"
    dispatch(["train", "separator", "--preset", "otoworld", *TINY.split(), "--steps", "1", "--run", str(run)])
    return run


def train(words: str, run: Path) -> Path:
    dispatch(["train", "dqn", *words.split(), *SMALL.split(), "--run", str(run)])
    return run


def test_the_environments_are_those_of_the_experiments():
    assert list(EXPERIMENTS) == list(sonarium.rooms.OTOWORLD)
    for name, config in EXPERIMENTS.items():
        env = gymnasium.make(sonarium.rooms.otoworld_id(name)).unwrapped
        assert isinstance(env, Seek) and env.config == config
        assert (config.sounds, config.sources, config.absorption, config.max_steps) == (
            ("phone", "siren"),
            2,
            1,
            1000,
        )
        assert (config.step, config.radius) == ({"1": 0.5, "2": 1.0}[name[0]], 1.0)
        assert (config.source_distance, config.start_distance) == (2 * config.step, 2 * config.radius)
        [room] = {env.reset(seed=seed) and env.scene().room.corners.tobytes() for seed in range(3)}
        assert room == np.array([(0, 0), (8, 0), (8, 8), (0, 8)], float).tobytes()
        original = name.endswith("original")
        assert config.paid == REWARDS["otoworld" if original else "default"]
        shown = {"audio", "pose"} if original else set()
        assert set(getattr(env.observation_space, "spaces", {})) == shown
    many = gymnasium.make_vec(sonarium.rooms.otoworld_id("1"), 2, "vector_entry_point")
    assert isinstance(many, SeekVector) and many.config == EXPERIMENTS["1"]


def test_in_the_second_experiment_all_episodes_begin_alike():
    first, second = (SeekVector(4, replace(EXPERIMENTS[name], oracle_info=True, threads=1)) for name in "12")
    poses = [rooms.reset(seed=seed)[1]["pose"] for rooms in (first, second) for seed in (0, 9)]
    assert len(np.unique(np.concatenate(poses[:2]), axis=0)) == 8
    assert len(np.unique(np.concatenate(poses[2:]), axis=0)) == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_are_the_experiments(preset):
    """The published hyperparameters."""
    own: Any = DQN_ENTRY.presets[preset]()
    batch, target, rate = {"otoworld-1": (10, 150, 1e-3), "otoworld-2": (50, 200, 1e-2)}[preset]
    assert (own.batch_size, own.target_update_interval, own.optimiser.learning_rate) == (batch, target, rate)
    assert (own.discount, own.loss, own.layers, own.double, own.separated) == (0.98, "absolute", 0, False, "means")
    assert (own.epsilon_start, own.epsilon_end, own.epsilon_schedule) == (0.9, 0.1, "exponential")
    assert (own.replay.replay_steps, own.replay.newest, own.replay.draw) == (10_000, True, "episodes")
    recipe = DQN_ENTRY.recipes[preset]
    size = recipe.rollouts["envs"] * recipe.rollouts["rollout_steps"]
    assert own.gradient_steps == size, "a gradient step for each step, as there"
    assert recipe.steps * size == pytest.approx({"otoworld-1": 150, "otoworld-2": 200}[preset] * 1000, rel=1e-3)


def test_a_preset_has_an_environment_and_others_can_be_named():
    for words, env in (
        ("", "sonarium/OtoWorld-1-v0"),
        ("--env sonarium/OtoWorld-1-original-v0", "sonarium/OtoWorld-1-original-v0"),
        ("--suite stops", "sonarium/Seek-stops-v0"),
    ):
        _, plan = plan_from("dqn", ["--preset", "otoworld-1", "--run", "x", *words.split()])
        assert isinstance(plan.source, RolloutsPlan) and plan.source.rollouts.env == env


def test_without_a_separator_one_line_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="sources of a separator; give its run as --ears"):
        train("--preset otoworld-1 --steps 1", tmp_path / "run")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains_resumes_bit_for_bit_and_plays(preset, separator, tmp_path):
    words = f"--preset {preset} --ears {separator} --batch-size 4 --save-every 1"
    whole = open_run(train(f"{words} --steps 4", tmp_path / "whole"))
    for steps in (2, 4):
        train(f"{words} --steps {steps}", tmp_path / "cut")
    agent, cut = whole.learner, open_run(tmp_path / "cut").learner
    assert isinstance(agent, DQN) and int(agent.learnt) > 0
    both = zip(agent.state_dict().items(), cut.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for (_, one), other in both)
    assert agent.online.observer.width == 6
    assert [part.shape for part in agent.online.advantage.parameters()] == [(4, 6), (4,)]
    rooms = replace(EXPERIMENTS[preset[-1]], max_steps=3, threads=1, oracle_info=True)
    agent.greedy = True
    played = play("agent", agent, rooms, 0, 2, torch.Generator(), [])
    assert [one.steps for one in played] == [3, 3]


def test_the_original_sees_its_pose(separator, tmp_path):
    words = "--preset otoworld-1 --env sonarium/OtoWorld-1-original-v0 --no-bootstrap-truncated --steps 3"
    agent: Any = open_run(train(f"{words} --ears {separator}", tmp_path / "run")).learner
    assert agent.online.observer.width == 9 and agent.config.bootstrap_truncated is False


class Engine(StubEngine):
    def __init__(self, folder: Path):
        super().__init__(0)
        self.folder = folder

    def segments(self, name: str) -> FileSegments:
        return FileSegments(self.folder / name)


@pytest.fixture
def short():
    """An environment whose episodes end within a rollout."""
    gymnasium.register(
        SHORT, Seek, vector_entry_point=SeekVector, kwargs={"max_steps": 5, "threads": 1, "order": 0}
    )
    yield SHORT
    gymnasium.registry.pop(SHORT)


@pytest.mark.parametrize("vector", ["no", "yes"])
@pytest.mark.parametrize("steps", [1, 3])
def test_what_is_heard_is_kept_and_is_what_would_be_heard_anew(
    vector, steps, short, separator, tmp_path, monkeypatch
):
    """With autoreset in the same step, and in the next one."""
    upstream = plan_with_ears("dqn", separator).upstream
    assert upstream is not None
    ears, _ = ears_of(upstream, True)
    config = DQN_ENTRY.presets["otoworld-1"]()
    config = replace(config, replay=replace(config.replay, half_sound=False, sequence_steps=steps), n_steps=steps)
    heard = spaces.Box(-1, 1, (2, 2000), np.float32)
    agent, engine = DQN(config, heard, spaces.Discrete(4), ears), Engine(tmp_path)
    source = Rollouts(RolloutConfig(short, envs=3, rollout_steps=4, vector=vector), 1)
    source.attach(agent, engine)
    for _ in range(5):
        agent.replay.add(agent.with_heard(next(source)), engine)
    some = agent.replay.sample(40)
    observer, device = agent.online.observer, torch.device("cpu")
    anew = [observer.prepared(observer.rows(rows, device)) for rows in (some.observation, some.last)]
    assert isinstance(ears, Separation)
    monkeypatch.setattr(type(ears.separator), "separate", None)
    found = agent.sequences(some)
    torch.testing.assert_close(found.parts[0].flatten(0, 1), anew[0][0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.last[0], anew[1][0], atol=1e-5, rtol=1e-4)
    assert some.truncated.any()


def test_what_takes_more_room_than_the_sound_is_not_kept(separator):
    upstream = plan_with_ears("dqn", separator).upstream
    assert upstream is not None
    ears, _ = ears_of(upstream, True)
    for reading, kept in (("means", [0]), ("loudness", [0]), ("sums", [0]), ("cues", [])):
        config = replace(DQN_ENTRY.presets["otoworld-1"](), separated=reading)
        agent = DQN(config, spaces.Box(-1, 1, (2, 2000), np.float32), spaces.Discrete(4), ears)
        assert agent.online.observer.compact == kept
