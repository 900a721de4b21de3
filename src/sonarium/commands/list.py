"""`sonarium list`: what there is to train, on what, and how it is judged.

`--json` prints one object: `models` (name: summary, presets), `worlds` (name: summary, kind), `measures` and
`benches` (name: what it tells).
"""

import json
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from sonarium.commands.bench import BENCHES
from sonarium.commands.flags import parse
from sonarium.evaluation.meanings import OF_LABELS, SCORES, meaning
from sonarium.models.table import MODELS
from sonarium.worlds.table import WORLDS

MEASURES = (*SCORES, *("few-5/label" if name == "few" else f"{name}/label" for name in OF_LABELS))


@dataclass(frozen=True)
class ListFlags:
    json: bool = False
    """Print JSON instead of tables."""


def main(arguments: list[str]) -> None:
    flags = parse(ListFlags, arguments, "list", "The models, presets, worlds, measures and benches.")
    found = {
        "models": {
            name: {"summary": entry.summary, "presets": list(entry.presets)} for name, entry in MODELS.items()
        },
        "worlds": {name: {"summary": entry.summary, "kind": entry.kind} for name, entry in WORLDS.items()},
        "measures": {name: meaning(name).sentence for name in MEASURES},
        "benches": BENCHES,
    }
    if flags.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    rows = {
        ("model", "what it is", "presets"): [
            (name, entry["summary"], ", ".join(entry["presets"])) for name, entry in found["models"].items()
        ],
        ("world", "what it is", "makes"): [
            (name, entry["summary"], entry["kind"]) for name, entry in found["worlds"].items()
        ],
        ("measure", "what it tells"): list(found["measures"].items()),
        ("bench", "what it compares"): list(BENCHES.items()),
    }
    console = Console()
    for headings, lines in rows.items():
        table = Table(*headings, box=None)
        for line in lines:
            table.add_row(*line)
        console.print(table)
        console.print()
