"""The `World` interface: clips of sound with their known factors.

A rendered world generates clip `i` from its index and the seed alone: it needs no disk space, and the clip has the
same samples in any batch, in any order, on any worker. A recorded world reads its clips; the codes of a run are a
world, too. Everything but `__len__` and `whole` has a default, so callers need not distinguish between worlds.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.worlds.counter import places

SignalKind = Literal["wave", "picture", "codes", "binaural"]
PLURAL: dict[SignalKind, str] = {
    "wave": "waves", "picture": "pictures", "codes": "codes", "binaural": "sounds at two ears",
}  # fmt: skip
Mark = tuple[float, float, str]
"""Onset and offset in seconds, and label, of a segment of a clip."""
Progress = Callable[[str, int, int], object]
"""Callback with the name of the stage, the number done, and the total."""
UNKNOWN = "unknown"
"""Value of a categorical factor for clips without a label."""
BLOCK = 128
"""Number of clips rendered at a time, which bounds memory."""
ROUNDING = 1e-6
"""Tolerance for rounding at the end of a frame, as a fraction of a frame."""


@dataclass(frozen=True)
class Factor:
    """One known factor of a sound: categorical, with named values, or numeric, with the values it takes."""

    name: str
    values: tuple[str, ...] | tuple[float, ...]
    unit: str = ""

    @property
    def discrete(self) -> bool:
        return isinstance(self.values[0], str)


@dataclass(frozen=True)
class Signal:
    """The form of one clip, or of one piece where clips differ in length.

    The shape is (time,) for a waveform and (time, ear), left before right, for binaural sound, both at `rate`
    samples per second; (row, column) for a picture; and (frame, code) for codes, at `frame_rate` frames per
    second.
    """

    kind: SignalKind
    shape: tuple[int, ...]
    rate: int | None = None
    frame_rate: float | None = None
    frame_first: float = 0.0
    """Codes: seconds from the start of the sound to the middle of the first frame."""
    channel: int | None = None
    """Recordings with several channels: the one that is used; None is their mean."""
    sources: int | None = None
    """Mixtures: number of sources, whose separate signals are in `Batch.sources`."""
    ear_distance: float | None = None
    """Binaural sound: distance between the ears in metres."""
    head: str | None = None
    """Binaural sound: head model, none or sphere."""

    @property
    def steps_per_second(self) -> float | None:
        """Samples or frames per second along the first axis; None for a picture."""
        return self.frame_rate if self.rate is None else self.rate


@dataclass(frozen=True)
class Batch:
    """Clips with their factors; a categorical value is stored as its index in the factor's values.

    Derive a batch from another by `dataclasses.replace` only, so that no field is lost.
    """

    index: Int[Tensor, " clip"]
    signal: Float[Tensor, "clip *shape"]
    factors: Float[Tensor, "clip factor"]
    features: Float[Tensor, "clip *feature"] | None = None
    """Output of the front end, if precomputed."""
    lengths: Int[Tensor, " clip"] | None = None
    """Samples (or frames) of each clip; the rest is padding, which every loss and measure must mask."""
    tracks: Float[Tensor, "clip frame track"] | None = None
    """Frame-level factors and actions at the world's `track_rate`; zeros beyond a clip's length. n samples have
    `World.frames_of(n)` frames."""
    sources: Float[Tensor, "clip time source *rest"] | None = None
    """The separate sources, as received, whose sum over `source` is the signal."""

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        held = {part.name: getattr(self, part.name) for part in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in held.items() if value is not None})


class World(ABC):
    """A source of sound with known factors."""

    name: str
    signal: Signal
    factors: tuple[Factor, ...]
    tracks: tuple[Factor, ...] = ()
    """Factors that change within a clip, one column of `Batch.tracks` each."""
    track_rate: float = 0.0
    """Frames per second of `tracks`."""
    unit: str = "clips"
    """Plural noun for its clips in messages."""
    group_kind: str = "clip"
    """Kind of group that the parts of a split never share: speaker, bird, session, clip."""
    rendered: bool = False
    """Whether the clips follow from configuration and seed alone. For all other worlds, whose data may change on
    disk, a run records the split."""
    planted: bool = True
    """Whether the factors were set independently of each other when the sound was generated; labels of recordings
    were not."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def whole(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        """These clips in full length, padded with zeros to the longest of them."""

    def lengths(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Length of each clip in samples (frames of codes, rows of a picture)."""
        return torch.full((len(index),), self.signal.shape[0], dtype=torch.int64)

    def cropped(self) -> bool:
        """Whether `piece` returns different samples at every step, rather than the whole clip."""
        return bool((self.lengths(torch.arange(len(self))) > self.signal.shape[0]).any())

    def piece(
        self,
        index: Int[Tensor, " all"],
        seed: int,
        step: int,
        device: torch.device | str = "cpu",
        rows: slice = slice(None),
    ) -> Batch:
        """A random crop of each clip to the signal's shape, determined by seed and step alone; shorter clips are
        padded with zeros. Of the batch of clips `index`, only these rows are generated."""
        at, size = index.cpu(), self.signal.shape[0]
        lengths = self.lengths(at)
        if bool((lengths == size).all()):
            return self.whole(index[rows], device)
        start = self.beginnings(at, seed, step)[rows]
        at, lengths = at[rows], lengths[rows]
        return crop(self.whole(at), start, lengths.clamp(max=size), size, self.frames_of).to(device)

    def beginnings(self, index: Int[Tensor, " all"], seed: int, step: int) -> Int[Tensor, " all"]:
        """Start of each `piece` within its clip, in samples (frames of codes)."""
        at = index.cpu()
        return places(seed, step, at, (self.lengths(at) - self.signal.shape[0]).clamp(min=0) + 1)

    def remade(self, index: Int[Tensor, " clip"], tracks: Float[Tensor, "clip frame track"]) -> Batch | None:
        """These whole clips, synthesised from other tracks; None if the world cannot synthesise from tracks."""
        return None

    def excerpt(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        """The middle of each clip, cropped or padded to the signal's shape: for models of fixed input length."""
        at, size = index.cpu(), self.signal.shape[0]
        lengths = self.lengths(at)
        if bool((lengths == size).all()):
            return self.whole(index, device)
        start = (lengths - size).clamp(min=0) // 2
        return crop(self.whole(at), start, lengths.clamp(max=size), size, self.frames_of).to(device)

    def frames_of(self, samples: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Number of frames of `tracks` that end within the first n samples (frames of codes)."""
        per_second = self.signal.steps_per_second
        assert per_second, f"tracks of a {self.signal.kind}, which has no time"
        # Rates such as 22050/512 are inexact: a frame that ends with the last sample must not be lost to rounding.
        return torch.floor(samples.double() * self.track_rate / per_second + ROUNDING).long()

    def portions(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " portion"]:
        """The clips of one epoch: each repeated as often as a piece fits into it, and at least once."""
        times = torch.div(self.lengths(index), self.signal.shape[0], rounding_mode="floor").clamp(min=1)
        return index.repeat_interleave(times)

    def factor_values(self, index: Int[Tensor, " clip"]) -> Float[Tensor, "clip factor"]:
        """Factors of each clip, as in `Batch.factors`; faster in worlds that need no samples for them."""
        return torch.cat([self.whole(block).factors for block in index.split(BLOCK)])

    def group(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Index of each clip's group (speaker, bird, session); the parts of a split never share a group."""
        return index

    def group_names(self) -> tuple[str, ...]:
        """Name of each group, by index."""
        return tuple(map(str, range(len(self))))

    def recording(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Index of the recording that each clip comes from: clips of one recording share a channel, and may be the
        same sound."""
        return index

    def path(self, clip: int) -> str:
        """Location of a clip, for error messages."""
        return f"clip {clip} of {self.name}"

    def marks(self, index: Int[Tensor, " clip"]) -> list[tuple[Mark, ...]]:
        """Annotated segments of each clip, in seconds from its start."""
        return [()] * len(index)

    def identity(self, index: Int[Tensor, " clip"]) -> list[str]:
        """Identifier of each clip's content, independent of its location: equal samples, equal identifiers."""
        return [f"{self.name} {clip}" for clip in index.tolist()]

    def describe(self) -> str:
        """One-line description of the world."""
        return f"{self.name}: {len(self)} clips"

    def about(self) -> dict[str, Any]:
        """Further metadata in JSON types, written beside the factors on export."""
        return {}

    def keep(self, folder: Path) -> str:
        """Write to a run folder what the run must keep of this world; return a remark for the user, if any."""
        return ""


def crop(
    batch: Batch,
    start: Int[Tensor, " clip"],
    lengths: Int[Tensor, " clip"],
    size: int,
    frames_of: Callable[[Tensor], Tensor],
) -> Batch:
    """Crop each clip to `lengths` samples from `start`, padded with zeros to `size`, with its tracks and
    sources."""
    assert batch.features is None, "clips are cropped before the front end"
    changed: dict[str, Tensor] = {"signal": cut(batch.signal, start, lengths, size), "lengths": lengths}
    if batch.tracks is not None:
        frames = int(frames_of(torch.tensor([size])))
        changed["tracks"] = cut(batch.tracks, frames_of(start), frames_of(lengths), frames)
    if batch.sources is not None:
        changed["sources"] = cut(batch.sources, start, lengths, size)
    return replace(batch, **changed)


def cut(
    rows: Float[Tensor, "clip time *rest"],
    start: Int[Tensor, " clip"],
    lengths: Int[Tensor, " clip"],
    size: int,
) -> Float[Tensor, "clip size *rest"]:
    made = rows.new_zeros(len(rows), size, *rows.shape[2:])
    for row, (first, count) in enumerate(zip(start.tolist(), lengths.tolist(), strict=True)):
        made[row, :count] = rows[row, first : first + count]
    return made


@dataclass(frozen=True)
class WorldEntry:
    """Entry of a world in the catalogue."""

    summary: str
    kind: SignalKind
    Config: type
    """Frozen dataclass of defaults, whose field docstrings are the help of its flags."""
    build: Callable[[Any, int, Progress], World]
    """Builds the world from a configuration and a seed; slow worlds report progress."""
    signal: Callable[[Any], Signal] | None = None
    """Form of a clip, if it follows from the configuration alone, without reading data."""
    formats: Mapping[str, Callable[[Any, Path, Progress], object]] = field(default_factory=dict)
    """World-specific file formats: writers of the whole world by file suffix, such as ".npz"."""
    main: tuple[str, ...] | None = None
    """Fields of the main flags; `--help` shows the others under advanced. None: all are main."""
    seeded: bool = True
    """Whether the seed changes the clips; if not, runs with different seeds share one world for scoring."""
