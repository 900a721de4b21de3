"""The package of `examples/extension` as if installed: its modules and its entry points, in this process and its
child processes, without a network and without a change to the environment that runs the tests."""

import atexit
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

EXTENSION = Path(__file__).resolve().parents[1] / "examples" / "extension"


def install_extension() -> None:
    """Put the extension on the path, with the metadata that pip would write from its pyproject.toml."""
    project = tomllib.loads((EXTENSION / "pyproject.toml").read_text())["project"]
    metadata = Path(tempfile.mkdtemp(prefix="sonarium-extension-"))
    atexit.register(shutil.rmtree, metadata, ignore_errors=True)
    write_package(metadata, project["name"], project["entry-points"])
    for path in (str(metadata), str(EXTENSION / "src")):
        sys.path.insert(0, path)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH")]))


def write_package(site: Path, name: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
    """Write the metadata that `importlib.metadata` finds of an installed package."""
    folder = site / f"{name.replace('-', '_')}-0.1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    sections = [
        "\n".join([f"[{group}]", *(f"{point} = {target}" for point, target in points.items()), ""])
        for group, points in entry_points.items()
    ]
    (folder / "entry_points.txt").write_text("\n".join(sections))
