"""Allowed imports between packages: worlds → features → models → measures → evaluation → report, each only from
those to its left; rooms from worlds and features; agents from features and models; training from contracts."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "sonarium"
EVERYONE = {"files", "config", "cores", "environment", "jit"}
"""Modules that import none of the others, and that all may import."""
ALLOWED = {
    "files": set(),
    "config": set(),
    "cores": set(),
    "jit": set(),
    "environment": set(),
    "worlds": {"worlds"},
    "features": {"features", "worlds"},
    "models": {"models", "features", "worlds"},
    "measures": {"measures"},
    "evaluation": {"evaluation", "measures", "models", "features", "worlds"},
    "report": {"report", "evaluation", "measures", "models", "features", "worlds"},
    "rooms": {"rooms", "features", "worlds", "catalogue"},
    "agents": {"agents", "models", "features"},
    "training": {"training"},
    "catalogue": set(),
    "__init__": {"runs"},
}
KINDS = ("worlds", "features", "models", "agents", "measures", "rooms")
CONTRACTS = {
    "models": {"training.contract"},
    "agents": {"training.contract"},
    "training": {"worlds.contract", "models.contract"},
    "catalogue": {f"{kind}.contract" for kind in KINDS},
}
"""Single modules that a package may import in addition."""
VERBS = {"commands", "bench", "play"}
JOINING = {"__main__", "runs", *VERBS}
"""Packages that may import anything but the command line; `runs`, which is a library, none of `VERBS` either."""


def imported(path: Path) -> set[str]:
    """Modules of Sonarium that a file imports, without the leading `sonarium.`."""
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
    found = imported(path)
    if room not in ("__main__", "commands"):
        assert not {name for name in found if name.split(".")[0] == "commands"}, "nothing imports the command line"
    if room in JOINING:
        assert room != "runs" or not {name for name in found if name.split(".")[0] in VERBS}
        return
    allowed = ALLOWED[room] | EVERYONE
    wrong = {name for name in found if name.split(".")[0] not in allowed and not known(room, name)}
    assert not wrong, f"{room} may not import {sorted(wrong)}"


def known(room: str, name: str) -> bool:
    """Whether this is a module, or a name in a module, that the package may import in addition."""
    return any(name == one or name.startswith(f"{one}.") for one in CONTRACTS.get(room, ()))


def test_only_the_engine_knows_fabric():
    knowing = {path for path in FILES if "lightning_fabric" in path.read_text()}
    assert knowing == {SOURCE / "training" / "engine.py"}


def test_the_rule_sees_every_way_to_import(tmp_path):
    path = tmp_path / "file.py"
    path.write_text(
        "from sonarium import report\nimport sonarium.bench.timing\nfrom sonarium.models.vae import VAE\n"
    )
    assert imported(path) == {"report", "bench.timing", "models.vae"}
