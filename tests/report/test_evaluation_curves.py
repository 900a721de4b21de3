"""Evaluation curves against their numbers: intervals over seeds or draws, and error rates."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from typechecking import unchecked

from sonarium.measures.compare.verification import Errors, Trials, errors, thinned
from sonarium.measures.probes.fewlabels import FewLabels
from sonarium.measures.statistics import interval
from sonarium.report.evaluation_curves import drawn, error_chart, few_labels_chart
from sonarium.report.futures import by_horizon


def fresh(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def lines_of(figure) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_xydata(), float) for line in figure.axes[0].get_lines()}


def test_few_label_curves_show_means_and_intervals_over_seeds_or_draws() -> None:
    seeds = [FewLabels((1, 5), fresh(seed).random((4, 2)), 0.25) for seed in range(3)]
    figure = few_labels_chart({"ours": seeds, "control": seeds[:1]}, "few")
    lines = lines_of(figure)
    means = np.array([seed.scores.mean(0) for seed in seeds])
    np.testing.assert_allclose(lines["ours"], np.stack([[1, 5], 100 * means.mean(0)], 1))
    np.testing.assert_allclose(lines["control"][:, 1], 100 * seeds[0].scores.mean(0))
    assert lines["chance"][:, 1].tolist() == [25, 25]
    bands = [np.asarray(one.get_paths()[0].vertices) for one in figure.axes[0].collections]
    for band, values in zip(bands, (means[:, 0], seeds[0].scores[:, 0]), strict=True):
        own = interval(values.tolist())
        assert own.low is not None and own.high is not None
        at_one = band[band[:, 0] == 1, 1]
        assert at_one.min() == pytest.approx(max(0, 100 * own.low))
        assert at_one.max() == pytest.approx(min(100, 100 * own.high))
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "5"]


def test_one_draw_has_no_band() -> None:
    figure = few_labels_chart({"ours": [FewLabels((1, 2), np.array([[0.5, 0.75]]), 0.5)]})
    band = np.asarray(figure.axes[0].collections[0].get_paths()[0].vertices)
    assert set(band[:, 1]) == {50, 75}


def test_errors_of_gaussians_lie_on_a_line_through_their_equal_rate() -> None:
    steps = norm.ppf((np.arange(3000) + 0.5) / 3000)
    trials = Trials(np.concatenate([steps + 2, steps]), np.arange(6000) < 3000)
    figure = error_chart({"ours": errors(trials)})
    drawn = lines_of(figure)["ours"]
    inside = drawn[(np.abs(drawn) < 2.5).all(1)]
    np.testing.assert_allclose(inside.sum(1), -2, atol=0.05)  # normal deviates of miss and false-alarm rates
    ticks = dict(
        zip(figure.axes[0].get_xticks(), [one.get_text() for one in figure.axes[0].get_xticklabels()], strict=True)
    )
    assert {round(float(norm.cdf(place)), 6): text for place, text in ticks.items()}[0.05] == "5"


def test_thinned_curves_keep_every_turn_and_lie_on_the_whole_one() -> None:
    trials = Trials(fresh().normal(size=40_000), fresh(1).random(40_000) < 0.1)
    whole, kept = errors(trials), thinned(errors(trials))
    assert len(kept.miss) < len(whole.miss) / 20
    points = set(zip(whole.miss, whole.false_alarm, strict=True))
    assert points >= set(zip(kept.miss, kept.false_alarm, strict=True))
    for rate in ("miss", "false_alarm"):
        ends = [getattr(whole, rate)[place] for place in (0, -1)]
        assert [getattr(kept, rate)[place] for place in (0, -1)] == ends
    between = np.interp(whole.threshold[1:-1], kept.threshold[:-1], kept.miss[:-1])
    shown = (whole.miss[1:-1] > 0.001) & (whole.miss[1:-1] < 0.999)
    away = np.abs(norm.ppf(between[shown]) - norm.ppf(whole.miss[1:-1][shown]))
    assert away.max() < 0.03


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_few_trials_keep_every_step(pairs: list[tuple[int, bool]]) -> None:
    scores, same = (np.array(column) for column in zip(*pairs, strict=True))
    if same.all() or not same.any():
        return
    whole, kept = errors(Trials(scores.astype(float), same)), thinned(errors(Trials(scores.astype(float), same)))
    assert set(zip(whole.miss, whole.false_alarm, strict=True)) == set(
        zip(kept.miss, kept.false_alarm, strict=True)
    )


def scored(*counts: int, seed: int = 0) -> dict[str, Any]:
    """The curves of a `scores.json`."""
    curve = {"counts": list(counts), "scores": fresh(seed).random((3, len(counts))).tolist(), "chance": 0.1}
    rates = {"miss": [0.0, 0.4, 1.0], "false_alarm": [1.0, 0.2, 0.0]}
    ears = ("scores", "log_mel", "random")
    return {
        "curves": {
            kind: dict.fromkeys(ears, one)
            for kind, one in (("few-labels/digit", curve), ("errors/speaker", rates))
        }
    }


def test_curves_of_scores_are_drawn_with_their_controls() -> None:
    (title, caption, figure), (verified, of_two, rates) = drawn([scored(1, 2, 5)])
    assert (
        title == "Digit from few labels"
        and "fitted to as well" in caption
        and "draws" in caption
        and verified == "Speaker verification"
    )
    assert lines_of(figure).keys() == {"codes", "log-mel", "untrained", "chance"}
    np.testing.assert_allclose(lines_of(rates)["codes"][1], norm.ppf([0.2, 0.4]))
    assert "first of the seeds" not in of_two


def test_seeds_share_the_counts_that_all_have() -> None:
    first, second = scored(1, 2, 5), scored(1, 5, 10, seed=1)
    (_, caption, figure), (_, of_two, _) = drawn([first, {"scores": {}}, second])
    means = [np.mean(one["curves"]["few-labels/digit"]["scores"]["scores"], 0) for one in (first, second)]
    expected = 50 * (means[0][[0, 2]] + means[1][[0, 1]])
    np.testing.assert_allclose(lines_of(figure)["codes"], np.stack([[1, 5], expected], 1))
    assert "training seeds" in caption and "first of the seeds" in of_two
    assert list(drawn([{"scores": {"mig": 1.0}}])) == []


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: few_labels_chart({}), "no curves came"),
        (lambda: few_labels_chart({"a": []}), "no curves came"),
        (lambda: error_chart({}), "no curves came"),
        (
            lambda: few_labels_chart(
                {"a": [FewLabels((1,), np.ones((1, 1)), 0), FewLabels((2,), np.ones((1, 1)), 0)]}
            ),
            "different counts",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(ask, says) -> None:
    with unchecked(), pytest.raises(ValueError, match=says):
        ask()


def test_a_curve_that_the_chart_does_not_show_is_named_with_the_reason() -> None:
    grades = np.linspace(0, 1, 101)
    curves = {
        "shown": Errors(grades, grades, 1 - grades),
        "perfect": Errors(np.arange(3.0), np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])),
        "nearly": Errors(np.arange(3.0), np.array([0.0, 1e-4, 1.0]), np.array([1.0, 1e-4, 0.0])),
        "hopeless": Errors(np.arange(3.0), np.array([0.0, 0.9, 1.0]), np.array([1.0, 0.9, 0.0])),
    }
    [legend] = error_chart(curves).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "shown",
        "perfect (not on the chart: no errors)",
        "nearly (not on the chart: below 0.1 %)",
        "hopeless (not on the chart: above 80 %)",
    ]


def test_forecasts_are_drawn_by_horizon() -> None:
    curve = {"seconds": [0.1, 0.4], "values": [0.8, 0.5]}
    other = {"seconds": [0.1, 0.4], "values": [0.3, 0.2]}
    [(title, caption, figure)] = drawn([{"curves": {"horizons/near": {"scores": curve, "gru_ar": other}}}])
    lines = lines_of(figure)
    assert "neighbours" in title and "three before and after" in caption
    np.testing.assert_allclose(lines["codes"], [[100, 0.8], [400, 0.5]])
    np.testing.assert_allclose(lines["GRU-AR"][:, 1], [0.3, 0.2])
    assert not list(drawn([{"curves": {"horizons/unheard of": {"scores": curve}}}]))
    for damaged in (
        {"seconds": [0.1], "values": [0.8, 0.5]}, {"seconds": [-0.1, 0.4], "values": [1.0, 1.0]}, {"seconds": "x"},
        3, {"seconds": [0.2, 0.4], "values": [0.8, 0.5]},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="score the run again"):
            list(drawn([{"curves": {"horizons/near": {"scores": curve, "gru_ar": damaged}}}]))


def test_every_line_looks_different() -> None:
    """There are more models than colours."""
    names = [str(number) for number in range(9)]
    rates = Errors(np.arange(2.0), np.array([0.1, 0.2]), np.array([0.4, 0.3]))
    for figure in (
        by_horizon([0.1, 0.2], {name: [0.3, 0.4] for name in names}, "", ""),
        error_chart(dict.fromkeys(names, rates)),
    ):
        lines = [line for line in figure.axes[0].lines if str(line.get_label()) in names]
        assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 9
        assert not figure.axes[0].get_legend() and len(figure.legends) == 1, "beside the lines, not upon them"
