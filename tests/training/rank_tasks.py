"""Tasks that the processes of `ranks.py` run for the tests of training."""

import os
import sys
from pathlib import Path
from typing import Any

import torch

from sonarium.catalogue import MODELS
from sonarium.commands.train import main
from sonarium.runs import train as runs
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import Meter
from sonarium.worlds.contract import Batch, Factor, Signal, World


class Hums(World):
    """Waves in double precision: a tone in noise. Clips may have unequal lengths."""

    name = "hums"
    signal = Signal("wave", (2400,), 16000)
    factors = (Factor("pitch", (0.0, 1.0)), Factor("speaker", ("ann", "bob", "cy")))

    def __init__(self, clips: int = 24, unequal: bool = False):
        generator = torch.Generator().manual_seed(1)
        self.known = torch.stack([torch.rand(clips, generator=generator), torch.arange(clips) % 3], 1).double()
        phase = torch.arange(2400) / 16000 * 2 * torch.pi * (200 + 800 * self.known[:, :1])
        self.waves = 0.4 * phase.sin() + 0.05 * torch.randn(2400, generator=generator, dtype=torch.double)
        self.own = torch.randint(900, 2401, (clips,), generator=generator) if unequal else None
        if self.own is not None:
            self.waves = self.waves.where(torch.arange(2400) < self.own[:, None], 0)

    def __len__(self) -> int:
        return len(self.waves)

    def lengths(self, index: torch.Tensor) -> torch.Tensor:
        return super().lengths(index) if self.own is None else self.own[index]

    def whole(self, index: torch.Tensor, device: torch.device | str = "cpu") -> Batch:
        lengths = None if self.own is None else self.own[index]
        longest = 2400 if lengths is None else int(lengths.max())
        return Batch(index, self.waves[index, :longest].to(device), self.known[index].to(device), lengths=lengths)


def in_double(name: str, config: Any, unequal: bool, steps: int) -> dict[str, Any]:
    """The state after `steps` steps in double precision, and the metrics, which are means over ranks."""
    torch.set_default_dtype(torch.double)
    try:
        world = Hums(unequal=unequal)
        engine = FabricEngine("cpu", "32", 3)
        torch.manual_seed(0)
        learner = MODELS[name].build(config, world.signal).double()
        clips = Clips(world, torch.arange(24), ClipsConfig(batch_size=8), 5)
        engine.dataset_size = 24
        clips.attach(learner, engine)
        learner.prepare(clips, engine)
        meter, seen = Meter(engine), []
        for _ in range(steps):
            batch = next(clips)
            seen.append(batch.index.tolist())
            meter.add(learner.update(batch, engine))
    finally:
        torch.set_default_dtype(torch.float)
    return {
        "weights": learner.state_dict(),
        "metrics": meter.take(steps),
        "generator": engine.generator.get_state(),
        "clips": seen,
    }


def collectives() -> dict[str, Any]:
    """Results and gradients of gathering and averaging on this rank."""
    engine = FabricEngine("cpu", "32", 0)
    own = torch.arange(4.0).view(2, 2).add(10 * engine.rank).requires_grad_()
    every = engine.gather(own)
    # A loss of this rank that depends on the rows of all ranks.
    ((engine.rank + 1) * every.square().sum()).backward()
    value = torch.tensor([float(engine.rank)], requires_grad=True)
    mean = engine.mean(value)
    ((engine.rank + 1) * mean.square()).sum().backward()
    return {
        "every": every.detach(),
        "gathered": own.grad,
        "mean": mean.detach(),
        "averaged": value.grad,
        "flags": engine.gather(torch.tensor([engine.rank == 0])),
        "whole": engine.gather(torch.tensor([engine.rank])),
        "share": engine.share(torch.arange(6)),
        "any": (engine.any(engine.rank == 1), engine.any(False)),
    }


WRITTEN: list[str] = []


def note(event: str, arguments: tuple) -> None:
    """Audit hook that records what this process creates, opens for writing, or renames."""
    if (event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")) or event in (
        "os.mkdir",
        "os.rename",
    ):
        WRITTEN.append(os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | Path) else "")


def commanded(words: list[str]) -> list[str]:
    """Run `sonarium train` without its final pictures, and return what this process wrote into the run folder."""
    if not WRITTEN:
        sys.addaudithook(note)
    WRITTEN[:] = ["noting"]
    present = runs.present
    runs.present = lambda *_: None
    try:
        main(words)
    finally:
        runs.present = present
    return [path for path in WRITTEN if path.startswith(words[words.index("--run") + 1])]
