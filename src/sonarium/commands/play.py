"""`sonarium play`: walk through rooms by ear, or let scripted agents do it, to see and hear what they do.

Without `--agent` one plays by keyboard, in a window or in the terminal. With agents, each plays the same episodes,
seeded `--seed` and up. `--json` prints one object: `episodes`; `out`, the folder or null; `agents`, for each its
measures `success`, `spl` (success weighted by path length, Anderson et al., 2018), `found`, `steps` and `return`,
each with `mean`, `low` and `high`, the 95 % interval over episodes; and `played`, what came of each episode.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from sonarium.commands.faults import UsageError
from sonarium.commands.flags import parse
from sonarium.rooms.seek.config import SeekConfig

BY_KEYBOARD = SeekConfig(actions="continuous", seconds=0.128, step=0.15, turn=10.0, max_steps=4000)
"""Steps and turns so small and frequent that walking by keyboard is smooth."""


@dataclass(frozen=True)
class PlayFlags:
    agent: tuple[Literal["random", "oracle", "loudness", "difference"], ...] = ()
    """Who plays instead of you: random, oracle (is told the shortest path), loudness (goes where it gets louder),
    difference (goes by phase and level differences between the ears); several play the same episodes."""
    episodes: int = 20
    """How many episodes each agent plays."""
    seed: int = 0
    """Seed of the first episode; each further one has the next."""
    out: Path | None = None
    """Folder for films, sounds and pictures of each agent's first episodes, and page.html with all of them."""
    films: int = 2
    """Of how many episodes of each agent there are films, sounds and pictures."""
    terminal: bool = False
    """Play by keyboard in the terminal even where a window could be shown."""
    json: bool = False
    """Print the scores as JSON."""


def main(arguments: list[str]) -> None:
    by_agent = any(word == "--agent" or word.startswith("--agent=") for word in arguments)
    start = SeekConfig() if by_agent else BY_KEYBOARD
    fields: list[tuple[str, Any, Any]] = [("seek", SeekConfig, field(default_factory=lambda: start))]
    schema = dataclasses.make_dataclass("Play", fields, bases=(PlayFlags,), frozen=True)
    about = (
        "Find sounds in rooms by ear: by keyboard, or let scripted agents play. The defaults shown are those for "
        + ("agents." if by_agent else "the keyboard; with --agent they are the environment's own.")
    )
    flags = parse(schema, arguments, "play", about)
    if flags.agent:
        by_agents(flags, flags.seek)
    else:
        by_keyboard(flags, flags.seek)


def by_keyboard(flags: PlayFlags, config: SeekConfig) -> None:
    from sonarium.play.walk import walk

    if flags.out is not None or flags.json:
        raise UsageError("--out and --json are for agents: name one or more, as --agent difference")
    wanted = {"actions": "continuous", "clock": "stream", "observation": "audio", "pose": False}
    for name, value in wanted.items():
        if getattr(config, name) != value:
            raise UsageError(f"--{name} {getattr(config, name)}: by keyboard one plays with {name} {value} only")
    tally = walk(config, flags.seed, flags.terminal)
    seconds = tally.steps * config.window / config.rate
    print(
        f"{tally.finished} of {tally.episodes} room(s) finished, {tally.found} source(s) found "
        f"in {seconds:.0f} s, return {tally.earned:.1f}"
    )


def by_agents(flags: PlayFlags, config: SeekConfig) -> None:
    from sonarium.play.agents import MEASURES, contest

    for name, least in (("episodes", 1), ("films", 0), ("seed", 0)):
        if getattr(flags, name) < least:
            raise UsageError(f"--{name} {getattr(flags, name)}: give a whole number of at least {least}")
    if config.observation != "audio" or config.pose:
        raise UsageError("scripted agents listen to sound itself: leave out --observation features and --pose")
    if len(set(flags.agent)) < len(flags.agent):
        raise UsageError(f"--agent {' '.join(flags.agent)}: name each agent once")
    found = contest(flags.agent, config, flags.episodes, flags.seed, flags.films, flags.out)
    if flags.json:
        print(json.dumps(found.as_json(), indent=2))
        return
    rows = found.rows()
    table = Table("", *(agent for agent, _ in rows), title=f"episodes: {flags.episodes}", box=None)
    for number, name in enumerate(MEASURES):
        table.add_row(name, *(cells[number] for _, cells in rows))
    Console().print(table)
    print("Brackets hold the 95 % interval over episodes.")
    if flags.out is not None:
        print(f"{flags.out / 'page.html'}: open it in a browser, with headphones")
