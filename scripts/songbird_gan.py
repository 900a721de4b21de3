"""Train and measure what `docs/songbird.md` reports of the mode-regularised GAN.

    nice -n 10 .venv/bin/python scripts/songbird_gan.py            # what is missing, then the page: 25 minutes
    nice -n 10 .venv/bin/python scripts/songbird_gan.py --write    # only the page, from what is there

Recordings of zebra finches and a Bengalese finch from ../shared/data, split by song (file), a new split for each
of the seeds. Held-out L1 and MSE of the snippets of whole test songs, side by side: the GAN, the same autoencoder
without discriminators, and PCA of equal dimension, fitted to overlapping snippets of all training songs. Copy
synthesis is the error of the magnitudes of sound whose phase was found by the Griffin-Lim algorithm. Run folders,
results and the processor time of each are in the folder of --runs; the page has means over seeds with 95 %
intervals (Student's t).
"""

import argparse
import csv
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from sonarium.bench.timing import hardware
from sonarium.models.mrgan import MRGAN
from sonarium.runs.build import Opened, open_run
from sonarium.runs.plan import Plan, default_plan
from sonarium.runs.train import train

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "docs" / "results" / "songbird-gan.json"
SEEDS = (100, 101, 102)
"""Settings were chosen on seed 0."""
MODELS = ("GAN", "autoencoder")
STEPS, BATCH = 3000, 32
NDF = 4
"""Channels of the discriminators, which then take no more time than the networks that they judge."""
PCA_STRIDE = 5
"""Hop in frames between the snippets that PCA is fitted to."""
COPIED = 5.0
"""Seconds of each test song that are resynthesised from their magnitudes."""
AIM, WITHIN = 0.7, 1.1


def manifest(folder: Path) -> Path:
    """Write a manifest of all songs of both species as one corpus."""
    path = folder / "songs.csv"
    songs = sorted([*DATA.glob("zebra_finch/**/*.wav"), *DATA.glob("bengalese_finch/**/*.cbin")])
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "bird"))
        for song in songs:
            bird = song.stem.split("-")[0] if song.parent.name == "adults" else song.parent.name
            writer.writerow((song, bird))
    return path


def plan_of(name: str, seed: int, songs: Path, folder: Path) -> Plan:
    plan = default_plan("mrgan", "recordings", "principal")
    learner = replace(plan.learner, ndf=NDF, adversarial=name == "GAN")
    source = plan.clips
    world = replace(source.config, path=str(songs), group="file", cache=str(folder / "cache"))
    source = replace(source, config=world, clips=replace(source.clips, batch_size=BATCH))
    return replace(plan, learner=learner, source=source, loop=replace(plan.loop, seed=seed, save_every=500))


def snippets(opened: Opened, index: Tensor, stride: int) -> Float[Tensor, "snippet 1 row frame"]:
    """Snippets of whole songs, the last of each padded with silence."""
    learner, found = opened.learner, []
    assert isinstance(learner, MRGAN)
    frames = learner.config.frames
    for clip in index.tolist():
        batch = opened.data.world.whole(torch.tensor([clip]))
        whole = 1 + batch.signal.shape[1] // learner.config.front.hop
        count = 1 + -(-max(0, whole - frames) // stride)
        features = learner.front(learner.widened(batch.signal, (count - 1) * stride + frames))
        windows = features.unfold(3, frames, stride)
        found.append(rearrange(windows, "1 1 row snippet frame -> snippet 1 row frame"))
    return torch.cat(found)


@torch.no_grad()
def errors(opened: Opened) -> dict[str, float]:
    learner = opened.learner
    assert isinstance(learner, MRGAN)
    real = snippets(opened, opened.data.split.test, learner.config.frames)
    made = torch.cat([learner.generator(learner.encoder(part)) for part in real.split(256)])
    return apart(made, real)


def apart(made: Tensor, real: Tensor) -> dict[str, float]:
    return {"l1": float((made - real).abs().mean()), "mse": float((made - real).square().mean())}


def principal(
    known: Float[Tensor, "snippet number"], count: int
) -> Callable[[Float[Tensor, "some number"]], Float[Tensor, "some number"]]:
    """Projection onto the first `count` principal components of `known`, as a function of other snippets."""
    mean = known.mean(0)
    vectors = torch.linalg.eigh((known - mean).T @ (known - mean))[1][:, -count:]
    return lambda real: (real - mean) @ vectors @ vectors.T + mean


@torch.no_grad()
def principal_components(opened: Opened) -> dict[str, float]:
    """Errors of PCA fitted to the training songs, with the dimension of the GAN's codes; also with negative
    magnitudes clamped to 0."""
    learner = opened.learner
    assert isinstance(learner, MRGAN)
    known = snippets(opened, opened.data.split.train, PCA_STRIDE).flatten(1).double()
    real = snippets(opened, opened.data.split.test, learner.config.frames).flatten(1).double()
    made = principal(known, learner.config.latent)(real)
    return apart(made, real) | {f"clamped_{name}": one for name, one in apart(made.clamp(min=0), real).items()}


@torch.no_grad()
def copy_synthesis(opened: Opened) -> dict[str, float]:
    learner, made, real = opened.learner, [], []
    assert isinstance(learner, MRGAN)
    rate = opened.data.world.signal.rate
    assert rate is not None
    for clip in opened.data.split.test.tolist():
        wave = opened.data.world.whole(torch.tensor([clip])).signal[:, : round(COPIED * rate)]
        features = learner.front(wave)
        samples = learner.config.front.fft + (features.shape[3] - 1) * learner.config.front.hop
        made.append(learner.front(learner.front.invert(features, samples)).flatten())
        real.append(features.flatten())
    return apart(torch.cat(made), torch.cat(real))


def measured(folder: Path, seed: int, songs: Path) -> dict[str, Any]:
    """All results of one seed."""
    found: dict[str, Any] = {"seed": seed}
    for name in MODELS:
        run, began = folder / f"{name}-{seed}", time.process_time()
        train(plan_of(name, seed, songs, folder), run, STEPS, "cpu")
        opened = open_run(run)
        found[name] = errors(opened) | {"cpu_seconds": round(time.process_time() - began, 1)}
        if name == "GAN":
            found["PCA"], found["copy synthesis"] = principal_components(opened), copy_synthesis(opened)
            found["test songs"] = len(opened.data.split.test)
    return found


def interval(values: list[float]) -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.3f} ± {half:.3f}"


def table(found: dict[str, Any]) -> str:
    seeds = found["seeds"]
    rows = ["| model | L1 | MSE | L1 / PCA-32 | MSE / PCA-32 |", "|---|---|---|---|---|"]
    for name in ("GAN", "autoencoder", "PCA", "copy synthesis"):
        values = [[seed[name][key] for seed in seeds] for key in ("l1", "mse")]
        ratios = [[seed[name][key] / seed["PCA"][key] for seed in seeds] for key in ("l1", "mse")]
        cells = [f"{np.mean(values[0]):.4f}", f"{np.mean(values[1]):.5f}", *map(interval, ratios)]
        rows.append(f"| {'PCA-32' if name == 'PCA' else name} | {' | '.join(cells)} |")
    ratios = [[seed["GAN"][key] / seed["autoencoder"][key] for seed in seeds] for key in ("l1", "mse")]
    seconds = sum(seed[name]["cpu_seconds"] for seed in seeds for name in MODELS)
    settings = found["settings"]
    return "\n".join(
        [
            *rows,
            "",
            f"GAN over autoencoder: L1 {interval(ratios[0])}, MSE {interval(ratios[1])} (aim: at most {WITHIN}). "
            f"{len(seeds)} seeds, each with a split of its own, {settings['steps']} steps of {settings['batch']}, "
            f"ndf {settings['ndf']}; {seconds / 60:.1f} minutes of processor time in all. "
            f"{found['hardware']}.",
        ]
    )


def write(found: dict[str, Any]) -> None:
    """Insert the table between its marks in docs/songbird.md."""
    page = ROOT / "docs" / "songbird.md"
    before, _, rest = page.read_text(encoding="utf-8").partition("<!-- gan -->\n")
    _, _, after = rest.partition("<!-- end of gan -->")
    page.write_text(f"{before}<!-- gan -->\n{table(found)}\n<!-- end of gan -->{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "songbird-gan", help="run folders")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="seeds to train now")
    parser.add_argument("--write", action="store_true", help="only write the page")
    flags = parser.parse_args()
    if not flags.write:
        torch.set_num_threads(1)
        flags.runs.mkdir(parents=True, exist_ok=True)
        songs, seeds = manifest(flags.runs), []
        for seed in flags.seeds:
            kept = flags.runs / f"seed-{seed}.json"
            if not kept.exists():
                kept.write_text(json.dumps(measured(flags.runs, seed, songs)), encoding="utf-8")
            seeds.append(json.loads(kept.read_text(encoding="utf-8")))
        if set(flags.seeds) != set(SEEDS):
            return
        settings = {"preset": "principal", "steps": STEPS, "batch": BATCH, "ndf": NDF}
        RESULTS.write_text(
            json.dumps({"hardware": hardware(), "settings": settings, "seeds": seeds}, indent=1) + "\n",
            encoding="utf-8",
        )
    write(json.loads(RESULTS.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
