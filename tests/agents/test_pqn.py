"""PQN: λ-returns match the equation, training resumes bit for bit and solves small seeded tasks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from stub_engine import Resting, StubEngine
from typechecking import unchecked

import sonarium.rooms  # noqa: F401  registers the environments
from sonarium.agents.evaluate import by_mode
from sonarium.agents.pqn import PQN, PQNConfig
from sonarium.agents.presets import PQN_ENTRY
from sonarium.agents.rollout import RolloutConfig, Rollouts, make
from sonarium.agents.values import ending
from sonarium.features.ears import Ears
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.training.state import pack, unpack

SEED = 5
QUICK = PQNConfig(
    units=16,
    layers=1,
    minibatches=2,
    normalise_rewards=False,
    epsilon_steps=15,
    optimiser=AdamConfig(learning_rate=0.01, epsilon=1e-5),
    schedule=ScheduleConfig(),
)


def begun(env: str, config: PQNConfig, **rollouts: Any) -> tuple[PQN, Rollouts, StubEngine]:
    one, engine = make(env), StubEngine(SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        agent = PQN(config, one.observation_space, one.action_space)
    settings: dict[str, Any] = {"envs": 8, "rollout_steps": 8} | rollouts
    source = Rollouts(RolloutConfig(env, **settings), SEED)
    source.attach(agent, engine)
    return agent, source, engine


def trained(env: str, config: PQNConfig, updates: int) -> PQN:
    agent, source, engine = begun(env, config)
    for _ in range(updates):
        agent.update(next(source), engine)
    return agent


@pytest.mark.parametrize("trace", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("bootstrap", [True, False])
@torch.no_grad()
def test_returns_are_the_written_equation(trace, bootstrap, guessing):
    """Against the recursion step by step, with Q of the observation after each step, in episodes that terminate or
    are truncated."""
    config = replace(QUICK, trace=trace, bootstrap_truncated=bootstrap, reward_scale=0.5, discount=0.9)
    env = guessing(spaces.Discrete(2), wait=2, truncates=bootstrap)
    agent, source, _ = begun(env, config)
    data = next(source)
    reward = 0.5 * data.reward
    found, _ = agent.returns(data, agent.perception.sequences(data, agent.device), reward)

    def best(rows: np.ndarray) -> float:
        observer = agent.network.observer
        known = observer(observer.prepared(observer.rows(rows[None], agent.device)))
        return float(agent.network.of(known).max())

    last: Any = data.last
    for slot in range(8):
        follows = 0.0
        for step in reversed(range(8)):
            ended = data.terminated[step, slot] or (data.truncated[step, slot] and not bootstrap)
            value = 0.0 if ended else best(last[step, slot])
            if step == 7 or data.terminated[step, slot] or data.truncated[step, slot]:
                follows = value
            follows = reward[step, slot] + 0.9 * (trace * follows + (1 - trace) * value)
            assert float(found[step, slot]) == pytest.approx(follows, abs=1e-5)


@torch.no_grad()
def test_the_state_after_the_rollout_is_the_one_that_acts_next():
    """The value after the last step equals that of the next rollout's first step, with memory."""
    agent, source, _ = begun("CartPole-v1", replace(QUICK, memory=6, trace=0.0, discount=1.0), envs=3)
    data = next(source)
    acted = agent.perception.sequences(data, agent.device)
    found, states = agent.returns(data, acted, data.reward)
    assert states is not None
    torch.testing.assert_close(states[-1], source.memory.state)
    going = ~(data.terminated | data.truncated)[-1]
    following = agent.perception.sequences(next(source), agent.device)
    value = agent.network.of(agent.perception.through(following)[0]).max(1).values.unflatten(0, (8, 3))[0]
    torch.testing.assert_close(found[-1][going], 1 + value[going])


@pytest.mark.parametrize("vector", ["no", "auto"])
@pytest.mark.parametrize("memory", [0, 6])
def test_the_loss_is_that_of_the_actions_that_were_taken(vector, memory):
    config = replace(QUICK, memory=memory, sequence_steps=3, epochs=1, minibatches=1, duelling=bool(memory))
    agent, source, _ = begun("CartPole-v1", config, envs=3, rollout_steps=25, vector=vector)
    data = next(source)
    sequences = agent.perception.sequences(data, agent.device)
    returns = torch.randn(25, 3, generator=torch.Generator().manual_seed(0))
    terms = agent.descend(sequences, returns, Resting())
    found = [one.grad for one in agent.parameters()]
    known, network = agent.perception.through(sequences)[0], agent.network
    hidden = network.hidden(known)
    values = network.advantage(hidden)
    if network.value is not None:
        values = values - values.mean(1, keepdim=True) + network.value(hidden)
    chosen = values.gather(1, torch.from_numpy(data.action).reshape(-1, 1))[:, 0]
    weight = torch.ones(75) if data.acted is None else torch.from_numpy(data.acted).flatten().float()
    expected = ((chosen - returns.flatten()).square() * weight).sum() / weight.sum()
    assert float(terms["loss/value"]) == pytest.approx(float(expected.detach()), rel=1e-5)
    mean = (chosen.detach() * weight).sum() / weight.sum()
    assert float(terms["value/mean"]) == pytest.approx(float(mean), rel=1e-5)
    gradients = torch.autograd.grad(expected, [*agent.parameters()])
    for name, one, other in zip(dict(agent.named_parameters()), found, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("changes", [{}, {"duelling": True, "recompute": True, "loss": "huber"}, {"memory": 16}])
def test_it_learns_to_guess(changes, guessing):
    config = replace(QUICK, **changes)
    agent = trained(guessing(spaces.Discrete(2), wait=2 if config.memory else 0), config, 40)
    assert agent.epsilon == pytest.approx(config.epsilon_end)
    scores = by_mode(agent, lambda: make("Guess-v0"), 100, 9)
    assert scores["return"] == 1, scores
    assert scores["sampled_return"] < 1


def test_without_memory_it_cannot_know(guessing):
    agent = trained(guessing(spaces.Discrete(2), wait=2), QUICK, 40)
    assert by_mode(agent, lambda: make("Guess-v0"), 100, 9)["return"] < 0.7


@pytest.mark.parametrize(
    "changes", [{}, {"memory": 8, "sequence_steps": 4, "normalise_rewards": True, "normalise_observations": True}]
)
def test_it_resumes_bit_for_bit(changes, tmp_path):
    config = replace(QUICK, **changes)
    agent, source, engine = begun("CartPole-v1", config, vector="auto")
    for _ in range(5):
        agent.update(next(source), engine)
    tensors: dict[str, torch.Tensor] = {}
    state = {name: part.state_dict() for name, part in (agent.parts() | {"source": source}).items()}
    packed = pack(state | {"learner": agent.state_dict()}, tensors, tmp_path)
    drawn, saved = engine.generator.get_state(), unpack(packed, tensors, tmp_path)
    other, again, resumed = begun("CartPole-v1", config, vector="auto")
    other.load_state_dict(saved["learner"])
    again.load_state_dict(saved["source"])
    for name, part in other.parts().items():
        part.load_state_dict(saved[name])
    again.attach(other, resumed)
    resumed.generator.set_state(drawn)
    for _ in range(4):
        one, two = agent.update(next(source), engine), other.update(next(again), resumed)
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert data_equivalence(
        {name: value.numpy() for name, value in agent.state_dict().items()},
        {name: value.numpy() for name, value in other.state_dict().items()},
    )


def test_hidden_layers_are_normalised():
    """The inputs of each activation have mean 0 and variance 1 per row."""
    agent = PQN(replace(QUICK, layers=2), spaces.Box(-9, 9, (3,)), spaces.Discrete(4))
    rows, seen = 5 * torch.randn(6, 3), []
    for layer in agent.network.hidden:
        if isinstance(layer, torch.nn.ReLU):
            seen.append(rows)
        rows = layer(rows)
    assert len(seen) == 2
    for numbers in seen:
        torch.testing.assert_close(numbers.mean(1), torch.zeros(6), atol=1e-5, rtol=0)
        torch.testing.assert_close(numbers.var(1, unbiased=False), torch.ones(6), atol=1e-2, rtol=0)
    plain = PQN(replace(QUICK, layer_norm=False), spaces.Box(-9, 9, (3,)), spaces.Discrete(4))
    assert not any(isinstance(layer, torch.nn.LayerNorm) for layer in plain.modules())


def test_features_of_each_window_are_computed_once(monkeypatch):
    config = replace(QUICK, sound_rate=8000, epochs=3)
    agent, source, engine = begun("sonarium/Seek-v0", config, envs=2, rollout_steps=4, vector="auto")
    rows, features = [], Ears.forward
    monkeypatch.setattr(Ears, "forward", lambda ears, wave: rows.append(len(wave)) or features(ears, wave))
    data = next(source)
    agent.update(data, engine)
    # The observations acted on, and those after the last step of each environment.
    assert rows == [2] * 5


@pytest.mark.parametrize("preset", PQN_ENTRY.presets)
def test_each_preset_takes_its_rollouts(preset):
    recipe = PQN_ENTRY.recipes[preset]
    config = PQN_ENTRY.complete(PQN_ENTRY.presets[preset](), recipe.steps)
    env = "sonarium/Seek-v0" if config.sound_rate else "CartPole-v1"
    agent, source, engine = begun(env, config, envs=4, rollout_steps=4, vector="auto")
    before = [parameter.clone() for parameter in agent.parameters()]
    terms = agent.update(next(source), engine)
    assert all(bool(value.isfinite()) for value in terms.values()) and float(terms["policy/epsilon"]) == 1
    assert any((one != other).any() for one, other in zip(before, agent.parameters(), strict=True))


def test_epsilon_falls_by_the_steps_of_the_run():
    config = ending(PQNConfig(), 100)
    assert config.epsilon_steps == 20 and config.schedule.decay_steps == 100
    assert ending(replace(QUICK, epsilon_steps=7), 100).epsilon_steps == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "cubic"}, "loss='cubic': give huber, squared or absolute"),
        ({"activation": "gelu"}, "activation='gelu': give tanh or relu"),
        ({"trace": 1.5}, "trace=1.5"),
    ],
)
def test_settings_that_do_not_exist_are_named(changes, said):
    with unchecked(), pytest.raises(ValueError, match=said):
        replace(QUICK, **changes)


def test_continuous_actions_are_refused():
    with pytest.raises(ValueError, match="PQN acts in Discrete, not in Box"):
        PQN(QUICK, spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))


@pytest.mark.parametrize("memory", [0, 8])
def test_a_rollout_that_ends_with_its_episode_needs_no_value_after_it(memory):
    """The empty batch of next observations is processed both for categories and for sound."""
    for env, rate in (("FrozenLake-v1", 0), ("sonarium/Seek-v0", 8000)):
        agent, source, engine = begun(env, replace(QUICK, memory=memory, sound_rate=rate), envs=1, rollout_steps=4)
        data = next(source)
        data = replace(data, terminated=np.arange(4)[:, None] == 3, truncated=np.zeros((4, 1), bool))
        assert all(value.isfinite() for value in agent.update(data, engine).values())
