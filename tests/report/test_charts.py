"""Numbers in charts against scikit-learn, and lines against the records."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from sonarium.models.contract import Description
from sonarium.report.charts import BINS, codebook_use, curves, information_map, shared
from sonarium.report.style import png
from sonarium.worlds.contract import Factor

FACTORS = (Factor("shape", ("a", "b", "c")), Factor("size", (0.0, 1.0), "m"))


def make(values: np.ndarray, alive=None, entries=None) -> Description:
    count = values.shape[1]
    names = tuple(f"code {code + 1}" for code in range(count))
    live = np.ones(count, bool) if alive is None else np.array(alive)
    return Description(values, names, np.arange(count, 0, -1.0), ("",) * count, live, entries)


def binned(values: np.ndarray) -> np.ndarray:
    """Bins of equal width from minimum to maximum, with NumPy's edges; no value may lie on an inner one."""
    edges = np.histogram_bin_edges(values, BINS)
    assume((np.abs(values[:, None] - edges[1:-1]) > 2e-5 * (edges[1] - edges[0])).all())
    return np.digitize(values, edges[1:-1])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), clips=st.integers(50, 400))
def test_shares_are_the_mutual_information_over_the_entropy(seed, clips):
    draw = np.random.default_rng(seed)
    factors = np.column_stack([np.arange(clips) % 3.0, draw.normal(size=clips)])
    noise = draw.normal(size=(clips, 3)) * 0.3
    values = np.column_stack([factors[:, 0], factors[:, 1], factors.sum(1)]) + noise
    shares = shared(make(values), factors, FACTORS)
    for code in range(3):
        code_bins = binned(values[:, code])
        for factor, labels in enumerate((factors[:, 0], binned(factors[:, 1]))):
            expected = mutual_info_score(labels, code_bins) / mutual_info_score(labels, labels)
            np.testing.assert_allclose(shares[factor, code], expected, atol=1e-9)


def test_dead_codes_and_constant_factors_tell_nothing():
    draw = np.random.default_rng(0)
    factors = np.column_stack([np.arange(60) % 3.0, np.ones(60)])
    values = np.column_stack([factors[:, 0], draw.normal(size=60), np.full(60, 2.0)])
    shares = shared(make(values, alive=[True, False, True]), factors, FACTORS)
    np.testing.assert_allclose(shares, [[1, 0, 0], [0, 0, 0]])


def test_entries_are_categories_however_many():
    entries = np.arange(120.0)[:, None] % 60
    shares = shared(make(entries, entries=64), np.column_stack([entries % 3, entries]), FACTORS)
    np.testing.assert_allclose(shares[0, 0], 1.0)


def test_the_map_shows_its_numbers_in_the_order_of_worth():
    draw = np.random.default_rng(1)
    factors = np.column_stack([np.arange(90) % 3.0, draw.normal(size=90)])
    values = np.column_stack([factors[:, 1], factors[:, 0], draw.normal(size=90)])
    codes = make(values, alive=[False, True, True])
    axes = information_map(codes, factors, FACTORS).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2", "3", "1"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["shape", "size"]
    shares = shared(codes, factors, FACTORS)[:, [1, 2, 0]]
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), shares)
    marks = {text.get_position(): text.get_text() for text in axes.texts}
    assert marks[(0, 0)] == "100"
    assert marks[(2, 0)] == "dead"


def test_curves_draw_every_metric_of_every_run():
    first = [{"step": 10.0, "loss/total": 3.0, "penalty/kl": 1.0}, {"step": 20.0, "loss/total": 2.0}]
    second = [{"step": 10.0, "loss/total": 4.0, "loss/error": 1e-5}, {"step": 20.0, "loss/error": 1.0}]
    figure = curves({"one": first, "two": second})
    assert figure is not None
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}
    assert list(panels) == ["loss · total", "loss · error", "penalty · kl"]
    one, two = panels["loss · total"].get_lines()
    np.testing.assert_allclose(np.asarray(one.get_xydata(), float), [[10, 3], [20, 2]])
    np.testing.assert_allclose(np.asarray(two.get_xydata(), float), [[10, 4]])
    assert panels["loss · error"].get_yscale() == "log"
    assert panels["loss · total"].get_yscale() == "linear"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]


def test_what_validation_found_is_drawn_with_its_metric():
    records = [
        {"step": 1.0, "loss/total": 3.0}, {"step": 2.0, "loss/total": 2.0},
        {"step": 2.0, "validation/loss/total": 2.5, "validation/return": 1.0},
    ]  # fmt: skip
    figure = curves({"one": records})
    assert figure is not None
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}
    assert list(panels) == ["loss · total", "validation · return"]
    trained, validated = (np.asarray(line.get_xydata(), float) for line in panels["loss · total"].get_lines())
    np.testing.assert_allclose(trained, [[1, 3], [2, 2]])
    np.testing.assert_allclose(validated, [[2, 2.5]])
    assert panels["loss · total"].get_ylim()[1] >= 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["validation"]


def test_no_records_no_curves():
    assert curves({"one": []}) is None
    assert curves({}) is None


def test_codebook_use_is_sorted_and_sums_to_all_clips():
    draw = np.random.default_rng(2)
    values = draw.integers(0, 5, (200, 2)).astype(float)
    figure = codebook_use(make(values, entries=8))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 2
    for code, axes in enumerate(shown):
        highest = np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1].max()
        assert highest == pytest.approx(np.bincount(values[:, code].astype(int)).max() / 2)
        assert np.asarray(axes.lines[0].get_ydata())[0] == pytest.approx(12.5)


def test_names_are_no_formulas_and_powers_of_ten_no_code():
    figure = curves({"$\\frac$": [{"step": 1.0, "a/$x^$": 1.0}, {"step": 2.0, "a/$x^$": 1e6}], "b": []})
    assert figure is not None and len(png(figure)) > 1000
    labels = {text.get_text() for text in figure.axes[0].get_yticklabels()}
    assert "10000" in labels or "1e+06" in labels, labels


def test_chance_is_drawn_beside_its_loss():
    records = [
        {"step": step, "contrast/loss": 3.0 - step, "contrast/chance": 4.0, "other/chance": 1.0}
        for step in (1.0, 2.0)
    ]
    figure = curves({"run": records})
    assert figure is not None
    first, second = figure.axes[:2]
    assert [np.asarray(line.get_ydata())[0] for line in first.get_lines()] == [2.0, 4.0]
    assert first.get_title(loc="left") == "contrast · loss" and second.get_title(loc="left") == "other · chance"
