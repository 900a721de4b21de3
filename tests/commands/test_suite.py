"""seek-suite in the verbs: training in a setting, and scoring a run in several."""

import json

import pytest

from sonarium.commands.faults import UsageError
from sonarium.commands.score import main as score
from sonarium.commands.train import main as train
from sonarium.commands.train import plan_from
from sonarium.rooms import SUITE
from sonarium.runs.plan import RolloutsPlan


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
    words = "ppo --suite stops --steps 0 --no-pictures --device cpu --envs 1 --rollout-steps 4 --sound-rate 8000"
    train([*words.split(), "--run", run])
    capsys.readouterr()
    score([run, "--suite", "stops", "named-target", "--episodes", "2", "--json"])
    found = json.loads(capsys.readouterr().out)["suite"][run]
    assert list(found) == ["stops", "named-target"]
    for agents in found.values():
        assert list(agents) == ["difference", "oracle", "agent"] and agents["oracle"]["sna"]["mean"] == 1
        assert all(0 <= one["sna"]["mean"] <= one["success"]["mean"] <= 1 for one in agents.values())
    assert json.loads((tmp_path / "run" / "suite.json").read_text()) == {"step": 0, "suite": found}
    with pytest.raises(UsageError, match="no setting of seek-suite is called 'soft'"):
        score([run, "--suite", "soft"])
