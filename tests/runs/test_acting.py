"""A loaded run acts as it does in evaluation."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import sonarium
from sonarium.__main__ import dispatch
from sonarium.agents.evaluate import greedily, play
from sonarium.agents.rollout import leaves
from sonarium.commands.faults import UsageError
from sonarium.runs.acting import TrainedAgent
from sonarium.runs.build import open_run

ENV, SEED = "CartPole-v1", 5
FLAGS = f"--env {ENV} --envs 2 --rollout-steps 16 --device cpu --no-pictures --steps 2 --seed {SEED}".split()
DREAMER = "--learning-starts 4 --batch-size 2 --gradient-steps 1 --imagination-horizon 2 --deter 8 --hidden 8"
AGENTS = {
    "ppo": "ppo --units 8",
    "ppo-memory": "ppo --units 8 --memory 8",
    "dqn-memory": "dqn --units 8 --memory 8 --learning-starts 4 --batch-size 4 --gradient-steps 1",
    "dreamer": f"dreamer --units 8 {DREAMER}",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for name, words in AGENTS.items():
        dispatch(["train", *words.split(), *FLAGS, "--run", str(folder / name)])
    return {name: folder / name for name in AGENTS}


class Noting(gymnasium.Wrapper):
    """Records the seed and every action."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.seed: int = 0
        self.actions: list[int] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        assert seed is not None
        self.seed = seed
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        self.actions.append(int(action))
        return super().step(action)


def acted(agent: TrainedAgent, seed: int, deterministic: bool) -> list[int]:
    """The actions of an episode, by the loop in the manual."""
    env = gymnasium.make(ENV)
    observation, _ = env.reset(seed=seed)
    state, reward, over, actions = None, None, False, []
    while not over:
        action, state = agent.predict(observation, state, deterministic=deterministic, reward=reward)
        observation, reward, terminated, truncated, _ = env.step(action)
        actions.append(int(action))
        over = terminated or truncated
    return actions


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("name", AGENTS)
def test_it_acts_as_it_is_evaluated(name, deterministic, runs):
    learner: Any = open_run(runs[name]).learner
    noting = Noting(gymnasium.make(ENV))
    (greedily if deterministic else play)(learner, lambda: noting, 1, SEED)
    agent = sonarium.load(runs[name])
    agent.set_random_seed(SEED)
    assert acted(agent, noting.seed, deterministic) == noting.actions and len(noting.actions) > 3


@pytest.mark.parametrize("name", ["ppo", "ppo-memory"])
def test_several_environments_are_acted_in_at_once_each_by_itself(name, runs):
    agent, alone = sonarium.load(runs[name]), sonarium.load(runs[name])
    shown = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)
    starts = np.array([[1, 1, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]], bool)
    state, rows = None, []
    for observation, start in zip(shown, starts, strict=True):
        action, state = agent.predict(observation, state, start, reward=np.arange(3.0))
        assert action.shape == (3,)
        rows.append(action)
    for slot in range(3):
        state = None
        for step in range(6):
            if starts[step, slot]:
                state = None
            reward = None if state is None else float(slot)
            action, state = alone.predict(shown[step, slot], state, reward=reward)
            assert action == rows[step][slot]


def test_memory_matters_and_so_does_the_reward(runs):
    agent, plain = sonarium.load(runs["ppo-memory"]), sonarium.load(runs["ppo"])
    assert agent.reads_reward and not plain.reads_reward
    shown = np.zeros(4, np.float32)
    _, state = agent.predict(shown)
    after = [agent.predict(shown, state, reward=reward)[1] for reward in (0.0, 50.0)]
    assert not all(torch.equal(one, other) for one, other in zip(*map(leaves, after), strict=True))
    with pytest.raises(ValueError, match=r"reads the reward of its last action: give it, predict\(…, reward"):
        agent.predict(shown, state)
    agent.predict(shown, state, episode_start=True)
    plain.predict(shown, plain.predict(shown)[1])


@pytest.mark.parametrize("shown", [np.zeros(3), np.zeros((2, 2, 4)), np.zeros((4, 2)), {"a": np.zeros(4)}, 1.0])
def test_what_it_does_not_observe_is_refused(shown, runs):
    with pytest.raises(ValueError, match=r"got an observation of shape .*: give one of Box\(.*\(4,\),"):
        sonarium.load(runs["ppo"]).predict(shown)


def test_what_an_agent_cannot_do_names_its_run(runs, tmp_path):
    run = runs["ppo"]
    wave = tmp_path / "a.wav"
    wave.write_bytes(b"")
    new, out = tmp_path / "new", tmp_path / "out.npz"
    for words, wanted in (
        (f"train ppo --env {ENV} --ears {run} --steps 0 --run {new}", "an encoder or a separator as --ears"),
        (f"train hmm --codes {run} --steps 0 --run {new}", "a model of sound"),
        (f"separate {run} {wave} --out {out}", "a separator"),
        (f"encode {run} {wave} --out {out}", "an encoder of sound"),
        (f"sample {run} --out {out}", "a model of sound"),
    ):
        with pytest.raises(
            (ValueError, UsageError), match=f"'{run}' is a run of ppo, an agent, .* one of {wanted}"
        ):
            dispatch(words.split())
    with pytest.raises(ValueError, match="which knows its rate; leave it out"):
        sonarium.load(run, rate=8000)
