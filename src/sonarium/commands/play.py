"""`sonarium play`: seek sound sources in rooms by keyboard, or evaluate scripted agents that do.

Without `--agent` one plays by keyboard, in a window or in the terminal. With agents, each plays the same episodes,
seeded `--seed` and up. `--suite NAME` takes a setting of seek-suite and its held-out episodes; a person who plays
them by keyboard stands beside the scripted agents in a table. `--json` prints one object: `episodes`; `out`, the
folder or null; `agents`, for each its measures `success`, `spl` (success weighted by path length, Anderson et al.,
2018), `sna` (success weighted by number of actions, Chen et al., 2021), `found`, `steps` and `return`, each with
`mean`, `low` and `high`, the 95 % confidence interval over episodes; and `played`, the result of each episode.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import tyro
from rich.console import Console
from rich.table import Table

from sonarium.commands.faults import UsageError, say, tell
from sonarium.commands.flags import choose, flag, parse
from sonarium.config import Range, help_of
from sonarium.rooms.seek.config import SeekConfig

if TYPE_CHECKING:
    from sonarium.play.evaluate import EpisodeResult, Evaluation

PERSONS = ("success", "spl", "found")
"""Measures that are comparable between a person and agents with other step sizes."""
BY_KEYBOARD = SeekConfig(actions="continuous", seconds=0.128, step=0.15, turn=10.0, max_steps=4000)
"""Small and frequent steps and turns, for smooth walking by keyboard."""
GROUPS = {
    "task": (
        "Goal, reward and end of an episode.",
        "sources distractors target cue wrong moving radius reward max_steps same_config layout_seed",
    ),
    "room": (
        "Shape and size of the rooms.",
        "room size corners height smallest largest fewest_sides most_sides irregular",
    ),
    "placement": ("Distances of sources and start.", "wall_distance source_distance start_distance"),
    "acoustics": (
        "Room acoustics and the listener's head.",
        "absorption absorption_span rt60 order most_images longest_response ear_distance head ear_height "
        "source_height",
    ),
    "sound": (
        "What the sources play, and noise.",
        "sounds new_sounds variants first_variant loop level stops burst period diffuse_noise point_noise",
    ),
    "action": ("Action space and step size.", "actions step turn"),
    "observation": (
        "What the agent observes.",
        "observation pose oracle_info source_info rate clock seconds gain",
    ),
    "features": ("Parameters of --observation features.", "ears"),
    "computation": ("Where and with how many threads.", "threads device"),
}
"""The fields of SeekConfig by topic, for `--help`; `figures` is for Python only."""


@dataclass(frozen=True)
class PlayFlags:
    agent: tuple[Literal["random", "oracle", "loudness", "difference"], ...] = ()
    """Scripted agents to evaluate on the same episodes, instead of playing by keyboard. random: uniform actions;
    oracle: follows the shortest path; loudness: goes where the level rises; difference: follows interaural phase
    and level differences."""
    against: Path | None = None
    """Run folder of an agent that plays the same episodes: those of the scripted agents, or yours."""
    episodes: Annotated[int, Range(1, 10**9)] = 20
    """Number of episodes per agent."""
    suite: str = ""
    """Setting of seek-suite, see `sonarium list`, whose values are the defaults of the other flags."""
    seed: Annotated[int | None, Range(0)] = None
    """Random seed of the first episode, by default 0, or the first held-out one of --suite; it increases by 1 per
    episode."""
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
    suite = flag(arguments, "suite", "")
    (start, first), run = of_suite(suite), None
    if folder := flag(arguments, "against", ""):
        if suite:
            raise UsageError("--against: the run plays in the rooms that it learnt in; leave out --suite")
        run = against(Path(folder), say)
        start = run[2]
    start = start if by_agent else by_hand(start)
    flags = parse(schema(start), arguments, "play", about)
    if flags.seed is None:
        flags = replace(flags, seed=first)
    try:
        given = {name: value for group in GROUPS for name, value in vars(getattr(flags, group)).items()}
        config = replace(start, **given)
    except ValueError as refused:
        raise UsageError(f"{refused}; see `sonarium play --help`") from None
    if (run or suite) and replace(config, threads=start.threads, device=start.device) != start:
        what = "the run plays in the rooms that it learnt in" if run else "a setting is the same for everybody"
        raise UsageError(f"--{'against' if run else 'suite'}: {what}; leave out the flags of rooms")
    if flags.agent:
        by_agents(flags, config, run)
    else:
        by_keyboard(flags, config, run)


def of_suite(name: str) -> tuple[SeekConfig, int]:
    """Configuration and first seed of the test episodes of a setting; without a name, the defaults."""
    if not name:
        return SeekConfig(), 0
    # Deferred import: without --suite, no environment has to be imported.
    from sonarium.rooms.seek.suite import HELD_OUT, SUITE

    return SUITE[choose("setting of seek-suite", name, SUITE)].tested, HELD_OUT


def by_hand(config: SeekConfig) -> SeekConfig:
    """The same task for the keyboard: steps are shorter, and accordingly more of them fit into the same time."""
    times = config.seconds / BY_KEYBOARD.seconds
    names = ("actions", "seconds", "step", "turn", "clock", "observation", "pose")
    own = {name: getattr(BY_KEYBOARD, name) for name in names}
    max_steps = BY_KEYBOARD.max_steps if config == SeekConfig() else round(config.max_steps * times)
    return replace(config, **own, max_steps=max_steps, moving=config.moving / times)


def schema(start: SeekConfig) -> type:
    """The flags: those of the verb, and a dataclass for each group of SeekConfig's fields."""
    hints, helps = get_type_hints(SeekConfig), help_of(SeekConfig)
    parts: list[tuple[str, Any, Any]] = []
    for title, (summary, names) in GROUPS.items():
        fields = [
            (name, Annotated[hints[name], tyro.conf.arg(help=helps[name])], field(default=getattr(start, name)))
            for name in names.split()
        ]
        # Without a module, tyro does not search source files for the help that is given here.
        namespace = {"__doc__": summary, "__module__": ""}
        group = dataclasses.make_dataclass(title, fields, frozen=True, namespace=namespace)
        parts.append((title, group, field(default_factory=group)))
    return dataclasses.make_dataclass("Play", parts, bases=(PlayFlags,), frozen=True)


Run = tuple[str, Any, SeekConfig]
"""Name, agent and room configuration of a run to play against."""


def against(folder: Path, remark: Callable[[str], None]) -> Run:
    # Deferred import: `--help` should not wait for what a run requires.
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
    tally = walk(config, flags.seed, screen, run is not None or bool(flags.suite))
    seconds = tally.steps * config.window / config.rate
    print(
        f"{tally.finished} of {tally.episodes} room(s) finished, {tally.found} source(s) found "
        f"in {seconds:.0f} s, return {tally.earned:.1f}"
    )
    if tally.played:
        compare(flags, run, tally.played)


def compare(flags: Any, run: Run | None, played: "list[EpisodeResult]") -> None:
    """Print a table of the player and of agents in the same rooms: that of the run, or else the scripted ones."""
    from sonarium.agents.scripted import SCRIPTED
    from sonarium.play.evaluate import Evaluation, evaluate

    rooms = of_suite(flags.suite)[0] if run is None else run[2]
    agents, trained = ((), {run[0]: run[1]}) if run is not None else (tuple(SCRIPTED), {})
    theirs = evaluate(agents, rooms, len(played), flags.seed, trained=trained).played
    named = f"{flags.suite}, " if flags.suite else ""
    found = Evaluation([*played, *theirs], len(played), rooms.sources, None)
    print_table(found, f"{named}episodes: {len(played)}", PERSONS)
    print("Your steps are smaller than theirs: compare the paths (spl).")


def print_table(found: "Evaluation", title: str, measures: Sequence[str] | None = None) -> None:
    """Print measures, by default all, of everyone who played the same episodes."""
    from sonarium.play.evaluate import MEASURES

    rows = found.rows()
    table = Table("", *(agent for agent, _ in rows), title=title, box=None)
    for number, name in enumerate(MEASURES):
        if measures is None or name in measures:
            table.add_row(name, *(cells[number] for _, cells in rows))
    Console().print(table)
    print("Brackets: 95 % confidence interval over episodes.")


def by_agents(flags: Any, config: SeekConfig, run: Run | None) -> None:
    from sonarium.commands.progress import bars, plainly
    from sonarium.play.evaluate import evaluate

    if config.observation != "audio":
        raise UsageError("scripted agents hear sound: leave out --observation features")
    if len(set(flags.agent)) < len(flags.agent):
        raise UsageError(f"--agent {' '.join(flags.agent)}: name each agent once")
    trained = {} if run is None else {run[0]: run[1]}
    with bars() as progress:
        found = evaluate(
            flags.agent, config, flags.episodes, flags.seed, flags.films, flags.out, plainly(progress), trained
        )
    if flags.json:
        print(json.dumps(found.as_json(), indent=2))
        return
    named = f"{flags.suite}, " if flags.suite else ""
    print_table(found, f"{named}episodes: {flags.episodes}")
    if flags.out is not None:
        tell(f"{flags.out / 'page.html'}: open it in a browser, with headphones")
