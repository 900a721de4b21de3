"""Figures of grammar and development: which states and transitions are drawn, and the order of states and days."""

import numpy as np
import pytest

from sonarium.evaluation.development import Day, Development, Part
from sonarium.report.grammar import development_chart, grammar_graph, grammars_by_day, ordered, places
from sonarium.report.style import pixels

RING = np.roll(np.eye(4), 1, 1)


def day(name, value, low=None, high=None):
    parts = {part: Part(value, low, high) for part in ("spectrum", "timing", "grammar", "total")}
    entropies = {"start": 1.0, "transition": 0.5, "emission": 2.0}
    return Day(name, 3, 9, parts, value, 0.1, entropies, 4, np.full(4, 0.25), RING)


def developed(*days):
    floor: dict[str, float | None] = dict.fromkeys(("spectrum", "timing", "grammar", "total"), 0.2)
    return Development("bird 1", "tutor", "syllables", tuple("abcd"), floor, days, ())


def test_states_stand_behind_the_one_that_they_follow_and_rare_ones_are_left_out():
    assert ordered(RING, np.array([0.1, 0.4, 0.3, 0.2])) == [1, 2, 3, 0]
    assert ordered(RING, np.array([0.1, 0.5, 0.4, 0.0001])) == [1, 2, 0]
    assert ordered(RING, np.zeros(4)) == []


def test_a_transition_is_drawn_where_it_is_likely():
    occupancy = np.full(4, 0.25)
    bare = pixels(grammar_graph(occupancy, np.zeros((4, 4)), list("abcd")))
    ring = pixels(grammar_graph(occupancy, RING, list("abcd")))
    rare = pixels(grammar_graph(occupancy, 0.01 * RING, list("abcd")))
    loops = pixels(grammar_graph(occupancy, np.eye(4), list("abcd")))
    assert np.array_equal(bare, rare) and not np.array_equal(bare, ring) and not np.array_equal(bare, loops)


def test_days_stand_at_their_numbers():
    assert places(["day²", "day³"])[1] == ["day²", "day³"], "no numbers"
    at, labels = places(["day 45", "day 90"])
    assert at.tolist() == [45, 90] and labels == ["45", "90"]
    assert places(["2020-09-30", "2020-10-01"])[0].tolist() == [0, 1] and places(["early", "late"])[1] == [
        "early",
        "late",
    ]


@pytest.mark.parametrize("days", [1, 2, 6])
def test_any_number_of_days_is_drawn(days):
    found = developed(
        *(day(f"day {one + 40}", 5.0 - one / 2, 4.0 - one / 2, 6.0) for one in range(days)), day("tutor", 0.0)
    )
    figure = development_chart(found)
    assert [np.size(axes.get_lines()[0].get_xdata()) for axes in figure.axes] == [days] * 4
    shown = [axes.get_title(loc="left") for axes in grammars_by_day(found).axes]
    assert shown[-1] == "tutor" and shown[0] == "day 40" and len(shown) == min(days, 3) + 1
