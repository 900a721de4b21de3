"""`sonarium list`: what there is to train, on what, and how it is judged."""

import json
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from sonarium.commands.bench import BENCHES
from sonarium.commands.flags import parse
from sonarium.measures.disentanglement import SCORES
from sonarium.models.table import MODELS
from sonarium.worlds.table import WORLDS


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
        "measures": list(SCORES),
        "benches": list(BENCHES),
    }
    if flags.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    console = Console()
    for title in ("models", "worlds"):
        table = Table(title[:-1], "what it is", "presets" if title == "models" else "makes", box=None)
        for name, entry in found[title].items():
            table.add_row(name, entry["summary"], ", ".join(entry.get("presets", [entry.get("kind")])))
        console.print(table)
        console.print()
    console.print(f"measures  {', '.join(found['measures'])}", soft_wrap=True)
    console.print(f"benches   {', '.join(found['benches'])}", soft_wrap=True)
