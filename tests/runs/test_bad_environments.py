"""Environments that fail or that no agent supports: a one-line error names them, and nothing is lost."""

import json
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from sonarium.__main__ import dispatch
from sonarium.agents.evaluate import RandomActions, play
from sonarium.environment import EnvironmentFault, StatefulEnv, StatefulVectorEnv

FLAGS = "--envs 2 --rollout-steps 16 --units 8 --device cpu --no-pictures".split()


class Bad(gymnasium.Env):
    """Fails as `fault` says: at reset, in the fifth step of every episode, or when rendered."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    observation_space: spaces.Space = spaces.Box(-1, 1, (3,), np.float32)
    action_space: spaces.Space = spaces.Discrete(2)
    fault: ClassVar[str] = ""

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode

    def look(self) -> Any:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        if self.fault == "lost":
            raise FileNotFoundError(2, "No such file or directory", "levels.dat")
        return self.look() * (np.nan if self.fault == "begins with NaN" else 1), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.count += 1
        shown, reward, fault = self.look(), float(action), self.fault if self.count == 5 else ""
        if fault == "raises":
            raise RuntimeError("boom in\nthe middle")
        if fault == "NaN shown":
            shown = shown * np.nan
        if fault == "shape":
            shown = shown[:2]
        rewards = {"NaN earned": float("nan"), "nothing earned": None}
        return shown, rewards.get(fault, reward), False, self.count >= 20, {}

    def render(self) -> Any:
        if self.fault == "no screen":
            raise OSError("no screen")
        pictures = {"no picture": None, "flat": np.zeros(4), "clear": np.full((8, 8, 4), 255, np.uint8)}
        return pictures.get(self.fault, np.zeros((8, 8, 3), np.uint8))


@pytest.fixture
def bad(monkeypatch) -> str:
    spec = EnvSpec("Bad-v0", lambda **settings: Bad(**settings), disable_env_checker=True)
    monkeypatch.setitem(gymnasium.registry, "Bad-v0", spec)
    monkeypatch.setattr(Bad, "fault", "")
    return "Bad-v0"


def train(run: Path, steps: int, *more: str) -> None:
    dispatch(["train", "ppo", "--env", "Bad-v0", *FLAGS, "--steps", str(steps), "--run", str(run), *more])


FAULTS = {
    "raises": "--env Bad-v0 failed: RuntimeError: boom in the middle; fix the environment",
    "lost": "--env Bad-v0 failed: FileNotFoundError: .*levels.dat",
    "NaN shown": "--env Bad-v0: the observation.* is NaN or infinite",
    "begins with NaN": "--env Bad-v0: the observation.* is NaN or infinite",
    "NaN earned": "--env Bad-v0: the reward.* is NaN or infinite",
    "nothing earned": "--env Bad-v0 failed: TypeError",
    "shape": r"--env Bad-v0: an observation of shape \(2,\) and type float32 is not in its space Box",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_environment_is_named_whatever_is_done_in_it(fault, bad, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train(run, 1)
    monkeypatch.setattr(Bad, "fault", fault)
    again = (
        lambda: train(run, 3),
        lambda: dispatch(["score", str(run), "--episodes", "2"]),
        lambda: dispatch(["watch", str(run), "--episodes", "1"]),
        lambda: train(tmp_path / "new", 1),
    )
    for call in again:
        with pytest.raises(ValueError, match=FAULTS[fault]) as caught:
            call()
        assert "\n" not in str(caught.value) and "checkpoint" not in str(caught.value)
    assert not (run / "scores.json").exists() and not (tmp_path / "new").exists()
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-1"]
    monkeypatch.setattr(Bad, "fault", "")
    train(run, 2)
    dispatch(["score", str(run), "--episodes", "2"])
    assert json.loads((run / "scores.json").read_text())["step"] == 2


def test_one_that_has_no_name_is_named_by_its_class(monkeypatch):
    monkeypatch.setattr(Bad, "fault", "raises")
    with pytest.raises(EnvironmentFault, match="--env Bad failed: RuntimeError"):
        play(RandomActions(Bad.action_space), Bad, 3, 0, slots=2)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no screen", "--env Bad-v0 failed: OSError: no screen; fix the environment"),
        ("no picture", r"--env Bad-v0: render\(\) returns None, and a film needs arrays of \(height, width, 3\)"),
        ("flat", r"--env Bad-v0: render\(\) returns an array of shape \(4,\), and a film needs"),
    ],
)
def test_what_draws_no_picture_is_one_line(fault, said, bad, tmp_path, monkeypatch):
    train(tmp_path / "run", 0)
    monkeypatch.setattr(Bad, "fault", fault)
    with pytest.raises(ValueError, match=said):
        dispatch(["watch", str(tmp_path / "run"), "--episodes", "1"])
    monkeypatch.setattr(Bad, "fault", "clear")
    dispatch(["watch", str(tmp_path / "run"), "--episodes", "1"])


class Strange(spaces.Space):
    """A space of an unknown package."""

    def __init__(self) -> None:
        super().__init__((3,), np.float32)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("observation_space", "--env Bad-v0: agents see Box, .*, not .*Strange.*: wrap"),
        ("action_space", "--env Bad-v0: agents act in Discrete, .*, not in .*Strange.*: wrap"),
    ],
)
def test_a_space_that_nobody_knows_is_named_with_its_environment(which, said, wrapped, bad, tmp_path, monkeypatch):
    space: spaces.Space = spaces.Dict({"one": Strange()}) if wrapped else Strange()
    monkeypatch.setattr(Bad, which, space)
    with pytest.raises(ValueError, match=said) as caught:
        train(tmp_path / "run", 1)
    assert " at 0x" not in str(caught.value) and not (tmp_path / "run").exists()


def test_other_parts_than_those_of_a_dictionary_are_named(bad, tmp_path, monkeypatch):
    monkeypatch.setattr(Bad, "observation_space", spaces.Dict({"ear": Bad.observation_space}))
    with pytest.raises(ValueError, match=r"--env Bad-v0: an observation has other parts than its space Dict"):
        train(tmp_path / "run", 1)


class Stateful(Bad, StatefulEnv):
    def state_dict(self) -> Any:
        return {"count": self.count}

    def load_state_dict(self, state: Any, /) -> None:
        self.count = state["count"]


class Slots(StatefulVectorEnv):
    """A vector environment that returns the results of one `Bad` in every slot."""

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs: int):
        self.num_envs, self.single = num_envs, Bad()
        self.single_observation_space, self.single_action_space = Bad.observation_space, Bad.action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.stack([self.single.reset(seed=seed)[0]] * self.num_envs), {}

    def step(self, actions: Any) -> Any:
        shown, reward, ended, cut, info = self.single.step(actions[0])
        rows = (np.stack([one] * self.num_envs) for one in (shown, reward, ended, cut))
        return *rows, info

    def state_dict(self) -> Any:
        return {"count": self.single.count}

    def load_state_dict(self, state: Any, /) -> None:
        self.single.count = state["count"]


@pytest.mark.parametrize("vector", ["no", "yes"])
def test_a_fault_as_a_saved_state_comes_back_is_that_of_the_environment(vector, tmp_path, monkeypatch):
    entry = EnvSpec(
        "Bad-v0",
        lambda **settings: Stateful(**settings),
        vector_entry_point=lambda **settings: Slots(**settings),
        disable_env_checker=True,
    )
    monkeypatch.setitem(gymnasium.registry, "Bad-v0", entry)
    monkeypatch.setattr(Bad, "fault", "")
    train(tmp_path / "run", 1, "--vector", vector)
    monkeypatch.setattr(Bad, "fault", "lost")
    with pytest.raises(EnvironmentFault, match=FAULTS["lost"]):
        train(tmp_path / "run", 2, "--vector", vector)


class Settings(gymnasium.Env):
    """An environment whose spaces and length of episodes are settings."""

    def __init__(self, size: int = 3, actions: int = 2, length: int = 20, path: Any = None):
        self.length = length
        self.observation_space = spaces.Box(-1, 1, (size,), np.float32)
        self.action_space = spaces.Discrete(actions)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(self.observation_space.shape, np.float32), {}  # pyright: ignore

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        shown = np.full(self.observation_space.shape, 1 / self.count, np.float32)  # pyright: ignore
        return shown, 1.0, False, self.count >= self.length, {}


@pytest.fixture
def register(monkeypatch):
    def put(limit: int | None = None, **kwargs: Any) -> None:
        entry = EnvSpec(
            "Bad-v0", lambda **settings: Settings(**settings), kwargs=kwargs, max_episode_steps=limit,
            disable_env_checker=True,
        )  # fmt: skip
        monkeypatch.setitem(gymnasium.registry, "Bad-v0", entry)

    return put


def test_what_an_environment_was_is_recorded(register, tmp_path):
    register(9, length=np.int64(7), path=Path("levels"))
    train(tmp_path / "run", 0)
    found = json.loads((tmp_path / "run" / "config.json").read_text())["source"]["environment"]
    assert found == {
        "kwargs": {"length": 7, "path": "levels"},
        "max_episode_steps": 9,
        "observation_space": "Box(-1.0, 1.0, (3,), float32)",
        "action_space": "Discrete(2)",
    }
    train(tmp_path / "run", 1)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"size": 4}, r"observes Box\(.* \(4,\), .* in Discrete\(2\), .* to observe Box\(.* \(3,\), float32\)"),
        ({"actions": 3}, r"acts in Discrete\(3\), and its run was trained to .* and to act in Discrete\(2\): reg"),
    ],
)
def test_other_spaces_than_a_run_had_are_refused(now, said, register, tmp_path):
    run = tmp_path / "run"
    register()
    train(run, 1)
    register(**now)
    for words in (["score", str(run), "--episodes", "2"], ["watch", str(run)]):
        with pytest.raises(ValueError, match=f"--env Bad-v0 .*{said}"):
            dispatch(words)
    with pytest.raises(ValueError, match=r"cannot go on: Bad-v0 is registered otherwise .*: kwargs.* in the"):
        train(run, 2)


def test_other_settings_than_a_run_had_end_its_training_and_are_noted_in_its_score(register, tmp_path, capsys):
    run, said = tmp_path / "run", "kwargs.length: 'absent' in the folder, 5 now; max_episode_steps: None in the"
    register()
    train(run, 1)
    dispatch(["score", str(run), "--episodes", "2"])
    assert "notes" not in (found := json.loads((run / "scores.json").read_text())) or not found["notes"]
    register(9, length=5)
    with pytest.raises(ValueError, match=said):
        train(run, 2)
    capsys.readouterr()
    dispatch(["score", str(run), "--episodes", "2"])
    [note] = json.loads((run / "scores.json").read_text())["notes"]
    assert note.startswith("Bad-v0 is registered otherwise") and said in note
    assert "max_episode_steps: None in the folder, 9 now" in " ".join(capsys.readouterr().out.split())
    # Runs of earlier versions do not record the environment.
    config = json.loads((run / "config.json").read_text())
    del config["source"]["environment"]
    (run / "config.json").write_text(json.dumps(config))
    train(run, 2)
    dispatch(["score", str(run), "--episodes", "2"])
    assert not json.loads((run / "scores.json").read_text())["notes"]


def test_a_record_that_no_training_wrote_is_refused(register, tmp_path):
    register()
    train(tmp_path / "run", 0)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    for wrong in ({}, config["source"]["environment"] | {"kwargs": 1}):
        config["source"]["environment"] = wrong
        (tmp_path / "run" / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=r"source.environment is .*, expected kwargs, max_episode_steps"):
            dispatch(["score", str(tmp_path / "run")])


def test_a_setting_that_is_refused_leaves_no_folder_that_the_corrected_one_would_not_fit(tmp_path):
    words = ["train", "dqn", "--env", "CartPole-v1", "--steps", "1", "--no-pictures"]
    words += ["--run", str(tmp_path / "run")]
    with pytest.raises(ValueError, match="give at least 8"):
        dispatch([*words, "--replay-steps", "4"])
    assert not (tmp_path / "run").exists()
    dispatch([*words, "--replay-steps", "800"])


def test_sound_at_another_rate_is_refused(tmp_path):
    words = ["train", "ppo", "--env", "sonarium/Seek-v0", "--sound-rate", "16000", "--run", str(tmp_path / "run")]
    with pytest.raises(ValueError, match=r"--sound-rate 16000: .* gives sound at 8000 Hz: give --sound-rate 8000"):
        dispatch(words)
    assert not (tmp_path / "run").exists()
