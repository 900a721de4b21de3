"""Rules of architecture that the source can be checked for: generic code names no concrete world or model,
capabilities are queried by type, and no file of Sonarium refers to packages that extend it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import EXTENSION

SOURCE = Path(__file__).resolve().parents[1] / "src" / "sonarium"
FILES = sorted(SOURCE.rglob("*.py"))
SCRIPTS = SOURCE.parents[1] / "scripts"
BASES = {"World", "Learner", "Sequences"}
"""Base classes of worlds and models."""
MAY_NAME = {
    "bench": "benches measure one implementation beside another",
    "commands/compare.py": "compares our predictive coding with two published ones",
    "runs/build.py": "makes the codes of an upstream run a world, which has no entry in the catalogue",
}
"""Files and packages that may name a concrete world or model, and why."""
MAY_ASK = {
    ("worlds/recordings/annotations.py", "seq"): "objects of crowsetta, which differ by format",
    ("worlds/recordings/annotations.py", "bboxes"): "objects of crowsetta, which differ by format",
    ("worlds/audio/file.py", "error_string"): "an exception of soundfile, or any other",
    ("worlds/export.py", "sync"): "whether the operating system has it",
    ("training/run.py", "O_NOFOLLOW"): "whether the operating system has it",
    ("rooms/acoustics/slots.py", "buffer"): "whether this thread has one yet",
}
"""Attributes that may be queried by name, by file, and the foreign objects that have them."""


def place(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def classes(path: Path) -> Iterator[str]:
    """The concrete worlds and models that a file defines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and node.name not in BASES:
            bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
            yield from [node.name] if BASES & bases else []


CONCRETE = {name: path for path in FILES for name in classes(path)}


def named(path: Path) -> set[str]:
    """Names that a file imports from Sonarium, and all attributes that it refers to, also in annotations."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sonarium"):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return found


def own(path: Path, name: str) -> bool:
    """Whether a file lies in the folder of the world or model."""
    return path.is_relative_to(CONCRETE[name].parent) and (
        # A world or model of a single file has no folder, but a file of its entries in the same folder.
        len(CONCRETE[name].relative_to(SOURCE).parts) > 2 or path.parent == CONCRETE[name].parent
    )


def test_the_worlds_and_models_are_found():
    assert {"Tones", "Recordings", "Digits", "Codes", "VAE", "VQVAE", "CPC"} <= CONCRETE.keys()


@pytest.mark.parametrize("path", FILES, ids=place)
def test_nothing_generic_names_a_concrete_world_or_model(path):
    if place(path) in MAY_NAME or place(path).split("/")[0] in MAY_NAME:
        return
    wrong = {name for name in named(path) & CONCRETE.keys() if not own(path, name)}
    assert not wrong, f"{place(path)} names {sorted(wrong)}: ask for an ability, or take it from the catalogue"


def asked(tree: ast.AST) -> Iterator[str]:
    """Attributes queried with `hasattr`, or with `getattr` and a literal (a loop over fields has none)."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("hasattr", "getattr")
        ):
            attribute = node.args[1]
            if isinstance(attribute, ast.Constant):
                yield str(attribute.value)
            elif node.func.id == "hasattr":
                yield ast.unparse(attribute)


@pytest.mark.parametrize("path", FILES, ids=place)
def test_abilities_are_asked_by_type(path):
    wrong = [name for name in asked(ast.parse(path.read_text())) if (place(path), name) not in MAY_ASK]
    assert not wrong, f"{place(path)} asks for {wrong} by name: declare an abstract class and ask isinstance"


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_take_from_each_other_what_is_there(path):
    """They are run by hand, sometimes months after another of them has changed."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (other := SCRIPTS / f"{node.module}.py").exists():
            made = ast.parse(other.read_text()).body
            there = {one.name for one in made if isinstance(one, ast.FunctionDef | ast.ClassDef)}
            for one in made:
                there |= {name.id for name in ast.walk(one) if isinstance(name, ast.Name)}
                there |= {name.name for name in one.names} if isinstance(one, ast.ImportFrom) else set()
            assert {one.name for one in node.names} <= there, other


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_that_write_pages_say_in_which_encoding(path):
    """On Windows it would be another one, and every Greek letter of a page would be lost."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)) if '.md"' in source else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            named = node.func.attr in ("read_text", "write_text")
            assert not named or "encoding" in {given.arg for given in node.keywords}, f"line {node.lineno}"


def test_every_exception_is_needed():
    """An exception that is no longer used must be removed."""
    asked_for = {(place(path), name) for path in FILES for name in asked(ast.parse(path.read_text()))}
    assert MAY_ASK.keys() <= asked_for
    for exempt in MAY_NAME:
        paths = [path for path in FILES if place(path) == exempt or place(path).split("/")[0] == exempt]
        assert any(not own(path, name) for path in paths for name in named(path) & CONCRETE.keys()), exempt


def test_sonarium_knows_no_package_that_extends_it():
    modules = {path.stem for path in (EXTENSION / "src" / "sonarium_extension").glob("*.py")} - {"__init__"}
    assert "kmeans" in modules and "chirps" in modules
    for path in FILES:
        text = path.read_text()
        assert "sonarium_extension" not in text and not {word for word in ("chirps", "gammatone") if word in text}


def test_the_rules_see_every_way_to_break_them(tmp_path):
    path = tmp_path / "file.py"
    path.write_text(
        "from sonarium.worlds.tones.world import Tones as T\nimport sonarium.models.vae as v\n"
        "isinstance(x, v.VAE)\nhasattr(x, 'encode')\ngetattr(x, 'decode', None)\nhasattr(x, name)\n"
        "getattr(config, field.name)\n"
    )
    assert named(path) & CONCRETE.keys() == {"Tones", "VAE"}
    assert list(asked(ast.parse(path.read_text()))) == ["encode", "decode", "name"]
