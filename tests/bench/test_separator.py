"""Benchmark of separators: windows are compared with the whole signal before timing."""

from sonarium.bench import separator


def test_each_case_has_both_sides(monkeypatch):
    for name, value in (("WINDOWS", 2), ("ROOMS", (1, 2)), ("CLIPS", 1)):
        monkeypatch.setattr(separator, name, value)
    found = separator.cases(repeats=1)
    assert [case["name"] for case in found] == [
        "windows of 1 room(s)", "windows of 2 room(s)", "mixtures, 0 s", "mixtures, 0.3 s"
    ]  # fmt: skip
    assert all(case["ratio"] > 0 for case in found) and "ms a window" in found[0]["work"]
