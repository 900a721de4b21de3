"""One aggregation: unlike evaluations are never averaged, and terminal, JSON and page show equal numbers."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from sonarium.commands.scoretable import number, show
from sonarium.evaluation.aggregate import Record, grouped, numbers, summary, tables
from sonarium.evaluation.meanings import explained, meaning, read, recorded
from sonarium.measures.contract import Meaning
from sonarium.report.page import RunPage, number_text, page

Values = Sequence[float]


def record(seed: int, value: float, key: str = "clips/word", **changes: Any) -> Record:
    found = {
        "protocol": "ridge probes",
        "step": 100,
        "settings": {"max_clips": 2000},
        "scores": {key: value},
        "controls": {"mfcc": {key: value / 2}, "chance": {key: 0.1}},
    } | changes
    config = {"model": "cpc", "preset": "default", "fit": {"seed": seed, "test": 0.2}}
    return Record(f"run-{seed}", "cpc", "recordings (speech)", config, found)


def planted(seed: int, score: float) -> Record:
    """A run whose chance level is that of its own codes."""
    spread = {"mean": score / 10, "std": 0.01, "low": 0.0, "high": 0.07, "count": 5}
    controls = {"pca": {"mig": 0.2}, "chance": {"mig": spread["mean"]}}
    found = {"scores": {"mig": score}, "controls": controls, "noise": {"mig": spread}, "protocol": "standard"}
    return record(seed, 0.0, **found)


def test_chance_of_a_run_s_own_codes_stands_beside_it_with_its_interval(tmp_path):
    one, other = planted(0, 0.5), planted(1, 0.3)
    runs = [one, replace(other, config={**other.config, "preset": "other"})]
    groups = grouped(runs)
    assert [group.scores["mig"].controls["chance"].mean for group in groups] == pytest.approx([0.05, 0.03])
    assert "chance" not in tables(groups)[0].controls()
    words = terminal(groups)
    assert words.count("chance") == 3 and ".05 [.00, .07]" in words and ".03 [.00, .07]" in words
    assert "Brackets of chance hold 95 % of single draws of it." in words
    pages = [RunPage(one.run, "cpc", "recordings", one.config, {}, [], one.evaluation, None) for one in runs]
    page(pages, tmp_path / "page.html")
    assert "chance&nbsp;0.05&nbsp;[0.00,&nbsp;0.07]" in (tmp_path / "page.html").read_text()


def test_over_seeds_chance_has_the_interval_of_its_mean():
    (group,) = grouped([planted(0, 0.5), planted(1, 0.3), planted(2, 0.4)])
    low, high = stats.t.interval(0.95, 2, loc=0.04, scale=stats.sem([0.05, 0.03, 0.04]))
    chance = group.scores["mig"].controls["chance"]
    assert (chance.mean, chance.low, chance.high) == pytest.approx((0.04, low, high))
    assert "Brackets of chance" not in terminal([group])


def terminal(groups: Any) -> str:
    console = Console(file=StringIO(), width=160, color_system=None)
    show(tables(groups), console)
    return " ".join(console.file.getvalue().split())  # pyright: ignore[reportAttributeAccessIssue]


def test_a_table_of_more_controls_leaves_out_rows_that_none_of_them_has():
    keys = [f"frames/{name}" for name in ("one", "other", "third")]
    beside = {f"control number {at}": {key: 0.25} for at, key in enumerate(keys * 4)}
    made = record(0, 0.5, scores=dict.fromkeys(keys, 0.5), controls=beside)
    console = Console(file=StringIO(), width=60, color_system=None)
    show(tables(grouped([made])), console)
    _, *later = console.file.getvalue().split("(more controls)")  # pyright: ignore[reportAttributeAccessIssue]
    rows = [line for text in later for line in text.splitlines() if line.startswith(("one", "other", "third"))]
    assert rows and all(".25" in row for row in rows) and len(rows) < 3 * len(later)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"max_clips": 20}},
        {"protocol": "mlp probes"},
        {"step": 200},
        {"settings": None},
    ],
)
def test_runs_that_were_evaluated_otherwise_are_not_averaged(changes):
    """0.9 and 0.5 must not become 0.70, since the second was evaluated with other settings."""
    groups = grouped([record(0, 0.9), record(1, 0.5, **changes)])
    assert [group.scores["clips/word"].value.mean for group in groups] == [0.9, 0.5]
    assert all(group.scores["clips/word"].value.low is None for group in groups)


def test_runs_of_other_configurations_stand_apart():
    other = record(1, 0.5)
    other.config["fit"]["test"] = 0.5
    assert len(grouped([record(0, 0.9), other])) == 2


def test_seeds_are_averaged_with_student_s_interval_and_so_are_controls():
    values = [0.41, 0.52, 0.45]
    (group,) = grouped([record(seed, value) for seed, value in enumerate(values)])
    score = group.scores["clips/word"]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (score.value.mean, score.value.low, score.value.high) == pytest.approx((np.mean(values), low, high))
    assert score.controls["mfcc"].mean == pytest.approx(np.mean(values) / 2)
    assert score.controls["mfcc"].low == pytest.approx(low / 2)


def test_seeds_of_upstream_runs_have_their_best_weights_at_different_steps():
    for best, groups in ((True, 1), (False, 2)):
        runs = [record(seed, 0.5) for seed in (0, 1)]
        below = [{"upstream": {"step": step, "best": best, "plan": {}}} for step in (3, 5)]
        runs = [replace(run, config={**run.config, **one}) for run, one in zip(runs, below, strict=True)]
        assert len(grouped(runs)) == groups


def test_a_seed_that_comes_twice_counts_once():
    (group,) = grouped([record(0, 0.4), record(0, 0.8), record(1, 0.6)])
    assert group.scores["clips/word"].value.count == 2
    assert group.scores["clips/word"].value.mean == pytest.approx(0.5)
    assert [one.run for one in group.scored] == ["run-0", "run-1"]


@pytest.mark.parametrize(
    ("key", "values", "low", "high"),
    [
        ("clips/word", (0.2, 0.9), 0.0, 1.0),
        ("number/level", (-0.5, 0.9), None, 1.0),
        ("dead_codes", (0.0, 3.0), 0.0, None),
        ("unheard_of", (0.0, 3.0), None, None),
    ],
)
def test_intervals_end_where_the_range_of_a_score_does(key, values, low, high):
    (group,) = grouped([record(seed, value, key) for seed, value in enumerate(values)])
    found, half = group.scores[key].value, 12.7062 * abs(values[1] - values[0]) / 2
    for end, limit, free in ((found.low, low, np.mean(values) - half), (found.high, high, np.mean(values) + half)):
        assert end == pytest.approx(free if limit is None else limit, rel=1e-4)


def shown_on_terminal(records: list[Record]) -> list[float]:
    console = Console(width=200, file=StringIO(), record=True)
    show(tables(grouped(records)), console)
    return values_of(next(line for line in console.export_text().splitlines() if line.startswith("word ")))


def shown_as_json(records: list[Record]) -> list[float]:
    rows = {row["control"]: row["scores"]["clips/word"] for row in summary(grouped(records)[0])}
    # The chance level is the same for all seeds, and has no interval.
    ends = [
        row[name]
        for row in rows.values()
        for name in ("mean", "low", "high")
        if row["low"] != row["high"] or name == "mean"
    ]
    return [round(value, 2) for value in ends]


def shown_on_page(records: list[Record], out: Any) -> list[float]:
    pages = [RunPage(one.run, one.title, one.world, one.config, {}, [], one.evaluation, None) for one in records]
    page(pages, out)
    text = re.sub(r"<svg.*?</svg>|<[^>]*>", " ", out.read_text().partition("<tbody>")[2].partition("</tbody>")[0])
    return values_of(text)


def values_of(text: str) -> list[float]:
    return [float(number.replace("−", "-")) for number in re.findall(r"−?\d*\.\d+", text)]


@pytest.mark.parametrize("values", [(0.2, 0.9), (0.41, 0.52), (0.93, 0.99)])
def test_terminal_json_and_page_show_equal_numbers(values, tmp_path):
    records = [record(seed, value) for seed, value in enumerate(values)]
    found = shown_as_json(records)
    assert len(found) == 7 and found == shown_on_terminal(records) == shown_on_page(records, tmp_path / "a.html")


def test_records_of_version_0_1_are_read():
    old = {
        "protocol": "standard",
        "step": 10,
        "clips": 40,
        "scores": {"mig": 0.4, "dead_codes": 2, "notes": ["few clips"]},
        "controls": {"pca": {"mig": 0.1, "notes": []}},
        "seeds": 1,
        "likelihood": {"elbo": -3.0, "iwae": -2.5},
    }
    (group,) = grouped([Record("run", "vae", "tones", {"fit": {"seed": 0}}, old)])
    assert set(group.scores) == {"mig", "dead_codes", "elbo", "iwae"}
    assert json.loads(json.dumps(summary(group)))[1]["scores"]["mig"]["mean"] == 0.1


def test_meanings_of_other_packages_are_read_from_the_record():
    own = Meaning("Loudness error", "How far the level is missed, in decibels.", 0.0, None, rising=False)
    one = record(0, 3.0, "loudness", meanings=recorded({"loudness": own}))
    assert grouped([one])[0].scores["loudness"].meaning == own
    assert meaning("loudness") != own and read({"x": {"name": 1}, "y": 3, "z": {"name": "", "sentence": 2}}) == {}
    assert read(None) == {} and read({"a": asdict(own)}) == {"a": own}


def test_no_number_is_less_than_nothing_by_rounding():
    share, nats = Meaning("share", ""), Meaning("nats", "", None, None)
    assert number(share, -0.001) == ".00" and number(nats, -0.001) == "0.0"
    assert number_text(-0.001, share) == number_text(-0.001, nats) == "0.00"


def test_only_finite_numbers_are_scores():
    given = {"a": 1, "b": 0.5, "c": float("inf"), "d": "x", "e": None, "f": True, "g": [1]}
    assert numbers(given) == {"a": 1.0, "b": 0.5}
    assert numbers(None) == {}


def marked(one: Values, other: Values, key: str = "clips/word", control: float = 0.0) -> list[bool]:
    """For each of two models, given its scores by seed: whether it is marked as the best."""
    records = [
        replace(record(seed, value, key, controls={"pca": {key: control}}), title=title)
        for title, values in (("one", one), ("other", other))
        for seed, value in enumerate(values)
    ]
    (table,) = tables(grouped(records))
    return table.best(key)


LOW, HIGH = (0.40, 0.41, 0.42), (0.50, 0.51, 0.52)
"""Scores whose Student's intervals are ±.025."""


def test_the_best_is_marked_where_intervals_support_it():
    assert marked(LOW, HIGH) == [False, True] and marked(HIGH, LOW) == [True, False]
    assert marked(LOW, HIGH, "eer/word", control=1.0) == [True, False]
    assert marked((-4.0, -4.1, -4.2), (-3.0, -3.1, -3.2), "elbo", control=-9.0) == [False, True]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0.4,), (0.9,)),
        (LOW, (0.9,)),
        ((0.2, 0.41, 0.62), HIGH),
        (LOW, (0.42, 0.43, 0.44)),
        (LOW, LOW),
    ],
)
def test_without_support_none_is_best(one, other):
    """Single runs, several seeds against a single run, overlapping intervals, and equal scores."""
    assert marked(one, other) == [False, False] == marked(other, one)


def test_a_control_that_is_as_good_or_a_count_leaves_no_best():
    assert marked(LOW, HIGH, control=0.49) == [False, False]
    assert marked((1.0, 1.0), (4.0, 4.0), "dead_codes") == [False, False]
    (alone,) = tables(grouped([record(seed, value) for seed, value in enumerate(HIGH)]))
    assert alone.best("clips/word") == [False]


def test_limits_need_not_be_beaten():
    key = "next/coverage of 8"
    records = [
        replace(record(seed, value, key, controls={"planted": {key: 0.9}, "hmm": {key: 0.2}}), title=title)
        for title, values in (("one", LOW), ("other", HIGH))
        for seed, value in enumerate(values)
    ]
    (table,) = tables(grouped(records))
    assert table.best(key) == [False, True]
    assert explained(["hmm"]).endswith("better than all of these.")
    assert explained(["hmm", "planted", "real"]).endswith("but for the limits: planted, real.")


def test_likelihoods_of_other_features_are_not_compared():
    """SynTone's input has fewer bins, so its ELBO is higher for any model."""
    records = [
        replace(record(seed, value, "elbo"), title=str(hop), config=config(seed, hop))
        for hop, values in ((128, (-9.0, -9.1, -9.2)), (512, (-3.0, -3.1, -3.2)))
        for seed, value in enumerate(values)
    ]
    for alike, expected in [(False, [False, False]), (True, [False, True])]:
        given = [replace(one, config=config(one.config["loop"]["seed"], 128)) if alike else one for one in records]
        (table,) = tables(grouped([without_controls(one) for one in given]))
        assert table.best("elbo") == expected


def config(seed: int, hop: int) -> dict[str, Any]:
    return {"model": {"name": "vae", "config": {"front": {"hop": hop}}}, "loop": {"seed": seed}}


def without_controls(one: Record) -> Record:
    return replace(one, evaluation={**(one.evaluation or {}), "controls": {}})


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=4),
    st.lists(st.floats(0, 1), min_size=2, max_size=4),
)
@settings(max_examples=50, deadline=None)
def test_the_best_lies_apart(one, other):
    """Against recomputed Student's intervals: at most one is the best, and only if they are disjoint."""

    def ends(values: list[float]) -> tuple[float, float]:
        half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
        return np.mean(values) - half, np.mean(values) + half

    (low, high), (least, most) = ends(one), ends(other)
    assume(min(abs(low - most), abs(least - high), abs(low), abs(least)) > 1e-9)
    assert marked(one, other) == [low > max(most, 0.0), least > max(high, 0.0)]


def played(seed: int, value: float) -> Record:
    found = {"protocol": "episodes", "scores": {"return": value, "length": 2.0}}
    found["controls"] = {"random_actions": {"return": value / 2}}
    return Record(f"run-{seed}", "ppo", "CartPole-v1", {"loop": {"seed": seed}}, found)


def test_returns_of_agents_have_an_interquartile_mean_over_seeds():
    values = [500.0, 500.0, 480.0, 9.0, 460.0]
    [group] = grouped([played(seed, value) for seed, value in enumerate(values)])
    assert list(group.scores) == ["return", "return-iqm", "length"]
    middle = group.scores["return-iqm"]
    assert middle.value.mean == 480.0 and middle.value.count == 5
    assert middle.controls["random_actions"].mean == 240.0
    assert middle.value.low is not None and 9.0 <= middle.value.low < 480.0
    assert "interquartile" in terminal([group])
    [alone] = grouped([played(0, 500.0)])
    assert list(alone.scores) == ["return", "length"]
