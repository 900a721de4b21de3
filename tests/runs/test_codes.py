"""Runs on the codes of another run: bound to its checkpoint and split, even if it trains on or is deleted."""

import shutil
from pathlib import Path

import pytest
import soundfile
from corpus import RATE, SMALL, TINY, write_corpus

import sonarium
from sonarium.__main__ import dispatch
from sonarium.commands.faults import UsageError
from sonarium.runs.build import open_run

KMEANS = "--batch-size 8 --clusters 4 --steps".split()


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    monkeypatch.setattr("sonarium.runs.train.present", lambda *_: None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "speech")


def train_upstream(corpus: Path, folder: Path, steps: int, *words: str) -> None:
    own = ["--path", str(corpus), *SMALL, *TINY, "--cache", str(folder.parent / "cache"), *words]
    dispatch(["train", "cpc", "--world", "recordings", *own, "--run", str(folder), "--steps", str(steps)])


@pytest.fixture
def runs(corpus, tmp_path) -> tuple[Path, Path]:
    """A run, and a run on its codes."""
    below, above = tmp_path / "below", tmp_path / "above"
    train_upstream(corpus, below, 2)
    dispatch(["train", "kmeans", "--codes", str(below), "--run", str(above), *KMEANS, "2", "--seed", "7"])
    return below, above


def test_the_split_is_that_of_the_run_below_whatever_the_seed(runs):
    below, above = (open_run(folder).data for folder in runs)
    for (name, index), (_, upstream) in zip(above.split.items(), below.split.items(), strict=True):
        assert index.tolist() == upstream.tolist(), name
    assert above.world.marks(above.split.test) == below.world.marks(below.split.test)
    assert above.world.group_names() == below.world.group_names()


def test_a_split_or_a_world_of_its_own_is_refused(runs, tmp_path):
    words = ["train", "kmeans", "--codes", str(runs[0]), "--run", str(tmp_path / "other"), *KMEANS, "2"]
    for own in (["--test", "0.5"], ["--split-seed", "3"], ["--world", "tones"]):
        with pytest.raises(UsageError):
            dispatch([*words, *own])
    assert not (tmp_path / "other").exists()


def test_it_goes_on_with_its_own_codes_where_the_run_below_is_gone(runs, corpus, tmp_path):
    below, above = runs
    whole = tmp_path / "whole"
    dispatch(["train", "kmeans", "--codes", str(below), "--run", str(whole), *KMEANS, "5", "--seed", "7"])
    shutil.rmtree(below)
    dispatch(["train", "kmeans", "--codes", str(below), "--run", str(above), *KMEANS, "5", "--seed", "7"])
    found, expected = (open_run(folder).learner.state_dict() for folder in (above, whole))
    assert all(found[name].equal(expected[name]) for name in expected)
    with pytest.raises(ValueError, match="is not a run folder"):
        sonarium.load(above)


def test_runs_that_were_moved_together_find_each_other(runs, corpus, tmp_path):
    wave, rate = soundfile.read(sorted(corpus.rglob("*.wav"))[0])
    expected = sonarium.load(runs[1]).encode(wave, rate)
    moved = tmp_path / "other machine"
    moved.mkdir()
    below, above = (shutil.move(folder, moved) for folder in runs)
    assert (sonarium.load(above).encode(wave, rate) == expected).all()
    dispatch(["train", "kmeans", "--codes", str(below), "--run", str(above), *KMEANS, "3", "--seed", "7"])
    assert open_run(Path(above)).step == 3
    # Another run of that name is not taken for it.
    shutil.rmtree(below)
    train_upstream(corpus, Path(below), 3)
    with pytest.raises(ValueError, match="with other weights than those of step 2"):
        sonarium.load(above)


def test_sound_does_not_go_through_another_checkpoint_than_the_codes_did(runs, corpus):
    below, above = runs
    wave, rate = soundfile.read(sorted(corpus.rglob("*.wav"))[0])
    assert rate == RATE and len(sonarium.load(above).encode(wave, rate))
    train_upstream(corpus, below, 3)
    with pytest.raises(ValueError, match=r"stands at step 3, with other weights than those of step 2"):
        sonarium.load(above)


def test_a_run_below_that_was_trained_on_all_clips_is_told(corpus, tmp_path):
    train_upstream(corpus, tmp_path / "below", 2, "--train-on", "all")
    dispatch(
        ["train", "kmeans", "--codes", str(tmp_path / "below"), "--run", str(tmp_path / "above"), *KMEANS, "1"]
    )
    assert open_run(tmp_path / "above").split_in_words().endswith("without labels")
