"""Benchmark of rollouts: both sides take the same number of steps."""

import pytest

pytest.importorskip("stable_baselines3")


def test_both_sides_take_the_same_steps(monkeypatch):
    from sonarium.bench import rollout

    monkeypatch.setattr(rollout, "STEPS", 4)
    assert rollout.acting(rollout.ENV, "zoo", 2)().reward.shape == (4, 2)
    assert rollout.acting(rollout.SEEK, "seek", 2, "yes")().reward.shape == (4, 2)
    begun = []
    collect = lambda _, env, *words: begun.append((env.num_envs, words[-1]))  # noqa: E731
    monkeypatch.setattr(rollout.Peer, "collect_rollouts", collect)
    rollout.stable(2)()
    assert begun == [(2, 4)]
