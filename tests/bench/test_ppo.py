"""Benchmark of PPO: both sides take the same numbers of environment and optimiser steps."""

import pytest
import torch

from sonarium.training.engine import FabricEngine

pytest.importorskip("stable_baselines3")


def test_both_sides_take_the_same_steps(monkeypatch):
    from sonarium.bench import ppo

    ours, theirs, rollouts = ppo.both("zoo", {}, {"epochs": 3}, 2)
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
    assert rollouts.envs * rollouts.rollout_steps == 256 and taken == {"ours": 6, "theirs": 6}


def test_both_sides_stop_where_the_mean_return_is_high_enough(monkeypatch):
    from sonarium.bench import ppo

    monkeypatch.setattr(ppo, "MOST_STEPS", 2048)
    monkeypatch.setattr(ppo, "EPISODES", 20)
    assert not ppo.solve(0) and not ppo.solve_with_peer(0)
    monkeypatch.setattr(ppo, "SOLVED", 10.0)
    assert ppo.solve(0) and ppo.solve_with_peer(0)


def test_in_rooms_it_learns_from_each_rollout(monkeypatch):
    from sonarium.bench import ppo

    monkeypatch.setattr(ppo, "ROOMS", 2)
    learning, acting, steps = ppo.in_rooms()
    assert steps == 64 and "loss/policy" in learning() and acting().reward.size == steps
