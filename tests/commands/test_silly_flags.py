"""Every flag of every verb, with the same silly values: refused in one line, or a model can be built."""

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from mutants import fault
from typechecking import unchecked

from sonarium.__main__ import VERBS
from sonarium.catalogue import AGENTS, MODELS, WORLDS
from sonarium.commands.faults import UsageError
from sonarium.commands.flags import Group, parse_groups
from sonarium.config import Leaf, Range, fits, leaves, out_of_range, ranges_of, replaced
from sonarium.evaluation.config import EvaluationConfig
from sonarium.rooms.seek.config import SeekConfig
from sonarium.runs.build import fresh
from sonarium.runs.plan import SplitConfig, default_plan
from sonarium.training.clips import ClipsConfig
from sonarium.training.fit import LoopConfig
from sonarium.worlds.codes import CodesConfig
from sonarium.worlds.contract import Signal

SILLY = (-1, 0, 10**6, 10**29, 10**400, -1.0, 0.0, 1e-308, 1e6, 1e308, float("nan"), float("inf"), -float("inf"))
ENDLESS = {"seed", "split_seed", "batch_size", "cache_megabytes", "log_every", "save_every"}
"""Integers without an upper bound: they size nothing before a world has that number of clips."""


def configurations() -> dict[str, Any]:
    """Every configuration that has flags."""
    found: dict[str, Any] = {f"world {name}": entry.Config() for name, entry in WORLDS.items()}
    for name, entry in MODELS.items():
        kind = entry.kinds[0]
        found |= {f"{name} ({preset})": made(kind) for preset, made in entry.presets.items()}
    found |= {
        f"{name} ({preset})": made() for name, entry in AGENTS.items() for preset, made in entry.presets.items()
    }
    for config in (LoopConfig(), ClipsConfig(), SplitConfig(), CodesConfig(), EvaluationConfig(), SeekConfig()):
        found[type(config).__name__] = config
    return found


CONFIGS = configurations()


def verbs() -> dict[str, Any]:
    """The flags of the verbs themselves."""
    modules = {verb: importlib.import_module(f"sonarium.commands.{verb}") for verb in VERBS}
    return {
        f"{verb} {name}": value
        for verb, module in modules.items()
        for name, value in vars(module).items()
        if name.endswith("Flags") and dataclasses.is_dataclass(value) and value.__module__ == module.__name__
    }


def numeric(leaf: Leaf) -> bool:
    return (fits(leaf.hint, 1) and not fits(leaf.hint, True)) or fits(leaf.hint, 1.5) or fits(leaf.hint, (1,))


def silly(leaf: Leaf) -> Iterator[Any]:
    """The silly values that the parser of the flag accepts."""
    for value in SILLY:
        whole = (fits(leaf.hint, 1) and not fits(leaf.hint, 1.5)) or (
            fits(leaf.hint, (1,)) and not fits(leaf.hint, (1.5,))
        )
        if isinstance(value, int) or not whole:
            yield (value,) if fits(leaf.hint, (1,)) else value


@pytest.mark.parametrize("name", CONFIGS)
def test_a_silly_number_is_refused_in_one_line(name):
    config = CONFIGS[name]
    for leaf in filter(numeric, leaves(config)):
        for value in silly(leaf):
            try:
                changed = replaced(config, {leaf.path: value})
            except ValueError as error:
                said = str(error)
            else:
                held = {one.path: one.default for one in leaves(changed)}
                said = f"kept: {held[leaf.path] == value}"
            assert "\n" not in said and ": " in said and said != "kept: False", said


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_not_an_option_is_refused_in_one_line(name):
    if name.startswith(("world chirps", "reinforce", "kmeans", "adversarial")):
        pytest.skip("a package of others")
    for leaf in leaves(CONFIGS[name]):
        options = [option for option in get_args(leaf.hint) if isinstance(option, str)]
        if options:
            with unchecked(), pytest.raises(ValueError, match=f"{leaf.path[-1]}='else': ") as refused:
                replaced(CONFIGS[name], {leaf.path: "else"})
            assert options[0] in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_number_has_a_range(name):
    if name.startswith(("world chirps", "reinforce", "kmeans", "adversarial")):
        pytest.skip("a package of others")
    for leaf in filter(numeric, leaves(CONFIGS[name])):
        # A speaker is the name of a label, or its number.
        assert leaf.range is not None or leaf.path == ("speaker",), leaf.path
        own = leaf.range[0] if leaf.range else Range(0)
        whole = leaf.range is not None and leaf.range[1]
        assert own.most < 2**63 or not whole or leaf.path[-1] in ENDLESS | STEPS, leaf.path


STEPS = {
    "capacity_steps",
    "warmup_steps",
    "decay_steps",
    "max_clips",
    "max_frames",
    "most_images",
    "lowest_rate",
    "highest_rate",
}


@pytest.mark.parametrize("name", verbs())
def test_every_number_of_a_verb_has_a_range(name):
    schema = verbs()[name]
    for field in dataclasses.fields(schema):
        if field.type in (int, float):
            raise AssertionError(f"{name}: {field.name} has no range")
    assert all(
        own.holds(schema.__dataclass_fields__[one].default, whole)
        for one, (own, whole) in ranges_of(schema).items()
    )


@pytest.mark.parametrize("name", MODELS)
def test_what_is_accepted_makes_a_model_or_is_refused(name):
    """At both ends of every range; a model that is too large is refused before it fills the memory."""
    entry = MODELS[name]
    kind = entry.kinds[0]
    signal = {
        "wave": Signal("wave", (400,), 4000),
        "picture": Signal("picture", (8, 8)),
        "codes": Signal("codes", (8, 4), frame_rate=10.0),
        "binaural": Signal("binaural", (400, 2), 4000, sources=2),
    }[kind]
    if kind == "codes":
        pytest.skip("its settings are those of a package")
    plan = default_plan(name)

    def make(learner: Any) -> None:
        fresh(dataclasses.replace(plan, learner=learner), signal, largest=10**7)

    small = replaced(
        plan.learner,
        {leaf.path: value for leaf in leaves(plan.learner) if (value := SMALL.get(leaf.path[-1])) is not None},
    )
    for leaf in filter(numeric, leaves(small)):
        for value in ends(leaf):
            if value == leaf.default:
                continue
            found = fault(lambda leaf=leaf, value=value: make(replaced(small, {leaf.path: value})))
            assert found is None, f"{leaf.path} {value}: {found!r}"


SMALL = {
    "fft": 16,
    "hop": 16,
    "mels": 0,
    "units": 4,
    "filters": (8,),
    "width": 8,
    "level_rows": 0,
}


def ends(leaf: Leaf) -> Iterator[Any]:
    own, whole = leaf.range or (Range(0, 1), True)
    for value in (own.least, own.most):
        if abs(value) < float("inf"):
            yield (int(value),) if fits(leaf.hint, (1,)) else int(value) if whole else float(value)


def test_the_flag_is_named_as_it_was_typed():
    @dataclasses.dataclass(frozen=True)
    class Nothing:
        pass

    groups = [Group("training", ClipsConfig())]
    with pytest.raises(
        UsageError, match=r"^--batch-size 0: give a whole number of at least 1; see `sonarium train --help`$"
    ):
        parse_groups(Nothing, groups, ["--batch-size", "0"], "train", "")
    _, [config] = parse_groups(Nothing, groups, ["--batch-size", "7"], "train", "")
    assert config.batch_size == 7 and not list(out_of_range(config))


RANGES = [
    (Range(1, 64), True, (1, 64, 7.0, None, (1, 2)), (0, 65, 1.5, True, "1", float("nan"), 10**400, (1, 0))),
    (Range(0, 1, below=True), False, (0, 0.5), (1, -1e-9, float("inf"), float("nan"))),
    (Range(0, above=True), False, (5e-324, 1e308), (0, -1.0, float("inf"), 10**400)),
    (Range(-float("inf"), 0, infinite=True), False, (0, -float("inf")), (1e-9, float("nan"))),
    (Range(0), True, (0, 2**63 - 1), (2**63, -1)),
]


@pytest.mark.parametrize(
    ("own", "whole", "inside", "outside"), RANGES, ids=[own.words(whole) for own, whole, *_ in RANGES]
)
def test_a_range_holds_its_numbers_alone(own, whole, inside, outside):
    assert all(own.holds(value, whole) for value in inside)
    assert not any(own.holds(value, whole) for value in outside)
