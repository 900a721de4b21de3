"""Benchmark of rooms: moved peers equal fresh ones, different results are refused, cases describe their work."""

import numpy as np
import pytest
from rooms.oracles import peer

from sonarium.bench import rooms as bench
from sonarium.bench.plain_rooms import OtoWorldStep, PlainRoom
from sonarium.rooms.acoustics.geometry import Room, regular, shoebox
from sonarium.rooms.acoustics.simulator import Acoustics

BOX, HEXAGON = shoebox((8, 8), absorption=0.2), regular(6, 4.0, absorption=0.2)
SOURCES = np.array([[2.6, 3.1], [5.2, 4.7]])


@pytest.mark.parametrize("room", [BOX, HEXAGON])
def test_a_peer_that_moves_hears_as_in_a_fresh_room(room: Room) -> None:
    plain = PlainRoom(room, SOURCES, bench.noise(2, 500), bench.RATE, 4)
    for place, heading in bench.places(room, 3):
        ears = bench.ears_of(place, heading)
        fresh, found = peer(room, SOURCES, ears, bench.RATE, 4).rir, plain.respond(ears)
        for source in range(2):
            for ear in range(2):
                expected = fresh[ear][source]
                assert np.abs(found[source, ear, : len(expected)] - expected).max() < 1e-6
        joined, simply = plain.hear(ears), plain.simulate(ears)
        assert np.abs(simply[:, : joined.shape[1]] - joined).max() < 1e-5 * np.abs(joined).max()


def test_a_step_in_otoworld_plays_the_whole_clip() -> None:
    sounds = bench.noise(2, 500)
    plain = PlainRoom(BOX, SOURCES, sounds, bench.RATE, 3)
    step, ears = OtoWorldStep(plain, SOURCES), bench.ears_of(np.array([4.0, 4.0]), 0.3)
    for _ in range(2):
        heard, reward = step.step(np.array([4.0, 4.0]), ears)
        expected = PlainRoom(BOX, SOURCES, sounds, bench.RATE, 3).hear(ears)
        assert np.abs(heard[:, : expected.shape[1]] - expected).max() < 1e-5 * np.abs(expected).max()
        assert not heard[:, expected.shape[1] :].any() and -0.5 < reward < 1


def test_different_answers_are_not_timed() -> None:
    heard = np.ones((2, 5))
    bench.same(heard, heard + 1e-3)
    for other in (heard + 3e-3, heard * np.nan):
        with pytest.raises(ValueError, match="the two sides differ"):
            bench.same(heard, other)


def test_memory_is_that_of_the_rooms() -> None:
    acoustics = Acoustics(4, 2, 8000, 500, 10)
    for slot in range(4):
        acoustics.enter(slot, HEXAGON, SOURCES, bench.noise(2, 500))
    beams = acoustics.slots.beams.mean()
    # At least position and gain in float64, and six numbers for the two edges in float32.
    assert 2 * beams * (3 * 8 + 6 * 4) < bench.memory(acoustics) < 1e6


def test_the_cases_say_what_was_done_and_that_both_sides_agree(monkeypatch) -> None:
    times = []

    def once(ours, theirs, repeats):
        assert repeats == 2
        ours()
        times.append(repeats)
        return 0.5, 2.0

    monkeypatch.setattr(bench, "interleaved", once)
    monkeypatch.setattr(bench, "faster_threads", lambda *_: 1)
    for name, count in (("POSES", 2), ("TOGETHER", 2), ("HEXAGONS", 2), ("FEW", 4), ("MANY", 8)):
        monkeypatch.setattr(bench, name, count)
    found = bench.cases(repeats=2)
    names = " ".join(row["name"] for row in found)
    assert all(word in names for word in ("shoebox", "hexagon", "whole-clip", "stream", "reset", "memory"))
    assert len(times) == len(found) and all(row["ratio"] == 4 for row in found)
    assert all("order" in row["work"] and "Hz" in row["work"] and "thread" in row["work"] for row in found)
