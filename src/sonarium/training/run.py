"""The run folder: all outputs of one training, from which it also resumes.

    config.json  environment.json  metrics.jsonl  clock.jsonl  checkpoints/step-N/  segments/  media/  tensorboard/
    card.md  best.json  best/step-N.safetensors      the weights that were best in validation

A checkpoint is written to a temporary folder, synced, renamed, and only then marked whole by a file of its
checksums, so that an interruption never leaves a partial checkpoint that looks whole. Data too large to rewrite at
every save (replay) is in segments, immutable files to which a checkpoint refers by name and hash.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from sonarium.files import check_inside, failure, lock, read_json, remove, sync, write_whole, written_aside
from sonarium.training.contract import Tree
from sonarium.training.state import FileSegments, own, pack, segments_in, unpack

MARK = "whole.json"
WEIGHTS, TENSORS, STATE = "weights.safetensors", "state.safetensors", "state.json"
MARKED = {WEIGHTS, TENSORS, STATE}
BEST, BEST_WEIGHTS = "best.json", "best"
"""File with step and score of the weights that were best in validation, and folder of these weights."""
NAMES = (
    "config.json", "environment.json", "metrics.jsonl", "clock.jsonl", "checkpoints", "segments", "split.json",
    "codes", "quarantine.json", "media", "tensorboard", "card.md", "scores.json", "scores-syntone.json",
    "suite.json", "forecast", BEST, BEST_WEIGHTS, ".lock",
)  # fmt: skip
"""All names that are read or written in a run folder; anything else in it is left alone."""
KEPT = 2
"""Number of complete checkpoints kept: the newest, and the one before in case the newest is damaged."""


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parsed(path: Path) -> Any:
    """A JSON file of a checkpoint; a ValueError names only the file, since callers name the checkpoint."""
    try:
        path.stat()
        return read_json(path)
    except ValueError as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file from any source; raises ValueError if it cannot be read."""
    try:
        return load_file(path)
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{path.name} is not a file of safetensors: {error}") from None


def damage(checkpoint: Path, root: Path, whole_segments: set[str]) -> str | None:
    """Fault of a checkpoint, or None if it and all required segments that it refers to are whole. Segments are
    immutable: those found whole are added to `whole_segments`, and not hashed again."""
    try:
        marks = parsed(checkpoint / MARK)
        if not isinstance(marks, dict) or marks.keys() != MARKED:
            return f"{MARK} does not name its files"
        for name, expected in marks.items():
            if digest(checkpoint / name) != expected:
                return f"{name} differs from its checksum"
        for name, expected, size, optional in segments_in(parsed(checkpoint / STATE)):
            if name in whole_segments or optional:
                continue
            if differs(root / name, expected, size):
                return f"{name} differs from its checksum"
            whole_segments.add(name)
    except FileNotFoundError as missing:
        return f"{Path(missing.filename).name} is missing"
    except ValueError as error:
        return str(error)
    except OSError as error:
        return f"{Path(error.filename or checkpoint).name} cannot be read: {error.strerror}"
    return None


def differs(segment: Path, sha256: str, size: int) -> bool:
    return segment.stat().st_size != size or digest(segment) != sha256


def optional_faults(packed: Tree, root: Path, whole_segments: set[str]) -> dict[str, str]:
    """Faults of the optional segments that a packed state refers to, by name."""
    faults: dict[str, str] = {}
    for name, expected, size, optional in segments_in(packed):
        if not optional or name in whole_segments:
            continue
        try:
            if differs(root / name, expected, size):
                faults[name] = "differs from its checksum"
            else:
                whole_segments.add(name)
        except FileNotFoundError:
            faults[name] = "is missing"
        except OSError as error:
            faults[name] = f"cannot be read: {error.strerror}"
    return faults


def difference(old: Tree, new: Tree, path: str = "") -> list[str]:
    """Differences between two configurations, one line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        lines = [
            difference(old.get(key, "absent"), new.get(key, "absent"), f"{path}.{key}" if path else key)
            for key in keys
        ]
        return [line for found in lines for line in found]
    return [] if old == new else [f"{path}: {old!r} in the folder, {new!r} now"]


def leftover(path: Path) -> bool:
    """Whether this is a partial file of a killed process."""
    return path.name.startswith(".") and path.name.endswith(".partial")


@dataclass(frozen=True)
class Best:
    """The weights that were best in validation."""

    step: int
    score: float
    sha256: str


class RunFolder:
    """One run folder, opened to train in it or to read from it."""

    def __init__(self, folder: Path, config: dict[str, Any]):
        self.folder, self.config = folder, config
        self.passed_over: list[str] = []
        """Damaged checkpoints that `load` skipped, with their faults."""
        self.left_out: list[str] = []
        """Damaged optional segments of the loaded checkpoint, with their faults."""
        self.faults: dict[Path, str | None] = {}
        """Cached fault of each checkpoint (None: whole), so that it is read and hashed once, not at every save."""
        self.whole_segments: set[str] = set()
        """Names of segments that were found whole."""

    @classmethod
    def read(cls, folder: Path) -> "RunFolder":
        path = folder / "config.json"
        if folder.is_file():
            raise ValueError(f"'{folder}' is a file, not a run folder: give the folder of a run")
        if not os.path.lexists(path):
            raise ValueError(
                f"'{folder}' is not a run folder (it has no config.json): make one with "
                f"`sonarium train MODEL --world WORLD --run {folder}`"
            )
        check_inside(folder, NAMES)
        try:
            config = read_json(path)
            if not isinstance(config, dict):
                raise ValueError("no object of JSON")
        except ValueError as error:
            raise ValueError(f"'{path}' is damaged ({error}): restore it or start a new run folder") from None
        return cls(folder, config)

    @classmethod
    def create(
        cls, folder: Path, config: dict[str, Any], upgrade: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> "RunFolder":
        """A new run, or the existing one if its configuration, in the current format, is the same."""
        config = json.loads(json.dumps(config))
        if os.path.lexists(folder / "config.json"):
            found = cls.read(folder)
            recorded = json.loads(json.dumps(upgrade(found.config)))
            if different := difference(recorded, config):
                raise ValueError(
                    f"'{folder}' holds a run of another configuration: {'; '.join(different)}. "
                    "Choose another --run folder, or the same flags to resume"
                )
            return found
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"'{folder}' is a file, not a run folder: choose an empty or new --run folder")
        if folder.exists() and not all(leftover(path) for path in folder.iterdir()):
            raise ValueError(f"'{folder}' exists and is not a run folder: choose an empty or new --run folder")
        write_whole(folder / "config.json", json.dumps(config, indent=2) + "\n")
        return cls(folder, config)

    @contextmanager
    def locked(self, here: bool = True) -> Iterator[None]:
        """Lock the folder against a second training; of several processes, only one (`here`) holds the lock."""
        if not here:
            yield
            return
        check_inside(self.folder, NAMES)
        try:
            # An existing file is not truncated, and a link is not followed.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(self.folder / ".lock", flags, 0o666)
        except OSError as error:
            raise OSError(f"cannot write in '{self.folder}' {failure(error)}") from None
        with os.fdopen(descriptor, "r+b"):
            if not lock(descriptor, wait=False):
                raise ValueError(
                    f"another process is training in '{self.folder}': wait for it, or choose another --run folder"
                )
            self.sweep()
            yield

    def sweep(self) -> None:
        """Remove partial files of a killed training, except scores, which other processes write."""
        for folder in (self.folder, *(self.folder / name for name in ("checkpoints", "media", "segments"))):
            for path in (*folder.glob(".*.partial"), *folder.glob("*/.*.partial")):
                if not path.name.startswith(".scores"):
                    remove(path)

    def checkpoints(self) -> list[Path]:
        """All checkpoints, whole or not, newest first."""
        found = (self.folder / "checkpoints").glob("step-*")
        numbered = [path for path in found if path.name.removeprefix("step-").isdecimal()]
        return sorted(numbered, key=step_of, reverse=True)

    def weights(self, step: int) -> Path:
        """The file of a checkpoint's weights."""
        return self.folder / "checkpoints" / f"step-{step}" / WEIGHTS

    def newest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return next((step_of(path) for path in self.checkpoints() if self.fault(path) is None), None)

    def fault(self, checkpoint: Path) -> str | None:
        """Fault of a checkpoint, or None if it is whole."""
        if checkpoint not in self.faults:
            self.faults[checkpoint] = damage(checkpoint, self.folder, self.whole_segments)
        return self.faults[checkpoint]

    def segments(self, name: str) -> FileSegments:
        """Append-only storage under a name."""
        return FileSegments(self.folder / "segments" / name)

    def save(self, step: int, weights: Mapping[str, Tensor], state: Tree) -> None:
        """Write a checkpoint, and remove the checkpoints and segments that it makes obsolete."""
        final = self.folder / "checkpoints" / f"step-{step}"
        aside = final.with_name(f".{final.name}.partial")
        try:
            remove(aside)
            aside.mkdir(parents=True)
            write_parts(aside, weights, state, self.folder)
            marks = {name: digest(aside / name) for name in sorted(MARKED)}
            for name in MARKED:
                sync(aside / name)
            sync(aside)
            remove(final)
            os.rename(aside, final)
            write_whole(final / MARK, json.dumps(marks, indent=2) + "\n")
            sync(final.parent)
        except (OSError, SafetensorError) as error:
            raise OSError(
                f"could not save the checkpoint of step {step} in '{final.parent}' {failure(error)}, "
                "then the same command resumes from the last complete checkpoint"
            ) from None
        finally:
            remove(aside)
        self.faults[final] = None
        self.prune()

    def save_best(self, step: int, score: float, weights: Mapping[str, Tensor]) -> None:
        """Save these weights as the best in validation, in place of the previous ones."""
        path = self.best_weights(step)
        path.parent.mkdir(exist_ok=True)
        with written_aside(path) as aside:
            aside.write_bytes(save({name: own(value) for name, value in weights.items()}))
        best = Best(step, score, digest(path))
        write_whole(self.folder / BEST, json.dumps(asdict(best), indent=2) + "\n")
        for other in path.parent.glob("step-*.safetensors"):
            if other != path:
                remove(other)

    def best(self) -> Best | None:
        """The best weights in validation so far; None if there was no validation."""
        path = self.folder / BEST
        if not path.exists():
            return None
        found = parsed(path)
        kinds = {"step": int, "score": float, "sha256": str}
        if not isinstance(found, dict) or {name: type(value) for name, value in found.items()} != kinds:
            raise ValueError(f"'{path}' is damaged: remove it, and validate again")
        return Best(**found)

    def best_weights(self, step: int) -> Path:
        return self.folder / BEST_WEIGHTS / f"step-{step}.safetensors"

    def load_best(self) -> tuple[int, dict[str, Tensor]]:
        """The step and the weights that were best in validation."""
        best = self.best()
        if best is None:
            raise ValueError(
                f"'{self.folder}' has no best weights: train it with --validation, an agent with "
                "--validation-episodes, or leave out --best"
            )
        path = self.best_weights(best.step)
        if not path.is_file() or digest(path) != best.sha256:
            raise ValueError(f"'{path}' is damaged or missing: leave out --best, and take the newest weights")
        return best.step, read_tensors(path)

    def prune(self) -> None:
        """Remove checkpoints older than the newest whole ones, and segments that none of the latter refers to."""
        kept: list[Path] = []
        for path in self.checkpoints():
            # Older ones are not checked: after resuming, that would mean hashing all their segments.
            if len(kept) < KEPT:
                kept += [path] if self.fault(path) is None else []
            elif self.faults.get(path) is None:
                remove(path)
                self.faults.pop(path, None)
        if not (self.folder / "segments").is_dir():
            return
        needed = {name for path in kept for name, *_ in segments_in(parsed(path / STATE))}
        for path in (self.folder / "segments").glob("*/*"):
            name = path.relative_to(self.folder).as_posix()
            if name not in needed:
                remove(path)
                self.whole_segments.discard(name)

    def load(self) -> tuple[int, dict[str, Tensor], Tree] | None:
        """The newest complete checkpoint: its step, weights and state."""
        self.passed_over, self.left_out = [], []
        for path in self.checkpoints():
            if fault := self.fault(path):
                self.passed_over.append(f"{path.name} is not whole ({fault})")
                continue
            try:
                packed = parsed(path / STATE)
                faults = optional_faults(packed, self.folder, self.whole_segments)
                state = unpack(packed, read_tensors(path / TENSORS), self.folder, faults)
                loaded = step_of(path), read_tensors(path / WEIGHTS), upgraded(state, step_of(path))
                self.left_out = [f"{name} {fault}" for name, fault in faults.items()]
                return loaded
            except ValueError as error:
                # The checksums are right, so another program wrote it.
                self.faults[path] = f"no training wrote it: {error}"
                self.passed_over.append(f"{path.name} is not whole ({self.faults[path]})")
        return None


def upgraded(state: Tree, step: int) -> Tree:
    """The state of a checkpoint in the current format, converted if it is of version 0.1."""
    if not isinstance(state, dict):
        raise ValueError(f"{STATE} holds no object")
    if "parts" in state:
        return state
    try:
        parts = {
            # JSON turned the integer keys of the parameters into strings.
            name: {
                **state_of_part,
                "state": {int(number): moments for number, moments in state_of_part["state"].items()},
            }
            for name, state_of_part in state["optimisers"].items()
        }
        return {
            "parts": parts,
            "engine": {"generator": state["generator"]},
            "source": {"position": step},
            "meter": state["meter"],
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{STATE} is not a state of version 0.1: {error!r}") from None


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def write_parts(folder: Path, weights: Mapping[str, Tensor], state: Tree, root: Path) -> None:
    """The three files of a checkpoint."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(pack(state, tensors, root))
    # Not with `save_file`, whose files are readable only by their owner.
    (folder / WEIGHTS).write_bytes(save({name: own(value) for name, value in weights.items()}))
    (folder / TENSORS).write_bytes(save(tensors))
    (folder / STATE).write_text(text, encoding="utf-8")


def restore_weights(module: torch.nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Load weights into a module; raises ValueError if they do not fit."""
    fault = unfit(module, weights)
    if fault is None:
        try:
            module.load_state_dict(weights)
            return
        except RuntimeError as error:
            fault = f"{' '.join(str(error).split()[:30])} …"
    raise ValueError(
        f"the weights in {where} do not fit the model of its config.json ({fault}): one of the two was "
        "changed, or another version of Sonarium wrote them; start a new run folder"
    )


def unfit(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> str | None:
    """Fault that torch would not notice, or None: weights of another dtype, or that are not finite."""
    for name, present in module.state_dict().items():
        found = weights.get(name)
        if found is None or found.shape != present.shape:
            continue
        if found.dtype != present.dtype:
            return f"{name} is of {found.dtype}, expected {present.dtype}"
        # A mask may contain −∞ from the beginning.
        if not bool((found.isfinite() | ~present.isfinite().to(found.device)).all()):
            return f"{name} holds NaN or infinite numbers"
    return None
