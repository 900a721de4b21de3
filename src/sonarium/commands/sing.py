"""`sonarium sing RUN --seconds 10 --out song.wav`: songs of a model of sequences, and how near they are to real
ones.

The run, trained with `--codes`, draws codes, which the run upstream of it decodes to sound. `--against` compares
at least four songs with a folder of recordings, in log-mel snippets; each measure stands beside its floor of
recorded against recorded songs. `--json` prints one object: `out`, `songs`, `seconds`, `rate`, `temperature`, and
`against` (null, or `embedding` and `measures`, by name `value` and `floor`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from sonarium.commands.faults import UsageError, say, tell
from sonarium.commands.flags import parse
from sonarium.commands.sample import wav
from sonarium.config import Range
from sonarium.evaluation.generation import EMBEDDING, LEAST_SONGS, MEANINGS, compare_songs
from sonarium.files import written_aside
from sonarium.runs.sing import LONGEST, open_singer
from sonarium.training.engine import choose_device
from sonarium.worlds.audio.decoder import read_mono
from sonarium.worlds.recordings.listing import sounds_at


@dataclass(frozen=True)
class SingFlags:
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder of a sequence model, such as hmm or gru, trained on the codes of an autoencoder."""
    out: Path
    """Output sound file, .wav; for several songs, a new folder."""
    seconds: Annotated[float, Range(0, LONGEST, above=True)] = 10.0
    """Duration of a song in seconds."""
    temperature: Annotated[float, Range(0, 100, above=True, example=0.8)] = 1.0
    """Sampling temperature: below 1 the model keeps to what is likely, above 1 it strays."""
    count: Annotated[int, Range(1, 10**4)] = 1
    """Number of songs."""
    against: Path | None = None
    """Folder of recordings to compare the songs with."""
    seed: Annotated[int, Range(0)] = 0
    """Random seed."""
    best: bool = False
    """Use the weights that were best in validation; by default the newest."""
    device: str = "cpu"
    """Device: cpu, cuda or auto."""
    json: bool = False
    """Print a summary, with the comparison, as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(
        SingFlags, arguments, "sing", "Generate songs with a sequence model and the run that decodes its codes."
    )
    check(flags)
    device = choose_device(flags.device)
    singer = open_singer(flags.run, device, say, flags.best)
    real = [] if flags.against is None else recordings(flags.against, singer.rate)
    generator = torch.Generator(device).manual_seed(flags.seed)
    songs = singer.sing(flags.count, flags.seconds, generator, flags.temperature)
    write(flags, songs, singer.rate)
    found = compare_songs(real, list(songs), singer.rate, flags.seed) if real else None
    if flags.json:
        against = None if found is None else {"embedding": EMBEDDING, "measures": found}
        result = {"out": str(flags.out), "songs": flags.count, "seconds": songs.shape[1] / singer.rate}
        print(json.dumps(result | {"rate": singer.rate, "temperature": flags.temperature, "against": against}))
        return
    tell(f"{flags.out}: {flags.count} song(s) of {songs.shape[1] / singer.rate:g} s by {singer.model}")
    if found is not None:
        draw(found, len(real), str(flags.against))


def check(flags: SingFlags) -> None:
    if flags.against is not None and flags.count < LEAST_SONGS:
        raise UsageError(f"--count {flags.count}: --against compares {LEAST_SONGS} songs or more")
    suffix = flags.out.suffix.lower()
    if flags.count == 1 and suffix != ".wav":
        raise UsageError(f"--out {flags.out} does not end in .wav: give a name that does")
    if flags.count > 1 and suffix == ".wav":
        raise UsageError(f"--out {flags.out} is one file, and --count {flags.count} songs need a folder: name one")
    if flags.count > 1 and flags.out.exists() and (not flags.out.is_dir() or any(flags.out.iterdir())):
        raise ValueError(f"'{flags.out}' exists and is not an empty folder: give --out a new one")


def recordings(folder: Path, rate: int) -> list[Float[np.ndarray, " _time"]]:
    """All sound files of a folder, at this rate."""
    if not folder.is_dir():
        raise UsageError(f"--against {folder} is no folder: give one with recordings")
    return [read_mono(path, rate).numpy() for path in sounds_at(folder)]


def write(flags: SingFlags, songs: Float[np.ndarray, "song time"], rate: int) -> None:
    with written_aside(flags.out) as aside:
        if flags.count == 1:
            aside.write_bytes(wav(songs[0], rate))
            return
        aside.mkdir()
        for number, song in enumerate(songs):
            (aside / f"song-{number:03}.wav").write_bytes(wav(song, rate))


def draw(found: dict[str, dict[str, float]], songs: int, folder: str) -> None:
    table = Table("measure", "made", "floor", "", box=None)
    for name, one in found.items():
        meaning = MEANINGS[name]
        table.add_row(meaning.name, f"{one['value']:.3f}", f"{one['floor']:.3f}", meaning.sentence)
    Console().print(table)
    tell(
        f"Against {songs} recordings in {folder}, in {EMBEDDING}. Floor: recorded against recorded songs, in "
        "halves."
    )
