"""Validation of agents at their checkpoints: the best weights are kept, and nothing else changes."""

import json
from pathlib import Path

import pytest
import torch

from sonarium.__main__ import dispatch
from sonarium.runs.build import open_run
from sonarium.training.journal import read_metrics
from sonarium.training.run import RunFolder

FLAGS = (
    "train ppo --env CartPole-v1 --envs 2 --rollout-steps 16 --units 8 --device cpu --no-pictures --save-every 2 "
    "--log-every 2"
).split()


def trained(folder: Path, steps: int, *more: str) -> Path:
    dispatch([*FLAGS, "--steps", str(steps), "--run", str(folder), *more])
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "run", 8, "--validation-episodes", "3")


def returns(folder: Path) -> dict[int, float]:
    records = read_metrics(folder / "metrics.jsonl")
    return {int(one["step"]): one["validation/return"] for one in records if "validation/return" in one}


def test_the_best_weights_are_kept(run):
    found = returns(run)
    assert list(found) == [2, 4, 6, 8]
    best = RunFolder.read(run).best()
    assert best is not None and best.score == max(found.values())
    # Of equal ones the first.
    assert best.step == min(step for step, value in found.items() if value == best.score)
    assert [path.name for path in (run / "best").iterdir()] == [f"step-{best.step}.safetensors"]
    assert open_run(run, best=True).step == best.step and open_run(run).step == 8


def test_training_is_the_same_with_validation_and_without(run, tmp_path):
    plain = trained(tmp_path / "plain", 8)
    one, other = (open_run(folder).learner.state_dict() for folder in (run, plain))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_keeps_the_same(run, tmp_path):
    folder = trained(tmp_path / "run", 4, "--validation-episodes", "3")
    trained(folder, 8, "--validation-episodes", "3")
    assert returns(folder) == returns(run)
    assert (folder / "best.json").read_bytes() == (run / "best.json").read_bytes()


def test_the_best_weights_are_scored_where_asked(run, capsys):
    dispatch(["score", str(run), "--best", "--episodes", "2", "--json"])
    best = RunFolder.read(run).best()
    assert best is not None
    assert json.loads(capsys.readouterr().out)["runs"][0]["step"] == best.step


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: (run / "best.json").unlink(), "has no best weights: train it with --validation-episodes"),
        (lambda run: (run / "best.json").write_text("{}"), "is damaged: remove it"),
        (lambda run: next((run / "best").iterdir()).write_bytes(b"no"), "damaged or missing: leave out --best"),
        (lambda run: next((run / "best").iterdir()).unlink(), "damaged or missing: leave out --best"),
    ],
)
def test_what_is_missing_is_said(spoil, said, tmp_path):
    folder = trained(tmp_path / "run", 2, "--validation-episodes", "1")
    spoil(folder)
    with pytest.raises(ValueError, match=said):
        open_run(folder, best=True)
    open_run(folder)
