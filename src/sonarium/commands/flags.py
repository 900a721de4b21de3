"""From the command line to dataclasses: every field of a configuration is a flag with its help.

Flags of nested configurations are called by the name of their field alone; where two would clash, the names that
lead to them stand before it, as in `--generator-learning-rate` and `--critic-learning-rate`.
"""

import contextlib
import io
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, make_dataclass
from dataclasses import fields as fields_of
from typing import Annotated, Any, get_type_hints

import tyro

from sonarium.commands.faults import UsageError
from sonarium.config import Leaf, clipped, help_of, leaves, out_of_range, replaced

STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
RULES = set("─-╭╮╰╯ ")
PLAINER = (
    (r"^Error parsing (?:seek|evaluation): ", ""),
    (r"^Error parsing (\S+): ", r"\1: "),
    (r"invalid literal for int\(\) with base 10: (.*)", r"\1 is not a whole number"),
    (r"could not convert string to float: (.*)", r"\1 is not a number"),
    (r"^Missing value for argument '(.*)'.*", r"\1 needs a value"),
)
"""Messages of tyro and Python, as patterns, and plainer words for them."""
NARROWEST = 60
"""Minimum width in columns of help and tables: narrower layouts take minutes, and are not readable."""


@dataclass(frozen=True)
class Group:
    """A configuration whose settings are flags: the main ones under its title, the others under advanced."""

    title: str
    config: Any
    main: tuple[str, ...] | None = None
    """Names of the main fields, also of nested configurations; None makes all of them main."""


def parse(schema: type, arguments: list[str], verb: str, description: str) -> Any:
    """Parse the arguments into an instance of `schema`; a fault raises a UsageError with one line."""
    complaint, shown = io.StringIO(), with_help(schema)
    try:
        with contextlib.redirect_stderr(complaint), wide_enough():
            flags = tyro.cli(shown, args=arguments, prog=f"sonarium {verb}", description=description, config=STYLE)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise usage_error(in_one_line(complaint.getvalue()), verb) from None
    for name, value, expected in out_of_range(flags):
        raise usage_error(beyond(name.replace("_", "-"), value, expected), verb)
    return flags


def with_help(schema: type) -> type:
    """The same flags, each with its help on one line: tyro would keep the line breaks of the source."""
    hints, said = get_type_hints(schema, include_extras=True), help_of(schema)
    fields: list[tuple[str, Any, Any]] = []
    for one in fields_of(schema):
        if one.name in said:
            own = field() if one.default is MISSING else field(default=one.default)
            fields.append((one.name, Annotated[hints[one.name], tyro.conf.arg(help=said[one.name])], own))
    return make_dataclass(schema.__name__, fields, bases=(schema,), frozen=True)


def beyond(name: str, value: object, expected: str) -> str:
    return f"--{name} {clipped(str(value))}: give {expected}"


@contextlib.contextmanager
def wide_enough() -> Iterator[None]:
    """Set COLUMNS in the environment, from which tyro takes the width, to at least NARROWEST."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(max(NARROWEST, shutil.get_terminal_size().columns))
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def parse_groups(
    schema: type, groups: Sequence[Group], arguments: list[str], verb: str, description: str
) -> tuple[Any, list[Any]]:
    """Parse the arguments into an instance of `schema`, and the configuration of each group."""
    names = flag_names(schema, groups)
    parts: dict[str, tuple[str, dict[str, tuple[int, Leaf]]]] = {}
    for position, group in enumerate(groups):
        for leaf in leaves(group.config):
            first = group.main is None or leaf.path[-1] in group.main
            title = group.title if first else f"{group.title}, advanced"
            own = parts.setdefault(title, (f"group_{len(parts)}", {}))[1]
            own[f"setting_{len(own)}"] = (position, leaf)
    ordered = sorted(parts.items(), key=lambda part: part[0].endswith(", advanced"))
    fields = [titled(name, title, made(own, names)) for title, (name, own) in ordered]
    flags = parse(make_dataclass("Flags", fields, bases=(schema,), frozen=True), arguments, verb, description)
    values: list[dict[tuple[str, ...], Any]] = [{} for _ in groups]
    for name, own in parts.values():
        for setting, (position, leaf) in own.items():
            value = getattr(getattr(flags, name), setting)
            if leaf.range is not None and not leaf.range[0].holds(value, leaf.range[1]):
                expected = leaf.range[0].words(leaf.range[1])
                raise usage_error(beyond(names[position, leaf.path], value, expected), verb)
            if value != leaf.default:
                values[position][leaf.path] = value
    try:
        return flags, [replaced(group.config, own) for group, own in zip(groups, values, strict=True)]
    except ValueError as error:
        raise usage_error(str(error), verb) from None


def flag_names(schema: type, groups: Sequence[Group]) -> dict[tuple[int, tuple[str, ...]], str]:
    """The flag of each setting: the name of its field, prefixed by as many names of its path as make it unique."""
    paths = [(number, leaf.path) for number, group in enumerate(groups) for leaf in leaves(group.config)]
    taken = Counter([(field.name,) for field in fields_of(schema)])
    ends = Counter(path[-size:] for _, path in paths for size in range(1, len(path) + 1)) + taken
    found = {}
    for number, path in paths:
        sizes = [size for size in range(1, len(path) + 1) if ends[path[-size:]] == 1]
        # The same path in two groups is prefixed by the title of the group.
        words = path[-sizes[0] :] if sizes else (groups[number].title, *path)
        found[number, path] = "-".join(words).replace("_", "-")
    assert len(set(found.values())) == len(found), f"two settings have one flag: {sorted(found.values())}"
    return found


def made(own: dict[str, tuple[int, Leaf]], names: dict[tuple[int, tuple[str, ...]], str]) -> type:
    """A flat dataclass of settings, each with the name and the help of its flag."""
    fields: list[tuple[str, Any, Any]] = []
    for setting, (position, leaf) in own.items():
        arg = tyro.conf.arg(name=names[position, leaf.path], help=explained(leaf), prefix_name=False)
        fields.append((setting, Annotated[leaf.hint, arg], field(default=leaf.default)))
    return make_dataclass("Settings", fields, frozen=True)


def explained(leaf: Leaf) -> str:
    """The help of a setting, with its valid range if both bounds are finite."""
    if leaf.range is None or math.isinf(leaf.range[0].most) or math.isinf(leaf.range[0].least):
        return leaf.help
    return f"{leaf.help} Takes {leaf.range[0].words(leaf.range[1])}."


def titled(name: str, title: str, settings: type) -> tuple[str, Any, Any]:
    arg = tyro.conf.arg(name=title, prefix_name=False)
    return name, Annotated[settings, arg], field(default_factory=settings)


def usage_error(said: str, verb: str) -> UsageError:
    return UsageError(f"{said}; see `sonarium {verb} --help`")


def in_one_line(box: str) -> str:
    """The error in tyro's box, drawn for a terminal of any kind, as one line: the fault, and a suggested flag."""
    lines = [line.strip("│ ") for line in COLOURS.sub("", box).splitlines()]
    paragraphs: list[list[str]] = [[]]
    for line in [line for line in lines if line][1:]:
        if set(line) <= RULES:
            paragraphs.append([])
        else:
            paragraphs[-1].append(line)
    said = [" ".join(lines).rstrip(".") for lines in paragraphs if lines] or ["the flags are not understood"]
    fault = said[0]
    if fault.startswith("Missing from "):
        fault = f"missing: {fault.partition(': ')[2].replace(' (required)', '')}"
    for pattern, plain in PLAINER:
        fault = re.sub(pattern, plain, fault)
    meant = next((text.split()[3] for text in said if text.startswith("Perhaps you meant: ")), "")
    return fault + (f"; did you mean {meant.rstrip(',')}?" if meant else "")


def required(metavar: str, said: str = "required") -> Any:
    """A positional argument whose help says that it is needed, in place of the default that stands for none."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"({said})")


def flag(arguments: list[str], name: str, default: str) -> str:
    """The value of one flag, read before the rest because it determines what the other flags are."""
    found = default
    for position, word in enumerate(arguments):
        if word == f"--{name}":
            if position + 1 == len(arguments):
                raise UsageError(f"--{name} needs a value")
            # As for all flags, the last one counts.
            found = arguments[position + 1]
        elif word.startswith(f"--{name}="):
            found = word.partition("=")[2]
    return found


def switched(arguments: list[str], name: str) -> bool:
    """The value of a boolean flag, read before the rest; off by default."""
    words = {f"--{name}": True, f"--no-{name}": False}
    found = [words[word] for word in arguments if word in words]
    return bool(found) and found[-1]


def choose(kind: str, name: str, among: Iterable[str]) -> str:
    known = list(among)
    if name not in known:
        raise UsageError(f"no {kind} is called '{name}': choose one of {', '.join(known)}")
    return name


def leading_word(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The first argument if it is not a flag, and the rest."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    return None, arguments


def wants_help(arguments: list[str]) -> bool:
    return "--help" in arguments or "-h" in arguments
