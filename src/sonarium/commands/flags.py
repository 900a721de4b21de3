"""From words on the command line to dataclasses: every field of a configuration is a flag with its help."""

import contextlib
import io
from collections.abc import Iterable
from typing import Any

import tyro

from sonarium.commands.faults import UsageError

STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands)
FRAME = "│╭╮╰╯─- "
"""What tyro draws around what it says, on terminals of either kind."""


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
    """What tyro says in its box: the fault, and which flag may have been meant."""
    paragraphs: list[list[str]] = [[]]
    for line in box.splitlines():
        # The title of the box has its frame on both sides; a flag has hyphens on one.
        text = line.strip("│ ")
        if not text.strip(FRAME) or text[0] in "╭╰":
            paragraphs.append([])
        else:
            paragraphs[-1].append(text)
    said = [lines for lines in paragraphs if lines]
    if not said:
        return "the flags are not understood"
    fault = " ".join(said[0]).rstrip(".")
    if fault.startswith("Missing from "):
        fault = f"missing: {fault.partition(': ')[2].replace(' (required)', '')}".rstrip(".")
    fault = fault.removeprefix("Error parsing ").removeprefix("world-config: ").removeprefix("fit: ")
    fault = fault.removeprefix("model-config: ")
    meant = next((lines[1] for lines in said if lines[0].startswith("Perhaps you meant") and len(lines) > 1), "")
    return fault + (f"; did you mean {meant.split(',')[0].split()[0]}?" if meant else "")


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
