"""Agents whose separator keeps its state from window to window of an episode."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from sonarium.__main__ import dispatch
from sonarium.agents.contract import Separation
from sonarium.agents.dqn import DQN
from sonarium.agents.dreamer import Dreamer
from sonarium.agents.observing.carried import READ, CarriedEars, carrying
from sonarium.agents.observing.hearing import Loudness
from sonarium.agents.observing.listening import source_listener
from sonarium.agents.ppo import PPO, PPOConfig
from sonarium.agents.pqn import PQN
from sonarium.agents.rollout import RolloutConfig, Rollouts
from sonarium.features.ears import EarsConfig
from sonarium.models.contract import Learner, StreamSeparator
from sonarium.runs.build import open_learner, open_run
from sonarium.training.engine import FabricEngine

SMALL = "--env sonarium/Seek-v0 --envs 3 --rollout-steps 6 --units 8 --no-pictures --device cpu"
TINY = (
    "--clips 24 --sets 4 --seconds 1 --batch-size 4 --units 8 --layers 2 --no-pictures --device cpu --test 0.25 "
    "--validation 0"
)
SHORT = "sonarium/Seek-short-v0"
if SHORT not in gymnasium.registry:
    # Episodes end within rollouts, and sources with a wide radius are found at different times.
    gymnasium.register(
        SHORT, "sonarium.rooms.seek.env:Seek", vector_entry_point="sonarium.rooms.seek.vector:SeekVector",
        kwargs={"max_steps": 5, "sources": 2, "radius": 2.0, "start_distance": 2.1, "threads": 1},
    )  # fmt: skip
AGENTS = (
    "ppo",
    "ppo --memory 8 --separated cues",
    "pqn --memory 8 --epsilon-steps 9 --decay-steps 9",
    "dqn --learning-starts 4 --batch-size 4 --gradient-steps 2",
    "dqn --memory 8 --sequence-steps 4 --burn-in 2 --learning-starts 4 --batch-size 4 --gradient-steps 2",
    "dreamer --learning-starts 4 --batch-size 2 --gradient-steps 1 --imagination-horizon 2 --deter 8 --hidden 8",
)


def train(words: str, run: Path) -> Path:
    dispatch(["train", *words.split(), "--run", str(run)])
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("carried")
    return {
        "joint": train(f"separator {TINY} --steps 2", folder / "joint"),
        "otoworld": train(
            f"separator --preset otoworld {TINY.replace('--layers 2', '')} --steps 0", folder / "oto"
        ),
    }


def words(agent: str, joint: Path) -> str:
    reading = "" if "--separated" in agent else "--separated loudness"
    return f"{agent} --ears {joint} --carry-ears {reading} {SMALL}"


HEARD = spaces.Box(-1, 1, (2, 2000), np.float32)


def agent_of(joint: Path, heard: spaces.Space = HEARD) -> CarriedEars:
    learner: Any = open_learner(joint)[1]
    config = PPOConfig(units=8, separated="loudness", carry_ears=True)
    made = carrying(PPO)(config, heard, spaces.Discrete(4), Separation(learner, learner, 8000))
    assert isinstance(made, CarriedEars)
    return made


def of_whole(agent: CarriedEars, windows: np.ndarray) -> np.ndarray:
    """Oracle: readings of consecutive windows, from the sources of the whole sound, separated at once."""
    sound = torch.from_numpy(np.concatenate(list(windows), -1)).T[None]
    sources, late = agent.separator.go_on(sound, agent.separator.begin(1))[0][0], agent.separator.latency
    whole = agent.separator.separate(sound)[0]
    torch.testing.assert_close(sources[late:], whole[:-late], atol=1e-6, rtol=1e-3)
    reading = Loudness(2, 2000, 8, 8000, EarsConfig())
    return reading.made(sources.unflatten(0, (len(windows), -1)).permute(0, 2, 3, 1)).numpy()


@pytest.mark.parametrize("vector", ["no", "yes"])
def test_windows_are_read_as_the_whole_sound_of_the_episode(runs, vector):
    """Over several rollouts in which episodes end at different times, including their last observations."""
    agent, steps = agent_of(runs["joint"]), 7
    source = Rollouts(RolloutConfig(SHORT, envs=3, rollout_steps=steps, vector=vector), 5)
    source.attach(agent, FabricEngine("cpu", "32", 0))
    windows: list[list[np.ndarray]] = [[], [], []]
    checked = 0
    for _ in range(3):
        data: Any = next(source)
        heard: Any = agent.heard(data)
        assert READ not in heard.extras and heard.memory is data.memory.own
        for slot in range(3):
            for step in range(steps):
                if data.first[step, slot]:
                    windows[slot] = []
                windows[slot].append(data.observation[step, slot])
                expected = of_whole(agent, np.array([*windows[slot], data.last[step, slot]]))
                np.testing.assert_allclose(heard.observation[step, slot], expected[-2], atol=1e-5)
                if data.acted is None or data.acted[step, slot]:
                    np.testing.assert_allclose(heard.last[step, slot], expected[-1], atol=1e-5)
                    checked += bool(data.truncated[step, slot])
    assert checked >= 3, "episodes have ended"


def test_nothing_of_one_episode_is_heard_in_the_next(runs):
    agent, random = agent_of(runs["joint"]), np.random.default_rng(0)
    sound = 0.1 * random.standard_normal((4, 2, 2, 2000)).astype(np.float32)
    first, generator = np.ones(2, bool), torch.Generator().manual_seed(0)
    memory, extras = agent.initial(2), {}
    for window, begins in zip(sound[:3], ([True, True], [False, True], [False, False]), strict=True):
        memory, _, extras = agent.act(memory, window, np.array(begins), generator, {})
    np.testing.assert_allclose(extras[READ][0], of_whole(agent, sound[:3, 0])[2], atol=1e-5)
    np.testing.assert_allclose(extras[READ][1], of_whole(agent, sound[1:3, 1])[1], atol=1e-5)
    anew = agent.act(memory, sound[3], first, generator, {})[2][READ]
    fresh = agent.act(agent.initial(2), sound[3], first, generator, {})[2][READ]
    np.testing.assert_array_equal(anew, fresh)
    assert not np.allclose(agent.act(memory, sound[3], ~first, generator, {})[2][READ], fresh, atol=1e-3)


def test_slots_are_as_they_are_alone(runs):
    """In slots that began at different times, the separator's frames are aligned differently with the windows."""
    agent, random = agent_of(runs["joint"]), np.random.default_rng(1)
    sound = 0.1 * random.standard_normal((6, 3, 2, 2000)).astype(np.float32)
    generator = torch.Generator().manual_seed(0)
    memory, extras, own = agent.initial(3), {}, {}
    for step, window in enumerate(sound):
        first = np.array([step == 0, step in (0, 2), step in (0, 3, 5)])
        memory, _, extras = agent.act(memory, window, first, generator, {})
    for slot, began in enumerate((0, 2, 5)):
        alone = agent.initial(1)
        for step in range(began, 6):
            begins = np.array([step == began])
            alone, _, own = agent.act(alone, sound[step, slot : slot + 1], begins, generator, {})
        np.testing.assert_allclose(own[READ][0], extras[READ][slot], atol=1e-5)


def test_what_it_hears_of_each_source_comes_later_by_the_latency(runs):
    agent = agent_of(runs["joint"])
    listener = source_listener(agent)
    assert listener is agent and agent.latency == agent.separator.latency == 255
    random = np.random.default_rng(2)
    sound = 0.1 * random.standard_normal((3, 1, 2, 2000)).astype(np.float32)
    memory, found = agent.initial(1), []
    for step, window in enumerate(sound):
        first = np.array([step == 0])
        shown, sources = agent.sources(memory, window, first)
        np.testing.assert_array_equal(shown, window)
        found.append(sources[0])
        memory, _, _ = agent.act(memory, window, first, torch.Generator(), {})
    whole = agent.separator.separate(torch.from_numpy(np.concatenate(list(sound[:, 0]), -1)).T[None])[0]
    streamed = torch.from_numpy(np.concatenate(found, -1)).permute(2, 0, 1)
    torch.testing.assert_close(streamed[255:], whole[:-255], atol=1e-5, rtol=1e-3)


def test_what_is_shown_goes_on_from_window_to_window(runs):
    """`separated` equals the sources that the agent hears, without their latency."""
    agent = agent_of(runs["joint"])
    windows = np.random.default_rng(4).normal(0, 0.1, (3, 2, 2000)).astype(np.float32)
    shown = agent.separated(windows)
    memory, heard = agent.initial(1), []
    for number, window in enumerate(windows):
        first = np.array([number == 0])
        heard.append(agent.sources(memory, window[None], first)[1][0])
        memory = agent.act(memory, window[None], first, torch.Generator(), {})[0]
    whole, late = (np.concatenate(list(one), -1) for one in (shown.sources, heard))
    np.testing.assert_allclose(late[..., agent.latency :], whole[..., : -agent.latency], atol=1e-5)
    np.testing.assert_array_equal(shown.mixture, windows)
    np.testing.assert_allclose(shown.masks.sum(2), 1, atol=1e-5)
    assert shown.carried


def test_what_else_is_observed_is_seen_as_it_is(runs):
    space = spaces.Dict(
        {"pose": spaces.Box(-9, 9, (3,), np.float32), "audio": HEARD, "target": spaces.Discrete(5)}
    )
    agent, random = agent_of(runs["joint"], space), np.random.default_rng(3)
    sound = 0.1 * random.standard_normal((2, 2, 2000)).astype(np.float32)
    shown = {"pose": np.ones((2, 3), np.float32), "audio": sound, "target": np.array([1, 4])}
    memory, _, extras = agent.act(agent.initial(2), shown, np.ones(2, bool), torch.Generator(), {})
    observer = agent.inside.observer
    seen = observer.reading(shown, extras[READ])
    assert isinstance(observer.space, spaces.Dict) and list(seen) == list(observer.space)
    np.testing.assert_array_equal(seen["pose"], shown["pose"])
    np.testing.assert_array_equal(seen["target"], shown["target"])
    np.testing.assert_array_equal(agent.sources(memory, shown, np.zeros(2, bool))[0], sound)
    plain = agent_of(runs["joint"]).act(agent.initial(2), sound, np.ones(2, bool), torch.Generator(), {})[2]
    np.testing.assert_array_equal(seen["audio"], plain[READ])


class Late(nn.Module, StreamSeparator):
    """Separates a signal into itself and its negative; its state has no row for each clip."""

    sources, latency = 2, 0

    def begin(self, clips: int) -> Tensor:
        return torch.zeros(())

    def go_on(self, window: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return torch.stack([window, -window], 2), state

    def masks(self, signal: Tensor) -> Tensor:
        raise NotImplementedError

    def separate(self, signal: Tensor) -> Tensor:
        return self.go_on(signal, self.begin(1))[0]


@pytest.mark.parametrize("agent", [PPO, DQN, PQN, Dreamer])
def test_what_an_agent_does_in_its_own_way_is_passed_on(agent):
    own = {name for kind in agent.__mro__ if kind not in Learner.__mro__ for name in vars(kind)}
    assert {name for name in own & vars(Learner).keys() if name[0] != "_"} <= vars(CarriedEars).keys()


def test_a_state_without_a_row_for_each_clip_is_refused():
    separation = Separation(Late(), Late(), 8000)  # pyright: ignore
    with pytest.raises(ValueError, match="the state of Late is not made of tensors with one row"):
        carrying(PPO)(PPOConfig(carry_ears=True), HEARD, spaces.Discrete(2), separation)


def same(one: nn.Module, other: nn.Module) -> bool:
    mine, its = one.state_dict(), other.state_dict()
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in its)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_run_resumes_bit_for_bit(agent, runs, tmp_path):
    """Interrupted within an episode, so that the state of the separator is restored, too."""
    said = f"{words(agent, runs['joint'])} --save-every 1"
    whole = train(f"{said} --steps 4", tmp_path / "whole")
    train(f"{said} --steps 2", tmp_path / "cut")
    cut = train(f"{said} --steps 4", tmp_path / "cut")
    found: Any = open_run(cut).learner
    assert isinstance(found, CarriedEars) and same(found, open_run(whole).learner)
    assert same(found.inside.ears.learner, open_learner(runs["joint"])[1])


def test_it_is_scored_watched_and_its_replay_is_browsed(runs, tmp_path, capsys):
    agent = "dqn --learning-starts 4 --batch-size 4 --gradient-steps 1"
    said = words(agent, runs["joint"]).replace("Seek-v0", "Seek-stops-v0")
    run = train(f"{said} --steps 2", tmp_path / "run")
    capsys.readouterr()
    dispatch(["score", str(run), "--suite", "stops", "--episodes", "1", "--separation", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert np.isfinite(found["separation"][str(run)]["stops"]["scores"]["location_error"]["mean"])
    dispatch(["replay", str(run), "--out", str(tmp_path / "episodes")])
    written = json.loads(next((tmp_path / "episodes").glob("*.json")).read_text())
    assert len(written["rewards"]) == 12 and not list((tmp_path / "episodes").glob("*.wav"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", r"carry_ears=True: .* give the run of one as --ears"),
        ("--ears {otoworld}", r"needs whole sounds; give the run of one that goes on"),
        ("--ears {joint} --train-ears", r"carry_ears=True, train_ears=True: .* leave out one"),
    ],
)
def test_what_does_not_go_together_is_one_line(flags, said, runs, tmp_path):
    for agent in ("ppo", "dqn", "pqn", "dreamer"):
        with pytest.raises(ValueError, match=said) as caught:
            train(f"{agent} {flags.format(**runs)} --carry-ears {SMALL} --steps 1", tmp_path / "run")
        assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_windows_that_begin_anew_carry_nothing(agent, runs, tmp_path):
    said = f"{agent} --ears {runs['joint']} --carry-ears {SMALL.replace('Seek', 'OtoWorld-1')} --steps 0"
    with pytest.raises(ValueError, match=r'carry_ears=True: .*clock="clip".* leave out --carry-ears') as caught:
        train(said, tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()
    train(said.replace("--carry-ears", ""), tmp_path / "run")
