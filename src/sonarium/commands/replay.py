"""`sonarium replay RUN [--out folder]`: the episodes that an agent keeps to learn from.

Without `--out` a table of them. With it a folder: of each episode a file of JSON with its actions, rewards, ends,
priorities and what was observed in numbers, the sound that was heard as a WAV file, and pictures as a strip in a
PNG file. `--json` prints one object: `step` of the checkpoint, `steps` that are held, `left_out`, damaged segments
that are not, `out`, and `episodes`, each with `number`, `slot`, `first_step`, `steps`, `return`, `whole`, `ended`
and, with `--out`, `files`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from sonarium.commands.faults import say, tell
from sonarium.commands.flags import parse
from sonarium.commands.progress import bars, plainly
from sonarium.config import Range
from sonarium.runs.replay import Episode, OpenReplay, chosen, export, open_replay


@dataclass(frozen=True)
class ReplayFlags:
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder of an agent with a replay buffer."""
    episodes: Annotated[int, Range(1, 1000)] = 8
    """Maximum number of episodes."""
    order: Literal["newest", "best", "worst"] = "newest"
    """Choice of episodes: the newest, or whole ones with the highest (best) or lowest (worst) return."""
    out: Path | None = None
    """New output folder for JSON, WAV and PNG files; by default a table is printed."""
    rate: Annotated[int, Range(0, 10**6)] = 0
    """Sampling rate in Hz of the sound, if the environment does not give it."""
    json: bool = False
    """Print a summary as JSON."""


def main(arguments: list[str]) -> None:
    flags = parse(ReplayFlags, arguments, "replay", "Browse the episodes in the replay buffer of an agent.")
    opened = open_replay(flags.run, say)
    episodes = chosen(opened, flags.episodes, flags.order)
    told = [episode.facts() for episode in episodes]
    if flags.out is not None:
        with bars() as progress:
            told = export(opened, episodes, flags.out, flags.rate, plainly(progress))
    if flags.json:
        found = {
            "step": opened.step,
            "steps": len(opened.replay),
            "left_out": opened.replay.left_out,
            "out": None if flags.out is None else str(flags.out),
            "episodes": told,
        }
        print(json.dumps(found, indent=2))
    elif flags.out is None:
        tabulate(opened, episodes, flags.order)
    else:
        tell(f"{flags.out}: {len(episodes)} episode(s), {sum(len(one['files']) for one in told)} files")


def tabulate(opened: OpenReplay, episodes: list[Episode], order: str) -> None:
    lost = opened.replay.left_out
    tell(
        f"step {opened.step}: {len(opened.replay)} steps of {len(opened.episodes)} episodes in {opened.env}"
        + (f"; {lost} damaged segment(s) left out" if lost else "")
    )
    table = Table("episode", "steps", "return", "from", "ended", title=f"{order} {len(episodes)}", box=None)
    for one in episodes:
        begins = "its first step" if one.held.whole else "the middle"
        table.add_row(str(one.number), str(one.held.steps), f"{one.held.reward:.4g}", begins, one.held.ended)
    Console().print(table)
