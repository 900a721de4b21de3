"""The codes of another run as a world: the output of one model is the training data of the next.

All clips are concatenated in memory, and a piece is an excerpt of them. Factors, group, segments and identity of a
clip are those of the clip that was encoded; its tracks are resampled to the frames of the codes. A run stores the
codes that it is trained on as safetensors and JSON (`Encoded.save`), so that it can be resumed and evaluated even
if the run that encoded them is gone.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load as deserialise
from safetensors.torch import save as serialise
from torch import Tensor

from sonarium.config import Range, check_ranges, fits, short
from sonarium.files import read_json, written_aside
from sonarium.worlds.contract import Batch, Factor, Mark, Signal, World

FORMAT = 1
"""Increased whenever the previous version cannot read files of this version."""
ARRAYS, NAMES = "codes.safetensors", "codes.json"
FOLDER = "codes"
"""Subfolder of a run folder for the codes that the run is trained on."""


@dataclass(frozen=True)
class CodesConfig:
    """Training pieces of codes."""

    frames: Annotated[int, Range(0, 2**24)] = 64
    """Frames per training piece; longer clips are cropped at random, shorter ones padded; 0 disables cropping."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Encoded:
    """Codes of clips, with the metadata of the clips."""

    codes: Float[Tensor, "frame code"]
    """All clips, concatenated."""
    lengths: Int[Tensor, " clip"]
    """Frames of each clip; 0 for a clip shorter than the model's receptive field."""
    frame_rate: float
    """Frames per second."""
    frame_first: float = 0.0
    """Seconds from the start of the sound to the middle of the first frame."""
    factors: tuple[Factor, ...] = ()
    values: Float[Tensor, "clip factor"] | None = None
    """Factors of each clip, as in `Batch.factors`."""
    groups: Int[Tensor, " clip"] | None = None
    """Index of each clip's group; by default each clip is its own."""
    group_names: tuple[str, ...] = ()
    group_kind: str = "clip"
    recordings: Int[Tensor, " clip"] | None = None
    """Index of the recording that each clip comes from; by default each clip is its own."""
    identities: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    marks: tuple[tuple[Mark, ...], ...] = ()
    tracks: tuple[Factor, ...] = ()
    track_values: Float[Tensor, "frame track"] | None = None
    """Tracks at each frame of the codes."""
    planted: bool = True
    source: str = "codes"
    """Name of what was encoded, for error messages."""

    def __post_init__(self) -> None:
        clips, frames = len(self.lengths), len(self.codes)
        if int(self.lengths.sum()) != frames:
            raise ValueError(
                f"codes of {self.source}: {frames} frames, the lengths sum to {int(self.lengths.sum())}"
            )
        if not bool(torch.isfinite(self.codes).all()):
            raise ValueError(f"codes of {self.source} hold NaN or infinite numbers: train that run anew")
        counts = {name: getattr(self, name) for name in ("values", "groups", "recordings")}
        counts |= {name: getattr(self, name) or None for name in ("identities", "paths", "marks")}
        for name, held in counts.items():
            if held is not None and len(held) != clips:
                raise ValueError(f"codes of {self.source}: {clips} clips, {len(held)} {name}: give one a clip")
        if self.values is not None and self.values.shape[1] != len(self.factors):
            raise ValueError(
                f"codes of {self.source}: {len(self.factors)} factors, {self.values.shape[1]} values of each clip"
            )
        if self.groups is not None and self.group_names and int(self.groups.max()) >= len(self.group_names):
            raise ValueError(
                f"codes of {self.source}: group {int(self.groups.max())}, there are {len(self.group_names)}"
            )
        if self.track_values is not None and self.track_values.shape != (frames, len(self.tracks)):
            raise ValueError(
                f"codes of {self.source}: tracks of shape {tuple(self.track_values.shape)}, expected is "
                f"{(frames, len(self.tracks))}"
            )

    def save(self, folder: Path) -> None:
        """Write a new folder, without pickle, from which `load` restores an equal object."""
        held = {part.name: getattr(self, part.name) for part in fields(self)}
        # Copies: safetensors refuses tensors that share memory, as the groups and recordings of a world may.
        arrays = {
            name: value.clone(memory_format=torch.contiguous_format)
            for name, value in held.items()
            if isinstance(value, Tensor)
        }
        names = {name: value for name, value in held.items() if value is not None and name not in arrays}
        names["factors"], names["tracks"] = (
            [asdict(factor) for factor in group] for group in (self.factors, self.tracks)
        )
        with written_aside(folder) as aside:
            aside.mkdir(parents=True)
            (aside / ARRAYS).write_bytes(serialise(arrays))
            # JSON in ASCII escapes, and so preserves, bytes of file names that are not UTF-8.
            (aside / NAMES).write_text(json.dumps({"format": FORMAT, **names}), encoding="ascii")

    @classmethod
    def load(cls, folder: Path) -> "Encoded":
        try:
            arrays = deserialise((folder / ARRAYS).read_bytes())
            names = checked_names(read_json(folder / NAMES))
            check_arrays(arrays)
            for name in ("factors", "tracks"):
                names[name] = tuple(Factor(**{**made, "values": tuple(made["values"])}) for made in names[name])
            for name in ("group_names", "identities", "paths"):
                names[name] = tuple(names[name])
            names["marks"] = tuple(tuple((*mark,) for mark in marks) for marks in names["marks"])
            return cls(**arrays, **names)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError, SafetensorError) as error:
            raise ValueError(
                f"codes in '{folder}' cannot be read ({error}): restore them, or encode again"
            ) from error


STORED = {
    "frame_rate": float, "frame_first": float, "group_kind": str, "planted": bool, "source": str,
    "factors": tuple[dict[str, Any], ...], "tracks": tuple[dict[str, Any], ...], "group_names": tuple[str, ...],
    "identities": tuple[str, ...], "paths": tuple[str, ...], "marks": tuple[tuple[Mark, ...], ...],
}  # fmt: skip
"""Keys of the JSON file, and their types."""
FACTOR = {"name": str, "values": tuple[str, ...] | tuple[float, ...], "unit": str}
ARRAY_TYPES = {
    "codes": (True, 2), "lengths": (False, 1), "values": (True, 2), "groups": (False, 1), "recordings": (False, 1),
    "track_values": (True, 2),
}  # fmt: skip
"""For each array, whether it is floating point (else whole numbers from 0), and its number of axes."""


def checked_names(names: Any) -> dict[str, Any]:
    """Content of the JSON file; ValueError if a key or type is wrong."""
    if not isinstance(names, dict):
        raise ValueError(f"{NAMES} holds no object")
    if (written := names.pop("format", None)) != FORMAT:
        raise ValueError(f"format {short(written)}, this version of Sonarium reads {FORMAT}")
    if names.keys() != STORED.keys():
        raise ValueError(f"{NAMES} has {short(sorted(names))}, expected {', '.join(STORED)}")
    for name, hint in STORED.items():
        if not fits(hint, names[name]):
            raise ValueError(f"{name} is {short(names[name])}")
    for factor in (*names["factors"], *names["tracks"]):
        if not (factor.keys() == FACTOR.keys() and all(fits(FACTOR[key], value) for key, value in factor.items())):
            raise ValueError(f"a factor is {short(factor)}")
        if not factor["values"]:
            raise ValueError(f"the factor {short(factor['name'])} has no values")
    if not names["frame_rate"] > 0:
        raise ValueError(f"frame_rate is {names['frame_rate']}")
    return names


def check_arrays(arrays: Mapping[str, Tensor]) -> None:
    """Raise ValueError if an array has a wrong name, dtype or number of axes, or values out of range."""
    for name, array in arrays.items():
        fractions, axes = ARRAY_TYPES.get(name, (False, -1))
        right = array.is_floating_point() if fractions else array.dtype == torch.int64
        if not right or array.ndim != axes:
            raise ValueError(f"{name} is of {array.dtype} with {array.ndim} axes")
        if not fractions and len(array) and int(array.min()) < 0:
            raise ValueError(f"{name} has negative numbers")
    if missing := {"codes", "lengths"} - arrays.keys():
        raise ValueError(f"{ARRAYS} lacks {', '.join(sorted(missing))}")


def gather(
    world: World,
    batches: Iterable[tuple[Batch, Float[Tensor, "clip frame code"], Int[Tensor, " clip"]]],
    frame_rate: float,
    frame_first: float,
) -> Encoded:
    """Codes of all clips of a world, from batches of its whole clips in order, their codes, and frames of each."""
    codes, lengths, values, tracks, index = [], [], [], [], []
    for batch, made, frames in batches:
        index += batch.index.tolist()
        lengths.append(frames.cpu())
        values.append(batch.factors.cpu())
        samples = world.lengths(batch.index)
        for row, count in enumerate(frames.tolist()):
            codes.append(made[row, :count].cpu().float())
            if batch.tracks is not None:
                at = frames_in_tracks(
                    count, frame_rate, frame_first, world.track_rate, int(world.frames_of(samples)[row])
                )
                tracks.append(batch.tracks[row, at].cpu())
    assert index == list(range(len(world))), f"{len(index)} clips of {world.name}, or not in order"
    everything = torch.arange(len(world))
    return Encoded(
        codes=torch.cat(codes),
        lengths=torch.cat(lengths),
        frame_rate=frame_rate,
        frame_first=frame_first,
        factors=world.factors,
        values=torch.cat(values),
        groups=world.group(everything),
        group_names=world.group_names(),
        group_kind=world.group_kind,
        recordings=world.recording(everything),
        identities=tuple(world.identity(everything)),
        paths=tuple(world.path(clip) for clip in range(len(world))),
        marks=tuple(world.marks(everything)),
        tracks=world.tracks,
        track_values=torch.cat(tracks) if tracks else None,
        planted=world.planted,
        source=world.name,
    )


def frames_in_tracks(
    count: int, frame_rate: float, frame_first: float, track_rate: float, most: int
) -> Int[Tensor, " frame"]:
    """Track frame that contains the middle of each code frame: categories cannot be interpolated."""
    if not count:
        return torch.zeros(0, dtype=torch.int64)
    assert most > 0, "tracks of a clip without a frame"
    middle = frame_first + torch.arange(count).double() / frame_rate
    # A time on a frame boundary belongs to the later frame, however the product was rounded.
    return (middle * track_rate + 1e-6).long().clamp(max=most - 1)


class Codes(World):
    """Codes of clips of unequal length; the seed has no effect."""

    name = "codes"

    def __init__(self, config: CodesConfig, codes: Encoded) -> None:
        if not len(codes.codes):
            raise ValueError(
                f"codes of {codes.source}: none of {len(codes.lengths)} clips has a frame; give a run of a world "
                "with longer clips"
            )
        self.config, self.encoded = config, codes
        self.starts = codes.lengths.cumsum(0) - codes.lengths
        frames = config.frames or int(codes.lengths.max())
        self.signal = Signal(
            "codes", (frames, codes.codes.shape[1]), frame_rate=codes.frame_rate, frame_first=codes.frame_first
        )
        self.factors, self.tracks, self.planted = codes.factors, codes.tracks, codes.planted
        self.track_rate, self.group_kind = codes.frame_rate if codes.tracks else 0.0, codes.group_kind

    def __len__(self) -> int:
        return len(self.starts)

    def lengths(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return self.encoded.lengths[index.cpu()]

    def whole(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        lengths = self.lengths(index)
        return self.stretch(index, torch.zeros_like(lengths), int(lengths.max()) if len(lengths) else 0, device)

    def piece(
        self,
        index: Int[Tensor, " all"],
        seed: int,
        step: int,
        device: torch.device | str = "cpu",
        rows: slice = slice(None),
    ) -> Batch:
        start = self.beginnings(index, seed, step)
        return self.stretch(index[rows], start[rows], self.signal.shape[0], device)

    def excerpt(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        spare = (self.lengths(index) - self.signal.shape[0]).clamp(min=0)
        return self.stretch(index, spare // 2, self.signal.shape[0], device)

    def stretch(
        self, index: Int[Tensor, " clip"], start: Int[Tensor, " clip"], size: int, device: torch.device | str
    ) -> Batch:
        """At most `size` frames of each clip from `start` on, padded with zeros."""
        at, held = index.cpu(), self.encoded
        lengths = (self.lengths(at) - start).clamp(max=size)
        frame = torch.arange(size)
        inside = frame < lengths[:, None]
        where = torch.where(inside, (self.starts[at] + start)[:, None] + frame, 0)
        beyond = ~inside[..., None]
        tracks = None
        if held.track_values is not None:
            tracks = held.track_values[where].masked_fill(beyond, 0).to(device)
        return Batch(
            at.to(device),
            held.codes[where].masked_fill(beyond, 0).to(device),
            self.factor_values(at).to(device),
            lengths=lengths.to(device),
            tracks=tracks,
        )

    def factor_values(self, index: Int[Tensor, " clip"]) -> Float[Tensor, "clip factor"]:
        values = self.encoded.values
        return torch.zeros(len(index), 0) if values is None else values[index.cpu()]

    def group(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return index.cpu() if self.encoded.groups is None else self.encoded.groups[index.cpu()]

    def group_names(self) -> tuple[str, ...]:
        return self.encoded.group_names or super().group_names()

    def recording(self, index: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return index.cpu() if self.encoded.recordings is None else self.encoded.recordings[index.cpu()]

    def path(self, clip: int) -> str:
        return self.encoded.paths[clip] if self.encoded.paths else super().path(clip)

    def marks(self, index: Int[Tensor, " clip"]) -> list[tuple[Mark, ...]]:
        return (
            [self.encoded.marks[clip] for clip in index.tolist()] if self.encoded.marks else super().marks(index)
        )

    def identity(self, index: Int[Tensor, " clip"]) -> list[str]:
        known = self.encoded.identities
        return [known[clip] for clip in index.tolist()] if known else super().identity(index)

    def keep(self, folder: Path) -> str:
        if not (folder / FOLDER).is_dir():
            self.encoded.save(folder / FOLDER)
        return ""

    def describe(self) -> str:
        frames, codes = self.encoded.codes.shape
        return (
            f"codes of {self.encoded.source}: {len(self)} clips, {frames} frames of {codes} codes at "
            f"{self.encoded.frame_rate:g} frames a second"
        )
