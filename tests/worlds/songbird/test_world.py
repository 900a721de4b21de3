"""Songs: sound matches the planted factors, each part develops separately, and levels and noise are as set."""

import itertools
import json
import math
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from sonarium.features.pitch import track as pitch_track
from sonarium.worlds.export import save_audio
from sonarium.worlds.songbird.cage import DECIBELS, LOW_CUT, OCTAVES, cage_noise
from sonarium.worlds.songbird.syrinx import pitch_of
from sonarium.worlds.songbird.world import Aviary, Songbird, SongbirdConfig, build

DAYS = SongbirdConfig(birds=1, songs=4, days=(45, 68, 90), snr=60.0, shortest=5, longest=8)


def ignore(stage: str, done: int, total: int) -> None:
    """Progress callback that does nothing."""


@cache
def world_of(config: SongbirdConfig, seed: int = 0) -> Songbird:
    made = build(config, seed, ignore)
    assert isinstance(made, Songbird)
    return made


def clips(world: Aviary, day: int) -> list[int]:
    return [clip for clip in range(len(world)) if world.positions(clip)[1] == day]


def test_what_is_sung_lies_within_its_marks():
    world = world_of(DAYS)
    index = torch.tensor(clips(world, 0))
    batch = world.whole(index)
    for wave, marks in zip(batch.signal.double(), world.marks(index), strict=True):
        inside = torch.zeros(len(wave), dtype=torch.bool)
        for onset, offset, _ in marks:
            inside[round(onset * 16000) : round(offset * 16000) + 48] = True
            assert 0.02 <= offset - onset <= 0.5
        assert wave[~inside].square().mean() < 1e-4 * wave[inside].square().mean()
        for (_, offset, _), (onset, _, _) in itertools.pairwise(marks):
            assert 0.01 <= onset - offset <= 0.5


def test_tracks_are_the_gestures_of_the_sound():
    """The spectrum of each frame has its peaks at multiples of the frequency that tension and pressure give."""
    world = world_of(DAYS)
    batch = world.whole(torch.tensor(clips(world, 0)))
    names = [track.name for track in world.tracks]
    assert names[:4] == ["tension", "pressure", "envelope", "syllable"]
    assert batch.tracks is not None
    gamma, agreed = world.birds[0].gamma, []
    for wave, track in zip(batch.signal.double().numpy(), batch.tracks.double().numpy(), strict=True):
        tension, pressure, envelope = track[:, :3].T
        hertz = pitch_of(pressure, tension, gamma)
        steady = np.flatnonzero((envelope > 0.5 * envelope.max()) & (track[:, 4] < 0.1) & (hertz > 0))
        for frame in steady[(steady > 10) & (steady < len(track) - 10)][::7]:
            if np.ptp(hertz[frame - 8 : frame + 8]) > 0.05 * hertz[frame]:
                continue
            piece = wave[frame * 16 - 120 : frame * 16 + 136] * np.hanning(256)
            spectrum = np.abs(np.fft.rfft(piece, 4096))
            order = spectrum[50:].argmax() + 50
            multiple = order * 16000 / 4096 / hertz[frame]
            agreed.append(abs(multiple - np.rint(multiple)) * hertz[frame] < 40)
    assert len(agreed) > 12 and np.mean(agreed) > 0.9


def test_songs_are_sung_again_with_other_gestures():
    """A temporary shift of tension changes the sound only there, by the expected change of pitch."""
    world = world_of(SongbirdConfig(birds=1, songs=4, snr=60.0, shortest=5, longest=8))
    index = torch.arange(4)
    batch = world.whole(index)
    assert batch.tracks is not None
    again = world.remade(index, batch.tracks)
    assert torch.equal(again.signal, batch.signal)
    tracks = batch.tracks.clone()
    tracks[:, 200:400, 0] -= 0.02
    moved = world.remade(index, tracks)
    assert moved.tracks is not None and torch.equal(moved.tracks, tracks)
    early, late = round(0.1985 * 16000), round(0.45 * 16000)
    # Earlier samples are the same up to rounding: the resonances of the tract are solved by one transform.
    torch.testing.assert_close(moved.signal[:, :early], batch.signal[:, :early], atol=1e-4, rtol=0)
    assert (moved.signal[:, early:late] - batch.signal[:, early:late]).abs().amax(1).min() > 0.02
    compared = 0
    for clip in range(4):
        both = [pitch_track(one.signal[clip].double().numpy(), 16000) for one in (batch, moved)]
        gestures = [one[clip, 200:400].double().numpy().T for one in (batch.tracks, moved.tracks)]
        heard = [one.hertz[200:400] for one in both]
        planted = np.stack([pitch_of(one[1], one[0], world.birds[0].gamma) for one in gestures])
        clear = (planted > 0).all(0) & np.all([one.aperiodicity[200:400] < 0.05 for one in both], 0)
        if clear.sum() > 20:
            compared += 1
            rises = [np.log(two[clear] / one[clear]) for one, two in (heard, planted)]
            assert np.median(np.abs(rises[0] - rises[1])) < 0.05 < np.median(rises[1])
    assert compared


def test_the_syllable_track_is_that_of_the_marks():
    world = world_of(DAYS)
    index = torch.tensor([1])
    track, [marks] = world.whole(index).tracks, world.marks(index)
    assert track is not None
    spoken = [world.labels.values[int(code)] for code in track[0, :, 3]]
    for onset, offset, label in marks:
        assert spoken[round(1000 * (onset + offset) / 2)] == label
        assert spoken[max(round(1000 * onset) - 2, 0)] != label or onset < 0.002
    assert spoken[0] == world.labels.values[0] == "silence"


def test_songs_follow_the_grammar():
    world = world_of(replace(DAYS, days=(), songs=30))
    grammar = world.grammar(0)
    songs = [[label for *_, label in world.segments(clip)] for clip in range(30)]
    assert all(math.isfinite(grammar.log_probability(song)) for song in songs)
    assert len({tuple(song) for song in songs}) > 10
    assert world.entropy_rate(0) == grammar.entropy_rate() > 0


def apart(world: Songbird, other: Songbird, day: int) -> tuple[bool, bool, bool]:
    """Whether spectrum, timing and grammar of a day's songs differ between two worlds."""
    found = [False, False, False]
    for clip in clips(world, day):
        one, two = world.song(clip), other.song(clip)
        found[2] |= one.labels != two.labels
        found[1] |= not np.array_equal(one.durations, two.durations)
        found[0] |= not np.array_equal(one.hertz, two.hertz)
    return found[0], found[1], found[2]


def test_each_part_of_song_can_be_frozen_alone():
    """The other parts stay the same to the bit, except that a frozen grammar also changes syllables and timing."""
    world = world_of(DAYS)
    for at, part in enumerate(("spectrum", "timing", "grammar")):
        frozen = world_of(replace(DAYS, frozen=(part,)))
        assert apart(world, frozen, 3) == (False, False, False)
        changed = apart(world, frozen, 1)
        assert changed[at] and (part == "grammar" or sum(changed) == 1)
        assert [frozen.looseness(day) for day in (0, 3)] == [world.looseness(day) for day in (0, 3)]
    still = world_of(replace(DAYS, frozen=("spectrum", "timing", "grammar")))
    assert still.looseness(1) == world.looseness(0)


def test_a_pupil_comes_ever_closer_to_its_tutor():
    world = world_of(DAYS)
    assert [world.maturity(day) for day in range(4)] == [1, 0, pytest.approx(23 / 45), 1]
    rates = [world.entropy_rate(0, day) for day in range(4)]
    assert rates[1] > rates[2] > rates[3] == rates[0] and rates[1] == pytest.approx(math.log2(5))

    def strays(day: int) -> float:
        bird = world.birds[0]
        songs = [world.song(clip) for clip in clips(world, day)]
        pairs = [(own, bird.gestures[label]) for s in songs for label, own in zip(s.labels, s.hertz, strict=True)]
        return float(np.mean([np.abs(np.log(own / tutor.hertz)).mean() for own, tutor in pairs]))

    assert strays(1) > strays(2) > strays(3) and strays(3) == pytest.approx(strays(0), rel=0.5)


@pytest.mark.parametrize(("level", "count", "order", "snr"), [("easy", 5, 1, 30), ("hard", 12, 3, 10)])
def test_the_ladder(level, count, order, snr):
    """Number of syllables and measured noise of a level."""
    config = SongbirdConfig(level=level, birds=1, songs=3)
    assert config.rung == (count, order, snr)
    noisy, clean = world_of(config), world_of(replace(config, snr=200.0))
    assert len(noisy.birds[0].labels) == count
    index = torch.arange(3)
    song = clean.whole(index).signal.double()
    noise = noisy.whole(index).signal.double() - song
    sounding = torch.zeros_like(song, dtype=torch.bool)
    for row, marks in zip(sounding, noisy.marks(index), strict=True):
        for onset, offset, _ in marks:
            row[round(onset * 16000) : round(offset * 16000)] = True
    spectrum, hertz = torch.fft.rfft(noise[0]), torch.fft.rfftfreq(noise.shape[1], 1 / 16000)
    audible = torch.fft.irfft(spectrum * (hertz >= LOW_CUT), noise.shape[1])
    length = int(noisy.lengths(index)[0])
    measured = 10 * math.log10(song[sounding].square().mean() / audible[:length].square().mean())
    assert measured == pytest.approx(snr, abs=2)


def test_cage_noise_has_the_spectrum_that_was_measured():
    noise = cage_noise(200_000, 32_000, np.random.default_rng(0)).astype(float)
    power, hertz = np.abs(np.fft.rfft(noise)) ** 2, np.fft.rfftfreq(len(noise), 1 / 32_000)
    audible = power[hertz >= LOW_CUT].sum() * 2 / len(noise) ** 2
    assert audible == pytest.approx(1, rel=0.05)
    density = [power[(hertz > f / 1.1) & (hertz < f * 1.1)].mean() for f in OCTAVES]
    found = 10 * np.log10(density) - 10 * np.log10(density[4])
    np.testing.assert_allclose(found, DECIBELS, atol=1.5)


def test_one_syllable_is_a_song_too():
    world = world_of(SongbirdConfig(birds=1, songs=2, syllables=1, order=3))
    assert world.entropy_rate(0) == pytest.approx(0, abs=1e-12)
    assert {label for marks in world.marks(torch.arange(2)) for *_, label in marks} == {"a"}
    assert world.factors == () and world.whole(torch.arange(2)).factors.shape == (2, 0)


def test_memory_holds_no_more_than_it_may():
    small, free = world_of(replace(DAYS, memory=0)), world_of(DAYS)
    index = torch.arange(4)
    assert torch.equal(small.whole(index).signal, free.whole(index).signal)
    assert not small.made and len(free.made) >= 4


def test_the_grammar_is_exported(tmp_path):
    world = world_of(DAYS)
    save_audio(world, tmp_path / "out")
    about = json.loads((tmp_path / "out" / "factors.json").read_text())
    assert [one["day"] for one in about["grammars"]] == ["tutor", "day 45", "day 68", "day 90"]
    assert about["grammars"][1]["entropy_rate"] == pytest.approx(math.log2(5))
    state, total = about["grammars"][0]["states"][str(about["grammars"][0]["start"])], 0.0
    for probability, successor in state.values():
        total += probability
        assert str(successor) in about["grammars"][0]["states"]
    assert total == pytest.approx(1)
    assert len(list((tmp_path / "out" / "tracks").iterdir())) == len(world)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"birds": 0}, "birds=0"),
        ({"syllables": 0}, "syllables=0"),
        ({"shortest": 9, "longest": 3}, "longest no less than shortest"),
        ({"days": (60, 45)}, "days=(60, 45): give ages in rising order"),
        ({"days": (45, 45)}, "rising order, each once"),
        ({"days": (45,), "babble": 90}, "crystallised after babble"),
        ({"frozen": ("timing",)}, "without days nothing develops"),
        ({"repeats": 6}, "no more than the 5 syllables"),
        ({"syllables": 30, "order": 4}, "too large"),
        ({"snr": math.nan}, "snr=nan"),
        ({"source": "x", "days": (45,)}, "recorded syllables do not develop"),
    ],
)
def test_what_no_bird_can_sing_is_refused(change, message):
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        SongbirdConfig(**change)
    assert "\n" not in str(refused.value)
