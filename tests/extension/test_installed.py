"""The extension as pip installs it, and the names of its parts in the catalogue."""

import importlib.util
import subprocess
import sys
from importlib.metadata import distributions, entry_points

import pytest
from installed import EXTENSION

from sonarium.__main__ import dispatch
from sonarium.catalogue import KINDS
from sonarium.commands.faults import UsageError


def test_pip_installs_the_entry_points_that_the_tests_see(tmp_path):
    """Without a network, and outside the environment of the tests."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools, which builds the package, is not installed")
    # pip builds in the folder of the sources, hence the copy.
    copied = tmp_path / "extension"
    subprocess.run(["cp", "-r", str(EXTENSION), str(copied)], check=True)
    how = "--quiet --disable-pip-version-check --no-deps --no-index --no-build-isolation --target".split()
    command = [sys.executable, "-m", "pip", "install", *how, str(tmp_path / "site"), str(copied)]
    subprocess.run(command, check=True, capture_output=True)
    [package] = distributions(path=[str(tmp_path / "site")])
    assert package.name == "sonarium-extension"
    installed = {(point.group, point.name, point.value) for point in package.entry_points}
    seen = {
        (point.group, point.name, point.value)
        for kind in KINDS
        for point in entry_points(group=f"sonarium.{kind}")
        if point.dist is not None and point.dist.name == package.name
    }
    assert installed == seen and len(installed) == 7
    sources = {path.name for path in (EXTENSION / "src" / "sonarium_extension").glob("*.py")}
    assert sources == {path.name for path in (tmp_path / "site" / "sonarium_extension").glob("*.py")}


def test_every_kind_has_one_of_the_extension():
    foreign = {kind: [point.value for point in entries.foreign.values()] for kind, entries in KINDS.items()}
    for kind, values in foreign.items():
        assert any(value.startswith("sonarium_extension.") for value in values), kind


def test_an_agent_is_played_in_a_room_of_the_extension(tmp_path, capsys):
    quick = "--threads 1 --order 0 --max-steps 4 --sources 1 --episodes 1 --films 1 --start-distance 1".split()
    dispatch(["play", "--agent", "random", "--room", "corridor", *quick, "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "page.html").exists()
    capsys.readouterr()
    with pytest.raises(UsageError, match="choose one of fixed, shoebox, ngon, nonconvex, corridor"):
        dispatch(["play", "--agent", "random", "--room", "hexagon", *quick])
