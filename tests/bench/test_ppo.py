"""Benchmark of PPO: both sides take the same number of steps."""

import pytest

pytest.importorskip("stable_baselines3")


def test_both_sides_take_the_same_steps(monkeypatch):
    from sonarium.bench import ppo

    monkeypatch.setattr(ppo, "UPDATES", 1)
    ours, theirs, steps = ppo.both(epochs=1)
    ours()
    theirs()
    assert steps == 256
