"""What went wrong, in one line and an exit code: 2 for the words, 1 for the input, 130 for an interruption."""

import sys

from sonarium.files import out_of_memory, printable, remedy

HINT = "check that the path is right and that you may read and write there"


class UsageError(Exception):
    """An invalid command line."""


def say(text: str) -> None:
    """Print remarks to stderr, so that stdout stays clean for pipes."""
    print(*map(printable, text.split("\n")), sep="\n", file=sys.stderr, flush=True)


def tell(*lines: str) -> None:
    """Print lines of output, with escape sequences in names of files and labels made harmless."""
    print(*map(printable, lines), sep="\n")


def verdict(error: BaseException) -> tuple[int, str] | None:
    """Exit code and line for a fault of the input; None for a fault of the program, which shows its traceback."""
    said = " ".join(str(error).split())
    if isinstance(error, UsageError):
        return 2, said
    if isinstance(error, KeyboardInterrupt):
        return 130, said or "interrupted"
    if isinstance(error, BrokenPipeError):
        # The reader of the output has closed the pipe.
        return 1, ""
    if out_of_memory(error):
        return 1, "there is not enough memory for this: use a smaller --batch-size, or a smaller model or world"
    if isinstance(error, OSError) and error.strerror:
        where = f"'{error.filename}'" if error.filename else "what comes out"
        return 1, f"{where}: {error.strerror}; {remedy(error, HINT)}"
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("sonarium"):
        return 1, f"this needs the package {error.name}, which is not installed: `pip install {error.name}`"
    if isinstance(error, ValueError | OSError):
        return 1, said
    return None
