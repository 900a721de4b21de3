"""Returns and advantages against their definitions, summed term by term."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonarium.agents.returns import (
    advantages,
    bootstrapped,
    discounted,
    lambda_returns,
    n_step_returns,
    values_after,
)


def rollout(seed: int, steps: int, slots: int = 3):
    rng = np.random.default_rng(seed)
    reward, value, last = (rng.standard_normal((steps, slots)) for _ in range(3))
    terminated = rng.random((steps, slots)) < 0.2
    truncated = (rng.random((steps, slots)) < 0.2) & ~terminated
    return reward, value, last, terminated, truncated


def next_value(step, slot, value, last, terminated, truncated, bootstrap):
    """V of the observation after a step; `last` holds it where an episode is truncated or the rollout ends."""
    if terminated[step, slot] or (truncated[step, slot] and not bootstrap):
        return 0.0
    if truncated[step, slot] or step == len(value) - 1:
        return last[step, slot]
    return value[step + 1, slot]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.booleans(), st.sampled_from([0.0, 0.7, 1.0]))
def test_generalised_advantages_are_the_sum_of_temporal_differences(seed, steps, bootstrap, trace):
    reward, value, last, terminated, truncated = rollout(seed, steps)
    over, discount = terminated | truncated, 0.9
    asked = bootstrapped(truncated, over, bootstrap)
    after = values_after(value, asked, last[asked], over)
    found = advantages(reward, value, after, over, discount, trace)
    for slot in range(value.shape[1]):
        for start in range(steps):
            expected, weight = 0.0, 1.0
            for step in range(start, steps):
                follows = next_value(step, slot, value, last, terminated, truncated, bootstrap)
                expected += weight * (reward[step, slot] + discount * follows - value[step, slot])
                weight *= discount * trace
                if over[step, slot]:
                    break
            assert found[start, slot] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 12))
def test_n_step_returns_are_rewards_and_the_value_after_them(seed, steps, horizon):
    reward, value, last, terminated, truncated = rollout(seed, steps)
    over, discount = terminated | truncated, 0.9
    asked = bootstrapped(truncated, over)
    after = values_after(value, asked, last[asked], over)
    found = n_step_returns(reward, after, over, discount, horizon)
    for slot in range(value.shape[1]):
        for start in range(steps):
            expected, step = 0.0, start
            while True:
                expected += discount ** (step - start) * reward[step, slot]
                if over[step, slot] or step == steps - 1 or step - start + 1 == horizon:
                    break
                step += 1
            follows = next_value(step, slot, value, last, terminated, truncated, True)
            expected += discount ** (step - start + 1) * follows
            assert found[start, slot] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_lambda_returns_are_mixtures_of_n_step_returns(seed):
    """(1 − λ) Σ λⁿ⁻¹ G(n), the longest with the remaining weight (Sutton and Barto 2018, 12.1)."""
    reward, value, last, terminated, truncated = rollout(seed, 7)
    over, discount, trace = terminated | truncated, 0.9, 0.6
    asked = bootstrapped(truncated, over)
    after = values_after(value, asked, last[asked], over)
    found = advantages(reward, value, after, over, discount, trace) + value
    mixed = sum(
        (1 - trace) * trace ** (n - 1) * n_step_returns(reward, after, over, discount, n) for n in range(1, 7)
    )
    mixed = mixed + trace**6 * n_step_returns(reward, after, over, discount, 7)
    np.testing.assert_allclose(found, mixed, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.booleans(), st.floats(0, 1))
def test_lambda_returns_weigh_every_number_of_steps(seed, steps, bootstrap, trace):
    """By brute force: n-step returns with weight (1 − λ) λⁿ⁻¹, the longest with the remaining weight."""
    reward, value, last, terminated, truncated = rollout(seed, steps)
    over, discount = terminated | truncated, 0.9
    asked = bootstrapped(truncated, over, bootstrap)
    after = values_after(value, asked, last[asked], over)
    found = lambda_returns(reward, after, over, discount, trace)
    for slot in range(value.shape[1]):
        for start in range(steps):
            expected, earned, left = 0.0, 0.0, 1.0
            for step in range(start, steps):
                earned += discount ** (step - start) * reward[step, slot]
                follows = next_value(step, slot, value, last, terminated, truncated, bootstrap)
                whole = earned + discount ** (step - start + 1) * follows
                longest = over[step, slot] or step == steps - 1
                expected += left * (1 if longest else 1 - trace) * whole
                left *= trace
                if longest:
                    break
            assert found[start, slot] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.floats(0, 1))
def test_lambda_returns_in_their_limits(seed, steps, trace):
    """λ = 0 gives one-step returns, λ = 1 full returns; minus the value, λ-returns are the advantages."""
    reward, value, last, terminated, truncated = rollout(seed, steps)
    over, discount = terminated | truncated, 0.9
    asked = bootstrapped(truncated, over)
    after = values_after(value, asked, last[asked], over)
    one, every = (lambda_returns(reward, after, over, discount, limit) for limit in (0.0, 1.0))
    np.testing.assert_allclose(one, reward + discount * after, atol=1e-12)
    np.testing.assert_allclose(every, n_step_returns(reward, after, over, discount, steps), atol=1e-12)
    above = advantages(reward, value, after, over, discount, trace) + value
    np.testing.assert_allclose(lambda_returns(reward, after, over, discount, trace), above, atol=1e-12)


def test_a_row_in_which_an_episode_begins_anew_changes_nothing():
    """NEXT_STEP has one more row than SAME_STEP, whose action is ignored; other advantages are equal."""
    reward, value, last, _, _ = rollout(1, 6, 1)
    over = np.zeros((6, 1), bool)
    over[2] = True
    truncated = over.copy()
    asked = bootstrapped(truncated, over)
    same = advantages(reward, value, values_after(value, asked, last[asked], over), over, 0.9, 0.8)

    def with_row(rows, fill):
        return np.insert(rows, 3, fill, axis=0)

    over, value, last = with_row(over, False), with_row(value, 9.0), with_row(last, -9.0)
    asked = bootstrapped(over, over)
    after = values_after(value, asked, last[asked], over)
    next_step = advantages(with_row(reward, 0.0), value, after, over, 0.9, 0.8)
    np.testing.assert_allclose(np.delete(next_step, 3, axis=0), same, atol=1e-12)


def test_discounted_sums_begin_anew_with_each_episode():
    reward = np.array([[1.0], [2.0], [4.0]])
    first = np.array([[False], [False], [True]])
    np.testing.assert_allclose(discounted(reward, first, 0.5, np.array([8.0])), [[5.0], [4.5], [4.0]])


def test_a_return_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="steps=0: give at least 1"):
        n_step_returns(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1), bool), 0.9, 0)
