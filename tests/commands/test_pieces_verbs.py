"""Models with one code per clip, on recordings: one code per piece, evaluated by labels like codes of frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpus import RATE, SMALL, write_corpus
from test_verbs import read

import sonarium
from sonarium.__main__ import dispatch
from sonarium.runs.build import open_run

WITHOUT_MEANING = {"mig", "beta_vae", "factor_vae", "dci_disentanglement", "modularity", "dead_codes"}
"""Scores for known factors, which recordings do not have."""


@pytest.fixture(autouse=True)
def quickly(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sonarium.runs.train.present", lambda *_: None)


@pytest.fixture
def corpus(tmp_path) -> Path:
    return write_corpus(tmp_path / "speech")


@pytest.mark.parametrize("model", ["vae", "vq-vae"])
def test_models_of_one_code_are_judged_by_labels_as_frames_are(corpus, tmp_path, capsys, model):
    words = ["--path", corpus, *SMALL, "--network", "dense", "--batch-size", 8, "--steps", 25]
    run = tmp_path / "run"
    given = ["train", model, "--world", "recordings", *words, "--run", run, "--test", 0.4]
    dispatch([*map(str, given)])
    capsys.readouterr()
    found = read(capsys, "score", run, "--draws", 2, "--few-labels", "--frames", "--abx")
    one = found["runs"][0]
    assert {"clips/word", "clips/speaker", "frames/word", "few-1/word", "retrieval/word", "eer/speaker"} <= set(
        one["scores"]
    )
    assert not WITHOUT_MEANING & set(one["scores"])
    assert one["controls"].keys() == {"log_mel", "mfcc", "random", "chance"}
    assert all(scores.keys() == one["scores"].keys() for scores in one["controls"].values())
    assert one["scores"]["clips/word"] > one["controls"]["chance"]["clips/word"] + 0.2
    assert one["asked"] == "word of other speakers; speaker of other files of the same speakers"
    assert one["protocol"] == "ridge probes" and one["step"] == 25 and one["curves"]
    assert ("likelihood" in one) == (model == "vae")
    if model == "vae":
        assert one["likelihood"]["elbo"] <= one["likelihood"]["iwae"] < 0
    with pytest.raises(ValueError, match="--remove-mean"):
        dispatch(["score", str(run), "--remove-mean"])


def test_models_of_one_code_learn_from_pieces_of_recordings(corpus, tmp_path):
    words = ["--path", corpus, *SMALL, "--network", "dense", "--batch-size", 8, "--steps", 2]
    given = [*map(str, ["--world", "recordings", *words, "--run", tmp_path / "run", "--test", 0.4])]
    dispatch(["train", "vae", *given])
    trained: Any = open_run(tmp_path / "run")
    clips = trained.data.world.excerpt(torch.tensor([0, 1])).signal
    assert clips.shape == (2, 3200)
    made = sonarium.load(tmp_path / "run")
    assert made.code_rate == 2.5
    np.testing.assert_allclose(
        made.encode(clips.flatten().numpy(), RATE), trained.learner.encode(clips)[:, 0], atol=1e-5
    )
