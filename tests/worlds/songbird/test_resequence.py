"""Recorded syllables in a planted order; the recordings are synthetic songs, cut up and reassembled."""

import csv
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sonarium.worlds.songbird.resequence import Resequenced
from sonarium.worlds.songbird.world import SongbirdConfig, build

RATE = 16_000
TONES = {"a": 800.0, "b": 1500.0, "c": 2600.0}


def ignore(stage: str, done: int, total: int) -> None:
    """Progress callback that does nothing."""


def write_songs(folder: Path, rows: list[tuple[str, float, float, str]] | None = None) -> Path:
    """Write a recording of faint noise with tones of one frequency per label, 80 ms long, 40 ms apart."""
    folder.mkdir()
    noise = np.random.default_rng(0).normal(0, 1e-3, 5 * RATE)
    given = []
    for at in range(36):
        label, onset = "abc"[at % 3], 0.3 + 0.12 * at
        first, time = round(onset * RATE), np.arange(round(0.08 * RATE)) / RATE
        noise[first : first + len(time)] += 0.3 * np.sin(2 * np.pi * TONES[label] * time)
        given.append(("song.wav", onset, onset + 0.08, label))
    soundfile.write(folder / "song.wav", noise, RATE)
    with (folder / "segments.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "onset", "offset", "label"), *(given if rows is None else rows)])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_songs(tmp_path_factory.mktemp("songs") / "finch")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def made(folder: Path, **settings) -> Resequenced:
    config = SongbirdConfig(source=str(folder), songs=6, shortest=4, longest=8, **settings)
    world = build(config, 0, ignore)
    assert isinstance(world, Resequenced)
    return world


def test_each_syllable_is_heard_where_it_is_marked(folder):
    world = made(folder)
    index = torch.arange(len(world))
    batch = world.whole(index)
    heard = []
    for wave, marks in zip(batch.signal.double().numpy(), world.marks(index), strict=True):
        for onset, offset, label in marks:
            piece = wave[round(onset * RATE) : round(offset * RATE)]
            peak = np.abs(np.fft.rfft(piece)).argmax() * RATE / len(piece)
            heard.append(abs(peak - TONES[label]) < 15)
            assert offset - onset == pytest.approx(0.08, abs=1e-3)
        for (_, before, _), (after, _, _) in itertools.pairwise(marks):
            assert after - before == pytest.approx(0.04, abs=1e-3)
            gap = wave[round((before + 0.004) * RATE) : round((after - 0.004) * RATE)]
            assert 3e-4 < gap.std() < 3e-3
    assert all(heard) and len(heard) >= 24
    assert batch.tracks is not None and [track.name for track in world.tracks] == ["syllable"]


def test_the_order_is_that_of_the_planted_grammar(folder):
    world = made(folder, order=2)
    songs = [[label for *_, label in marks] for marks in world.marks(torch.arange(len(world)))]
    assert all(math.isfinite(world.grammar(0).log_probability(song)) for song in songs)
    assert world.entropy_rate(0) == world.grammar(0).entropy_rate()
    assert world.bird_names == ("finch",) and "order 2" in world.describe()


def test_a_song_follows_from_seed_and_recordings(folder, tmp_path):
    world, again = made(folder), made(folder)
    index = torch.arange(3)
    assert torch.equal(world.whole(index).signal, again.whole(index.flip(0)).signal.flip(0))
    assert world.identity(index) == again.identity(index)
    other = write_songs(tmp_path / "other")
    sound, _ = soundfile.read(other / "song.wav")
    soundfile.write(other / "song.wav", 0.5 * sound, RATE)
    assert not set(made(other).identity(index)) & set(world.identity(index))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("song.wav", 0.3, 0.5, "a"), ("song.wav", 0.4, 0.6, "b")],
            "segments that overlap, 'a' from 0.3 to 0.5 s",
        ),
        (
            [("song.wav", 0.3, 0.5, "a"), ("song.wav", 4.9, 5.2, "b")],
            "segment 'b' from 4.9 to 5.2 s goes beyond the end",
        ),
        ([("song.wav", 0.3, 0.5, " ")], "without a label: name it"),
        ([("gone.wav", 0.3, 0.5, "a")], "gone.wav"),
        ([("song.wav", 0.3, 0.5, "a")], "at least 5 segments"),
    ],
)
def test_annotations_that_cannot_be_right_are_refused(rows, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        made(write_songs(tmp_path / "bad", rows))
    assert "\n" not in str(refused.value)


def test_real_syllables_are_sung(shared_data):
    world = made(shared_data / "bengalese_finch", syllables=6)
    assert len(world.bird_names) == 1 and len(world.labels.values) == 7
    batch = world.whole(torch.arange(2))
    assert batch.signal.isfinite().all() and batch.signal.abs().max() > 0.01
