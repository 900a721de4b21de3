"""Held-out reconstruction of babble and song, by day: what `docs/songbird.md` reports of it.

    nice -n 10 .venv/bin/python scripts/songbird_days.py            # what is missing, then the page
    nice -n 10 .venv/bin/python scripts/songbird_days.py --write    # only the page, from what is there

Five planted birds of level middle, each with songs of six days and of its tutor. The autoencoder of the GAN (the
same network without discriminators) trains on all days alike, a fifth of the songs of each day held out; PCA of
equal dimension is fitted to snippets of the same songs. Errors are those of the snippets of whole held-out songs,
as they are, and as a fraction of their variance, for loud and dense song has larger errors of itself. Run folders
and results are in the folder of --runs. One thread.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from songbird_gan import principal, snippets
from tones_results import ROOT, insert, table
from torch import Tensor

from sonarium.bench.timing import hardware
from sonarium.measures.statistics import interval
from sonarium.models.mrgan import MRGAN
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.runs.build import Opened, open_run
from sonarium.runs.plan import Plan, default_plan
from sonarium.runs.train import train
from sonarium.worlds.songbird.world import Aviary

RESULTS = ROOT / "docs" / "results" / "songbird-days.json"
BIRDS = range(100, 105)
DAYS, SONGS, STEPS = (45, 54, 63, 72, 81, 90), 40, 1500
BATCH, RATE, NGF, NORMALISATION = 16, 1e-3, 8, "selu"
STRIDE = 8
"""Hop in frames between the snippets that PCA is fitted to."""


def plan_of(bird: int) -> Plan:
    plan = default_plan("mrgan", "songbird", "autoencoder")
    learner = replace(
        plan.learner,
        ngf=NGF,
        normalisation=NORMALISATION,
        adam=AdamConfig(learning_rate=RATE, beta1=0.5),
        schedule=ScheduleConfig("cosine"),
    )
    source = plan.clips
    world = replace(source.config, level="middle", birds=1, days=DAYS, songs=SONGS)
    source = replace(source, config=world, clips=replace(source.clips, batch_size=BATCH))
    return replace(plan, learner=learner, source=source, loop=replace(plan.loop, seed=bird))


def measured(folder: Path, bird: int) -> dict[str, Any]:
    """Errors of the autoencoder and of PCA, by day."""
    run = folder / str(bird)
    train(plan_of(bird), run, STEPS, "cpu", pictures=False)
    opened = open_run(run)
    world, learner = opened.data.world, opened.learner
    assert isinstance(world, Aviary) and isinstance(learner, MRGAN)
    known = snippets(opened, opened.data.split.train, STRIDE).flatten(1).double()
    through = principal(known, learner.config.latent)
    found = {}
    for place, day in enumerate(world.days):
        own = [clip for clip in opened.data.split.test.tolist() if world.positions(clip)[1] == place]
        each = [errors(opened, learner, clip, through) for clip in own]
        found[day] = {key: float(np.mean([one[key] for one in each])) for key in each[0]} | {"songs": len(own)}
    return found


@torch.no_grad()
def errors(opened: Opened, learner: MRGAN, clip: int, through: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """Errors for one held-out song."""
    real = snippets(opened, torch.tensor([clip]), learner.config.frames)
    flat = real.flatten(1).double()
    made = {"autoencoder": learner.generator(learner.encoder(real)).flatten(1).double()}
    made["PCA"] = through(flat)
    found = {}
    for name, other in made.items():
        apart = other - flat
        found[f"{name} L1"], found[f"{name} MSE"] = float(apart.abs().mean()), float(apart.square().mean())
        found[f"{name} unexplained"] = float(apart.square().mean() / flat.var())
    return found


def write(kept: dict[str, Any]) -> None:
    columns = [f"{name} {error}" for name in ("autoencoder", "PCA") for error in ("L1", "MSE", "unexplained")]
    rows = []
    for day in (*(f"day {day}" for day in DAYS), "tutor"):
        each = [kept[str(bird)][day] for bird in BIRDS]
        rows.append([day, *(str(interval([one[column] for one in each])) for column in columns)])
    ranks = []
    for column in columns:
        every = [[kept[str(bird)][f"day {day}"][column] for day in DAYS] for bird in BIRDS]
        ranks.append(", ".join(f"{np.corrcoef(DAYS, rankdata(one))[0, 1]:.2f}" for one in every))
    rows.append(["Spearman of day and error, by bird", *ranks])
    insert("days", table(["", *columns], rows), "songbird.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "songbird-days", help="run folders")
    parser.add_argument("--write", action="store_true", help="only write the page")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    kept: dict[str, Any] = (
        json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"hardware": hardware()}
    )
    for bird in BIRDS:
        if not flags.write and str(bird) not in kept:
            kept[str(bird)] = measured(flags.runs, bird)
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            print(bird, kept[str(bird)], flush=True)
    if all(str(bird) in kept for bird in BIRDS):
        write(kept)


if __name__ == "__main__":
    main()
