"""Slow modulation: the sound matches its tracks, by the analytic signal, the pitch tracker, and the sum of
partials with an independent integral of the frequency."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import integrate, signal

from sonarium.features.pitch import PitchConfig, track
from sonarium.worlds import counter
from sonarium.worlds.tones.oscillator import order_limit
from sonarium.worlds.tones.world import SyntoneConfig, Tones, TonesConfig

RATE = 16000
SINES = TonesConfig(waveforms=("sine",), lowest=440.0, glide_semitones=6.0, tremolo_db=20.0, seconds=2.0)
EDGE = 300
"""Number of frames at both ends where the analytic signal is not local."""


def frames(world: Tones, some: int = 6):
    """A batch of `some` clips, with the times of samples and frames in seconds."""
    batch = world.whole(torch.linspace(0, len(world) - 1, some).long())
    assert batch.tracks is not None and world.signal.rate is not None
    samples = np.arange(batch.signal.shape[1]) / world.signal.rate
    return batch, samples, (np.arange(batch.tracks.shape[1]) + 0.5) / world.track_rate


def test_the_momentary_frequency_and_level_of_a_sine_are_those_of_its_tracks():
    world = Tones(SINES, 0)
    assert [one.name for one in world.tracks] == ["pitch", "level"] and world.frames_of(torch.tensor([32000]))
    batch, samples, times = frames(world)
    assert batch.tracks is not None and batch.tracks.shape == (6, 2000, 2)
    for wave, planted in zip(batch.signal.double().numpy(), batch.tracks.double().numpy(), strict=True):
        analytic = np.asarray(signal.hilbert(wave))
        hertz = np.diff(np.unwrap(np.angle(analytic))) * RATE / (2 * np.pi)
        pitch = 69 + 12 * np.log2(np.interp(times, samples[:-1] + 0.5 / RATE, hertz) / 440)
        level = 20 * np.log10(np.interp(times, samples, np.abs(analytic)))
        inner = slice(EDGE, -EDGE)
        assert np.ptp(planted[inner], axis=0).min() > 0.5, "it wanders"
        np.testing.assert_allclose(pitch[inner], planted[inner, 0], atol=0.02)
        np.testing.assert_allclose(level[inner], planted[inner, 1], atol=0.05)


def test_the_pitch_tracker_hears_the_planted_pitch_of_every_waveform():
    world = Tones(TonesConfig(lowest=440.0, highest=900.0, amplitudes=1, glide_semitones=4.0), 1)
    batch, _, times = frames(world, 4)
    assert batch.tracks is not None and {int(factor) for factor in batch.factors[:, 0]} == {0, 1, 2, 3}
    config = PitchConfig(fmin=300.0, fmax=1500.0)
    for wave, planted in zip(batch.signal.numpy(), batch.tracks[..., 0].numpy(), strict=True):
        heard = track(wave, RATE, config)
        own = np.interp(times, np.arange(len(heard.hertz)) * config.hop, heard.hertz)
        apart = np.abs(69 + 12 * np.log2(own / 440) - planted)[20:-20]
        assert np.median(apart) < 0.05 and np.quantile(apart, 0.95) < 0.3


@pytest.mark.parametrize("vibrato", [False, True])
@pytest.mark.parametrize(("glide", "tremolo", "rate"), [(7.0, 0.0, 2.0), (12.0, 30.0, 8.0), (2.0, 60.0, 50.0)])
def test_a_modulated_sawtooth_is_its_partials_of_which_none_folds(glide, tremolo, rate, vibrato):
    """Oracle at eight times the rate, by an integral of higher order; no partial exceeds half the rate."""
    config = TonesConfig(
        waveforms=("sawtooth",), lowest=300.0, frequencies=4, quietest=1.0, amplitudes=1, glide_semitones=glide,
        tremolo_db=tremolo, modulation_hz=rate, vibrato_depths=1 + vibrato, deepest_vibrato=0.02,
    )  # fmt: skip
    world, most = Tones(config, 2), 8
    index = torch.arange(4)
    slow = world.modulation(counter.stream(2, index))
    assert slow is not None
    fine = torch.arange(most * RATE, dtype=torch.float64) / (most * RATE)
    tones = world.completed(world.locate(index))
    limit = order_limit(tones[:, 1] * slow.highest(), tones[:, 7], tones[:, 8], RATE / 2, slow.sidebands(RATE / 2))
    assert int(limit.max()) > 3
    waves = world.whole(index).signal.double()
    for row, (frequency, vibrates, depth) in enumerate(tones[:, [1, 7, 8]].tolist()):
        own = 2 ** (slow.semitones(fine)[row] / 12) * (1 + depth * torch.sin(2 * math.pi * vibrates * fine))
        phase = frequency * torch.from_numpy(integrate.cumulative_simpson(own, x=fine, initial=0))
        orders = range(1, int(limit[row]) + 1)
        partials = [-2 / math.pi * torch.sin(2 * math.pi * k * phase) / k for k in orders]
        wave = sum(partials, torch.zeros_like(phase)) * 10 ** (slow.decibels(fine)[row] / 20)
        assert (waves[row] - wave[::most]).abs().max() < 2e-3 * waves[row].abs().max()
        spectrum = np.abs(np.fft.rfft(wave.numpy() * np.kaiser(len(wave), 20)))
        beyond = np.fft.rfftfreq(len(wave), 1 / (most * RATE)) > RATE / 2
        assert spectrum[beyond].max() < 1e-3 * spectrum.max()


def test_walks_stay_within_what_is_asked_and_are_no_faster():
    world = Tones(dataclasses.replace(SINES, seconds=60.0, frequencies=3, rate=4000, modulation_hz=1.5), 0)
    batch, _, _ = frames(world, 12)
    assert batch.tracks is not None
    pitch, level = world.tracks
    for values, limits in zip(batch.tracks.permute(2, 0, 1).double(), (pitch.values, level.values), strict=True):
        assert float(limits[0]) <= float(values.min()) and float(values.max()) <= float(limits[1])
        departure = (values - values.mean(1, keepdim=True)).numpy() * np.kaiser(values.shape[1], 20)
        spectrum = np.abs(np.fft.rfft(departure)).max(0)
        hertz = np.fft.rfftfreq(values.shape[1], 1 / world.track_rate)
        assert spectrum[hertz > 1.7].max() < 1e-4 * spectrum.max()
        assert spectrum[(hertz > 1.0) & (hertz < 1.5)].max() > 0.1 * spectrum.max()
    middle = 69 + 12 * torch.log2(batch.factors[:, 0] / 440)
    departure = (batch.tracks[..., 0] - middle[:, None]).abs().amax(1)
    assert departure.min() > 4 and departure.max() <= 6
    below = 20 * torch.log10(batch.factors[:, 1])[:, None] - batch.tracks[..., 1]
    assert -1e-4 < below.min() < 3 and 17 < below.max() <= 20 + 1e-4


def test_clips_wander_apart_and_by_their_seed():
    config = dataclasses.replace(SINES, tremolo_db=0.0, frequencies=1, seconds=0.5)
    one, other = (Tones(config, seed).whole(torch.arange(20)).tracks for seed in (0, 1))
    assert one is not None and other is not None and one.shape == (20, 500, 1)
    both = torch.cat([one, other])[..., 0]
    apart = (both[:, None] - both).abs().amax(2) + torch.eye(40)
    assert apart.min() > 0.05


def test_without_modulation_nothing_changes():
    index = torch.arange(0, 11600, 997)
    plain, faster = Tones(TonesConfig(), 0), Tones(TonesConfig(modulation_hz=5.0), 0)
    assert plain.tracks == () and plain.whole(index).tracks is None
    assert torch.equal(plain.whole(index).signal, faster.whole(index).signal)


def test_modulation_does_not_change_the_noise():
    noisy = SyntoneConfig(seconds=0.1, frequencies=2, noises=2, loudest_noise=0.3)
    index = torch.arange(40)
    louder = index + 160
    added = []
    for config in (noisy, dataclasses.replace(noisy, glide_semitones=3.0, tremolo_db=3.0)):
        world = Tones(config, 0)
        # The index `louder` gives the clean clips the same random walk as the noisy ones.
        clear = world.generate(world.locate(index), louder)
        added.append(world.whole(louder).signal - clear)
    torch.testing.assert_close(added[0], added[1], atol=1e-6, rtol=0)


def test_silence_has_no_level():
    with pytest.raises(ValueError, match="give quietest above 0"):
        TonesConfig(quietest=0.0, tremolo_db=6.0)
    assert Tones(TonesConfig(quietest=0.0, glide_semitones=6.0), 0).tracks[0].name == "pitch"
