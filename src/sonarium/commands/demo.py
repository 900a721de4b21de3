"""`sonarium demo`: from nothing to a page of sounds and scores in a few minutes."""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated

from sonarium.commands import report, sample, score
from sonarium.commands.faults import say, tell
from sonarium.commands.flags import parse
from sonarium.commands.progress import bars
from sonarium.commands.train import plan_from
from sonarium.config import Range
from sonarium.runs.train import train
from sonarium.training.engine import fastest_precision


@dataclass(frozen=True)
class DemoFlags:
    out: Path = Path("runs/demo")
    """Folder for the runs and the page."""
    steps: Annotated[int, Range(1)] = 800
    """Training steps of each model."""


TONES = "--world tones --lowest 400 --frequencies 60 --amplitudes 8 --alias --seconds 0.5 --batch-size 32".split()
"""A small grid of SynTone's own waves."""
RUNS = (
    ("vae", "tones", TONES),
    ("beta-vae", "tones", TONES),
    ("tc-vae", "tones", TONES),
    ("vae", "digits", ["--world", "digits"]),
)


def main(arguments: list[str]) -> None:
    flags = parse(DemoFlags, arguments, "demo", "Train, score, sample and report four small models.")
    began, folders = perf_counter(), []
    for model, world, words in RUNS:
        folder = flags.out / f"{model}-{world}"
        say(f"training {model} on {world} in {folder}")
        _, plan = plan_from(model, ["--run", str(folder), "--precision", fastest_precision(), *words])
        with bars() as progress:
            train(plan, folder, flags.steps, progress=progress, remark=say)
        folders.append(str(folder))
    say("scoring how well their codes recover the planted factors")
    score.main(folders)
    samples = flags.out / "samples"
    if not samples.exists():
        sample.main([folders[1], "--out", str(samples), "--count", "4"])
    page = flags.out / "page.html"
    report.main([*folders, "--out", str(page)])
    tell("", f"Open {page.resolve()} to look and listen. Done in {perf_counter() - began:.0f} s.")
