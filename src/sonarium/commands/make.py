"""`sonarium make WORLD --out …`: write a world's clips to files, to exchange with other programs.

`--json` prints one object: `out`, the file or folder; `clips`, how many.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sonarium.commands.faults import UsageError
from sonarium.commands.flags import choose, leading_word, parse, wants_help
from sonarium.commands.progress import bars, plainly
from sonarium.worlds.export import save_audio, save_syntone
from sonarium.worlds.table import WORLDS
from sonarium.worlds.tones.world import Tones


@dataclass(frozen=True)
class MakeFlags:
    out: Path
    """A file that ends in .npz (SynTone's format), or a new folder for sound files and their manifest."""
    format: Literal["wav", "flac"] = "wav"
    """Sound files in a folder: wav (32-bit float) or flac (24-bit)."""
    manifest: Literal["csv", "parquet"] = "csv"
    """Manifest of the folder: csv or parquet."""
    seed: int = 0
    """Seed of the noise, where the world has any."""
    json: bool = False
    """Print what was written as JSON."""


def main(arguments: list[str]) -> None:
    name, rest = leading_word(arguments)
    if name is None and not wants_help(rest):
        raise UsageError(f"make which world? choose one of {', '.join(WORLDS)}")
    name = choose("world", name or "tones", WORLDS)
    entry = WORLDS[name]
    fields = [("world_config", entry.Config, field(default_factory=entry.Config))]
    schema = dataclasses.make_dataclass("Make", fields, bases=(MakeFlags,), frozen=True)
    flags = parse(schema, rest, f"make {name}", f"Write the clips of {name}: {entry.summary}.")
    with bars() as progress:
        world = entry.build(flags.world_config, flags.seed, plainly(progress))

        def written(done: int, total: int) -> None:
            progress("writing clips", done, total, {})

        if flags.out.suffix == ".npz":
            if not isinstance(world, Tones):
                raise ValueError(f"SynTone's format holds tones, not {name}: give a folder to --out")
            save_syntone(world, flags.out, progress=written)
        else:
            save_audio(world, flags.out, format=flags.format, manifest=flags.manifest, progress=written)
    if flags.json:
        print(json.dumps({"out": str(flags.out), "clips": len(world)}))
    else:
        print(f"{flags.out}: {len(world)} clips of {name}")
