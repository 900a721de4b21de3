"""Reads SynTone's data sets, without unpickling.

SynTone (Brima et al., 2024, arXiv 2402.10547) keeps `x` (clip, time), `y` (position of the waveform),
`classes` (the waveforms' names) and `metadata` (frequency, amplitude and waveform of each clip) in one
.npz file, `metadata` as a pickled dictionary; in the files of `exchange.save_syntone` it is JSON.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sonarium.worlds.contract import Batch, Factor, Signal, World
from sonarium.worlds.tones import npz

SYNTONE_KEYS = {"waveform": "waveforms", "frequency": "freqs", "amplitude": "amps"}
"""Under which keys of its metadata SynTone tells each cause."""
UNITS = {"frequency": "Hz", "amplitude": ""}


@dataclass(frozen=True)
class SyntoneFileConfig:
    path: str | None = None
    """The .npz file."""
    rate: int | None = None
    """Samples per second, where the file does not tell; else a clip is taken to last one second."""


class SyntoneFile(World):
    """Tones from an .npz file of SynTone or of `save_syntone`, held in memory in single precision.

    A cause that the file does not tell in plain numbers is left out of the factors; the waveform is
    always there.
    """

    name = "syntone-file"

    def __init__(self, config: SyntoneFileConfig) -> None:
        if config.path is None:
            raise ValueError("the world syntone-file needs the path of an .npz file: give --path FILE.npz")
        place = Path(config.path)
        with npz.open_archive(place) as archive:
            self.samples = npz.read_member(place, archive, "x", read_samples)
            clips, length = self.samples.shape
            labels = npz.read_member(place, archive, "y", read_small)
            classes = npz.read_member(place, archive, "classes", read_small)
            told = npz.read_member(place, archive, "metadata", partial(read_metadata, clips=clips))
        check_labels(place, labels, classes, clips)
        units = {factor["name"]: factor["unit"] for factor in told.get("factors", ())} or UNITS
        columns = [("waveform", "", labels)]
        for name, unit in units.items():
            if name != "waveform" and SYNTONE_KEYS.get(name, name) in told:
                columns.append((name, unit, check_column(place, name, told[SYNTONE_KEYS.get(name, name)], clips)))
        # What is the same in all clips is no cause of their differences.
        varied = [(name, unit, column) for name, unit, column in columns if len(np.unique(column)) > 1]
        names = tuple(str(label) for label in classes)
        self.factors = tuple(
            Factor(name, names if name == "waveform" else tuple(np.unique(column).tolist()), unit)
            for name, unit, column in varied
        )
        if not varied:
            raise ValueError(
                f"{place} has {clips} clip(s) whose known causes are all the same: give one that varies"
            )
        self.causes = torch.from_numpy(np.stack([column for *_, column in varied], axis=1)).float()
        # SynTone's files do not tell their rate; its clips last one second.
        self.signal = Signal("wave", (length,), config.rate or told.get("rate") or length)

    def __len__(self) -> int:
        return len(self.samples)

    def whole(self, index: Int[Tensor, " clip"], device: torch.device | str = "cpu") -> Batch:
        at = index.cpu()
        return Batch(index.to(device), self.samples[at].to(device), self.causes[at].to(device))


def load_syntone(path: str | Path, rate: int | None = None) -> SyntoneFile:
    """The world in an .npz file of SynTone or of `save_syntone`, which is never unpickled."""
    return SyntoneFile(SyntoneFileConfig(str(path), rate))


def read_samples(member: npz.Readable, shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    """The waveforms in single precision, refused if any sample is not a finite number."""
    if len(shape) != 2 or 0 in shape or dtype.kind != "f":
        raise ValueError(f"it has the shape {shape} of {dtype}, where floats (clip, time) belong: save it so")
    samples = torch.empty(shape, dtype=torch.float32)
    first = 0
    for piece in npz.read_pieces(member, shape, dtype):
        rows = samples[first : first + len(piece)]
        rows.copy_(torch.from_numpy(piece.astype(np.float32)))
        bad = torch.nonzero(~torch.isfinite(rows))
        if len(bad):
            clip, sample = first + int(bad[0, 0]), int(bad[0, 1])
            raise ValueError(f"clip {clip} is not finite at sample {sample}: mend or remove that clip")
        first += len(piece)
    return samples


def read_small(member: npz.Readable, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of whole numbers or names in one dimension."""
    if len(shape) != 1 or dtype.kind not in "iuU":
        raise ValueError(f"it has the shape {shape} of {dtype}, where a list of whole numbers or names belongs")
    return np.concatenate([np.empty(0, dtype), *npz.read_pieces(member, shape, dtype)])


def read_metadata(member: npz.Readable, shape: tuple[int, ...], dtype: np.dtype, clips: int) -> dict[str, Any]:
    """What is told of each clip: from JSON, or from the instructions of a pickle without running them."""
    if dtype.kind == "O":
        return dict(npz.numbers_in_pickle(member.read(), tuple(SYNTONE_KEYS.values()), clips))
    if dtype.kind != "U" or shape != ():
        raise ValueError(f"it has the shape {shape} of {dtype}, where one string of JSON belongs")
    told = json.loads(str(np.frombuffer(member.read(), dtype)[0]))
    if not isinstance(told, dict):
        raise ValueError(f"its JSON is a {type(told).__name__}, where an object belongs")
    return told


def check_labels(place: Path, labels: np.ndarray, classes: np.ndarray, clips: int) -> None:
    """Refuse positions of waveforms that do not fit the clips or the names."""
    if labels.shape != (clips,) or labels.dtype.kind not in "iu" or classes.dtype.kind != "U":
        raise ValueError(
            f"{place} has {clips} clips in x, {labels.shape} {labels.dtype} in y and {classes.dtype} in "
            "classes: y should hold one whole number a clip, and classes the waveforms' names"
        )
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(
            f"{place} has waveforms numbered {labels.min()} to {labels.max()} in y, and {len(classes)} names "
            "in classes: make the file again"
        )


def check_column(place: Path, name: str, numbers: Any, clips: int) -> np.ndarray:
    """One number for each clip, refused if they are fewer or not finite."""
    column = np.asarray(numbers)
    if column.shape != (clips,) or column.dtype.kind not in "iuf" or not np.isfinite(column).all():
        raise ValueError(
            f"{place} tells the {name} of its {clips} clips by an array of shape {column.shape} of "
            f"{column.dtype}, or one with numbers that are not finite: make the file again"
        )
    return column
