"""Media of annotated song: held-out songs, and maps and neighbours of their segments."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sonarium_extension.chirps import Chirps, ChirpsConfig

from sonarium.models.contract import FrameEncoder, Learner
from sonarium.report import likeness
from sonarium.report.album import Medium
from sonarium.report.likeness import AROUND, SONG_SECONDS, illustrate_likeness

RATE, HOP = 8000, 80


class Crossings(Learner, FrameEncoder):
    """Zero crossings and level of every 10 ms: codes that discriminate chirps without training."""

    code_rate, code_first = RATE / HOP, HOP / 2 / RATE

    def encode(self, signal, lengths=None, *, power=None):
        frames = signal[:, : signal.shape[1] // HOP * HOP].unflatten(1, (-1, HOP))
        crossed = (frames[..., 1:].sign() != frames[..., :-1].sign()).float().mean(-1)
        return torch.stack([crossed, frames.square().mean(-1).sqrt()], -1)

    def code_lengths(self, lengths):
        return torch.div(lengths, HOP, rounding_mode="floor")

    def update(self, data, engine):
        raise AssertionError("never trained")


@pytest.fixture(scope="module")
def world() -> Chirps:
    return Chirps(ChirpsConfig(clips=12, singers=3), seed=0)


@pytest.fixture(scope="module")
def test() -> torch.Tensor:
    """Fewer clips than a map needs; their segments are enough."""
    return torch.tensor([1, 4, 5])


@pytest.fixture(scope="module")
def shown(world, test, tmp_path_factory) -> tuple[dict[str, list[Medium]], Path]:
    folder = tmp_path_factory.mktemp("media")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likeness, "tsne", lambda codes, random: codes[:, :2])
        media = illustrate_likeness(Crossings(), world, test, folder, 0)
    kinds: dict[str, list[Medium]] = {}
    for medium in media:
        kinds.setdefault(medium.group.split("/")[0], []).append(medium)
    return kinds, folder


def test_songs_are_seen_and_heard_from_their_beginning(shown, world, test):
    kinds, folder = shown
    assert [medium.kind for medium in kinds["songs"]] == ["picture", "sound"] * 3
    for number, clip in enumerate(test.tolist(), start=1):
        wave, rate = soundfile.read(folder / f"song-{number}.wav", dtype="float32")
        own = world.whole(torch.tensor([clip])).signal[0, : round(SONG_SECONDS * RATE)].numpy()
        assert rate == RATE and np.abs(wave - own).max() < 1e-4


def test_maps_are_of_segments(shown, world, test):
    kinds, _ = shown
    count = sum(map(len, world.marks(test)))
    assert kinds["map"][0].title == "Held-out segments by label"
    assert kinds["map"][0].caption.startswith(f"{count} held-out segments by t-SNE")


def test_neighbours_are_segments_of_other_files_with_a_little_around_them(shown, world, test):
    kinds, folder = shown
    spans: Mapping[str, set[int]] = {"rise": set(), "fall": set(), "flat": set()}
    for clip, marks in zip(test.tolist(), world.marks(test), strict=True):
        length = int(world.lengths(torch.tensor([clip])))
        for start, stop, label in marks:
            first, last = round((start - AROUND) * RATE), round((stop + AROUND) * RATE)
            spans[label].add(min(last, length) - max(first, 0))
    assert len(kinds["heard"]) > 6
    for medium in kinds["heard"]:
        label = medium.title.partition(" (")[0].split()[-1]
        assert soundfile.info(folder / medium.file).frames in spans[label], medium
    clips = {}
    for medium in kinds["heard"]:
        clips.setdefault(medium.group, []).append(medium.caption.partition(",")[0])
    assert all(own not in others for own, *others in clips.values())


def test_the_mean_codes_are_those_of_the_segment(world, test):
    random = np.random.default_rng(0)
    learner = Crossings()
    nothing = torch.empty(0, dtype=torch.int64)
    config = likeness.EvaluationConfig()
    known = likeness.corpus(world, likeness.Split(nothing, nothing, test), learner, config, random)
    extractor = likeness.of_learner(learner, world.signal, torch.device("cpu"))
    made, codes = likeness.segments_of(known, extractor, world, random)
    assert sorted(mark for marks in world.marks(test) for mark in marks) == sorted(mark for (mark,) in made.marks)
    for row, ((start, stop, label),) in enumerate(made.marks):
        clip = made.index[[row]]
        frames = learner.encode(world.whole(clip).signal)[0].numpy()
        times = learner.code_first + np.arange(len(frames)) / learner.code_rate
        inside = (np.round(times - start, 9) >= 0) & (np.round(times - stop, 9) < 0)
        np.testing.assert_allclose(codes[row], frames[inside].mean(0), rtol=1e-5, err_msg=str(row))
        assert made.labels["segment"][row] == label
        assert (start, stop, label) in world.marks(clip)[0]
