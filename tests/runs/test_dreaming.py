"""A world model from the command line: of a folder of recordings, and of the codes of a run."""

from typing import Any

import numpy as np
import pytest
import torch
from corpus import SMALL, write_corpus

import sonarium
from sonarium.__main__ import dispatch
from sonarium.commands.faults import UsageError
from sonarium.runs.build import open_run

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
        dispatch(["train", "dreaming", *codes, *TINY, "--run", str(made / "of codes")])
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


def test_futures_become_sound(folder):
    learner: Any = open_run(folder / "heard").learner.eval()
    waves = 0.1 * torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))
    codes = learner.forecast(waves, 4, 3, torch.Generator().manual_seed(1))
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
