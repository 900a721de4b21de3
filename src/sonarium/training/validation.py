"""The loss on clips that are held out: what a learner would log of them, while it learns nothing."""

from contextlib import AbstractContextManager
from copy import deepcopy

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


class HeldOut:
    """Validation on pieces of held-out clips, the same at every checkpoint."""

    def __init__(self, source: Clips, engine: Engine):
        self.source, self.engine = source, engine
        self.attached = False

    @property
    def batches(self) -> int:
        """As many as it takes to hear about every piece once."""
        return min(BATCHES, -(-len(self.source.index) // self.source.batch_size))

    @torch.no_grad()
    def __call__(self, learner: Learner) -> Validated:
        if not self.attached:
            self.source.attach(learner, self.engine)
            self.source.keep_features(learner, lambda *_: None)
            self.attached = True
        # What an update leaves in a learner besides weights, such as counts of an E-step, stays in the copy.
        copy, engine = deepcopy(learner).eval(), Rehearsal(self.engine)
        found = [copy.update(self.source.at(step), engine) for step in range(self.batches)]
        means = {
            name: float(self.engine.mean(torch.stack([terms[name].double() for terms in found]).mean()))
            for name in found[0]
        }
        return Validated(-means[learner.validated_by or next(iter(means))], means)
