"""seek-suite on the command line: training in one setting, and scoring a run in several."""

import json

import pytest

from sonarium.commands.faults import UsageError
from sonarium.commands.report import run_page
from sonarium.commands.score import main as score
from sonarium.commands.train import main as train
from sonarium.commands.train import plan_from
from sonarium.report.page import page
from sonarium.rooms import SUITE
from sonarium.runs.plan import RolloutsPlan

BESIDE = ["random", "loudness", "difference", "oracle"]
TRAIN = "ppo --steps 0 --no-pictures --device cpu --envs 1 --rollout-steps 4 --sound-rate 8000"


def test_a_setting_is_an_environment():
    for words in (["--suite", "stops"], ["--suite", "stops", "--env", "sonarium/Seek-v0"]):
        _, plan = plan_from("ppo", ["--run", "x", *words])
        assert isinstance(plan.source, RolloutsPlan) and plan.source.rollouts.env == "sonarium/Seek-stops-v0"
    with pytest.raises(UsageError, match="--suite stops --env CartPole-v1"):
        plan_from("ppo", ["--run", "x", "--suite", "stops", "--env", "CartPole-v1"])
    with pytest.raises(UsageError, match=f"'soft': choose one of {next(iter(SUITE))}"):
        plan_from("ppo", ["--run", "x", "--suite", "soft"])


def test_a_run_is_scored_in_settings_by_name(tmp_path, capsys):
    run = str(tmp_path / "run")
    train([*TRAIN.split(), "--suite", "stops", "--run", run])
    capsys.readouterr()
    score([run, "--suite", "stops", "named-target", "--episodes", "2", "--json"])
    found = json.loads(capsys.readouterr().out)["suite"][run]
    assert list(found) == ["stops", "named-target"]
    for agents in found.values():
        assert list(agents) == [*BESIDE, "agent"] and agents["oracle"]["sna"]["mean"] == 1
        assert all(0 <= one["sna"]["mean"] <= one["success"]["mean"] <= 1 for one in agents.values())
    kept = json.loads((tmp_path / "run" / "suite.json").read_text())
    assert (kept["step"], kept["episodes"], kept["suite"]) == (0, 2, found) and "separation" not in kept
    with pytest.raises(UsageError, match="no setting of seek-suite is called 'soft'"):
        score([run, "--suite", "soft"])


def test_a_run_is_scored_in_the_setting_that_it_was_trained_in(tmp_path, capsys):
    run = tmp_path / "run"
    train([*TRAIN.split(), "--suite", "stops", "--run", str(run)])
    score([str(run), "--suite", "named-target", "--episodes", "2"])
    (run / "metrics.jsonl").write_text('{"step": 1, "episodes/return": 2.0}\n')
    capsys.readouterr()
    score([str(run), "--episodes", "2", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert list(found["suite"][str(run)]) == ["stops"] and "return" in found["runs"][0]["scores"]
    own = found["suite"][str(run)]["stops"]
    assert list(own) == [*BESIDE, "agent"] and {"success", "sna", "spl"} <= own["agent"].keys()
    # The same episodes as with --suite; rows of other settings with the same episodes are kept.
    score([str(run), "--suite", "stops", "--episodes", "2", "--json"])
    assert json.loads(capsys.readouterr().out)["suite"][str(run)]["stops"] == own
    kept = json.loads((run / "suite.json").read_text())
    assert list(kept["suite"]) == ["named-target", "stops"] and kept["suite"]["stops"] == own
    page([run_page(run)], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    for agent, reached in own.items():
        sna = reached["sna"]
        cell = f"{sna['mean']:.2f} [{sna['low']:.2f}, {sna['high']:.2f}]"
        assert f"<td>{agent}</td>" in text and f"<td>{cell}</td>" in text, agent
    score([str(run), "--episodes", "3"])
    said = capsys.readouterr().out
    assert all(word in said for word in (*BESIDE, "stops", "sna", "return", "3 held-out episodes"))
    # Rows with another number of episodes are dropped, as are those with other actions.
    assert list(json.loads((run / "suite.json").read_text())["suite"]) == ["stops"]
    score([str(run), "--suite", "moving", "--episodes", "3", "--sampled", "--json"])
    sampled = json.loads(capsys.readouterr().out)["suite"][str(run)]["moving"]["agent"]
    kept = json.loads((run / "suite.json").read_text())
    assert kept["sampled"] and list(kept["suite"]) == ["moving"]
    page([run_page(run)], tmp_path / "page.html")
    assert "after 0 steps, with sampled actions;" in (tmp_path / "page.html").read_text()
    score([str(run), "--suite", "moving", "--episodes", "3", "--json"])
    assert json.loads(capsys.readouterr().out)["suite"][str(run)]["moving"]["agent"] != sampled


def test_other_environments_have_no_row(tmp_path, capsys):
    run = tmp_path / "run"
    train([*TRAIN.replace(" --sound-rate 8000", "").split(), "--env", "CartPole-v1", "--run", str(run)])
    capsys.readouterr()
    score([str(run), "--episodes", "1", "--json"])
    assert "suite" not in json.loads(capsys.readouterr().out) and not (run / "suite.json").exists()
