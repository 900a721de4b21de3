"""Benchmark of the hard modes: each mode has a row."""

from sonarium.bench import seek as bench


def test_each_mode_is_timed_beside_the_default(monkeypatch):
    monkeypatch.setattr(bench, "MODES", {name: bench.MODES[name] for name in ("point noise", "moving sources")})
    rows = bench.cases(repeats=1, rooms=2, steps=2)
    assert [row["name"] for row in rows] == list(bench.MODES)
    assert [row["peer"] for row in rows] == ["default, 3 sources", "default, 2 sources"]
    assert all(row["ours_s"] > 0 and row["peer_s"] > 0 for row in rows)
