"""The command line: `sonarium VERB …`, one function a verb."""

import importlib
import os
import sys

from sonarium import __version__
from sonarium.commands.flags import UsageError, choose, say

# Idle threads of torch spin by default, which costs several times the speed when anything else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

VERBS = {
    "demo": "train three models on tones and one on digits, score them, and make a page to hear them",
    "list": "the models, presets, worlds, measures and benches that there are",
    "make": "write a world's clips to files: SynTone's npz, or a folder of WAV or FLAC",
    "train": "train a model on a world, in a run folder from which the same command resumes",
    "score": "measure how well the codes of a run recover the planted causes",
    "encode": "turn recordings into the codes of a run",
    "sample": "draw new clips from a run",
    "report": "one offline page about one run or several, with pictures and sound",
    "bench": "speed beside other ways to do the same work",
}


def overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {does}" for verb, does in VERBS.items())
    return (
        "usage: sonarium VERB …\n\nLearning from sound where the causes of the sound are known.\n\n"
        f"{verbs}\n\n`sonarium VERB --help` explains each flag. Version {__version__}."
    )


def dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        if not arguments:
            raise SystemExit(2)
        return
    if arguments[0] == "--version":
        print(__version__)
        return
    verb = choose("verb", arguments[0], VERBS)
    importlib.import_module(f"sonarium.commands.{verb}").main(arguments[1:])


def main() -> None:
    """Run one verb; whatever is wrong with the input becomes one line and an exit code that is not 0."""
    from sonarium.training.fit import Interrupted

    try:
        dispatch(sys.argv[1:])
    except UsageError as error:
        say(f"sonarium: {error}")
        raise SystemExit(2) from None
    except (ValueError, OSError) as error:
        say(f"sonarium: {' '.join(str(error).split())}")
        raise SystemExit(1) from None
    except Interrupted as interrupted:
        say(f"sonarium: {interrupted}; the same command resumes from there")
        raise SystemExit(130) from None
    except KeyboardInterrupt:
        say("sonarium: interrupted")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
