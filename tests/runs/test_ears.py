"""Agents that hear through the encoder of another run."""

import shutil
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stub_engine import StubEngine

from sonarium.__main__ import dispatch
from sonarium.agents.contract import Hearing
from sonarium.agents.observing.hearing import EncodedEars
from sonarium.agents.ppo import PPO, PPOConfig
from sonarium.agents.rollout import make
from sonarium.commands.faults import UsageError
from sonarium.models.framing import in_frames
from sonarium.runs.build import open_learner, open_run
from sonarium.training.run import RunFolder, digest


class Whistle(gymnasium.Env):
    """A tone at one of two ears; the correct action is its side."""

    metadata = {"render_modes": [], "sound_rate": 8000}  # noqa: RUF012
    observation_space = spaces.Dict(
        {"sound": spaces.Box(-1, 1, (2, 1000), np.float32), "number": spaces.Box(-1, 1, (1,), np.float32)}
    )
    action_space = spaces.Discrete(2)

    def observe(self):
        self.side = int(self.np_random.integers(2))
        sound = 0.01 * self.np_random.normal(size=(2, 1000)).astype(np.float32)
        sound[self.side] += np.sin(np.arange(1000) * 0.4).astype(np.float32) / 2
        return {"sound": np.clip(sound, -1, 1), "number": np.zeros(1, np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.observe(), {}

    def step(self, action):
        reward, self.count = float(action == self.side), self.count + 1
        return self.observe(), reward, False, self.count == 5, {}


class Unrated(Whistle):
    """The same with an unknown sampling rate, and a given number of channels."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, channels: int = 2):
        self.channels, sound = channels, spaces.Box(-1, 1, (channels, 1000), np.float32)
        self.observation_space = spaces.Dict({"sound": sound, "number": spaces.Box(-1, 1, (1,), np.float32)})

    def observe(self):
        observed = super().observe()
        return observed | {"sound": np.resize(observed["sound"], (self.channels, 1000))}


@pytest.fixture(scope="module", autouse=True)
def registered():
    gymnasium.register("Whistle-v0", Whistle)  # pyright: ignore
    gymnasium.register("Unrated-v0", Unrated)  # pyright: ignore
    for channels in (1, 3):
        gymnasium.register(f"Unrated{channels}-v0", Unrated, kwargs={"channels": channels})  # pyright: ignore
    yield
    for name in ("Whistle-v0", "Unrated-v0", "Unrated1-v0", "Unrated3-v0"):
        del gymnasium.registry[name]


TONES = "--world tones --frequencies 9 --amplitudes 2 --rate 8000 --seconds 0.1 --batch-size 8 --no-pictures"
AGENT = "--envs 2 --rollout-steps 6 --units 8 --no-pictures"


def train(words: str, run: Path) -> None:
    dispatch(["train", *words.split(), "--run", str(run)])


@pytest.fixture(scope="module")
def ears(tmp_path_factory) -> dict[str, Path]:
    """Runs with one code per frame (cpc), and with one code per clip (vae)."""
    folder = tmp_path_factory.mktemp("ears")
    small = {"cpc": "--filters 8 --width 8 --steps-ahead 2", "vae": "--network dense --latent 3"}
    for name, flags in small.items():
        train(f"{name} {TONES} {flags} --steps 2", folder / name)
    return {name: folder / name for name in small}


def hearing(run: Path) -> EncodedEars:
    agent = open_run(run).learner
    assert isinstance(agent, PPO)
    [found] = [part for part in agent.observer.parts if isinstance(part, EncodedEars)]
    return found


@pytest.mark.parametrize("name", ["cpc", "vae"])
def test_an_agent_hears_the_codes_of_the_run(name, ears, tmp_path):
    train(f"ppo --env Whistle-v0 --ears {ears[name]} {AGENT} --steps 2", tmp_path / "run")
    heard, (_, encoder, _) = hearing(tmp_path / "run"), open_learner(ears[name])
    for key, value in encoder.state_dict().items():
        assert torch.equal(heard.learner.state_dict()[key], value), key
    rows = torch.rand(3, 2, 1000) - 0.5
    expected = [heard.hearing.encoder.encode(rows[:, ear]) for ear in (0, 1)]
    codes, cues = heard.prepared(rows).split([size.numel() for size in heard.sizes], 1)
    wanted = torch.cat([one.transpose(1, 2) for one in expected], 1)
    torch.testing.assert_close(codes.unflatten(1, heard.sizes[0]), wanted)
    # Weights are stored once.
    assert not [key for key in heard.state_dict() if "hearing" in key or "encoder.encoder" in key]
    # The cues change when the ears are exchanged, and when the level changes.
    turned = heard.prepared(rows.flip(1))[:, codes.shape[1] :]
    louder = heard.prepared(2 * rows)[:, codes.shape[1] :]
    assert not torch.allclose(cues, turned, atol=0.1) and not torch.allclose(cues, louder, atol=0.1)


def test_each_window_is_encoded_once(ears, tmp_path, monkeypatch):
    train(f"ppo --env Whistle-v0 --ears {ears['cpc']} {AGENT} --steps 0", tmp_path / "run")
    opened, encoded = open_run(tmp_path / "run"), []
    own = EncodedEars.coded
    monkeypatch.setattr(EncodedEars, "coded", lambda self, rows: (encoded.append(len(rows)), own(self, rows))[1])
    agent, source, engine = opened.learner, opened.source, StubEngine()
    assert isinstance(agent, PPO)
    source.attach(agent, engine)
    agent.update(next(source), engine)
    # 6 steps of 2 copies, the last observation of one truncated episode of each, and those after the last step.
    assert sum(encoded) == 12 + 2 + 2, encoded


@pytest.mark.parametrize("trained", [False, True])
def test_q_learning_on_rollouts_hears_it_too(trained, ears, tmp_path):
    words = f"pqn --env Whistle-v0 --ears {ears['cpc']} {AGENT} --memory 4 --steps 2"
    train(f"{words} {'--train-ears' if trained else ''}", tmp_path / "run")
    before, agent = open_learner(ears["cpc"])[1].state_dict(), open_run(tmp_path / "run").learner
    [heard] = [part for part in agent.modules() if isinstance(part, EncodedEars)]
    after = heard.learner.state_dict()
    assert any(not torch.equal(value, after[key]) for key, value in before.items()) == trained


def test_frozen_ears_stay_and_trained_ears_learn(ears, tmp_path):
    before = open_learner(ears["cpc"])[1].state_dict()
    train(f"ppo --env Whistle-v0 --ears {ears['cpc']} --train-ears {AGENT} --steps 2", tmp_path / "run")
    heard = hearing(tmp_path / "run")
    after = heard.learner.state_dict()
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert any("encoder" in key for key in changed) and not any("predict" in key for key in changed)
    assert not heard.train().learner.training
    rows = torch.rand(2, 2, 1000) - 0.5
    expected = [heard.hearing.encoder.encode(rows[:, ear]).transpose(1, 2) for ear in (0, 1)]
    torch.testing.assert_close(heard.coded(rows).detach(), torch.cat(expected, 1))


def test_codes_without_a_gradient_cannot_be_trained_on(ears, tmp_path):
    with pytest.raises(ValueError, match="no gradient; leave out --train-ears"):
        train(f"ppo --env Whistle-v0 --ears {ears['vae']} --train-ears {AGENT} --steps 1", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_bit_for_bit_and_is_scored_without_the_run_that_it_hears_with(ears, tmp_path, capsys):
    shutil.copytree(ears["cpc"], tmp_path / "ears")
    words = f"ppo --env Whistle-v0 --ears {tmp_path / 'ears'} {AGENT} --train-ears --memory 4"
    train(f"{words} --steps 2", tmp_path / "whole")
    train(f"{words} --steps 1", tmp_path / "broken")
    shutil.rmtree(tmp_path / "ears")
    train(f"{words} --steps 2", tmp_path / "broken")
    first, second = (RunFolder.read(tmp_path / name) for name in ("whole", "broken"))
    assert digest(first.weights(2)) == digest(second.weights(2))
    capsys.readouterr()
    dispatch(["score", str(tmp_path / "broken")])
    assert "return" in capsys.readouterr().out


def test_ears_are_of_the_best_weights_where_asked(ears, tmp_path):
    folder = tmp_path / "ears"
    shutil.copytree(ears["cpc"], folder)
    newest = open_learner(folder)[1]
    weights = newest.state_dict() | {name: 2 * value.detach() for name, value in newest.named_parameters()}
    RunFolder.read(folder).save_best(1, 0.0, weights)
    words = f"ppo --env Whistle-v0 --ears {folder} --best {AGENT} --steps"
    train(f"{words} 1", tmp_path / "run")
    shutil.rmtree(folder)
    train(f"{words} 2", tmp_path / "run")
    heard = hearing(tmp_path / "run").learner.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in heard.items())


def test_it_learns_what_only_the_ears_tell(ears, tmp_path, capsys):
    """Chance is 10 of 20."""
    train(
        f"ppo --env Whistle-v0 --ears {ears['cpc']} --envs 8 --rollout-steps 16 --units 32 --discount 0 "
        "--learning-rate 0.005 --no-pictures --steps 6",
        tmp_path / "run",
    )
    opened = open_run(tmp_path / "run")
    agent, env = opened.learner, make("Whistle-v0")
    assert isinstance(agent, PPO)
    agent.greedy = True
    right = 0.0
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        rows = {name: part[None] for name, part in observation.items()}
        _, action, _ = agent.act(agent.initial(1), rows, np.array([True]), torch.Generator(), {})
        right += float(env.step(action[0])[1])
    assert right >= 18


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--env CartPole-v1 --ears CPC", "0 parts of what is observed.* are sound at two ears"),
        ("--env Unrated1-v0 --ears CPC", "0 parts of what is observed.* are sound at two ears"),
        ("--env Unrated3-v0 --ears CPC", "0 parts of what is observed.* are sound at two ears"),
        ("--env Whistle-v0 --train-ears", "give --ears RUN"),
        ("--env Whistle-v0 --ears CPC --sound-rate 8000", "give --sound-rate 0"),
        ("--env Whistle-v0 --ears NOWHERE", "is not a run folder"),
        ("--env sonarium/Seek-v0 --ears FAST", "takes sound at 16000 Hz, and sonarium/Seek-v0 gives 8000 Hz"),
        ("--env Whistle-v0 --ears PICTURES", "was trained on pictures and cannot hear"),
        ("--env Whistle-v0 --ears AGENT", "is a run of ppo, an agent, .* one of an encoder or a separator"),
    ],
)
def test_what_cannot_hear_is_refused(words, complaint, ears, tmp_path):
    made = {
        "FAST": f"vae {TONES.replace('8000', '16000')} --network dense --latent 2 --steps 0",
        "PICTURES": "vae --world digits --steps 0 --no-pictures",
        "AGENT": f"ppo --env CartPole-v1 {AGENT} --steps 0",
    }
    for name, flags in made.items():
        if name in words:
            train(flags, tmp_path / name)
            words = words.replace(name, str(tmp_path / name))
    words = words.replace("CPC", str(ears["cpc"])).replace("NOWHERE", str(tmp_path / "nowhere"))
    with pytest.raises((ValueError, UsageError), match=complaint):
        train(f"ppo {words} {AGENT} --steps 1", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_rate_that_no_environment_tells_is_remarked(ears, tmp_path, capsys):
    for name, told in (("Whistle-v0", True), ("Unrated-v0", False)):
        train(f"ppo --env {name} --ears {ears['cpc']} {AGENT} --steps 0", tmp_path / name)
        said = [line for line in capsys.readouterr().err.splitlines() if "sampling rate" in line]
        assert len(said) == (not told), said
    assert "Unrated-v0 tells no sampling rate" in said[0] and "8000 Hz" in said[0]
    # The remark concerns training, and is not repeated when a run is opened.
    dispatch(["score", str(tmp_path / "Unrated-v0"), "--episodes", "1"])
    assert "sampling rate" not in capsys.readouterr().err


def test_sound_that_is_too_short_for_a_code_is_refused(ears, monkeypatch):
    _, encoder, signal = open_learner(ears["cpc"])
    monkeypatch.setattr(encoder, "code_lengths", lambda lengths: 0 * lengths)
    short = Hearing(encoder, in_frames(encoder, signal), 8000, 8)
    with pytest.raises(ValueError, match="500 samples are too few for a code of --ears"):
        PPO(PPOConfig(), spaces.Box(-1, 1, (2, 500), np.float32), spaces.Discrete(2), short)


def test_ears_in_python_are_given_with_their_rate():
    with pytest.raises(ValueError, match=r"train_ears=True: .* give --ears RUN"):
        PPO(PPOConfig(train_ears=True), spaces.Box(-1, 1, (2, 500), np.float32), spaces.Discrete(2))
