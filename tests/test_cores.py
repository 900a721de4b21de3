"""Usable cores and memory, also on systems that do not report them."""

import math
import os

from sonarium.cores import memory, usable_cores


def test_cores_without_an_affinity(monkeypatch):
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert usable_cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_memory_of_a_system_that_does_not_say(monkeypatch):
    assert 2**28 < memory() < math.inf
    monkeypatch.delattr(os, "sysconf")
    assert memory() == math.inf
