"""`sonarium play`: scripted agents with their films, walking by keyboard, and a terminal that stays as it was."""

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
import threading
import time
from collections import deque
from dataclasses import replace

import av
import numpy as np
import pytest
from scipy.stats import beta, t
from sonarium_process import ENVIRONMENT, SONARIUM

from sonarium.commands.faults import UsageError
from sonarium.commands.play import BY_KEYBOARD, main
from sonarium.play import keys, walk
from sonarium.play.agents import share_of
from sonarium.play.audio_output import CHUNK, Loudspeaker, Silence, Speaker, loudspeaker
from sonarium.play.keys import KEYS, Wish, wish_of
from sonarium.play.screen import Screen
from sonarium.play.terminal import ALTERNATE, USUAL
from sonarium.play.walk import Walk, stroll
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek

QUICK = "--threads 1 --order 1 --max-steps 40 --sources 1".split()
SHORT = "--smallest 3 --largest 4 --start-distance 1 --max-steps 12".split()
ROOM = replace(BY_KEYBOARD, threads=1, order=1, sources=1)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What the verb prints, and the folder that it fills."""
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


def test_the_oracle_plays_the_episodes_of_the_single_environment(capsys):
    """Its walk in the vector is the walk that the single environment takes with the same actions."""
    from sonarium.agents.contract import alone
    from sonarium.agents.scripted import Body, Oracle

    room = Seek(SeekConfig(threads=1, order=1, max_steps=40, sources=1, tell=True))
    for one in played(capsys, *"--agent oracle --episodes 3 --seed 9".split())["played"]:
        heard, info = room.reset(seed=one["seed"])
        agent, steps, earned, over = Oracle(Body(), np.random.default_rng(0)), 0, 0.0, False
        agent.reset(1)
        while not over:
            heard, reward, terminated, truncated, info = room.step(alone(agent, heard, info))
            steps, earned, over = steps + 1, earned + reward, terminated or truncated
        assert (one["steps"], one["success"]) == (steps, True)
        np.testing.assert_allclose([one["earned"], one["walked"]], [earned, info["walked"]])


@pytest.mark.parametrize(("successes", "count"), [(0, 4), (4, 4), (7, 20), (1, 1)])
def test_the_interval_of_a_share_is_near_the_exact_one(successes, count):
    """Clopper and Pearson's interval is never narrower at its far end than Wilson's by much."""
    score = share_of(successes, count)
    assert score.mean == successes / count and score.low is not None and score.high is not None
    assert 0 <= score.low <= score.mean <= score.high <= 1
    exact = beta.ppf(0.025, successes, count - successes + 1) if successes else 0.0
    assert abs(score.low - exact) < 0.2


def test_the_table_is_for_people(capsys):
    main([*"--agent oracle --episodes 2".split(), *QUICK])
    out = capsys.readouterr().out
    assert re.search(r"success +1\.00 \[0\.34, 1\.00\]", out) and "95 % interval" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--agent nobody", "nobody"),
        ("--agent oracle --episodes 0", "--episodes 0: give a whole number of at least 1"),
        ("--agent oracle --films -1", "--films -1"),
        ("--agent oracle oracle", "name each agent once"),
        ("--agent oracle --observation features", "listen to sound itself"),
        ("--agent oracle --absorption 2", "absorption=2.0"),
        ("--agent oracle --sources 0", "sources=0"),
        ("--agent oracle --no-such-flag", "no-such-flag"),
        ("--json", "are for agents"),
        ("--actions turn", "by keyboard one plays with actions continuous only"),
        ("--clock clip", "by keyboard one plays with clock stream only"),
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


def test_keys_are_wishes():
    assert wish_of([]) == Wish()
    assert wish_of(["forward", "left"]).move == (0.0, 1.0)
    assert wish_of(["", "hide", "hide", "levels", "leave"]) == Wish(levels=True, leave=True)
    assert set(KEYS.values()) == {*keys.MOVES, "leave", "again", "hide", "levels", "images"}


class Stub(Screen):
    """A screen whose keys are written down beforehand; the last one leaves."""

    def __init__(self, wishes: list[Wish]) -> None:
        self.wishes, self.shown = [*wishes, Wish(leave=True)], []

    def __enter__(self):
        pass

    def __exit__(self, kind, error, trace):
        pass

    def wait(self, seconds):
        pass

    def wish(self):
        return self.wishes.pop(0)

    def show(self, scene, state, hide, levels, images):
        self.shown.append((scene, state, hide, levels, images))


class Ear(Loudspeaker):
    """A loudspeaker that always wants more, and remembers."""

    heard = True

    def __init__(self) -> None:
        self.windows: list[np.ndarray] = []

    def hungry(self):
        return True

    def play(self, window):
        self.windows.append(window)

    def close(self):
        pass


def test_a_walk_goes_where_the_keys_say_and_sounds_as_the_room():
    going, ear = Walk(ROOM, 4), Ear()
    screen = Stub([Wish(), Wish((1.0, 0.0)), Wish((0.0, 1.0), hide=True), Wish(again=True)])
    start = going.room.scene().pose
    stroll(going, screen, ear)
    poses = [scene.pose for scene, *_ in screen.shown]
    np.testing.assert_array_equal(poses[0], start)
    ahead = ROOM.step * np.array([np.cos(start[2]), np.sin(start[2])])
    np.testing.assert_allclose(poses[1][:2] - start[:2], ahead, atol=1e-9)
    np.testing.assert_allclose(np.angle(np.exp(1j * (poses[2][2] - start[2]))), np.radians(ROOM.turn), atol=1e-9)
    assert [hide for _, _, hide, *_ in screen.shown] == [False, False, True, True]
    assert going.tally.episodes == 2 and going.tally.steps == 4
    twin = Seek(ROOM)
    twin.reset(seed=4)
    heard = [twin.step(np.array(move, np.float32))[0] for move in ((0, 0), (1, 0), (0, 1))]
    for window, expected in zip(ear.windows, heard, strict=False):
        np.testing.assert_allclose(window, np.clip(10 * expected, -1, 1), atol=1e-6)


def test_an_episode_that_is_over_waits_for_another_room():
    going, screen, ear = Walk(replace(ROOM, max_steps=2), 0), Stub([Wish()] * 4 + [Wish(again=True)]), Ear()
    stroll(going, screen, ear)
    states = [state for _, state, *_ in screen.shown]
    assert ["time is over" in state for state in states] == [False, True, True, True, False]
    assert (ear.windows[2] == 0).all() and going.tally.episodes == 2 and going.tally.steps == 3


def test_without_a_device_time_passes_all_the_same():
    silence = Silence(8000)
    start = time.monotonic()
    for _ in range(4):
        while not silence.hungry():
            time.sleep(0.001)
        silence.play(np.zeros((2, 400), np.float32))
    # The first window begins a little in the past, that the next one is ready in time.
    assert 0.04 <= time.monotonic() - start < 4


def test_the_device_is_fed_without_gaps(monkeypatch):
    speaker = Speaker.__new__(Speaker)
    speaker.lock, speaker.waiting = threading.Lock(), deque()
    speaker.ready, speaker.rate, speaker.given = 0, 8000, 0.0
    assert speaker.hungry()
    ramp = np.arange(2000, dtype=np.float32)
    for part in np.split(np.stack([ramp, -ramp]), 2, axis=1):
        speaker.play(part)
    assert not speaker.hungry()
    taken = []
    for _ in range(2000 // CHUNK + 1):
        memory = bytearray(8 * CHUNK)
        speaker.fill(None, memoryview(memory))
        taken.append(np.frombuffer(memory, np.float32).reshape(-1, 2))
    heard = np.concatenate(taken)
    np.testing.assert_array_equal(heard[:2000], np.stack([ramp, -ramp], axis=1))
    assert (heard[2000:] == 0).all() and speaker.hungry()
    # A device that asks for nothing more must not keep one from leaving.
    speaker.play(np.zeros((2, 2000), np.float32))
    assert not speaker.hungry()
    speaker.given -= 2
    assert speaker.hungry()


def test_a_window_shows_the_room_and_reads_keys(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    pygame = pytest.importorskip("pygame")
    screen = walk.choose_screen(terminal=False)
    assert type(screen).__name__ == "Window"
    speaker = loudspeaker(8000)
    going = Walk(ROOM, 1)
    start = going.room.scene().pose
    for key in (pygame.K_UP, pygame.K_l, pygame.K_i):
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))
    threading.Timer(0.7, lambda: pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_q))).start()
    with screen:
        stroll(going, screen, speaker)
        seen = pygame.surfarray.array3d(pygame.display.get_surface())
    speaker.close()
    assert going.levels and going.images and going.tally.steps >= 1
    np.testing.assert_allclose(np.hypot(*(going.room.scene().pose - start)[:2]), ROOM.step, atol=1e-9)
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) > 20


def test_without_display_or_terminal_one_is_told_what_to_do(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UsageError, match="a display or a terminal is needed"):
        main(["--threads", "1"])


def in_terminal(keys: list[bytes], number: int | None = None) -> tuple[int, str, bool]:
    """Play in a terminal: exit code, all that was written there, and whether its modes are as before."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [*SONARIUM, "play", "--threads", "1", "--order", "1", "--seed", "2"],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={name: value for name, value in ENVIRONMENT.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")},
        # Ctrl-C reaches the processes whose own terminal it is.
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
