"""From words on the command line to dataclasses: every field of a configuration is a flag with its help."""

import contextlib
import io
import re
from collections.abc import Iterable
from typing import Any

import tyro

from sonarium.commands.faults import UsageError

STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
RULES = set("─-╭╮╰╯ ")
PLAINER = (
    (r"^Error parsing (?:(?:world|model)-config|fit|seek): ", ""),
    (r"^Error parsing (\S+): ", r"\1: "),
    (r"invalid literal for int\(\) with base 10: (.*)", r"\1 is not a whole number"),
    (r"could not convert string to float: (.*)", r"\1 is not a number"),
    (r"^Missing value for argument '(.*)'.*", r"\1 needs a value"),
)
"""Words of tyro and Python, and what a person would say."""


def parse(schema: type, arguments: list[str], verb: str, description: str) -> Any:
    """An instance of `schema` from the arguments; a fault becomes one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(schema, args=arguments, prog=f"sonarium {verb}", description=description, config=STYLE)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(f"{in_one_line(complaint.getvalue())}; see `sonarium {verb} --help`") from None


def in_one_line(box: str) -> str:
    """What tyro says in its box, drawn for a terminal of any kind: the fault, and which flag may be meant."""
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


def flag(arguments: list[str], name: str, default: str) -> str:
    """The value of one flag, read ahead of the rest because it decides what the other flags are."""
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
