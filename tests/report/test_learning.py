"""Training charts of agents against the records, closed forms and brute force."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonarium.report.learning import (
    Axis,
    Seed,
    axes_of,
    beside_each_other,
    charts,
    episodes_chart,
    quartiles,
    smoothed,
    told_apart,
    updates_chart,
)
from sonarium.report.style import png

STEPS = Axis("steps of the environment", "items")


def seed(
    slope: float = 1.0, records: int = 40, validation: dict[int, float] | None = None, **changes: Any
) -> Seed:
    """A run whose return rises by `slope` per update, each of 10 steps of the environment and 0.25 s."""
    same = {"episodes/reward": 1.0}
    metrics = [
        {"step": n, "episodes/return": slope * n, "episodes/length": 5.0 + n, "loss/value": 1 / n, **same}
        for n in range(1, records + 1)
    ]
    metrics += [{"step": n, "validation/return": value} for n, value in (validation or {}).items()]
    clock = [{"step": n, "items": 10 * n, "wall_s": n / 4, "cpu_s": n / 5} for n in range(1, records + 1)]
    return Seed(**({"metrics": metrics, "clock": clock} | changes))


def lines_of(axes: Any) -> dict[str, np.ndarray]:
    """Data of the lines, by their label in the legend."""
    return {line.get_label(): np.asarray(line.get_xydata()) for line in axes.get_lines()}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_smoothing_is_the_mean_of_a_window_that_fits(values):
    own, reach = np.array(values), round(0.05 * len(values) / 2)
    for place, found in enumerate(smoothed(own)):
        near = min(reach, place, len(values) - 1 - place)
        assert found == pytest.approx(own[place - near : place + near + 1].mean(), abs=1e-6)


def test_a_line_stays_as_it_is_when_it_is_smoothed():
    line = 3.0 * np.arange(100)
    np.testing.assert_allclose(smoothed(line), line)
    still = np.full(40, 0.6)
    np.testing.assert_array_equal(smoothed(still), still)


def test_the_band_is_that_of_the_quartiles_where_all_seeds_are():
    places = [np.arange(first, last + 1.0) for first, last in ((0, 10), (2, 12), (1, 20), (0, 30), (0, 11))]
    slopes = (1, 2, 3, 4, 5)
    found = quartiles([(x, slope * x) for x, slope in zip(places, slopes, strict=True)])
    assert found is not None
    grid, band = found
    assert (grid[0], grid[-1]) == (2, 10)
    np.testing.assert_allclose(band, [2 * grid, 3 * grid, 4 * grid])
    assert quartiles([(places[0], places[0]), (places[0] + 50, places[0])]) is None


def test_curves_stand_at_the_steps_of_the_environment_and_at_the_time():
    clock = [{"step": 4, "items": 400, "wall_s": 2.0}, {"step": 8, "items": 1200, "wall_s": 3.0}]
    one = Seed([{"step": 4, "loss/value": 1.0}, {"step": 6, "loss/value": 2.0}], clock)
    steps, time = axes_of([one])
    assert (steps.name, time.name) == ("steps of the environment", "wall-clock time (seconds)")
    np.testing.assert_allclose(steps.at(one, np.array([0.0, 2, 4, 6, 8])), [0, 200, 400, 800, 1200])
    np.testing.assert_allclose(time.at(one, np.array([2.0, 6])), [1, 2.5])


@pytest.mark.parametrize(("longest", "unit"), [(170, "seconds"), (200, "minutes"), (9000, "hours")])
def test_time_has_a_unit_in_which_it_can_be_read(longest, unit):
    one = Seed([], [{"step": 1, "items": 1, "wall_s": longest}])
    time = axes_of([one])[1]
    assert time.name == f"wall-clock time ({unit})"
    assert time.at(one, np.array([1.0]))[0] == longest / {"seconds": 1, "minutes": 60, "hours": 3600}[unit]


def test_what_was_not_timed_is_drawn_against_what_is_known():
    assert [axis.name for axis in axes_of([seed(), seed(clock=[])])] == ["training steps"]
    estimated = seed(clock=[{"step": 40, "items": 4000}])
    assert [axis.name for axis in axes_of([estimated])] == ["steps of the environment"]
    np.testing.assert_allclose(STEPS.at(estimated, np.array([1.0, 40])), [100, 4000])


def test_one_seed_is_drawn_as_recorded_and_smoothed_with_its_validation():
    one = seed(validation={10: 3.0, 20: 9.0, 30: 9.0, 40: 5.0})
    noisy = [
        {**record, "episodes/return": float(record["step"] % 2)} if "episodes/return" in record else record
        for record in one.metrics
    ]
    figure = episodes_chart([Seed(noisy, one.clock)], axes_of([one]))
    assert figure is not None
    grid = np.reshape(np.array(figure.axes, object), (2, 2))
    found = lines_of(grid[0, 0])
    np.testing.assert_allclose(found["as recorded"], [[10 * n, n % 2] for n in range(1, 41)])
    np.testing.assert_allclose(found["smoothed"][:, 1], smoothed(np.arange(1, 41) % 2.0))
    np.testing.assert_allclose(found["validation"], [[100, 3], [200, 9], [300, 9], [400, 5]])
    # Of equally good weights, the first are kept.
    np.testing.assert_allclose(found["best in validation"], [[200, 9]])
    np.testing.assert_allclose(lines_of(grid[0, 1])["best in validation"], [[5, 9]])
    assert [axes.get_ylabel() for axes in grid[:, 0]] == ["return of an episode", "steps of an episode"]
    assert [axes.get_xlabel() for axes in grid[1]] == ["steps of the environment", "wall-clock time (seconds)"]


def test_several_seeds_are_a_median_within_a_band():
    some = [seed(slope) for slope in (1.0, 2.0, 6.0)]
    figure = episodes_chart(some, [STEPS])
    assert figure is not None
    axes = figure.axes[0]
    middle = lines_of(axes)["median of 3 seeds"]
    np.testing.assert_allclose(middle[:, 1], 2 * middle[:, 0] / 10)
    [band] = axes.collections
    corners = np.asarray(band.get_paths()[0].vertices)
    # Halfway between the outer seeds and the median.
    assert corners[:, 1].max() == pytest.approx(4 * 40) and corners[:, 1].min() == pytest.approx(1.5)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "each seed", "interquartile range", "median of 3 seeds"
    ]  # fmt: skip


def test_what_never_changes_or_is_the_same_again_is_left_out():
    assert told_apart([seed()]) == ["episodes/return", "episodes/length"]
    same = [
        {"step": n, "episodes/return": float(n), "episodes/length": float(n), "episodes/success": 0.0}
        for n in (1, 2)
    ]
    assert told_apart([Seed(same, [])]) == ["episodes/return"]
    assert told_apart([Seed([{"step": 1, "loss/value": 1.0}], [])]) == []


def test_success_has_the_whole_range():
    records = [{"step": n, "episodes/return": float(n), "episodes/success": 0.4 + n / 100} for n in (1, 2)]
    figure = episodes_chart([Seed(records, [])], axes_of([Seed(records, [])]))
    assert figure is not None
    low, high = figure.axes[1].get_ylim()
    assert low < 0 and high > 1 and figure.axes[1].get_ylabel() == "share of successes"


def test_losses_are_drawn_against_steps_and_on_request_against_time():
    found = list(charts([seed(validation={40: 1.0})]))
    assert [(one.title, one.folded) for one in found] == [
        ("Episodes", False),
        ("Losses and other metrics against steps of the environment", False),
        ("Losses and other metrics against wall-clock time", True),
    ]
    panels = [axes for axes in found[1].figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["loss · value"]
    assert "Diamonds are validation" in found[0].caption
    assert all(len(png(one.figure)) > 1000 for one in found)
    assert list(charts([Seed([], [])])) == []


def test_a_metric_that_some_seeds_lack_is_drawn_of_the_others():
    short = seed(metrics=[{"step": 1, "episodes/return": 1.0}])
    figure = updates_chart([seed(), short], STEPS)
    assert figure is not None and "smoothed" in lines_of(figure.axes[0])


def test_agents_stand_beside_each_other():
    slow = seed(clock=[{"step": 40, "items": 400, "wall_s": 1000.0}])
    figure = beside_each_other({"ppo": [seed(1.0), seed(3.0)], "dqn": [slow]})
    assert figure is not None
    steps, time = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ppo", "dqn"]
    middle = lines_of(steps)["ppo"]
    np.testing.assert_allclose(middle[:, 1], 2 * middle[:, 0] / 10)
    assert (steps.get_xscale(), time.get_xscale()) == ("linear", "log")
    assert beside_each_other({"ppo": [Seed([], [])], "dqn": [Seed([], [])]}) is None


def test_numbers_of_any_size_are_drawn():
    records = [
        {"step": n, "episodes/return": value, "loss/value": -value} for n, value in enumerate((1e300, -1e300, 0))
    ]
    clock = [{"step": 2, "items": -5.0, "wall_s": -1.0}, {"step": 1, "items": 1e300, "wall_s": 1e-300}]
    for one in charts([Seed(records, clock)]):
        assert len(png(one.figure)) > 1000
