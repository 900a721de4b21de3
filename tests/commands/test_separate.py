"""Separators on the command line: training, scores, separated files, the page, and refused input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typechecking import unchecked

from sonarium.__main__ import dispatch
from sonarium.commands.faults import UsageError
from sonarium.runs.build import open_learner

SMALL = "--seconds 0.5 --clips 20 --sets 4 --variants 1 --sounds phone tones --units 8 --batch-size 4".split()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("separators") / "run"
    dispatch(["train", "separator", *SMALL, "--steps", "2", "--run", str(folder)])
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    wave = 0.1 * np.random.default_rng(0).standard_normal((12_000, 2))
    soundfile.write(folder / "two.wav", wave, 16_000, subtype="FLOAT")
    soundfile.write(folder / "one.wav", wave[:, 0], 16_000)
    whole = (folder / "two.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    return folder


def read(capsys, *words: object) -> dict:
    dispatch([*map(str, words), "--json"])
    said = capsys.readouterr()
    assert said.err == ""
    return json.loads(said.out)


def test_mixtures_are_what_a_separator_trains_on(run):
    config = json.loads((run / "config.json").read_text())
    assert config["source"]["world"] == "mixtures"
    media = json.loads((run / "media" / "index.json").read_text())["media"]
    assert {one["kind"] for one in media} == {"picture", "sound"}
    assert (run / "media" / "separation-1-true-source-2.wav").exists()
    assert soundfile.info(run / "media" / "separation-1-source-1.wav").channels == 2


def test_it_is_scored_beside_its_controls_and_shown(run, capsys, tmp_path):
    found = read(capsys, "score", run, "--mixtures", 2)
    [one] = found["runs"]
    assert one["protocol"] == "separation" and one["clips"] == 2
    assert set(one["controls"]) == {"mixture", "spatial_clustering", "ideal_mask", "random"}
    assert set(one["scores"]) >= {"snr_improvement", "si_sdr_improvement", "si_sir", "si_sar"}
    dispatch(["score", str(run), "--mixtures", "2"])
    assert "spatial clustering" in capsys.readouterr().out
    page = tmp_path / "page.html"
    dispatch(["report", str(run), "--out", str(page)])
    text = page.read_text()
    assert "Held-out mixtures and their sources" in text and "Each separator was trained" in text
    assert "codes recover" not in text


@pytest.mark.parametrize("preset", ["otoworld", "deep-clustering", "anchors"])
def test_every_preset_separates_files(preset, run, sounds, capsys, tmp_path):
    folder = tmp_path / "run"
    words = [word for word in SMALL if word not in ("--units", "8")]
    dispatch(
        ["train", "separator", "--preset", preset, *words, "--steps", "1", "--no-pictures", "--run", str(folder)]
    )
    capsys.readouterr()
    found = read(capsys, "separate", folder, sounds / "two.wav", "--out", tmp_path / "out")
    assert found["files"] == ["two-1.wav", "two-2.wav"]


def test_sources_of_a_file_sum_up_to_it(run, sounds, capsys, tmp_path):
    found = read(capsys, "separate", run, sounds / "two.wav", "--out", tmp_path / "out")
    assert found == {"out": str(tmp_path / "out"), "rate": 8000, "files": ["two-1.wav", "two-2.wav"]}
    parts = [soundfile.read(tmp_path / "out" / name)[0] for name in found["files"]]
    assert parts[0].shape == (6000, 2)
    same = tmp_path / "same.wav"
    soundfile.write(same, parts[0] + parts[1], 8000, subtype="FLOAT")
    found = read(capsys, "separate", run, same, "--out", tmp_path / "again")
    again = [soundfile.read(tmp_path / "again" / name)[0] for name in found["files"]]
    np.testing.assert_allclose(sum(again), sum(parts), atol=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one.wav"], "has 1 channel, and a separator hears with two ears"),
        (["cut.wav"], "cut short"),
        (["missing.wav"], "does not exist"),
        (["two.wav", "--sources", "3"], "--sources 3: .* separates 2"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(words, said, run, sounds, tmp_path, capsys):
    files = [str(sounds / word) if word.endswith(".wav") else word for word in words]
    with pytest.raises(ValueError, match=said):
        dispatch(["separate", str(run), *files, "--out", str(tmp_path / "out")])
    assert not list(tmp_path.iterdir())


def test_files_have_to_be_named(run, tmp_path):
    with pytest.raises(UsageError, match="no files to separate"):
        dispatch(["separate", str(run), "--out", str(tmp_path / "out")])


def test_only_separators_separate(sounds, tmp_path, capsys):
    folder = tmp_path / "vae"
    dispatch(["train", "vae", "--world", "digits", "--steps", "0", "--no-pictures", "--run", str(folder)])
    with pytest.raises(ValueError, match="holds a vae, which separates nothing"):
        dispatch(["separate", str(folder), str(sounds / "two.wav"), "--out", str(tmp_path / "out")])
    with pytest.raises(ValueError, match="is not an empty folder"):
        dispatch(["separate", str(folder), str(sounds / "two.wav"), "--out", str(sounds)])


def test_it_is_exported_with_its_sources(run, tmp_path, capsys):
    with unchecked():
        found = read(capsys, "export", run, "--out", tmp_path / "out", "--forms", "torch", "weights")
        assert found["files"] == ["model.json", "model.pt2", "weights.safetensors"] and found["apart"] < 1e-5
        wave = 0.1 * torch.randn(2, 5001, generator=torch.Generator().manual_seed(3))
        sources = torch.export.load(tmp_path / "out" / "model.pt2").module()(wave[None])[0]
        separator: Any = open_learner(run)[1]
        # The axes are (source, ear, time).
        apart = separator.separate(wave.T[None])[0]
        assert sources.shape == (2, 2, 5001)
        for source in range(2):
            for ear in range(2):
                torch.testing.assert_close(sources[source, ear], apart[:, source, ear], rtol=0, atol=1e-5)
    assert json.loads((tmp_path / "out" / "model.json").read_text())["sources"] == 2


def test_other_verbs_and_models_say_what_they_need(run, sounds, tmp_path):
    with pytest.raises(UsageError, match="does not train on sounds at two ears, which mixtures gives"):
        dispatch(["train", "cpc", "--world", "mixtures", "--run", str(tmp_path / "cpc")])
    with pytest.raises(UsageError, match="separator does not train on waves"):
        dispatch(["train", "separator", "--world", "tones", "--run", str(tmp_path / "tones")])


def test_mixtures_are_written_with_their_sources(capsys, tmp_path):
    words = ["--seconds", "0.5", "--clips", "3", "--sets", "3", "--variants", "1", "--format", "flac"]
    read(capsys, "make", "mixtures", "--out", tmp_path / "out", *words)
    for number in range(3):
        whole = soundfile.read(tmp_path / "out" / "clips" / f"{number}.flac")[0]
        parts = [soundfile.read(tmp_path / "out" / "sources" / f"{number}-{one}.flac")[0] for one in (1, 2)]
        assert whole.shape == (4000, 2)
        np.testing.assert_allclose(sum(parts), whole, atol=1e-6)
