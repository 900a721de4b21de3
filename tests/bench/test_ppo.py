"""Benchmark of PPO: both sides take the same numbers of environment and optimiser steps."""

import pytest
import torch

from sonarium.training.engine import FabricEngine

pytest.importorskip("stable_baselines3")


def test_both_sides_take_the_same_steps(monkeypatch):
    from sonarium.bench import ppo

    monkeypatch.setattr(ppo, "UPDATES", 2)
    ours, theirs, steps = ppo.both(epochs=3)
    taken = {"ours": 0, "theirs": 0}

    def counting(side, function):
        def counted(*words, **named):
            taken[side] += 1
            return function(*words, **named)

        return counted

    monkeypatch.setattr(FabricEngine, "step", counting("ours", FabricEngine.step))
    ours()
    monkeypatch.setattr(torch.optim.Adam, "step", counting("theirs", torch.optim.Adam.step))
    theirs()
    assert steps == 512 and taken == {"ours": 6, "theirs": 6}


def test_in_rooms_it_learns_from_each_rollout(monkeypatch):
    from sonarium.bench import ppo

    monkeypatch.setattr(ppo, "ROOMS", 2)
    learning, acting, steps = ppo.in_rooms()
    assert steps == 64 and "loss/policy" in learning() and acting().reward.size == steps
