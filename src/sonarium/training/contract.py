"""What training is made of: sources that feed a learner, the engine that runs its steps, state that is saved.

The names are PyTorch's: what has `state_dict` and `load_state_dict` (optimisers, schedulers, modules) is stateful.
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
"""Called with the stage, how much is done, and of how much."""


@runtime_checkable
class Stateful(Protocol):
    """Anything whose state a checkpoint keeps."""

    def state_dict(self) -> Tree: ...
    def load_state_dict(self, state: Tree, /) -> object: ...


@runtime_checkable
class Segment(Protocol):
    """Arrays in one file that never changes; a checkpoint refers to it by name and hash."""

    @property
    def path(self) -> Path: ...
    @property
    def bytes(self) -> int: ...
    @property
    def fault(self) -> str | None:
        """What was found wrong with an optional one when its checkpoint was read, if anything."""
        ...

    def load(self) -> dict[str, np.ndarray]:
        """The arrays, mapped into memory."""
        ...


@runtime_checkable
class Segments(Protocol):
    """Append-only storage beside the checkpoints, for what is too large to be written again at every save."""

    def append(self, arrays: Mapping[str, np.ndarray], optional: bool = False) -> Segment:
        """Write arrays once; return what the state of a stateful part may hold. A segment that no kept checkpoint
        refers to is removed. A checkpoint is whole without an optional one: where it is damaged, the part that
        kept it finds its `fault`, and does without."""
        ...


@runtime_checkable
class Source(Protocol[Data]):
    """What a learner is fed from: batches of clips, rollouts, replay. Its state is saved with the checkpoint."""

    unit: str
    """What a batch is counted in: clips, steps."""
    batch_size: int
    """How many of them a batch has, over all processes."""
    pass_ended: bool
    """Whether the batch that came last was the last of its pass through the data."""

    def __next__(self) -> Data: ...
    def __iter__(self) -> Iterator[Data]: ...
    def preview(self, progress: Progress) -> Iterator[Data]:
        """Everything there is once, in order: for statistics before the first step. May be empty."""
        ...

    def attach(self, learner: Any, engine: "Engine") -> None:
        """Called once before anything is drawn: for this learner (which may be what acts), on the engine's device,
        this rank's rows alone."""
        ...

    def state_dict(self) -> Tree: ...
    def load_state_dict(self, state: Tree, /) -> object: ...


@runtime_checkable
class ClipSource(Source[Batch], Protocol):
    """A source of clips of a world."""

    world: World
    index: Shaped[Tensor, " clip"]
    """The clips that are trained on."""


@runtime_checkable
class Engine(Protocol):
    """What a learner may ask of the machinery that trains it, in one process or in several.

    Each process (rank) has an equal share of the rows of every global batch, in the order of the ranks, and the
    same generator in the same state: draw for the global batch, then take `share`. The loss of an update is the
    mean over ranks of the losses given to `descend`.
    """

    generator: torch.Generator
    """The source of every random number of a step; saved with the checkpoint, the same on all ranks."""
    device: torch.device
    rank: int
    ranks: int
    dataset_size: int
    """Clips in the training set; 0 where there is no fixed number."""

    def autocast(self) -> AbstractContextManager:
        """A context in which the forward pass takes the precision of the run."""
        ...

    def descend(
        self, loss: Float[Tensor, ""], optimiser: torch.optim.Optimizer, clip: float | None = None
    ) -> None:
        """Clear the gradients of `optimiser`, differentiate `loss`, average the gradients over ranks, clip their
        norm if asked, and take one step."""
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
        """Report how far preparation is; stops here if the user asked to."""
        ...
