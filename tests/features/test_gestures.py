"""Estimated gestures against known ones, and refused input."""

import numpy as np
import pytest
import torch

from sonarium.features.gestures import REST, fit, levels, pitch_error
from sonarium.worlds.audio.decoder import read_mono
from sonarium.worlds.songbird.world import Songbird, SongbirdConfig

RATE = 16_000


@pytest.fixture(scope="module")
def songs():
    """Songs of three birds with their tracks."""
    world = Songbird(SongbirdConfig(level="middle", birds=3, songs=1, shortest=8, longest=8, snr=30.0), seed=0)
    batch = world.whole(torch.arange(3))
    assert batch.tracks is not None
    lengths = world.lengths(batch.index).tolist()
    return [
        (wave[:length].numpy(), track.double().numpy())
        for wave, track, length in zip(batch.signal, batch.tracks, lengths, strict=True)
    ]


def test_planted_tension_is_found(songs):
    truth, estimate = [], []
    for wave, track in songs:
        found = fit(wave, RATE)
        times = (np.arange(int(len(wave) / RATE * 1000)) + 0.5) / 1000
        at = np.arange(len(found.tension)) / 1000
        heard = np.interp(times, at, found.voiced) > 0.99
        # Without a pitch, tension cannot be estimated: in noisy notes, and at the ends of notes.
        kept = heard & (track[: len(times), 2] > 0) & (track[: len(times), 4] < 0.2)
        truth.append(track[: len(times), 0][kept])
        estimate.append(np.interp(times, at, found.tension)[kept])
        assert kept.sum() > 0.6 * ((track[:, 2] > 0) & (track[:, 4] < 0.2)).sum()
    true, made = np.concatenate(truth), np.concatenate(estimate)
    assert 1 - np.square(made - true).sum() / np.square(true - true.mean()).sum() > 0.95


def test_it_is_sung_again_with_its_pitch_and_level(songs):
    wave, _ = songs[0]
    found = fit(wave, RATE)
    sung = found.sing(RATE, len(wave))
    assert sung.shape == wave.shape
    apart = pitch_error(found, sung, RATE)
    assert apart is not None and apart < 0.01
    own, again = (levels(sound, RATE, len(found.tension)) for sound in (wave, sung))
    assert np.corrcoef(own, again)[0, 1] > 0.95
    quiet = found.envelope == 0
    assert quiet.any() and (found.pressure[~quiet] < 0).all() and found.pressure[0] == REST


def test_real_finches_are_sung_again_with_their_pitch(shared_data):
    path = shared_data / "zebra_finch" / "adults" / "zebra_finch_g17y2U-f00007.wav"
    wave = read_mono(path, 32_000).numpy()[: 2 * 32_000]
    found = fit(wave, 32_000)
    apart = pitch_error(found, found.sing(32_000, len(wave)), 32_000)
    assert apart is not None and apart < 0.03


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (np.zeros(8000, np.float32), "is silent"),
        (np.ones(100, np.float32), "lasts 0.006 s: give at least"),
        (np.full(8000, np.nan, np.float32), "not finite"),
    ],
)
def test_what_nobody_sang_is_refused(wave, message):
    with pytest.raises(ValueError, match=message):
        fit(wave, RATE)
