"""PPO: losses match the equations, the first update sees the acting policy, and small seeded tasks are solved."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from guess import Guess
from gymnasium import spaces
from stub_engine import Resting, StubEngine

import sonarium.rooms  # noqa: F401  registers the environments
from sonarium.agents.contract import alone, stacked
from sonarium.agents.evaluate import by_mode, play
from sonarium.agents.networks import EpisodeGRU, RunningMeanStd
from sonarium.agents.perception import Sequences, cut
from sonarium.agents.policy import Gaussian, policy_of
from sonarium.agents.ppo import PPO, Estimates, PPOConfig, policy_loss, standardised
from sonarium.agents.presets import PPO_ENTRY
from sonarium.agents.rollout import RolloutConfig, Rollouts, make
from sonarium.agents.tally import Tally
from sonarium.features.ears import Ears
from sonarium.models.optim import AdamConfig

SEED = 5
QUICK = PPOConfig(
    units=16, layers=1, entropy_weight=0.0, minibatches=2, optimiser=AdamConfig(learning_rate=0.02, epsilon=1e-5)
)


def built(env: str, config: PPOConfig, seed: int = SEED) -> PPO:
    one = make(env)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PPO(config, one.observation_space, one.action_space)


def begun(env: str, config: PPOConfig, **rollouts: Any) -> tuple[PPO, Rollouts, StubEngine]:
    agent, engine = built(env, config), StubEngine(SEED)
    settings: dict[str, Any] = {"envs": 8, "rollout_steps": 8} | rollouts
    source = Rollouts(RolloutConfig(env, **settings), SEED)
    source.attach(agent, engine)
    return agent, source, engine


def trained(env: str, config: PPOConfig, updates: int, **rollouts: Any) -> PPO:
    agent, source, engine = begun(env, config, **rollouts)
    for _ in range(updates):
        agent.update(next(source), engine)
    return agent


def test_the_loss_of_the_policy_is_the_written_equation():
    rng = np.random.default_rng(0)
    change, advantage = rng.normal(0, 0.5, 50), rng.normal(size=50)
    for clip in (0.2, 0.0):
        found, slope = policy_loss(torch.tensor(change).exp(), torch.tensor(advantage), clip)

        def written(row: int, change: float, clip: float = clip) -> float:
            rho = np.exp(change)
            bounded = min(max(rho, 1 - clip), 1 + clip) if clip else rho
            return -min(rho * advantage[row], bounded * advantage[row])

        for row in range(50):
            assert float(found[row]) == pytest.approx(written(row, change[row]))
            assert float(slope[row]) == pytest.approx(sloping(partial(written, row), change[row]), abs=1e-8)


@pytest.mark.parametrize("kind", ["squared", "huber"])
@pytest.mark.parametrize("clip", [0.0, 0.3])
def test_the_loss_of_the_value_is_the_written_equation(kind, clip):
    agent = PPO(replace(QUICK, value_loss=kind, value_clip=clip), spaces.Discrete(2), spaces.Discrete(2))
    rng = np.random.default_rng(1)
    value, before, target = (rng.normal(size=40) for _ in range(3))
    found, slope = agent.value_loss(torch.tensor(value), torch.tensor(before), torch.tensor(target))

    def error(guess: float, right: float) -> float:
        apart = abs(guess - right)
        return apart**2 if kind == "squared" else (0.5 * apart**2 if apart < 1 else apart - 0.5)

    def written(row: int, value: float) -> float:
        near = before[row] + np.clip(value - before[row], -clip, clip)
        plain = error(value, target[row])
        return max(plain, error(near, target[row])) if clip else plain

    for row in range(40):
        assert float(found[row]) == pytest.approx(written(row, value[row]))
        assert float(slope[row]) == pytest.approx(sloping(partial(written, row), value[row]), abs=1e-8)


@pytest.mark.parametrize("kind", ["squared", "huber"])
def test_within_its_range_a_clipped_value_has_the_gradient_of_the_value(kind):
    """In 32 bits, too, where before + (value − before) differs from the value by rounding."""
    agent = PPO(replace(QUICK, value_loss=kind, value_clip=10.0), spaces.Discrete(2), spaces.Discrete(2))
    before, value, target = torch.randn(3, 20_000)
    found, slope = agent.value_loss(value.requires_grad_(), before, 5 * target)
    [expected] = torch.autograd.grad(found.sum(), value)
    torch.testing.assert_close(slope.detach(), expected)


def sloping(function: Callable[[float], float], at: float) -> float:
    """The derivative, by central differences."""
    return (function(at + 1e-6) - function(at - 1e-6)) / 2e-6


ACTED = {
    "one": spaces.Discrete(3),
    "several": spaces.MultiDiscrete([2, 3]),
    "continuous": spaces.Box(-1, 1, (2,)),
}


@pytest.mark.parametrize("acted", ACTED)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layers": 0, "clip": 0.0, "value_loss": "huber"},
        {"shared": True, "activation": "relu", "layers": 2, "value_clip": 0.1},
        {"memory": 4, "normalise_advantages": "none"},
        {"units": 3, "sound_rate": 8000},
    ],
)
def test_gradients_are_those_of_autograd(acted, changes):
    torch.manual_seed(SEED)
    heard = "sound_rate" in changes
    seen = spaces.Box(-1, 1, (2, 2000) if heard else (5,), np.float32)
    config = replace(QUICK, entropy_weight=0.1, minibatches=1, **changes)
    agent = PPO(config, seen, ACTED[acted])
    for one in agent.heads.parameters():
        # The first policy is almost uniform, and its biases are zero.
        torch.nn.init.normal_(one, 0, 0.4)
    steps, count, rng = (4, 3) if config.memory else (1, 12), 12, np.random.default_rng(SEED)
    rows = torch.from_numpy(rng.normal(size=(count, *seen.shape))).float()
    parts = [part.unflatten(0, steps) for part in agent.observer.prepared([rows])]
    drawn = agent.policy.drawn(np.stack([ACTED[acted].sample() for _ in range(count)])).unflatten(0, steps)
    numbers = [torch.from_numpy(rng.normal(size=steps)).float() for _ in range(4)]
    weight = torch.ones(steps)
    weight[0, -1] = 0
    state = torch.zeros(steps[1], config.memory) if config.memory else None
    previous = torch.zeros(*steps, agent.policy.width + 1) if config.memory else None
    some = Sequences(parts, drawn, torch.zeros(steps, dtype=torch.bool), weight, previous, state)
    compared = Estimates(numbers[0] - 1, *numbers[1:])
    agent.epoch(some, compared, config.clip, Resting(), [])
    found = [one.grad for one in agent.parameters()]

    known, _ = agent.perception.through(some)
    hidden = agent.heads.hidden(known)
    outputs, value = agent.heads.policy(hidden), agent.heads.value(hidden)[:, 0]
    log_probability, entropy = agent.policy.evaluate(outputs, drawn.flatten(0, 1))
    ratio, advantage = (log_probability - compared.log_probability.flatten()).exp(), compared.advantage
    if config.normalise_advantages != "none":
        counted = advantage[weight > 0]
        advantage = (advantage - counted.mean()) / (counted.std() + 1e-8)
    low, high = (1 - config.clip, 1 + config.clip) if config.clip else (0, np.inf)
    policy = -torch.minimum(ratio * advantage.flatten(), ratio.clamp(low, high) * advantage.flatten())
    kind = torch.nn.SmoothL1Loss if config.value_loss == "huber" else torch.nn.MSELoss
    error = kind(reduction="none")
    target, before = compared.target.flatten(), compared.value.flatten()
    wrong = error(value, target)
    if config.value_clip:
        near = before + (value - before).clamp(-config.value_clip, config.value_clip)
        wrong = torch.maximum(wrong, error(near, target))
    loss = policy + config.value_weight * wrong - config.entropy_weight * entropy
    expected = torch.autograd.grad((loss * weight.flatten()).sum() / weight.sum(), [*agent.parameters()])
    for name, one, other in zip(dict(agent.named_parameters()), found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=lambda said, name=name: f"{name}: {said}")


def test_policies_are_those_of_torch():
    rows = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    several = policy_of(spaces.MultiDiscrete([2, 3], start=[1, 0]), 1.0)
    drawn = torch.tensor([[0, 2], [1, 1], [0, 0], [1, 2], [0, 1], [1, 0]])
    logs, entropy = several.evaluate(rows, drawn)
    two, three = (torch.distributions.Categorical(logits=part) for part in rows.split([2, 3], 1))
    torch.testing.assert_close(logs, two.log_prob(drawn[:, 0]) + three.log_prob(drawn[:, 1]))
    torch.testing.assert_close(entropy, two.entropy() + three.entropy())
    assert several.action(drawn)[:, 0].tolist() == [1, 2, 1, 2, 1, 2]
    normal = Gaussian(spaces.Box(-1, 1, (5,)), 0.7)
    peer = torch.distributions.Normal(torch.zeros(6, 5), 0.7)
    logs, entropy = normal.evaluate(torch.zeros(6, 5), rows)
    torch.testing.assert_close(logs, peer.log_prob(rows).sum(1))
    torch.testing.assert_close(entropy, peer.entropy().sum(1))
    assert np.abs(normal.action(9 * rows)).max() == 1


def test_categories_are_drawn_by_their_probabilities():
    policy, chances = policy_of(spaces.Discrete(3), 1.0), torch.tensor([0.6, 0.3, 0.1])
    drawn = policy.draw(chances.log().expand(8000, 3), torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn[:, 0]) / 8000
    # Four standard errors are .022.
    assert (shares - chances).abs().max() < 0.022
    assert policy.draw(chances.log()[None], None).item() == 0


def test_the_recurrent_network_is_torchs_and_begins_anew():
    torch.manual_seed(0)
    gru, peer = EpisodeGRU(3, 4), torch.nn.GRU(3, 4)
    peer.load_state_dict({f"{name}_l0": value for name, value in gru.cell.state_dict().items()})
    inputs, state, first = torch.randn(6, 2, 3), torch.randn(2, 4), torch.zeros(6, 2, dtype=torch.bool)
    torch.testing.assert_close(gru(inputs, first, state), peer(inputs, state[None])[0])
    first[2, 1] = True
    found = gru(inputs, first, state)
    torch.testing.assert_close(found[2:, 1], peer(inputs[2:, 1:])[0][:, 0])
    torch.testing.assert_close(found[:, 0], peer(inputs, state[None])[0][:, 0])


def test_running_statistics_are_those_of_all_rows():
    standard, rows = RunningMeanStd(2), np.random.default_rng(0).normal(3, 2, (60, 2))
    for part in np.split(rows, [10, 11, 40]):
        standard.learn(torch.tensor(part))
    np.testing.assert_allclose(standard.mean, rows.mean(0))
    np.testing.assert_allclose(standard.variance, rows.var(0))
    weighed = standardised(torch.tensor([[1.0, 2.0, 6.0, 99.0]]), torch.tensor([[1.0, 1.0, 1.0, 0.0]]))
    np.testing.assert_allclose(weighed[0, :3], (np.array([1, 2, 6]) - 3) / np.std([1, 2, 6], ddof=1), rtol=1e-5)


@pytest.mark.parametrize("memory", [0, 6])
@pytest.mark.parametrize("vector", ["no", "auto"])
def test_before_the_first_step_the_policy_is_the_one_that_acted(memory, vector):
    """Over several rollouts, with padded last sequences, and states stored where sequences are cut."""
    config = replace(QUICK, memory=memory, sequence_steps=3, epochs=1, minibatches=1)
    agent, source, engine = begun("CartPole-v1", config, envs=3, rollout_steps=25, vector=vector)
    for _ in range(3):
        data = next(source)
        _, _, states = agent.through(agent.perception.sequences(data, agent.device))
        if states is not None:
            torch.testing.assert_close(states[-1], source.memory.state)
        terms = agent.update(data, engine)
        assert abs(float(terms["policy/kl"])) < 1e-6 and float(terms["policy/clipped"]) == 0
    assert data.first.any()


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(2), spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(2), spaces.Box(-1, 1, (1,), np.float32)],
    ids=str,
)
def test_it_learns_to_guess(space, guessing):
    config, continuous = replace(QUICK, deviation=0.5), isinstance(space, spaces.Box)
    if continuous:
        # At a deviation of .05, the learning rate for categories changes the policy too much (KL above 1).
        config = replace(config, optimiser=AdamConfig(learning_rate=0.003, epsilon=1e-5))
    agent = trained(guessing(space), config, 15)
    agent.greedy = True
    score = play(agent, lambda: make("Guess-v0"), 20, 1, slots=20).returns.mean()
    assert score > (-0.05 if continuous else 0.99)


def test_what_is_gone_is_known_to_memory_alone(guessing):
    env = guessing(spaces.Discrete(2), wait=1)
    scores = {}
    for memory in (0, 12):
        agent = trained(env, replace(QUICK, memory=memory), 20)
        agent.greedy = True
        scores[memory] = play(agent, lambda: make(env), 40, 1, slots=40).returns.mean()
    assert scores[12] > 0.99 and scores[0] < 0.8


def test_the_value_after_a_truncated_episode_stands_for_the_rest(guessing):
    """With a value of 1 everywhere, the target of a last step is its reward plus γ if bootstrapped."""
    env = guessing(spaces.Discrete(2), truncates=True)
    for bootstrap, rest in ((True, 0.9), (False, 0.0)):
        config = replace(QUICK, bootstrap_truncated=bootstrap, discount=0.9, trace=0.0, units=4)
        agent, source, _ = begun(env, config, envs=2, rollout_steps=4)
        last = agent.heads.value[-1]
        assert isinstance(last, torch.nn.Linear)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.ones_(last.bias)
        data = next(source)
        acted = agent.perception.sequences(data, agent.device)
        value = torch.ones(4, 2)
        found = agent.estimated(data, acted, data.reward, torch.zeros(4, 2), value, None)
        np.testing.assert_allclose(found.target, data.reward + rest, rtol=1e-6)


@pytest.mark.parametrize("memory", [0, 5])
def test_one_environment_is_a_batch_of_one(memory, guessing):
    agent = built(guessing(spaces.Discrete(2)), replace(QUICK, memory=memory))
    agent.greedy = True
    rows = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    after, actions, _ = agent.act(agent.initial(4), rows, np.ones(4, bool), torch.Generator(), {})
    for slot in range(4):
        one, action, _ = alone(agent, agent.initial(1), rows[slot], True, torch.Generator(), {})
        assert action == actions[slot]
        if memory:
            torch.testing.assert_close(one.state[0], after.state[slot])


MIXED = spaces.Dict({
    "ears": spaces.Box(-1, 1, (2, 1000), np.float32),
    "eye": spaces.Box(0, 255, (20, 24, 3), np.uint8),
    "pose": spaces.Tuple((spaces.Box(-1, 1, (3,), np.float64), spaces.Discrete(4, start=2))),
    "touch": spaces.MultiBinary(3),
})  # fmt: skip


@pytest.mark.parametrize("rate", [0, 8000])
def test_pictures_and_sounds_in_dictionaries_are_seen(rate):
    agent = PPO(replace(QUICK, sound_rate=rate, normalise_observations=True), MIXED, spaces.Discrete(3))
    rows = [MIXED.sample() for _ in range(2)]
    _, actions, _ = agent.act(None, stacked(rows), np.ones(2, bool), torch.Generator().manual_seed(0), {})
    assert actions.shape == (2,)

    def known(observation):
        rows = agent.observer.rows(observation, torch.device("cpu"))
        return agent.observer(agent.observer.prepared(rows))

    assert known(stacked(rows)).shape == (2, 2 * QUICK.units + 3 + 4 + 3)
    changed = stacked(rows)
    changed["ears"] = -changed["ears"][::-1]
    assert (known(changed) != known(stacked(rows))).any()


def test_features_of_each_window_are_computed_once(monkeypatch):
    agent, source, engine = begun(
        "sonarium/Seek-v0", replace(QUICK, sound_rate=8000, epochs=3), envs=2, rollout_steps=4, vector="auto"
    )
    rows, features = [], Ears.forward
    monkeypatch.setattr(Ears, "forward", lambda ears, wave: rows.append(len(wave)) or features(ears, wave))
    data = next(source)
    assert rows == [2] * 4
    agent.update(data, engine)
    # The observations acted on, and those after the last step of each environment.
    assert rows == [2] * 5


@pytest.mark.parametrize("seen", [spaces.Discrete(3, start=5), spaces.Box(-1, 1, (2,))])
def test_padding_of_sequences_changes_nothing(seen):
    """Sequences of three steps from rollouts of eight; zeros need not be in the space."""
    torch.manual_seed(0)
    agent = PPO(replace(QUICK, memory=4, sequence_steps=3, minibatches=1), seen, spaces.Discrete(2))
    rows = np.stack([seen.sample() for _ in range(16)]).reshape(8, 2, *seen.shape)
    parts = [part.unflatten(0, (8, 2)) for part in agent.observer.rows(rows, torch.device("cpu"))]
    drawn, first = torch.zeros(8, 2, 1, dtype=torch.long), torch.zeros(8, 2, dtype=torch.bool)
    previous, state = torch.zeros(8, 2, agent.policy.width + 1), torch.zeros(2, 4)
    acted = Sequences(parts, drawn, first, torch.ones(8, 2), previous, state)
    with torch.no_grad():
        outputs, _, states = agent.through(acted)
        assert states is not None
        sequences, likewise = cut(acted, states, 3)
        found = agent.through(sequences)[0].unflatten(0, (3, 6))
    assert sequences.weight.sum() == 16 and sequences.weight[2, 4:].tolist() == [0, 0]
    expected = likewise(outputs.unflatten(0, (8, 2)))
    counted = sequences.weight > 0
    torch.testing.assert_close(found[counted], expected[counted])


@pytest.mark.parametrize(
    ("changes", "threads"),
    [({}, 1), ({"units": 512}, None), ({"memory": 4}, None), ({"sound_rate": 8000}, None)],
)
def test_small_networks_of_numbers_train_on_one_thread(changes, threads):
    seen = spaces.Box(-1, 1, (2, 2000) if "sound_rate" in changes else (3,), np.float32)
    assert PPO(replace(QUICK, **changes), seen, spaces.Discrete(2)).threads == threads


@pytest.mark.parametrize("preset", PPO_ENTRY.presets)
def test_each_preset_takes_its_rollouts(preset):
    recipe = PPO_ENTRY.recipes[preset]
    config = PPO_ENTRY.complete(PPO_ENTRY.presets[preset](), recipe.steps)
    agent, source, engine = begun("CartPole-v1", config, **recipe.rollouts)
    data = next(source)
    before = [parameter.clone() for parameter in agent.parameters()]
    terms = agent.update(data, engine)
    assert all(bool(value.isfinite()) for value in terms.values())
    assert any((one != other).any() for one, other in zip(before, agent.parameters(), strict=True))
    if recipe.rollouts.get("rollout_episodes"):
        over = data.terminated | data.truncated
        assert len(over) == 20 or (over[-1].all() and not over[:-1].any())


def test_normalised_rewards_have_the_scale_of_their_discounted_sums():
    agent, source, _ = begun("CartPole-v1", replace(QUICK, normalise_rewards=True), envs=2, rollout_steps=30)
    data, sums = next(source), []
    for slot in range(2):
        total = 0.0
        for step in range(30):
            total = data.reward[step, slot] + (0 if data.first[step, slot] else 0.99 * total)
            sums.append(total)
    found = agent.tally.scaled(data, 1.0, 0.99, agent.rewards)
    np.testing.assert_allclose(found, data.reward / np.std(sums), rtol=1e-6)


def test_a_divergence_that_is_too_large_ends_the_epochs():
    config = replace(QUICK, epochs=50, max_kl=1e-4)
    agent, source, engine = begun("CartPole-v1", config, vector="yes")
    assert 2 <= float(agent.update(next(source), engine)["policy/updates"]) < 100


def test_episodes_of_other_environments_are_played_again():
    """MountainCar has no state that can be saved: its episode is replayed from the seed and the actions."""
    config = replace(QUICK, memory=4)
    agent, source, engine = begun("MountainCar-v0", config, envs=2, rollout_steps=110)
    data = [next(source) for _ in range(2)]
    state, numbers = source.state_dict(), engine.generator.get_state()
    expected = next(source)
    late = Rollouts(source.config, SEED)
    late.load_state_dict(state)
    engine.generator.set_state(numbers)
    late.attach(agent, engine)
    found = next(late)
    for name in ("observation", "first", "action", "reward", "truncated", "last"):
        assert (getattr(found, name) == getattr(expected, name)).all(), name
    assert data[1].truncated.any()


@pytest.mark.parametrize("fault", [np.nan, np.inf])
def test_an_observation_that_is_no_number_is_refused(fault, guessing):
    _, source, _ = begun(guessing(spaces.Discrete(2), fault=fault), QUICK)
    with pytest.raises(ValueError, match="--env Guess-v0: the observation of copy 0 is NaN or infinite"):
        next(source)


def test_a_fault_of_an_environment_is_one_line(guessing, monkeypatch):
    _, source, _ = begun(guessing(spaces.Discrete(2)), QUICK)
    monkeypatch.setattr(Guess, "score", lambda self, action: 1 / 0)
    with pytest.raises(ValueError, match="--env Guess-v0 failed: ZeroDivisionError: division by zero; fix"):
        next(source)


def test_spaces_that_it_does_not_take_are_refused():
    with pytest.raises(ValueError, match=r"agents see Box, .* not Text"):
        PPO(QUICK, spaces.Text(3), spaces.Discrete(2))
    with pytest.raises(ValueError, match=r"agents act in Discrete, .* not in Box\(0, 5"):
        PPO(QUICK, spaces.Discrete(2), spaces.Box(0, 5, (2,), np.int64))
    with pytest.raises(ValueError, match="the sound has 1 channel"):
        PPO(replace(QUICK, sound_rate=8000), spaces.Box(-1, 1, (1, 500), np.float32), spaces.Discrete(2))


def test_sums_that_no_training_writes_are_refused():
    for sums in ({"returns": "x"}, {"returns": np.array([np.nan])}, {"a": np.zeros(2), "b": np.zeros(3)}):
        with pytest.raises(ValueError, match="sums"):
            Tally().load_state_dict({"sums": sums})


def test_greedy_and_drawn_actions_are_both_scored(guessing):
    agent = built(guessing(spaces.Discrete(2)), QUICK)
    found = by_mode(agent, lambda: make("Guess-v0"), 6, 1)
    assert found.keys() == {"return", "length", "sampled_return"} and not agent.greedy
