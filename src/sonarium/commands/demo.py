"""`sonarium demo`: from nothing to a page of sounds and scores in a few minutes."""

from dataclasses import dataclass
from itertools import product
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
    steps: Annotated[int, Range(1)] = 300
    """Training steps of each model."""


TONES = "--frequencies 61 --amplitudes 10 --seconds 0.5 --batch-size 32".split()
"""The default grid of tones with larger steps: a twentieth of an octave, and every other amplitude."""
MODELS = {"default": ["--learning-rate", "0.004"], "syntone": []}
"""Presets of β-VAE with their flags: Sonarium's own, and SynTone's network, input and loss weights."""
SEEDS = range(3)
DRAWS = 8
"""Samples per clip for the bounds on its likelihood."""


def main(arguments: list[str]) -> None:
    flags = parse(
        DemoFlags,
        arguments,
        "demo",
        "Train two small models with three seeds each, score them, sample, and report.",
    )
    began, folders = perf_counter(), []
    for preset, seed in product(MODELS, SEEDS):
        folder = flags.out / f"beta-vae-{preset}-{seed}"
        say(f"training beta-vae, preset {preset}, seed {seed}, in {folder}")
        words = ["--run", str(folder), "--seed", str(seed), "--preset", preset, *TONES, *MODELS[preset]]
        _, plan = plan_from("beta-vae", [*words, "--precision", fastest_precision()])
        with bars() as progress:
            # The page shows the pictures of one seed only.
            pictures = seed == SEEDS[0]
            train(plan, folder, flags.steps, progress=progress, remark=say, pictures=pictures)
        folders.append(str(folder))
    say("scoring how well their codes recover the planted factors")
    score.main([*folders, "--draws", str(DRAWS)])
    samples = flags.out / "samples"
    if not samples.exists():
        sample.main([folders[0], "--out", str(samples), "--count", "4"])
    page = flags.out / "page.html"
    report.main([*folders, "--out", str(page)])
    tell("", f"Open {page.resolve()} to look and listen. Done in {perf_counter() - began:.0f} s.")
