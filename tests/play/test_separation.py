"""Directions of estimated sources against closed forms, and the media of an agent that separates sources."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sonarium.agents.contract import Agent, Separated, SourceListener
from sonarium.measures.separation import Head
from sonarium.play.imagination import Noted
from sonarium.play.separation import LONGEST, bearings, directions_chart, heard_apart, lateral
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.episode import Scene

RATE, SPEED, APART = 16000, 343.0, 0.2


def delayed(seconds: float, gain: float = 1.0) -> np.ndarray:
    """Periodic noise with a delay at the right ear, which may be any fraction of a sample."""
    wave = np.random.default_rng(0).standard_normal(2048)
    turns = np.exp(-2j * np.pi * np.fft.rfftfreq(2048, 1 / RATE) * seconds)
    turns[-1] = 1
    return gain * np.stack([wave, np.fft.irfft(np.fft.rfft(wave) * turns)])


def separated(*sources: np.ndarray) -> Separated:
    apart = np.stack(sources)[None]
    return Separated(apart.sum(1), apart, np.ones((3, 5, len(sources))) / len(sources), RATE, False)


@pytest.mark.parametrize("degrees", [-80.0, -30.0, 0.0, 10.0, 60.0])
def test_an_estimate_is_heard_where_its_delay_says(degrees):
    angle = np.radians(degrees)
    free, around = APART / SPEED * np.sin(angle), APART / 2 / SPEED * (np.sin(angle) + angle)
    cases: list[tuple[Head, float]] = [("none", free), ("sphere", around)]
    for head, delay in cases:
        [[heard]] = lateral(separated(delayed(delay)), APART, head)
        # The resolution of delays is a sixteenth of a sample.
        assert heard == pytest.approx(degrees, abs=4)


def test_what_is_too_faint_comes_from_nowhere():
    found = lateral(separated(delayed(0), delayed(0, 0.1), delayed(0, 0.03), np.zeros((2, 2048))), APART, "none")
    assert np.isnan(found[0]).tolist() == [False, False, True, True]


def scene() -> Scene:
    env = Seek(threads=1, order=0, sources=2)
    env.reset(seed=0)
    return env.scene()


def test_true_sources_lie_where_geometry_says():
    # The agent faces north: west is on the left, and sources behind count as if in front.
    one = replace(scene(), pose=np.array([1.0, 1.0, np.pi / 2]), sources=np.array([[0.0, 2.0], [2.0, 1.0]]))
    np.testing.assert_allclose(bearings([one]), [[45, -90]])
    behind = replace(one, sources=np.array([[0.0, 0.0], [1.0, 0.0]]), on=np.array([True, False]))
    np.testing.assert_allclose(bearings([behind]), [[45, np.nan]], atol=1e-9)


class Deaf(Agent):
    """Agent that ignores its observations."""

    def initial(self, slots: int) -> Any:
        return None

    def act(self, memory: Any, observation: Any, first: Any, generator: Any, info: Any) -> Any:
        return memory, np.zeros(len(observation), int), {}


class Splitting(Deaf, SourceListener):
    """Agent that separates a mixture into two halves of it."""

    def sources(self, memory: Any, observation: Any, first: Any) -> Any:
        return observation, np.stack([observation / 2, observation / 2], 1)

    def separated(self, observation: Any) -> Separated:
        mixture, halves = self.sources(None, observation, None)
        return Separated(mixture, halves, np.full((4 * len(mixture), 9, 2), 0.5), RATE, True)


def noted(agent: Agent, steps: int) -> Noted:
    found = Noted(agent)
    for number in range(steps):
        found.act(None, np.full((1, 2, 400), 0.01 * number, np.float32), np.zeros(1, bool), None, {})
    return found


def test_windows_are_shown_one_after_the_other_and_not_too_many():
    media, files = heard_apart(noted(Splitting(), LONGEST + 5), [], "none")
    assert [one.file for one in media] == ["apart-masks.png", "apart-mixture.wav", "apart-source-1.wav",
                                           "apart-source-2.wav"]  # fmt: skip
    assert files.keys() == {one.file for one in media}
    assert f"{LONGEST * 400 / RATE:.2g} s" in media[1].caption
    assert "goes on from window to window" in media[0].caption
    assert heard_apart(noted(Deaf(), 3), [], "none") == ([], {})
    assert heard_apart(noted(Splitting(), 0), [], "none") == ([], {})


def test_directions_have_a_line_for_each_true_source_and_dots_for_each_estimate():
    there = scene()
    figure = directions_chart(separated(delayed(0), delayed(1e-4)), [there], "none")
    [axes] = figure.axes
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [*(f"true: {sound}" for sound in there.sounds), "source 1", "source 2"]
    assert axes.get_ylabel() == "degrees to the left"
    first = np.asarray(axes.get_lines()[0].get_xydata())
    np.testing.assert_allclose(first, [[0, bearings([there])[0, 0]], [2048 / RATE, bearings([there])[0, 0]]])
