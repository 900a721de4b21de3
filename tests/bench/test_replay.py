"""Benchmark of the replay: it has a case for sequences, and for uniform and prioritised steps."""

import pytest

pytest.importorskip("stable_baselines3")


def test_it_has_a_case_of_each_kind(monkeypatch):
    from sonarium.bench import replay

    for name, value in (("WINDOW", 256), ("STEPS", 4), ("KEPT", 320), ("FLAT_KEPT", 160), ("FLAT_BATCH", 8)):
        monkeypatch.setattr(replay, name, value)
    found = replay.cases(repeats=1)
    assert [one["name"] for one in found] == [
        "sequences of sound",
        "single steps, uniform",
        "single steps, prioritised",
    ]
    assert all(one["ratio"] > 0 for one in found)
