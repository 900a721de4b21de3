"""World models from the command line, of a folder of recordings and of the codes of a run: training, codes,
forecasts, and their sound."""

import json
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from corpus import SMALL, write_corpus

import sonarium
from sonarium.__main__ import dispatch
from sonarium.commands.faults import UsageError
from sonarium.evaluation import forecasting
from sonarium.evaluation.pieces import moments, pieces
from sonarium.models.actions import change
from sonarium.report.evaluation_curves import BY_HORIZON, OWN, drawn
from sonarium.runs.build import open_run
from sonarium.runs.coder import Coder
from sonarium.runs.forecast import open_forecaster
from sonarium.runs.surprise import surprise_meter
from sonarium.runs.train import card, dreams_of
from sonarium.worlds.recordings.formats import read_audacity

TINY = "--deter 8 --hidden 6 --variables 2 --classes 3 --embedding 6 --burn-in 1 --batch-size 8 --steps 2".split()
VQ = "--fft 256 --hop 128 --mels 12 --network dense --slots 2 --entries 4 --seconds 0.1 --batch-size 16".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("dreams")
    write_corpus(made / "speech")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonarium.runs.train.present", lambda *_: None)
        corpus = ["--path", str(made / "speech"), *SMALL, "--cache", str(made / "cache")]
        own = [*TINY, "--actions", "word", "elapsed", "--bands", "12"]
        dispatch(["train", "dreaming", *corpus, *own, "--run", str(made / "heard")])
        dispatch(
            ["train", "vq-vae", "--world", "recordings", *corpus, *VQ, "--steps", "2", "--run", str(made / "vq")]
        )
        codes = ["--codes", str(made / "vq"), "--frames", "3", "--slots", "2", "--entries", "4"]
        own = [*codes, *TINY, "--actions", "word"]
        dispatch(["train", "dreaming", *own, "--run", str(made / "of codes")])
        small = ["--units", "8", "--burn-in", "1", "--batch-size", "8", "--steps", "2"]
        dispatch(["train", "autoregressive", *codes, *small, "--run", str(made / "language")])
    return made


def test_the_run_knows_where_its_actions_are(folder):
    learner: Any = open_run(folder / "heard").learner
    assert [(one.name, one.source, one.size) for one in learner.actions.actions] == [
        ("word", "label", 3),
        ("elapsed", "time", 1),
    ]
    assert learner.actions.width == 5


@pytest.mark.parametrize("name", ["heard", "of codes"])
def test_sound_becomes_states_and_futures(folder, name):
    coder = sonarium.load(folder / name)
    wave = np.random.default_rng(0).standard_normal(12000).astype(np.float32) * 0.1
    codes = coder.encode(wave, 8000)
    assert codes.shape == ({"heard": 46, "of codes": 15}[name], 8 + 6) and np.isfinite(codes).all()


@pytest.mark.parametrize("name", ["heard", "of codes"])
def test_a_part_of_the_states_is_encoded(folder, sound, tmp_path, name, capsys):
    wave = np.random.default_rng(0).standard_normal(12000).astype(np.float32) * 0.1
    whole = sonarium.load(folder / name).encode(wave, 8000)
    for code, part in (("feature", whole), ("state", whole[:, :8]), ("latent", whole[:, 8:])):
        np.testing.assert_array_equal(sonarium.load(folder / name, code=code).encode(wave, 8000), part)
    tokens = sonarium.load(folder / name, code="embedding").encode(wave, 8000)
    assert tokens.shape == (len(whole), 6)
    found = said(capsys, "encode", folder / name, sound, "--code", "latent", "--out", tmp_path / "z.npz")
    assert found["codes"] == 6
    with np.load(tmp_path / "z.npz") as written:
        assert np.isin(written["codes"], (0, 1)).all() and (written["codes"].reshape(-1, 2, 3).sum(-1) == 1).all()


def test_parts_that_there_are_not_are_refused_in_one_line(folder, sound, tmp_path):
    for run, code, told in (
        ("heard", "soul", "have the parts feature, state, latent, embedding; give one of these"),
        ("vq", "latent", "have no parts; leave it out"),
    ):
        out = ["--code", code, "--out", str(tmp_path / "codes.npz")]
        with pytest.raises(ValueError, match=told) as refused:
            dispatch(["encode", str(folder / run), str(sound), *out])
        assert f"code={code}" in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "codes.npz").exists()


def test_files_of_another_rate_are_said_to_be_resampled(folder, sound, tmp_path, capsys):
    same = folder / "speech" / "ba" / "ann_0.wav"
    line = f"'{sound}' has 11025 Hz and is resampled to the 8000 Hz of the model\n"
    for words in (
        ["encode", folder / "heard", sound, "--out", tmp_path / "one.csv"],
        ["surprise", folder / "of codes", sound, "--out", tmp_path / "two"],
        ["forecast", folder / "heard", sound, "--seconds", "0.1", "--samples", "1", "--out", tmp_path / "three"],
    ):
        capsys.readouterr()
        dispatch([*map(str, words)])
        assert capsys.readouterr().err.count(line) == 1, words[0]
    dispatch(["encode", str(folder / "heard"), str(same), str(sound), "--out", str(tmp_path / "both.csv")])
    several = "1 of 2 files are resampled to the 8000 Hz of the model, the first "
    assert f"{several}'{sound}' from 11025\n" in capsys.readouterr().err
    dispatch(["encode", str(folder / "heard"), str(same), "--out", str(tmp_path / "same.csv")])
    assert "resampled" not in capsys.readouterr().err


def test_futures_become_sound(folder):
    learner: Any = open_run(folder / "heard").learner.eval()
    waves = 0.1 * torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))
    codes = learner.forecast(waves, 4, 3, torch.Generator().manual_seed(1)).codes
    assert codes.shape == (3, 2, 4, 14)
    sound = learner.front.invert(learner.decode(codes[0]), 4 * learner.front.shortest, 2)
    assert sound.shape == (2, 4 * learner.front.shortest) and sound.isfinite().all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--actions", "pitch"], "--actions pitch: this world has word, speaker; choose of these, or 'elapsed'"),
        (["--seconds", "0.05"], "too few for a burn_in of 1"),
        (["--reward", "fun"], "--reward fun: this world has word, speaker"),
    ],
)
def test_what_it_cannot_learn_from_is_refused_in_one_line(folder, tmp_path, words, said):
    corpus = ["--path", str(folder / "speech"), *SMALL, "--cache", str(folder / "cache"), *TINY]
    with pytest.raises((UsageError, ValueError), match=said):
        dispatch(["train", "dreaming", *corpus, *words, "--run", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def said(capsys, *words) -> dict[str, Any]:
    capsys.readouterr()
    dispatch([*map(str, words), "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def sound(folder):
    """A two-channel file with another sampling rate."""
    wave = np.random.default_rng(0).standard_normal((11025, 2)).cumsum(0)
    soundfile.write(folder / "other.wav", np.sin(wave / 3) / 4, 11025)
    return folder / "other.wav"


def test_a_sound_is_forecast_decoded_and_as_real_tokens(folder, sound, tmp_path, capsys):
    words = ("forecast", folder / "heard", sound, "--at", 0.5, "--seconds", 0.2, "--samples", 3)
    found = said(capsys, *words, "--out", tmp_path / "one")
    assert (found["rate"], found["token_seconds"], found["unit"]) == (8000, 0.032, "dB")
    assert found["seconds"] == pytest.approx(6 * 0.032) and len(found["samples"]) == 3
    for one in found["samples"]:
        assert (
            one["log_probability"] == pytest.approx(sum(one["log_probabilities"])) and one["log_probability"] < 0
        )
        for name, samples in (("decoded", 6 * 256), ("tokens", 6 * 256), ("completed", (15 + 6) * 256)):
            wave, rate = soundfile.read(tmp_path / "one" / one[name])
            assert (rate, wave.shape) == (8000, (samples,)) and np.isfinite(wave).all() and wave.std() > 0
    assert [round(one["seconds"] / 0.032) for one in found["nearness"]] == [3, 6]
    for one in found["nearness"]:
        assert 0 <= one["coverage"] <= 1 and len(one["samples"]) == 3 and one["persistence"] > 0 < one["copy"]
    truth, _ = soundfile.read(tmp_path / "one" / "truth.wav")
    past, _ = soundfile.read(tmp_path / "one" / "past.wav")
    assert len(truth) == 6 * 256 and len(past) == 15 * 256
    assert json.loads((tmp_path / "one" / "forecast.json").read_text()) == found
    again = said(capsys, *words, "--out", tmp_path / "two")
    other = said(capsys, *words, "--seed", 1, "--out", tmp_path / "three")
    assert again["samples"] == found["samples"] and other["samples"] != found["samples"]
    cold = said(capsys, *words, "--temperature", 0.001, "--out", tmp_path / "four")["samples"]
    assert sum(one["log_probability"] for one in cold) > sum(one["log_probability"] for one in found["samples"])
    with pytest.raises(ValueError, match="not an empty folder"):
        said(capsys, *words, "--out", tmp_path / "two")


def test_coverage_ends_with_the_pieces_of_the_training_split(folder, sound):
    """Training pieces of 12 tokens contain no excerpt of 15 to compare with."""
    forecaster = open_forecaster(folder / "heard")
    made = forecaster.forecast(forecaster.file(sound, 0.5, 0.5), 0.5, 2)
    found = {round(one.seconds / forecaster.token_seconds): one for one in made.nearness}
    assert set(found) == {3, 6, 12, 15} and found[15].coverage is None and found[12].coverage is not None
    goal = made.true_tokens[:6]
    others = forecaster.front.levels(forecaster.real.stretches(6)).double().numpy()
    apart = np.sqrt(np.square(others - goal).mean((1, 2)))
    nearest = min(np.sqrt(np.square(one.real[:6] - goal).mean()) for one in made.futures)
    assert found[6].samples.min() == pytest.approx(nearest)
    further, all_of_them = int(np.sum(apart > nearest)), len(apart)
    expected = further * (further - 1) / (all_of_them * (all_of_them - 1))
    assert found[6].coverage == pytest.approx(expected, abs=1e-6)


def test_a_cut_word_is_completed_without_what_the_run_was_trained_on(folder, tmp_path, capsys, monkeypatch):
    """Statistics are fitted once and kept in the run; at the end of a file there is no true continuation."""
    open_forecaster(folder / "heard")
    kept = list((folder / "heard" / "forecast").iterdir())
    assert len(kept) == 1 and kept[0].suffix == ".safetensors" and kept[0].stem.endswith("-2")
    # The file of an earlier version assumes every value of a label in the training split.
    earlier = kept[0].rename(kept[0].with_stem(kept[0].stem.removesuffix("-2")))
    open_forecaster(folder / "heard")
    assert list((folder / "heard" / "forecast").iterdir()) == kept and not earlier.exists()
    monkeypatch.setattr("sonarium.runs.forecast.open_run", None)
    word, out = folder / "speech" / "ba" / "ann_0.wav", ["--out", str(tmp_path / "out")]
    dispatch(["forecast", str(folder / "heard"), str(word), "--seconds", "0.1", "--samples", "2", *out])
    told = capsys.readouterr().out
    assert "2 future(s) of 0.096 s" in told and "coverage" not in told
    assert not (tmp_path / "out" / "truth.wav").exists() and (tmp_path / "out" / "futures.png").exists()


def test_codes_are_forecast_through_the_run_that_made_them(folder, sound, tmp_path, capsys):
    words = ("forecast", folder / "of codes", sound, "--at", 0.6, "--seconds", 0.3, "--samples", 2)
    found = said(capsys, *words, "--out", tmp_path / "out")
    assert found["unit"] == "standard deviations" and found["token_seconds"] == pytest.approx(0.1)
    wave, _ = soundfile.read(tmp_path / "out" / "future-01.wav")
    assert len(wave) == 2400 and wave.std() > 0
    # The real tokens are excerpts of recordings: except at the joins, each occurs in a file.
    wave, _ = soundfile.read(tmp_path / "out" / "tokens-01.wav", dtype="float32")
    files = [soundfile.read(one, dtype="float32")[0] for one in (folder / "speech").glob("*/*.wav")]
    inner = slice(100, 700)
    starts = np.stack([one[at : at + 800] for one in files for at in range(0, len(one) - 799, 800)])
    for piece in wave.reshape(3, 800):
        assert np.abs(starts[:, inner] - piece[inner]).max(1).min() < 1e-4
    # The last token of the second file extends beyond its end: only three quarters of it are sound.
    soundfile.write(tmp_path / "other.wav", files[0][:2200], 8000)
    words = ("surprise", folder / "of codes", sound, tmp_path / "other.wav", "--out", tmp_path / "surprise")
    told = said(capsys, *words)
    assert [one["tokens"] for one in told["files"]] == [10, 3]
    assert len(list((tmp_path / "surprise").glob("*.png"))) == 2


@pytest.mark.parametrize("at", [0.6, 0.64, 0.66])
def test_codes_end_at_the_moment_of_a_forecast(folder, sound, at):
    forecaster = open_forecaster(folder / "of codes")
    heard = forecaster.file(sound, at, 0.3)
    rate, samples = forecaster.rate, round(forecaster.token_seconds * forecaster.rate)
    assert heard.past.shape[1] == 6 and heard.moment == 6 * samples
    assert heard.begin == pytest.approx(round(at * rate) / rate - 0.6, abs=1e-3)
    # The codes of the past are computed from its own sound only.
    own = forecaster.coder.below.encode(heard.wave[: heard.moment], rate)  # pyright: ignore[reportOptionalMemberAccess]
    torch.testing.assert_close(heard.past[0], torch.from_numpy(own))


@pytest.mark.parametrize("clip", [4, 20])
def test_a_clip_of_codes_is_heard_and_its_actions_are_known(folder, clip):
    forecaster = open_forecaster(folder / "of codes", world=True)
    assert forecaster.data is not None and forecaster.below is not None
    sound, index = forecaster.clip(clip, 0.2, 0.2), torch.tensor([clip])
    held = forecaster.data.world.whole(index)
    assert sound.past.shape[1] == 2 and sound.moment == 1600
    # The codes stored in the run were computed from the whole clip, one piece at a time.
    both = torch.cat([sound.past, sound.future], 1)
    torch.testing.assert_close(both, held.signal[:, : both.shape[1]])
    assert torch.equal(torch.from_numpy(sound.wave), forecaster.below.whole(index).signal[0, : len(sound.wave)])
    word = int(held.factors[0, 0])
    assert sound.actions is not None and sound.actions.shape == (1, 4, 4)
    expected = torch.nn.functional.one_hot(torch.tensor(word), 3).float().expand(4, -1)
    assert torch.equal(sound.actions[0], torch.cat([torch.ones(4, 1), expected], 1))
    with pytest.raises(ValueError, match="give a time within it"):
        forecaster.clip(clip, 2.0, 0.2)


def test_codes_that_no_run_makes_sound_of_are_told_in_one_line(folder, tmp_path, monkeypatch, sound):
    monkeypatch.setattr("sonarium.runs.train.present", lambda *_: None)
    words = ["--codes", str(folder / "of codes"), "--frames", "3", *TINY, "--run", str(tmp_path / "deep")]
    dispatch(["train", "dreaming", *words])
    opened, told = open_run(tmp_path / "deep"), []
    assert dreams_of(opened, opened.learner, tmp_path / "deep", told.append) == []
    [line] = told
    assert line.startswith("the page shows no futures: ") and "\n" not in line
    assert "holds a dreaming of codes, which cannot decode codes to sound" in line
    with pytest.raises(ValueError, match="which cannot decode codes to sound"):
        open_forecaster(tmp_path / "deep")
    (folder / "vq").rename(folder / "elsewhere")
    try:
        again = open_run(folder / "of codes")
        assert dreams_of(again, again.learner, folder / "of codes", told.append) == []
        assert "vq' is not a run folder" in told[1]
    finally:
        (folder / "elsewhere").rename(folder / "vq")


def test_where_the_recordings_are_gone_real_tokens_are_decoded(folder, sound, tmp_path):
    run = tmp_path / "language"
    shutil.copytree(folder / "language", run, ignore=shutil.ignore_patterns("forecast"))
    (folder / "speech").rename(folder / "elsewhere")
    told = []
    try:
        forecaster = open_forecaster(run, told.append)
        heard = forecaster.heard(forecaster.forecast(forecaster.file(sound, 0.5, 0.2), 0.2, 1))
    finally:
        (folder / "elsewhere").rename(folder / "speech")
    assert any("real tokens are heard as the run below decodes them" in line for line in told)
    assert forecaster.real.margin == 0 and len(heard[0].real) == 1600 and heard[0].real.std() > 0


def test_actions_of_a_clip_are_known_and_steer(folder, tmp_path, capsys):
    words = ("forecast", folder / "heard", "--clip", 4, "--at", 0.2, "--seconds", 0.1, "--samples", 1)
    changes = ("--action", "word=gi", "elapsed=-0.1")
    steered = said(capsys, *words, *changes, "--out", tmp_path / "out")
    assert steered["actions"] == [
        {"name": "word", "value": "gi", "relative": False}, {"name": "elapsed", "value": "-0.1", "relative": True},
    ]  # fmt: skip
    learner: Any = open_run(folder / "heard").learner
    forecaster = open_forecaster(folder / "heard", world=True)
    clip = forecaster.clip(4, 0.2, 0.1)
    assert forecaster.data is not None and clip.actions is not None
    whole = forecaster.data.world.whole(torch.tensor([4]))
    expected = learner.actions.in_world(learner.actions(whole, 9))
    # The past consists of whole tokens: the first 64 of 1600 samples do not fill one.
    assert clip.past.shape == (1, 6 * 256) and clip.moment == 6 * 256
    known = learner.actions.in_world(clip.actions)
    torch.testing.assert_close(known[:, :9, :3], expected[..., :3], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(known[0, :, 3], 64 / 8000 + 0.032 * torch.arange(9), rtol=1e-5, atol=1e-5)
    plain, same, other = (
        forecaster.forecast(clip, 0.1, 1, 0, list(map(change, asked))).futures[0].tokens
        for asked in ([], ["elapsed=+0"], ["word=gi", "elapsed=-0.1"])
    )
    np.testing.assert_array_equal(plain, same)
    assert np.abs(plain - other).max() > 1e-6


def elapsed(forecaster, actions):
    """The action `elapsed` of each token, in seconds."""
    return forecaster.learner.actions.in_world(actions)[0, :, 3].double().numpy()


def test_time_goes_on_counting_from_the_beginning_of_the_recording(folder, sound, tmp_path, capsys, monkeypatch):
    """Also beyond the end of a clip, and where only a part of the past is encoded; values outside the training
    range are reported."""
    forecaster, word = open_forecaster(folder / "heard", world=True), change("word=ba")
    assert forecaster.data is not None
    length = int(forecaster.data.world.lengths(torch.tensor([4]))) / 8000
    clip = forecaster.clip(4, None, 0.5)
    assert clip.actions is not None
    tokens = clip.past.shape[1] // 256 + 16
    begin = length % 0.032
    np.testing.assert_allclose(elapsed(forecaster, clip.actions), begin + 0.032 * np.arange(tokens), atol=1e-5)
    assert bool((clip.actions[0, :, :4] == clip.actions[0, 0, :4]).all())
    monkeypatch.setattr("sonarium.runs.forecast.PAST", 0.3)
    whole = Coder.blocks
    monkeypatch.setattr(
        Coder, "blocks", lambda *own: (part for block in whole(*own) for part in np.array_split(block, 20))
    )
    for at in (None, 0.9):
        heard = forecaster.file(sound, at, 0.2)
        _, acted = forecaster.followed(heard, 6, [word])
        assert acted is not None and heard.past.shape[1] <= 0.4 * 8000
        np.testing.assert_allclose(
            elapsed(forecaster, acted)[-6:], (at or 1.0) + 0.032 * np.arange(6), atol=1e-3, err_msg=str(at)
        )
        assert heard.begin == pytest.approx((at or 1.0) - heard.past.shape[1] / 8000, abs=1e-3)
    # A piece of .4 s has 12 tokens; the last one begins at .352 s.
    made = forecaster.forecast(forecaster.file(sound, 0.9, 0.2), 0.2, 1, 0, [word])
    [line] = made.remarks
    assert line.startswith("elapsed reaches 1.06 s, and the model was trained on 0 to 0.352 s of a piece")
    early = forecaster.forecast(forecaster.file(sound, 0.1, 0.1), 0.1, 1, 0, [word])
    held = forecaster.forecast(forecaster.file(sound, 0.9, 0.2), 0.2, 1, 0, [word, change("elapsed=0.352")])
    assert early.remarks == held.remarks == ()
    words = ("forecast", folder / "heard", sound, "--seconds", 0.1, "--samples", 1, "--action", "word=ba")
    dispatch([*map(str, words), "--out", str(tmp_path / "out")])
    assert "elapsed reaches 1.06 s" in capsys.readouterr().err


def test_a_value_that_the_training_split_does_not_have_is_refused(folder, sound, tmp_path):
    corpus = ["--path", str(folder / "speech"), *SMALL, "--cache", str(folder / "cache"), "--only", "word!=gi"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sonarium.runs.train.present", lambda *_: None)
        dispatch(["train", "dreaming", *corpus, *TINY, "--actions", "word", "--run", str(tmp_path / "run")])
    words = ["forecast", str(tmp_path / "run"), str(sound), "--out", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="of word the training split has ba, de; give one of these"):
        dispatch([*words, "--action", "word=gi"])
    dispatch([*words, "--seconds", "0.1", "--samples", "1", "--action", "word=de"])


def test_the_card_names_the_commands_that_take_the_run(folder):
    for name, verbs in (
        ("heard", "`sonarium score`, `encode`, `export`, `forecast`, `surprise` and `report` take this folder"),
        ("vq", "`sonarium score`, `encode`, `export`, `sample` and `report` take this folder"),
    ):
        assert verbs in card(open_run(folder / name), 2)


def test_forecasts_and_parts_of_states_are_scored(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "180")
    dispatch(["score", str(folder / "heard"), "--parts", "--max-frames", "300", "--gru-steps", "2"])
    said = capsys.readouterr().out
    assert (
        "[h, z]" in said
        and "forecasts" in said
        and "near 96 ms" in said
        and "GRU-AR" in said
        and "Persistence:" in said
    )
    scores = json.loads((folder / "heard" / "scores.json").read_text())
    probes = {key for key in scores["scores"] if key.startswith("clips/")}
    for name in ("part_feature", "part_state", "part_latent", "part_embedding"):
        assert probes <= scores["controls"][name].keys()
    assert {key: scores["scores"][key] for key in probes} == {
        key: scores["controls"]["part_feature"][key] for key in probes
    }
    assert {"forecast-near/96 ms", "action-shuffle/96 ms", "state/divergence in nats"} <= scores["scores"].keys()
    assert "horizons/near" in scores["curves"]


def test_the_page_draws_scores_by_horizon(folder, capsys):
    """A figure for each kind of forecast score in the run's record, with lines for the model and each control."""
    run = folder / "heard"
    if not (run / "scores.json").exists():
        dispatch(["score", str(run), "--max-frames", "300", "--gru-steps", "2"])
    record = json.loads((run / "scores.json").read_text())
    kinds = {key.partition("/")[2] for key in record["curves"] if key.startswith("horizons/")}
    assert kinds == {"near", "group", "all", "likelihood", "distance"}
    titles = {BY_HORIZON[kind][0]: kind for kind in kinds}
    found = {titles[title]: figure for title, _, figure in drawn([record]) if title in titles}
    assert set(found) == kinds
    for kind, figure in found.items():
        lines = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
        for name, label in (("scores", OWN), ("gru_ar", "GRU-AR"), ("persistence", "persistence")):
            own = record["scores"] if name == "scores" else record["controls"][name]
            keys = [key for key in own if key.startswith(f"forecast-{kind}/")]
            assert keys and [float(key.split("/")[1].removesuffix(" ms")) for key in keys] == pytest.approx(
                np.asarray(lines[label].get_xdata()).tolist()
            )
            np.testing.assert_allclose(np.asarray(lines[label].get_ydata()), [own[key] for key in keys])
    dispatch(["report", str(run), "--out", str(folder / "page.html")])
    page = (folder / "page.html").read_text()
    assert all(title in page for title in titles)


def test_actions_that_are_all_alike_can_be_shuffled(folder):
    opened = open_run(folder / "heard")
    learner: Any = opened.learner
    fitted = test = pieces(learner, opened.data.world, opened.data.split.train[::5], 8)
    where = moments(test, 1, 3)
    fits = forecasting.Fits(fitted)
    ratio = forecasting.shuffle_ratio(learner, fits, test, where, (1, 3))
    assert set(ratio) == {"action-shuffle/32 ms", "action-shuffle/96 ms"} and 1 not in ratio.values()
    alike = replace(test, actions=test.actions[:1].expand_as(test.actions))
    same = forecasting.shuffle_ratio(learner, fits, alike, where, (1, 3))
    assert set(same.values()) == {1.0}


def test_one_sound_becomes_another(folder, sound, tmp_path, capsys):
    forecaster = open_forecaster(folder / "heard")
    word = folder / "speech" / "de" / "bob_1.wav"
    one, other = (forecaster.file(path, 0.3, 0.2) for path in (sound, word))
    steps = forecaster.between(one, other, 0.2, 3, seed=2)
    assert [weight for weight, *_ in steps] == [0, 0.5, 1]
    # The end points are the sounds themselves, each with its forecast.
    for (_, tokens, wave), end in ((steps[0], one), (steps[-1], other)):
        future = forecaster.forecast(end, 0.2, 1, seed=2).futures[0]
        np.testing.assert_allclose(tokens[-6:], future.tokens, atol=1e-4)
        assert len(tokens) == 12 and len(wave) == 12 * 256
    changes = [change("word=gi"), change("elapsed=0.3")]
    steered = forecaster.between(one, other, 0.2, 3, seed=2, actions=changes)
    for (_, tokens, _), end in ((steered[0], one), (steered[-1], other)):
        future = forecaster.forecast(end, 0.2, 1, seed=2, actions=changes).futures[0]
        np.testing.assert_allclose(tokens[-6:], future.tokens, atol=1e-4)
    for (_, tokens, _), (_, free, _) in zip(steered, steps, strict=True):
        np.testing.assert_array_equal(tokens[:6], free[:6])
        assert np.abs(tokens[6:] - free[6:]).max() > 1e-6
    found = said(
        capsys, "forecast", folder / "heard", sound, "--at", 0.3, "--seconds", 0.2, "--samples", 1,
        "--toward", word, "--steps", 3, "--out", tmp_path / "out",
    )  # fmt: skip
    assert [one["weight"] for one in found["between"]] == [0, 0.5, 1]
    assert all((tmp_path / "out" / one["file"]).exists() for one in found["between"])
    assert (tmp_path / "out" / "between.png").exists()


def test_surprise_is_written_token_by_token(folder, sound, tmp_path, capsys):
    words = ("surprise", folder / "heard", sound, tmp_path / "more", "--above", 0.8)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "other.wav").write_bytes((folder / "speech" / "ba" / "ann_0.wav").read_bytes())
    found = said(capsys, *words, "--out", tmp_path / "out")
    assert [one["name"] for one in found["files"]] == ["other-1", "other-2"] and found["files"][0]["tokens"] == 31
    own = surprise_meter(open_forecaster(folder / "heard"), above=0.8)
    usual = own.forecaster.real.usual["kl"].double().numpy()
    assert found["threshold"] == own.threshold and np.mean(usual <= own.threshold) == pytest.approx(0.8, abs=0.02)
    for one in found["files"]:
        track = own.file(tmp_path / one["path"])
        table = np.genfromtxt(tmp_path / "out" / f"{one['name']}.csv", delimiter=",", names=True)
        np.testing.assert_array_equal(table["kl"], track.values["kl"])
        np.testing.assert_array_equal(table["nce"], track.values["nce"])
        assert np.isnan(table["kl"][0]) and np.isfinite(table["kl"][1:]).all()
        labels = read_audacity(tmp_path / "out" / f"{one['name']}.txt")
        assert labels == list(track.onsets) and (tmp_path / "out" / f"{one['name']}.png").exists()
        above = {round((start + 0.016) / 0.032 - 0.5) for start, *_ in labels}
        assert all(table["kl"][at] > own.threshold for at in above)


def test_tokens_that_overlap_stand_for_their_middles(folder, monkeypatch):
    own = surprise_meter(open_forecaster(folder / "heard"), above=0.5)
    wave = np.random.default_rng(3).standard_normal(16000).astype(np.float32) * 0.1
    usual = own.wave(wave, 8000)
    monkeypatch.setattr(own.coder, "code_first", own.coder.code_first + 0.01)
    later = own.wave(wave, 8000)
    assert (usual.begin, later.begin) == (0, 0.01) and usual.onsets
    assert [mark[0] for mark in later.onsets] == pytest.approx([mark[0] + 0.01 for mark in usual.onsets])


def test_surprise_of_a_long_sound_is_that_of_its_parts(folder, monkeypatch):
    """Windows begin early enough to reach the same state as the whole sound."""
    own = surprise_meter(open_forecaster(folder / "heard"))
    wave = np.random.default_rng(3).standard_normal(24000).astype(np.float32) * 0.1
    whole = own.wave(wave, 8000)
    monkeypatch.setattr("sonarium.models.framing.WINDOW", 0.5)
    monkeypatch.setattr("sonarium.models.framing.AROUND", 1.0)
    for name, values in own.wave(wave, 8000).values.items():
        np.testing.assert_allclose(values, whole.values[name], atol=2e-2)


@pytest.mark.parametrize("name", ["heard", "of codes", "language"])
def test_the_page_shows_futures_surprise_steering_and_states(folder, tmp_path, monkeypatch, name):
    for constant, value in (("ASKED", 2), ("SURPRISED", 1), ("STEPS", 2), ("SAMPLES", 1)):
        monkeypatch.setattr(f"sonarium.runs.dreams.{constant}", value)
    opened, told = open_run(folder / name), []
    media = dreams_of(opened, opened.learner, folder / name, told.append)
    kinds, sounds = {medium.group.split("/")[0] for medium in media}, ["futures/1", "futures/2", "surprise/1"]
    steered = ["steering/elapsed"] if name == "heard" else []
    assert kinds == {"futures", "surprise", "between", "usage", *(["steering"] if steered else [])} and not told
    assert {medium.group for medium in media if medium.kind == "sound"} == {*sounds, "between", *steered}
    for medium in media:
        path = folder / name / "media" / medium.file
        assert path.exists()
        if medium.kind == "sound":
            wave, rate = soundfile.read(path)
            assert rate == 8000 and len(wave) >= 800 and wave.std() > 0
    dispatch(["report", str(folder / name), "--out", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    assert all(title in page for title in ("Futures of held-out sound", "From one sound to another", "Surprise"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("heard {short} --out {out}", "0.025 s before 0.025 s, 0 token(s), and the model needs 1"),
        ("heard {sound} --at 3 --out {out}", "other.wav' lasts 1.000 s; give a time within it"),
        ("heard {sound} --at 0.01 --out {out}", "0 token(s)"),
        ("heard {sound} --seconds 61 --out {out}", "--seconds 61"),
        ("heard {sound} --temperature 0 --out {out}", "--temperature 0"),
        (
            "heard {sound} --action pitch=+1 --out {out}",
            "action 'pitch': the model knows word (ba, de, gi); elapsed",
        ),
        ("heard {sound} --action elapsed=+1 word=ba --out {out}", "and the training split has 0 to 0.352: give"),
        ("heard {sound} --action elapsed=0.1 --out {out}", "'word' is not known of this sound: give it, too"),
        ("heard {sound} --action word --out {out}", "give NAME=VALUE"),
        ("heard --clip 54 --out {out}", "has clips 0 to 53"),
        ("heard --clip 1 --at 3 --out {out}", "give a time within it"),
        ("heard --out {out}", "give a sound file after the run folder, or --clip N"),
        ("heard --clip 1 --toward {sound} --out {out}", "give FILE in place of --clip"),
        ("heard {sound} --steps 3 --out {out}", "--steps 3 without --toward"),
        ("vq {sound} --out {out}", "holds a vq-vae, which does not forecast"),
        ("speech {sound} --out {out}", "is not a run folder"),
    ],
)
def test_what_cannot_be_forecast_is_refused_in_one_line(folder, sound, tmp_path, words, told):
    short = tmp_path / "short.wav"
    soundfile.write(short, np.zeros(200), 8000)
    run, *rest = words.split()
    places = {"short": short, "sound": sound, "out": tmp_path / "out"}
    with pytest.raises((UsageError, ValueError)) as refused:
        dispatch(["forecast", str(folder / run), *(word.format(**places) for word in rest)])
    assert told in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_what_cannot_surprise_is_refused_in_one_line(folder, sound, tmp_path):
    short, out = tmp_path / "short.wav", ["--out", str(tmp_path / "out")]
    soundfile.write(short, np.zeros(300), 8000)
    for words, told in (
        ([str(folder / "heard"), str(short)], "has 1 token(s), and 2 are needed"),
        ([str(folder / "heard"), str(sound), "--by", "joy"], "has kl and nce; give one of these"),
        ([str(folder / "heard"), str(sound), "--above", "1"], "--above 1"),
        ([str(folder / "heard")], "no files"),
        ([str(folder / "vq"), str(sound)], "does not forecast"),
    ):
        with pytest.raises((UsageError, ValueError)) as refused:
            dispatch(["surprise", *words, *out])
        assert told in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()
