"""Measure the noise of cages between syllables: the numbers of `worlds/songbird/cage.py`.

    .venv/bin/python scripts/songbird_noise.py --data ../shared/data/zebra_finch

Of each recording the quietest quarter of the frames without a syllable counts, for what lies between syllables may
be song that nobody marked; octave bands of each bird are medians over its recordings. Writes
docs/results/songbird-noise.json.
"""

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

from sonarium.worlds.songbird.cage import DECIBELS, LOW_CUT, OCTAVES

ROOT = Path(__file__).resolve().parents[1]
MARGIN = (0.03, 0.05)
"""Seconds before and after a syllable that do not count as silence."""
FEWEST = 20
"""Minimum number of frames of silence in a recording."""


def measure(path: Path, marks: list[tuple[float, float]]) -> tuple[list[float], float] | None:
    """Power density of each octave in dB re that from 2 to 4 kHz, and song above noise in dB over LOW_CUT."""
    wave, rate = soundfile.read(path)
    hertz, times, spectrum = signal.stft(wave, rate, nperseg=1024, noverlap=512)
    power, song = np.abs(spectrum) ** 2, np.zeros(len(times), bool)
    silence = np.ones(len(times), bool)
    for onset, offset in marks:
        silence &= ~((times > onset - MARGIN[0]) & (times < offset + MARGIN[1]))
        song |= (times > onset) & (times < offset)
    loud = power[hertz >= LOW_CUT].sum(0)
    if silence.sum() < FEWEST or not song.any() or not loud[silence].all():
        return None
    quiet = silence & (loud <= np.quantile(loud[silence], 0.25))
    noise = power[:, quiet].mean(1)
    bands = [noise[(hertz >= f / 2**0.5) & (hertz < f * 2**0.5)].mean() for f in OCTAVES]
    levels = 10 * np.log10(np.array(bands) / bands[4])
    return levels.tolist(), float(10 * np.log10(loud[song].mean() / loud[quiet].mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "zebra_finch")
    data = parser.parse_args().data
    marks, birds = defaultdict(list), {}
    with (data / "segments.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            marks[row["file"]].append((float(row["onset_s"]), float(row["offset_s"])))
            birds[row["file"]] = row["individual"]
    found = defaultdict(list)
    for file, own in sorted(marks.items()):
        if (measured := measure(data / file, own)) is not None:
            found[birds[file]].append(measured)
    each = {
        bird: {
            "recordings": len(rows),
            "decibels": np.median([levels for levels, _ in rows], 0).round(1).tolist(),
            "snr": round(float(np.median([snr for _, snr in rows])), 1),
        }
        for bird, rows in found.items()
    }
    median = np.median([bird["decibels"] for bird in each.values()], 0).round(1).tolist()
    result = {"octaves_hz": OCTAVES, "birds": each, "median": median, "used": DECIBELS}
    out = ROOT / "docs" / "results" / "songbird-noise.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
