"""`sonarium play`: scripted agents with films, keyboard control, and a terminal whose modes are restored."""

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from dataclasses import fields

import av
import numpy as np
import pytest
from scipy.stats import t
from sonarium_process import ENVIRONMENT, SONARIUM

from sonarium.commands.faults import UsageError
from sonarium.commands.play import BY_KEYBOARD, GROUPS, by_hand, main, of_suite
from sonarium.play.evaluate import EpisodeResult
from sonarium.play.terminal import ALTERNATE, USUAL
from sonarium.play.walk import Tally
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.reward import Reward
from sonarium.rooms.seek.suite import HELD_OUT

QUICK = "--threads 1 --order 1 --max-steps 40 --sources 1".split()
SHORT = "--smallest 3 --largest 4 --start-distance 1 --max-steps 12".split()


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The folder that the verb fills."""
    out = tmp_path_factory.mktemp("play") / "out"
    main([*"--agent oracle random --episodes 2 --films 1 --json --out".split(), str(out), *QUICK, *SHORT])
    return out


def test_agents_leave_films_sounds_pictures_and_a_page(shown):
    names = {path.name for path in shown.iterdir()}
    endings = (".mp4", ".wav", "-way.png", "-images.png")
    assert names == {"page.html"} | {f"{agent}-0{ending}" for agent in ("oracle", "random") for ending in endings}
    with av.open(str(shown / "oracle-0.mp4")) as film:
        assert [stream.type for stream in film.streams] == ["video", "audio"]
    page = (shown / "page.html").read_text()
    assert page.count("<video") == page.count("<audio") == 2
    assert "Oracle: 1 of 1 found" in page and "Random walk: " in page


def played(capsys, *words: str) -> dict:
    main([*words, "--json", *QUICK])
    return json.loads(capsys.readouterr().out)


def test_scores_are_means_with_intervals(capsys):
    found = played(capsys, *"--agent oracle random --episodes 5 --seed 3".split())
    assert found["episodes"] == 5 and found["out"] is None
    for agent, scores in found["agents"].items():
        own = [one for one in found["played"] if one["agent"] == agent]
        assert [one["seed"] for one in own] == [3, 4, 5, 6, 7]
        earned = np.array([one["earned"] for one in own])
        half = t.ppf(0.975, 4) * earned.std(ddof=1) / 5**0.5
        np.testing.assert_allclose(scores["return"]["mean"], earned.mean())
        np.testing.assert_allclose(scores["return"]["low"], earned.mean() - half)
        assert scores["success"]["mean"] == np.mean([one["success"] for one in own])
        assert 0 <= scores["spl"]["low"] <= scores["spl"]["mean"] <= scores["spl"]["high"] <= 1
        for one in own:
            spl = one["success"] * one["shortest"] / max(one["walked"], one["shortest"])
            np.testing.assert_allclose(one["spl"], spl)
    assert found["agents"]["oracle"]["success"]["mean"] == 1


def test_the_same_words_give_the_same_episodes(capsys):
    first, second = (played(capsys, *"--agent difference --episodes 3".split()) for _ in range(2))
    assert first == second
    assert first != played(capsys, *"--agent difference --episodes 3 --seed 1".split())


def test_every_field_of_the_environment_is_a_flag_in_one_group(capsys):
    names = [name for _, group in GROUPS.values() for name in group.split()]
    assert sorted([*names, "figures"]) == sorted(one.name for one in fields(SeekConfig))
    for words, turn in ([], "10.0"), (["--agent", "oracle"], "30.0"):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        said = capsys.readouterr().out
        assert all(f"--{name.replace('_', '-')}" in said for name in names if name != "ears")
        assert f"Turn angle in degrees. (default: {turn})" in said and "--fft INT" in said


def test_the_suite_sets_the_defaults_and_its_seeds(capsys):
    main([*"--suite named-target --agent oracle --episodes 2 --json --threads 1".split()])
    found = json.loads(capsys.readouterr().out)
    assert [one["seed"] for one in found["played"]] == [HELD_OUT, HELD_OUT + 1]
    assert found["agents"]["oracle"]["sna"]["mean"] == 1 and all(one["steps"] <= 100 for one in found["played"])
    assert of_suite("named-target")[0].distractors == 3
    with pytest.raises(UsageError, match="no setting of seek-suite is called 'soft'"):
        main(["--suite", "soft"])
    for words in (["--agent", "oracle", "--sources", "1"], ["--radius", "1"]):
        with pytest.raises(UsageError, match="--suite: a setting is the same for everybody"):
            main(["--suite", "stops", *words])


def test_a_run_plays_with_the_reward_that_it_learnt_by(monkeypatch):
    own, played = SeekConfig(figures=Reward(step=-1.0)), []
    monkeypatch.setattr("sonarium.commands.play.against", lambda *given: ("own", None, own))
    monkeypatch.setattr("sonarium.play.evaluate.evaluate", lambda agents, config, *given: played.append(config))
    monkeypatch.setattr("sonarium.commands.play.print_table", lambda *given: None)
    main(["--against", "own", "--agent", "random", "--threads", "1"])
    assert [one.figures for one in played] == [own.figures]


def test_the_keyboard_has_the_time_of_the_agents():
    agents = of_suite("moving")[0]
    own = by_hand(agents)
    assert own.max_steps * own.seconds == pytest.approx(agents.max_steps * agents.seconds, rel=0.01)
    assert own.moving / own.seconds == pytest.approx(agents.moving / agents.seconds)
    assert by_hand(SeekConfig()) == BY_KEYBOARD


def test_a_person_stands_beside_the_agents(capsys, monkeypatch):
    person = [
        EpisodeResult("you", HELD_OUT, True, 0.75, 2, 90, 20.0, 12.0, 9.0, 0),
        EpisodeResult("you", HELD_OUT + 1, False, 0.0, 1, 195, 4.0, 30.0, 8.0, 0),
    ]
    monkeypatch.setattr("sonarium.play.walk.choose_screen", lambda *given: None)
    monkeypatch.setattr("sonarium.play.walk.walk", lambda *given: Tally(2, 1, 3, 285, 24.0, person))
    main(["--suite", "stops", "--threads", "1"])
    said = capsys.readouterr().out
    assert re.search(r"you +random +oracle +loudness +difference", said) and "stops, episodes: 2" in said
    assert re.search(r"success +0\.50 ", said) and "sna" not in said


def test_the_table_is_for_people(capsys):
    main([*"--agent oracle --episodes 2".split(), *QUICK])
    out = capsys.readouterr().out
    assert re.search(r"success +1\.00 \[0\.34, 1\.00\]", out) and "95 % confidence interval" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--agent nobody", "nobody"),
        ("--agent oracle --episodes 0", "--episodes 0: give a whole number from 1 to"),
        ("--agent oracle --films -1", "--films -1"),
        ("--agent oracle oracle", "name each agent once"),
        ("--agent oracle --observation features", "hear sound: leave out"),
        ("--agent oracle --absorption 2", "absorption=2.0"),
        ("--agent oracle --sources 0", "sources=0"),
        ("--agent oracle --room cave", "room='cave': choose one of fixed, shoebox, ngon, nonconvex"),
        ("--agent oracle --no-such-flag", "no-such-flag"),
        ("--json", "are for agents"),
        ("--actions turn", "playing by keyboard needs --actions continuous"),
        ("--clock clip", "playing by keyboard needs --clock stream"),
    ],
)
def test_words_that_make_no_sense_are_one_line(words, said):
    with pytest.raises(UsageError) as stop:
        main(words.split())
    assert said in str(stop.value) and "\n" not in str(stop.value)


def test_kinds_of_action_that_no_rule_fits_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="choose actions='turn'"):
        main(["--agent", "oracle", "--actions", "compass", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_without_display_or_terminal_one_is_told_what_to_do(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UsageError, match="needs a display or a terminal"):
        main(["--threads", "1"])


def in_terminal(keys: list[bytes], number: int | None = None) -> tuple[int, str, bool]:
    """Play in a pseudo-terminal: exit code, everything written to it, and whether its modes are restored."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [*SONARIUM, "play", "--threads", "1", "--order", "1", "--seed", "2"],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={name: value for name, value in ENVIRONMENT.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")},
        # Ctrl-C reaches only processes that have this controlling terminal.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    written, last, give_up = b"", 0.0, time.monotonic() + 60
    while process.poll() is None and time.monotonic() < give_up:
        if select.select([ours], [], [], 0.02)[0]:
            written += os.read(ours, 65536)
        drawn = b"found 0 of" in written
        if drawn and time.monotonic() - last > 0.4:
            last = time.monotonic()
            if keys:
                os.write(ours, keys.pop(0))
            elif number is not None:
                os.kill(process.pid, number)
                number = None
    code = process.wait(timeout=10)
    after = termios.tcgetattr(theirs)
    while select.select([ours], [], [], 0.05)[0]:
        written += os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    return code, written.decode(), before == after


def test_in_the_terminal_keys_walk_and_q_leaves():
    code, written, same = in_terminal([b"\x1b[A", b"\x1b", b"[D", b"w", b"h", b"q"])
    assert (code, same) == (0, True)
    assert written.count(ALTERNATE) == written.count(USUAL) == 1
    drawn = [frame for frame in written.split("\x1b[H") if "found 0 of 2" in frame]
    headings = [int(re.findall(r"heading (\d+)°", frame)[0]) for frame in drawn]
    assert (headings[-1] - headings[0]) % 360 == 10
    assert "♪" in drawn[0] and "♪" not in drawn[-1].split(USUAL)[0]
    assert "0 of 1 room(s) finished" in written.rpartition(USUAL)[2]


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_an_interruption_leaves_the_terminal_as_it_was(how):
    code, written, same = in_terminal([b"w", b"\x03"]) if how == "Ctrl-C" else in_terminal([b"w"], signal.SIGTERM)
    assert (code, same) == (130, True)
    assert written.count(ALTERNATE) == written.count(USUAL) == 1
    said = written.rpartition(USUAL)[2].split("\r\n")
    assert [line for line in said if line] == [f"sonarium: {'interrupted' if how == 'Ctrl-C' else 'terminated'}"]
