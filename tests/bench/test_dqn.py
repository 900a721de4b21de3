"""Benchmark of DQN: both sides take the same number of steps and updates."""

import pytest

pytest.importorskip("stable_baselines3")


def test_both_sides_take_the_same_steps(monkeypatch, tmp_path):
    from sonarium.bench import dqn

    monkeypatch.setattr(dqn, "ROLLOUTS", 1)
    ours, theirs, steps = dqn.both(tmp_path)
    learnt = []
    monkeypatch.setattr(
        "sonarium.agents.dqn.DQN.learn", lambda agent, some, batches, engine: learnt.append(batches) or {}
    )
    ours()
    assert steps == 256 and sum(learnt) == 128
    taken = []
    monkeypatch.setattr(
        "stable_baselines3.DQN.train", lambda peer, gradient_steps, batch_size: taken.append(gradient_steps)
    )
    theirs()
    assert sum(taken) == 128
