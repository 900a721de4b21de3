"""Help: every verb has a page, which explains every flag of every configuration."""

import contextlib
import os
import re

import pytest

from sonarium import __version__
from sonarium.__main__ import VERBS, dispatch
from sonarium.catalogue import AGENTS, MODELS, WORLDS
from sonarium.commands.bench import BENCHES
from sonarium.commands.flags import NARROWEST, Group, flag_names
from sonarium.commands.train import ClipsFlags
from sonarium.models.contract import ModelEntry
from sonarium.runs.plan import default_plan


def suiting(model: ModelEntry) -> list[str]:
    return [name for name, world in WORLDS.items() if world.kind in model.kinds]


HELPS = [
    *([verb] for verb in VERBS),
    *(["train", name, "--world", world] for name, model in MODELS.items() for world in suiting(model)),
    *(["train", name] for name in (*(name for name, model in MODELS.items() if not suiting(model)), *AGENTS)),
    *(["make", world] for world in WORLDS),
    *(["bench", bench] for bench in BENCHES),
    ["compare", "cpc"],
]


def sentences(page: str) -> dict[str, str]:
    """Help text of each flag and positional argument."""
    found: dict[str, str] = {}
    for line in re.sub(r"\x1b\[[0-9;]*m", "", page).replace("│", " ").splitlines():
        indent = len(line) - len(line.lstrip())
        if indent == 2 and re.match(r"--?[a-z]|[A-Z]+…?(  |$)", line.strip()):
            # The flag with its values; its text follows after two blanks, or on the next lines.
            flag, _, said = line.strip().partition("  ")
            found[flag] = said.strip()
        elif indent > 2 and found:
            last = next(reversed(found))
            found[last] = f"{found[last]} {line.strip()}".strip()
    return {flag: re.sub(r"\((default: .*|required)\)$", "", said).strip() for flag, said in found.items()}


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_each_flag_has_a_sentence(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        dispatch([*words, "--help"])
    page = capsys.readouterr()
    assert stop.value.code in (0, None) and page.err == ""
    found = sentences(page.out)
    assert len(found) >= 2, page.out
    for flag, said in found.items():
        assert re.search(r"[a-z]{2,} .*[a-z]", said), f"{flag} is not explained by {words}: '{said}'"


def test_sentences_are_laid_out_for_the_terminal_and_not_for_the_source(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    for words in (["forecast"], ["surprise"]):
        with pytest.raises(SystemExit):
            dispatch([*words, "--help"])
        page = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).replace("│", " ")
        above = ""
        for line in page.splitlines():
            # If a flag fills its column, its sentence begins on the next line.
            alone = above.startswith("  -") and "  " not in above.strip()
            assert alone or not line.startswith(" " * 20) or not line.strip(), f"{above}\n{line}"
            above = line


def test_train_alone_shows_all_that_can_be_set(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        dispatch(["train", "--help"])
    page = capsys.readouterr().out
    assert "No model is named: these are the flags of beta-vae." in page
    flags = {word for flag in sentences(page) for word in re.findall(r"--[a-z-]+", flag)}
    expected = (
        "run world preset steps device seed batch-size precision latent learning-rate frequencies alias".split()
    )
    assert {f"--{name}" for name in expected} <= flags


def test_the_parser_of_this_test_sees_a_flag_without_a_sentence():
    page = "╭─ options ─╮\n│ --one INT    A good sentence. (default: 1) │\n│ --two INT    (default: 2)  │\n╰─╯\n"
    assert sentences(page) == {"--one INT": "A good sentence.", "--two INT": ""}


@pytest.mark.parametrize("words", [["--help"], ["-h"]])
def test_the_overview_names_each_verb(words, capsys):
    dispatch(words)
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out and does in out for verb, does in VERBS.items())


def test_version(capsys):
    dispatch(["--version"])
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("words", [["check", "--help"], ["list"]])
def test_a_narrow_terminal_gets_lines_that_can_be_read(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "5")
    with contextlib.suppress(SystemExit):
        dispatch(words)
    lines = capsys.readouterr().out.splitlines()
    assert 40 < max(map(len, lines)) <= NARROWEST and len(lines) < 400
    assert os.environ["COLUMNS"] == "5"


def test_help_of_training_speaks_of_recordings(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    pages = []
    for words in ([], ["--path", str(tmp_path)], ["--world", "recordings"]):
        with pytest.raises(SystemExit):
            dispatch(["train", "cpc", *words, "--help"])
        pages.append(" ".join(capsys.readouterr().out.split()))
    plain, *own = pages
    assert "`sonarium train cpc --path FOLDER --help`" in plain and "--bad-fraction" not in plain
    assert all("--bad-fraction" in page and "`sonarium train cpc" not in page for page in own)


def test_a_setting_has_the_same_flag_with_every_model_and_world():
    names: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for model, entry in MODELS.items():
        for world in suiting(entry):
            plan = default_plan(model, world)
            source = plan.clips
            configs = {model: plan.learner, world: source.config, "clips": source.clips, "loop": plan.loop}
            groups = [Group(title, config) for title, config in configs.items()]
            for (number, path), flag in flag_names(ClipsFlags, groups).items():
                names.setdefault((type(groups[number].config).__name__, path), set()).add(flag)
    assert {path: flags for path, flags in names.items() if len(flags) > 1} == {}
