"""From words on the command line to dataclasses: every field of a configuration is a flag with its help."""

import contextlib
import io
import sys
from collections.abc import Iterable
from typing import Any

import tyro

STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands)


class UsageError(Exception):
    """The words do not say what to do."""


def parse(schema: type, arguments: list[str], verb: str, description: str, default: Any = None) -> Any:
    """An instance of `schema` from the arguments; a fault becomes one line."""
    complaint = io.StringIO()
    fallback = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                schema, args=arguments, prog=f"sonarium {verb}", description=description, config=STYLE, **fallback
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(f"{first_line(complaint.getvalue())}; see `sonarium {verb} --help`") from None


def first_line(box: str) -> str:
    """What tyro says in the first paragraph of its box of lines."""
    said = []
    for line in box.splitlines()[1:]:
        text = line.strip("│╭╮╰╯ ")
        if not text or set(text) == {"─"}:
            break
        said.append(text)
    return " ".join(said) or "the flags are not understood"


def flag(arguments: list[str], name: str, default: str) -> str:
    """The value of one flag, read ahead of the rest because it decides what the other flags are."""
    for position, word in enumerate(arguments):
        if word == f"--{name}":
            if position + 1 == len(arguments):
                raise UsageError(f"--{name} needs a value")
            return arguments[position + 1]
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return default


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


def say(text: str) -> None:
    """Remarks go to the error stream, so that the output stays clean for pipes."""
    print(text, file=sys.stderr)
