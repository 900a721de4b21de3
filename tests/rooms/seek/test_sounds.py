"""Sounds of the sources: click-free loops of equal loudness, with the properties that their names imply."""

import numpy as np
import pytest
import soundfile

from sonarium.rooms.seek.sounds import (
    PEAK,
    Kind,
    Pick,
    Sounds,
    a_weighting,
    equally_loud,
    loudness,
    named_sounds,
    world_sounds,
)
from sonarium.rooms.seek.synthesis import VOICES, synthesize
from sonarium.worlds.tones.world import Tones, TonesConfig

RATE = 8000
SAMPLES = 4 * RATE
LEVEL = -30.0


def looped(bank, kind, number, seed=0):
    start = bank.start(kind, number, np.random.default_rng(seed))
    return bank.loop(Pick(kind, number, start))


def sounds(names=tuple(VOICES), variants=2, rate=RATE, samples=SAMPLES, level=LEVEL):
    return named_sounds(tuple(map(str, names)), variants, rate, samples, level)


def one(name, number=0, rate=RATE):
    bank = sounds((name,), 4, rate, 4 * rate)
    return looped(bank, 0, number).astype(np.float64)


def test_a_weighting_is_that_of_the_standard():
    table = {15: -39.4, 18: -26.2, 21: -16.1, 24: -8.6, 27: -3.2, 30: 0.0, 33: 1.2, 36: 1.0, 39: -1.1}
    # The standard tabulates exact third-octave frequencies: 31.5 Hz is the nominal value of 10^1.5 Hz.
    found = 20 * np.log10(a_weighting(10 ** (np.array(list(table)) / 10)))
    np.testing.assert_allclose(found, list(table.values()), atol=0.06)


def test_loudness_of_a_sine_is_its_power_and_pauses_do_not_count():
    sine = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(SAMPLES) / RATE)
    assert loudness(sine, RATE) == pytest.approx(20 * np.log10(0.1) - 3.01, abs=0.01)
    half = sine * (np.arange(SAMPLES) < SAMPLES // 2)
    # Partly silent blocks at the edges cost a fraction of a decibel; without a gate it would be 3 dB.
    assert loudness(half, RATE) == pytest.approx(loudness(sine, RATE), abs=0.7)


@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("rate", [8000, 16000])
def test_built_in_sounds_are_loops_of_one_loudness(name, rate):
    bank = sounds((name,), 3, rate, 4 * rate)
    waves = [looped(bank, 0, number) for number in range(3)]
    for wave in waves:
        assert wave.shape == (4 * rate,) and wave.dtype == np.float32
        assert loudness(wave, rate) == pytest.approx(LEVEL, abs=0.05) and np.abs(wave).max() <= PEAK
        # A source is always audible: no digital silence, not even for a tenth of a second.
        assert (np.abs(wave.reshape(-1, rate // 10)).max(axis=1) > 0).all()
    assert not np.array_equal(waves[0], waves[1])


@pytest.mark.parametrize("name", VOICES)
def test_loops_may_be_as_short_as_a_tenth_of_a_second(name):
    for length in (800, 900, 1000, 1300):
        for number in range(20):
            loop = synthesize(name, RATE, length, np.random.default_rng(number))
            assert np.isfinite(loop).all() and loop.std() > 0.5


@pytest.mark.parametrize("name", VOICES)
def test_nothing_clicks_at_the_seam(name):
    for number in range(4):
        wave = one(name, number)
        round_seam = np.r_[wave[-400:], wave[:400]]
        # A click is a sample that its neighbours do not predict: a peak of the second difference.
        jumps = np.abs(np.diff(round_seam, 2))
        everywhere = np.abs(np.diff(wave, 2))
        assert jumps[396:402].max() <= everywhere.max()


def peaks(wave, size=512):
    """Frequency in Hz and magnitude of the spectral peak of each frame."""
    frames = wave[: len(wave) // size * size].reshape(-1, size) * np.hanning(size)
    spectrum = np.abs(np.fft.rfft(frames, 4 * size))
    return spectrum.argmax(axis=1) * RATE / (4 * size), spectrum.max(axis=1)


def test_the_siren_glides_up_and_down_over_an_octave_and_a_half():
    pitch, _ = peaks(one("siren"))
    assert 420 < pitch.min() < 620 and 1250 < pitch.max() < 1650
    # Gliding: no jump from one frame of 64 ms to the next.
    assert np.abs(np.diff(np.log2(pitch))).max() < 0.4


def test_the_phone_rings_twice_and_pauses():
    wave = one("phone")
    power = (wave.reshape(-1, RATE // 50) ** 2).mean(axis=1)
    loud = power > 0.25 * power.max()
    # Loud in the rings of 0.4 s, at 0 and 0.6 s of each call of 2 s; quiet before the next call.
    assert loud[0:20].mean() > 0.8 and loud[32:48].mean() > 0.8 and loud[100:120].mean() > 0.8
    assert power[80:100].max() < 0.03 * power.max()
    # Above the rise of the first strokes, the power of a ring of 0.4 s varies at the rate of the strokes.
    ring = (wave[: 2 * RATE // 5].reshape(-1, RATE // 200) ** 2).mean(axis=1)
    hertz, strokes = np.fft.rfftfreq(len(ring), 1 / 200), np.abs(np.fft.rfft(ring - ring.mean()))
    assert 20 < hertz[hertz > 8][strokes[hertz > 8].argmax()] < 28


def test_tones_are_single_pitches_that_change():
    pitch, strength = peaks(one("tones"), 1024)
    heard = pitch[strength > 0.2 * strength.max()]
    scale = np.round(12 * np.log2(heard / heard.min()))
    assert len(np.unique(scale)) >= 3 and heard.min() > 300 and heard.max() < 1200


def test_the_bird_whistles_high_and_in_syllables():
    wave = one("bird")
    spectrum = np.abs(np.fft.rfft(wave)) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / RATE)
    assert spectrum[frequency > 1500].sum() > 0.95 * spectrum.sum()
    power = (wave.reshape(-1, RATE // 100) ** 2).mean(axis=1)
    rises = np.flatnonzero((power[1:] > 0.2 * power.max()) & (power[:-1] <= 0.2 * power.max()))
    assert 10 <= len(rises) <= 60


def test_babble_has_a_voices_pitch_and_vowels_that_change():
    wave = one("babble")
    pitches, tilts = [], []
    for start in range(0, len(wave) - 800, 800):
        piece = wave[start : start + 800] * np.hanning(800)
        if np.mean(piece**2) < 0.3 * np.mean(wave**2):
            continue
        echo = np.fft.irfft(np.abs(np.fft.rfft(piece, 2048)) ** 2)[:400]
        lag = 20 + echo[20:120].argmax()
        if echo[lag] > 0.4 * echo[0]:
            pitches.append(RATE / lag)
        spectrum = np.abs(np.fft.rfft(piece)) ** 2
        tilts.append(spectrum[:40].sum() / spectrum.sum())
    assert len(pitches) >= 8 and 75 < np.median(pitches) < 260
    assert np.std(pitches) / np.median(pitches) < 0.6 and np.ptp(tilts) > 0.05


def test_sounds_follow_from_their_name_and_number_alone():
    first, again = sounds(variants=2), Sounds(sounds().kinds, RATE, SAMPLES, LEVEL)
    for kind in range(len(first.kinds)):
        np.testing.assert_array_equal(looped(first, kind, 1), looped(again, kind, 1))


def test_sources_of_an_episode_sound_different():
    bank = sounds()
    for seed in range(10):
        picks, offsets = bank.draw(np.random.default_rng(seed), 5)
        loops, names = list(map(bank.loop, picks)), bank.names(picks)
        assert len(set(names)) == 5 and [len(loop) for loop in loops] == [SAMPLES] * 5
        assert (offsets >= 0).all() and (offsets < SAMPLES).all()
    assert len({bank.names(bank.draw(np.random.default_rng(seed), 2)[0]) for seed in range(20)}) > 8


def test_without_new_sounds_source_i_has_the_ith():
    bank = sounds(("phone", "siren"))
    picks, _ = bank.draw(np.random.default_rng(0), 3, anew=False)
    loops = list(map(bank.loop, picks))
    assert bank.names(picks) == ("phone", "siren", "phone")
    np.testing.assert_array_equal(loops[0], looped(bank, 0, 0, 9))
    assert not np.array_equal(loops[0], loops[2])


def write(path, wave, rate):
    soundfile.write(path, wave, rate, subtype="FLOAT")
    return path


def test_files_of_any_rate_and_length_become_loops(tmp_path):
    time = np.arange(22050) / 22050
    write(tmp_path / "short.wav", 0.3 * np.sin(2 * np.pi * 440 * time), 22050)
    write(tmp_path / "long.wav", 0.1 * np.random.default_rng(0).standard_normal(12 * RATE), RATE)
    bank = sounds((tmp_path,))
    assert bank.kinds[0].count == 2
    long, short = (looped(bank, 0, number) for number in (0, 1))
    for wave in (long, short):
        assert wave.shape == (SAMPLES,) and loudness(wave, RATE) == pytest.approx(LEVEL, abs=0.05)
    pitch, _ = peaks(short.astype(float))
    np.testing.assert_allclose(pitch, 440, atol=8)
    # The sine of one second was cross-faded into itself several times, without a jump.
    assert np.abs(np.diff(np.r_[short, short[:1]])).max() < 1.5 * 2 * np.pi * 440 / RATE * np.abs(short).max()
    other = looped(bank, 0, 0, 1)
    assert not np.array_equal(long, other), "another episode hears another excerpt"


def test_an_excerpt_is_never_a_pause(tmp_path):
    wave = np.zeros(60 * RATE)
    wave[30 * RATE : 31 * RATE] = np.sin(np.arange(RATE))
    bank = sounds((write(tmp_path / "rare.wav", wave, RATE),))
    for seed in range(5):
        assert np.abs(looped(bank, 0, 0, seed)).max() > 0.01


def test_a_click_in_silence_is_not_made_deafening():
    wave = np.zeros(SAMPLES, np.float32)
    wave[5:7] = 0.9
    assert np.abs(equally_loud(wave, RATE, 0.0)).max() == pytest.approx(PEAK)


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (np.ones(300) * 0.1, "too short, 300 samples"),
        (np.zeros(RATE), "is silent"),
        (np.full(RATE, 1e-7), "is silent"),
    ],
)
def test_unusable_files_are_refused_by_name(tmp_path, wave, message):
    path = write(tmp_path / "odd.wav", wave, RATE)
    bank = sounds((path,))
    with pytest.raises(ValueError, match=f"odd.wav.*{message}"):
        bank.draw(np.random.default_rng(0), 1)


def test_broken_sounds_are_refused():
    bank = Sounds([Kind("odd", 1, lambda number: np.full(RATE, np.nan))], RATE, SAMPLES, LEVEL)
    with pytest.raises(ValueError, match="NaN"):
        bank.draw(np.random.default_rng(0), 1)


def test_paths_that_hold_no_sound_are_refused(tmp_path):
    with pytest.raises(ValueError, match="neither a built-in sound nor a file"):
        sounds(("trumpet",))
    with pytest.raises(ValueError, match="holds no sound"):
        sounds((tmp_path,))


def test_a_world_gives_its_clips_and_must_have_the_rate():
    world = Tones(TonesConfig(rate=RATE, seconds=0.5, highest=2000.0, frequencies=5), seed=0)
    bank = world_sounds(world, RATE, SAMPLES, LEVEL)
    picks, _ = bank.draw(np.random.default_rng(0), 2)
    assert np.shape([bank.loop(one) for one in picks]) == (2, SAMPLES) and bank.names(picks) == ("tones", "tones")
    with pytest.raises(ValueError, match=r"rate of 8000.*16000"):
        world_sounds(world, 16000, SAMPLES, LEVEL)


@pytest.mark.parametrize(("name", "lowest"), [("phone", 2600), ("siren", 1300)])
def test_a_rate_that_leaves_a_built_in_sound_no_partial_is_refused(name, lowest):
    with pytest.raises(
        ValueError, match=rf"'{name}' is silent at a rate of {lowest - 1} Hz: .* at least {lowest}"
    ):
        sounds((name,), 2, lowest - 1, 4 * lowest)
    for number in range(4):
        assert np.abs(synthesize(name, lowest, 4 * lowest, np.random.default_rng(number))).max() > 0.1
