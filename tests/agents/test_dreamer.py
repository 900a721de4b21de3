"""Dreamer: λ-returns match their definition, sequences match the recorded steps, training resumes bit for bit and
solves small seeded tasks, with and without reconstruction."""

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
from stub_engine import StubEngine
from typechecking import unchecked

import sonarium.rooms  # noqa: F401  registers the environments
from sonarium.agents.dreamer import BINS, Dreamer, DreamerConfig, TwoHot, complete, imagined_returns
from sonarium.agents.evaluate import by_mode
from sonarium.agents.observing.parts import Numbers, sounding
from sonarium.agents.policy import policy_of
from sonarium.agents.presets import DREAMER_ENTRY
from sonarium.agents.replay import ReplayConfig
from sonarium.agents.rollout import RolloutConfig, Rollouts, make
from sonarium.features.ears import Ears, EarsConfig
from sonarium.models.objectives import ObjectiveConfig
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.models.rssm import DynamicsConfig
from sonarium.training.state import FileSegments, pack, unpack

SEED = 5
QUICK = DreamerConfig(
    units=32,
    layers=1,
    embedding=16,
    learning_starts=64,
    batch_size=16,
    gradient_steps=2,
    imagination_horizon=4,
    actor_learning_rate=5e-3,
    value_learning_rate=5e-3,
    slow_critic=0.5,
    dynamics=DynamicsConfig(deter=32, hidden=32, variables=4, classes=4),
    replay=ReplayConfig(sequence_steps=4),
    optimiser=AdamConfig(learning_rate=5e-3),
)
CONTRAST = replace(QUICK, objective=ObjectiveConfig(objective="dreaming", horizon=1, alike_below=0.05))


class Engine(StubEngine):
    """Stub engine that stores segments of the replay in a folder."""

    def __init__(self, folder: Path):
        super().__init__(SEED)
        self.folder = folder

    def segments(self, name: str) -> FileSegments:
        return FileSegments(self.folder / "segments" / name)


def begun(
    env: str, config: DreamerConfig, folder: Path, seed: int = SEED, **rollouts: Any
) -> tuple[Dreamer, Rollouts, Engine]:
    one, engine = make(env), Engine(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        agent = Dreamer(config, one.observation_space, one.action_space)
    settings: dict[str, Any] = {"envs": 8, "rollout_steps": 8} | rollouts
    source = Rollouts(RolloutConfig(env, **settings), seed)
    source.attach(agent, engine)
    return agent, source, engine


numbers = st.floats(-5, 5)


@given(
    st.lists(st.tuples(numbers, st.floats(0, 1), numbers), min_size=1, max_size=6),
    st.floats(0, 1),
)
def test_returns_are_the_written_ones(steps, trace):
    """Against the sum over n of n-step returns with weight (1 − λ) λ^(n − 1), the longest with the rest."""
    reward, continued, value = (torch.tensor(column, dtype=torch.float64) for column in zip(*steps, strict=True))
    found = imagined_returns(reward[:, None], continued[:, None], value[:, None], trace)[:, 0]
    horizon = len(steps)
    for now in range(horizon):
        expected = 0.0
        for length in range(1, horizon - now + 1):
            total, factor = 0.0, 1.0
            for step in range(now, now + length):
                total += factor * float(reward[step])
                factor *= float(continued[step])
            total += factor * float(value[now + length - 1])
            longest = length == horizon - now
            expected += (trace ** (length - 1)) * (1 if longest else 1 - trace) * total
        assert float(found[now]) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.floats(-2e4, 2e4))
def test_two_bins_stand_for_a_number(wanted):
    """The target distribution, which minimises the loss, has at most two non-zero bins, and the correct mean."""
    head, number = TwoHot(1, 1, 1), torch.tensor([wanted])
    logits = torch.zeros(1, BINS, requires_grad=True)
    head.loss(logits, number).sum().backward()
    assert logits.grad is not None
    # The gradient of the cross-entropy by the logits is softmax − target; zero logits have a uniform softmax.
    shares = 1 / BINS - logits.grad
    assert float((shares > 1e-6).sum()) <= 2 and float(shares.min()) > -1e-6
    assert float(shares @ head.bins) == pytest.approx(wanted, rel=2e-3, abs=2e-3)


def test_a_new_head_expects_nothing():
    head = TwoHot(3, 8, 2)
    assert head.mean(head(torch.randn(5, 3))).tolist() == [0] * 5


def episodes(agent: Dreamer, source: Rollouts, engine: Engine, count: int) -> list[Any]:
    kept = []
    for _ in range(count):
        kept.append(next(source))
        agent.update(kept[-1], engine)
    return kept


def standardised(agent: Dreamer, shown: np.ndarray) -> np.ndarray:
    [network] = agent.world.observer.parts
    assert isinstance(network, Numbers) and network.standard is not None
    return network.standard(torch.from_numpy(shown)[None])[0].numpy()


@pytest.mark.parametrize(("burn", "wait"), [(0, 0), (0, 3), (2, 3), (2, 0)])
def test_sequences_are_what_was_acted(burn, wait, tmp_path, guessing):
    config = replace(QUICK, learning_starts=10**6, replay=ReplayConfig(sequence_steps=3, burn_in=burn))
    agent, source, engine = begun(guessing(spaces.Discrete(2), wait=wait), config, tmp_path)
    episodes(agent, source, engine, 4)
    some = agent.replay.sample(40)
    found = agent.sequences(some)
    [tokens] = found.parts
    tokens = tokens.unflatten(0, (40, -1)).numpy()
    for row in range(40):
        weights = some.weight[:, row] > 0
        steps = np.flatnonzero(weights)
        assert int(found.counts[row]) == len(steps) + 1
        for step in steps.tolist():
            np.testing.assert_array_equal(tokens[row, step], standardised(agent, some.observation[step, row]))
            after = some.last[row] if step == steps[-1] else some.observation[step + 1, row]
            np.testing.assert_array_equal(tokens[row, step + 1], standardised(agent, after))
            assert float(found.reward[row, step + 1]) == some.reward[step, row]
            assert float(found.goes_on[row, step + 1]) == 1 - some.terminated[step, row]
            assert found.action[row, step + 1].tolist() == np.eye(2)[some.action[step, row]].tolist()
            assert not found.first[row, step + 1]
        assert found.goes_on[row, burn] == 1, "what a sequence begins with does not follow an end"
        if some.first[burn, row]:
            assert found.action[row, burn].abs().sum() == 0


def test_states_of_sequences_begin_where_it_acted(tmp_path, guessing):
    """With unchanged weights, h of the first token equals the one that the agent acted on."""
    config = replace(QUICK, learning_starts=10**6)
    agent, source, engine = begun(guessing(spaces.Discrete(2), wait=6), config, tmp_path)
    known: dict[tuple[float, ...], np.ndarray] = {}
    act = agent.act

    def noted(memory: Any, observation: Any, first: Any, generator: Any, info: Any) -> Any:
        after, action, extras = act(memory, observation, first, generator, info)
        for slot, row in enumerate(extras["memory"]):
            known[(*row.tolist(), *observation[slot].tolist())] = after.h[slot].numpy()
        return after, action, extras

    agent.act = noted
    for _ in range(4):
        # Without `update`, the statistics of the observations do not change.
        agent.replay.add(next(source), engine)
    some = agent.replay.sample(30)
    sequences = agent.sequences(some)
    with torch.no_grad():
        embedded = agent.world.embedded(sequences.parts).unflatten(0, (30, -1))
        states = agent.observed(embedded, sequences, engine)
    for row in range(30):
        key = (*some.extras["memory"][row].tolist(), *some.observation[0, row].tolist())
        # The replay stores the memory in float16.
        np.testing.assert_allclose(states.h[row, 0].numpy(), known[key], atol=2e-3)


@pytest.mark.parametrize("reinforce", [1.0, 0.0])
def test_the_gradient_flows_through_what_is_imagined_only_where_asked(reinforce, tmp_path):
    agent, _, engine = begun("CartPole-v1", replace(QUICK, reinforce=reinforce), tmp_path)
    feature = torch.randn(6, agent.world.number)
    with torch.set_grad_enabled(reinforce < 1):
        made = agent.imagine(feature, 3, engine.generator)
        returns, _ = agent.returns(made.feature)
    assert made.feature.shape == (4, 6, agent.world.number) and made.drawn.shape == (3, 6, 1)
    assert returns.requires_grad == (reinforce < 1)
    before = [one.clone() for one in agent.actor.parameters()]
    agent.behave(feature, torch.tensor([1.0, 0, 1, 1, 0, 1]), engine)
    assert any((one != other).any() for one, other in zip(before, agent.actor.parameters(), strict=True))


def test_actions_have_straight_through_gradients():
    discrete = policy_of(spaces.MultiDiscrete([2, 3]), 1.0)
    outputs = torch.randn(4, 5, requires_grad=True)
    drawn = discrete.draw(outputs.detach(), torch.Generator().manual_seed(0))
    through = discrete.through(outputs, drawn)
    assert torch.equal(through.detach(), discrete.encode(drawn))
    weights = torch.randn(4, 5)
    (through * weights).sum().backward()
    own = outputs.detach().requires_grad_()
    (torch.cat([one.softmax(1) for one in own.split([2, 3], 1)], 1) * weights).sum().backward()
    torch.testing.assert_close(outputs.grad, own.grad)
    np.testing.assert_array_equal(discrete.drawn(discrete.action(drawn)), drawn)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_continuous_actions_have_gradients_within_their_bounds(kind):
    continuous = policy_of(spaces.Box(-1, 1, (2,), kind), 0.5)
    mean = torch.zeros(3, 2, requires_grad=True)
    drawn = torch.tensor([[0.2, -0.5], [3.0, 0.0], [0.0, -2.0]])
    through = continuous.through(mean, drawn)
    assert through.dtype == torch.float32 and torch.equal(through.detach(), drawn.clamp(-1, 1))
    through.sum().backward()
    assert mean.grad is not None and torch.equal(mean.grad, (drawn.abs() <= 1).float())


EAGER = replace(
    QUICK,
    gradient_steps=4,
    entropy_weight=0.1,
    batch_size=32,
    imagination_horizon=3,
    replay=ReplayConfig(sequence_steps=2),
)


@pytest.mark.parametrize(
    ("config", "action", "least"),
    [
        (EAGER, spaces.Discrete(2), 1.0),
        (replace(EAGER, objective=CONTRAST.objective), spaces.Discrete(2), 1.0),
        (replace(EAGER, reinforce=0.5, deviation=0.5, entropy_weight=0.0), spaces.Box(-1, 1, (1,)), -0.15),
    ],
)
def test_it_learns_to_guess(config, action, least, tmp_path, guessing):
    """The task requires memory; with continuous actions, an agent without memory earns at most −.25."""
    agent, source, engine = begun(guessing(action, wait=1), config, tmp_path)
    for _ in range(65):
        terms = agent.update(next(source), engine)
    assert all(bool(value.isfinite()) for value in terms.values())
    scores = by_mode(agent, lambda: make("Guess-v0"), 100, 9)
    assert scores["return"] >= least, scores


def test_it_resumes_bit_for_bit(tmp_path):
    first, source, engine = begun("CartPole-v1", QUICK, tmp_path, vector="auto")
    for _ in range(5):
        first.update(next(source), engine)
    tensors: dict[str, torch.Tensor] = {}
    state = {name: part.state_dict() for name, part in (first.parts() | {"source": source}).items()}
    packed = pack(state | {"learner": first.state_dict()}, tensors, tmp_path)
    drawn = engine.generator.get_state()
    saved = unpack(packed, tensors, tmp_path)
    other, again, resumed = begun("CartPole-v1", QUICK, tmp_path, vector="auto")
    other.load_state_dict(saved["learner"])
    again.load_state_dict(saved["source"])
    for name, part in other.parts().items():
        part.load_state_dict(saved[name])
    again.attach(other, resumed)
    resumed.generator.set_state(drawn)
    for _ in range(4):
        one, two = first.update(next(source), engine), other.update(next(again), resumed)
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert data_equivalence(
        {name: value.numpy() for name, value in first.state_dict().items()},
        {name: value.numpy() for name, value in other.state_dict().items()},
    )


@pytest.mark.parametrize("count", [0, 7, 10**6])
def test_it_imagines_from_as_many_states_as_asked(count, tmp_path):
    agent, _, engine = begun("CartPole-v1", replace(QUICK, imagined_from=count), tmp_path)
    feature, weight = torch.randn(40, agent.world.number), (torch.arange(40) % 4 > 0).float()
    begin, imagine = [], agent.imagine
    agent.imagine = lambda rows, *rest: begin.append(rows) or imagine(rows, *rest)  # pyright: ignore
    for _ in range(2):
        agent.behave(feature, weight, engine)
    counted = {tuple(row) for row in feature[weight > 0].tolist()}
    for rows in begin:
        chosen = {tuple(row) for row in rows.tolist()}
        assert len(chosen) == len(rows) == min(count or 30, 30) and chosen <= counted
    assert torch.equal(*begin) == (count != 7)


def test_the_slow_critic_follows(tmp_path):
    agent, _, _ = begun("CartPole-v1", replace(QUICK, slow_critic=0.25), tmp_path)
    before = [one.clone() for one in agent.slow.parameters()]
    with torch.no_grad():
        for parameter in agent.critic.parameters():
            parameter.add_(1)
    agent.follow()
    for one, other in zip(before, agent.slow.parameters(), strict=True):
        torch.testing.assert_close(other, one + 0.25)


def test_returns_are_divided_by_their_range_where_it_is_above_1(tmp_path):
    agent, _, _ = begun("CartPole-v1", QUICK, tmp_path)
    even = torch.linspace(0, 10, 101)[None]
    assert float(agent.scale(even)) == pytest.approx(9)
    assert float(agent.scale(even * 0)) == pytest.approx(0.99 * 9)
    other, _, _ = begun("CartPole-v1", QUICK, tmp_path)
    assert float(other.scale(even / 100)) == 1
    other.config = replace(QUICK, normalise_returns=False)
    assert float(other.scale(even)) == 1


@pytest.mark.parametrize("preset", DREAMER_ENTRY.presets)
def test_each_preset_takes_its_rollouts(preset, tmp_path):
    config = DREAMER_ENTRY.complete(DREAMER_ENTRY.presets[preset](), DREAMER_ENTRY.recipes[preset].steps)
    env = "sonarium/Seek-v0" if config.sound_rate else "CartPole-v1"
    config = replace(config, learning_starts=1, batch_size=4, gradient_steps=1, imagination_horizon=2)
    agent, source, engine = begun(env, config, tmp_path, **{"envs": 4, "rollout_steps": 4, "vector": "auto"})
    before = [parameter.clone() for parameter in agent.world.parameters()]
    terms = agent.update(next(source), engine)
    assert all(bool(value.isfinite()) for value in terms.values()) and "loss/actor" in terms
    assert any((one != other).any() for one, other in zip(before, agent.world.parameters(), strict=True))


SPACES = {
    "numbers": spaces.Box(-3, 3, (2, 2)),
    "category": spaces.Discrete(3, start=1),
    "categories": spaces.MultiDiscrete([2, 3]),
    "bits": spaces.MultiBinary(3),
    "truths": spaces.Box(0, 1, (3,), np.bool_),  # pyright: ignore
    "unsigned": spaces.Box(0, 9, (3,), np.uint16),
    "picture": spaces.Box(0, 255, (20, 17, 3), np.uint8),
    "flat picture": spaces.Box(0, 255, (9, 11), np.uint8),
    "waveform": spaces.Box(-1, 1, (1, 300)),
    "sound": spaces.Box(-1, 1, (2, 2000)),
    "several": spaces.Dict({"a": spaces.Box(-3, 3, (2,)), "b": spaces.Discrete(2)}),
}


@pytest.mark.parametrize("name", SPACES)
def test_what_it_imagines_has_the_form_of_what_it_observes(name, tmp_path):
    space = SPACES[name]
    config = replace(QUICK, sound_rate=8000 if name == "sound" else 0)
    agent = Dreamer(config, space, spaces.Discrete(2))
    memory, generator = agent.initial(1), torch.Generator().manual_seed(0)
    states = agent.imagined(memory, np.array([[0], [1], [1]]), generator)[:, 0]
    made = agent.observed_in(states)
    reward, goes_on = agent.expected(states)
    assert reward.shape == goes_on.shape == (3,) and ((goes_on > 0) & (goes_on < 1)).all()
    if name == "several":
        assert made["a"].shape == (3, 2) and made["b"].shape == (3,)
        return
    assert made.shape == (3, *(space.shape or ()))
    if name in ("category", "categories", "bits", "picture", "flat picture"):
        # Decoded sound and numbers may exceed the bounds of the space.
        assert all(space.contains(row.astype(space.dtype)) for row in made)


def test_targets_come_back():
    """A perfect decoder, whose output equals the targets, restores the observation."""
    for name in [name for name in SPACES if name not in ("sound", "several")]:
        space = SPACES[name]
        space.seed(0)
        agent = Dreamer(QUICK, space, spaces.Discrete(2))
        shown = np.stack([space.sample() for _ in range(6)])
        observer = agent.world.observer
        rows = observer.rows(shown, torch.device("cpu"))
        # As sequences of the replay are: torch cannot write to some types.
        rows[0][torch.tensor([0])] = rows[0][:1].clone()
        observer.learn(rows)
        back = observer.restored(torch.cat(observer.targets(observer.prepared(rows)), 1))
        np.testing.assert_allclose(back, shown, atol=1e-5, err_msg=name)


def test_a_sound_comes_back_as_both_ears_hear_it():
    """Noise in windows, louder and three samples earlier at the left ear."""
    agent = Dreamer(replace(QUICK, sound_rate=8000), spaces.Box(-1, 1, (2, 2000)), spaces.Discrete(2))
    rng = np.random.default_rng(0)
    noise = np.convolve(rng.normal(0, 0.05, 8103), np.hanning(9), "same")[50:8053]
    wave = np.stack([noise[3:], noise[:-3] / 2]).astype(np.float32)
    windows = wave.reshape(2, 4, 2000).swapaxes(0, 1)
    observer = agent.world.observer
    rows = observer.prepared(observer.rows(windows, torch.device("cpu")))
    back = observer.restored(torch.cat(observer.targets(rows), 1)).swapaxes(0, 1).reshape(2, 8000)
    lag = np.correlate(back[0], back[1], "full").argmax() - 7999
    assert lag == np.correlate(wave[0], wave[1], "full").argmax() - 7999 == -3
    level = 10 * np.log10((back[0] ** 2).mean() / (back[1] ** 2).mean())
    assert level == pytest.approx(6.02, abs=0.7)
    assert 10 * np.log10((back**2).mean() / (wave**2).mean()) == pytest.approx(0, abs=1.5)


def test_windows_of_a_single_hop_come_back():
    ears = Ears(EarsConfig(fft=256, hop=256), 8000)
    windows = 0.1 * torch.randn(5, 2, 256, generator=torch.Generator().manual_seed(0))
    assert sounding(ears, ears(windows), 256).shape == windows.shape


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decoder": "warm"}, "decoder='warm': give off, frozen or live"),
        ({"dynamics": DynamicsConfig(dynamics="transformer", posterior="obs")}, "from step to step; give gru"),
        ({"replay": ReplayConfig(cross_episodes=True)}, "cross_episodes=True: sequences of Dreamer end"),
        ({"replay": ReplayConfig(draw="prioritised")}, "Dreamer has no priorities; give uniform or episodes"),
    ],
)
def test_what_does_not_go_together_is_named(changes, said):
    with unchecked(), pytest.raises(ValueError, match=said):
        replace(QUICK, **changes)


def test_without_a_decoder_nothing_is_shown():
    agent = Dreamer(replace(CONTRAST, decoder="off"), spaces.Box(-1, 1, (3,)), spaces.Discrete(2))
    with pytest.raises(ValueError, match="train it with --decoder frozen"):
        agent.observed_in(torch.zeros(2, agent.world.number))


def test_the_weight_of_the_entropy_falls_with_the_schedule():
    config = complete(replace(QUICK, entropy_decays=True, schedule=ScheduleConfig("linear")), 10)
    agent = Dreamer(config, spaces.Box(-1, 1, (3,)), spaces.Discrete(2))
    found = []
    for done in (1, 6, 10):
        agent.updates.fill_(done)
        found.append(agent.entropy_weight / config.entropy_weight)
    assert found == pytest.approx([1.0, 0.5, 0.1])
    agent.config = replace(config, entropy_decays=False)
    assert agent.entropy_weight == config.entropy_weight


def test_the_schedule_ends_with_the_run():
    config = complete(replace(QUICK, schedule=ScheduleConfig("linear")), 40)
    assert config.schedule.decay_steps == 40


def learning(reinforce: float, folder: Path) -> tuple[Dreamer, Engine]:
    """An agent that has learnt a little in CartPole, where episodes terminate soon."""
    config = replace(QUICK, reinforce=reinforce, imagined_from=0, batch_size=64)
    agent, source, engine = begun("CartPole-v1", config, folder, vector="auto")
    for _ in range(4):
        agent.update(next(source), engine)
    return agent, engine


@pytest.mark.parametrize("reinforce", [0.0, 0.5, 1.0])
def test_actor_and_critic_minimise_the_written_losses(reinforce, tmp_path, monkeypatch):
    agent, engine = learning(reinforce, tmp_path)
    config, world = agent.config, agent.world
    weight = (torch.rand(40, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    start = agent.world.dynamics
    feature = torch.randn(40, start.config.deter + start.latent.size, generator=torch.Generator().manual_seed(2))
    drawn = engine.generator.get_state()
    with torch.no_grad():
        made = agent.imagine(feature[weight > 0], config.imagination_horizon, engine.generator)
        after = made.feature[1:]
        continued = config.discount * world.continues(after).sigmoid()
        reward, slow = world.reward.mean(world.reward(after)), agent.slow.mean(agent.slow(after))
        returns = imagined_returns(reward, continued, slow, config.trace)
        high, low = (returns.flatten().quantile(share) for share in (0.95, 0.05))
        scale = (0.99 * agent.range + 0.01 * (high - low)).clamp(min=1)
        outputs, logits = agent.actor(made.feature[:-1]), agent.critic(made.feature[:-1])
        value, errors = agent.critic.mean(logits), agent.critic.loss(logits, returns)
        actor = critic = total = 0.0
        for row in range(returns.shape[1]):
            known = 1.0
            for step in range(config.imagination_horizon):
                policy = torch.distributions.Categorical(logits=outputs[step, row])
                chosen = policy.log_prob(made.drawn[step, row, 0])
                advantage = (returns[step, row] - value[step, row]) / scale
                gain = reinforce * chosen * advantage + (1 - reinforce) * returns[step, row] / scale
                actor -= known * float(gain + agent.entropy_weight * policy.entropy())
                critic += known * float(errors[step, row])
                total += known
                known *= float(continued[step, row])
    losses = []
    monkeypatch.setattr(engine, "descend", lambda loss, optimiser, clip=None: losses.append(loss.item()))
    engine.generator.set_state(drawn)
    agent.behave(feature, weight, engine)
    assert losses == pytest.approx([actor / total, critic / total], rel=1e-4, abs=1e-5)


def test_imagination_starts_in_states_of_episodes_that_go_on(tmp_path):
    agent, engine = learning(1.0, tmp_path)
    sequences = agent.sequences(agent.replay.sample(64))
    _, weight, _ = agent.model(sequences, engine)
    weight = weight.unflatten(0, (64, -1))
    for row, count in enumerate(sequences.counts.tolist()):
        ends = [token for token in range(count) if not sequences.goes_on[row, token]]
        expected = [float(token < count and token not in ends) for token in range(weight.shape[1])]
        assert weight[row].tolist() == expected
    assert (sequences.goes_on == 0).any() and (sequences.counts < weight.shape[1]).any()
