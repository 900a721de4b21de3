"""The loss on clips that are held out: what a learner would log of them, while it learns nothing."""

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
"""Of what is drawn in validation, every time the same."""
BATCHES = 32
"""At most so many batches of pieces."""


class Rehearsal:
    """The engine of an update that changes nothing: no optimiser takes a step, and what is drawn is the same each
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
        """Nothing is learnt."""

    def share(self, rows: Shaped[Tensor, "all *rest"]) -> Shaped[Tensor, "own *rest"]:
        return self.engine.share(rows)

    def gather(self, rows: Shaped[Tensor, "own *rest"]) -> Shaped[Tensor, "all *rest"]:
        return self.engine.gather(rows)

    def mean(self, value: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        return self.engine.mean(value)

    def segments(self, name: str) -> Segments:
        raise NotImplementedError("validation keeps nothing")

    def progress(self, stage: str, done: int, total: int) -> None:
        """It takes no time worth telling."""


def every_piece_once(source: Clips, least: int, ranks: int) -> None:
    """Every piece once, in batches as large as those of training; left out are some that processes cannot share,
    or that are too few for a batch."""
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
        """As many as there are pieces for."""
        return min(BATCHES, self.source.batches_per_pass)

    def __call__(self, learner: Learner) -> Validated:
        if not self.attached:
            self.source.attach(learner, self.engine)
            self.source.keep_features(learner, lambda *_: None)
            self.attached = True
        copy, engine = deepcopy(learner).eval(), Rehearsal(self.engine)
        # What an update leaves in a learner, such as codebooks that follow the data, is taken back.
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
