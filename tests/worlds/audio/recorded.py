"""Noise written in every format, for the tests of reading audio files."""

import numpy as np
import soundfile

RATE = 16_000
FORMS = {
    "pcm16.wav": ("WAV", "PCM_16"),
    "pcm24.WAV": ("WAV", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "extended.wav": ("WAVEX", "PCM_16"),
    "large.rf64": ("RF64", "PCM_16"),
    "sony.w64": ("W64", "PCM_16"),
    "pcm16.aiff": ("AIFF", "PCM_16"),
    "float.AIF": ("AIFF", "FLOAT"),
    "apple.caf": ("CAF", "PCM_16"),
    "sun.au": ("AU", "PCM_16"),
    "pcm16.flac": ("FLAC", "PCM_16"),
    "pcm24.flac": ("FLAC", "PCM_24"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.opus": ("OGG", "OPUS"),
    "layer3.mp3": ("MP3", "MPEG_LAYER_III"),
}


def sound(seconds=0.6, channels=1, seed=0):
    random = np.random.default_rng(seed)
    return (random.standard_normal((round(seconds * RATE), channels)) * 0.1).astype(np.float32).clip(-0.9, 0.9)


def put(folder, name, samples=None):
    form, subtype = FORMS[name]
    path = folder / name
    soundfile.write(path, sound() if samples is None else samples, RATE, subtype, format=form)
    return path
