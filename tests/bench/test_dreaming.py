"""Benchmark of the world model: both sides reach the same loss, which the benchmark asserts."""

from dataclasses import replace

from sonarium.bench import dreaming


def test_both_loops_reach_the_same_loss(monkeypatch):
    for name, value in (("CLIPS", 2), ("TOKENS", 5), ("EMBEDDING", 4), ("NUMBERS", 3)):
        monkeypatch.setattr(dreaming, name, value)
    monkeypatch.setattr(dreaming, "SIZES", replace(dreaming.SIZES, deter=6, hidden=5, variables=2, classes=3))
    monkeypatch.setattr(dreaming, "native_precisions", lambda: ("32", "bf16"))
    found = dreaming.cases(repeats=1)
    names = ["loop, exact", "loop, bf16"]
    names += [f"update, {steps}, {kind}" for steps in ("all steps", "one step") for kind in ("fp32", "bf16")]
    assert [case["name"] for case in found] == names
    assert all(case["ratio"] > 0 for case in found)
