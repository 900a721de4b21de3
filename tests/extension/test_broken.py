"""A plug-in that cannot be loaded is reported and skipped; everything else is unaffected."""

import json
import os
import subprocess
import sys

import pytest
from installed import write_package

from sonarium.__main__ import dispatch
from sonarium.catalogue import KINDS, MODELS, Kind
from sonarium.commands.faults import UsageError

BROKEN = {
    "sonarium.models": {
        "absent": "package_that_is_not_there.module:MODEL",
        "raising": "raising_plug_in:MODEL",
        "no-entry": "raising_plug_in_not:THING",
        "no-name": "raising_plug_in_not:NOTHING",
        "vae": "raising_plug_in:MODEL",
    },
    "sonarium.worlds": {"absent-world": "package_that_is_not_there:WORLD"},
}
REASONS = {
    "models/absent": "ModuleNotFoundError: No module named 'package_that_is_not_there'",
    "models/raising": "RuntimeError: a GPU is needed, and there is none",
    "models/no-entry": "TypeError: it is a str, expected a ModelEntry",
    "models/no-name": "AttributeError: module 'raising_plug_in_not' has no attribute 'NOTHING'",
    "worlds/absent-world": "ModuleNotFoundError: No module named 'package_that_is_not_there'",
    "models/vae": "the name is built in",
}


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """An installed package whose entry points are all faulty."""
    write_package(tmp_path, "broken-package", BROKEN)
    (tmp_path / "raising_plug_in.py").write_text("raise RuntimeError('a GPU is needed,\\n and there is none')\n")
    (tmp_path / "raising_plug_in_not.py").write_text("THING = 'no entry'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    for kind in KINDS.values():
        monkeypatch.setattr(kind, "broken", {})
        monkeypatch.setattr(kind, "loaded", {})
        monkeypatch.setattr(kind, "shadowed", {})
        # Replace the plug-ins found before this package was installed; monkeypatch restores them.
        monkeypatch.setitem(vars(kind), "foreign", Kind.foreign.func(kind))
    return tmp_path


def test_the_list_names_what_it_passes_over(broken, capsys):
    dispatch(["list", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["broken"].keys() == REASONS.keys()
    for key, reason in REASONS.items():
        kind, name = key.split("/")
        told = f"{kind[:-1]} '{name}' of the package broken-package cannot be used: {reason}"
        assert found["broken"][key] == told
    assert {"vae", "cpc", "kmeans"} <= found["models"].keys() and "chirps" in found["worlds"]
    listed = found["models"].keys() | found["worlds"].keys()
    assert {key.split("/")[1] for key in REASONS} & listed == {"vae"}, "ours"
    dispatch(["list"])
    said = capsys.readouterr().err
    assert said.count("passed over: ") == len(REASONS) and "a GPU is needed, and there is none" in said


@pytest.mark.parametrize("name", ["absent", "raising", "no-entry", "no-name"])
def test_training_it_says_why_not_in_one_line(name, broken):
    with pytest.raises(UsageError) as refusal:
        dispatch(["train", name, "--run", str(broken / "run")])
    said = str(refusal.value)
    assert REASONS[f"models/{name}"] in said and "broken-package" in said and "\n" not in said
    assert not (broken / "run").exists()


def test_what_is_built_in_keeps_its_name(broken):
    assert "autoencoder" in MODELS["vae"].summary


def test_of_two_packages_with_one_name_the_first_on_the_path_has_it(tmp_path, monkeypatch):
    for package in ("later", "former"):
        write_package(tmp_path / package, package, {"sonarium.worlds": {"twin": f"{package}:WORLD"}})
        monkeypatch.syspath_prepend(tmp_path / package)
    kind = Kind("worlds", "sonarium.worlds.contract:WorldEntry", {})
    assert kind.foreign["twin"].value == "former:WORLD"
    assert str(kind.shadowed["twin"]) == (
        "world 'twin' of the package later cannot be used: the package former has one of this name"
    )


def test_help_loads_no_plug_in_and_is_quick(broken):
    """Measured in CPU time, since machines are shared."""
    code = (
        "import resource, sys\nfrom sonarium.__main__ import dispatch\ndispatch(['--help'])\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(used.ru_utime + used.ru_stime, *sorted(sys.modules), file=sys.stderr)"
    )
    found = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)
    ]
    for one in found:
        _, *modules = one.stderr.split()
        assert not {"sonarium_extension", "raising_plug_in", "torch", "numpy"} & {
            name.split(".")[0] for name in modules
        }
    assert min(float(one.stderr.split()[0]) for one in found) < 0.3
