"""Corrupt run folders, as from an untrusted source: one file of a valid run is changed, and the run is used.

A change is refused in one line, or the run works as before; it never ends in a traceback, nor leads outside.
"""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sonarium.commands.faults import verdict
from sonarium.models.contract import Encoder
from sonarium.runs.build import Opened, open_run
from sonarium.training.contract import ClipSource
from sonarium.training.engine import FabricEngine
from sonarium.training.fit import Callbacks, Training

HUGE = "9" * 400
"""Placeholder of an integer of 400 digits, which is valid in JSON but larger than any machine number."""
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 7, 1.5, -0.5, 1e30, 1e308, float("nan"), float("inf"), 10**6, 10**9, 2**63, HUGE,
    "", "x", "../../x", "/etc/passwd", "\ud800", "\x00", [], [[]], [None], {}, {"a": 1}, {"type": "x"},
    {"tensor": "x"}, {"$pairs": [1]}, {"$generator": {}}, {"$segment": ["../x", "0", 1]}, {"$segment": 1},
)  # fmt: skip
DEEP = "[" * 3000 + "]" * 3000
NUMBERS = (float("nan"), float("inf"), 1e30, 0.0, -1.0)
TYPES = ("F64", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "X")
Change = tuple[str, Callable[[], None]]


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a tree of JSON."""
    if at:
        yield at
    within = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in within:
        yield from places(value, (*at, key))


def changed_json(text: str, draw: random.Random) -> tuple[str, str]:
    """JSON with a value replaced, removed or renamed, or broken as a whole, and a description of the change."""
    tree = json.loads(text)
    kind = draw.choice(("value",) * 8 + ("removed", "renamed", "whole", "cut", "deep"))
    if kind in ("cut", "deep", "whole"):
        cut = text[: draw.randrange(len(text))]
        return {"cut": cut, "deep": DEEP, "whole": json.dumps(draw.choice(VALUES))}[kind], kind
    *above, last = draw.choice(list(places(tree)))
    within = tree
    for key in above:
        within = within[key]
    value = draw.choice(VALUES)
    if kind == "value" or isinstance(within, list):
        within[last] = value
    elif kind == "removed":
        del within[last]
    else:
        within[f"{last}x"] = within.pop(last)
    said = f"{kind} {'.'.join(map(str, (*above, last)))} {'' if kind != 'value' else repr(value)[:20]}"
    return json.dumps(tree).replace(f'"{HUGE}"', HUGE), said


def changed_tensors(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """A file of safetensors with a changed header or changed numbers, and a description of the change."""
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    names = [name for name in header if name != "__metadata__"]
    kind = draw.choice(("header", "type", "renamed", "numbers", "numbers", "cast", "cut", "bytes"))
    if not names or kind == "cut":
        return content[: draw.randrange(len(content))], "cut"
    name = draw.choice(names)
    if kind == "numbers":
        begin, end = header[name]["data_offsets"]
        number = draw.choice(NUMBERS)
        if header[name]["dtype"] != "F32":
            return content, "none"
        filled = torch.full(((end - begin) // 4,), number).numpy().tobytes()
        return content[: 8 + size] + data[:begin] + filled + data[end:], f"{name} filled with {number}"
    if kind == "cast":
        from safetensors.torch import load, save

        tensors = load(content)
        dtype = draw.choice((torch.float64, torch.float16, torch.int64, torch.bool))
        tensors[name] = tensors[name].to(dtype)
        return save(tensors), f"{name} as {dtype}"
    if kind == "bytes":
        at = draw.randrange(len(content))
        return content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :], f"byte {at}"
    if kind == "type":
        header[name]["dtype"] = draw.choice(TYPES)
    elif kind == "renamed":
        header[f"{name}x"] = header.pop(name)
    else:
        text, _ = changed_json(json.dumps({name: header[name]}), draw)
        try:
            header |= json.loads(text)
        except (ValueError, RecursionError, TypeError):
            return content, "none"
    own = json.dumps(header).encode()
    return len(own).to_bytes(8, "little") + own + data, f"{kind} {name}"


def replaced(path: Path, outside: Path, draw: random.Random) -> str:
    """Replace a file by something else; return its kind."""
    kind = draw.choice(("link", "pipe", "folder", "empty", "removed", "bytes"))
    path.unlink()
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "removed":
        path.write_bytes(draw.randbytes(0 if kind == "empty" else 99))
    return kind


def sealed(path: Path) -> None:
    """Update the checksum of a changed file of a checkpoint, as whoever changed it can."""
    mark = path.parent / "whole.json"
    if path.parent.parent.name == "checkpoints" and path != mark and path.is_file() and mark.is_file():
        marks = json.loads(mark.read_text())
        marks[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        mark.write_text(json.dumps(marks))


@contextmanager
def mutant(path: Path, outside: Path, draw: random.Random) -> Iterator[str]:
    """Change one file of a run, and restore it afterwards. Yields a description of the change."""
    mark = path.parent / "whole.json"
    before = {one: one.read_bytes() for one in {path, mark} if one.is_file()}
    try:
        if draw.random() < 0.15:
            said = replaced(path, outside, draw)
        elif path.suffix == ".safetensors":
            content, said = changed_tensors(before[path], draw)
            path.write_bytes(content)
        else:
            lines = before[path].decode().splitlines() if path.suffix == ".jsonl" else [before[path].decode()]
            at = draw.randrange(len(lines))
            lines[at], said = changed_json(lines[at], draw)
            path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
        if draw.random() < 0.9:
            sealed(path)
        yield f"{path.name}: {said}"
    finally:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        for one, content in before.items():
            one.write_bytes(content)


def encode(opened: Opened) -> None:
    """Encode two clips, if the learner is an encoder."""
    if isinstance(opened.learner, Encoder):
        with torch.no_grad():
            opened.learner.encode(opened.data.world.excerpt(torch.arange(2)).signal)


def resume(opened: Opened) -> None:
    """Resume the training and take one step, without writing."""
    engine = FabricEngine("cpu", "32", opened.plan.seed)
    engine.storage = opened.run.segments
    engine.dataset_size = len(opened.source.index) if isinstance(opened.source, ClipSource) else 0
    training = Training(opened.learner, opened.source, opened.run, engine, opened.plan.loop, Callbacks())
    start = training.resume()
    training.prepare(max(start, 1), lambda: False)
    opened.learner.train()
    training.meter.add(opened.learner.update(next(opened.source), engine))
    training.meter.take(start + 1)


def use(folder: Path) -> None:
    """Open, encode and resume a run, as `score`, `encode` and `train` do."""
    opened = open_run(folder)
    encode(opened)
    resume(opened)


def fault(call: Callable[[], object]) -> BaseException | None:
    """The exception of a call that a user would see as a traceback; None if the call is refused in one line or
    succeeds."""
    try:
        call()
    except Exception as error:
        return error if verdict(error) is None else None
    return None
