"""Segments of notes at known times, and embeddings of syllables."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonarium.features.segmentation import Pieces, SegmentationConfig, dips, level, pieces, segment
from sonarium.features.syllables import (
    BandsConfig,
    band_levels,
    contrasted,
    embed,
    relative_levels,
    with_duration,
)

RATE = 16_000
PLANTED = [(0.30, 0.36), (0.40, 0.50), (0.52, 0.60), (1.20, 1.25)]


def song(planted=PLANTED, noise: float = 1e-3, seconds: float = 1.8) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    wave = noise * np.random.default_rng(0).standard_normal(len(time))
    for start, stop in planted:
        wave += 0.3 * np.sin(2 * np.pi * 3000 * time) * ((time >= start) & (time < stop))
    return wave.astype(np.float32)


def test_planted_notes_are_cut_where_they_are():
    found = segment(song(), RATE)
    assert len(found) == len(PLANTED)
    for (start, stop, label), (onset, offset) in zip(found, PLANTED, strict=True):
        assert label == "segment" and abs(start - onset) < 0.008 and abs(stop - offset) < 0.012


@pytest.mark.parametrize("rate", [19_531, 1780 * 3, 31_999])
def test_any_rate_has_a_frame_for_each_millisecond(rate):
    wave = 0.1 * np.random.default_rng(0).standard_normal(rate).astype(np.float32)
    assert len(level(wave, rate, SegmentationConfig())) == 1000
    assert len(band_levels(wave, rate, BandsConfig())) == 500


@pytest.mark.parametrize("gain", [1e-3, 0.5])
def test_gain_makes_no_difference(gain):
    assert segment(song() * np.float32(gain), RATE) == segment(song(), RATE)


def test_blips_short_gaps_and_soft_bouts_are_no_syllables():
    planted = [*PLANTED, (1.50, 1.502)]
    assert len(segment(song(planted), RATE)) == len(PLANTED)
    joined = [(0.30, 0.36), (0.362, 0.50)]
    assert len(segment(song(joined), RATE)) == 1
    time = np.arange(round(1.8 * RATE)) / RATE
    soft = 0.3 * 10 ** (-24 / 20) * np.sin(2 * np.pi * 3000 * time) * ((time > 0.9) & (time < 1.0))
    heard = song([(0.30, 0.50)]) + soft.astype(np.float32)
    assert len(segment(heard, RATE)) == 1
    assert len(segment(heard, RATE, replace(SegmentationConfig(), soft=30.0))) == 2


def test_nothing_is_found_where_there_is_nothing():
    for wave in (np.zeros(RATE, np.float32), np.zeros(0, np.float32), np.full(30, 0.1, np.float32)):
        assert segment(wave, RATE) == []
    with pytest.raises(ValueError, match="NaN or infinite"):
        segment(np.full(RATE, np.nan, np.float32), RATE)
    with pytest.raises(ValueError, match="a rate of 1000 Hz holds no sound from 800 Hz on"):
        segment(song(), 1000)
    with pytest.raises(ValueError, match="a band from low to high"):
        SegmentationConfig(lowest=5000, highest=1000)


def test_levels_are_those_of_the_bands():
    config = BandsConfig(bands=8)
    levels = band_levels(song([(0.0, 1.8)], noise=0), RATE, config)
    assert levels.shape == (900, 8)
    inside = levels[20:-20]
    assert np.ptp(inside.max(1)) < 0.1 and (inside.argmax(1) == inside.argmax(1)[0]).all()
    twice = band_levels(2 * song([(0.0, 1.8)], noise=0), RATE, config)[20:-20]
    assert twice.max(1) - inside.max(1) == pytest.approx(20 * np.log10(2), abs=0.01)
    louder = relative_levels(levels + 6) - relative_levels(levels)
    assert np.abs(louder[20:-20].max(1)).max() < 1e-9


def test_embeddings_are_interpolated_frames():
    frames = np.arange(100.0)[:, None] * [1, 2]
    marks = [(0.1, 0.4, "a"), (0.95, 1.5, "b")]
    found = embed(frames, 100, marks, places=2)
    assert found[0, :, 0] == pytest.approx([20, 30]) and found[0, :, 1] == pytest.approx([40, 60])
    assert (found[1, :, 0] <= 99).all()
    # Codes whose first frame is centred 0.05 s after the beginning.
    np.testing.assert_allclose(embed(frames, 100, marks[:1], places=2, first=0.05)[0, :, 0], [15, 25])
    rows = with_duration(contrasted(found), marks)
    assert rows.shape == (2, 5) and rows[:, -1] == pytest.approx(np.log([0.3, 0.55]))
    assert rows[:, :-1].min() >= 0 and rows[:, :-1].max() == 1
    assert embed(frames[:1], 100, marks).shape == (2, 16, 2)


def note(rng, seconds: float, hertz: float, dip: tuple[float, float] | None = None) -> np.ndarray:
    """A tone, 20 dB softer between the times in `dip`."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * hertz * time + rng.uniform(0, 2 * np.pi))
    if dip is not None:
        wave[(time >= dip[0]) & (time < dip[1])] *= 0.1
    return wave


def test_pieces_lie_between_dips():
    rng = np.random.default_rng(0)
    wave = np.concatenate([np.zeros(RATE // 5), note(rng, 0.2, 3000, (0.06, 0.075)), np.zeros(RATE // 5)])
    wave += 1e-4 * rng.standard_normal(len(wave))
    marks = segment(wave, RATE)
    [found] = pieces(wave, RATE, marks)
    assert found.spans == [(0, 1), (1, 2), (0, 2)] and found.whole == marks[0]
    (first, dip, _), (again, last, _), _ = found.marks
    assert (first, last) == marks[0][:2]
    assert 0.255 < dip < again < 0.28
    # A dip that is not deep enough does not count, nor does one at the very end.
    [whole] = pieces(wave, RATE, marks, SegmentationConfig(dip=30.0))
    assert whole == Pieces.one(marks[0])
    assert pieces(wave, RATE, []) == []


@given(st.lists(st.floats(-60, 0), min_size=0, max_size=300), st.floats(1, 20))
def test_dips_are_as_deep_as_asked_and_apart(values, depth):
    level = np.array(values)
    found = dips(level, depth)
    assert (np.diff(found) >= 12).all()
    for at in found:
        assert 20 <= at < len(level) - 20
        assert level[at] <= min(level[:at].max(), level[at:].max()) - depth
