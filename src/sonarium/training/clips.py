"""Clips of a world as a data source: reshuffled each epoch, cropped, sharded over processes, features cached.

The batch of a step depends only on the seed and the step.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.models.contract import FeatureLearner, Learner
from sonarium.training.contract import Engine, Progress, Tree
from sonarium.training.selection import chances
from sonarium.worlds.contract import Batch, World

BLOCK = 64
"""Clips per block in a pass over all clips, as for computing features."""


@dataclass(frozen=True)
class ClipsConfig:
    batch_size: Annotated[int, Range(1)] = 64
    """Batch size, summed over all processes."""
    cut: Literal["piece", "whole"] = "piece"
    """Training examples: crops of the clips (piece), or whole clips padded to the longest of their batch."""
    drop_last: bool = True
    """Drop the last batch of an epoch if it is incomplete."""
    train_on: Literal["train", "all"] = "train"
    """Clips to train on: the training split, or all clips without their labels (transductive: test clips are seen
    in training, as new recordings of a lab can be)."""
    only: tuple[str, ...] = ()
    """Train only on clips with these factor values, such as day=65; bird!=2 excludes a bird."""
    weight_by: str = ""
    """Weighted sampling: factor whose number weights the clips, such as day (an age); clips without one are never
    sampled."""
    weight_power: Annotated[float, Range(-100, 100)] = 1.0
    """Exponent of the sampling weights; below 0, small numbers are sampled more often."""
    cache_megabytes: Annotated[int, Range(0)] = 2048
    """In-memory cache of computed features, in megabytes; without effect if they do not fit."""

    def __post_init__(self) -> None:
        check_ranges(self)


class Clips:
    """Endless iterator over batches of clips."""

    unit = "clips"

    def __init__(self, world: World, index: Int[Tensor, " clip"], config: ClipsConfig, seed: int):
        self.world, self.config, self.seed = world, config, seed
        self.index = world.portions(index) if config.cut == "piece" else index
        self.chances = chances(world, self.index, config.weight_by, config.weight_power)
        self.batch_size = config.batch_size
        self.position = 0
        """Number of batches drawn so far."""
        self.pass_ended = False
        self.device, self.rank, self.ranks = torch.device("cpu"), 0, 1
        self.learner: Learner | None = None
        self.engine: Engine | None = None
        self.cache: Batch | None = None
        self.epoch, self.order = -1, np.empty(0, dtype=np.int64)

    def counted(self) -> str:
        """Number of clips or pieces to draw batches from, in words."""
        unit, per_second = self.world.unit, self.world.signal.steps_per_second
        if self.config.cut == "whole" or not per_second or not self.world.cropped():
            return f"{len(self.index)} {unit}"
        seconds = self.world.signal.shape[0] / per_second
        return f"{len(self.index)} pieces of {seconds:.3g} s (of {len(self.index.unique())} {unit})"

    def reduce_batch_size(self, ranks: int = 1) -> str:
        """Cap the batch size at the number of clips, as a multiple of `ranks`; return a remark if reduced."""
        asked, most = self.batch_size, len(self.index) // ranks * ranks
        if asked <= len(self.index) or not most:
            return ""
        self.config, self.batch_size = replace(self.config, batch_size=most), most
        return f"batch size {most} in place of {asked}: there are {self.counted()} to train on"

    def check_batch_size(self, least: int, ranks: int = 1) -> None:
        """Raise ValueError for a batch size that does not suit the model or the number of clips or processes."""
        size, clips = self.batch_size, len(self.index)
        if not least <= size <= clips:
            enough = f"use --batch-size between {least} and {clips}, or " if least <= clips else "use "
            raise ValueError(
                f"batch size {size}: this model needs at least {least} clip(s) a batch, and there are "
                f"{self.counted()} to train on: {enough}a larger world"
            )
        rest = 0 if self.config.drop_last else clips % size
        if 0 < rest < least:
            raise ValueError(
                f"batch size {size} leaves a last batch of {rest} of {clips} clips, and this model needs at least "
                f"{least}: use another --batch-size, or --drop-last"
            )
        if size % ranks or rest % ranks:
            raise ValueError(
                f"batch size {size} with {clips} clips cannot be divided evenly among {ranks} processes: use a "
                f"--batch-size that is a multiple of {ranks}"
                + ("" if self.config.drop_last else ", or --drop-last")
            )

    def attach(self, learner: Learner, engine: Engine) -> None:
        self.learner, self.engine = learner, engine
        self.device, self.rank, self.ranks = engine.device, engine.rank, engine.ranks

    @property
    def batches_per_pass(self) -> int:
        clips, size = len(self.index), self.batch_size
        return clips // size if self.config.drop_last else -(-clips // size)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self.learner is not None and self.engine is not None:
            self.keep_features(self.learner, self.engine.progress)
            self.learner = None
        batch = self.at(self.position)
        self.position += 1
        self.pass_ended = self.position % self.batches_per_pass == 0
        return batch

    def at(self, step: int) -> Batch:
        """This rank's rows of the batch of a step."""
        epoch, number = divmod(step, self.batches_per_pass)
        if epoch != self.epoch:
            generator, count = np.random.default_rng([self.seed, epoch]), len(self.index)
            if self.chances is None:
                self.order = generator.permutation(count)
            else:
                self.order = generator.choice(count, count, p=self.chances)
            self.epoch = epoch
        chosen = torch.from_numpy(self.order[number * self.batch_size : (number + 1) * self.batch_size])
        own = len(chosen) // self.ranks
        rows = slice(self.rank * own, (self.rank + 1) * own)
        if self.cache is not None:
            return taken(self.cache, chosen[rows])
        return self.cut(self.index[chosen], step, rows)

    def cut(self, index: Int[Tensor, " clip"], step: int, rows: slice) -> Batch:
        """Rows of a batch of clips as training examples: pieces or whole clips."""
        if self.config.cut == "piece":
            return self.world.piece(index, self.seed, step, self.device, rows)
        batch = self.world.whole(index[rows], self.device)
        lengths = self.world.lengths(index)
        if self.ranks == 1 or bool((lengths == lengths[0]).all()):
            return batch
        # All ranks pad to the longest clip of the global batch, so that their rows can be gathered.
        longest = int(lengths.max())
        changed = {"signal": padded(batch.signal, longest), "lengths": lengths[rows].to(self.device)}
        if batch.tracks is not None:
            changed["tracks"] = padded(batch.tracks, int(self.world.frames_of(torch.tensor([longest]))))
        if batch.sources is not None:
            changed["sources"] = padded(batch.sources, longest)
        return replace(batch, **changed)

    def preview(self, progress: Progress) -> Iterator[Batch]:
        """Every clip once, in order, as a training example; raises ValueError for non-finite samples."""
        yield from self.blocks(progress, "measuring the sound")

    def blocks(self, progress: Progress, stage: str) -> Iterator[Batch]:
        for start in range(0, len(self.index), BLOCK):
            batch = self.cut(self.index[start : start + BLOCK], start, slice(None))
            wrong = ~batch.signal.isfinite().flatten(1).all(1)
            if wrong.any():
                raise ValueError(
                    f"clip {int(batch.index[wrong][0])} of world '{self.world.name}' has NaN or infinite samples: "
                    "fix its source, or leave it out"
                )
            yield batch
            progress(stage, min(start + BLOCK, len(self.index)), len(self.index))

    def keep_features(self, learner: Learner, progress: Progress) -> None:
        """Cache the features of all clips, if the learner needs only features, clips have the same samples at
        every step, the front end has no trainable parameters, and the features fit into the cache."""
        if not isinstance(learner, FeatureLearner) or not self.unvaried():
            return
        if any(parameter.requires_grad for parameter in learner.front.parameters()):
            return
        with torch.no_grad():
            first = learner.features(self.cut(self.index[:1], 0, slice(None)))
            if first.nbytes * len(self.index) > self.config.cache_megabytes * 2**20:
                return
            kept = [
                replace(batch, features=learner.features(batch), signal=torch.empty(len(batch.index), 0))
                for batch in self.blocks(progress, "computing features")
            ]
        self.cache = joined(kept, self.own_lengths())

    def unvaried(self) -> bool:
        """Whether each clip has the same samples at every step, and all clips have the same shape."""
        if self.config.cut == "piece":
            return not self.world.cropped()
        lengths = self.world.lengths(self.index)
        return bool((lengths == lengths[0]).all())

    def own_lengths(self) -> Int[Tensor, " clip"]:
        """Length of each clip in samples, without padding."""
        lengths = self.world.lengths(self.index)
        return lengths.clamp(max=self.world.signal.shape[0]) if self.config.cut == "piece" else lengths

    def state_dict(self) -> Tree:
        return {"position": self.position}

    def load_state_dict(self, state: Tree) -> None:
        position = state["position"]
        if type(position) is not int or not 0 <= position < 2**63:
            raise ValueError(f"the position is {position!r:.60}, expected a whole number of at least 0")
        self.position = position


def padded(rows: Float[Tensor, "clip time *rest"], time: int) -> Float[Tensor, "clip padded *rest"]:
    """Zero-pad the rows at the end to length `time`."""
    return functional.pad(rows, (0, 0) * (rows.ndim - 2) + (0, time - rows.shape[1]))


def columns(batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch that are not None, by name."""
    return {name: value for name, value in vars(batch).items() if value is not None}


def taken(batch: Batch, rows: Int[Tensor, " row"]) -> Batch:
    """Select rows of a batch, in all its tensors."""
    return replace(batch, **{name: value[rows.to(value.device)] for name, value in columns(batch).items()})


def joined(batches: list[Batch], lengths: Int[Tensor, " clip"]) -> Batch:
    """Concatenate batches, with the lengths of their clips if any of them has lengths."""
    if any(batch.lengths is not None for batch in batches):
        # A batch without padding may leave them out.
        parts = lengths.split([len(batch.index) for batch in batches])
        batches = [
            replace(batch, lengths=own.to(batch.index.device)) for batch, own in zip(batches, parts, strict=True)
        ]
    rows = [columns(batch) for batch in batches]
    return replace(batches[0], **{name: torch.cat([row[name] for row in rows]) for name in rows[0]})
