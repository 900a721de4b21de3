"""A linear probe of log-mel statistics on real recordings has the accuracy that is noted with the recordings.

The settings of the notes are known in part: 40 bands, means of three thirds and the standard deviation, ridge.
Levels are equalised for the digits: one speaker (theo) was recorded so softly that absolute decibels mislead the
probe.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sonarium.features.classical import LogMel, LogMelConfig
from sonarium.measures.probes.frames import rows_of, thirds_and_deviation
from sonarium.measures.probes.probe import ProbeConfig, leave_one_group_out

KNOWN_DIGITS = {"george": 59.2, "jackson": 89.8, "lucas": 64.2, "theo": 78.0}
"""Accuracy in per cent on the digits of each speaker, by a probe trained on the other three; chance is 10."""


def listed(folder: Path, every: int = 1) -> list[dict[str, str]]:
    with open(folder / "files.csv") as file:
        return list(csv.DictReader(file))[::every]


def statistics(waves: list[np.ndarray], rate: int, config: LogMelConfig, batch: int = 50) -> np.ndarray:
    """Log-mel statistics of each clip, computed in batches of similar lengths."""
    features, order = LogMel(config, rate), np.argsort([len(wave) for wave in waves], kind="stable")
    found = np.zeros((len(waves), 4 * config.bands))
    for rows in np.array_split(order, -(-len(order) // batch)):
        lengths = torch.tensor([len(waves[row]) for row in rows])
        padded = torch.zeros(len(rows), int(lengths.max()))
        for place, row in enumerate(rows):
            padded[place, : len(waves[row])] = torch.from_numpy(waves[row])
        found[rows] = thirds_and_deviation(features(padded, lengths), features.code_lengths(lengths)).numpy()
    return found


def test_digits_of_speakers_never_heard(shared_data) -> None:
    files = listed(shared_data / "fsdd")
    waves = [soundfile.read(shared_data / "fsdd" / one["file"], dtype="float32")[0] for one in files]
    codes = statistics(waves, 8000, LogMelConfig(equal_levels=True))
    digits, speakers = np.array([one["digit"] for one in files]), np.array([one["speaker"] for one in files])
    config = ProbeConfig("ridge", (0.01,))
    scores = leave_one_group_out(codes, digits, speakers, np.random.default_rng(0), config)
    found = {name: 100 * score.accuracy for name, score in scores.items()}
    assert found == {name: pytest.approx(known, abs=9) for name, known in KNOWN_DIGITS.items()}
    assert np.mean(list(found.values())) == pytest.approx(np.mean(list(KNOWN_DIGITS.values())), abs=4)
    assert {score.chance for score in scores.values()} == {0.1}


def test_sounds_of_the_other_fold(shared_data) -> None:
    files = listed(shared_data / "esc10")
    waves = [soundfile.read(shared_data / "esc10" / one["file"], dtype="float32")[0] for one in files]
    codes = statistics(waves, 44100, LogMelConfig(), batch=10)
    classes, folds = np.array([one["class"] for one in files]), np.array([one["fold"] for one in files])
    config = ProbeConfig("ridge", (0.1,))
    scores = leave_one_group_out(codes, classes, folds, np.random.default_rng(0), config)
    assert 100 * scores["2"].accuracy == pytest.approx(49.4, abs=6)
    assert 100 * scores["1"].accuracy == pytest.approx(48.1, abs=6)


def test_the_speaker_of_a_frame_shows_as_the_channel(shared_data) -> None:
    """Single frames identify the speaker well, but hardly at all once the mean of each clip is removed."""
    files = listed(shared_data / "fsdd", every=8)
    features = LogMel(LogMelConfig(), 8000)
    waves = [
        torch.from_numpy(soundfile.read(shared_data / "fsdd" / one["file"], dtype="float32")[0]) for one in files
    ]
    lengths = torch.tensor([len(wave) for wave in waves])
    frames = features(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths).numpy()
    counts = features.code_lengths(lengths).numpy()
    speakers = np.array([one["speaker"] for one in files])
    found = {}
    for removed in (False, True):
        rows, clips = rows_of(frames, counts, "frame", remove_mean=removed)
        takes = np.array([int(one["index"]) % 4 for one in files])
        scores = leave_one_group_out(
            rows, speakers[clips], takes[clips], np.random.default_rng(0), ProbeConfig("ridge", (0.01,))
        )
        found[removed] = np.mean([score.accuracy for score in scores.values()])
        chance = np.mean([score.chance for score in scores.values()])
    assert found[False] > 0.75
    assert found[True] < chance + 0.2
