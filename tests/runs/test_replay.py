"""`sonarium replay`: exported episodes equal what happened in the environment."""

import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import soundfile
from gymnasium import spaces
from PIL import Image

from sonarium.__main__ import dispatch
from sonarium.agents.replay import Replay
from sonarium.runs.replay import channels_last, chosen, export, open_replay

AGENT = "--envs 2 --rollout-steps 6 --units 8 --no-pictures --learning-starts 8 --gradient-steps 1 --batch-size 4"


class Diary(gymnasium.Env):
    """Records all observations, actions and rewards; episodes terminate after 4 steps or are truncated after 5."""

    metadata = {"render_modes": [], "sound_rate": 8000}  # noqa: RUF012
    observation_space = spaces.Dict(
        {
            "sound": spaces.Box(-1, 1, (2, 300), np.float32),
            "number": spaces.Box(-9, 9, (2,), np.float32),
            "view": spaces.Box(0, 255, (6, 5, 3), np.uint8),
            "field": spaces.Box(-9, 9, (90,), np.float32),
        }
    )
    action_space = spaces.Discrete(3, start=1)
    kept: list["Diary"]
    """Instances that were reset: the copies of the run in order."""

    def __init__(self):
        self.episodes: list[dict[str, list[Any]]] = []

    def show(self) -> dict[str, Any]:
        draw = self.np_random.integers
        shown = {
            # Values that 16 bits represent exactly.
            "sound": (draw(-64, 65, (2, 300)) / 64).astype(np.float32),
            "number": draw(-9, 10, 2).astype(np.float32),
            "view": draw(0, 256, (6, 5, 3)).astype(np.uint8),
            "field": np.zeros(90, np.float32),
        }
        self.episodes[-1]["shown"].append(shown)
        return shown

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if not self.episodes:
            Diary.kept.append(self)
        self.episodes.append({"shown": [], "actions": [], "rewards": []})
        return self.show(), {}

    def step(self, action):
        own = self.episodes[-1]
        own["actions"].append(int(action))
        own["rewards"].append(float(self.np_random.integers(10)) / 4)
        over, odd = len(own["actions"]) == 4 + len(self.episodes) % 2, bool(len(self.episodes) % 2)
        return self.show(), own["rewards"][-1], over and not odd, over and odd, {}


@pytest.fixture(scope="module", autouse=True)
def registered():
    gymnasium.register("Diary-v0", Diary)  # pyright: ignore
    yield
    del gymnasium.registry["Diary-v0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 60 steps in each of two copies, of which the replay keeps 48, and all of its episodes."""
    folder = tmp_path_factory.mktemp("replay") / "run"
    Diary.kept = []
    words = f"train dqn --env Diary-v0 {AGENT} --replay-steps 96 --draw prioritised --steps 10 --run {folder}"
    dispatch(words.split())
    return folder, [one.episodes for one in Diary.kept]


def read(capsys, *words: Any) -> Any:
    capsys.readouterr()
    dispatch([str(word) for word in words])
    return json.loads(capsys.readouterr().out)


def test_what_is_written_is_what_happened(run, tmp_path, capsys):
    folder, diary = run
    found = read(capsys, "replay", folder, "--episodes", 1000, "--out", tmp_path / "out", "--json")
    assert found["step"] == 10 and found["left_out"] == 0 and found["steps"] <= 96
    assert sum(one["steps"] for one in found["episodes"]) == found["steps"]
    for slot in range(2):
        own = [one for one in found["episodes"][::-1] if one["slot"] == slot]
        happened = [one for one in diary[slot] if one["actions"]][-len(own) :]
        assert len(own) == len(happened) > 8
        for told, one in zip(own, happened, strict=True):
            check(told, one, tmp_path / "out")
        # The oldest steps are dropped, and the newest episode may be unfinished.
        assert [one["whole"] for one in own[1:]] == [True] * (len(own) - 1)
        assert {one["ended"] for one in own[:-1]} == {"terminated", "truncated"}
        assert own[-1]["ended"] == "cut" or len(happened[-1]["actions"]) >= 4
    files = {name for one in found["episodes"] for name in one["files"]}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files


def check(told: dict[str, Any], happened: dict[str, list[Any]], folder: Path) -> None:
    """Compare an exported episode with what happened in it, or in its last steps."""
    steps, kept = told["steps"], json.loads((folder / f"episode-{told['number']}.json").read_text())
    assert told["whole"] == (steps == len(happened["actions"]))
    shown = happened["shown"][-steps - 1 :]
    assert kept["actions"] == happened["actions"][-steps:] and kept["rewards"] == happened["rewards"][-steps:]
    assert told["return"] == pytest.approx(sum(kept["rewards"]))
    for name in ("terminated", "truncated"):
        assert kept[name] == [False] * (steps - 1) + [told["ended"] == name]
    assert len(kept["priorities"]) == steps and max(kept["priorities"]) > 0
    seen = kept["observations"]
    assert seen["number"] == [one["number"].tolist() for one in shown]
    assert seen["field"] == {"left_out": "float32 of shape (90,)"}
    sound, rate = soundfile.read(folder / seen["sound"]["sound"], dtype="float32")
    assert rate == 8000
    np.testing.assert_array_equal(sound.T, np.concatenate([one["sound"] for one in shown], 1))
    strip = np.asarray(Image.open(folder / seen["view"]["picture"]))
    np.testing.assert_array_equal(strip, np.concatenate([one["view"] for one in shown], 1))


def test_the_table_tells_the_newest_the_best_or_the_worst(run, capsys):
    opened = open_replay(run[0])
    capsys.readouterr()
    dispatch(["replay", str(run[0]), "--episodes", "3"])
    said = capsys.readouterr().out
    assert f"{len(opened.replay)} steps of {len(opened.episodes)} episodes in Diary-v0" in said
    assert [line.split()[0] for line in said.splitlines()[-3:]] == [
        str(one.number) for one in opened.episodes[:-4:-1]
    ]
    best, worst = (
        [one["return"] for one in read(capsys, "replay", run[0], "--order", order, "--json")["episodes"]]
        for order in ("best", "worst")
    )
    whole = sorted(one.held.reward for one in opened.episodes if one.held.whole and one.held.ended != "cut")
    assert worst == whole[:8] and best == whole[::-1][:8]


def test_a_damaged_segment_is_named_left_out_and_counted(run, tmp_path, capsys):
    folder = shutil.copytree(run[0], tmp_path / "run")
    before = open_replay(folder)
    number = sorted(before.replay.chunks)[3]
    lost = before.replay.chunks[number].segment.path  # pyright: ignore
    content = bytearray(lost.read_bytes())
    content[-1] ^= 1
    lost.write_bytes(content)
    found = read(capsys, "replay", folder, "--episodes", 1000, "--json")
    assert found["left_out"] == 1 and found["steps"] == len(before.replay) - 2 * before.replay.chunk_steps
    dispatch(["replay", str(folder)])
    told = capsys.readouterr()
    assert f"{lost.name} differs from its checksum: left out" in told.err
    assert "1 damaged segment(s) left out" in told.out
    # No episode spans the gap.
    gap = range(number * before.replay.chunk_steps, (number + 1) * before.replay.chunk_steps)
    for one in found["episodes"]:
        assert not set(gap) & set(range(one["first_step"], one["first_step"] + one["steps"]))
    again = export(open_replay(folder), chosen(open_replay(folder), 1000, "newest"), tmp_path / "out")
    assert [{**one, "files": None} for one in again] == [{**one, "files": None} for one in found["episodes"]]


def test_what_cannot_be_browsed_is_refused_in_one_line(run, tmp_path):
    folder, out = run[0], tmp_path / "out"
    for agent in ("ppo", "pqn"):
        words = "--env CartPole-v1 --envs 2 --rollout-steps 4 --no-pictures --steps 1"
        dispatch(["train", agent, *words.split(), "--run", str(tmp_path / agent)])
        with pytest.raises(ValueError, match=f"holds a {agent}, which keeps no replay: give the run of a dqn"):
            dispatch(["replay", str(tmp_path / agent)])
    dispatch(f"train vae --world digits --steps 0 --no-pictures --run {tmp_path / 'vae'}".split())
    with pytest.raises(ValueError, match="holds a vae, which learns from clips"):
        open_replay(tmp_path / "vae")
    with pytest.raises(ValueError, match="--rate 16000: the sound of Diary-v0 has 8000 Hz"):
        dispatch(["replay", str(folder), "--out", str(out), "--rate", "16000"])
    with pytest.raises(ValueError, match="exists and is not an empty folder"):
        dispatch(["replay", str(folder), "--out", str(tmp_path)])
    assert not out.exists()


def test_an_environment_without_a_rate_needs_one(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Diary, "metadata", {"render_modes": []})
    opened = open_replay(run[0])
    some = chosen(opened, 1, "newest")
    with pytest.raises(ValueError, match="tells no sampling rate of its sound: give --rate HZ"):
        export(opened, some, tmp_path / "out")
    export(opened, some, tmp_path / "out", rate=4000)
    [sound] = (tmp_path / "out").glob("*.wav")
    assert soundfile.info(sound).samplerate == 4000 and soundfile.info(sound).channels == 2


def test_pictures_are_those_with_channels_before_or_after_and_no_stacks_of_frames():
    space = spaces.Box(0, 255, (4, 8, 9), np.uint8)
    for shape, expected in (
        ((3, 8, 9), (8, 9, 3)),
        ((8, 9, 4), (8, 9, 4)),
        ((8, 9), (8, 9, 1)),
        ((4, 8, 9), None),
    ):
        made = channels_last(space, np.zeros((2, *shape), np.uint8))
        assert made is None if expected is None else made is not None and made.shape == (2, *expected)


def test_a_run_that_has_only_begun_says_so(tmp_path, capsys):
    words = f"train dqn --env CartPole-v1 {AGENT} --steps 0 --run {tmp_path / 'run'}"
    dispatch(words.split())
    with pytest.raises(ValueError, match="the replay of step 0 holds no steps yet: train the agent longer"):
        dispatch(["replay", str(tmp_path / "run")])
    dispatch([*words.split()[:-4], "--steps", "1", "--run", str(tmp_path / "run")])
    found = read(capsys, "replay", tmp_path / "run", "--json", "--out", tmp_path / "out")
    assert found["steps"] == 12 and all(len(one["files"]) == 1 for one in found["episodes"])
    with pytest.raises(ValueError, match="none of the 2 episodes that the replay holds is whole"):
        dispatch(["replay", str(tmp_path / "run"), "--order", "best"])


def test_a_replay_that_no_training_wrote_is_refused(run, monkeypatch):
    def refuse(replay: Replay, state: Any) -> None:
        raise ValueError("slots is 'x'")

    monkeypatch.setattr(Replay, "load_state_dict", refuse)
    with pytest.raises(ValueError, match=r"step-10' holds no replay of its agent: replay: slots is 'x'"):
        open_replay(run[0])
