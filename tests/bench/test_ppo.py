"""The bench of PPO takes as many steps on both sides."""

import pytest

pytest.importorskip("stable_baselines3")


def test_both_sides_take_the_same_steps(monkeypatch):
    from sonarium.bench import ppo

    monkeypatch.setattr(ppo, "UPDATES", 1)
    ours, theirs, steps = ppo.both(epochs=1)
    ours()
    theirs()
    assert steps == 256
