"""Rewards: OtoWorld's exact values, and a default that hovering or walking in circles cannot exploit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonarium.rooms.acoustics.geometry import polygon, shoebox
from sonarium.rooms.seek.config import SeekConfig
from sonarium.rooms.seek.env import Seek
from sonarium.rooms.seek.reward import REWARDS, Reward, reward

ELL = polygon([(0, 0), (8, 0), (8, 3), (3, 3), (3, 8), (0, 8)])
FORWARD, BACK, LEFT, RIGHT = range(4)
INVERSE = {FORWARD: BACK, BACK: FORWARD, LEFT: RIGHT, RIGHT: LEFT}
QUICK = {"order": 0, "seconds": 0.01, "threads": 1, "oracle_info": True}


def seek(room=ELL, places=((1.0, 7.0), (7.0, 1.0)), pose=(1.5, 1.5, 0.0), **changes):
    env = Seek(SeekConfig(sources=len(places), **QUICK), **changes)
    _, info = env.reset(seed=0, options={"room": room, "places": places, "pose": pose})
    return env, info


def test_the_formula_by_hand():
    figures = Reward(step=-1, rotation=-2, found=30, closeness=4, progress=5, gamma=0.5)
    earned = reward(
        figures,
        np.array([False, True, False]),
        np.array([0, 0, 2]),
        np.array([2.0, 0.5, 0.3]),
        np.array([7.0, 6.0, 5.0]),
        np.array([6.0, 6.0, 0.0]),
    )
    expected = [-1 + 4 / 2.0001 + 5 * (7 - 3), -3 + 4 / 0.5001 + 5 * (6 - 3), -1 + 60 + 25]
    np.testing.assert_allclose(earned, expected)


def test_otoworld_pays_its_own_figures():
    """−.5 per step, −.1 more for a turn, plus 1 / (d + .0001); +100 for a source, then without that term."""
    env, _ = seek(shoebox((8, 8)), [(6.0, 2.0), (6.0, 7.0)], (2.0, 2.0, 0.0), reward="otoworld", step=1.0)
    assert env.step(FORWARD)[1] == pytest.approx(-0.5 + 1 / 3.0001, abs=1e-9)
    assert env.step(LEFT)[1] == pytest.approx(-0.6 + 1 / 3.0001, abs=1e-9)
    assert env.step(RIGHT)[1] == pytest.approx(-0.6 + 1 / 3.0001, abs=1e-9)
    env.step(FORWARD)
    # Staying close to a source pays ever more: a fault that the default reward does not have.
    assert env.step(FORWARD)[1] == pytest.approx(-0.5 + 1 / 1.0001, abs=1e-9)
    assert env.step(FORWARD)[1] == pytest.approx(99.5, abs=1e-9)
    # The second source is now the nearest.
    assert env.step(BACK)[1] == pytest.approx(-0.5 + 1 / (np.hypot(1, 5) + 1e-4), abs=1e-9)


def test_a_step_that_finds_anything_pays_no_closeness():
    none, near, way = np.zeros(3, bool), np.ones(3), np.zeros(3)
    earned = reward(REWARDS["otoworld"], none, np.array([0, 1, 0]), near, way, way, np.array([0, 0, 1]))
    np.testing.assert_allclose(earned, [-0.5 + 1 / 1.0001, 99.5, -10.5])


def test_the_document_pays_its_own_figures():
    env, _ = seek(shoebox((8, 8)), [(3.0, 2.0), (6.0, 7.0)], (2.0, 2.0, 0.0), reward="document")
    assert env.step(LEFT)[1] == pytest.approx(-0.1)
    assert env.step(RIGHT)[1] == pytest.approx(-0.1)
    assert env.step(FORWARD)[1] == pytest.approx(9.9)
    assert env.step(BACK)[1] == pytest.approx(-0.1)


def test_the_default_pays_metres_of_the_way_that_is_left():
    env, info = seek(shoebox((8, 8)), [(6.0, 2.0)], (2.0, 2.0, 0.0), step=1.0)
    assert info["reachable_distance"] == pytest.approx(4)
    assert [env.step(FORWARD)[1] for _ in range(3)] == pytest.approx([0.9, 0.9, 0.9])
    found = env.step(FORWARD)
    assert found[1] == pytest.approx(-0.1 + 10 + 1) and found[2]


@given(seed=st.integers(0, 10**6), length=st.integers(1, 25))
@settings(max_examples=10)
def test_walks_that_return_earn_nothing_by_default(seed, length):
    """A random walk round the corner of an L and back by the same path earns only the costs of its steps."""
    env, _ = seek()
    random = np.random.default_rng(seed)
    walked, total, steps = [], 0.0, 0
    for action in random.integers(4, size=length).tolist():
        before = env.scene().pose
        _, earned, _, _, info = env.step(action)
        steps, total = steps + 1, total + earned
        if info["found"]:
            return
        if (env.scene().pose != before).any():
            walked.append(action)
    for action in reversed(walked):
        _, earned, _, _, info = env.step(INVERSE[action])
        steps, total = steps + 1, total + earned
        if info["found"]:
            return
    np.testing.assert_allclose(env.scene().pose, [1.5, 1.5, 0.0], atol=1e-9)
    assert total == pytest.approx(steps * REWARDS["default"].step, abs=1e-9)


@pytest.mark.parametrize("turn", [LEFT, RIGHT])
def test_circles_earn_nothing_by_default(turn):
    env, _ = seek(pose=(2.0, 1.2, 0.0), step=0.25)
    start, total = env.scene().pose, 0.0
    for _ in range(12):
        total += env.step(FORWARD)[1] + env.step(turn)[1]
    moved = np.ptp(env.scene().trajectory[:, :2], axis=0)
    assert (moved > 0.8).all(), "no step was blocked"
    np.testing.assert_allclose(env.scene().pose, start, atol=1e-9)
    assert total == pytest.approx(24 * REWARDS["default"].step, abs=1e-9)


def test_hovering_earns_less_than_finding():
    env, _ = seek(shoebox((8, 8)), [(3.0, 2.0)], (2.0, 2.0, 0.0))
    hovering = [env.step(action)[1] for action in [LEFT, RIGHT, BACK, FORWARD] * 20]
    assert sum(hovering) == pytest.approx(80 * -0.1)
    assert env.step(FORWARD)[1] > 10


@given(seed=st.integers(0, 10**6), gamma=st.sampled_from([0.9, 0.99, 1.0]))
@settings(max_examples=8)
def test_discounted_progress_is_the_potential_at_both_ends(seed, gamma):
    """Ng, Harada and Russell: Σ γ^t F = γ^T Φ(T) − Φ(0) for every path, including found sources."""
    figures = Reward(step=0.0, found=0.0, progress=2.0, gamma=gamma)
    env, info = seek(figures=figures, places=((1.0, 7.0), (7.0, 1.0), (3.0, 1.0)), step=0.4)
    first, total, count = info["reachable_distance"], 0.0, 0
    for action in np.random.default_rng(seed).integers(4, size=40).tolist():
        _, earned, over, _, _ = env.step(action)
        total, count = total + gamma**count * earned, count + 1
        if over:
            break
    last = env.episodes.left[0]
    assert total == pytest.approx(2 * (first - gamma**count * last), abs=1e-9)


def test_a_source_found_does_not_make_the_way_longer():
    """The potential is minus the path length through all active sources; finding the first does not lower it."""
    env, _ = seek(shoebox((8, 8)), [(3.0, 2.0), (7.0, 2.0)], (2.0, 2.0, 0.0))
    earned = [env.step(FORWARD)[1] for _ in range(9)]
    assert min(earned) >= -0.1 + 0.5 - 1e-9
    assert sum(earned) == pytest.approx(9 * -0.1 + 20 + 5)


def test_blocked_moves_cost_their_step():
    env, _ = seek(shoebox((8, 8)), [(6.0, 6.0)], (0.3, 4.0, np.pi))
    before = env.scene().pose
    assert env.step(FORWARD)[1] == pytest.approx(-0.1)
    np.testing.assert_array_equal(env.scene().pose, before)
