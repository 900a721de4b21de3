"""Contract of every catalogue entry with the command line: a summary, defaults, help, and configurations that
survive JSON."""

import json
import math
from typing import Any

import pytest

from sonarium.catalogue import AGENTS, FRONT_ENDS, KINDS, MODELS, WORLDS
from sonarium.config import from_json, leaves, to_json
from sonarium.worlds.audio.file import Limits

FRONTS = [entry.Config for entry in FRONT_ENDS.loadable().values()]


def configurations() -> dict[str, list[Any]]:
    """Configurations of all presets and kinds of signal, by entry."""
    found: dict[str, list[Any]] = {}
    for name, world in WORLDS.loadable().items():
        found[f"world {name}"] = [world.Config()]
    for name, front in FRONT_ENDS.loadable().items():
        found[f"front end {name}"] = [front.Config()]
    for name, model in MODELS.loadable().items():
        found[f"model {name}"] = [preset(kind) for preset in model.presets.values() for kind in model.kinds]
    for name, agent in AGENTS.loadable().items():
        found[f"agent {name}"] = [preset() for preset in agent.presets.values()]
    return found


CONFIGURATIONS = configurations()


@pytest.mark.parametrize("what", CONFIGURATIONS)
def test_each_setting_has_help_and_survives_json(what):
    for config in CONFIGURATIONS[what]:
        assert type(config).__dataclass_params__.frozen
        assert from_json(config, to_json(config), what, FRONTS) == config
        for leaf in leaves(config):
            assert leaf.help, f"{type(config).__name__}.{'.'.join(leaf.path)} has no docstring below it"
            assert leaf.help[0].isupper() or leaf.help.split(":")[0].islower(), leaf.help


@pytest.mark.parametrize("limits", [Limits(longest=math.inf), Limits(silence=-math.inf)])
def test_infinity_survives_json_where_it_counts_as_a_number(limits):
    assert from_json(Limits(), json.loads(json.dumps(to_json(limits))), "here") == limits
    with pytest.raises(ValueError, match=r"here.shortest is inf"):
        from_json(Limits(), {"shortest": math.inf}, "here")


@pytest.mark.parametrize("what", CONFIGURATIONS)
def test_the_flags_that_matter_first_exist(what):
    kind, name = what.rsplit(" ", 1)
    if kind == "front end":
        return
    main = {"world": WORLDS, "model": MODELS, "agent": AGENTS}[kind][name].main or ()
    fields = {leaf.path[-1] for config in CONFIGURATIONS[what] for leaf in leaves(config)}
    assert set(main) <= fields, f"{what} has no {set(main) - fields}"
    assert len(set(main)) == len(main) <= 15


@pytest.mark.parametrize("what", [name for name in CONFIGURATIONS if name.startswith(("model", "agent"))])
def test_there_is_a_default(what):
    kind, name = what.split(" ")
    assert "default" in {"model": MODELS, "agent": AGENTS}[kind][name].presets


@pytest.mark.parametrize("kind", KINDS)
def test_each_has_a_summary_of_one_line(kind):
    for name, entry in KINDS[kind].loadable().items():
        assert entry.summary and "\n" not in entry.summary, name
        assert name == name.lower() and " " not in name
    assert not KINDS[kind].broken
