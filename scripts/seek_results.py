"""Evaluate the scripted agents in rooms of every shape: the table of docs/rooms.md.

    .venv/bin/python scripts/seek_results.py

All agents play the same 100 seeded episodes per room shape, with the environment's defaults.
"""

import json
import subprocess

from tones_results import ROOT, SONARIUM, insert, table

EPISODES = 100
AGENTS = ("random", "loudness", "difference", "oracle")
ROOMS = ("shoebox", "ngon", "nonconvex")
SHOWN = {"success": 2, "spl": 2, "steps": 0, "return": 1}


def play(room: str) -> dict[str, dict]:
    words = ["play", "--agent", *AGENTS, "--room", room, "--episodes", str(EPISODES), "--json"]
    done = subprocess.run([*SONARIUM, *words], check=True, capture_output=True)
    return json.loads(done.stdout)["agents"]


def cell(score: dict[str, float], digits: int) -> str:
    return f"{score['mean']:.{digits}f} [{score['low']:.{digits}f}, {score['high']:.{digits}f}]"


def main() -> None:
    found = {room: play(room) for room in ROOMS}
    rows = [
        [room, agent, *(cell(found[room][agent][name], digits) for name, digits in SHOWN.items())]
        for room in ROOMS
        for agent in AGENTS
    ]
    insert("agents", table(["room", "agent", *SHOWN], rows), "rooms.md")
    (ROOT / "docs" / "results" / "seek.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
