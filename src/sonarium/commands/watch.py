"""`sonarium watch RUN`: films of an agent that was trained.

Rooms are filmed with what both ears hear and with the sound, from above or by ear alone (`--view ears`), so that
one guesses where the sources are; other environments are filmed by their own pictures. The films lie in the media
folder of the run, where `sonarium report` finds them, or in `--out`. `--json` prints one object: `out`, and
`episodes`, each with `seed`, `return`, `steps` and `film`, the name of its file.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sonarium.commands.faults import say, tell
from sonarium.commands.flags import parse
from sonarium.commands.progress import bars, plainly
from sonarium.config import Range
from sonarium.runs.build import open_run


@dataclass(frozen=True)
class WatchFlags:
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder of an agent."""
    episodes: Annotated[int, Range(1, 1000)] = 2
    """Number of episodes to film."""
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Random seed of the first episode; it increases by 1 per episode."""
    sampled: bool = False
    """Sample actions from the policy; by default the most probable ones are taken."""
    plotted: Annotated[int, Range(0, 10**5)] = 64
    """Number of episodes in rooms for the plot of initial distance against steps; 0 disables it."""
    view: Literal["above", "ears"] = "above"
    """View of rooms: above (the room with sources and path), or ears (only what both ears hear)."""
    best: bool = False
    """Use the weights that were best in validation; by default the newest."""
    out: Path | None = None
    """Output folder, in place of the media folder of the run."""
    json: bool = False
    """Print a summary as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(WatchFlags, arguments, "watch", "Film episodes of a trained agent.")
    opened = open_run(flags.run, remark=say, best=flags.best)
    for line in opened.remarks:
        say(line)
    # Deferred import: plotting is slow to import, and `--help` should not wait for it.
    from sonarium.play.watch import watch

    out = flags.run / "media" if flags.out is None else flags.out
    with bars() as progress:
        found = watch(
            opened,
            out,
            flags.episodes,
            flags.seed,
            flags.sampled,
            flags.plotted,
            plainly(progress),
            say,
            flags.view,
        )
    if flags.json:
        print(json.dumps({"out": str(out), "episodes": [one.facts() for one in found]}, indent=2))
        return
    for one in found:
        tell(f"{out / one.file}: seed {one.seed}, return {one.earned:.2f} in {len(one.rewards)} steps")
