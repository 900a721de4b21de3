"""Films of runs: number of frames, sound of rooms, imagination, and refusals in one line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import gymnasium
import numpy as np
import pytest
import soundfile
import torch
from gymnasium.envs.registration import EnvSpec

from sonarium.__main__ import dispatch
from sonarium.agents.contract import Agent, Imaginer
from sonarium.agents.evaluate import generator_of, side_by_side
from sonarium.commands.faults import UsageError
from sonarium.commands.play import main as play
from sonarium.commands.report import run_page
from sonarium.commands.watch import main
from sonarium.play.evaluate import EpisodeResult
from sonarium.play.evaluate import play as play_rooms
from sonarium.play.imagination import Noted, beside, one_step_ahead
from sonarium.play.watch import Shown, against, config_of, distances_chart, many
from sonarium.report.album import read_index
from sonarium.report.page import page
from sonarium.runs.build import build, open_run
from sonarium.runs.plan import RolloutsPlan, default_plan
from sonarium.training.run import RunFolder
from sonarium.worlds.tones.world import Tones, TonesConfig

ROOM = {"threads": 1, "order": 0, "sources": 1, "max_steps": 3, "start_distance": 1.0}


def saved(folder: Path, env: str, agent: str = "ppo", **learner: Any) -> Path:
    """The run of an untrained agent."""
    plan = default_plan(agent)
    assert isinstance(plan.source, RolloutsPlan)
    rollouts = RolloutsPlan(replace(plan.source.rollouts, env=env, envs=1, vector="no"))
    plan = replace(plan, source=rollouts, learner=replace(plan.learner, units=4, **learner))
    run = RunFolder.create(folder, plan.recorded(), dict)
    run.save(0, build(plan).learner.state_dict(), {"parts": {}})
    return folder


@pytest.fixture
def rooms(monkeypatch, tmp_path):
    """A run in small rooms."""
    entry = "sonarium.rooms.seek.env:Seek"
    spec = EnvSpec("Small-v0", entry, kwargs=ROOM, disable_env_checker=True)
    monkeypatch.setitem(gymnasium.registry, "Small-v0", spec)
    return saved(tmp_path / "rooms", "Small-v0", memory=4)


def streams(path: Path) -> dict[str, int]:
    """Kinds of stream of a film, with the number of video frames."""
    with av.open(str(path)) as film:
        kinds = [stream.type for stream in film.streams]
        return dict.fromkeys(kinds, 0) | {"video": sum(1 for _ in film.decode(video=0))}


def test_pictures_of_an_environment_are_filmed_step_by_step(tmp_path, capsys):
    run = saved(tmp_path / "run", "sonarium/Playground-v1")
    main([str(run), "--episodes", "2", "--seed", "5", "--sampled"])
    said = capsys.readouterr().out + capsys.readouterr().err
    media = read_index(run / "media")
    assert [one.kind for one in media] == ["film", "film", "picture"]
    for medium in media[:2]:
        steps = int(medium.caption.split(" steps")[0].split()[-1])
        assert streams(run / "media" / medium.file) == {"video": steps + 1}
    assert media[0].file == "episode-5.mp4" and "Seed 5: return" in media[0].caption, said
    (run / "metrics.jsonl").write_text('{"step": 1, "episodes/return": 2.0}\n')
    page([run_page(run)], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("<video") == 2 and "learnt from the rewards" in text and "held-out" not in text


def test_rooms_are_filmed_with_their_sound(rooms, tmp_path):
    main([str(rooms), "--episodes", "1", "--plotted", "3", "--out", str(tmp_path / "out")])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"index.json", "episode-0.mp4", "rewards.png", "distances.png"}
    assert streams(tmp_path / "out" / "episode-0.mp4").keys() == {"video", "audio"}
    assert not (rooms / "media").exists()


@pytest.mark.parametrize("observation", ["audio", "features"])
def test_rooms_are_filmed_by_ear_with_their_sound_whatever_is_observed(observation, monkeypatch, tmp_path):
    entry, settings = "sonarium.rooms.seek.env:Seek", ROOM | {"observation": observation}
    spec = EnvSpec("Small-v0", entry, kwargs=settings, disable_env_checker=True)
    monkeypatch.setitem(gymnasium.registry, "Small-v0", spec)
    run = saved(tmp_path / "run", "Small-v0")
    sizes = {}
    for view in ("above", "ears"):
        main([str(run), "--episodes", "1", "--plotted", "0", "--view", view, "--out", str(tmp_path / view)])
        path = tmp_path / view / "episode-0.mp4"
        assert streams(path).keys() == {"video", "audio"}
        sizes[view] = [stream.height for stream in av.open(str(path)).streams.video]
        assert ("by ear" in read_index(tmp_path / view)[0].title) == (view == "ears")
    assert sizes["ears"] < sizes["above"]
    # The film has the sound itself, not the observation: its peak is that of normalised sound.
    with av.open(str(tmp_path / "ears" / "episode-0.mp4")) as film:
        heard = np.concatenate([frame.to_ndarray() for frame in film.decode(audio=0)], axis=1)
    assert np.abs(heard).max() > 0.5


def test_what_an_agent_imagined_is_heard_beside_what_came(monkeypatch, tmp_path):
    entry = "sonarium.rooms.seek.env:Seek"
    spec = EnvSpec("Small-v0", entry, kwargs=ROOM | {"max_steps": 9}, disable_env_checker=True)
    monkeypatch.setitem(gymnasium.registry, "Small-v0", spec)
    run = saved(tmp_path / "run", "Small-v0", "dreamer", sound_rate=8000)
    main([str(run), "--episodes", "1", "--plotted", "0"])
    media = {one.file: one for one in read_index(run / "media")}
    sounds = [soundfile.read(run / "media" / name) for name in ("imagined-0-came.wav", "imagined-0-dreamt.wav")]
    # Of nine steps, those after the first third without the last, each of 0.25 s at both ears.
    assert [(wave.shape, rate) for wave, rate in sounds] == [((5 * 2000, 2), 8000)] * 2
    assert media["imagined-0.png"].group == media["imagined-0-came.wav"].group
    assert media["imagined-reward.png"].kind == "picture"
    frames = streams(run / "media" / "episode-0.mp4")
    assert frames.keys() == {"video", "audio"}
    (run / "metrics.jsonl").write_text('{"step": 1, "episodes/return": 2.0}\n')
    page([run_page(run)], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("<audio") == 2 and "Imagined and actual observations" in text


def test_what_an_agent_imagined_is_seen_beside_what_came(tmp_path):
    run = saved(tmp_path / "run", "CartPole-v1", "dreamer")
    main([str(run), "--episodes", "1"])
    assert {"imagined-0.png", "imagined-reward.png"} <= {one.file for one in read_index(run / "media")}


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> dict[str, Path]:
    """Runs of an encoder and a separator, for `--ears`."""
    folder = tmp_path_factory.mktemp("others")
    small = "--steps 0 --no-pictures --device cpu"
    tones = "--world tones --frequencies 9 --amplitudes 2 --rate 8000 --seconds 0.1 --batch-size 8"
    mixtures = "--clips 12 --sets 4 --seconds 1 --units 8 --layers 1 --validation 0"
    learners = {"cpc": f"{tones} --filters 8 --width 8 --steps-ahead 2", "separator": mixtures}
    for name, words in learners.items():
        dispatch(["train", name, *f"{words} {small}".split(), "--run", str(folder / name)])
    return {name: folder / name for name in learners}


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ("--decoder off --objective contrast", "trained without a decoder: train it with --decoder frozen"),
        ("--ears {cpc}", "the codes of --ears cannot be heard: train with --sound-rate"),
        ("--ears {separator} --separated sums", "no sound can be made again: train with --separated cues"),
        ("--ears {separator} --separated means", "no sound can be made again: train with --separated cues"),
        ("--ears {separator} --separated loudness", "no sound can be made again: train with --separated cues"),
    ],
)
def test_where_imagination_cannot_be_heard_the_film_is_without_it(
    flags, why, others, monkeypatch, tmp_path, capsys
):
    entry, settings = "sonarium.rooms.seek.env:Seek", ROOM | {"max_steps": 9, "sources": 2}
    spec = EnvSpec("Small-v0", entry, kwargs=settings, disable_env_checker=True)
    monkeypatch.setitem(gymnasium.registry, "Small-v0", spec)
    small = "--units 4 --deter 8 --hidden 8 --steps 0 --envs 1 --no-pictures --device cpu"
    run = tmp_path / "run"
    words = f"dreamer --env Small-v0 {small} {flags.format(**others)}"
    dispatch(["train", *words.split(), "--run", str(run)])
    capsys.readouterr()
    main([str(run), "--episodes", "2", "--plotted", "0"])
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("what was imagined is not shown: ") and why in line
    media = {one.file for one in read_index(run / "media")}
    assert streams(run / "media" / "episode-1.mp4").keys() == {"video", "audio"}
    # The predicted reward is drawn all the same.
    assert "imagined-reward.png" in media and not any(name.startswith("imagined-0") for name in media)
    page([run_page(run)], tmp_path / "page.html")
    assert "Imagined and actual observations" in (tmp_path / "page.html").read_text()


def test_what_came_is_that_of_the_same_steps():
    """An agent that imagines the number of each step, in an environment whose observation it is."""

    class Counting(Agent, Imaginer):
        def initial(self, slots: int) -> Any:
            return np.zeros(slots)

        def act(self, memory: Any, observation: Any, first: Any, generator: Any, info: Any) -> Any:
            return observation[:, 0], np.zeros(len(observation), int), {}

        def imagined(self, memory: Any, actions: Any, generator: Any) -> torch.Tensor:
            steps = torch.arange(1, len(actions) + 1)[:, None] + torch.from_numpy(memory)
            return steps[..., None].float()

        def expected(self, states: torch.Tensor) -> Any:
            return states[:, 0].numpy() / 10, np.ones(len(states))

        def observed_in(self, states: torch.Tensor) -> np.ndarray:
            return states.numpy()

    class Count(gymnasium.Env):
        observation_space, action_space = gymnasium.spaces.Box(0, 99, (1,)), gymnasium.spaces.Discrete(1)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            self.count = 0
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> Any:
            self.count += 1
            return np.array([self.count], np.float32), self.count / 10, self.count == 30, False, {}

    noted, env = Noted(Counting()), Count()
    side_by_side(noted, [env], [0], torch.Generator())
    found = beside(noted, env.observation_space, torch.Generator(), print)
    assert found is not None and found.imagined is not None and len(found.reward) == 16
    np.testing.assert_array_equal(found.came[0], found.imagined[0])
    np.testing.assert_allclose(found.reward, found.expected)
    ahead = one_step_ahead(noted, torch.Generator(), print)
    assert ahead is not None
    np.testing.assert_array_equal(ahead[:, 0], np.arange(1, 30))


def test_a_run_stands_in_the_table_of_scripted_agents(rooms, capsys):
    play([*"--agent oracle --episodes 2 --against".split(), str(rooms)])
    said = capsys.readouterr().out
    assert "oracle" in said and "rooms" in said and "success" in said
    name, agent, config = against(rooms, print)
    assert (name, config.max_steps) == ("rooms", 3) and agent.greedy  # pyright: ignore
    results = play_rooms(name, agent, replace(config, oracle_info=True), 7, 2, generator_of(agent, 0), [])
    assert [one.seed for one in results] == [7, 8] and all(one.steps <= 3 for one in results)


def test_a_registered_world_and_limit_are_kept(monkeypatch, tmp_path):
    world = Tones(TonesConfig(rate=8000, seconds=0.5, lowest=300.0, highest=2000.0, frequencies=5), seed=0)
    entry = "sonarium.rooms.seek.env:Seek"
    settings = {**ROOM, "world": world, "max_steps": 50}
    spec = EnvSpec("Tuned-v0", entry, kwargs=settings, max_episode_steps=2, disable_env_checker=True)
    monkeypatch.setitem(gymnasium.registry, "Tuned-v0", spec)
    run = saved(tmp_path / "tuned", "Tuned-v0", memory=4)
    with pytest.raises(ValueError, match="the sources of Tuned-v0 play a world"):
        against(run, print)
    env = Shown(gymnasium.make("Tuned-v0"), "Tuned-v0")
    heard = []
    monkeypatch.setattr("sonarium.play.watch.play", lambda *_, world, **__: heard.append(world) or [])
    many(open_run(run).learner, env, 0, 1, lambda *_: None)  # pyright: ignore
    # Gymnasium copies the arguments of an environment.
    assert [type(one) for one in heard] == [Tones] and config_of(env).max_steps == 2


def test_each_dot_of_the_plot_is_an_episode():
    played = [EpisodeResult("a", n, n < 2, 0.5, 1, 10 * n + 1, 0.0, 4.0, 1.0 + n, 0) for n in range(5)]
    figure = distances_chart(played)
    [axes] = figure.axes
    found, missed = (np.asarray(dots.get_offsets()).tolist() for dots in axes.collections)
    assert found == [[1, 1], [2, 11]] and missed == [[3, 21], [4, 31], [5, 41]] and axes.get_yscale() == "log"
    figure.draw_without_rendering()
    assert "10" in [label.get_text() for label in axes.get_yticklabels()]


def test_what_cannot_be_filmed_is_one_line(tmp_path, rooms):
    bare = saved(tmp_path / "bare", "sonarium_extension.environment:Beeps-v0")
    grid = saved(tmp_path / "grid", "sonarium/Playground-v1")
    for call, message in (
        (lambda: main([str(bare)]), "Beeps-v0 has no pictures: it renders nothing, and a film needs rgb_array"),
        (lambda: main([str(tmp_path / "none")]), "is not a run folder"),
        (lambda: main([str(grid), "--view", "ears"]), "--view ears: nothing is heard in sonarium/Playground-v1"),
        (lambda: play(["--against", str(bare)]), "acts in sonarium_extension.environment:Beeps-v0; name a run in"),
        (
            lambda: play([*"--agent oracle --sources 3 --against".split(), str(rooms)]),
            "leave out the flags of rooms",
        ),
    ):
        with pytest.raises((ValueError, UsageError), match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
