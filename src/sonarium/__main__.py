"""The command line: `sonarium COMMAND …`, one module per command."""

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import cast

from sonarium import __version__
from sonarium.commands.faults import UsageError, say, verdict

# Idle threads of torch spin by default, which makes it several times slower when anything else runs.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

VERBS = {
    "demo": "train and score two small models on three seeds each, and make a page with sounds",
    "list": "list models, agents, worlds, front ends, rooms, measures and benchmarks",
    "check": "survey recordings before training: contents, splits and bad files",
    "make": "write the clips of a world to WAV, FLAC, or SynTone's .npz",
    "train": "train a model in a run folder; the same command resumes",
    "score": "evaluate runs, compared with their controls",
    "encode": "encode sound files with the model of a run",
    "export": "export a model: safetensors, torch.export or ONNX",
    "sample": "draw new clips from the prior of a generative model",
    "reconstruct": "encode sound files, and decode the codes to sound",
    "separate": "separate the sources in binaural recordings",
    "annotate": "annotate the syllables in recordings of song, in five formats",
    "sing": "sample songs from a sequence model of codes",
    "forecast": "sample continuations of a sound from a world model, and steer them",
    "surprise": "measure how surprising each moment of a recording is",
    "develop": "compare song with the tutor's, day by day: spectrum, timing, grammar",
    "gestures": "fit the gestures of a syrinx to a song, and resynthesise it",
    "report": "make an offline page of one or more runs, with pictures and sound",
    "watch": "film episodes of a trained agent",
    "replay": "browse the replay buffer of an agent",
    "play": "seek sounds in rooms by keyboard, or evaluate scripted agents",
    "compare": "check that our CPC agrees with two published implementations",
    "bench": "benchmark Sonarium against other implementations",
}


def overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {does}" for verb, does in VERBS.items())
    return (
        "usage: sonarium COMMAND …\n\nLearning from sound with known factors of variation.\n\n"
        f"{verbs}\n\n`sonarium COMMAND --help` explains each flag. Version {__version__}."
    )


def dispatch(arguments: list[str]) -> None:
    """Run the command named by the first argument; only its module is imported, since imports are slow."""
    if not arguments:
        raise UsageError(f"no command given: choose one of {', '.join(VERBS)}; `sonarium --help` explains them")
    verb, *rest = arguments
    if verb in ("-h", "--help"):
        print(overview())
    elif verb == "--version":
        print(__version__)
    elif verb in VERBS:
        with leaving_at_once():
            module = importlib.import_module(f"sonarium.commands.{verb}")
        module.main(rest)
    else:
        raise UsageError(f"no command is called '{verb}': choose one of {', '.join(VERBS)}")


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Exit at once on SIGINT or SIGTERM: during imports, some libraries cannot be interrupted cleanly."""

    def leave(number: int, frame: object) -> None:
        os.write(2, b"sonarium: interrupted\n")
        os._exit(130)

    handled = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, leave) for number in handled]
    try:
        yield
    finally:
        for number, handler in zip(handled, before, strict=True):
            signal.signal(number, handler)


def terminate(number: int, frame: object) -> None:
    raise KeyboardInterrupt("terminated")


def main() -> None:
    """Run one verb; a fault of the input becomes a one-line message and a non-zero exit code."""
    try:
        open_closed_streams()
        for stream in (sys.stdout, sys.stderr):
            # A terminal without Greek letters shows question marks in their place.
            cast(TextIOWrapper, stream).reconfigure(errors="replace")
        signal.signal(signal.SIGTERM, terminate)
        try:
            dispatch(sys.argv[1:])
        finally:
            sys.stdout.flush()
        # The work is done; a signal during the shutdown of the interpreter would only print a traceback.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    except BaseException as error:
        found = verdict(error)
        if found is None:
            raise
        give_up_output()
        code, line = found
        if line:
            say(f"sonarium: {line}")
        if isinstance(error, KeyboardInterrupt):
            # Everything is written; after a KeyboardInterrupt the interpreter might exit with another code.
            os._exit(code)
        raise SystemExit(code) from None


def open_closed_streams() -> None:
    """Open streams closed by the shell (`>&-`) on /dev/null, or the next opened file would take their number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (
        stream or open(number, mode, closefd=False)
        for number, (stream, mode) in enumerate(zip((sys.stdin, sys.stdout, sys.stderr), "rww", strict=True))
    )


def give_up_output() -> None:
    """If writing the output failed, redirect stdout to /dev/null, so that Python does not retry on exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
