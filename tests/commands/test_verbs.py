"""Every verb, from training to the page, on worlds so small that each takes about a second."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from PIL import Image

from sonarium.__main__ import VERBS, dispatch
from sonarium.catalogue import AGENTS, MEASURES, MODELS, WORLDS
from sonarium.commands.list import OWN_MEASURES
from sonarium.runs.build import open_run
from sonarium.worlds.tones.syntone import load_syntone

RATE, SECONDS = 16000, 0.25
TONES = f"--frequencies 6 --amplitudes 3 --seconds {SECONDS} --network dense --test 0.4 --batch-size 16".split()


def read(capsys, *words: object) -> dict:
    """JSON output of a verb, which must be its only output."""
    dispatch([*map(str, words), "--json"])
    said = capsys.readouterr()
    assert said.err == ""
    return json.loads(said.out)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Three runs: two seeds of one configuration on tones, one on digits."""
    folder = tmp_path_factory.mktemp("verbs")
    found = {"tones": folder / "tones", "again": folder / "again", "digits": folder / "digits"}
    dispatch(["train", "vae", *TONES, "--steps", "3", "--run", str(found["tones"])])
    dispatch(["train", "vae", "--world", "digits", "--steps", "3", "--run", str(found["digits"])])
    with pytest.MonkeyPatch.context() as patch:
        # The pictures of the other runs suffice.
        patch.setattr("sonarium.runs.train.present", lambda *_: None)
        dispatch(["train", "vae", *TONES, "--steps", "3", "--seed", "1", "--run", str(found["again"])])
    return found


def test_a_run_folder_has_all_that_a_training_makes(runs):
    for folder in (runs["tones"], runs["digits"]):
        names = {path.name for path in folder.iterdir()}
        expected = {"config.json", "environment.json", "metrics.jsonl", "checkpoints", "media", "tensorboard"}
        assert expected | {"card.md"} <= names
        assert not list(folder.rglob("*.pkl")) and not list(folder.rglob("*.partial"))
        assert any(path.suffix == ".png" for path in (folder / "media").iterdir())
    assert "3 steps of 16 clips" in (runs["tones"] / "card.md").read_text()


def test_pictures_can_be_left_out(tmp_path):
    dispatch(
        ["train", "vae", "--world", "digits", "--steps", "1", "--no-pictures", "--run", str(tmp_path / "run")]
    )
    assert (tmp_path / "run" / "card.md").exists() and not (tmp_path / "run" / "media").exists()


@pytest.fixture
def without_pictures(monkeypatch):
    monkeypatch.setattr("sonarium.runs.train.present", lambda *_: None)


def test_training_again_says_the_same(runs, capsys, without_pictures):
    found = read(capsys, "train", "vae", *TONES, "--steps", 3, "--run", runs["tones"])
    assert found["step"] == 3 and found["run"] == str(runs["tones"]) and found["loss/total"] > 0


def test_the_last_world_named_is_the_one(tmp_path, capsys, without_pictures):
    words = ["--world", "tones", "--world=digits", "--steps", "1", "--run", tmp_path / "run"]
    assert read(capsys, "train", "vae", *words)["step"] == 1
    assert json.loads((tmp_path / "run" / "config.json").read_text())["source"]["world"] == "digits"


def test_list_names_everything(capsys):
    found = read(capsys, "list")
    assert found["models"].keys() == MODELS.keys() and found["worlds"].keys() == WORLDS.keys()
    assert set(found["measures"]) == {*OWN_MEASURES, *MEASURES} and found["agents"].keys() == AGENTS.keys()
    dispatch(["list"])
    out = capsys.readouterr().out
    assert all(name in out for name in (*MODELS, *WORLDS, *OWN_MEASURES, *found["benches"]))


def test_scores_of_several_runs(runs, capsys):
    folders = list(map(str, runs.values()))
    found = read(capsys, "score", *folders, folders[0], "--draws", 2)
    assert found["protocol"] == "standard" and [run["run"] for run in found["runs"]] == folders
    for run, folder in zip(found["runs"], folders, strict=True):
        written = json.loads((Path(folder) / "scores.json").read_text())
        assert written == {key: value for key, value in run.items() if key not in ("run", "config")}
        assert run["controls"].keys() == {"pca", "random", "chance"}
    rows = {(row["world"], row["control"]): row for row in found["summary"]}
    assert rows.keys() == {
        (world, who) for world in ("tones", "digits") for who in (None, "pca", "random", "chance")
    }
    both = rows["tones", None]
    assert both["model"] == "vae" and both["seeds"] == 2 and both["runs"] == folders[:2]
    values = [run["scores"]["mig"] for run in found["runs"][:2]]
    assert both["scores"]["mig"]["mean"] == pytest.approx(np.mean(values))
    # Student's t of one degree of freedom: the half width of 95 % is 12.7062 standard errors.
    half = 12.7062 * np.std(values, ddof=1) / np.sqrt(2)
    assert both["scores"]["mig"]["high"] - both["scores"]["mig"]["mean"] == pytest.approx(half, rel=1e-4)
    assert rows["digits", None]["scores"]["mig"]["low"] is None
    assert both["scores"]["iwae"]["mean"] >= both["scores"]["elbo"]["mean"]


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_of_scores_fits_the_terminal(runs, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    dispatch(["score", *map(str, runs.values()), "--draws", "1", "--protocol", "syntone"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns and not any("…" in line for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "2 seeds" in text and "1 is best" in text and "untrained" in text and "SynTone's evaluator" in text
    assert (runs["tones"] / "scores-syntone.json").exists()


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_codes_are_written_in_any_format(runs, capsys, tmp_path, suffix):
    sound = runs["tones"] / "media" / "reconstruction-1-original.wav"
    out = tmp_path / f"codes{suffix}"
    found = read(capsys, "encode", runs["tones"], sound, sound, "--out", out)
    assert found == {"out": str(out), "files": 2, "rows": 2, "codes": 10, "rate": 1 / SECONDS}
    if suffix == ".npz":
        with np.load(out) as table:
            paths, starts, codes = table["path"].tolist(), table["start"].tolist(), table["codes"]
    else:
        if suffix == ".csv":
            with open(out, newline="") as file:
                rows = list(csv.DictReader(file))
        else:
            rows = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
        paths, starts = [row["path"] for row in rows], [float(row["start"]) for row in rows]
        codes = np.array([[float(row[f"code_{number}"]) for number in range(10)] for row in rows])
    assert paths == [str(sound)] * 2 and starts == [0, 0] and codes.shape == (2, 10)
    np.testing.assert_array_equal(codes[0], codes[1])


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (48000, 1), (44100, 2), (8000 * 5, 3)])
def test_a_recording_of_any_rate_has_the_codes_of_the_clip(runs, capsys, tmp_path, rate, channels):
    trained = open_run(runs["tones"])
    clip = trained.data.world.whole(torch.tensor([7])).signal
    learner: Any = trained.learner
    own = learner.encode(clip)[0, 0].numpy()
    wave = soxr.resample(clip[0].double().numpy(), RATE, rate, quality="VHQ")
    soundfile.write(tmp_path / "a.wav", np.stack([wave] * channels, axis=1), rate, subtype="DOUBLE")
    dispatch(["encode", str(runs["tones"]), str(tmp_path / "a.wav"), "--out", str(tmp_path / "a.npz")])
    with np.load(tmp_path / "a.npz") as table:
        codes = table["codes"][0]
    other = learner.encode(trained.data.world.whole(torch.tensor([40])).signal)[0, 0].numpy()
    assert np.abs(codes - own).max() < (1e-5 if rate == RATE else 0.1 * np.abs(other - own).max())


def test_pieces_of_a_long_file_follow_one_another(runs, tmp_path):
    clip = open_run(runs["tones"]).data.world.whole(torch.tensor([7, 40])).signal
    soundfile.write(tmp_path / "two.wav", clip.flatten().numpy(), RATE, subtype="FLOAT")
    for name, samples in (("short", 40), ("silent", 9000)):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(samples), RATE)
    files = [str(tmp_path / f"{name}.wav") for name in ("two", "short", "silent")]
    dispatch(["encode", str(runs["tones"]), *files, "--out", str(tmp_path / "a.npz")])
    with np.load(tmp_path / "a.npz") as table:
        assert table["start"].tolist() == [0, SECONDS, 0, 0, SECONDS]
        assert [Path(path).stem for path in table["path"]] == ["two", "two", "short", "silent", "silent"]
        assert np.isfinite(table["codes"]).all() and not np.array_equal(table["codes"][0], table["codes"][1])


def test_samples_of_sound_and_their_codes(runs, capsys, tmp_path):
    words = ["sample", runs["tones"], "--count", 18, "--seed", 5]
    assert read(capsys, *words, "--out", tmp_path / "a") == {"out": str(tmp_path / "a"), "clips": 18, "step": 3}
    waves = [soundfile.read(path) for path in sorted((tmp_path / "a").glob("*.wav"))]
    assert len(waves) == 18 and all(rate == RATE and len(wave) == RATE * SECONDS for wave, rate in waves)
    codes = np.load(tmp_path / "a" / "codes.npy")
    assert codes.shape == (18, 1, 10) and abs(codes.mean()) < 0.3 and 0.8 < codes.std() < 1.2
    read(capsys, *words, "--out", tmp_path / "b")
    # A float WAV's header has the time of its writing, so the samples are compared and not the bytes.
    again = [soundfile.read(path)[0] for path in sorted((tmp_path / "b").glob("*.wav"))]
    assert all(np.array_equal(one, two) for (one, _), two in zip(waves, again, strict=True))
    assert np.array_equal(codes, np.load(tmp_path / "b" / "codes.npy")), "a seed gives the same codes"


def test_samples_of_pictures(runs, capsys, tmp_path):
    (tmp_path / "a").mkdir()
    assert read(capsys, "sample", runs["digits"], "--count", 2, "--out", tmp_path / "a")["clips"] == 2
    with Image.open(tmp_path / "a" / "sample-001.png") as picture:
        assert picture.size == (8, 8)


def test_make_writes_tones_for_others(capsys, tmp_path, without_pictures):
    grid = ["--frequencies", 3, "--amplitudes", 2, "--seconds", 0.05]
    assert read(capsys, "make", "tones", *grid, "--out", tmp_path / "a.npz")["clips"] == 24
    assert len(load_syntone(tmp_path / "a.npz")) == 24
    assert read(capsys, "make", "tones", *grid, "--format", "flac", "--out", tmp_path / "b")["clips"] == 24
    assert len(list((tmp_path / "b" / "clips").glob("*.flac"))) == 24
    words = ["train", "vae", "--world", "syntone-file", "--path", tmp_path / "a.npz", "--network", "dense"]
    assert read(capsys, *words, "--batch-size", 8, "--steps", 1, "--run", tmp_path / "run")["step"] == 1


def test_report_writes_a_page_of_scored_and_unscored_runs(runs, capsys, tmp_path):
    out = tmp_path / "deep" / "page.html"
    found = read(capsys, "report", *runs.values(), "--out", out)
    assert found == {"out": str(out), "bytes": out.stat().st_size, "runs": 3}
    assert out.read_text().rstrip().endswith("</html>")


def test_bench_prints_its_cases(capsys):
    found = read(capsys, "bench", "tones", "--repeats", 1)
    assert found.keys() == {"bench", "hardware", "cases"} and found["bench"] == "tones"
    for case in found["cases"]:
        assert case.keys() == {"name", "work", "ours_s", "peer", "peer_s", "ratio"}
        assert case["ratio"] == pytest.approx(case["peer_s"] / case["ours_s"])


def test_each_verb_has_a_file_and_a_summary():
    verbs = (
        "demo list check make train score encode export sample reconstruct separate annotate sing forecast "
        "surprise develop gestures report watch replay play compare bench"
    )
    assert list(VERBS) == verbs.split()


def test_bf16_in_software_is_remarked(tmp_path, capsys, monkeypatch, without_pictures):
    for fastest, said in (("32", True), ("bf16", False)):
        monkeypatch.setattr("sonarium.runs.train.fastest_precision", lambda fastest=fastest: fastest)
        words = ["train", "vae", "--world", "digits", "--steps", "0", "--precision", "bf16"]
        dispatch([*words, "--run", str(tmp_path / fastest)])
        assert ("computes bf16 in software" in capsys.readouterr().err) == said
