"""From a folder of recordings to codes: train, score, encode, export and report, and three lines of Python."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from corpus import CLIPS, RATE, SMALL, TINY, WORDS, write_corpus
from safetensors.torch import load_file
from test_verbs import read
from typechecking import unchecked

import sonarium
from sonarium.__main__ import dispatch
from sonarium.commands.faults import UsageError
from sonarium.commands.train import plan_from
from sonarium.config import located
from sonarium.evaluation import extraction
from sonarium.report.album import read_index
from sonarium.runs.build import open_run
from sonarium.worlds.songbird.world import SongbirdConfig

HOP = 160
"""Hop length in samples: 20 ms at 8 kHz."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A corpus of synthetic words, with one corrupt file."""
    root = write_corpus(tmp_path_factory.mktemp("recordings") / "speech")
    (root / WORDS[0] / "ann_9.wav").write_bytes(b"RIFF of a guitar")
    return root


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def train(corpus: Path, run: Path, *words: object) -> None:
    given = ["--path", corpus, *SMALL, *TINY, "--bad-fraction", 0.1, "--run", run, *words]
    dispatch(["train", "cpc", "--world", "recordings", *map(str, given)])


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory) -> list[Path]:
    """Two seeds; the second without pictures."""
    folder = tmp_path_factory.mktemp("runs")
    train(corpus, folder / "one", "--steps", 25, "--test", 0.4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonarium.runs.train.present", lambda *_: None)
        train(corpus, folder / "two", "--steps", 25, "--test", 0.4, "--seed", 1)
    return [folder / "one", folder / "two"]


@pytest.fixture
def without_pictures(monkeypatch):
    monkeypatch.setattr("sonarium.runs.train.present", lambda *_: None)


def test_a_training_tells_what_it_hears_and_sets_bad_files_aside(corpus, tmp_path, capsys, without_pictures):
    train(corpus, tmp_path / "run", "--steps", 2)
    out, said = capsys.readouterr()
    assert "step 2: contrast/loss" in out
    assert (
        f"layout folder, {CLIPS} clips; 1 of {CLIPS + 1} files set aside: {tmp_path}/run/quarantine.json" in said
    )
    assert "split by speaker, none in two parts: train 45 clips of 5" in said
    told = json.loads((tmp_path / "run" / "quarantine.json").read_text())
    assert [Path(bad["path"]).name for bad in told["bad_files"]] == ["ann_9.wav"] and told["files"] == CLIPS + 1
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["source"]["config"]["path"] == str(corpus.absolute())


def test_a_folder_given_as_seen_from_here_is_found_from_elsewhere(corpus, tmp_path, monkeypatch, without_pictures):
    monkeypatch.chdir(corpus.parent)
    train(Path(corpus.name), tmp_path / "run", "--steps", 1)
    monkeypatch.chdir(tmp_path)
    assert len(open_run(tmp_path / "run").data.world) == CLIPS


def test_folders_of_other_worlds_are_found_from_elsewhere_too():
    assert located(SongbirdConfig(source="songs"), "path", "source").source == str(Path("songs").absolute())
    assert located(SongbirdConfig(), "path", "source") == SongbirdConfig()


def test_the_media_are_maps_and_neighbours_to_be_heard(runs):
    media = read_index(runs[0] / "media")
    assert {medium.group.split("/")[0] for medium in media} == {"map", "nearest", "heard"}
    titles = {medium.title for medium in media}
    assert {"Held-out clips by word", "Held-out clips by speaker", "Nearest neighbours"} <= titles
    queries = {medium.group for medium in media if medium.group.startswith("heard/")}
    sounds = [medium for medium in media if medium.kind == "sound"]
    assert len(queries) == 6 and len(sounds) == 6 * 5 and sounds[0].title.startswith("Nearest to this: ")
    wave, rate = soundfile.read(runs[0] / "media" / sounds[0].file)
    assert rate == RATE and 0.3 < len(wave) / rate < 0.65 and np.abs(wave).max() > 0.01


def test_scores_beside_controls_with_intervals_over_seeds(runs, capsys):
    found = read(capsys, "score", *runs)
    one = found["runs"][0]
    asked = {
        "clips/word",
        "clips/speaker",
        "retrieval/word",
        "retrieval/speaker",
        "eer/speaker",
        "min-dcf/speaker",
    }
    assert set(one["scores"]) == asked and one["controls"].keys() == {"log_mel", "mfcc", "random", "chance"}
    assert all(scores.keys() == asked for scores in one["controls"].values())
    assert one["scores"]["clips/word"] > one["controls"]["chance"]["clips/word"] + 0.2
    assert one["asked"] == "word of other speakers; speaker of other files of the same speakers"
    assert one["protocol"] == "ridge probes" and one["clips"] == 18 and one["step"] == 25
    written = json.loads((runs[0] / "scores.json").read_text())
    assert written == {key: value for key, value in one.items() if key not in ("run", "config")}
    rows = {row["control"]: row for row in found["summary"]}
    assert rows.keys() == {None, "log_mel", "mfcc", "random", "chance"}
    assert rows[None]["world"] == "recordings (speech)" and rows[None]["seeds"] == 2
    values = [run["scores"]["eer/speaker"] for run in found["runs"]]
    assert rows[None]["scores"]["eer/speaker"]["mean"] == pytest.approx(np.mean(values))
    assert rows[None]["scores"]["eer/speaker"]["low"] is not None


def test_the_table_says_what_is_what(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    words = "--remove-mean --frames --abx --few-labels --max-clips 12".split()
    dispatch(["score", str(runs[0]), *words])
    lines = capsys.readouterr().out.splitlines()
    text = " ".join(" ".join(lines).split())
    for said in (
        "recordings (speech), ridge probes, means of clips removed", "word, frames", "word, 1 each",
        "word ABX within", "speaker EER", "log-mel", "untrained", "Of EER and minDCF less is better.",
        "Of ABX less is better.", "Log-mel: 40 bands in decibels", "Probes predict word of other speakers",
    ):  # fmt: skip
        assert said in text, said
    assert "PCA" not in text and "dead" not in text
    assert max(map(len, lines[: lines.index("")])) <= 80


def codes_of(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    with np.load(path) as table:
        return table["path"].tolist(), table["start"], table["codes"]


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_a_row_a_frame_with_its_time(runs, corpus, capsys, tmp_path, suffix):
    files = sorted((corpus / WORDS[1]).glob("bob_*.wav"))
    out = tmp_path / f"codes{suffix}"
    found = read(capsys, "encode", runs[0], *files, "--out", out)
    frames = [-(-soundfile.info(file).frames // HOP) for file in files]
    assert found["rate"] == 50 and found["codes"] == 16 and abs(found["rows"] - sum(frames)) <= 2 * len(files)
    if suffix == ".npz":
        paths, starts, codes = codes_of(out)
    elif suffix == ".csv":
        header, *lines = (line.split(",") for line in out.read_text().splitlines())
        assert header[:3] == ["path", "start", "code_0"]
        paths, starts = [line[0] for line in lines], np.array([float(line[1]) for line in lines])
        codes = np.array([[float(value) for value in line[2:]] for line in lines])
    else:
        table = pytest.importorskip("pyarrow.parquet").read_table(out)
        paths, starts = table["path"].to_pylist(), np.array(table["start"])
        codes = np.stack([np.array(table[f"code_{number}"]) for number in range(16)], axis=1)
    assert len(paths) == found["rows"] and list(dict.fromkeys(paths)) == [str(file) for file in files]
    learner: Any = open_run(runs[0]).learner
    for file in files:
        own = np.array([path == str(file) for path in paths])
        wave = torch.from_numpy(soundfile.read(file, dtype="float32")[0])
        np.testing.assert_allclose(codes[own], learner.encode(wave[None])[0].numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(starts[own], np.arange(own.sum()) * HOP / RATE)


def test_a_long_file_of_another_rate_goes_through_in_parts(runs, tmp_path):
    wave = 0.1 * np.random.default_rng(0).standard_normal(11 * 24000)
    soundfile.write(tmp_path / "long.wav", np.stack([wave, wave], 1), 24000, subtype="FLOAT")
    words = ["encode", str(runs[0]), str(tmp_path / "long.wav"), "--out"]
    dispatch([*words, str(tmp_path / "whole.npz")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonarium.models.framing.WINDOW", 2.0)
        patch.setattr("sonarium.models.framing.AROUND", 2.0)
        patch.setattr("sonarium.commands.codetable.ROWS", 30)
        dispatch([*words, str(tmp_path / "parts.npz")])
    (_, starts, whole), (_, _, parts) = codes_of(tmp_path / "whole.npz"), codes_of(tmp_path / "parts.npz")
    assert len(whole) == pytest.approx(11 * 50, abs=2) and starts[-1] == pytest.approx(11, abs=0.05)
    np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-3)


def test_three_lines_from_a_wave_to_codes(runs, corpus, tmp_path):
    wave, rate = soundfile.read(corpus / WORDS[0] / "cy_1.wav")
    coder = sonarium.load(runs[0])
    codes = coder.encode(wave, rate)
    assert codes.shape[1] == 16 and codes.dtype == np.float32 and coder.code_rate == 50
    dispatch(["encode", str(runs[0]), str(corpus / WORDS[0] / "cy_1.wav"), "--out", str(tmp_path / "c.npz")])
    np.testing.assert_allclose(codes, codes_of(tmp_path / "c.npz")[2], atol=1e-6)
    doubled = coder.encode(soxr.resample(wave, rate, 2 * rate, quality="VHQ"), 2 * rate)
    assert np.abs(doubled - codes).mean() < 0.2 * np.abs(codes - codes.mean(axis=0)).mean()


@pytest.mark.parametrize(
    ("wave", "rate", "said"),
    [
        (np.zeros((100, 2)), RATE, r"got a wave of shape \(100, 2\): one channel"),
        (np.where(np.arange(2000) == 7, np.nan, 0.0), RATE, "1 of 2000 samples are NaN, .* first at position 7"),
        (np.full(2000, 1e300), RATE, "2000 of 2000 samples are NaN, infinite or beyond any sound"),
        (np.zeros(2000, complex), RATE, "got a wave of complex128"),
        (np.zeros(2000, bool), RATE, "got a wave of bool"),
        ([0, 1] * 1000, RATE, "got a wave of int64: give float32"),
        (np.zeros(2000), 0, "got rate=0"),
        (np.zeros(2000), np.inf, "got rate=inf"),
        (np.zeros(2000), "16000", "got rate='16000': give the sampling rate in Hz"),
        (np.zeros(2000), 44.1, "got rate=44.1: give the sampling rate in Hz, such as 16000, from 2000"),
        (np.full(2000, np.inf, np.float16), RATE, "2000 of 2000 samples are NaN, infinite"),
        (np.zeros(3), RATE, "3 samples at 8000 Hz are too few"),
    ],
)
def test_waves_that_cannot_be_encoded_are_refused(runs, wave, rate, said):
    coder = sonarium.load(runs[0])
    with unchecked(), pytest.raises(ValueError, match=said):
        coder.encode(wave, rate)


@pytest.mark.parametrize("kind", ["int16", "int32", "uint8", "float64", "float16"])
def test_integers_are_shares_of_their_full_scale(runs, corpus, kind):
    wave = soundfile.read(corpus / WORDS[0] / "cy_1.wav", dtype="float32")[0]
    coder, most = sonarium.load(runs[0]), {"int16": 2**15, "int32": 2**31, "uint8": 2**7}.get(kind, 1)
    given = np.rint(wave.astype(np.float64) * most + (kind == "uint8") * most) if most > 1 else wave
    given = given.astype(kind)
    given.flags.writeable = False
    as_float = (given.astype(np.float64) - (kind == "uint8") * most) / most
    np.testing.assert_array_equal(coder.encode(given, RATE), coder.encode(as_float, RATE))


def test_the_channel_that_was_learnt_from_is_heard(tmp_path, capsys):
    random = np.random.default_rng(0)
    for name in "abc":
        both = 0.1 * random.standard_normal((4000, 2))
        for folder, wave in (("stereo", both), ("right", both[:, 1])):
            (tmp_path / folder).mkdir(exist_ok=True)
            soundfile.write(tmp_path / folder / f"{name}.wav", wave, RATE, subtype="FLOAT")
    words = ["--rate", RATE, "--seconds", 0.4, "--channel", 1, *TINY, "--batch-size", 2, "--steps", 2]
    run = tmp_path / "run"
    given = ["--path", tmp_path / "stereo", "--run", run, *words]
    dispatch(["train", "cpc", "--world", "recordings", *map(str, given)])
    capsys.readouterr()
    for folder in ("stereo", "right"):
        read(capsys, "encode", run, tmp_path / folder, "--out", tmp_path / f"{folder}.npz")
    np.testing.assert_array_equal(codes_of(tmp_path / "stereo.npz")[2], codes_of(tmp_path / "right.npz")[2])


def test_codes_do_not_need_the_recordings_any_more(runs, corpus, tmp_path):
    shutil.copytree(runs[0], tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace(str(corpus), "/gone"))
    wave, rate = soundfile.read(corpus / WORDS[0] / "cy_1.wav")
    here = sonarium.load(runs[0]).encode(wave, rate)
    assert np.array_equal(sonarium.load(tmp_path / "run").encode(wave, rate), here)
    with pytest.raises(ValueError, match="there is no folder or manifest '/gone'"):
        open_run(tmp_path / "run")


def test_what_is_exported_gives_the_same_codes(runs, capsys, tmp_path):
    with unchecked(), torch.no_grad():
        found = read(capsys, "export", runs[0], "--out", tmp_path / "out", "--forms", "weights", "torch")
        assert found["files"] == ["model.json", "model.pt2", "weights.safetensors"] and found["apart"] < 1e-4
        program: Any = torch.export.load(tmp_path / "out" / "model.pt2").module()
        learner: Any = open_run(runs[0]).learner
        wave = 0.1 * torch.randn(2, 5000)
        torch.testing.assert_close(program(wave), learner.encode(wave), rtol=0, atol=1e-4)
    weights = load_file(tmp_path / "out" / "weights.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in learner.state_dict().items())
    described = json.loads((tmp_path / "out" / "model.json").read_text())
    assert described["code_rate"] == 50 and described["signal"]["rate"] == RATE


def test_what_is_exported_is_scored_as_the_run_is(runs, corpus, capsys, tmp_path):
    with unchecked():
        read(capsys, "export", runs[0], "--out", tmp_path / "out", "--forms", "weights", "torch")
        file = tmp_path / "out" / "model.pt2"
        found = read(capsys, "score", runs[0], "--encoder", file, "--out", tmp_path / "ears")
    own, other = found["runs"]
    assert own["scores"].keys() == other["scores"].keys() and other["controls"].keys() == {
        "log_mel",
        "mfcc",
        "chance",
    }
    assert own["scores"] == pytest.approx(other["scores"], abs=0.02)
    assert all(other["controls"][name] == own["controls"][name] for name in ("log_mel", "mfcc", "chance"))
    # Without a run, on the same clips and split.
    with unchecked():
        world = ["--path", corpus, *SMALL, "--bad-fraction", 0.1, "--test", 0.4]
        alone = read(capsys, "score", "--encoder", file, "--world", "recordings", *world)["runs"][0]
    assert alone["scores"] == other["scores"] and alone["step"] == 0
    # The folder is a run like any other: it encodes, is the upstream run of another, and is on the page.
    wave, rate = soundfile.read(corpus / WORDS[0] / "cy_1.wav")
    ears = sonarium.load(tmp_path / "ears").encode(wave, rate)
    np.testing.assert_allclose(ears, sonarium.load(runs[0]).encode(wave, rate), atol=1e-4)
    words = ["train", "kmeans", "--codes", tmp_path / "ears", "--run", tmp_path / "units", "--batch-size", 8]
    dispatch([*map(str, words), "--steps", "2"])
    capsys.readouterr()
    again = read(capsys, "score", tmp_path / "ears", tmp_path / "units")
    assert again["runs"][0]["scores"] == other["scores"] and "input" in again["runs"][1]["controls"]
    read(capsys, "report", runs[0], tmp_path / "ears", "--out", tmp_path / "page.html")
    assert "out/model.pt2" in (tmp_path / "page.html").read_text()
    words = ["train", "encoder", "--world", "recordings", "--encoder", file, "--path", corpus, *SMALL]
    with pytest.raises(ValueError, match="is an encoder from a file and is not trained"):
        dispatch([*map(str, words), "--bad-fraction", "0.1", "--batch-size", "8", "--run", str(tmp_path / "no")])


def test_a_preset_sets_the_defaults_of_the_training_and_flags_take_their_place():
    words = ["--preset", "speech", "--world", "recordings", "--path", "x", "--run", "y"]
    flags, plan = plan_from("cpc", words)
    clips, world = plan.clips.clips, plan.clips.config
    assert flags.steps == 1500 and (clips.batch_size, clips.train_on) == (24, "all")
    assert (world.rate, world.seconds) == (8000, 0.64) and plan.learner.speaker == "speaker"
    assert plan.learner.contrast.from_speaker == 64 and plan.learner.schedule.schedule == "cosine"
    flags, plan = plan_from("cpc", [*words, "--steps", "7", "--train-on", "train", "--rate", "16000"])
    assert flags.steps == 7 and plan.clips.clips.train_on == "train" and plan.clips.config.rate == 16000
    assert plan_from("cpc", words[2:])[0].steps == 2000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no run to score: name one or more run folders, or an encoder with --encoder"),
        (["--encoder", "a.onnx"], "--encoder without a run: say on which clips, as in --world recordings --path"),
        (["--world", "recordings"], "no run to score"),
        (["RUN", "--world", "recordings"], "--world recordings is for an --encoder without a run"),
        (["RUN", "--out", "x"], "--out is the run folder of an --encoder: name one"),
        (["--encoder", "a.onnx", "--world", "nowhere"], "no world is called 'nowhere'"),
        (["--encoder", "a.onnx", "--world", "recordings", "--hop", "-1"], "--hop -1: give a whole number from 0"),
    ],
)
def test_what_an_encoder_is_scored_on_has_to_be_said(runs, words, said):
    with pytest.raises(UsageError, match=said):
        dispatch(["score", *(str(runs[0]) if word == "RUN" else word for word in words)])


def test_scores_that_cannot_be_kept_are_printed_first(runs, capsys, tmp_path, monkeypatch):
    def full(path: Path, text: str) -> None:
        raise OSError(f"cannot write '{path}'")

    monkeypatch.setattr("sonarium.commands.score.write_whole", full)
    with pytest.raises(OSError, match=r"the scores were printed, but not kept: cannot write .*scores.json"):
        dispatch(["score", str(runs[0])])
    assert "recordings (speech), ridge probes" in capsys.readouterr().out


def test_runs_of_one_split_share_world_and_controls(corpus, capsys, tmp_path, without_pictures, monkeypatch):
    for seed in (0, 1):
        train(corpus, tmp_path / f"{seed}", "--steps", 2, "--seed", seed, "--test-groups", "bob", "flo")
    capsys.readouterr()
    heard = []

    def extract(extractor: Any, *given: Any, **more: Any) -> Any:
        heard.append(extractor.setting)
        return extraction.extract(extractor, *given, **more)

    monkeypatch.setattr("sonarium.evaluation.probing.extract", extract)
    one, other = read(capsys, "score", tmp_path / "0", tmp_path / "1")["runs"]
    # Learner, two settings of each of two controls, and the untrained network; then only learner and untrained.
    assert sorted(heard) == [""] * 4 + ["equal levels"] * 2 + ["levels kept"] * 2
    assert all(one["controls"][name] == other["controls"][name] for name in ("log_mel", "mfcc", "chance"))
    assert one["controls"]["random"] != other["controls"]["random"]
    alone = read(capsys, "score", tmp_path / "1")["runs"][0]
    assert alone["scores"] == other["scores"] and alone["controls"] == other["controls"]


@pytest.mark.skipif(find_spec("onnxscript") is not None, reason="onnxscript is there")
def test_what_cannot_be_exported_here_is_said(runs, capsys, tmp_path):
    with unchecked():
        dispatch(["export", str(runs[0]), "--out", str(tmp_path / "out")])
        out, said = capsys.readouterr()
        assert "model.pt2 gives the learner's codes" in out and "pip install onnx onnxscript" in said
        with pytest.raises(ValueError, match="needs onnxscript"):
            dispatch(["export", str(runs[0]), "--out", str(tmp_path / "no"), "--forms", "onnx"])
    assert not (tmp_path / "no").exists()


def test_a_page_of_scored_recordings(runs, capsys, tmp_path):
    read(capsys, "score", runs[0], "--max-clips", 20)
    read(capsys, "report", *runs, "--out", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    for said in (
        "never on their labels", "recordings (speech)", "Nearest neighbours, to listen to",
        "word of other speakers", "1 bad file(s) were set aside", "Equal error rate", "log-mel", "audio/wav",
    ):  # fmt: skip
        assert said in text, said
    assert "made from known factors" not in text


def test_the_same_sound_under_two_names_must_not_lie_on_both_sides(corpus, tmp_path, without_pictures):
    shutil.copytree(corpus, tmp_path / "speech")
    for speaker in ("bob", "cy", "dee", "eve", "flo"):
        shutil.copy(corpus / WORDS[0] / "ann_0.wav", tmp_path / "speech" / WORDS[0] / f"{speaker}_0.wav")
    with pytest.raises(ValueError, match=r"the split leaks: .* are the same recording"):
        train(tmp_path / "speech", tmp_path / "run", "--steps", 1)
    assert not (tmp_path / "run").exists()


def test_recordings_without_labels_can_be_learnt_from_and_seen_but_not_scored(tmp_path, capsys):
    for number in range(6):
        wave = 0.1 * np.random.default_rng(number).standard_normal(4000)
        # The run folder lies in the same folder, and its sounds must not count as recordings.
        soundfile.write(tmp_path / f"{number}.wav", wave, RATE)
    words = ["--path", tmp_path, "--rate", RATE, "--seconds", 0.4, "--batch-size", 2, "--test", 0.7, "--steps", 2]
    own = {"cpc": TINY[:-2], "vae": ["--network", "dense"]}
    drawn = {"cpc": {"map", "heard"}, "vae": {"reconstructions", "traversals", "samples"}}
    for model, more in own.items():
        run = tmp_path / model
        dispatch([*map(str, ["train", model, "--world", "recordings", *words, *more, "--run", run])])
        media = read_index(run / "media")
        assert {medium.group.split("/")[0] for medium in media} == drawn[model]
        assert model == "vae" or "Nearest to this: " in " ".join(medium.title for medium in media)
        if model == "vae":
            # The likelihood requires no labels.
            capsys.readouterr()
            dispatch(["score", str(run)])
            assert "ELBO" in capsys.readouterr().out
            continue
        with pytest.raises(ValueError, match=r"nothing can be predicted from its codes: its clips have no labels"):
            dispatch(["score", str(run)])
