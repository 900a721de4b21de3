"""Train and score what `docs/songbird.md` reports of generation: made songs beside recorded ones.

    .venv/bin/python scripts/songbird_generation.py FOLDER   # train what is missing there, score, write the page
    .venv/bin/python scripts/songbird_generation.py --write  # only the page, from what is there

One planted bird of level easy, 60 songs, of which a third is held out; a VAE of 16 codes on snippets of 64 ms, a
hidden Markov model and a GRU on its codes, three seeds. The held-out songs are set beside what each makes, beside
the same songs through PCA, the VAE and Griffin-Lim alone, and beside another bird. Everything runs on one thread;
each score is kept in docs/results/songbird-generation.json.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import stft
from tones_results import ROOT, insert, table

from sonarium.bench.timing import hardware
from sonarium.evaluation.generation import MEANINGS, compare_songs
from sonarium.features.contract import PictureFrontEnd
from sonarium.measures.generation import log_spectral_distance, reconstruction
from sonarium.measures.probes.classifiers import principal_axes
from sonarium.measures.statistics import interval
from sonarium.models.contract import FeatureLearner
from sonarium.runs.build import open_run
from sonarium.runs.codes import codes_of
from sonarium.runs.sing import ROUNDS, Voice, open_singer
from sonarium.worlds.contract import World
from sonarium.worlds.songbird.world import Songbird, SongbirdConfig

RESULTS = ROOT / "docs" / "results" / "songbird-generation.json"
SEEDS = (100, 101, 102)
LATENT, PIECE = 16, 1024
WORLD = [
    "--world",
    "songbird",
    "--birds",
    "1",
    "--songs",
    "60",
    "--level",
    "easy",
    "--seconds",
    str(PIECE / 16_000),
]
FRONT = ["--fft", "256", "--hop", "64", "--mels", "0"]
VAE = [*FRONT, "--network", "dense", "--latent", str(LATENT), "--beta", "0.2", "--steps", "500", "--test", "0.3"]
RUNS = {
    "vae": ["vae", *WORLD, *VAE],
    "hmm": ["hmm", "--states", "40", "--steps", "40"],
    "gru": ["gru", "--steps", "400", "--batch-size", "32"],
}
SHOWN = (
    "kernel_distance",
    "frechet_distance",
    "precision",
    "recall",
    "coverage",
    "authenticity",
    "auc",
    "pitch",
    "duration",
    "gap",
)
Songs = list[np.ndarray]


def trained(folder: Path, seed: int) -> dict[str, Path]:
    found = {name: folder / f"{name}-{seed}" for name in RUNS}
    for name, words in RUNS.items():
        if (found[name] / "card.md").exists():
            continue
        words = ["train", *words, "--seed", str(seed), "--run", str(found[name])]
        words += ["--codes", str(found["vae"])] if name != "vae" else []
        done = subprocess.run(
            [sys.executable, "-m", "sonarium", *words], env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        if done.returncode:
            raise SystemExit(f"{found[name]} failed")
    return found


def recorded(world: World, clips: torch.Tensor) -> Songs:
    return [world.whole(clips[at : at + 1]).signal[0].numpy() for at in range(len(clips))]


def pieces(song: np.ndarray, count: int) -> torch.Tensor:
    """A song as `count` pieces, the input of the autoencoder."""
    padded = np.zeros(max(count * PIECE, len(song)), np.float32)
    padded[: len(song)] = song
    return torch.from_numpy(padded[: count * PIECE].reshape(count, PIECE))


def through_pca(voice: Voice, train: Songs, test: Songs, generator: torch.Generator) -> Songs:
    """Held-out songs reconstructed by PCA of the snippets, with the dimension of the VAE's codes."""
    front = voice.front
    features = torch.cat([front(pieces(song, max(1, len(song) // PIECE))) for song in train]).flatten(1)
    centre = features.mean(0)
    _, axes = principal_axes((features - centre).double().numpy())
    kept = torch.from_numpy(np.ascontiguousarray(axes[:, ::-1][:, :LATENT])).float()
    found = []
    for song in test:
        own = front(pieces(song, max(1, round(len(song) / PIECE))))
        flat = own.flatten(1) - centre
        made = (flat @ kept @ kept.T + centre).view_as(own)
        whole = torch.cat(list(made), -1)[None]
        size = front.shape(len(song))[2]
        fitting = torch.nn.functional.interpolate(whole.flatten(1, 2), size=size, mode="linear")
        found.append(front.invert(fitting.unflatten(1, whole.shape[1:3]), len(song), ROUNDS, generator)[0].numpy())
    return found


def power(song: np.ndarray) -> np.ndarray:
    return np.abs(stft(song, 16_000, nperseg=256, noverlap=192)[2].T) ** 2


def reconstructed(real: Songs, made: Songs, front: PictureFrontEnd) -> dict[str, float]:
    """Errors of scaled features, and log-spectral distance, averaged over songs."""
    each = []
    for one, other in zip(real, made, strict=True):
        size = min(len(one), len(other))
        sides = [
            front(torch.from_numpy(wave[:size].astype(np.float32))[None])[0, 0].T.numpy() for wave in (one, other)
        ]
        each.append(
            reconstruction(*sides) | {"lsd": log_spectral_distance(power(one[:size]), power(other[:size]), -50.0)}
        )
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}


@torch.no_grad()
def scored(folder: Path, seed: int) -> dict[str, Any]:
    runs = trained(folder, seed)
    opened = open_run(runs["vae"])
    world, split = opened.data.world, opened.data.split
    train, test = recorded(world, split.train), recorded(world, split.test)
    singers = {name: open_singer(runs[name]) for name in ("hmm", "gru")}
    voice = singers["hmm"].voice
    assert isinstance(opened.learner, FeatureLearner)
    generator = torch.Generator().manual_seed(seed)
    encoded = [
        codes[0, : int(count)]
        for at in range(len(split.test))
        for _, codes, count in codes_of(opened.learner, world, split.test[at : at + 1], lambda *_: None)
    ]

    def inverted(song: np.ndarray) -> np.ndarray:
        features = voice.front(torch.from_numpy(song)[None])
        return voice.front.invert(features, len(song), ROUNDS, generator)[0].numpy()

    sets = {
        "Griffin-Lim of the spectrogram": [inverted(song) for song in test],
        f"PCA of {LATENT}": through_pca(voice, train, test, generator),
        f"VAE of {LATENT}": [
            voice.sound(codes[None], len(song), generator)[0] for codes, song in zip(encoded, test, strict=True)
        ],
    }
    found: dict[str, Any] = {
        name: {"reconstruction": reconstructed(test, songs, voice.front)} for name, songs in sets.items()
    }
    for name, temperature in (("hmm", 1.0), ("hmm", 0.5), ("gru", 1.0)):
        sung = singers[name].sing(len(test), 1.6, generator, temperature)
        sets[f"{name}, temperature {temperature:g}"] = list(sung)
    other = Songbird(SongbirdConfig(level="easy", birds=1, songs=len(test)), seed + 1000)
    sets["another bird"] = recorded(other, torch.arange(len(test)))
    sets["the songs that were learnt from"] = train[: len(test)]
    for name, songs in sets.items():
        found[name] = found.get(name, {}) | {"measures": compare_songs(test, songs, 16_000, seed)}
        print(seed, name, json.dumps(found[name]), flush=True)
    return found


def write(kept: dict[str, Any]) -> None:
    each = [kept[str(seed)] for seed in SEEDS if str(seed) in kept]
    rows = []
    for name in each[0]:
        values = [interval([one[name]["measures"][measure]["value"] for one in each]) for measure in SHOWN]
        rows.append([name, *(f"{value.mean:.3g}" for value in values)])
    first = next(iter(each[0]))
    floors = [interval([one[first]["measures"][measure]["floor"] for one in each]) for measure in SHOWN]
    rows.append(["floor: held-out songs, one half beside the other", *(f"{one.mean:.3g}" for one in floors)])
    insert("generation-sets", table(["made", *(MEANINGS[one].name for one in SHOWN)], rows), "songbird.md")
    rows = []
    for name in each[0]:
        if "reconstruction" in each[0][name]:
            values = [interval([one[name]["reconstruction"][key] for one in each]) for key in ("l1", "mse", "lsd")]
            rows.append([name, *map(str, values)])
    insert(
        "generation-errors",
        table(["held-out songs through", "L1", "MSE", "log-spectral distance (dB)"], rows),
        "songbird.md",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept: dict[str, Any] = (
        json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"hardware": hardware()}
    )
    for seed in SEEDS:
        if not arguments.write and str(seed) not in kept:
            kept[str(seed)] = scored(arguments.folder, seed)
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            write(kept)
    write(kept)


if __name__ == "__main__":
    main()
