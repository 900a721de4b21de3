"""Walking by keyboard: commands, timing of the audio output, and the window."""

import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sonarium.commands.play import BY_KEYBOARD
from sonarium.play import walk
from sonarium.play.audio_output import AudioOutput, DeviceOutput, SilentOutput, open_output
from sonarium.play.screen import MOVES, Command, Screen, command_of
from sonarium.play.terminal import KEYS
from sonarium.play.walk import Walk, stroll
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.vector import SeekVector

ROOM = replace(BY_KEYBOARD, threads=1, order=1, sources=1)


def test_keys_are_commands():
    assert command_of([]) == Command()
    assert command_of(["forward", "left"]).move == (0.0, 1.0)
    assert command_of(["", "hide", "hide", "levels", "quit"]) == Command(levels=True, quit=True)
    assert set(KEYS.values()) == {*MOVES, "quit", "next room", "hide", "levels", "images"}


class Stub(Screen):
    """A screen with given commands, which then quits."""

    def __init__(self, commands: list[Command]) -> None:
        self.commands, self.shown = [*commands, Command(quit=True)], []

    def __enter__(self):
        pass

    def __exit__(self, kind, error, trace):
        pass

    def wait(self, seconds):
        pass

    def command(self):
        return self.commands.pop(0)

    def show(self, scene, status, hide, levels, images):
        self.shown.append((scene, status, hide, levels, images))


class Ear(AudioOutput):
    """An audio output that always needs a window, and records them."""

    audible = True

    def __init__(self) -> None:
        self.windows: list[np.ndarray] = []

    def needs_window(self):
        return True

    def play(self, window):
        self.windows.append(window)

    def close(self):
        pass


def test_a_walk_goes_where_the_keys_say_and_sounds_as_the_room():
    going, ear = Walk(ROOM, 4), Ear()
    screen = Stub([Command(), Command((1.0, 0.0)), Command((0.0, 1.0), hide=True), Command(next_room=True)])
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
    going, ear = Walk(replace(ROOM, max_steps=2), 0), Ear()
    screen = Stub([Command()] * 4 + [Command(next_room=True)])
    stroll(going, screen, ear)
    states = [state for _, state, *_ in screen.shown]
    assert ["Time is up" in state for state in states] == [False, True, True, True, False]
    assert (ear.windows[2] == 0).all() and going.tally.episodes == 2 and going.tally.steps == 3


def test_without_a_device_time_passes_all_the_same():
    silence = SilentOutput(8000)
    start = time.monotonic()
    for _ in range(4):
        while not silence.needs_window():
            time.sleep(0.001)
        silence.play(np.zeros((2, 400), np.float32))
    # The first window begins slightly in the past, so that the next one is ready in time.
    assert 0.04 <= time.monotonic() - start < 4


def test_a_device_plays_what_it_is_given_and_in_its_time(tmp_path, monkeypatch):
    """SDL's driver "disk" writes what a sound card would play."""
    pytest.importorskip("pygame")
    played = tmp_path / "played.raw"
    monkeypatch.setenv("SDL_AUDIODRIVER", "disk")
    monkeypatch.setenv("SDL_DISKAUDIOFILE", str(played))
    output = DeviceOutput(8000)
    assert output.needs_window()
    # Paused until both windows are queued, so that the speed of the machine does not matter.
    output.sdl.SDL_PauseAudioDevice(output.device, 1)
    ramp = np.arange(2000, dtype=np.float32)
    for part in np.split(np.stack([ramp, -ramp]), 2, axis=1):
        output.play(part)
    assert not output.needs_window()
    output.sdl.SDL_PauseAudioDevice(output.device, 0)
    while output.queued:
        time.sleep(0.01)
    assert output.needs_window()
    output.close()
    heard = np.fromfile(played, np.float32).reshape(-1, 2)
    first = heard.any(axis=1).argmax() - 1
    np.testing.assert_array_equal(heard[first : first + 2000], np.stack([ramp, -ramp], axis=1))
    assert not heard[:first].any() and not heard[first + 2000 :].any()


def test_a_device_that_is_gone_does_not_keep_one_from_leaving(monkeypatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    output = DeviceOutput(8000)
    output.sdl.SDL_PauseAudioDevice(output.device, 1)
    output.play(np.zeros((2, 2000), np.float32))
    assert not output.needs_window()
    output.given -= 2
    assert output.needs_window()
    output.close()


def test_a_device_closes_while_its_thread_runs(monkeypatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    for wait in np.linspace(0, 0.05, 10):
        output = DeviceOutput(8000)
        output.play(np.zeros((2, 400), np.float32))
        start = time.monotonic()
        # Busy waiting, which holds the interpreter lock.
        while time.monotonic() - start < wait:
            pass
        output.close()


def test_where_there_is_no_terminal_to_play_in_a_window_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "termios", None)
    monkeypatch.delitem(sys.modules, "sonarium.play.terminal")
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(sys, stream, SimpleNamespace(isatty=lambda: True))
    with pytest.raises(ValueError, match=r"no terminal to play in.*pip install pygame"):
        walk.choose_screen(terminal=True, remark=pytest.fail)


def test_a_window_shows_the_room_and_reads_keys(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    pygame = pytest.importorskip("pygame")
    screen = walk.choose_screen(terminal=False, remark=pytest.fail)
    assert type(screen).__name__ == "Window"
    output = open_output(8000)
    going = Walk(ROOM, 1)
    start = going.room.scene().pose
    for key in (pygame.K_UP, pygame.K_l, pygame.K_i):
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))
    show = screen.show

    def show_and_leave(*scene):
        show(*scene)
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_q))

    monkeypatch.setattr(screen, "show", show_and_leave)
    with screen:
        stroll(going, screen, output)
        seen = pygame.surfarray.array3d(pygame.display.get_surface())
    output.close()
    assert going.levels and going.images and going.tally.steps >= 1
    np.testing.assert_allclose(np.hypot(*(going.room.scene().pose - start)[:2]), ROOM.step, atol=1e-9)
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) > 20


def test_a_measured_walk_keeps_how_each_episode_went():
    going, ear = Walk(ROOM, 4, measured=True), Ear()
    stroll(going, Stub([Command((1.0, 0.0)), Command((1.0, 0.0)), Command(next_room=True), Command()]), ear)
    going.note()
    first, second = going.tally.played
    assert (first.agent, first.seed, first.steps, first.success, first.spl) == ("you", 4, 2, False, 0.0)
    assert (second.seed, second.steps, second.walked) == (5, 2, 0.0)
    np.testing.assert_allclose(first.walked, 2 * ROOM.step)
    # A seed gives the same rooms for any actions and clock, as the table claims.
    other = replace(ROOM, actions="turn", clock="clip", seconds=0.25)
    vector = SeekVector(2, other, render_mode="rgb_array")
    vector.reset(seed=4)
    for slot in range(2):
        mine, theirs = Walk(ROOM, 4 + slot).room.scene(), vector.scene(slot)
        for one, two in ((mine.room.corners, theirs.room.corners), (mine.sources, theirs.sources)):
            np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(mine.pose, theirs.pose)


def test_a_walk_is_heard_where_the_target_is_told_as_a_category():
    going, ear = Walk(replace(ROOM, distractors=2, target="category", max_steps=1), 5), Ear()
    stroll(going, Stub([Command(), Command()]), ear)
    assert [window.shape for window in ear.windows] == [(2, going.room.config.window)] * 2
    assert ear.windows[0].any() and not ear.windows[1].any()
    going.begin()
    assert going.status(True) == f"find: {going.room.scene().sounds[0]} · return 0.0"


def test_one_who_leaves_at_once_has_failed():
    going = Walk(ROOM, 4, measured=True)
    going.note()
    assert list(going.tally.played[0].measures().values()) == [0.0] * 6


def test_a_distractor_that_ends_an_episode_is_told():
    going = Walk(replace(ROOM, distractors=2), 5, measured=True)
    going.room.episodes.source[0, 1] = going.room.episodes.place[0]
    going.step(Command())
    assert going.over == "That was a distractor." and going.tally.finished == 0
    going.note()
    assert not going.tally.played[0].success
