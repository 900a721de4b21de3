"""A run of each part of the extension: trained, killed twice and resumed bit for bit, scored together with its
controls, encoding a recording, and on the page; with the same commands as for built-in parts."""

import base64
import json
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
from extension.killed import kill

from sonarium.__main__ import dispatch

STEPS = 17
CHIRPS = "--world chirps --batch-size 16 --log-every 3 --save-every 5".split()
TRAININGS = {
    "vae": [*"--front gammatone --network dense --latent 3".split(), *CHIRPS],
    "adversarial-autoencoder": [*"--latent 3 --critic-learning-rate 0.002".split(), *CHIRPS],
    # 72 clips to train on: a pass has five batches, the last of which is smaller.
    "kmeans": "--codes BELOW --clusters 6 --batch-size 16 --log-every 3 --save-every 4".split(),
    "reinforce": (
        "--env sonarium_extension.environment:Beeps-v0 --envs 3 --rollout-steps 7 --replay 3 --replay-rows 16 "
        "--log-every 3 --save-every 5"
    ).split(),
}


def sonarium(capsys, *words: object) -> dict:
    """JSON output of the command."""
    capsys.readouterr()
    dispatch([*map(str, words), "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with an uninterrupted run of each model, in a subfolder of its name."""
    folder = tmp_path_factory.mktemp("runs")
    for model in TRAININGS:
        dispatch(["train", model, *words_of(model, folder), "--run", str(folder / model)])
    return folder


def words_of(model: str, folder: Path) -> list[str]:
    words = [str(folder / "vae") if word == "BELOW" else word for word in TRAININGS[model]]
    return [*words, "--steps", str(STEPS), "--device", "cpu"]


def files_of(run: Path) -> dict[str, bytes]:
    """Content of the files that must equal those of an uninterrupted run, including the replay."""
    found = {"metrics.jsonl": (run / "metrics.jsonl").read_bytes()}
    for path in sorted([*run.glob("checkpoints/*/*"), *run.glob("segments/*/*"), *run.glob("codes/*")]):
        found[str(path.relative_to(run))] = path.read_bytes()
    return found


@pytest.mark.parametrize("model", TRAININGS)
def test_two_kills_change_no_bit(model, runs, tmp_path, monkeypatch):
    # Pictures are made after everything is saved, and would take most of the time.
    monkeypatch.setattr("sonarium.runs.train.present", lambda *_: None)
    dice = random.Random(model)
    first = dice.randint(2, 9)
    words = [*words_of(model, runs), "--run", str(tmp_path / "broken")]
    kill(model, words, first)
    kill(model, words, dice.randint(first + 1, STEPS - 1))
    dispatch(["train", model, *words])
    whole, broken = files_of(runs / model), files_of(tmp_path / "broken")
    assert broken.keys() == whole.keys()
    for name, content in whole.items():
        assert broken[name] == content, name
    assert not list((tmp_path / "broken").rglob("*.partial"))


def test_a_replay_lies_in_segments_that_checkpoints_name(runs):
    """Three rollouts for each of the two kept checkpoints, which share one of them."""
    segments = {path.name for path in (runs / "reinforce" / "segments" / "replay").iterdir()}
    states = [path.read_text() for path in (runs / "reinforce" / "checkpoints").glob("*/state.json")]
    assert len(states) == 2 and len(segments) == 5
    assert all(any(name in state for state in states) for name in segments)
    newest = json.loads((runs / "reinforce" / "checkpoints" / f"step-{STEPS}" / "state.json").read_text())
    assert len(newest["parts"]["replay"]["segments"]) == 3
    assert len(newest["source"]["envs"]) == 3 and "$generator" in newest["source"]["envs"][0]["random"]


def test_codes_by_factors_are_scored_beside_their_controls_by_the_measure_too(runs, capsys):
    models = ("vae", "adversarial-autoencoder")
    found = sonarium(capsys, "score", *(runs / model for model in models))
    for record in found["runs"]:
        assert {"pca", "random", "chance"} == record["controls"].keys()
        for scores in (record["scores"], *record["controls"].values()):
            assert -1 <= scores["rsa"] <= 1 and 0 <= scores["mig"] <= 1
        assert record["meanings"]["rsa"]["name"] == "representational similarity"
        assert record["split"].startswith("split by singer")
    assert {row["model"] for row in found["summary"]} == set(models)


def test_codes_of_codes_predict_segments_and_tracks(runs, capsys):
    [record] = sonarium(capsys, "score", runs / "kmeans")["runs"]
    assert {"input", "random", "chance"} == record["controls"].keys()
    expected = {"clips/motif", "number/pitch", "frames/segment", "frames/syllable", "number/frequency"}
    for scores in (record["scores"], *record["controls"].values()):
        assert expected <= scores.keys()


def test_an_agent_is_scored_in_episodes(runs, capsys):
    [record] = sonarium(capsys, "score", runs / "reinforce", "--episodes", 4)["runs"]
    assert record["controls"].keys() == {"random", "random_actions"}
    for scores in (record["scores"], *record["controls"].values()):
        assert 0 <= scores["return"] <= scores["length"] <= 20


@pytest.mark.parametrize("model", ["vae", "adversarial-autoencoder", "kmeans"])
def test_a_recording_is_encoded(model, runs, tmp_path, capsys):
    wave = 0.3 * np.sin(2 * np.pi * 900 * np.arange(33_075) / 22_050)
    soundfile.write(tmp_path / "tone.wav", wave, 22_050)
    told = sonarium(capsys, "encode", runs / model, tmp_path / "tone.wav", "--out", tmp_path / "codes.npz")
    # 1.5 seconds in pieces of a quarter of a second.
    assert told["rows"] == 6 and told["rate"] == 4
    codes = np.load(tmp_path / "codes.npz")["codes"]
    assert codes.shape == (6, told["codes"]) and np.isfinite(codes).all() and (np.ptp(codes, axis=0) > 0).any()


def test_samples_are_drawn_of_what_can_be_inverted_to_sound(runs, tmp_path, capsys):
    sonarium(capsys, "sample", runs / "adversarial-autoencoder", "--count", 2, "--out", tmp_path / "drawn")
    assert len(list((tmp_path / "drawn").glob("*.wav"))) == 2


def test_all_are_on_the_page(runs, tmp_path, capsys):
    """Including runs that have not been scored."""
    told = sonarium(capsys, "report", *(runs / model for model in TRAININGS), "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert told["runs"] == len(TRAININGS)
    for model in TRAININGS:
        assert model in page
    for picture in ("traversals.png", "reconstruction-1.png"):
        assert base64.b64encode((runs / "vae" / "media" / picture).read_bytes()).decode() in page
    assert (runs / "kmeans" / "media" / "map-1.png").exists()
    assert "chirps" in (runs / "vae" / "card.md").read_text()
    assert "Beeps-v0" in (runs / "reinforce" / "card.md").read_text()


def test_optimisers_have_flags_of_their_own(capsys):
    with pytest.raises(SystemExit):
        dispatch(["train", "adversarial-autoencoder", "--help"])
    told = capsys.readouterr().out
    for flag in (
        "--autoencoder-learning-rate",
        "--critic-learning-rate",
        "--critic-beta1",
        "--adversarial-weight",
    ):
        assert f"{flag} " in told
