"""Evaluate the scripted agents in rooms of every shape, and in seek-suite: the tables of docs/rooms.md.

    .venv/bin/python scripts/seek_results.py [rooms] [suite]

All agents play the same 100 seeded episodes per room shape, with the environment's defaults, and the first 100
held-out episodes of each setting.
"""

import json
import subprocess
import sys

from tones_results import ROOT, SONARIUM, insert, table

from sonarium.rooms import SUITE

EPISODES = 100
AGENTS = ("random", "loudness", "difference", "oracle")
ROOMS = ("shoebox", "ngon", "nonconvex")
SHOWN = {"success": 2, "spl": 2, "steps": 0, "return": 1}
OF_SUITE = {"success": 2, "spl": 2, "sna": 2, "steps": 0}


def play(*where: str) -> dict[str, dict]:
    words = ["play", "--agent", *AGENTS, *where, "--episodes", str(EPISODES), "--json"]
    done = subprocess.run([*SONARIUM, *words], check=True, capture_output=True)
    return json.loads(done.stdout)["agents"]


def cell(score: dict[str, float], digits: int) -> str:
    return f"{score['mean']:.{digits}f} [{score['low']:.{digits}f}, {score['high']:.{digits}f}]"


def write(name: str, found: dict[str, dict], shown: dict[str, int], first: str, file: str) -> None:
    rows = [
        [one, agent, *(cell(found[one][agent][score], digits) for score, digits in shown.items())]
        for one in found
        for agent in AGENTS
    ]
    insert(name, table([first, "agent", *shown], rows), "rooms.md")
    (ROOT / "docs" / "results" / file).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main(parts: list[str]) -> None:
    if "rooms" in parts:
        write("agents", {room: play("--room", room) for room in ROOMS}, SHOWN, "room", "seek.json")
    if "suite" in parts:
        write("suite", {name: play("--suite", name) for name in SUITE}, OF_SUITE, "setting", "seek-suite.json")


if __name__ == "__main__":
    main(sys.argv[1:] or ["rooms", "suite"])
