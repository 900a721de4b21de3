"""What a world is: clips of sound, with what is known of their factors.

A rendered world makes clip `i` from its index and its seed alone, so it takes no disk, and the clip has the same
samples in any batch, in any order, on any worker. A recorded world reads its clips; the codes of a run are a world
too. Everything but `whole` has a default, so that nobody asks which world it is.
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
"""Onset and offset in seconds, and the label, of a segment of a clip."""
Progress = Callable[[str, int, int], object]
"""Called with the name of the stage, the number done, and the number in all."""
UNKNOWN = "unknown"
"""The value of a categorical factor in clips that have no label."""
BLOCK = 128
"""Clips rendered at once, so that memory does not grow with their number."""
ROUNDING = 1e-6
"""Fraction of a frame by which its end may be rounded."""


@dataclass(frozen=True)
class Factor:
    """One known factor of a sound: a category with named values, or a number with the values it takes."""

    name: str
    values: tuple[str, ...] | tuple[float, ...]
    unit: str = ""

    @property
    def discrete(self) -> bool:
        return isinstance(self.values[0], str)


@dataclass(frozen=True)
class Signal:
    """The form of one clip, or of one piece where clips differ in length.

    A waveform has the shape (time,) at `rate` samples a second, a binaural one (time, ear), left before right; a
    picture (row, column), codes (frame, code) at `frame_rate` frames a second.
    """

    kind: SignalKind
    shape: tuple[int, ...]
    rate: int | None = None
    frame_rate: float | None = None
    frame_first: float = 0.0
    """Of codes: seconds from the beginning of the sound to the middle of the first frame."""
    channel: int | None = None
    """Of recordings with several channels, the one that is used; None is their mean."""
    sources: int | None = None
    """Of a mixture, how many sources it is the sum of, each of which `Batch.sources` has alone."""
    ear_distance: float | None = None
    """Of a binaural one, metres between the ears."""
    head: str | None = None
    """Of a binaural one, what is between them: none or sphere."""

    @property
    def steps_per_second(self) -> float | None:
        """Samples or frames a second along the first axis; None of a picture."""
        return self.frame_rate if self.rate is None else self.rate


@dataclass(frozen=True)
class Batch:
    """Clips with their factors. The value of a category is its position in the factor's values.

    One batch is derived from another by `dataclasses.replace` alone, so that nothing known of it is lost.
    """

    index: Int[Tensor, " clip"]
    signal: Float[Tensor, "clip *shape"]
    factors: Float[Tensor, "clip factor"]
    features: Float[Tensor, "clip *feature"] | None = None
    """The front end's output, where it was computed beforehand."""
    lengths: Int[Tensor, " clip"] | None = None
    """Samples (or frames) of each clip; what follows is padding, which no loss or measure may see."""
    tracks: Float[Tensor, "clip frame track"] | None = None
    """Factors and actions frame by frame, at the world's `track_rate`; zeros beyond a clip's length. Of n samples
    there are `World.frames_of(n)` frames."""
    sources: Float[Tensor, "clip time source *rest"] | None = None
    """What the signal is the sum of, over `source`: each alone, where it is heard."""

    def to(self, device: torch.device | str) -> "Batch":
        """The same on another device."""
        held = {part.name: getattr(self, part.name) for part in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in held.items() if value is not None})


class World(ABC):
    """Anything that yields sound with what is known of its factors."""

    name: str
    signal: Signal
    factors: tuple[Factor, ...]
    tracks: tuple[Factor, ...] = ()
    """Factors that change within a clip: one column of `Batch.tracks` each."""
    track_rate: float = 0.0
    """Frames of `tracks` a second."""
    unit: str = "clips"
    """What its clips are counted as in messages."""
    group_kind: str = "clip"
    """What no two parts of a split share: speaker, bird, session, clip."""
    rendered: bool = False
    """Whether the clips follow from configuration and seed alone; of others, which may change on the disk, a run
    records the split."""
    planted: bool = True
    """Whether the factors were set when the sound was made, each independently of the others; labels of
    recordings were not."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def whole(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        """These clips, each as long as it is, padded with zeros to the longest of them."""

    def lengths(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Samples (frames of codes, rows of a picture) of each clip."""
        return torch.full((len(index),), self.signal.shape[0], dtype=torch.int64)

    def cropped(self) -> bool:
        """Whether `piece` gives other samples at every step, rather than the clip as it is."""
        return bool((self.lengths(torch.arange(len(self))) > self.signal.shape[0]).any())

    def piece(
        self,
        index: Int[Tensor, " all"],
        seed: int,
        step: int,
        device: torch.device | str = "cpu",
        rows: slice = slice(None),
    ) -> Batch:
        """A crop of each clip to the signal's shape, from a random place that follows from seed and step alone;
        a shorter clip whole, padded with zeros. Of a batch of clips `index` only these rows are made."""
        at, size = index.cpu(), self.signal.shape[0]
        lengths = self.lengths(at)
        if bool((lengths == size).all()):
            return self.whole(index[rows], device)
        start = self.beginnings(at, seed, step)[rows]
        at, lengths = at[rows], lengths[rows]
        return crop(self.whole(at), start, lengths.clamp(max=size), size, self.frames_of).to(device)

    def beginnings(self, index: Int[Tensor, " all"], seed: int, step: int) -> Int[Tensor, " all"]:
        """Where in its clip each `piece` begins, in samples (frames of codes)."""
        at = index.cpu()
        return places(seed, step, at, (self.lengths(at) - self.signal.shape[0]).clamp(min=0) + 1)

    def remade(self, index: Int[Tensor, " clip"], tracks: Float[Tensor, "clip frame track"]) -> Batch | None:
        """These clips, whole, as they sound with other tracks; None where a world has no sound of tracks."""
        return None

    def excerpt(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        """The middle of each clip, cropped or padded to the signal's shape: for models of one length alone."""
        at, size = index.cpu(), self.signal.shape[0]
        lengths = self.lengths(at)
        if bool((lengths == size).all()):
            return self.whole(index, device)
        start = (lengths - size).clamp(min=0) // 2
        return crop(self.whole(at), start, lengths.clamp(max=size), size, self.frames_of).to(device)

    def frames_of(self, samples: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Frames of `tracks` that end within the first N samples (frames of codes)."""
        per_second = self.signal.steps_per_second
        assert per_second, f"tracks of a {self.signal.kind}, which has no time"
        # Rates such as 22050/512 are inexact: a frame that ends with the last sample must not be lost to rounding.
        return torch.floor(samples.double() * self.track_rate / per_second + ROUNDING).long()

    def portions(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " portion"]:
        """The clips that one epoch draws from: each as often as a piece fits into it, and at least once."""
        times = torch.div(self.lengths(index), self.signal.shape[0], rounding_mode="floor").clamp(min=1)
        return index.repeat_interleave(times)

    def factor_values(self, index: Int[Tensor, " clip"]) -> Float[Tensor, "clip factor"]:
        """The factors of each clip, as in `Batch.factors`; faster where a world needs no samples for them."""
        return torch.cat([self.whole(block).factors for block in index.split(BLOCK)])

    def group(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """The number of each clip's group (speaker, bird, session); no group may lie in two parts of a split."""
        return index

    def group_names(self) -> tuple[str, ...]:
        """The name of each group, by its number."""
        return tuple(map(str, range(len(self))))

    def recording(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """The number of the recording that each clip is a part of: clips with one number share a channel, and may
        be the same sound."""
        return index

    def path(self, clip: int) -> str:
        """Where a clip lies, to name it in an error."""
        return f"clip {clip} of {self.name}"

    def marks(self, index: Int[Tensor, " clip"]) -> list[tuple[Mark, ...]]:
        """The annotated segments of each clip, in seconds from its beginning."""
        return [()] * len(index)

    def identity(self, index: Int[Tensor, " clip"]) -> list[str]:
        """A name for the content of each clip, wherever it lies: equal samples have equal names."""
        return [f"{self.name} {clip}" for clip in index.tolist()]

    def describe(self) -> str:
        """The world in one line."""
        return f"{self.name}: {len(self)} clips"

    def about(self) -> dict[str, Any]:
        """What else is known of the world, in JSON's terms: written beside its factors when it is exported."""
        return {}

    def keep(self, folder: Path) -> str:
        """Write into a run folder what the run must keep of this world; a remark for the user, if any."""
        return ""


def crop(
    batch: Batch,
    start: Int[Tensor, " clip"],
    lengths: Int[Tensor, " clip"],
    size: int,
    frames_of: Callable[[Tensor], Tensor],
) -> Batch:
    """Of each clip `lengths` samples from its `start`, padded with zeros to `size`, tracks and sources too."""
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
    """A world in the catalogue."""

    summary: str
    kind: SignalKind
    Config: type
    """A frozen dataclass of defaults, whose docstrings are the help of its flags."""
    build: Callable[[Any, int, Progress], World]
    """From a configuration and a seed; what takes long reports its progress."""
    signal: Callable[[Any], Signal] | None = None
    """The form of a clip, where it follows from the configuration alone and nothing need be read for it."""
    formats: Mapping[str, Callable[[Any, Path, Progress], object]] = field(default_factory=dict)
    """File formats of its own: writers of the whole world by the suffix of the file name, such as ".npz"."""
    main: tuple[str, ...] | None = None
    """The flags that matter first, by their fields; `--help` shows the others under advanced. None: all."""
    seeded: bool = True
    """Whether the seed changes the clips; of others, runs of several seeds share one world when they are
    scored."""
