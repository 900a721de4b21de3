"""Chunks of steps that make up a replay: the newest in memory, the others in segments of the run."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from sonarium.training.contract import Segment

Arrays = dict[str, np.ndarray]
FLAGS = ("first", "terminated", "truncated", "acted")


class OpenChunk:
    """The newest steps, (slot, step, …), before they become a segment."""

    def __init__(self, slots: int, steps: int, like: Mapping[str, np.ndarray]):
        self.arrays: Arrays = {
            name: np.zeros((slots, steps, *rows.shape[2:]), rows.dtype) for name, rows in like.items()
        }
        self.steps = 0
        """Number of steps written so far."""
        self.finals: dict[int, list[np.ndarray]] = {}
        """Observations after the last steps of episodes, by the flat index (slot, step) in the chunk."""
        self.halves = {name: halves_of(rows) for name, rows in self.arrays.items() if rows.dtype == np.float16}
        self.frontier: list[np.ndarray] = []
        """Observation after the newest step, (slot, …)."""

    @property
    def bytes(self) -> int:
        kept = sum(array[:, : self.steps].nbytes for array in self.arrays.values())
        return kept + sum(part.nbytes for final in self.finals.values() for part in final)

    def final(self, part: int, places: Int[np.ndarray, " some"]) -> Shaped[np.ndarray, "some *observed"]:
        return np.stack([self.finals[place][part] for place in places.tolist()])

    def final_arrays(self) -> Arrays:
        """Indices of the final observations in ascending order, and their parts."""
        places = np.array(sorted(self.finals), np.int64)
        found: Arrays = {"final_at": places}
        for name in (name for name in self.arrays if name.startswith("observation.")):
            part = int(name.removeprefix("observation."))
            found[f"final.{part}"] = self.final(part, places) if len(places) else self.arrays[name][0, :0]
        return found


@dataclass(frozen=True, eq=False)
class FullChunk:
    """A full chunk, stored in a segment."""

    segment: Segment
    arrays: Arrays
    halves: dict[str, Tensor]
    """Half-precision arrays as tensors, one row per step: PyTorch converts them faster than NumPy."""

    @classmethod
    def of(cls, segment: Segment) -> "FullChunk":
        arrays = {name: np.asarray(rows) for name, rows in segment.load().items()}
        with warnings.catch_warnings():
            # PyTorch warns of read-only arrays; these are never written to.
            warnings.simplefilter("ignore")
            halves = {name: halves_of(rows) for name, rows in arrays.items() if rows.dtype == np.float16}
        return cls(segment, arrays, halves)

    @property
    def bytes(self) -> int:
        return self.segment.bytes

    def final(self, part: int, places: Int[np.ndarray, " some"]) -> Shaped[np.ndarray, "some *observed"]:
        return self.arrays[f"final.{part}"][np.searchsorted(self.arrays["final_at"], places)]


def halves_of(rows: Shaped[np.ndarray, "slot step *rest"]) -> Float[Tensor, "row *rest"]:
    return torch.from_numpy(rows).flatten(0, 1)


@dataclass(eq=False)
class Ring:
    """Ring buffer of flags of every step, kept in memory, by time modulo the length, (time, slot)."""

    first: Bool[np.ndarray, "time slot"]
    over: Bool[np.ndarray, "time slot"]
    acted: Bool[np.ndarray, "time slot"]
    held: Bool[np.ndarray, "time slot"]
    begin: Int[np.ndarray, "time slot"]
    """Time of the first step of the episode, or of the first one that is held."""
    length: int = field(init=False)

    def __post_init__(self) -> None:
        self.length = len(self.first)

    @classmethod
    def empty(cls, length: int, slots: int) -> "Ring":
        first, over, acted, held = (np.zeros((length, slots), bool) for _ in range(4))
        return cls(first, over, acted, held, np.zeros((length, slots), np.int64))

    def put(self, time: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Store the flags of consecutive steps, (slot, step)."""
        first, terminated, truncated, acted = (arrays[name].T for name in FLAGS)
        steps, slots = first.shape
        times = time + np.arange(steps)
        at, before = times % self.length, (time - 1) % self.length
        over, goes_on = terminated | truncated, np.empty((steps, slots), bool)
        goes_on[0] = self.held[before] & ~self.over[before] & self.acted[before]
        goes_on[1:] = ~over[:-1] & acted[:-1]
        begun = np.maximum.accumulate(np.where(goes_on & ~first & acted, -1, times[:, None]))
        self.begin[at] = np.where(begun < 0, self.begin[before], begun)
        self.first[at], self.over[at], self.acted[at], self.held[at] = first, over, acted, True


def ends_of(
    first: Bool[np.ndarray, "slot step"],
    terminated: Bool[np.ndarray, "slot step"],
    truncated: Bool[np.ndarray, "slot step"],
    acted: Bool[np.ndarray, "slot step"],
) -> Bool[np.ndarray, "slot step"]:
    """Mask of the last steps of episodes, including those cut off by the beginning of a new one."""
    over = terminated | truncated
    over[:, :-1] |= first[:, 1:] & acted[:, :-1]
    return over
