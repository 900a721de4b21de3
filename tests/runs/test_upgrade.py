"""Run folders of version 0.1 open, score, encode and resume as they did then.

The folders under `fixtures/runs-0.1` were written by version 0.1, together with its later output:
`expected-codes.csv` by `encode`, `expected-metrics.jsonl` by resuming to step 8.
"""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus import write_corpus

from sonarium.__main__ import dispatch
from sonarium.models.objectives import ObjectiveConfig
from sonarium.runs.build import open_plan, open_run
from sonarium.runs.plan import Upstream, default_plan, read_plan
from sonarium.runs.train import train
from sonarium.training.journal import read_metrics
from sonarium.worlds.tones.world import Tones

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "runs-0.1"
RUNS = sorted(path.name for path in FIXTURES.iterdir())
CLOSE = 1e-4
"""Tolerance for processors that round differently."""
AS_THEN = {"mig", "jemmig", "dcimig", "dead_codes", "retrieval/word"}
"""Scores that are computed as in 0.1; for others, fitted data and choice of regularisation have changed."""


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    monkeypatch.setattr("sonarium.runs.train.present", lambda *_: None)


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "speech")


@pytest.fixture(params=RUNS)
def folder(request, speech, tmp_path) -> Path:
    """A copy of a run, with the path of its recordings on this machine."""
    copied = tmp_path / request.param
    shutil.copytree(FIXTURES / request.param, copied)
    config = json.loads((copied / "config.json").read_text())
    if "path" in config["world_config"]:
        config["world_config"] |= {"path": str(speech), "cache": str(tmp_path / "cache")}
        (copied / "config.json").write_text(json.dumps(config))
    return copied


@pytest.mark.parametrize("format_2", [False, True])
def test_tones_from_before_their_spacing_could_be_set_are_linear(tmp_path, format_2):
    """The default grid became logarithmic: earlier runs must still be scored on their linear grid."""
    shutil.copytree(FIXTURES / "beta-vae", tmp_path / "run")
    if format_2:
        recorded = open_plan(tmp_path / "run")[1].recorded()
        del recorded["source"]["config"]["frequency_spacing"]
        (tmp_path / "run" / "config.json").write_text(json.dumps(recorded))
    config = open_plan(tmp_path / "run")[1].clips.config
    values = np.array(Tones(config, 0).grid[1].values)
    np.testing.assert_allclose(values, np.linspace(config.lowest, config.highest, config.frequencies))


def test_a_field_of_format_2_is_read_by_its_old_name(tmp_path):
    plan = default_plan("dreaming")
    plan = replace(plan, learner=replace(plan.learner, objective=ObjectiveConfig(direct_discount=0.5)))
    recorded = plan.recorded()
    config = recorded["model"]["config"]
    config["clip"] = config.pop("gradient_clip")
    own, front = config["objective"], config["front"]
    own["discount"] = own.pop("direct_discount")
    front["lowest"], front["highest"] = front.pop("fmin"), front.pop("fmax")
    assert read_plan(recorded, "here").learner == plan.learner


def test_world_models_from_before_the_joint_prior_have_none():
    recorded = default_plan("dreaming").recorded()
    assert read_plan(recorded, "here").learner.heads.joint_prior
    del recorded["model"]["config"]["heads"]["joint_prior"]
    assert not read_plan(recorded, "here").learner.heads.joint_prior


def test_runs_from_before_best_weights_could_be_built_on_took_the_newest():
    deep = Upstream("a", 1, "", 2, 3.0, 0.0, default_plan("vae").recorded())
    below = default_plan("gru", upstream=deep).recorded()
    plan = default_plan("gru", upstream=Upstream("b", 1, "", 2, 3.0, 0.0, below))
    recorded = json.loads(json.dumps(plan.recorded()))
    for one in (recorded, recorded["upstream"]["plan"]):
        del one["loop"]["best"], one["upstream"]["best"]
    read = read_plan(recorded, "here")
    assert read.upstream is not None and not read.upstream.best and not read.loop.best


def test_it_encodes_the_same(folder, speech, tmp_path):
    wave = sorted((speech / "ba").glob("*.wav"))[0]
    dispatch(["encode", str(folder), str(wave), "--out", str(tmp_path / "codes.csv")])
    assert np.allclose(codes(tmp_path / "codes.csv"), codes(folder / "expected-codes.csv"), atol=CLOSE)


def codes(path: Path) -> np.ndarray:
    with open(path, newline="") as file:
        return np.array([[float(value) for value in row[1:]] for row in list(csv.reader(file))[1:]])


def test_it_scores_the_same(folder, capsys):
    then = json.loads((folder / "scores.json").read_text())
    dispatch(["score", str(folder), "--json"])
    now = json.loads(capsys.readouterr().out)["runs"][0]
    assert now["controls"].keys() == then["controls"].keys()
    # The network `locating` is initialised differently than in 0.1, and so is its untrained control.
    begins_anew = '"locating"' in (folder / "config.json").read_text()
    who = [name for name in then["controls"] if name != "chance" and not (name == "random" and begins_anew)]
    for scores, expected in [
        (now["scores"], then["scores"]),
        *((now["controls"][name], then["controls"][name]) for name in who),
    ]:
        compared = AS_THEN & scores.keys() & expected.keys()
        assert compared, scores.keys()
        for name in compared:
            assert scores[name] == pytest.approx(expected[name], abs=0.02), name
    assert all(np.isfinite(value) for value in now["scores"].values())
    for name in then["scores"].keys() - now["scores"].keys() - {"notes"}:
        assert any(name.partition("_")[0] in note.lower() for note in now["notes"]), name


def test_it_resumes_the_same(folder):
    _, plan = open_plan(folder)
    assert train(plan, folder, 8, device="cpu")
    expected = read_metrics(folder / "expected-metrics.jsonl")
    found = read_metrics(folder / "metrics.jsonl")
    assert [record["step"] for record in found] == [2, 4, 6, 8]
    for record, then in zip(found, expected, strict=True):
        assert record == pytest.approx(then, rel=CLOSE, abs=CLOSE)
    assert open_run(folder).step == 8


def test_the_configuration_is_left_as_it_was(folder):
    before = (folder / "config.json").read_bytes()
    _, plan = open_plan(folder)
    train(plan, folder, 5, device="cpu")
    assert (folder / "config.json").read_bytes() == before
