"""Rollouts: memory, info and random numbers of an agent continue bit for bit from a checkpoint."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import data_equivalence
from stub_engine import StubEngine
from typechecking import unchecked

from sonarium.agents.contract import Agent, alone, stacked_info
from sonarium.agents.evaluate import RandomActions, evaluate, play
from sonarium.agents.rollout import RolloutConfig, Rollouts, put_elapsed
from sonarium.agents.scripted import SCRIPTED, Body
from sonarium.environment import StatefulEnv
from sonarium.rooms.seek.config import SeekConfig
from sonarium.training.state import pack, unpack

SEED = 4


class Counting(StatefulEnv):
    """Environment with nested observations; only `info` has the number of steps."""

    observation_space = spaces.Dict({
        "tensor": spaces.Box(-10, 10, (2,), np.float32),
        "pair": spaces.Tuple((spaces.Discrete(3), spaces.MultiBinary(2))),
    })  # fmt: skip
    action_space = spaces.Discrete(5)

    def __init__(self) -> None:
        self.count = 0

    def look(self) -> tuple[dict[str, Any], dict[str, Any]]:
        self.seen = self.np_random.standard_normal(2).astype(np.float32)
        observation = {
            "pair": (self.np_random.integers(3), self.np_random.integers(0, 2, 2, dtype=np.int8)),
            "tensor": self.seen,
        }
        info = {
            "count": np.float32(self.count),
            "side": "left" if self.count % 2 else "right",
            "why": {"odd": True},
        }
        return observation, info | {"ragged": np.zeros(self.np_random.integers(1, 3)), "nothing": None}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        observation, info = self.look()
        return observation, info | {"begun": True}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        over = bool(self.np_random.random() < 0.2)
        observation, info = self.look()
        return observation, float(action), over, False, info

    def state_dict(self) -> Any:
        return {"count": self.count, "random": copy.deepcopy(self.np_random)}

    def load_state_dict(self, state: Any, /) -> None:
        self.count, self.np_random = state["count"], copy.deepcopy(state["random"])


gymnasium.register("Counting-v0", lambda **_: Counting(), max_episode_steps=9)


class Pair(NamedTuple):
    total: np.ndarray
    number: Any


@dataclass(frozen=True, slots=True)
class Remembered:
    hidden: torch.Tensor
    past: tuple[torch.Tensor, Pair, dict[str, Any]]


class Recurrent(Agent):
    """Agent whose actions depend on all observations and infos of the episode, and on random numbers."""

    def __init__(self, kind: Any) -> None:
        self.generator_kind = kind
        self.told: list[Any] = []

    def initial(self, slots: int) -> Remembered:
        pair = Pair(np.zeros(slots, np.float32), np.float32(0))
        past = (torch.zeros(slots, dtype=torch.bfloat16), pair, {"steps": 0, "none": None})
        return Remembered(torch.zeros(slots, 2, dtype=torch.float64), past)

    def act(self, memory: Remembered, observation: Any, first: Any, generator: Any, info: Any) -> Any:
        self.told.append(info)
        assert isinstance(memory.past, tuple) and type(memory.past[1]) is Pair
        short, pair, rest = memory.past
        assert (memory.hidden.dtype, short.dtype) == (torch.float64, torch.bfloat16)
        assert type(pair.number) is np.float32 and isinstance(rest["steps"], int)
        hidden = memory.hidden.where(~torch.tensor(first)[:, None], torch.zeros(()).double())
        hidden = 0.5 * hidden + torch.tensor(observation["tensor"])
        noise: Any = (
            generator.random(len(first))
            if self.generator_kind == "numpy"
            else torch.rand(len(first), generator=generator).numpy()
        )
        total = np.where(first, 0, pair.total) + info["count"] + (info["side"] == "left")
        mixed = hidden.sum(1).numpy() + total + observation["pair"][0] + observation["pair"][1].sum(1) + noise
        rest = {"none": None, "steps": rest["steps"] + 1}
        pair = Pair(total.astype(np.float32), np.float32(pair.number + 0.1))
        return Remembered(hidden, (short + 1, pair, rest)), (10 * mixed).astype(int) % 5, {"mixed": mixed}


def saved(tree: Any, folder: Path) -> Any:
    tensors: dict[str, torch.Tensor] = {}
    return unpack(pack(tree, tensors, folder), tensors, folder)


def source_of(agent: Agent, engine: StubEngine) -> Rollouts:
    source = Rollouts(RolloutConfig("Counting-v0", envs=3, rollout_steps=5), SEED)
    source.attach(agent, engine)
    return source


def same(one: Any, other: Any) -> bool:
    names = ("observation", "first", "action", "reward", "terminated", "truncated", "last", "extras")
    return all(data_equivalence(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_memory_info_and_random_numbers_go_on_bit_for_bit(kind, tmp_path):
    engine, agent = StubEngine(SEED), Recurrent(kind)
    source = source_of(agent, engine)
    for _ in range(3):
        next(source)
    state, numbers = saved(source.state_dict(), tmp_path), engine.generator.get_state()
    expected = [next(source) for _ in range(2)]

    resumed, engine, late = Rollouts(source.config, SEED), StubEngine(99), Recurrent(kind)
    # As on resuming: the state is loaded before the agent is attached.
    resumed.load_state_dict(state)
    engine.generator.set_state(numbers)
    resumed.attach(late, engine)
    found = [next(resumed) for _ in range(2)]
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))
    assert str(late.told) == str(agent.told[-10:])
    packs: list[tuple[Any, dict[str, torch.Tensor]]] = []
    for one in (resumed, source):
        tensors: dict[str, torch.Tensor] = {}
        packs.append((pack(one.state_dict(), tensors, tmp_path), tensors))
    assert packs[0][0] == packs[1][0] and packs[0][1].keys() == packs[1][1].keys()
    for name, tensor in packs[0][1].items():
        torch.testing.assert_close(tensor, packs[1][1][name], rtol=0, atol=0)
    assert isinstance(found[0].memory, Remembered) and found[0].memory.past[2]["steps"] == 15


def test_nested_observations_are_stacked_by_name():
    data = next(source_of(Recurrent("torch"), StubEngine(SEED)))
    for shown in (data.observation, data.last):
        assert isinstance(shown, dict) and shown["tensor"].shape == (5, 3, 2)
        assert shown["pair"][0].shape == (5, 3) and shown["pair"][1].shape == (5, 3, 2)
    assert isinstance(data.observation, dict) and isinstance(data.last, dict)
    goes_on = ~(data.terminated | data.truncated)[:-1]
    later, after = data.observation["tensor"][1:], data.last["tensor"][:-1]
    assert (later[goes_on] == after[goes_on]).all() and (later[~goes_on] != after[~goes_on]).all()


def test_info_is_that_of_the_observation():
    agent, engine = Recurrent("torch"), StubEngine(SEED)
    source = source_of(agent, engine)
    data = [next(source) for _ in range(4)]
    first = np.concatenate([one.first for one in data])
    told = np.stack([info["count"] for info in agent.told])
    assert first[1:].any() and ((told == 0) == first).all()
    assert "begun" in agent.told[0] and "begun" not in agent.told[1]
    # Ragged values have equal shapes by chance in some steps.
    assert not all("ragged" in info for info in agent.told)
    assert all(info["why"]["odd"].all() and "nothing" not in info for info in agent.told[1:])


def test_info_that_only_some_slots_have_is_left_out():
    rows = stacked_info([{"a": 1, "b": 2, "c": (1, 2)}, {"a": 3, "c": (3, 4)}])
    assert rows.keys() == {"a", "c"} and rows["a"].tolist() == [1, 3] and rows["c"].shape == (2, 2)


def test_the_generator_of_numpy_follows_that_of_the_engine():
    rolls = [next(source_of(Recurrent("numpy"), StubEngine(seed))).extras["mixed"] for seed in (1, 1, 2)]
    assert (rolls[0] == rolls[1]).all() and (rolls[0] != rolls[2]).all()


class Same(gymnasium.Env):
    """Environment with a constant observation and episodes of `length` steps."""

    observation_space, action_space = spaces.Discrete(1), spaces.Discrete(2)
    length = 9

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.count = 0
        return 0, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return 0, 1.0, self.count == self.length, False, {}


@pytest.mark.parametrize(("length", "goes_on"), [(9, True), (8, True), (5, False), (3, False)])
def test_an_episode_that_ends_sooner_than_it_did_begins_anew(length, goes_on, monkeypatch):
    spec = EnvSpec("Same-v0", lambda **_: Same(), disable_env_checker=True)
    monkeypatch.setitem(gymnasium.registry, "Same-v0", spec)
    source = Rollouts(RolloutConfig("Same-v0", envs=2, rollout_steps=5), SEED)
    source.attach(RandomActions(Same.action_space), StubEngine(SEED))
    next(source)
    state = source.state_dict()
    monkeypatch.setattr(Same, "length", length)
    resumed = Rollouts(source.config, SEED)
    resumed.load_state_dict(state)
    resumed.attach(RandomActions(Same.action_space), StubEngine(SEED))
    assert next(resumed).first[0].tolist() == [not goes_on] * 2


class Growing(Recurrent):
    def act(self, memory, observation, first, generator, info):
        return [memory, memory], np.zeros(len(first), int), {}


def test_a_memory_of_another_structure_is_refused_when_it_is_saved():
    source = source_of(Growing("torch"), StubEngine())
    source.start()
    source.step()
    with pytest.raises(ValueError, match=r"memory of Growing holds 12 .* but 6 in initial"):
        source.state_dict()


class Showing(gymnasium.Env):
    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space) -> None:
        self.observation_space = space


TEXT, SEQUENCE = spaces.Text(5), spaces.Sequence(spaces.Discrete(2))
GRAPH = spaces.Graph(spaces.Box(0, 1, (2,)), None)


@pytest.mark.parametrize("space", [TEXT, GRAPH, SEQUENCE, spaces.Dict({"a": spaces.Tuple((GRAPH,))})], ids=str)
def test_observations_without_a_shape_are_refused(space, monkeypatch):
    spec = EnvSpec("Showing-v0", lambda **_: Showing(space))
    monkeypatch.setitem(gymnasium.registry, "Showing-v0", spec)
    with pytest.raises(ValueError, match=r"--env Showing-v0: observations in .* wrap the environment"):
        Rollouts(RolloutConfig("Showing-v0"), 0)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_an_agent_is_evaluated_with_its_generator_and_info(kind):
    scored = [play(Recurrent(kind), Counting, 4, seed) for seed in (1, 1, 2)]
    assert (scored[0].returns == scored[1].returns).all() and (scored[0].returns != scored[2].returns).any()
    record = evaluate(Recurrent(kind), Recurrent(kind), Counting, 2, SEED)
    assert record["format"] == 2 and record["split"] == "episodes seeded apart from training"
    assert record["scores"] == record["controls"]["random"]


def test_scripted_agents_are_evaluated():
    config: dict[str, Any] = {"oracle_info": True, "threads": 1, "order": 0, "sources": 1, "max_steps": 60}

    def room() -> gymnasium.Env:
        return gymnasium.make("sonarium/Seek-v0", **config)

    oracle = play(SCRIPTED["oracle"](Body(turn=SeekConfig().turn)), room, 3, SEED)
    assert oracle.lengths.mean() < play(RandomActions(room().action_space), room, 3, SEED).lengths.mean()


def test_one_environment_is_a_batch_of_one():
    env, agent = Counting(), Recurrent("torch")
    observation, info = env.reset(seed=0)
    generator = torch.Generator().manual_seed(0)
    memory, action, extras = alone(agent, agent.initial(1), observation, True, generator, info)
    assert env.action_space.contains(action) and extras["mixed"].shape == (1,) and len(memory.hidden) == 1
    assert agent.told[0]["side"].tolist() == ["right"]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"resets": -1, "random": None}, "resets is -1, expected a whole number"),
        ({"resets": 1, "random": "x"}, "random is 'x', expected the state of a generator"),
        (
            {"resets": 1, "random": None, "envs": [{}], "elapsed": [[0]]},
            "holds the state of an environment, which CartPole-v1 does not keep",
        ),
    ],
)
def test_a_state_that_no_rollouts_write_is_refused(state, said):
    with pytest.raises(ValueError, match=said):
        Rollouts(RolloutConfig(env="CartPole-v1", envs=1), SEED).load_state_dict(state)


@pytest.mark.parametrize("count", [None, -1, 1.5, True])
def test_a_count_of_steps_is_a_whole_number(count):
    with unchecked(), pytest.raises(ValueError, match="the count of steps is"):
        put_elapsed(gymnasium.make("CartPole-v1"), [count])
