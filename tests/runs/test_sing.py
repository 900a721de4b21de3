"""Synthesis of sound from codes, with a decoder whose pieces are known."""

import numpy as np
import pytest
import torch

from sonarium.features.spectrogram import SpectrogramConfig
from sonarium.models.contract import Decoder, SequenceSampler, Synthesiser
from sonarium.runs.sing import Singer, Voice
from sonarium.worlds.contract import Signal

RATE, PIECE = 16_000, 1024
FRONT = SpectrogramConfig(fft=256, hop=64, mels=0, scaling="none").build(Signal("wave", (PIECE,), RATE))
TIMES = np.arange(PIECE) / RATE
NOTES = [np.hanning(PIECE) * np.sin(2 * np.pi * hertz * TIMES) for hertz in (1000, 2000, 3000)]
SOUNDS = torch.from_numpy(np.stack(NOTES)).float()


class Notes(Decoder, SequenceSampler):
    """A code is the number of a note; sampled sequences cycle through the notes."""

    def __init__(self, framed: bool):
        self.framed = framed

    def decode(self, codes):
        if self.framed:
            return FRONT(SOUNDS[codes[..., 0].long()].flatten(1))
        return FRONT(SOUNDS[codes[:, 0, 0].long()])

    def sample_frames(self, clips, frames, generator, temperature=1.0):
        self.temperature = temperature
        return (torch.arange(frames) % 3).float()[None, :, None].repeat(clips, 1, 1)


class Sounding(Notes, Synthesiser):
    """Synthesises the waveform itself."""

    def sound(self, codes, samples=None, phase=None, iterations=32, generator=None):
        return SOUNDS[codes[..., 0].long()].flatten(1)[:, :samples]

    def phase(self, signal):
        raise AssertionError


def test_what_makes_sound_of_codes_itself_is_asked_to():
    voice = Sounding(True)
    songs = Singer("notes", voice, Voice(voice, FRONT, True, RATE, RATE / PIECE)).sing(1, 0.2, torch.Generator())
    np.testing.assert_array_equal(songs[0], SOUNDS[[0, 1, 2, 0]].flatten()[:3200])


@pytest.mark.parametrize("framed", [False, True])
def test_the_song_has_the_features_of_its_pieces(framed):
    notes = Notes(framed)
    singer = Singer("notes", notes, Voice(notes, FRONT, framed, RATE, RATE / PIECE))
    songs = singer.sing(2, 0.3, torch.Generator().manual_seed(0), 0.7)
    assert songs.shape == (2, 4800) and notes.temperature == 0.7
    wanted = SOUNDS[[0, 1, 2, 0, 1]].flatten()[:4800]
    apart = (FRONT(torch.from_numpy(songs)) - FRONT(wanted[None]))[:, 0]
    loud = FRONT(wanted[None])[0, 0] > -30
    assert apart[:, loud].abs().mean() < 3.0
    spectrum = np.abs(np.fft.rfft(songs[0].reshape(-1, 960)[1] * np.hanning(960)))
    assert spectrum.argmax() * RATE / 960 == pytest.approx(2000, abs=40)


def test_what_cannot_be_sung_is_refused():
    notes = Notes(False)
    singer = Singer("notes", notes, Voice(notes, FRONT, False, RATE, RATE / PIECE))
    for seconds, temperature in ((0.0, 1.0), (1e4, 1.0), (1.0, 0.0), (1.0, float("nan"))):
        with pytest.raises(ValueError, match="above 0"):
            singer.sing(1, seconds, torch.Generator(), temperature)
    # A song lasts at least one window.
    assert singer.sing(1, 0.001, torch.Generator()).shape == (1, 256)
