"""Scripted agents: interaural delay and level against closed forms, and success in the environment."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonarium.agents.contract import Agent, alone
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
    # The Nyquist bin cannot be delayed by a fraction of a sample.
    turned[-1] = spectrum[-1] = 0
    return 0.05 * np.stack([gain * np.fft.irfft(spectrum), np.fft.irfft(turned)]).astype(np.float32)


def play(name: str, count: int, seed: int, **changes) -> dict[str, np.ndarray]:
    """Play one episode in each of `count` rooms."""
    config = SeekConfig(oracle_info=True, threads=1, **changes)
    rooms, agent, generator = SeekVector(count, config), SCRIPTED[name](Body(turn=config.turn)), rng(seed)
    memory, first, over = agent.initial(count), np.ones(count, bool), np.zeros(count, bool)
    heard, info = rooms.reset(seed=seed)
    shortest = info["reachable_distance"]
    going, success = np.ones(count, bool), np.zeros(count, bool)
    found, walked = np.zeros(count), np.zeros(count)
    while going.any():
        memory, action, _ = agent.act(memory, heard, first, generator, info)
        heard, _, terminated, truncated, info = rooms.step(action)
        # NEXT_STEP: the step after the end of an episode resets it.
        first, over = over, terminated | truncated
        found[going], walked[going] = info["found"][going], info["walked"][going]
        success |= terminated & going
        going &= ~over
    rooms.close()
    return {"success": success, "found": found, "spl": success * shortest / np.maximum(walked, shortest)}


@pytest.mark.parametrize("room", ["shoebox", "nonconvex"])
def test_the_oracle_finds_all_by_about_the_shortest_way(room):
    came = play("oracle", 24, seed=1, room=room, max_steps=200, order=0)
    assert came["success"].all()
    # The last half metre is not walked, since success requires only the radius.
    assert came["spl"].mean() > 0.95


@pytest.mark.parametrize("turn", [15.0, 45.0, 90.0])
def test_the_oracle_copes_with_other_turns(turn):
    came = play("oracle", 6, seed=5, room="nonconvex", max_steps=300, order=0, turn=turn)
    assert came["success"].all()


def test_followers_stand_between_chance_and_the_oracle():
    """24 episodes of at most 120 steps, the same for all agents; random actions find about 0.5 of 2 sources."""
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


class Single:
    """An agent in a single environment, with its memory between steps."""

    def __init__(self, agent: Agent) -> None:
        self.agent, self.memory, self.first, self.generator = agent, agent.initial(1), True, rng()

    def act(self, observation: np.ndarray) -> int:
        self.memory, action, extras = alone(self.agent, self.memory, observation, self.first, self.generator, {})
        self.first = False
        assert extras == {}
        return int(action)


def calm() -> Single:
    """A follower that never makes a detour."""
    agent = DifferenceFollower(BODY)
    agent.exploration = 0.0
    return Single(agent)


def circling(single: Single, angle: float, steps: int) -> list[int]:
    """Actions of a follower that stays in place, far from a source at an angle from its initial heading."""
    actions, heading = [], 0.0
    for step in range(steps):
        lead = 0.2 / 343 * RATE * np.sin(angle - heading)
        action = single.act(delayed(lead, seed=step))
        heading += np.radians(30) * ((action == LEFT) - (action == RIGHT))
        actions.append(action)
    return actions


@pytest.mark.parametrize(("degrees", "side"), [(90, LEFT), (50, LEFT), (-90, RIGHT), (-50, RIGHT), (140, LEFT)])
def test_it_turns_toward_the_ear_that_is_first(degrees, side):
    assert circling(calm(), np.radians(degrees), 1) == [side]


@settings(max_examples=20)
@given(degrees=st.floats(-180, 180))
def test_it_ends_up_facing_the_source_from_wherever(degrees):
    """Front and back are ambiguous at first; within 16 steps it moves forward, and only toward the source."""
    heading, single, angle = 0.0, calm(), np.radians(degrees)
    for step in range(16):
        lead = 0.2 / 343 * RATE * np.sin(angle - heading)
        action = single.act(delayed(lead, seed=step))
        heading += np.radians(30) * ((action == LEFT) - (action == RIGHT))
        if action == FORWARD:
            break
    assert action == FORWARD
    assert np.cos(angle - heading) >= np.cos(np.radians(15 + 5))


def test_it_restarts_with_an_episode():
    single = calm()
    circling(single, 1.0, 5)
    single.first = True
    assert circling(single, -2.0, 3) == circling(calm(), -2.0, 3)


def test_the_loudness_follower_goes_on_while_it_grows_louder_and_turns_when_it_does_not():
    single = Single(LoudnessFollower(BODY))
    louder = [single.act((1.1**step * delayed(0)).astype(np.float32)) for step in range(30)]
    assert set(louder) == {FORWARD}
    quieter = [single.act((0.7**step * delayed(0)).astype(np.float32)) for step in range(10)]
    assert {LEFT, RIGHT} & set(quieter)


INFO = {"bearing": np.array([0.0, 1.0, -1.0]), "pose": np.zeros((3, 3))}
FIRST = np.ones(3, bool)


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_batch_is_as_wide_as_its_rooms_and_one_room_is_alone(name):
    agent = SCRIPTED[name](BODY)
    heard = np.stack([delayed(0), delayed(4), delayed(-4)])
    _, actions, _ = agent.act(agent.initial(3), heard, FIRST, rng(), INFO)
    assert actions.shape == (3,) and set(actions.tolist()) <= {0, 1, 2, 3}
    if name == "oracle":
        assert actions.tolist() == [FORWARD, LEFT, RIGHT]
    told = {"bearing": 0.0, "pose": np.zeros(3)}
    assert alone(agent, agent.initial(1), delayed(0), True, rng(), told)[1] in range(4)


def walked(name: str, steps: int, memory: Any = None, seed: int = 7) -> tuple[list[list[int]], list[Any]]:
    """Actions in three rooms, and the memory after each step."""
    agent, generator, memories, ways = SCRIPTED[name](BODY), rng(seed), [], []
    memory = agent.initial(3) if memory is None else memory
    for step in range(steps):
        heard = np.stack([delayed(lead, 0.8**step, seed=step) for lead in (1, 4, -4)])
        memory, action, _ = agent.act(memory, heard, FIRST & (step == 0), generator, INFO)
        ways.append(action.tolist())
        memories.append(memory)
    return ways, memories


@pytest.mark.parametrize("name", SCRIPTED)
def test_the_same_generator_makes_the_same_actions(name):
    assert walked(name, 12)[0] == walked(name, 12)[0]


@pytest.mark.parametrize("name", SCRIPTED)
def test_memory_is_a_value(name):
    """An agent continues from any memory that it returned, which it never modifies, and a new episode ignores its
    memory."""
    agent, (ways, memories) = SCRIPTED[name](BODY), walked(name, 8)
    generator = rng(7)
    for step in range(8):
        before = agent.initial(3) if step == 0 else memories[step - 1]
        heard = np.stack([delayed(lead, 0.8**step, seed=step) for lead in (1, 4, -4)])
        _, action, _ = agent.act(before, heard, FIRST & (step == 0), generator, INFO)
        assert action.tolist() == ways[step]
    assert walked(name, 8, memories[-1])[0] == ways


@pytest.mark.parametrize("name", SCRIPTED)
def test_an_episode_restarts_in_its_slot_alone(name):
    agent, (_, memories) = SCRIPTED[name](BODY), walked(name, 5)
    heard, first = np.stack([delayed(lead, seed=9) for lead in (1, 4, -4)]), np.array([False, True, False])
    _, mixed, _ = agent.act(memories[-1], heard, first, rng(1), INFO)
    _, going, _ = agent.act(memories[-1], heard, ~FIRST, rng(1), INFO)
    _, fresh, _ = agent.act(agent.initial(3), heard, FIRST, rng(1), INFO)
    assert mixed.tolist() == np.where(first, fresh, going).tolist()


def test_the_oracle_says_what_it_needs():
    agent = Oracle(BODY)
    with pytest.raises(ValueError, match="oracle_info=True"):
        alone(agent, agent.initial(1), delayed(0), True, rng(), {"found": 0})


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
