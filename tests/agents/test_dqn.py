"""Deep Q-learning: targets match the equation, training resumes bit for bit and solves small seeded tasks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given
from hypothesis import strategies as st
from stub_engine import Resting, StubEngine
from typechecking import unchecked

import sonarium.rooms  # noqa: F401  registers the environments
from sonarium.agents.dqn import DQN, DQNConfig, scaled, unscaled
from sonarium.agents.evaluate import by_mode
from sonarium.agents.networks import previous_of
from sonarium.agents.presets import DQN_ENTRY
from sonarium.agents.replay import ReplayConfig
from sonarium.agents.rollout import RolloutConfig, Rollouts, make
from sonarium.agents.values import LOSSES, SLOPES, ending
from sonarium.models.optim import AdamConfig
from sonarium.training.state import FileSegments, pack, unpack

SEED = 5
QUICK = DQNConfig(
    units=16,
    layers=1,
    learning_starts=32,
    batch_size=32,
    gradient_steps=8,
    target_update_interval=20,
    epsilon_steps=30,
    optimiser=AdamConfig(learning_rate=0.01),
)
RECURRENT = replace(
    QUICK, memory=16, n_steps=3, replay=ReplayConfig(sequence_steps=4, burn_in=2, draw="prioritised")
)


class Engine(StubEngine):
    """Stub engine that stores segments of the replay in a folder."""

    def __init__(self, folder: Path):
        super().__init__(SEED)
        self.folder = folder

    def segments(self, name: str) -> FileSegments:
        return FileSegments(self.folder / "segments" / name)


def begun(env: str, config: DQNConfig, folder: Path, **rollouts: Any) -> tuple[DQN, Rollouts, Engine]:
    one, engine = make(env), Engine(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        agent = DQN(config, one.observation_space, one.action_space)
    settings: dict[str, Any] = {"envs": 8, "rollout_steps": 8} | rollouts
    source = Rollouts(RolloutConfig(env, **settings), SEED)
    source.attach(agent, engine)
    return agent, source, engine


def q_of(agent: DQN, network: Any, rows: np.ndarray) -> np.ndarray:
    observer = network.observer
    return network.of(observer(observer.prepared(observer.rows(rows, torch.device("cpu"))))).numpy()


def key(*parts: np.ndarray) -> tuple[float, ...]:
    return tuple(np.concatenate(parts).tolist())


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("bootstrap", [True, False])
@torch.no_grad()
def test_targets_are_the_written_equation(double, steps, bootstrap, tmp_path, guessing):
    """Against a loop over the steps of each sequence, in episodes that terminate or are truncated."""
    config = replace(
        QUICK, double=double, n_steps=steps, bootstrap_truncated=bootstrap, learning_starts=10**6,
        replay=ReplayConfig(sequence_steps=3),
    )  # fmt: skip
    env = guessing(spaces.Discrete(2), wait=4, truncates=bootstrap)
    agent, source, engine = begun(env, config, tmp_path)
    for _ in range(4):
        agent.update(next(source), engine)
    for parameter in agent.target.parameters():
        parameter.normal_(generator=torch.Generator().manual_seed(1))
    some = agent.replay.sample(40)
    sequences = agent.sequences(some)
    online, target = (agent.behind(network, sequences, None) for network in (agent.online, agent.target))
    found = agent.wanted(sequences, online if double else target, target).numpy()

    def best(rows: np.ndarray) -> float:
        online, target = (q_of(agent, network, rows[None])[0] for network in (agent.online, agent.target))
        return float(target[(online if double else target).argmax()])

    for row in range(40):
        length = int((some.weight[:, row] > 0).sum())
        for at in range(length):
            expected, factor, end = 0.0, 1.0, min(at + steps, length)
            for step in range(at, end):
                expected += factor * some.reward[step, row]
                factor *= agent.config.discount
            over = some.terminated[end - 1, row] or (some.truncated[end - 1, row] and not bootstrap)
            if not over:
                after = some.last[row] if end == length else some.observation[end, row]
                expected += factor * best(after)
            assert found[at, row] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_states_of_sequences_are_those_that_acted(tmp_path, guessing):
    """With unchanged weights, the burn-in reproduces the Q-values that the agent acted on."""
    config = replace(RECURRENT, learning_starts=10**6)
    agent, source, engine = begun(guessing(spaces.Discrete(2), wait=4), config, tmp_path)
    seen: dict[tuple[float, ...], np.ndarray] = {}
    act = agent.online.of
    kept: list[torch.Tensor] = []
    agent.online.of = lambda known: kept.append(act(known)) or kept[-1]  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(5):
        kept.clear()
        data = next(source)
        shown: Any = data.observation
        for step, values in enumerate(kept):
            for slot in range(8):
                seen[key(data.extras["memory"][step, slot], shown[step, slot])] = values[slot].numpy()
        agent.update(data, engine)
    some = agent.replay.sample(30)
    sequences = agent.sequences(some)
    assert sequences.previous is not None
    with torch.no_grad():
        states = agent.states(agent.online, sequences)
        assert states is not None
        values = agent.online.of(states.flatten(0, 1)).unflatten(0, states.shape[:2])
    starts = some.extras["memory"]
    for row in range(30):
        known = seen[key(starts[row], some.observation[0, row])]
        torch.testing.assert_close(values[0, row], torch.from_numpy(known))
        torch.testing.assert_close(sequences.previous[0, row], torch.from_numpy(starts[row, 16:]))


@pytest.mark.parametrize("config", [QUICK, replace(QUICK, duelling=True, rescaled=True), RECURRENT])
def test_it_learns_to_guess(config, tmp_path, guessing):
    remembers = 2 if config.memory else 0
    agent, source, engine = begun(guessing(spaces.Discrete(2, start=0), wait=remembers), config, tmp_path)
    for _ in range(60):
        terms = agent.update(next(source), engine)
    assert float(terms["policy/epsilon"]) == pytest.approx(config.epsilon_end)
    scores = by_mode(agent, lambda: make("Guess-v0"), 100, 9)
    assert scores["return"] == 1, scores
    assert scores["sampled_return"] < 1


def test_without_memory_it_cannot_know(tmp_path, guessing):
    agent, source, engine = begun(guessing(spaces.Discrete(2), wait=2), QUICK, tmp_path)
    for _ in range(40):
        agent.update(next(source), engine)
    assert by_mode(agent, lambda: make("Guess-v0"), 100, 9)["return"] < 0.7


@pytest.mark.parametrize("config", [QUICK, RECURRENT])
def test_it_resumes_bit_for_bit(config, tmp_path):
    first, source, engine = begun("CartPole-v1", config, tmp_path, vector="auto")
    for _ in range(8):
        first.update(next(source), engine)
    tensors: dict[str, torch.Tensor] = {}
    state = {name: part.state_dict() for name, part in (first.parts() | {"source": source}).items()}
    packed = pack(state | {"learner": first.state_dict()}, tensors, tmp_path)
    drawn = engine.generator.get_state()
    saved = unpack(packed, tensors, tmp_path)
    other, again, resumed = begun("CartPole-v1", config, tmp_path, vector="auto")
    other.load_state_dict(saved["learner"])
    again.load_state_dict(saved["source"])
    for name, part in other.parts().items():
        part.load_state_dict(saved[name])
    again.attach(other, resumed)
    resumed.generator.set_state(drawn)
    for _ in range(6):
        one, two = first.update(next(source), engine), other.update(next(again), resumed)
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert data_equivalence(
        {name: value.numpy() for name, value in first.state_dict().items()},
        {name: value.numpy() for name, value in other.state_dict().items()},
    )


def test_it_learns_as_soon_as_it_may_and_goes_on_where_the_replay_is_small(tmp_path):
    config = replace(QUICK, learning_starts=128, batch_size=4, gradient_steps=1)
    agent, source, engine = begun("CartPole-v1", replace(config, replay=ReplayConfig(replay_steps=128)), tmp_path)
    learnt = [any(name.startswith("loss") for name in agent.update(next(source), engine)) for _ in range(8)]
    assert learnt == [False, *7 * [True]]


def test_the_target_follows(tmp_path):
    for rate in (1.0, 0.25):
        agent, _, _ = begun("CartPole-v1", replace(QUICK, tau=rate), tmp_path)
        before = {name: value.clone() for name, value in agent.target.state_dict().items()}
        with torch.no_grad():
            for parameter in agent.online.parameters():
                parameter.add_(1)
        agent.renew()
        for name, value in agent.target.state_dict().items():
            torch.testing.assert_close(value, before[name] + rate)


@given(st.floats(-1e4, 1e4))
def test_rescaled_values_come_back(value):
    number = torch.tensor(value, dtype=torch.float64)
    assert float(unscaled(scaled(number))) == pytest.approx(value, rel=1e-6, abs=1e-6)


def test_losses_are_the_written_ones():
    apart = torch.tensor([-3.0, -0.5, 0.0, 2.0])
    expected = {
        "huber": [2.5, 0.125, 0, 1.5],
        "squared": [9, 0.25, 0, 4],
        "absolute": [3, 0.5, 0, 2],
    }
    assert LOSSES.keys() == expected.keys()
    for name, loss in LOSSES.items():
        assert loss(apart, torch.zeros(4), reduction="none").tolist() == pytest.approx(expected[name])
        value = apart.clone().requires_grad_()
        [slope] = torch.autograd.grad(loss(value, torch.zeros(4), reduction="sum"), value)
        assert torch.equal(SLOPES[name](apart), slope)


@pytest.mark.parametrize("changes", [{}, {"memory": 5, "duelling": True}, {"duelling": True, "double": False}])
def test_gradients_are_those_of_autograd(changes, tmp_path, guessing):
    config = replace(
        QUICK, layers=2, layer_norm=True, loss="huber", learning_starts=10**6, **changes,
        replay=ReplayConfig(sequence_steps=4, burn_in=2 if "memory" in changes else 0),
    )  # fmt: skip
    agent, source, engine = begun(guessing(spaces.Discrete(3), wait=2), config, tmp_path)
    for _ in range(2):
        agent.update(next(source), engine)
    for one in agent.online.parameters():
        torch.nn.init.normal_(one, 0, 0.5)
    sequences, burn = agent.sequences(agent.replay.sample(7)), config.replay.burn_in
    agent.descend(sequences, agent.valued(sequences), Resting())
    found = [one.grad for one in agent.online.parameters()]

    states = agent.states(agent.online, sequences)
    network, known = agent.online, agent.known(sequences, states)
    hidden = network.hidden(known)
    values = network.advantage(hidden)
    if network.value is not None:
        values = values - values.mean(1, keepdim=True) + network.value(hidden)
    with torch.no_grad():
        behind = agent.valued(sequences)
        choosing = agent.behind(network, sequences, states) if config.double else behind
        wanted = agent.wanted(sequences, choosing, behind)
    chosen = values.gather(1, sequences.action[burn:].reshape(-1, 1)).view(wanted.shape)
    loss = torch.nn.functional.smooth_l1_loss(chosen, wanted, reduction="none") * sequences.share[burn:]
    expected = torch.autograd.grad(loss.sum(), [*network.parameters()])
    for name, one, other in zip(dict(network.named_parameters()), found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=lambda said, name=name: f"{name}: {said}")


def test_duelling_advantages_have_no_mean():
    agent = DQN(replace(QUICK, duelling=True), spaces.Box(-1, 1, (3,)), spaces.Discrete(4))
    known, values = torch.randn(5, 3), agent.online
    assert values.value is not None
    with torch.no_grad():
        torch.testing.assert_close(values.of(known).mean(1), values.value(values.hidden(known))[:, 0])


def test_epsilon_falls_by_the_steps_of_the_run():
    config = ending(DQNConfig(), 100)
    assert config.epsilon_steps == 20 and ending(replace(QUICK, epsilon_steps=7), 100).epsilon_steps == 7
    agent = DQN(config, spaces.Box(-1, 1, (3,)), spaces.Discrete(4))
    found = []
    for done in (0, 10, 20, 90):
        agent.updates.fill_(done)
        found.append(agent.epsilon)
    assert found == pytest.approx([1.0, 0.525, 0.05, 0.05])


def test_exponentially_epsilon_is_otoworlds():
    """.1 + .8 exp(−.0002 · 150) = .876 at the end of experiment 1: a time constant of 5,000 episodes."""
    config = replace(QUICK, epsilon_start=0.9, epsilon_end=0.1, epsilon_schedule="exponential", epsilon_steps=5000)
    agent = DQN(config, spaces.Box(-1, 1, (3,)), spaces.Discrete(4))
    found = []
    for done in (0, 150, 5000, 10**6):
        agent.updates.fill_(done)
        found.append(agent.epsilon)
    assert found == pytest.approx([0.9, 0.876, 0.1 + 0.8 / np.e, 0.1], abs=5e-4)


def test_actions_are_as_random_as_epsilon(tmp_path):
    agent = DQN(replace(QUICK, epsilon_start=0.4), spaces.Box(-1, 1, (3,)), spaces.Discrete(4))
    rows, generator = np.zeros((20_000, 3), np.float32), torch.Generator().manual_seed(0)
    first = np.zeros(len(rows), bool)
    counts = np.bincount(agent.act(None, rows, first, generator, {})[1], minlength=4) / len(rows)
    agent.greedy = True
    [best] = np.unique(agent.act(None, rows, first, generator, {})[1])
    expected = np.full(4, 0.1)
    expected[best] += 0.6
    assert counts == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize("preset", [name for name, made in DQN_ENTRY.presets.items() if not made().separated])
def test_each_preset_takes_its_rollouts(preset, tmp_path):
    recipe = DQN_ENTRY.recipes[preset]
    config = DQN_ENTRY.complete(DQN_ENTRY.presets[preset](), recipe.steps)
    env = "sonarium/Seek-v0" if config.sound_rate else "CartPole-v1"
    config = replace(config, learning_starts=1, batch_size=4, gradient_steps=2)
    agent, source, engine = begun(env, config, tmp_path, **{"envs": 4, "rollout_steps": 4, "vector": "auto"})
    before = [parameter.clone() for parameter in agent.online.parameters()]
    terms = agent.update(next(source), engine)
    assert all(bool(value.isfinite()) for value in terms.values()) and "value/error" in terms
    assert any((one != other).any() for one, other in zip(before, agent.online.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_steps": 3}, "n_steps=3: .* give --sequence-steps 3"),
        ({"replay": ReplayConfig(burn_in=2)}, "burn_in=2: it is for agents with --memory"),
        ({"replay": ReplayConfig(cross_episodes=True)}, "cross_episodes=True: sequences of DQN end"),
        ({"loss": "cubic"}, "loss='cubic': give huber, squared or absolute"),
        ({"epsilon_schedule": "cosine"}, "epsilon_schedule='cosine': give linear or exponential"),
        ({"activation": "gelu"}, "activation='gelu': give tanh or relu"),
    ],
)
def test_what_does_not_go_together_is_named(changes, said):
    with unchecked(), pytest.raises(ValueError, match=said):
        replace(QUICK, **changes)


def test_continuous_actions_are_refused():
    with pytest.raises(ValueError, match="DQN acts in Discrete, not in Box"):
        DQN(QUICK, spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))


def test_nothing_comes_before_the_first_step():
    before = previous_of(torch.ones(2, 3), torch.ones(2), torch.tensor([True, False]))
    assert before.tolist() == [[0] * 4, [1] * 4]
