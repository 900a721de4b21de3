"""`sonarium list`: the models, worlds, front ends, rooms, measures and benches, of other packages too; and the
settings of seek-suite, in which agents that seek sounds are tested.

`--json` prints one object: `models` and `agents` (name: summary, presets), `worlds` (name: summary, kind),
`front_ends`, `rooms`, `seek_suite`, `measures` and `benches` (name: summary), and `broken` (what
cannot be loaded, and why).
"""

import json
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from sonarium.catalogue import AGENTS, FRONT_ENDS, MEASURES, MODELS, ROOMS, WORLDS, faults
from sonarium.commands.bench import BENCHES
from sonarium.commands.faults import say
from sonarium.commands.flags import NARROWEST, parse
from sonarium.evaluation.meanings import OF_LABELS, SCORES, meaning
from sonarium.rooms import SUITE

OWN_MEASURES = (*SCORES, *("few-5/label" if name == "few" else f"{name}/label" for name in OF_LABELS))


@dataclass(frozen=True)
class ListFlags:
    json: bool = False
    """Print JSON instead of tables."""


def main(arguments: list[str]) -> None:
    flags = parse(ListFlags, arguments, "list", "List models, worlds, front ends, rooms, measures and benches.")
    found = {
        "models": {
            name: {"summary": entry.summary, "presets": list(entry.presets)}
            for name, entry in MODELS.loadable().items()
        },
        "agents": {
            name: {"summary": entry.summary, "presets": list(entry.presets)}
            for name, entry in AGENTS.loadable().items()
        },
        "worlds": {
            name: {"summary": entry.summary, "kind": entry.kind} for name, entry in WORLDS.loadable().items()
        },
        "front_ends": {name: entry.summary for name, entry in FRONT_ENDS.loadable().items()},
        "rooms": {name: entry.summary for name, entry in ROOMS.loadable().items()},
        "seek_suite": SUITE,
        "measures": {name: meaning(name).sentence for name in OWN_MEASURES}
        | {name: entry.summary for name, entry in MEASURES.loadable().items()},
        "benches": BENCHES,
    }
    broken = faults()
    if flags.json:
        found["broken"] = {f"{fault.kind}/{fault.name}": str(fault) for fault in broken}
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    console = Console()
    console.width = max(NARROWEST, console.width)
    trained = found["models"] | found["agents"]
    draw(
        console, ("model", "", "presets"), [(n, e["summary"], ", ".join(e["presets"])) for n, e in trained.items()]
    )
    draw(console, ("world", "", "signal"), [(n, e["summary"], e["kind"]) for n, e in found["worlds"].items()])
    for kind, title in (
        ("front_ends", "front end"),
        ("rooms", "room"),
        ("seek_suite", "seek-suite"),
        ("measures", "measure"),
        ("benches", "bench"),
    ):
        draw(console, (title, ""), list(found[kind].items()))
    for fault in broken:
        say(f"passed over: {fault}")


def draw(console: Console, headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(*headings, box=None)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print()
