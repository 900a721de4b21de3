"""Figures against their input: levels in closed form, tiles cell by cell, dead codes faint."""

import librosa
import numpy as np
import pytest
import torch
from matplotlib import colormaps

from sonarium.features.spectrogram import Spectrogram, SpectrogramConfig
from sonarium.report.figures import Row, Shown, moving, pictures, reconstruction, samples, tiles, traversals
from sonarium.report.view import View, view_of
from sonarium.worlds.contract import Signal

RATE = 8000
SOUND = View(-80, 0, "dB re full scale", 1.0, ((3.0, "1"),))
PICTURE = View(0, 1, "brightness")


def row(name: str = "code 1", alive: bool = True, steps: int = 3) -> Row:
    draw = np.random.default_rng(len(name) + steps)
    marks = tuple(f"{step:+d}" for step in range(steps))
    return Row(name, "1.00 nats", alive, marks, own=1, bins=draw.random((steps, 4, 5)))


def test_reconstruction_shows_wave_spectrum_and_bands_of_both():
    time = np.arange(RATE) / RATE
    waves = [amplitude * np.sin(2 * np.pi * 1000 * time) for amplitude in (0.5, 0.05)]
    fields = [np.full((6, 9), -30.0), np.full((6, 9), -50.0)]
    shown = [Shown(field, wave) for field, wave in zip(fields, waves, strict=True)]
    figure = reconstruction("sine, frequency 1,000 Hz", shown[0], shown[1], SOUND, RATE)
    assert figure.get_suptitle() == "sine, frequency 1,000 Hz"
    panels = np.array(figure.axes[:6]).reshape(3, 2)
    for column, (amplitude, wave, field) in enumerate(zip((0.5, 0.05), waves, fields, strict=True)):
        drawn = panels[0, column].get_lines()[0].get_ydata()
        np.testing.assert_allclose(drawn, wave[3960:4040])
        kilohertz, level = panels[1, column].get_lines()[0].get_data()
        assert kilohertz[np.argmax(level)] == pytest.approx(1.0)
        assert np.max(level) == pytest.approx(20 * np.log10(amplitude), abs=0.01)
        np.testing.assert_array_equal(panels[2, column].images[0].get_array(), field)
    assert panels[0, 0].get_ylim() == panels[0, 1].get_ylim()
    assert panels[2, 0].images[0].get_clim() == (-80, 0)
    assert "Hz" in panels[2, 0].get_ylabel()
    assert "s" in panels[2, 0].get_xlabel()


@pytest.mark.parametrize("burst", [0, 1000, 7920])
def test_where_the_middle_is_silent_the_loudest_piece_of_the_original_is_shown_of_both(burst):
    original, made = np.zeros(RATE), np.random.default_rng(0).normal(size=RATE)
    original[3900:4100] = 0.01
    original[burst : burst + 80] = np.sin(np.arange(80))
    field = np.zeros((6, 9))
    figure = reconstruction("x", Shown(field, original), Shown(field, made), SOUND, RATE)
    for axes, wave in zip(figure.axes[:2], (original, made), strict=True):
        milliseconds, drawn = axes.get_lines()[0].get_data()
        np.testing.assert_array_equal(drawn, wave[burst : burst + 80])
        np.testing.assert_allclose(np.asarray(milliseconds, float), np.arange(burst, burst + 80) / 8)


def test_a_reconstruction_without_sound_has_its_bands_only():
    wave = np.sin(np.arange(RATE))
    figure = reconstruction("x", Shown(np.zeros((6, 9)), wave), Shown(np.zeros((6, 9))), SOUND, RATE)
    visible = np.array([axes.get_visible() for axes in figure.axes[:6]]).reshape(3, 2)
    assert visible.tolist() == [[True, False], [True, False], [True, True]]


@pytest.mark.parametrize("view", [SOUND, PICTURE])
def test_tiles_hold_every_field_where_it_belongs(view):
    draw = np.random.default_rng(0)
    span = view.high - view.low
    rows = [view.low + span * draw.random((count, 4, 5)) for count in (3, 2)]
    paper, (down, across) = tiles(rows, view, faint=[False, True])
    colours = colormaps["magma" if view.sound else "gray"]
    for number, fields in enumerate(rows):
        for column, field in enumerate(fields):
            tile = paper[number * down :, column * across :][:4, :5]
            share = (field - view.low) / span
            expected = colours(share[::-1] if view.sound else share)[..., :3]
            if number == 1:
                assert tile.min() > expected.min()
                expected = 1 - 0.4 * (1 - expected)
            np.testing.assert_allclose(tile, expected, atol=1e-12)
    np.testing.assert_array_equal(paper[down : down + 4, 2 * across : 2 * across + 5], 1.0)


def test_traversals_mark_dead_codes_and_the_clip_itself():
    figure = traversals([row("code 3"), row("code 1", alive=False)], SOUND)
    axes = figure.axes[0]
    labels = [tick.get_text().splitlines() for tick in axes.get_yticklabels()]
    assert labels == [["code 3", "1.00 nats"], ["code 1", "1.00 nats", "dead"]]
    assert [text.get_text() for text in axes.texts] == ["+0", "+1", "+2"]
    assert len(axes.patches) == 2


def test_traversals_of_unequal_length_name_each_step():
    axes = traversals([row(steps=4), row(steps=2)], SOUND).axes[0]
    assert [text.get_text() for text in axes.texts] == ["+0", "+1", "+2", "+3", "+0", "+1"]


def test_moving_pictures_go_there_and_back():
    frames = moving([row("code 1", steps=4), row("code 22", steps=2)], SOUND)
    assert len(frames) == 6
    assert len({frame.shape for frame in frames}) == 1
    np.testing.assert_array_equal(frames[1], frames[5])
    np.testing.assert_array_equal(frames[2], frames[4])
    assert (frames[0] != frames[3]).any()


def test_samples_are_numbered_and_pictures_titled():
    fields = np.random.default_rng(0).random((6, 4, 5))
    texts = [text.get_text() for text in samples(fields * 80 - 80, SOUND, 4).axes[0].texts]
    assert texts == [f"sample {number}" for number in range(1, 7)]
    shown = [Shown(field) for field in fields[:2]]
    figure = pictures(["3", "7"], shown, shown[::-1], PICTURE)
    assert [axes.get_title() for axes in figure.axes] == ["3", "7", "", ""]
    np.testing.assert_array_equal(figure.axes[2].images[0].get_array(), fields[1])


@pytest.mark.parametrize("scaling", ["standard", "unit", "none"])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_what_is_drawn_is_in_decibels_whatever_the_scale(scaling, power):
    front = Spectrogram(SpectrogramConfig(fft=512, hop=128, mels=30, power=power, scaling=scaling), RATE)
    hertz = librosa.mel_frequencies(32, fmin=0, fmax=RATE / 2)[20]
    time = torch.arange(RATE) / RATE
    waves = torch.stack([amplitude * torch.sin(2 * torch.pi * hertz * time) for amplitude in (1.0, 0.1)])
    front.fit([waves])
    middle = front.drawn(front(waves))[..., 20:40].mean(-1)
    assert middle.argmax(1).tolist() == [19, 19]
    np.testing.assert_allclose(middle[0, 19] - middle[1, 19], 20, atol=0.05)
    assert -9 < middle[0, 19] < 3  # a sine of full scale falls into a band and its neighbours


def test_bands_are_marked_at_their_frequencies():
    front = Spectrogram(SpectrogramConfig(fft=1024, hop=256, mels=40), RATE)
    view = view_of(front, Signal("wave", (RATE,), RATE))
    centres = librosa.mel_frequencies(42, fmin=0, fmax=RATE / 2)[1:-1]
    assert view.seconds == 1.0
    assert {mark for _, mark in view.bands} >= {"0.5", "1", "2"}
    for at, mark in view.bands:
        np.testing.assert_allclose(np.interp(at, range(40), centres), 1000 * float(mark), rtol=0.03)
