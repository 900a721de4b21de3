"""`sonarium play`: seek sound sources in rooms by keyboard, or evaluate scripted agents that do.

Without `--agent` one plays by keyboard, in a window or in the terminal. With agents, each plays the same episodes,
seeded `--seed` and up. `--json` prints one object: `episodes`; `out`, the folder or null; `agents`, for each its
measures `success`, `spl` (success weighted by path length, Anderson et al., 2018), `found`, `steps` and `return`,
each with `mean`, `low` and `high`, the 95 % confidence interval over episodes; and `played`, the result of each
episode.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro
from rich.console import Console
from rich.table import Table

from sonarium.commands.faults import UsageError, say, tell
from sonarium.commands.flags import flag, parse
from sonarium.config import Range, help_of
from sonarium.rooms.seek.config import SeekConfig

BY_KEYBOARD = SeekConfig(actions="continuous", seconds=0.128, step=0.15, turn=10.0, max_steps=4000)
"""Steps and turns so small and frequent that walking by keyboard is smooth."""
BY_PERSON = {
    name: getattr(BY_KEYBOARD, name)
    for name in ("actions", "seconds", "step", "turn", "max_steps", "clock", "observation", "pose")
}
"""What differs for a person in the rooms of a run."""
GROUPS = {
    "task": ("Goal, reward and end of an episode.", "sources radius reward max_steps same_config"),
    "room": (
        "Shape and size of the rooms.",
        "room size corners height smallest largest fewest_sides most_sides irregular",
    ),
    "placement": ("Distances of sources and start.", "wall_distance source_distance start_distance"),
    "acoustics": (
        "Room acoustics and the listener's head.",
        "absorption absorption_span order most_images longest_response ear_distance head ear_height source_height",
    ),
    "sound": ("What the sources play.", "sounds new_sounds variants loop level"),
    "action": ("Action space and step size.", "actions step turn"),
    "observation": ("What the agent observes.", "observation pose oracle_info rate clock seconds gain"),
    "features": ("Parameters of --observation features.", "ears"),
    "computation": ("Where and with how many threads.", "threads device"),
}
"""The fields of SeekConfig by what they are about, for `--help`; `figures` is for Python only."""


@dataclass(frozen=True)
class PlayFlags:
    agent: tuple[Literal["random", "oracle", "loudness", "difference"], ...] = ()
    """Scripted agents to evaluate on the same episodes, instead of playing by keyboard. random: uniform actions;
    oracle: follows the shortest path; loudness: goes where the level rises; difference: follows interaural phase
    and level differences."""
    against: Path | None = None
    """The run folder of an agent that plays the same episodes: those of the scripted agents, or yours."""
    episodes: Annotated[int, Range(1, 10**9)] = 20
    """Number of episodes per agent."""
    seed: Annotated[int, Range(0)] = 0
    """Seed of the first episode; each further one has the next."""
    out: Path | None = None
    """Output folder for films, sounds and pictures of the first episodes of each agent, and page.html with
    all of them."""
    films: Annotated[int, Range(0, 10**6)] = 2
    """Number of episodes per agent with film, sound and pictures."""
    terminal: bool = False
    """Play in the terminal even where a window could be shown."""
    json: bool = False
    """Print the scores as JSON."""


def main(arguments: list[str]) -> None:
    by_agent = any(word == "--agent" or word.startswith("--agent=") for word in arguments)
    about = (
        "Seek sound sources in rooms by ear: play by keyboard, or evaluate scripted agents. Defaults shown are "
        + (
            "those of the environment."
            if by_agent
            else "for the keyboard; with --agent, the environment's own apply."
        )
    )
    start, run = SeekConfig() if by_agent else BY_KEYBOARD, None
    if folder := flag(arguments, "against", ""):
        run = against(Path(folder), say)
        # A person walks in the rooms of the run, in small steps.
        start = run[2] if by_agent else replace(run[2], **BY_PERSON)
    flags = parse(schema(start), arguments, "play", about)
    try:
        config = SeekConfig(
            **{name: value for group in GROUPS for name, value in vars(getattr(flags, group)).items()}
        )
    except ValueError as refused:
        raise UsageError(f"{refused}; see `sonarium play --help`") from None
    if flags.agent:
        by_agents(flags, config, run)
    else:
        by_keyboard(flags, config, run)


def schema(start: SeekConfig) -> type:
    """The flags: those of the verb, and a dataclass for each group of SeekConfig's fields."""
    hints, helps = get_type_hints(SeekConfig), help_of(SeekConfig)
    parts: list[tuple[str, Any, Any]] = []
    for title, (summary, names) in GROUPS.items():
        fields = [
            (name, Annotated[hints[name], tyro.conf.arg(help=helps[name])], field(default=getattr(start, name)))
            for name in names.split()
        ]
        # Without a module, nobody searches source files for the sentences that are given here.
        namespace = {"__doc__": summary, "__module__": ""}
        group = dataclasses.make_dataclass(title, fields, frozen=True, namespace=namespace)
        parts.append((title, group, field(default_factory=group)))
    return dataclasses.make_dataclass("Play", parts, bases=(PlayFlags,), frozen=True)


Run = tuple[str, Any, SeekConfig]
"""Name, agent and rooms of a run that is played against."""


def against(folder: Path, remark: Callable[[str], None]) -> Run:
    # Help should not wait for what a run needs.
    from sonarium.play.watch import against

    return against(folder, remark)


def by_keyboard(flags: Any, config: SeekConfig, run: Run | None) -> None:
    from sonarium.play.walk import choose_screen, walk

    if flags.out is not None or flags.json:
        raise UsageError("--out and --json are for agents: name one or more, as --agent difference")
    needed = {"actions": "continuous", "clock": "stream", "observation": "audio", "pose": False}
    for name, value in needed.items():
        if getattr(config, name) != value:
            raise UsageError(f"--{name} {getattr(config, name)}: playing by keyboard needs --{name} {value}")
    try:
        screen = choose_screen(flags.terminal, say)
    except ValueError as refused:
        raise UsageError(str(refused)) from None
    tally = walk(config, flags.seed, screen, run is not None)
    seconds = tally.steps * config.window / config.rate
    print(
        f"{tally.finished} of {tally.episodes} room(s) finished, {tally.found} source(s) found "
        f"in {seconds:.0f} s, return {tally.earned:.1f}"
    )
    if run is not None:
        compare(run, tally.played, flags.seed)


def compare(run: Run, played: Sequence[Any], seed: int) -> None:
    """The run in the same rooms as the player, and both in a table."""
    from sonarium.play.evaluate import Evaluation, generator_of, play

    name, agent, rooms = run
    own = replace(rooms, oracle_info=True)
    theirs = play(name, agent, own, seed, len(played), generator_of(agent, seed), [])
    draw(Evaluation([*played, *theirs], len(played), rooms.sources, None))
    print("Your steps are smaller than those of the run: compare the paths (spl), not the steps.")


def by_agents(flags: Any, config: SeekConfig, run: Run | None) -> None:
    from sonarium.commands.progress import bars, plainly
    from sonarium.play.evaluate import evaluate

    if config.observation != "audio" or config.pose:
        raise UsageError("scripted agents observe audio alone: leave out --observation features and --pose")
    if len(set(flags.agent)) < len(flags.agent):
        raise UsageError(f"--agent {' '.join(flags.agent)}: name each agent once")
    if run is not None and replace(config, threads=run[2].threads) != run[2]:
        raise UsageError("--against: the run plays in the rooms that it learnt in; leave out the flags of rooms")
    trained = {} if run is None else {run[0]: run[1]}
    with bars() as progress:
        found = evaluate(
            flags.agent, config, flags.episodes, flags.seed, flags.films, flags.out, plainly(progress), trained
        )
    if flags.json:
        print(json.dumps(found.as_json(), indent=2))
        return
    draw(found)
    if flags.out is not None:
        tell(f"{flags.out / 'page.html'}: open it in a browser, with headphones")


def draw(found: Any) -> None:
    """The scores of all that played the same episodes."""
    from sonarium.play.evaluate import MEASURES

    rows = found.rows()
    table = Table("", *(agent for agent, _ in rows), title=f"episodes: {found.episodes}", box=None)
    for number, name in enumerate(MEASURES):
        table.add_row(name, *(cells[number] for _, cells in rows))
    Console().print(table)
    print("Brackets: 95 % confidence interval over episodes.")
