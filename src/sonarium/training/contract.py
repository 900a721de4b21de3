"""Protocols of training: data sources, the engine that runs training steps, and state saved in checkpoints.

As in PyTorch, objects with `state_dict` and `load_state_dict` (optimisers, schedulers, modules) are stateful.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sonarium.worlds.contract import Batch, World

Tree = Any
"""Dictionaries and lists of tensors, arrays, numbers, strings, NumPy generators and segments."""
Data = TypeVar("Data", covariant=True)
Progress = Callable[[str, int, int], object]
"""Progress callback, called with (stage, done, total)."""


@runtime_checkable
class Stateful(Protocol):
    """Object whose state is saved in checkpoints."""

    def state_dict(self) -> Tree: ...
    def load_state_dict(self, state: Tree, /) -> object: ...


@runtime_checkable
class Segment(Protocol):
    """Arrays in one immutable file, to which a checkpoint refers by name and hash."""

    @property
    def path(self) -> Path: ...
    @property
    def bytes(self) -> int: ...
    @property
    def fault(self) -> str | None:
        """Damage to an optional segment found when its checkpoint was read, or None."""
        ...

    def load(self) -> dict[str, np.ndarray]:
        """The arrays, memory-mapped."""
        ...


@runtime_checkable
class Segments(Protocol):
    """Append-only storage beside the checkpoints, for data too large to be rewritten at every save."""

    def append(self, arrays: Mapping[str, np.ndarray], optional: bool = False) -> Segment:
        """Write arrays once; return a segment, which a `state_dict` may contain. A segment that no kept checkpoint
        refers to is removed. Damage to an optional segment does not invalidate a checkpoint: the segment is
        loaded with its `fault`, and its owner must do without it."""
        ...


@runtime_checkable
class Source(Protocol[Data]):
    """Training data of a learner: batches of clips, rollouts, replay. Its state is saved in checkpoints."""

    unit: str
    """Unit of the batch size: clips, steps."""
    batch_size: int
    """Batch size, summed over all processes."""
    pass_ended: bool
    """Whether the previous batch was the last of a pass through the data (an epoch)."""

    def __next__(self) -> Data: ...
    def __iter__(self) -> Iterator[Data]: ...
    def preview(self, progress: Progress) -> Iterator[Data]:
        """All data once, in order, for statistics before the first step. May be empty."""
        ...

    def attach(self, learner: Any, engine: "Engine") -> None:
        """Called once before the first batch, with the learner (for rollouts, the acting agent) and the engine,
        whose device and rank determine where batches are and which rows they have."""
        ...

    def state_dict(self) -> Tree: ...
    def load_state_dict(self, state: Tree, /) -> object: ...


@runtime_checkable
class ClipSource(Source[Batch], Protocol):
    """A source of clips of a world."""

    world: World
    index: Shaped[Tensor, " clip"]
    """Indices of the training clips."""


@runtime_checkable
class Engine(Protocol):
    """Interface between a learner and the engine that trains it, in one process or in several.

    Each process (rank) has an equal share of the rows of every global batch, in the order of the ranks, and the
    same generator in the same state: draw for the global batch, then take `share`. The loss of an update is the
    mean over ranks of the losses passed to `descend`.
    """

    generator: torch.Generator
    """Generator of all random numbers of a step; saved in checkpoints, the same on all ranks."""
    device: torch.device
    rank: int
    ranks: int
    dataset_size: int
    """Number of training clips; 0 if there is no fixed number."""

    def autocast(self) -> AbstractContextManager:
        """Context manager for a forward pass in the precision of the run."""
        ...

    def descend(
        self, loss: Float[Tensor, ""], optimiser: torch.optim.Optimizer, clip: float | None = None
    ) -> None:
        """Clear the gradients of `optimiser`, backpropagate `loss`, and take one `step`."""
        ...

    def step(self, optimiser: torch.optim.Optimizer, clip: float | None = None) -> None:
        """Average the gradients over ranks, clip their norm to `clip` if given, and take one step of
        `optimiser`."""
        ...

    def share(self, rows: Shaped[Tensor, "all *rest"]) -> Shaped[Tensor, "own *rest"]:
        """This rank's rows of a tensor for the global batch."""
        ...

    def gather(self, rows: Shaped[Tensor, "own *rest"]) -> Shaped[Tensor, "all *rest"]:
        """The rows of all ranks in their order; gradients flow back to each rank's own."""
        ...

    def mean(self, value: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """The mean over ranks; gradients flow back."""
        ...

    def segments(self, name: str) -> Segments:
        """Append-only storage of this run under a name."""
        ...

    def progress(self, stage: str, done: int, total: int) -> None:
        """Report the progress of the preparation; raises an interruption if the user asked to stop."""
        ...
