"""Who may import whom: worlds → features → models → measures → report, each only from those to its left."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "sonarium"
EVERYONE = {"files"}
ALLOWED = {
    "worlds": {"worlds"},
    "features": {"features", "worlds"},
    "models": {"models", "features", "worlds"},
    "measures": {"measures"},
    "evaluation": {"evaluation", "measures", "models", "features", "worlds"},
    "report": {"report", "evaluation", "measures", "models", "features", "worlds"},
    "rooms": {"rooms", "features", "worlds", "catalogue"},
    "agents": {"agents", "models", "features"},
    "training": {"training"},
    "catalogue": {"rooms"},
    "files": set(),
    "__init__": {"runs"},
}
CONTRACTS = {"training": ("worlds.contract", "models.contract"), "models": ("training.contract",)}
"""All that a room may know of others, besides those to its left."""
JOINING = {"__main__", "catalogue", "commands", "bench", "runs", "play"}
"""Rooms that join the others may import anything."""


def imported(path: Path) -> set[str]:
    """Modules of Sonarium that a file imports, without the leading name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "sonarium":
                names = [f"sonarium.{alias.name}" for alias in node.names]
            elif (SOURCE / (node.module or "").replace(".", "/").removeprefix("sonarium/")).is_dir():
                names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.removeprefix("sonarium.") for name in names if name.startswith("sonarium.")}
    return found - {"__version__"}


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_imports_only_what_its_room_may(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room in JOINING:
        return
    allowed = ALLOWED[room] | EVERYONE
    wrong = {
        name
        for name in imported(path)
        if name.split(".")[0] not in allowed and not name.startswith(CONTRACTS.get(room, ("-",)))
    }
    assert not wrong, f"{room} may not import {sorted(wrong)}"


def test_only_the_engine_knows_fabric():
    knowing = {path for path in FILES if "lightning_fabric" in path.read_text()}
    assert knowing == {SOURCE / "training" / "engine.py"}


def test_the_rule_sees_every_way_to_import(tmp_path):
    path = tmp_path / "file.py"
    path.write_text(
        "from sonarium import report\nimport sonarium.bench.timing\nfrom sonarium.models.vae import VAE\n"
    )
    assert imported(path) == {"report", "bench.timing", "models.vae"}
