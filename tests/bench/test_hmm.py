"""Benchmark of hidden Markov models: both sides reach the same likelihood, which the benchmark asserts."""

import pytest

pytest.importorskip("hmmlearn")


def test_both_sides_reach_the_same_likelihood(monkeypatch):
    from sonarium.bench import hmm

    for name, value in (("STATES", 3), ("SEQUENCES", 10), ("FRAMES", 6), ("FEATURES", 2)):
        monkeypatch.setattr(hmm, name, value)
    cases = hmm.cases(repeats=1)
    assert [case["name"].rpartition(" ")[2] for case in cases][:3] == ["scaling", "log", "scaling"]
    assert all(case["ratio"] > 0 for case in cases)
