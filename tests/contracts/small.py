"""Small configurations of the entries of the catalogue, for tests of contracts over all entries.

Entries of other packages keep their defaults.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from corpus import PATTERN, RATE, write_corpus

from sonarium.catalogue import MODELS, WORLDS
from sonarium.models.contract import Learner
from sonarium.models.optim import ScheduleConfig
from sonarium.worlds.codes import Codes, CodesConfig, Encoded, gather
from sonarium.worlds.contract import Batch, Factor, Signal, SignalKind, World

SEED = 3
OF_CODES = "codes"
"""The world of codes of another run, which has no entry in the catalogue."""
EVERY_WORLD = (*WORLDS.loadable(), OF_CODES)


def config_of(world: str, folder: Path) -> Any:
    """Small configuration of a world in the catalogue; its files are written to the folder."""
    entry = WORLDS[world]
    if world in ("tones", "syntone"):
        slow = {"glide_semitones": 3.0, "tremolo_db": 6.0} if world == "tones" else {}
        return entry.Config(rate=8000, seconds=0.15, frequencies=5, amplitudes=3, noises=2, **slow)
    if world == "songbird":
        return entry.Config(birds=2, songs=3, days=(45, 90), shortest=3, longest=6, seconds=0.4)
    if world == "mixtures":
        return entry.Config(sounds=("phone", "tones"), seconds=0.4, clips=40, sets=5, variants=1)
    if world in ("recordings", "sentences"):
        corpus = folder / "corpus"
        path = str(corpus if corpus.is_dir() else write_corpus(corpus))
    if world == "sentences":
        words = {"word": "word", "pattern": PATTERN, "rate": RATE, "cache": str(folder / "cache")}
        return entry.Config(path=path, sentences=4, sets=2, shortest=2, longest=3, seconds=0.5, **words)
    if world == "recordings":
        return entry.Config(
            path=path,
            pattern=PATTERN,
            labels=("word", "speaker"),
            rate=RATE,
            seconds=0.4,
            cache=str(folder / "cache"),
        )
    if world == "syntone-file":
        path = folder / "tones.npz"
        if not path.exists():
            tones = WORLDS["tones"]
            made = tones.build(tones.Config(rate=8000, seconds=0.1, frequencies=4, amplitudes=2), SEED, ignore)
            tones.formats[".npz"](made, path, ignore)
        return entry.Config(path=str(path))
    return entry.Config()


def world_of(name: str, folder: Path) -> World:
    if name == OF_CODES:
        return Codes(CodesConfig(frames=4), encoded())
    return WORLDS[name].build(config_of(name, folder), SEED, ignore)


def ignore(stage: str, done: int, total: int) -> None:
    """Progress callback that does nothing."""


class Ramps(World):
    """Clips of unequal length with factors, tracks, groups and segments; sample t of clip i is i + t / 1000."""

    name = "ramps"
    signal = Signal("wave", (40,), 100)
    factors = (Factor("parity", ("even", "odd")), Factor("number", (0.0, 19.0)))
    tracks = (Factor("time", (0.0, 1.0), "s"), Factor("half", ("first", "second")))
    track_rate = 20.0
    group_kind = "five"

    def __len__(self) -> int:
        return 20

    def lengths(self, index):
        return 40 + 7 * (index.cpu() % 4)

    def group(self, index):
        return index // 5

    def group_names(self):
        return ("a", "b", "c", "d")

    def marks(self, index):
        return [((0.1, 0.3, "early"),) if clip % 2 else () for clip in index.tolist()]

    def whole(self, index, device="cpu"):
        lengths = self.lengths(index)
        time, frame = torch.arange(int(lengths.max())), torch.arange(int(self.frames_of(lengths).max()))
        signal = (index[:, None] + time / 1000) * (time < lengths[:, None])
        inside = (frame < self.frames_of(lengths)[:, None]).float()
        tracks = torch.stack([inside * frame / 20, inside * (frame > 3)], 2)
        factors = torch.stack([index % 2, index], 1).float()
        return Batch(index, signal, factors, lengths=lengths, tracks=tracks).to(device)


def encoded() -> Encoded:
    """Codes of the clips of `Ramps`: four numbers at 10 Hz."""
    world = Ramps()
    batch = world.whole(torch.arange(len(world)))
    counts = world.lengths(batch.index) // 10
    frames = batch.signal[:, : int(counts.max()) * 10].unfold(1, 10, 10)
    generator = torch.Generator().manual_seed(0)
    codes = frames @ torch.randn(10, 4, generator=generator) / 10
    return gather(world, [(batch, codes, counts)], 10.0, 0.05)


def data_for(kind: SignalKind, folder: Path) -> World:
    """World of a kind of signal, with clips of unequal length where possible."""
    names = {"wave": "recordings", "picture": "digits", "codes": OF_CODES, "binaural": "mixtures"}
    return world_of(names[kind], folder)


def cpc(config: Any) -> Any:
    return replace(
        config,
        encoder=replace(config.encoder, filters=(8,)),
        context=replace(config.context, width=8),
        predictors=replace(config.predictors, steps_ahead=3),
    )


def factor_vae(config: Any) -> Any:
    return replace(config, penalty=replace(config.penalty, units=16))


def hmm(config: Any) -> Any:
    return replace(config, states=4, max_duration=4)


def gru(config: Any) -> Any:
    return replace(config, units=8)


def dreaming(config: Any) -> Any:
    return replace(
        config,
        burn_in=1,
        embedding=6,
        dynamics=replace(config.dynamics, deter=8, hidden=6, variables=2, classes=3),
        heads=replace(config.heads, units=6, joint_units=5),
        front=replace(config.front, bands=8, token_frames=2),
    )


def autoregressive(config: Any) -> Any:
    front = replace(config.front, bands=8, token_frames=2)
    return replace(config, units=8, heads=2, components=2, burn_in=1, front=front)


def mrgan(config: Any) -> Any:
    return replace(config, ngf=2, ndf=2, latent=8)


def separator(config: Any) -> Any:
    # A decaying schedule would require the number of steps.
    return replace(config, units=8, descent=replace(config.descent, schedule=ScheduleConfig()))


SMALLER: dict[str, Callable[[Any], Any]] = {
    "autoregressive": autoregressive,
    "cpc": cpc,
    "dreaming": dreaming,
    "factor-vae": factor_vae,
    "gru": gru,
    "hmm": hmm,
    "mrgan": mrgan,
    "separator": separator,
}
"""Smaller networks, where the default is too large for a test."""


def learner_config(name: str, kind: SignalKind, preset: str = "default") -> Any:
    config = MODELS[name].presets[preset](kind)
    return SMALLER.get(name, lambda one: one)(config)


def learner_of(name: str, kind: SignalKind, signal: Signal, preset: str = "default", seed: int = SEED) -> Learner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name].build(learner_config(name, kind, preset), signal)
