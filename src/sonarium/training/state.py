"""State as files: trees of tensors, arrays and numbers as JSON beside tensors, and immutable segments.

No pickle is read or written.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_arrays
from torch import Tensor

from sonarium.files import failure, sync
from sonarium.training.contract import Tree

TAGS = {"tensor", "$array", "$generator", "$segment", "$pairs"}
"""Keys of one-key JSON objects that stand for types that JSON lacks."""


@dataclass(frozen=True)
class FileSegment:
    """Arrays in one immutable file."""

    path: Path
    sha256: str
    bytes: int
    optional: bool = False
    """Whether its checkpoint is valid without it."""
    fault: str | None = None
    """Damage to an optional segment found when its checkpoint was read, or None."""

    def load(self) -> dict[str, np.ndarray]:
        """The arrays, memory-mapped."""
        try:
            # Raises for a header that does not fit its file.
            with safe_open(self.path, "np"):
                pass
        except SafetensorError as error:
            raise ValueError(f"'{self.path}' is not a file of safetensors ({error}): restore it") from None
        with open(self.path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        if unknown := {array["dtype"] for name, array in header.items() if name != "__metadata__"} - KINDS.keys():
            raise ValueError(
                f"'{self.path}' has arrays of {', '.join(unknown)}, which no segment holds: restore it"
            )
        return {
            name: np.memmap(
                self.path, KINDS[array["dtype"]], "r", 8 + size + array["data_offsets"][0], tuple(array["shape"])
            )
            if np.prod(array["shape"])
            else np.zeros(array["shape"], KINDS[array["dtype"]])
            for name, array in header.items()
            if name != "__metadata__"
        }


KINDS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "?",
}  # fmt: skip
"""NumPy dtypes by their names in safetensors."""


class FileSegments:
    """Append-only storage in a folder of a run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def append(self, arrays: Mapping[str, np.ndarray], optional: bool = False) -> FileSegment:
        content = save_arrays({name: np.asarray(array, order="C") for name, array in arrays.items()})
        sha256 = hashlib.sha256(content).hexdigest()
        path = self.folder / f"{sha256[:32]}.safetensors"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # An existing file may be damaged.
            if not path.exists() or path.read_bytes() != content:
                aside = path.with_name(f".{path.name}.partial")
                aside.write_bytes(content)
                sync(aside)
                os.replace(aside, path)
                sync(self.folder)
        except OSError as error:
            raise OSError(
                f"cannot write '{path}' {failure(error)}, then the same command resumes from the last checkpoint"
            ) from None
        return FileSegment(path, sha256, len(content), optional)


def pack(tree: Tree, tensors: dict[str, Tensor], root: Path, path: str = "") -> Tree:
    """The tree as JSON values, with its tensors and arrays moved to `tensors` under their paths in the tree."""
    if isinstance(tree, Tensor | np.ndarray):
        assert path not in tensors, f"two tensors would be named {path}"
        array = isinstance(tree, np.ndarray)
        if array and tree.dtype.kind not in "biuf":
            raise unable(path, f"is an array of {tree.dtype}")
        tensors[path] = own(torch.from_numpy(np.array(tree)) if array else tree)
        return {"$array" if array else "tensor": path}
    if isinstance(tree, FileSegment):
        assert tree.path.exists(), (
            f"{tree.path} of {path} was removed, for the last checkpoints did not refer to it"
        )
        kept = [tree.path.relative_to(root).as_posix(), tree.sha256, tree.bytes]
        return {"$segment": [*kept, True] if tree.optional else kept}
    if isinstance(tree, np.random.Generator):
        return {"$generator": pack(tree.bit_generator.state, tensors, root, f"{path}/generator")}
    if isinstance(tree, Mapping):
        if not all(isinstance(key, str) for key in tree):
            if wrong := [key for key in tree if not (key is None or isinstance(key, str | int | float))]:
                raise unable(path, f"has a {type(wrong[0]).__name__} as a key")
            pairs = [[key, value] for key, value in tree.items()]
            return {"$pairs": pack(pairs, tensors, root, path)}
        assert len(tree) != 1 or not tree.keys() & TAGS, f"{path} has the one key {list(tree)}, which is reserved"
        return {key: pack(value, tensors, root, f"{path}/{key}") for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [pack(value, tensors, root, f"{path}/{key}") for key, value in enumerate(tree)]
    if isinstance(tree, np.generic):
        return tree.item()
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise unable(path, f"is a {type(tree).__name__}")


def unable(path: str, what: str) -> TypeError:
    return TypeError(
        f"the state at {path or '/'} {what}, which no checkpoint can keep: give tensors, arrays, numbers, "
        "strings, NumPy generators, segments, and dictionaries or lists of them"
    )


def own(tensor: Tensor) -> Tensor:
    """A copy that shares no memory with another tensor, which safetensors would reject."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def unpack(
    packed: Tree, tensors: Mapping[str, Tensor], root: Path, faults: Mapping[str, str] = MappingProxyType({})
) -> Tree:
    """Inverse of `pack`; tuples come back as lists. Raises ValueError for anything that `pack` does not write.
    `faults` are those of optional segments, by name."""
    if isinstance(packed, list):
        return [unpack(value, tensors, root, faults) for value in packed]
    if not isinstance(packed, dict):
        return packed
    if len(packed) == 1 and packed.keys() <= TAGS:
        [(tag, value)] = packed.items()
        if tag in ("tensor", "$array"):
            return tensor_of(value, tensors) if tag == "tensor" else array_of(tensor_of(value, tensors), value)
        if tag == "$segment":
            name, sha256, size, optional = checked_segment(value)
            return FileSegment(root / name, sha256, size, optional, faults.get(name))
        tree = unpack(value, tensors, root, faults)
        return pairs_of(tree) if tag == "$pairs" else generator_of(tree)
    return {key: unpack(value, tensors, root, faults) for key, value in packed.items()}


def tensor_of(name: Tree, tensors: Mapping[str, Tensor]) -> Tensor:
    if not isinstance(name, str) or name not in tensors:
        raise ValueError(f"it refers to the tensor {name!r:.60}, which is not saved beside it")
    return tensors[name]


def array_of(tensor: Tensor, name: str) -> np.ndarray:
    try:
        return tensor.numpy()
    except TypeError:
        raise ValueError(f"the array '{name}' is of {tensor.dtype}, which no array is") from None


def pairs_of(tree: Tree) -> dict[Any, Any]:
    """Dictionary with any keys, not only strings, from a list of pairs."""
    pairs: list[Any] = tree if isinstance(tree, list) else [None]
    if not all(isinstance(pair, list) and len(pair) == 2 and is_key(pair[0]) for pair in pairs):
        raise ValueError(f"its $pairs are {tree!r:.60}, expected pairs of a key and a value")
    return dict(pairs)


def is_key(value: Tree) -> bool:
    return value is None or isinstance(value, str | int | float)


def generator_of(state: Tree) -> np.random.Generator:
    """NumPy generator in a saved state."""
    kinds = (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)
    known = {kind.__name__: kind for kind in kinds}
    try:
        bits: Any = known[state["bit_generator"]]()
        bits.state = state
    except (KeyError, TypeError, ValueError, OverflowError, IndexError) as error:
        raise ValueError(f"it holds a random state that is none of NumPy's: {error!r:.60}") from None
    return np.random.Generator(bits)


SEGMENT = re.compile(r"segments/(?!\.)[^/\x00]+/[0-9a-f]{32}\.safetensors")
"""Pattern of the names of segments in a run folder, which no file outside matches."""


def checked_segment(value: Tree) -> tuple[str, str, int, bool]:
    """Name, hash and size of a packed segment, and whether it is optional; raises ValueError if malformed."""
    if isinstance(value, list) and (len(value) == 3 or (len(value) == 4 and value[3] is True)):
        name, sha256, size = value[:3]
        if isinstance(name, str) and SEGMENT.fullmatch(name) and isinstance(sha256, str) and type(size) is int:
            return name, sha256, size, len(value) == 4
    raise ValueError(
        f"it refers to the segment {value!r:.60}, expected segments/NAME/HASH.safetensors, hash and size"
    )


def segments_in(packed: Tree) -> Iterator[tuple[str, str, int, bool]]:
    """Name, hash and size of each segment that a packed tree refers to, and whether it is optional."""
    if isinstance(packed, list):
        for value in packed:
            yield from segments_in(value)
    elif isinstance(packed, dict):
        if packed.keys() == {"$segment"}:
            yield checked_segment(packed["$segment"])
        else:
            for value in packed.values():
                yield from segments_in(value)
