"""Benchmarks call the two implementations in turn, and their rows have all columns."""

import time

import pytest

from sonarium.bench.timing import case, hardware, interleaved


def test_turns_are_taken_and_the_median_is_kept() -> None:
    calls = []

    def ours() -> None:
        calls.append("ours")

    def peer() -> None:
        calls.append("peer")
        time.sleep(0.1 if calls.count("peer") == 3 else 0.002)  # one disturbance

    ours_s, peer_s = interleaved(ours, peer, repeats=3)
    assert calls == ["ours", "peer"] * 4
    assert ours_s < 0.002 <= peer_s < 0.05
    row = case("naive", "some work", "peer", ours_s, peer_s)
    assert row["ratio"] == pytest.approx(peer_s / ours_s)
    assert list(row) == ["name", "work", "ours_s", "peer", "peer_s", "ratio"]
    with pytest.raises(ValueError, match="repeats=0"):
        interleaved(ours, peer, repeats=0)


def test_hardware_is_named() -> None:
    assert "torch" in hardware()
    assert "core(s)" in hardware()
