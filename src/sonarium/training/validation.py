"""Validation: the metrics that a learner logs in an update, computed on held-out clips without learning."""

from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sonarium.models.contract import Learner
from sonarium.training.clips import Clips
from sonarium.training.contract import Engine, Segments
from sonarium.training.fit import Validated

SEED = 0x7A11
"""Seed of the random numbers of validation, the same every time."""
BATCHES = 32
"""Maximum number of batches of pieces."""


class Rehearsal:
    """Engine for updates without learning: no optimiser takes a step, and the random numbers are the same each
    time."""

    def __init__(self, engine: Engine):
        self.engine, self.device, self.dataset_size = engine, engine.device, engine.dataset_size
        self.rank, self.ranks = engine.rank, engine.ranks
        self.generator = torch.Generator(engine.device).manual_seed(SEED)

    def autocast(self) -> AbstractContextManager:
        return self.engine.autocast()

    def descend(
        self, loss: Float[Tensor, ""], optimiser: torch.optim.Optimizer, clip: float | None = None
    ) -> None:
        """Do nothing: no gradients, no step."""

    def step(self, optimiser: torch.optim.Optimizer, clip: float | None = None) -> None:
        """Do nothing."""

    def share(self, rows: Shaped[Tensor, "all *rest"]) -> Shaped[Tensor, "own *rest"]:
        return self.engine.share(rows)

    def gather(self, rows: Shaped[Tensor, "own *rest"]) -> Shaped[Tensor, "all *rest"]:
        return self.engine.gather(rows)

    def mean(self, value: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        return self.engine.mean(value)

    def segments(self, name: str) -> Segments:
        raise NotImplementedError("validation keeps nothing")

    def progress(self, stage: str, done: int, total: int) -> None:
        """Do nothing: validation is too short to report."""


def every_piece_once(source: Clips, least: int, ranks: int) -> None:
    """Have the source visit every piece once, in batches of the training size; a remainder that the processes
    cannot share, or that is too small for a batch, is left out."""
    source.index = source.index[: len(source.index) // ranks * ranks]
    pieces = len(source.index)
    size = max(1, min(source.batch_size, pieces))
    source.batch_size = size
    source.config = replace(source.config, batch_size=size, drop_last=0 < pieces % size < least)


class HeldOut:
    """Validation on pieces of held-out clips, the same at every checkpoint."""

    def __init__(self, source: Clips, engine: Engine):
        self.source, self.engine = source, engine
        self.attached = False

    @property
    def batches(self) -> int:
        """Number of batches: all that the pieces fill, up to BATCHES."""
        return min(BATCHES, self.source.batches_per_pass)

    def __call__(self, learner: Learner) -> Validated:
        if not self.attached:
            self.source.attach(learner, self.engine)
            self.source.keep_features(learner, lambda *_: None)
            self.attached = True
        copy, engine = deepcopy(learner).eval(), Rehearsal(self.engine)
        # Changes that an update makes to a learner, such as to codebooks that follow the data, are undone.
        before = {name: value.clone() for name, value in learner.state_dict().items()}
        sums: dict[str, Tensor] = {}
        clips: dict[str, int] = {}
        for step in range(self.batches):
            copy.load_state_dict(before)
            batch = self.source.at(step)
            for name, value in copy.update(batch, engine).items():
                count = len(batch.index)
                sums[name] = sums.get(name, 0) + count * value.detach().double()
                clips[name] = clips.get(name, 0) + count
        means = {name: float(self.engine.mean(total / clips[name])) for name, total in sums.items()}
        told_by = learner.validated_by or next(iter(means))
        if told_by not in means:
            raise ValueError(
                f"validated_by={told_by!r}: {type(learner).__name__} logs {', '.join(means)}: give one of these"
            )
        return Validated(-means[told_by], means)
