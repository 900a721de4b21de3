"""The run folder: all that one training made, and from which it resumes.

    config.json  environment.json  metrics.jsonl  checkpoints/step-N/  media/  tensorboard/  card.md

A checkpoint is written aside, synced, renamed, and only then marked whole by a file of its checksums, so
that whatever interrupts the writing, nothing half-written is taken for whole. No pickle is read or written.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sonarium.files import sync, write_whole

MARK = "whole.json"
KEPT = 2
"""Whole checkpoints that stay: the newest, and one before it in case the newest is damaged."""

Tree = Any
"""Dictionaries and lists of tensors and of what JSON can hold."""


def pack(tree: Tree, tensors: dict[str, Tensor], path: str = "") -> Tree:
    """The tree in JSON's terms, its tensors moved to `tensors` and named by where they were."""
    if isinstance(tree, Tensor):
        tensors[path] = tree.detach().cpu().contiguous()
        return {"tensor": path}
    if isinstance(tree, Mapping):
        return {str(key): pack(value, tensors, f"{path}/{key}") for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [pack(value, tensors, f"{path}/{key}") for key, value in enumerate(tree)]
    return tree


def unpack(packed: Tree, tensors: Mapping[str, Tensor]) -> Tree:
    if isinstance(packed, dict):
        if packed.keys() == {"tensor"}:
            return tensors[packed["tensor"]]
        return {key: unpack(value, tensors) for key, value in packed.items()}
    if isinstance(packed, list):
        return [unpack(value, tensors) for value in packed]
    return packed


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None if it is whole."""
    try:
        marks = json.loads((checkpoint / MARK).read_text())
        for name, expected in marks.items():
            if digest(checkpoint / name) != expected:
                return f"{name} differs from its checksum"
    except FileNotFoundError as missing:
        return f"{Path(missing.filename).name} is missing"
    except (ValueError, AttributeError):
        return f"{MARK} is not readable"
    return None


def difference(old: Tree, new: Tree, path: str = "") -> list[str]:
    """Where two configurations differ, a line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        lines = [
            difference(old.get(key, "absent"), new.get(key, "absent"), f"{path}.{key}" if path else key)
            for key in keys
        ]
        return [line for found in lines for line in found]
    return [] if old == new else [f"{path}: {old!r} in the folder, {new!r} now"]


class Run:
    """One run folder, opened to train in it or to read from it."""

    def __init__(self, folder: Path, config: dict[str, Any]):
        self.folder, self.config = folder, config
        self.passed_over: list[str] = []
        """Damaged checkpoints that a load went past, with their faults."""

    @classmethod
    def read(cls, folder: Path) -> "Run":
        path = folder / "config.json"
        if not path.is_file():
            raise ValueError(
                f"'{folder}' is no run folder (it has no config.json): make one with "
                f"`sonarium train MODEL --world WORLD --run {folder}`"
            )
        try:
            return cls(folder, json.loads(path.read_text()))
        except ValueError as error:
            raise ValueError(f"'{path}' is damaged ({error}): restore it or start a new run folder") from None

    @classmethod
    def create(cls, folder: Path, config: dict[str, Any]) -> "Run":
        """A new run, or the one that is there if its configuration is the same."""
        config = json.loads(json.dumps(config))
        if (folder / "config.json").exists():
            found = cls.read(folder)
            if different := difference(found.config, config):
                raise ValueError(
                    f"'{folder}' holds a run of another configuration: {'; '.join(different)}. "
                    "Choose another --run folder, or the same flags to resume"
                )
            return found
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"'{folder}' exists and is not a run folder: choose an empty or new --run folder")
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "media").mkdir(exist_ok=True)
        write_whole(folder / "config.json", json.dumps(config, indent=2) + "\n")
        return cls(folder, config)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Two trainings in one folder would spoil each other."""
        with open(self.folder / ".lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"another process is training in '{self.folder}': wait for it") from None
            yield

    def checkpoints(self) -> list[Path]:
        """Newest first; whole or not."""
        found = (self.folder / "checkpoints").glob("step-*")
        return sorted(found, key=lambda path: int(path.name.split("-")[1]), reverse=True)

    def save(self, step: int, weights: dict[str, Tensor], state: Tree) -> None:
        final = self.folder / "checkpoints" / f"step-{step}"
        aside = final.with_name(f".{final.name}.partial")
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir(parents=True)
            tensors: dict[str, Tensor] = {}
            text = json.dumps(pack(state, tensors))
            save_file(
                {k: v.detach().cpu().contiguous() for k, v in weights.items()}, aside / "weights.safetensors"
            )
            save_file(tensors, aside / "state.safetensors")
            write_whole(aside / "state.json", text)
            marks = {path.name: digest(path) for path in sorted(aside.iterdir())}
            for path in aside.iterdir():
                sync(path)
            sync(aside)
            shutil.rmtree(final, ignore_errors=True)
            os.rename(aside, final)
            write_whole(final / MARK, json.dumps(marks, indent=2) + "\n")
            sync(final.parent)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise OSError(
                f"could not save the checkpoint of step {step} in '{final.parent}' ({error}): free space or "
                "mend the permissions, then give the same command again to resume from the last whole checkpoint"
            ) from None
        for old in [path for path in self.checkpoints() if damage(path) is None][KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def load(self) -> tuple[int, dict[str, Tensor], Tree] | None:
        """The newest whole checkpoint: its step, weights and state."""
        self.passed_over = []
        for path in self.checkpoints():
            if fault := damage(path):
                self.passed_over.append(f"{path.name} is not whole ({fault})")
                continue
            state = unpack(json.loads((path / "state.json").read_text()), load_file(path / "state.safetensors"))
            return int(path.name.split("-")[1]), load_file(path / "weights.safetensors"), state
        return None


def restore_optimiser(optimiser: torch.optim.Optimizer, state: Tree) -> None:
    """JSON has made the numbers of the parameters into words."""
    by_number = {int(number): moments for number, moments in state["state"].items()}
    optimiser.load_state_dict({"state": by_number, "param_groups": state["param_groups"]})
