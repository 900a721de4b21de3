"""Learning rates against their formulas."""

import math

import pytest
from typechecking import unchecked

from sonarium.models.schedule import ScheduleConfig, share


def test_constant_after_a_straight_rise():
    config = ScheduleConfig(warm_up=4)
    assert [share(config, done) for done in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert share(ScheduleConfig(), 0) == share(ScheduleConfig(), 10**9) == 1


def test_noam_is_that_of_its_paper():
    config = ScheduleConfig("noam", warm_up=1000)
    highest = (128 * 1000) ** -0.5
    for update in (1, 10, 999, 1000, 1001, 50_000):
        expected = 128**-0.5 * min(update**-0.5, update * 1000**-1.5)
        assert highest * share(config, update - 1) == pytest.approx(expected)


def test_cosine_falls_to_nothing_and_stays_there():
    config = ScheduleConfig("cosine", warm_up=10, horizon=110)
    assert share(config, 9) == 1
    assert share(config, 59) == pytest.approx(0.5)
    assert share(config, 34) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert share(config, 109) == share(config, 5000) == 0
    with pytest.raises(ValueError, match="horizon=0: say at which update"):
        share(ScheduleConfig("cosine"), 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sine",), "course='sine': give constant, noam or cosine"),
        (("noam", 0), "warm_up=0: give a whole number, for noam of at least 1"),
        (("constant", -1), "warm_up=-1"),
        (("cosine", 100, 100), "horizon=100: give more updates than warm_up"),
    ],
)
def test_impossible_courses_are_refused(words, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        ScheduleConfig(*words)
