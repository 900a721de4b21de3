"""Progress without a terminal: occasional lines, timed by a fake clock."""

import re

from sonarium.commands.progress import LATEST, SOONEST, Lines, duration


class Watched:
    def __init__(self) -> None:
        self.now, self.said = 0.0, []
        self.lines = Lines(lambda: self.now, self.said.append)

    def report(self, seconds: float, done: int, total: int = 1000, stage: str = "training") -> None:
        self.now += seconds
        self.lines.report(stage, done, total, {"loss/total": 1.5})


def test_what_is_quickly_done_is_not_told():
    watched = Watched()
    for step in range(1, 1001):
        watched.report(0.9 * SOONEST / 1000, step)
    assert watched.said == []


def test_a_line_every_tenth_and_at_the_latest_after_half_a_minute():
    watched = Watched()
    for step in range(1, 1001):
        watched.report(0.5, step)
    assert len(watched.said) == 1000 * 0.5 // LATEST
    watched = Watched()
    for step in range(1, 1001):
        watched.report(0.2, step)
    # A tenth takes 20 s, less than half a minute.
    assert len(watched.said) == 10
    assert watched.said[4] == "training: 500 of 1000 (50%), 5.01/s, 100 s left, total 1.5"
    watched = Watched()
    for step in range(1, 11):
        watched.report(3 * LATEST, step, 10)
    assert len(watched.said) == 10


def test_a_stage_that_reports_nothing_is_told_all_the_same():
    watched = Watched()
    watched.report(0, 0, 4, "evaluating")
    for _ in range(100):
        watched.now += 1
        watched.lines.tick()
    assert watched.said == ["evaluating: 0 of 4 (0%), total 1.5"] * 3


def test_the_speed_of_a_resumed_training_is_its_own():
    watched = Watched()
    for step in range(901, 1001):
        watched.report(1, step)
    assert re.search(r"930 of 1000 \(93%\), 1\.\d+/s", watched.said[0]), watched.said


def test_durations_are_told_in_the_largest_unit_of_which_there_are_two():
    assert [duration(seconds) for seconds in (0.4, 119, 120, 7199, 7200)] == [
        "0 s",
        "119 s",
        "2 min",
        "120 min",
        "2 h",
    ]
