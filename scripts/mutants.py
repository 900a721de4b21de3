"""Thousands of changed run folders: `python scripts/mutants.py [--count 2000] [--seed 0] [RUN…]`.

Small runs are trained (or copies of those named are taken), then one file of one of them is changed at a time, and
the run is opened, encodes and resumes, or is put on a page. Prints what ended in a traceback or took longer than
`--seconds`, and how many changes were refused or did no harm; the exit code is 1 if there was any.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]

from installed import install_extension  # noqa: E402
from mutants import mutant, use  # noqa: E402

from sonarium.__main__ import dispatch  # noqa: E402
from sonarium.commands.faults import verdict  # noqa: E402
from sonarium.commands.report import run_page  # noqa: E402
from sonarium.report.page import page  # noqa: E402

TONES = "--rate 4000 --seconds 0.05 --frequencies 12 --amplitudes 4 --highest 1500 --batch-size 8 --steps 4"
FRONT = "--fft 16 --hop 16 --mels 0 --level-rows 2 --floor-db -40"
CPC = "--filters 8 --kernels 4 4 --strides 4 4 --paddings 1 1 --mels 0 --width 8 --steps-ahead 2"
RUNS = {
    "beta-vae": f"{TONES} {FRONT} --latent 3",
    "vq-vae": f"{TONES} {FRONT} --slots 2 --dimension 2 --entries 4",
    "cpc": f"{TONES} {CPC}",
    "kmeans": "--codes {below} --clusters 4 --batch-size 8 --steps 4",
    "reinforce": "--env sonarium_extension.environment:Beeps-v0 --steps 2",
}
PAGES = ("scores.json", "metrics.jsonl", "clock.jsonl", "quarantine.json", "index.json", "environment.json")
"""Files that only a report reads; the others are used by training and encoding."""


def trained(into: Path) -> list[Path]:
    """Small runs of all kinds of learners."""
    install_extension()
    for model, words in RUNS.items():
        flags = words.format(below=into / "beta-vae").split()
        dispatch(["train", model, *flags, "--run", str(into / model)])
    for model in ("beta-vae", "kmeans"):
        dispatch(["score", str(into / model)])
    return [into / model for model in RUNS]


def late(*_: Any) -> None:
    raise TimeoutError


def outcome(path: Path, folder: Path, out: Path, seconds: int) -> tuple[str, str]:
    """Outcome for a changed run: refused with a one-line error, harmless, or a traceback."""
    signal.alarm(seconds)
    try:
        if path.name in PAGES:
            page([run_page(folder)], out)
        else:
            use(folder)
    except TimeoutError:
        return "hangs", ""
    except Exception as error:
        found = verdict(error)
        return ("refused", found[1]) if found else ("TRACEBACK", f"{type(error).__name__}: {error}")
    finally:
        signal.alarm(0)
    return "harmless", ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--say", action="store_true", help="print every change and its outcome")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    signal.signal(signal.SIGALRM, late)
    draw, counts = random.Random(arguments.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        outside = here / "secret.txt"
        outside.write_text("a secret")
        folders = [Path(shutil.copytree(run, here / run.name)) for run in arguments.runs] or trained(here)
        files = [(run, path) for run in folders for path in sorted(run.rglob("*")) if path.suffix in SUFFIXES]
        for number in range(arguments.count):
            folder, path = draw.choice(files)
            began = time.perf_counter()
            with mutant(path, outside, draw) as change:
                kind, said = outcome(path, folder, here / "page.html", arguments.seconds)
            if outside.read_text() != "a secret":
                kind = "WROTE OUTSIDE"
            counts[kind] += 1
            if arguments.say or kind not in ("refused", "harmless"):
                took = time.perf_counter() - began
                print(
                    f"{number} {folder.name}/{change}: {kind} {said} ({took:.1f} s)".encode(
                        errors="replace"
                    ).decode()
                )
    print(", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())))
    if counts.keys() - {"refused", "harmless"}:
        raise SystemExit(1)


SUFFIXES = (".json", ".jsonl", ".safetensors")


if __name__ == "__main__":
    main()
