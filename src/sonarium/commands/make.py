"""`sonarium make WORLD --out …`: write a world's clips to files, to exchange with other programs.

`--json` prints one object: `out`, the file or folder; `clips`, their number.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from sonarium.catalogue import WORLDS
from sonarium.commands.faults import UsageError, tell
from sonarium.commands.flags import Group, choose, leading_word, parse_groups, wants_help
from sonarium.commands.progress import bars, plainly
from sonarium.config import Range
from sonarium.worlds.export import save_audio


@dataclass(frozen=True)
class MakeFlags:
    out: Path
    """New output folder for sound files and their manifest; or, for tones, a file that ends in .npz (SynTone's
    format)."""
    format: Literal["wav", "flac"] = "wav"
    """Format of the sound files: wav (32-bit float) or flac (24-bit)."""
    manifest: Literal["csv", "parquet"] = "csv"
    """Format of the manifest: csv or parquet."""
    seed: Annotated[int, Range(0)] = 0
    """Random seed of the world's noise."""
    json: bool = False
    """Print a summary as JSON."""


def main(arguments: list[str]) -> None:
    name, rest = leading_word(arguments)
    if name is None and not wants_help(rest):
        raise UsageError(f"make which world? choose one of {', '.join(WORLDS)}")
    name = choose("world", name or "tones", WORLDS)
    entry = WORLDS[name]
    flags, (config,) = parse_groups(
        MakeFlags, [Group(name, entry.Config(), entry.main)], rest, f"make {name}",
        f"Write the clips of {name}: {entry.summary}.",
    )  # fmt: skip
    save = entry.formats.get(flags.out.suffix)
    if save is None and flags.out.suffix == ".npz":
        raise ValueError(f"world '{name}' cannot be written as .npz: give a folder to --out")
    with bars() as progress:
        stages = plainly(progress)
        world = entry.build(config, flags.seed, stages)
        if save is None:
            save_audio(world, flags.out, flags.format, flags.manifest, stages)
        else:
            save(world, flags.out, stages)
    if flags.json:
        print(json.dumps({"out": str(flags.out), "clips": len(world)}))
    else:
        tell(f"{flags.out}: {len(world)} clips of {name}")
