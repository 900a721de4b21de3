"""Validation of agents and of models of clips: the best weights are kept, and nothing else changes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from sonarium.__main__ import dispatch
from sonarium.commands.faults import UsageError
from sonarium.runs.build import open_run, silent
from sonarium.runs.coder import load
from sonarium.runs.codes import encode_clips
from sonarium.runs.forecast import open_forecaster
from sonarium.training.journal import read_metrics
from sonarium.training.run import RunFolder
from sonarium.worlds.codes import Encoded

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
    # The first of equal scores.
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
        (
            lambda run: (run / "best.json").unlink(),
            "has no best weights: train it with --validation, an agent with --validation-episodes",
        ),
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


TONES = (
    "train autoregressive --world tones --rate 8000 --seconds 0.2 --frequencies 8 --amplitudes 3 --units 8 "
    "--components 2 --burn-in 1 --bands 8 --token-frames 2 --batch-size 4 --device cpu --no-pictures "
    "--save-every 2 --log-every 1 --schedule constant"
).split()


def heard(folder: Path, steps: int, *more: str) -> Path:
    dispatch([*TONES, "--steps", str(steps), "--run", str(folder), "--validation", "0.2", *more])
    return folder


@pytest.fixture(scope="module")
def tones(tmp_path_factory) -> Path:
    return heard(tmp_path_factory.mktemp("runs") / "tones", 6)


def losses(folder: Path) -> dict[int, float]:
    name = "validation/loss/negative_log_likelihood"
    return {int(one["step"]): one[name] for one in read_metrics(folder / "metrics.jsonl") if name in one}


def test_the_loss_on_the_validation_split_is_recorded(tones):
    found = losses(tones)
    assert list(found) == [2, 4, 6]
    best = RunFolder.read(tones).best()
    assert best is not None and -best.score == min(found.values()) == found[best.step]
    opened = open_run(tones)
    assert {len(part) > 0 for _, part in opened.data.split.items()} == {True}


def test_a_resumed_run_of_clips_validates_and_learns_the_same(tones, tmp_path):
    """Resumed at step 4, a run has the same validation losses and weights as an uninterrupted one."""
    folder = heard(tmp_path / "run", 4)
    heard(folder, 6)
    assert losses(folder) == losses(tones)
    one, other = (open_run(run).learner.state_dict() for run in (folder, tones))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_commands_take_the_best_weights(tones, tmp_path):
    run = RunFolder.read(tones)
    best = run.best()
    assert best is not None
    # Replace the best weights by other ones.
    learner = open_run(tones).learner
    weights, name = learner.state_dict() | {}, next(iter(dict(learner.named_parameters())))
    weights[name] = weights[name] + 1
    folder = tmp_path / "run"
    shutil.copytree(tones, folder)
    RunFolder.read(folder).save_best(1, 0.0, weights)
    wave = np.sin(np.arange(4000) / 5)
    newest, other = (load(folder, best=best).encode(wave, 8000) for best in (False, True))
    assert np.array_equal(newest, load(tones).encode(wave, 8000)) and not np.array_equal(newest, other)
    soundfile.write(tmp_path / "tone.wav", wave, 8000, subtype="FLOAT")
    for flags in ([], ["--best"]):
        out = tmp_path / f"codes{len(flags)}.npz"
        dispatch(["encode", str(folder), str(tmp_path / "tone.wav"), "--out", str(out), *flags])
        wanted = other if flags else newest
        np.testing.assert_allclose(np.load(out)["codes"], wanted, atol=1e-3)
    learner = open_forecaster(folder, best=True).learner
    assert isinstance(learner, nn.Module) and torch.equal(learner.state_dict()[name], weights[name])
    # The statistics kept for the other weights stay.
    open_forecaster(folder)
    assert len(list((folder / "forecast").glob("*.safetensors"))) == 2
    shutil.rmtree(folder / "checkpoints")
    open_forecaster(folder, best=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--validation 0.03", "the validation split has 1 clips, and a batch needs at least 2"),
        ("--validation 0.3 --train-on all", "trains on the validation split, too"),
    ],
)
def test_what_cannot_validate_is_refused_before_anything_is_written(words, said, tmp_path):
    command = f"train factor-vae --world tones --frequencies 5 --amplitudes 2 --steps 1 {words}".split()
    with pytest.raises(ValueError, match=said):
        dispatch([*command, "--run", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_seeds_stay_together_whatever_their_best_step(tones, tmp_path, capsys):
    folders = [heard(tmp_path / f"s{seed}", 4, "--seed", str(seed), "--split-seed", "0") for seed in (0, 1)]
    for step, folder in enumerate(folders, start=2):
        RunFolder.read(folder).save_best(step, 0.0, open_run(folder).learner.state_dict())
    capsys.readouterr()
    dispatch(["score", *map(str, folders), "--best", "--max-pieces", "10", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [one["step"] for one in found["runs"]] == [2, 3]
    assert {one["seeds"] for one in found["summary"]} == {2}


def better(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """Save weights that differ from the newest as the best ones, and return them."""
    learner = open_run(folder).learner
    weights = {name: (step + 1) * value.detach() for name, value in learner.named_parameters()}
    weights = learner.state_dict() | weights
    RunFolder.read(folder).save_best(step, 1e9 * step, weights)
    return weights


@pytest.fixture
def below(tones, tmp_path) -> Path:
    """A run whose best weights are far from its newest."""
    shutil.copytree(tones, tmp_path / "below")
    better(tmp_path / "below", 1)
    return tmp_path / "below"


def equal(one: object, other: object) -> bool:
    assert isinstance(one, nn.Module) and isinstance(other, nn.Module)
    found, expected = dict(one.named_parameters()), dict(other.named_parameters())
    return all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_run_on_the_codes_of_the_best_weights_keeps_to_them(below, tmp_path):
    above, newest, best = tmp_path / "above", open_run(below).learner, open_run(below, best=True).learner
    words = f"train autoregressive --codes {below} --frames 4 --units 8 --components 2 --burn-in 1 --batch-size 4"
    words += f" --device cpu --no-pictures --schedule constant --run {above} --steps"
    dispatch([*words.split(), "1", "--best"])
    world = open_run(below).data.world
    kept, old = Encoded.load(above / "codes").codes, encode_clips(newest, world, silent).codes
    assert torch.equal(kept, encode_clips(best, world, silent).codes) and not torch.allclose(kept, old)
    forecaster = open_forecaster(above)
    assert forecaster.coder.below is not None
    assert equal(forecaster.coder.below.encoder, best) and not equal(newest, best)
    assert forecaster.voice is not None and equal(forecaster.voice.decoder, best)
    # First the newest weights change, then the best ones.
    heard(below, 8)
    assert RunFolder.read(below).newest() == 8 and len(load(above).encode(np.sin(np.arange(4000) / 5), 8000))
    better(below, 2)
    with pytest.raises(
        ValueError, match=r"at step 2 \(best in validation\), with other weights than those of step 1"
    ):
        load(above)
    # Training continues on the stored codes.
    shutil.rmtree(below)
    with pytest.raises(ValueError, match=r"upstream\.best: True in the folder, False now"):
        dispatch([*words.split(), "2"])
    dispatch([*words.split(), "2", "--best"])
    assert RunFolder.read(above).newest() == 2


def test_a_run_starts_from_the_best_weights(below, tmp_path):
    words = [*TONES, "--start-from", str(below), "--run", str(tmp_path / "run"), "--steps"]
    dispatch([*words, "0", "--best"])
    best = open_run(below, best=True).learner
    assert equal(open_run(tmp_path / "run").learner, best) and not equal(open_run(below).learner, best)
    with pytest.raises(ValueError, match=r"loop\.best: True in the folder, False now"):
        dispatch([*words, "1"])
    shutil.rmtree(below)
    dispatch([*words, "1", "--best"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("vae", "name it by --codes, --ears or --start-from"),
        ("vae --start-from RUN --no-best --best", "has no best weights: train it with --validation"),
        ("gru --codes RUN", "has no best weights: train it with --validation"),
        ("ppo --env CartPole-v1 --ears RUN", "has no best weights: train it with --validation"),
        ("vae --start-from FILE", "is a file, not a run folder.* leave out --best"),
    ],
)
def test_best_weights_that_are_not_there_are_refused(words, said, below, tmp_path):
    shutil.rmtree(below / "best")
    (below / "best.json").unlink()
    file = tmp_path / "weights.pt"
    file.touch()
    command = ["train", *words.replace("RUN", str(below)).replace("FILE", str(file)).split(), "--steps", "1"]
    with pytest.raises((ValueError, UsageError), match=said) as refused:
        dispatch([*command, "--best", "--run", str(tmp_path / "run")])
    assert "\n" not in str(refused.value) and not (tmp_path / "run").exists()
