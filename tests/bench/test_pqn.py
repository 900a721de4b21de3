"""Benchmark of PQN: both sides take the same number of optimiser steps."""

from sonarium.bench import pqn
from sonarium.training.engine import FabricEngine


def test_both_sides_take_the_same_steps(monkeypatch):
    monkeypatch.setattr(pqn, "UPDATES", 1)
    ours, theirs, steps = pqn.both()
    taken, step = [], FabricEngine.step
    monkeypatch.setattr(FabricEngine, "step", lambda engine, *words: taken.append(engine) or step(engine, *words))
    ours()
    theirs()
    first, second = dict.fromkeys(taken)
    assert steps == 1024 and taken.count(first) == taken.count(second) == 32
