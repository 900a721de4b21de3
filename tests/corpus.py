"""A small training corpus of words by several speakers: each word has a pitch, and each speaker a loudness."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 8000
WORDS, SPEAKERS, TAKES = ("ba", "de", "gi"), ("ann", "bob", "cy", "dee", "eve", "flo"), 3
PITCHES = (300, 700, 1500)
CLIPS = len(WORDS) * len(SPEAKERS) * TAKES
PATTERN = "{word}/{speaker}_{take}.wav"
SMALL = f"--pattern {PATTERN} --labels word speaker --rate {RATE} --seconds 0.4".split()
"""Flags of a world of this corpus."""
TINY = "--mels 20 --filters 16 --width 16 --steps-ahead 3 --batch-size 8".split()
"""Flags of a learner that trains in moments."""


def write_corpus(root: Path) -> Path:
    """Write clips of 0.35 to 0.6 seconds, WORD/SPEAKER_TAKE.wav; return the folder."""
    random = np.random.default_rng(0)
    for word, pitch in zip(WORDS, PITCHES, strict=True):
        (root / word).mkdir(parents=True)
        for speaker, loudness in zip(SPEAKERS, (0.5, 0.3, 0.18, 0.1, 0.06, 0.035), strict=True):
            for take in range(TAKES):
                time = np.arange(random.integers(round(0.35 * RATE), round(0.6 * RATE))) / RATE
                wave = np.sin(2 * np.pi * pitch * random.uniform(0.97, 1.03) * time + random.uniform(0, 6))
                wave = loudness * (wave + 0.05 * random.standard_normal(len(time)))
                soundfile.write(root / word / f"{speaker}_{take}.wav", wave, RATE)
    return root
