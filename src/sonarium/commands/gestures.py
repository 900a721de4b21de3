"""`sonarium gestures FILE [--out song.wav] [--table gestures.csv]`: from a bird's song to its gestures, and sung
again.

Fits the pressure and tension of a syrinx to the recording, and compares the pitch of what they sing with that of
the recording. The table has a row for each millisecond: `time` in seconds, `pressure`, `tension`, `envelope`,
`turbulence`, `hertz` and `voiced`. `--json` prints one object: `file`, `seconds`, `voiced` (fraction of the time),
`pitch_error` (median of the relative differences; null where nothing is voiced), `out` and `table`.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import tyro

from sonarium.commands.faults import UsageError
from sonarium.commands.flags import parse
from sonarium.files import written_aside
from sonarium.worlds.audio.decoder import header_of, read_mono

HIGHEST_RATE = 48_000
"""Sampling rate in Hz above which a recording is resampled: higher frequencies carry no gestures."""
LOWEST_RATE = 8_000


@dataclass(frozen=True)
class GesturesFlags:
    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """A sound file with the song of one bird."""
    out: Path | None = None
    """Output sound file, .wav, of the song resynthesised from the gestures."""
    table: Path | None = None
    """Output table, .csv, of the gestures, one row per millisecond."""
    json: bool = False
    """Print a summary as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(
        GesturesFlags, arguments, "gestures", "Fit the gestures of a syrinx to a song, and resynthesise it."
    )
    for name, path, suffix in (("out", flags.out, ".wav"), ("table", flags.table, ".csv")):
        if path is not None and path.suffix.lower() != suffix:
            raise UsageError(f"--{name} {path} does not end in {suffix}: give a name that does")
    if flags.file.is_dir():
        raise UsageError(f"'{flags.file}' is a folder: give one sound file")
    # Deferred import: the model of the syrinx is slow to import, and `--help` should not wait for it.
    from sonarium.features.gestures import FRAME_RATE, fit, pitch_error

    rate = min(header_of(flags.file).rate, HIGHEST_RATE)
    if rate < LOWEST_RATE:
        raise ValueError(
            f"'{flags.file}' has a sampling rate of {rate} Hz: give a recording with {LOWEST_RATE} Hz or more"
        )
    wave = read_mono(flags.file, rate).numpy()
    try:
        found = fit(wave, rate)
    except ValueError as error:
        raise ValueError(f"'{flags.file}': {error}") from None
    sung = found.sing(rate, len(wave))
    apart = pitch_error(found, sung, rate)
    if flags.out is not None:
        with written_aside(flags.out) as aside:
            soundfile.write(aside, sung, rate, subtype="FLOAT", format="WAV")
    if flags.table is not None:
        columns = (found.pressure, found.tension, found.envelope, found.turbulence, found.hertz)
        with written_aside(flags.table) as aside, aside.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("time", "pressure", "tension", "envelope", "turbulence", "hertz", "voiced"))
            for frame, row in enumerate(np.stack(columns, 1)):
                writer.writerow(
                    (f"{frame / FRAME_RATE:.3f}", *(f"{x:.6g}" for x in row), int(found.voiced[frame]))
                )
    result = {
        "file": str(flags.file),
        "seconds": len(wave) / rate,
        "voiced": float(found.voiced.mean()),
        "pitch_error": apart,
        "out": str(flags.out) if flags.out else None,
        "table": str(flags.table) if flags.table else None,
    }
    if flags.json:
        print(json.dumps(result))
        return
    pitch = "no pitch" if apart is None else f"pitch of the song sung again {apart:.2%} off in the median"
    print(f"{flags.file}: {result['seconds']:.2f} s, voiced {result['voiced']:.0%}; {pitch}")
    for path in (flags.out, flags.table):
        if path is not None:
            print(path)
