"""Sentences of recorded words: their sound, their grammar, and no recording in two parts of a split."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from corpus import PATTERN, RATE, SPEAKERS, WORDS, write_corpus

from sonarium.evaluation.splits import split_world
from sonarium.worlds.contract import Batch
from sonarium.worlds.sentences import Sentences, SentencesConfig


def ignore(stage: str, done: int, total: int) -> None:
    """Progress callback that does nothing."""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> SentencesConfig:
    folder = tmp_path_factory.mktemp("sentences")
    return SentencesConfig(
        path=str(write_corpus(folder / "words")), word="word", pattern=PATTERN, rate=RATE, sentences=20, sets=3,
        shortest=3, longest=5, seconds=1.0, cache=str(folder / "cache"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(config) -> Sentences:
    return Sentences(config, 0, ignore)


def test_each_word_is_a_recording_of_it_by_its_speaker_over_faint_noise(world):
    assert len(world) == 20 * len(SPEAKERS) and world.labels.values == ("silence", *WORDS)
    for clip in (0, 33, 119):
        batch: Batch = world.whole(torch.tensor([clip]))
        wave, said = batch.signal[0].numpy(), world.sentence(clip)
        speaker = SPEAKERS[int(batch.factors[0, 0])]
        [marks] = world.marks(torch.tensor([clip]))
        for take, onset, word, mark in zip(said.takes, said.onsets, said.words, marks, strict=True):
            path = Path(world.recordings.path(take))
            assert (path.parent.name, path.stem.split("_")[0], mark[2]) == (word, speaker, word)
            sound = world.recorded(take)
            assert mark[:2] == (onset / RATE, (onset + len(sound)) / RATE)
            # Except for fades of 3 ms at both ends.
            np.testing.assert_array_equal(wave[onset + 24 : onset + len(sound) - 24], sound[24:-24])
        outside = np.ones(len(wave), bool)
        for onset, offset, _ in marks:
            outside[round(onset * RATE) : round(offset * RATE)] = False
        assert 0 < np.square(wave[outside]).mean() <= np.square(wave[~outside]).mean()
        assert batch.tracks is not None
        times = (np.arange(batch.tracks.shape[1]) + 0.5) / world.track_rate
        for time, value in zip(times, batch.tracks[0, :, 0], strict=True):
            assert world.labels.values[int(value)] == next(
                (label for onset, offset, label in marks if onset <= time < offset), "silence"
            )


def test_words_follow_the_grammar(world):
    for clip in range(len(world)):
        assert world.grammar_of(clip).log_probability(world.sentence(clip).words) > -math.inf
    [about] = world.about()["grammars"]
    assert about["entropy_rate"] == world.grammar.entropy_rate() > 0


def test_no_recording_lies_in_two_parts_of_a_split(world, config):
    for made in (world, Sentences(replace(config, group="speaker"), 0, ignore)):
        split = split_world(made, 0, 0.4)
        used = [
            {take for clip in part.tolist() for take in made.sentence(clip).takes}
            for part in (split.train, split.test)
        ]
        assert used[0] and used[1] and not used[0] & used[1]
    assert world.group_names() == ("set 1", "set 2", "set 3") and made.group_names() == SPEAKERS


def test_clips_follow_from_seed_and_recordings_alone(world, config):
    again, other = Sentences(config, 0, ignore), Sentences(config, 1, ignore)
    clips = torch.tensor([5, 70])
    both, alone = world.whole(clips).signal, again.whole(clips[1:]).signal[0]
    assert torch.equal(again.whole(clips).signal, both) and torch.equal(alone, both[1, : len(alone)])
    assert other.sentence(5) != world.sentence(5)
    assert not set(world.identity(clips)) & set(other.identity(clips))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"word": ""}, "the recordings have the labels word, speaker, take; give the one that names the word"),
        ({"word": "digit"}, "word='digit': the recordings have the labels"),
        ({"sets": 4}, r"sets=4, but ann has 3 recording\(s\) of the word 'ba': give fewer sets"),
        ({"path": None}, "which recordings"),
        ({"path": "/none"}, "'/none'"),
    ],
)
def test_what_cannot_be_joined_is_refused(config, changes, said):
    with pytest.raises(ValueError, match=said):
        Sentences(replace(config, **changes), 0, ignore)


def test_intervals_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match="shortest=9, longest=3: give longest no less than shortest"):
        SentencesConfig(shortest=9, longest=3)
    with pytest.raises(ValueError, match="give gap"):
        SentencesConfig(gap=(0.5, 0.1))
