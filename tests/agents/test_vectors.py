"""Vector environments: ours match Gymnasium's single ones, and both autoreset modes give the same rollouts."""

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stub_engine import StubEngine

from sonarium.agents.contract import Agent
from sonarium.agents.rollout import Copies, RolloutConfig, Rollouts
from sonarium.agents.tally import Tally
from sonarium.agents.vectors import OURS, Vector, make_vector
from sonarium.environment import EnvironmentFault
from sonarium.rooms import SEEK


@pytest.mark.parametrize("name", OURS)
def test_each_slot_follows_gymnasiums_own_environment(name):
    single: Any = gymnasium.make(name).unwrapped
    vector = OURS[name](3)
    rng, ended = np.random.default_rng(0), 0
    vector.reset(seed=0)
    single.reset(seed=0)
    for _ in range(120):
        action = rng.integers(single.action_space.n, size=3)
        before = vector.state.copy()
        shown, reward, terminated, truncated, info = vector.step(action)
        after = np.where(terminated[:, None], info.get("final_obs", shown), shown)
        for slot in range(3):
            single.state = before[:, slot].copy()
            single.steps_beyond_terminated = None
            expected, earned, over, _, _ = single.step(int(action[slot]))
            np.testing.assert_allclose(after[slot], expected, rtol=1e-5, atol=1e-5)
            assert (earned, over) == (reward[slot], terminated[slot])
        ended += int(terminated.sum())
        assert not truncated.any()
    assert ended or name == "Acrobot-v1"
    # Random actions seldom swing Acrobot up: set its links upright.
    vector.state[:2] = np.array([[np.pi], [0.0]])
    vector.state[2:] = 0
    assert vector.step(np.ones(3, int))[2].all()


def test_an_episode_is_truncated_at_its_limit():
    vector = OURS["Acrobot-v1"](2)
    vector.reset(seed=1)
    vector.steps[:] = [498, 499]
    assert vector.step(np.ones(2, int))[3].tolist() == [False, True] and vector.steps.tolist() == [499, 0]


@pytest.mark.parametrize("name", OURS)
def test_a_state_goes_on_bit_for_bit(name):
    vector, other = OURS[name](4), OURS[name](4)
    vector.reset(seed=3)
    vector.steps[:] = 490
    actions = np.random.default_rng(0).integers(2, size=(30, 4))
    for action in actions[:5]:
        vector.step(action)
    state = vector.state_dict()
    other.reset(seed=9)
    other.load_state_dict(state)
    for action in actions[5:]:
        for one, two in zip(vector.step(action)[:4], other.step(action)[:4], strict=True):
            assert (one == two).all()


class Count(gymnasium.Env):
    """Environment whose observation is the step count, in a Dict; episodes have three steps."""

    observation_space = spaces.Dict({"count": spaces.Box(0, 9, (1,), np.float32)})
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return {"count": np.zeros(1, np.float32)}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return {"count": np.full(1, self.count, np.float32)}, 1.0, self.count == 3, False, {}


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_what_is_observed_after_the_end_of_an_episode_is_its_own(mode):
    slots = Vector("Count", SyncVectorEnv([Count, Count], autoreset_mode=mode))
    shown, _ = slots.begin([1, 2])
    told, shown_first = [], [shown["count"][0, 0]]
    for _ in range(8):
        made = slots.step(np.zeros(2, int))
        if made.acted[0]:
            told.append((made.after["count"][0, 0], made.reward[0], made.terminated[0]))
        shown_first.append(made.shown["count"][0, 0] if made.first[0] else -1)
    assert told[:6] == [(1, 1, False), (2, 1, False), (3, 1, True)] * 2
    assert all(count in (0, -1) for count in shown_first) and shown_first.count(0) == 3
    assert len(told) == (8 if mode is AutoresetMode.SAME_STEP else 6)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_an_environment_may_write_each_step_into_the_same_arrays(mode, monkeypatch):
    # `copy=False` returns the arrays that the next step overwrites.
    slots = [
        Vector("Count", SyncVectorEnv([Count] * 2, autoreset_mode=mode, copy=again)) for again in (True, False)
    ]
    made = []
    for own in slots:
        monkeypatch.setattr("sonarium.agents.rollout.slots_of", lambda config, seed, own=own: own)
        source = Rollouts(RolloutConfig("Count", envs=2, rollout_steps=5), 0)
        source.attach(Still(), StubEngine(0))
        made.append(next(source))
    for name in ("observation", "last"):
        expected, found = (getattr(one, name)["count"] for one in made)
        np.testing.assert_array_equal(found, expected)
        assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(made[1].terminated, made[0].terminated)


@pytest.mark.parametrize(
    ("shown", "reward", "said"),
    [
        (np.zeros((1, 1), np.float32), np.ones(2), r"an observation of 2 copies has the shape \(1, 1\)"),
        (np.zeros((2, 1), np.float32), np.ones(1), r"`reward` .* shape \(1,\), expected \(2,\)"),
    ],
)
def test_a_vector_environment_returns_a_row_for_each_copy(shown, reward, said, monkeypatch):
    env = SyncVectorEnv([Count] * 2)
    never = np.zeros(2, bool)
    monkeypatch.setattr(env, "step", lambda action: ({"count": shown}, reward, never, never, {}))
    monkeypatch.setattr("sonarium.agents.rollout.slots_of", lambda config, seed: Vector("Count", env))
    source = Rollouts(RolloutConfig("Count", envs=2, rollout_steps=2), 0)
    source.attach(Still(), StubEngine(0))
    with pytest.raises(EnvironmentFault, match=said):
        next(source)


@pytest.mark.parametrize("vector", ["no", "yes"])
def test_keyword_arguments_reach_the_environment(vector):
    given = ("sources=3", "observation=features", "max_steps=2", "order=0")
    config = RolloutConfig(SEEK, given, envs=2, rollout_steps=3, vector=vector)
    source = Rollouts(config, 0)
    source.attach(Still(), StubEngine(0))
    assert next(source).truncated[1].all()
    made: Any = config.make(source_info=True).unwrapped
    assert (made.config.sources, made.config.observation, made.config.source_info) == (3, "features", True)


@pytest.mark.parametrize("vector", ["no", "auto"])
@pytest.mark.parametrize(
    ("env", "given", "said"),
    [
        (SEEK, "source=3", "--env-kwargs source=3: SeekConfig has no field 'source'"),
        (SEEK, "sources=9", "--env-kwargs sources=9: sources=9"),
        ("CartPole-v1", "gravity=3", "unexpected keyword argument 'gravity'"),
    ],
)
def test_keyword_arguments_that_an_environment_does_not_take_are_named(env, given, said, vector):
    with pytest.raises(EnvironmentFault, match=said):
        Rollouts(RolloutConfig(env, (given,), vector=vector), 0)


@pytest.mark.parametrize("given", [("sources",), ("3=sources",), ("sources=1", "sources=2")])
def test_keyword_arguments_have_a_name_and_a_value(given):
    with pytest.raises(ValueError, match="give each as NAME=VALUE, once"):
        RolloutConfig(SEEK, given)


class Lucky(Count):
    """Every second episode succeeds; `is_success` is in the info of all steps but the first."""

    episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.episodes += 1
        return super().reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        *made, _ = super().step(action)
        info = {"is_success": self.episodes % 2 == 1} if self.count > 1 else {}
        return *made, info  # pyright: ignore


@pytest.mark.parametrize("kind", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, "copies"])
def test_episodes_that_end_with_success_are_told(kind, monkeypatch):
    monkeypatch.setitem(
        gymnasium.registry, "Lucky-v0", EnvSpec("Lucky-v0", lambda **_: Lucky(), disable_env_checker=True)
    )
    slots = Copies("Lucky-v0", 2, 0)
    if kind != "copies":
        slots = Vector("Lucky-v0", SyncVectorEnv([Lucky, Lucky], autoreset_mode=kind))
    monkeypatch.setattr("sonarium.agents.rollout.slots_of", lambda config, seed: slots)
    source = Rollouts(RolloutConfig("Lucky-v0", envs=2, rollout_steps=12), 0)
    source.attach(Still(), StubEngine(0))
    data = next(source)
    over = data.terminated[:, 0]
    assert data.success is not None and not data.success[~over].any()
    assert data.success[over, 0].tolist() == [True, False, True, False][: over.sum()] and over.sum() >= 3
    share = {3: 2 / 3, 4: 0.5}[int(over.sum())]
    assert float(Tally().episodes(data)["episodes/success"]) == pytest.approx(share)


def test_of_success_that_no_environment_tells_nothing_is_known():
    source = Rollouts(RolloutConfig("CartPole-v1", envs=2, rollout_steps=60), 0)
    source.attach(Still(), StubEngine(0))
    data = next(source)
    assert data.terminated.any() and data.success is None and "episodes/success" not in Tally().episodes(data)


class Still(Agent):
    def initial(self, slots: int) -> None:
        return None

    def act(self, memory: Any, observation: Any, first: Any, generator: Any, info: Any) -> Any:
        return memory, np.zeros(len(first), int), {}


def test_each_rollout_has_a_step_to_learn_from(monkeypatch):
    slots = Vector("Count", SyncVectorEnv([Count], autoreset_mode=AutoresetMode.NEXT_STEP))
    monkeypatch.setattr("sonarium.agents.rollout.slots_of", lambda config, seed: slots)
    source = Rollouts(RolloutConfig("Count", envs=1, rollout_steps=1), 0)
    source.attach(Still(), StubEngine(0))
    made = [next(source) for _ in range(6)]
    # The reset after the end of an episode is no step to learn from: it is returned with the next one.
    assert [len(one.reward) for one in made] == [1, 1, 1, 2, 1, 1]
    assert made[3].acted is not None and made[3].acted[:, 0].tolist() == [False, True]


def test_there_is_no_vector_version_of_every_environment():
    assert make_vector("MountainCar-v0", 2) is None
    with pytest.raises(ValueError, match="--vector yes: MountainCar-v0 has no vector version"):
        Rollouts(RolloutConfig("MountainCar-v0", envs=2, vector="yes"), 0)


@pytest.mark.parametrize("vector", ["no", "auto"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NoSuch-v0", "--env NoSuch-v0: .* Give the id of a registered environment, or module:Id-v0"),
        ("no_such_module:Beeps-v0", "--env no_such_module:Beeps-v0: No module named 'no_such_module'"),
        ("broken_beeps:Beeps-v0", "--env broken_beeps:Beeps-v0 failed: ZeroDivisionError: division by zero"),
    ],
)
def test_an_environment_that_there_is_not_is_refused(name, said, vector, tmp_path, monkeypatch):
    (tmp_path / "broken_beeps.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=said):
        Rollouts(RolloutConfig(name, envs=2, vector=vector), 0)


def test_a_module_registers_its_environments_however_they_are_stepped(tmp_path, monkeypatch):
    (tmp_path / "their_poles.py").write_text(
        "import gymnasium\ngymnasium.register('TheirPole-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert make_vector("their_poles:TheirPole-v0", 2) is None
    finally:
        gymnasium.registry.pop("TheirPole-v0", None)
        sys.modules.pop("their_poles", None)
