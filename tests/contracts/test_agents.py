"""Contract of every learning agent, and of our environments."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env, data_equivalence

from sonarium.agents.contract import Agent, alone
from sonarium.agents.rollout import RolloutConfig, Rollouts, make
from sonarium.catalogue import AGENTS, ROOMS
from sonarium.environment import StatefulEnv
from sonarium.models.contract import Learner
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import Callbacks, LoopConfig, fit
from sonarium.training.run import RunFolder
from sonarium.training.state import pack, unpack

ENV = "sonarium_extension.environment:Beeps-v0"
QUICK: dict[str, Any] = {"threads": 1, "order": 0, "max_steps": 20, "sources": 1, "start_distance": 1.0}
ENVIRONMENTS: dict[str, Callable[[], gymnasium.Env]] = {
    "beeps": lambda: make(ENV),
    **{
        f"seek in a {room}": lambda room=room: gymnasium.make("sonarium/Seek-v0", room=room, **QUICK)
        for room in ROOMS.loadable()
    },
}
SEED, STEPS = 3, 6


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.filterwarnings("ignore:.*:UserWarning:gymnasium")
def test_gymnasiums_checker_finds_nothing(name):
    check_env(ENVIRONMENTS[name]().unwrapped, skip_render_check=True)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_state_that_was_saved_goes_on_bit_for_bit(name, tmp_path):
    env, other = (ENVIRONMENTS[name]().unwrapped for _ in range(2))
    if not isinstance(env, StatefulEnv) or not isinstance(other, StatefulEnv):
        pytest.skip(f"the state of {name} is not saved: on resuming it begins new episodes")
    env.reset(seed=5)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(40)]
    for action in actions[:7]:
        env.step(action)
    tensors: dict[str, torch.Tensor] = {}
    packed = pack(env.state_dict(), tensors, tmp_path)

    def rest(one: gymnasium.Env) -> list[Any]:
        told = []
        for action in actions[7:]:
            told.append(one.step(action))
            if told[-1][2] or told[-1][3]:
                told.append(one.reset())
        return told

    expected = rest(env)
    other.reset(seed=99)
    other.load_state_dict(unpack(packed, tensors, tmp_path))
    assert data_equivalence(rest(other), expected)


def agent_of(name: str) -> Any:
    """An untrained agent, with the schedules of a run of STEPS."""
    env, entry = make(ENV), AGENTS[name]
    config = entry.complete(entry.presets["default"](), STEPS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return entry.build(config, env.observation_space, env.action_space)


def fitted(name: str, folder: Path, steps: int) -> None:
    learner = agent_of(name)
    assert isinstance(learner, Learner) and isinstance(learner, Agent)
    run, engine = RunFolder.create(folder, {"agent": name}, dict), FabricEngine("cpu", "32", SEED)
    engine.storage = run.segments
    source = Rollouts(RolloutConfig(ENV, envs=3, rollout_steps=6), SEED)
    fit(learner, source, run, engine, LoopConfig(seed=SEED, log_every=2, save_every=100), steps, Callbacks())


@pytest.mark.parametrize("name", AGENTS.loadable())
def test_resumed_it_goes_on_bit_for_bit(name, tmp_path):
    """Including environments, memory and replay."""
    fitted(name, tmp_path / "whole", STEPS)
    for steps in (1, 4, STEPS):
        fitted(name, tmp_path / "broken", steps)
    for file in ("weights.safetensors", "state.safetensors", "state.json"):
        path = Path("checkpoints") / f"step-{STEPS}" / file
        assert (tmp_path / "broken" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes(), file


@pytest.mark.parametrize("name", AGENTS.loadable())
def test_each_slot_has_an_action_of_the_space(name):
    agent, env = agent_of(name), make(ENV)
    observations = np.stack([env.reset(seed=seed)[0] for seed in range(5)])
    first = np.array([True, False, True, False, False])
    memory = agent.initial(5)
    generator = torch.Generator().manual_seed(0)
    memory, actions, extras = agent.act(memory, observations, first, generator, {})
    assert len(actions) == 5 and all(env.action_space.contains(action) for action in actions)
    assert all(len(value) == 5 for value in extras.values())
    # The memory of a finished episode is ignored.
    used, _, _ = agent.act(memory, observations, np.zeros(5, bool), generator, {})
    every = np.ones(5, bool)
    one, two = (
        agent.act(begun, observations, every, torch.Generator().manual_seed(1), {})[1]
        for begun in (used, agent.initial(5))
    )
    assert (one == two).all()
    _, action, _ = alone(agent, agent.initial(1), observations[0], True, generator, {})
    assert env.action_space.contains(action)
