"""Agents that follow a rule: what they hear against closed forms, and how they fare in the environment itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonarium.agents.contract import alone
from sonarium.agents.scripted import (
    FORWARD,
    LEFT,
    RIGHT,
    SCRIPTED,
    Body,
    DifferenceFollower,
    LoudnessFollower,
    Oracle,
    level_difference,
    loudness,
    side_fit,
)
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.vector import SeekVector

RATE, WINDOW = 8000, 2000
BODY = Body()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def delayed(lead: float, gain: float = 1.0, seed: int = 0) -> np.ndarray:
    """Noise that the left ear hears `lead` samples before the right one, and `gain` times as loud."""
    spectrum = np.fft.rfft(rng(seed).normal(size=WINDOW))
    turned = spectrum * np.exp(-2j * np.pi * np.arange(len(spectrum)) / WINDOW * lead)
    # The bin at half the rate cannot be turned by a part of a sample.
    turned[-1] = spectrum[-1] = 0
    return 0.05 * np.stack([gain * np.fft.irfft(spectrum), np.fft.irfft(turned)]).astype(np.float32)


def play(name: str, count: int, seed: int, **changes) -> dict[str, np.ndarray]:
    """One episode in each of so many rooms."""
    config = SeekConfig(tell=True, threads=1, **changes)
    rooms, agent = SeekVector(count, config), SCRIPTED[name](Body(turn=config.turn), rng(seed))
    agent.reset(count)
    heard, info = rooms.reset(seed=seed)
    shortest = info["reachable_distance"]
    going, success = np.ones(count, bool), np.zeros(count, bool)
    found, walked = np.zeros(count), np.zeros(count)
    while going.any():
        heard, _, terminated, truncated, info = rooms.step(agent.act(heard, info))
        found[going], walked[going] = info["found"][going], info["walked"][going]
        success |= terminated & going
        going &= ~(terminated | truncated)
        agent.forget(terminated | truncated)
    rooms.close()
    return {"success": success, "found": found, "spl": success * shortest / np.maximum(walked, shortest)}


@pytest.mark.parametrize("room", ["shoebox", "nonconvex"])
def test_the_oracle_finds_all_by_about_the_shortest_way(room):
    came = play("oracle", 60, seed=1, room=room, max_steps=200, order=0)
    assert came["success"].all()
    # The last half metre is not gone, for the radius is enough.
    assert came["spl"].mean() > 0.95


@pytest.mark.parametrize("turn", [15.0, 45.0, 90.0])
def test_the_oracle_copes_with_other_turns(turn):
    came = play("oracle", 20, seed=5, room="nonconvex", max_steps=300, order=0, turn=turn)
    assert came["success"].all()


def test_followers_stand_between_chance_and_the_oracle():
    """Two dozen episodes of at most 120 steps, the same for all: found by chance about 0.5 of 2 sources."""
    came = {name: play(name, 24, seed=2, max_steps=120, order=2) for name in ("random", "loudness", "difference")}
    success = {name: one["success"].mean() for name, one in came.items()}
    found = {name: one["found"].mean() for name, one in came.items()}
    assert success["difference"] >= 0.9 and success["difference"] > success["random"] + 0.6
    assert came["difference"]["spl"].mean() > 0.6
    assert found["random"] + 0.3 < found["loudness"] < found["difference"]


@settings(max_examples=30)
@given(lead=st.floats(-4.6, 4.6), seed=st.integers(0, 99))
def test_the_delay_between_the_ears_fits_best_where_it_is(lead, seed):
    leads = np.linspace(-5, 5, 101)
    fit = side_fit(delayed(lead, seed=seed)[None], tuple((leads / RATE).tolist()), RATE)[0]
    assert abs(leads[fit.argmax()] - lead) <= 0.051
    assert 0.97 < fit.max() <= 1 + 1e-5


@given(decibels=st.floats(-40, 40), seed=st.integers(0, 99))
def test_levels_are_decibels(decibels, seed):
    wave = delayed(0, 10 ** (decibels / 20), seed)
    np.testing.assert_allclose(level_difference(wave[None]), decibels, atol=1e-3)
    power = np.square(wave.astype(float)).mean()
    np.testing.assert_allclose(loudness(wave[None]), 10 * np.log10(power), atol=1e-6)


def test_silence_has_no_side():
    silent = np.zeros((1, 2, WINDOW), np.float32)
    assert (side_fit(silent, (-1e-4, 0.0, 1e-4), RATE) == 0).all()
    assert level_difference(silent) == 0


def calm() -> DifferenceFollower:
    """A follower that never tries something else."""
    agent = DifferenceFollower(BODY, rng())
    agent.roused = 0.0
    agent.reset(1)
    return agent


def circling(agent: DifferenceFollower, angle: float, steps: int) -> list[int]:
    """The actions of a follower on the spot, far from a source at an angle from its first heading."""
    actions, heading = [], 0.0
    for step in range(steps):
        lead = 0.2 / 343 * RATE * np.sin(angle - heading)
        action = int(agent.act(delayed(lead, seed=step)[None], {})[0])
        heading += np.radians(30) * ((action == LEFT) - (action == RIGHT))
        actions.append(action)
    return actions


@pytest.mark.parametrize(("degrees", "side"), [(90, LEFT), (50, LEFT), (-90, RIGHT), (-50, RIGHT), (140, LEFT)])
def test_it_turns_toward_the_ear_that_is_first(degrees, side):
    assert circling(calm(), np.radians(degrees), 1) == [side]


@settings(max_examples=20)
@given(degrees=st.floats(-180, 180))
def test_it_ends_up_facing_the_source_from_wherever(degrees):
    """Front and back sound alike at first; it turns at most once round, and goes ahead only to the front."""
    heading, agent, angle = 0.0, calm(), np.radians(degrees)
    for step in range(16):
        lead = 0.2 / 343 * RATE * np.sin(angle - heading)
        action = int(agent.act(delayed(lead, seed=step)[None], {})[0])
        heading += np.radians(30) * ((action == LEFT) - (action == RIGHT))
        if action == FORWARD:
            break
    assert action == FORWARD
    assert np.cos(angle - heading) >= np.cos(np.radians(15 + 5))


def test_it_starts_anew_when_told_to():
    agent = calm()
    circling(agent, 1.0, 5)
    agent.forget(np.array([True]))
    fresh = calm()
    assert circling(agent, -2.0, 3) == circling(fresh, -2.0, 3)


def test_the_loudness_follower_goes_on_while_it_grows_louder_and_turns_when_it_does_not():
    agent = LoudnessFollower(BODY, rng())
    agent.reset(1)
    louder = [int(agent.act((1.1**step * delayed(0))[None].astype(np.float32), {})[0]) for step in range(30)]
    assert set(louder) == {FORWARD}
    quieter = [int(agent.act((0.7**step * delayed(0))[None].astype(np.float32), {})[0]) for step in range(10)]
    assert {LEFT, RIGHT} & set(quieter)


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_batch_is_as_wide_as_its_rooms_and_one_room_is_alone(name):
    agent = SCRIPTED[name](BODY, rng())
    agent.reset(3)
    info = {"bearing": np.array([0.0, 1.0, -1.0]), "pose": np.zeros((3, 3))}
    actions = agent.act(np.stack([delayed(0), delayed(4), delayed(-4)]), info)
    assert actions.shape == (3,) and set(actions.tolist()) <= {0, 1, 2, 3}
    if name == "oracle":
        assert actions.tolist() == [FORWARD, LEFT, RIGHT]
    agent.reset(1)
    assert alone(agent, delayed(0), {"bearing": 0.0, "pose": np.zeros(3)}) in range(4)


@pytest.mark.parametrize("name", SCRIPTED)
def test_the_same_generator_makes_the_same_actions(name):
    ways = []
    for _ in range(2):
        agent = SCRIPTED[name](BODY, rng(7))
        agent.reset(2)
        info = {"bearing": np.zeros(2), "pose": np.zeros((2, 3))}
        ways.append([agent.act(np.stack([delayed(1, seed=s)] * 2), info).tolist() for s in range(12)])
    assert ways[0] == ways[1]


def test_the_oracle_says_what_it_needs():
    agent = Oracle(BODY, rng())
    agent.reset(1)
    with pytest.raises(ValueError, match="tell=True"):
        alone(agent, delayed(0), {"found": 0})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"actions": "compass"}, "choose actions='turn'"),
        ({"turn": 0.0}, "turn=0.0"),
        ({"rate": -1}, "rate=-1"),
        ({"ear_distance": -0.1}, "ear_distance=-0.1"),
    ],
)
def test_bodies_that_no_rule_fits_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Body(**changes)
