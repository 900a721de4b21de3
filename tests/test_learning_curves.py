"""Learning curves that scripts keep of a training; results without curves stay valid."""

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
RESULTS = SCRIPTS.parent / "docs" / "results"


@pytest.fixture
def script(monkeypatch):
    """Function that imports a script by its name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name: str) -> ModuleType:
        return import_module(name)

    return load


@pytest.mark.parametrize("updates", [1, 7, 60, 61, 250])
def test_points_are_means_over_the_episodes_since_the_point_before(script, updates):
    curves, draw = script("learning_curves").Curves(updates), np.random.default_rng(updates)
    ended, returned = draw.integers(0, 4, updates), draw.normal(size=updates).round(2)
    for update in range(1, updates + 1):
        own = float(returned[update - 1]) if ended[update - 1] else 0.0
        curves.add(update, own, int(ended[update - 1]), 8 * update, update / 10, update / 5)
    columns, before = curves.columns, 0
    assert len(columns["steps"]) <= 60
    for steps, cpu_s, wall_s, mean in zip(*columns.values(), strict=True):
        now = steps // 8
        assert (cpu_s, wall_s) == (now / 10, now / 5)
        episodes = np.repeat(returned[before:now], ended[before:now])
        assert mean == pytest.approx(episodes.mean(), abs=1e-3)
        before = now
    assert ended[before:].sum() == 0


def test_the_curve_of_a_run_is_that_of_its_metrics_and_its_clock(script, tmp_path):
    def written(name: str, records: list[dict[str, float]]) -> None:
        (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))

    returns = {
        step: {"episodes/return": float(step), "episodes/success": step / 1000} for step in range(10, 1210, 10)
    }
    written("metrics.jsonl", [{"step": 5, "loss/value": 1.0}, *({"step": n, **own} for n, own in returns.items())])
    assert script("learning_curves").curve_of(tmp_path) is None
    written("clock.jsonl", [{"step": 1200, "items": 12000, "wall_s": 600.0, "cpu_s": 300.0}])
    curve = script("learning_curves").curve_of(tmp_path)
    # Each point is the mean of two records, at the step of the later one.
    assert curve["steps"] == [200.0 * n for n in range(1, 61)]
    assert curve["cpu_s"] == [5.0 * n for n in range(1, 61)] and curve["wall_s"] == [
        10.0 * n for n in range(1, 61)
    ]
    assert curve["return"] == [20.0 * n - 5 for n in range(1, 61)]
    assert curve["success"] == pytest.approx([0.02 * n - 0.005 for n in range(1, 61)])


def test_results_without_curves_have_no_figures_and_those_with_curves_have(script, tmp_path, monkeypatch):
    agents, listening = script("agents_results"), script("listening_results")
    for module in (agents, listening):
        monkeypatch.setattr(module, "FIGURES", tmp_path)
    kept = {"CartPole-v1 fast": [{"seed": 1, "return": 500.0}]}
    played = {"default/100": {"default": {}, "took": {}}}
    assert agents.figures(kept) == [] and listening.figures(played) == [] and not list(tmp_path.iterdir())
    curve = {"steps": [100, 200], "cpu_s": [1.0, 2.0], "wall_s": [1.0, 3.0], "return": [10.0, 20.0]}
    kept["CartPole-v1 fast"].append({"seed": 2, "return": 500.0, "curve": curve})
    played["default/no memory/101"] = {"curve": curve | {"success": [0.0, 1.0]}}
    assert "figures/agents-cartpole-v1.png" in agents.figures(kept)[0]
    assert len(listening.figures(played)) == 3
    assert {path.name for path in tmp_path.iterdir()} == {
        "agents-cartpole-v1.png", "listening-steps.png", "listening-processor.png"
    }  # fmt: skip


def test_the_half_of_an_interval_that_was_cut_is_that_of_its_whole_side(script):
    """The lower limit is clipped at 0, the minimum of the score, and so is nearer to the mean."""
    score = {"mean": 0.018, "std": 0.03, "low": 0.0, "high": 0.06, "count": 5}
    assert script("tones_results").cell(score, 3) == "0.018 ± 0.042"


def test_differences_are_taken_seed_for_seed(script):
    """Only over the seeds that both have."""
    first, second = {"100": 1.0, "101": 2.0, "102": 9.0}, {"100": 0.5, "102": 8.5}
    assert script("cpc_tables").apart(first, second) == "+0.5 ± 0.0"
    assert script("cpc_tables").apart(first, {}) == "–"
