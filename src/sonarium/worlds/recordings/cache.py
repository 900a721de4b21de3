"""The cache of decoded sound: all files of a corpus one behind the other in one file.

The name of the file is a hash of the content of all recordings, wherever they lie, and of how they were decoded,
so that it is never stale. Beside it lies an index with checksums: a damaged cache is found and rebuilt. Both are
written aside and renamed; a lock keeps two processes from doing the same work.
"""

import fcntl
import hashlib
import json
import os
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Literal, NamedTuple, TypeVar

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

from sonarium.files import failure, remove, write_whole, written_aside
from sonarium.worlds.audio.decoder import WORKERS, opened
from sonarium.worlds.audio.file import BadAudio, Limits
from sonarium.worlds.contract import Progress

FORMAT = 1
"""Raised whenever the format of the cache changes."""
CHECKED = 1 << 22
"""Bytes under one checksum."""
AT_ONCE = 1 << 23
"""Bytes of one decoded file held in memory; the rest of a longer one waits on the disk."""
INT16 = np.float32(2**-15)
"""One step of a 16-bit integer, where full scale is 1."""
Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Decoding:
    """How files become samples."""

    rate: int
    store: Literal["int16", "float32"]
    channel: int | None
    limits: Limits


class Entry(NamedTuple):
    """Where one file's sound lies in the cache, and the header of the file."""

    offset: int
    """In samples."""
    length: int
    scale: float
    """Factor of the stored numbers."""
    rate: int
    channels: int
    form: str


def workers() -> int:
    return min(os.cpu_count() or 1, 8)


def in_order(
    work: Callable[[Given], Made],
    given: Iterable[Given],
    discard: Callable[[Made], object] = lambda made: None,
    abandon: Callable[[], object] = lambda: None,
) -> Iterator[Made]:
    """Map with threads, in order, never far ahead of whoever takes the results; results that are not taken any
    more are discarded, and their work may be abandoned."""
    with ThreadPoolExecutor(workers()) as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for one in given:
                waiting.append(pool.submit(work, one))
                if len(waiting) > workers():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            abandon()
            raise
        finally:
            for future in waiting:
                if not future.cancel() and future.exception() is None:
                    discard(future.result())


def content_of(path: Path) -> str:
    """A hash of the bytes that a file's sound is decoded from."""
    kind = path.suffix.lower()
    # Two endings decide how a file is read; the other formats are known by their first bytes.
    digest = hashlib.blake2b(kind.encode() if kind in (".cbin", ".mp3") else b"", digest_size=16)
    for part in (path, path.with_suffix(".rec")) if kind == ".cbin" else (path,):
        if part == path or part.is_file():
            with open(part, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def default_folder() -> Path:
    """The user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sonarium" / "recordings"


class Cache:
    """Decoded files by their content."""

    def __init__(self, path: Path, index: Mapping[str, Any]):
        self.path = path
        self.entries = {content: Entry(*fields) for content, fields in index["entries"].items()}
        self.faults: dict[str, str] = index["faults"]
        self.store: Literal["int16", "float32"] = index["decoding"]["store"]
        self.damage: str | None = None
        """What was wrong with the cache that was found, if it was rebuilt."""
        self.bytes, self.file = index["bytes"], os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.file)

    def read(self, start: int, scale: float, out: Float[np.ndarray, " time"]) -> None:
        """Fill `out` with the sound that begins at this sample."""
        # Not mapped into memory: a file that is cut short would end the process there, without a word.
        stored = np.empty(len(out), np.dtype(self.store).newbyteorder("<"))
        at, left = start * stored.itemsize, stored.view(np.uint8).data
        while left:
            if not (size := os.preadv(self.file, [left], at)):
                raise OSError(
                    f"the cache '{self.path}' was cut short while it was read: give the same command again, which "
                    "makes it anew; a training then resumes"
                )
            at, left = at + size, left[size:]
        np.multiply(stored, np.float32(scale), out=out, casting="unsafe")


def open_cache(
    folder: Path, files: Mapping[str, Path], decoding: Decoding, progress: Progress = lambda *_: None
) -> Cache:
    """The decoded sound of these files, given by their content; decoded now if it was not before."""
    name = name_of(files, decoding)
    path = folder / f"{name}.samples"
    found = find(path, files)
    if isinstance(found, Cache):
        return found
    with locked(folder, name):
        # Another process may have made it while this one waited.
        again = find(path, files)
        if isinstance(again, Cache):
            return again
        for stale in folder.glob(f".{name}.*.partial"):
            # Whoever wrote it was killed, for the lock is ours.
            remove(stale)
        passing = build(path, files, decoding, progress)
        made = find(path, [content for content in files if content not in passing])
    if not isinstance(made, Cache):
        raise OSError(f"the cache '{path}' was written, but is not as it was written ({made}): check that disk")
    made.damage = again
    made.faults |= passing
    return made


def name_of(files: Iterable[str], decoding: Decoding) -> str:
    versions = [soundfile.__libsndfile_version__, soxr.__version__]
    key = json.dumps([FORMAT, versions, asdict(decoding), sorted(files)])
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """One process at a time builds this cache; the others wait for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / f"{name}.lock", "w")
    except OSError as error:
        raise OSError(f"cannot keep decoded sound in '{folder}' {failure(error)}, with --cache") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def find(path: Path, files: Iterable[str]) -> Cache | str | None:
    """The cache of these files, or what is wrong with it, or None."""
    listing = path.with_suffix(".json")
    if not listing.exists():
        return None
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
        index = content["index"]
        if content["checksum"] != checksum(index):
            return "its index was altered"
        if not path.is_file() or path.stat().st_size != index["bytes"]:
            return "its samples are not as many as they were"
        if list(in_order(lambda at: crc(path, at), range(0, index["bytes"], CHECKED))) != index["blocks"]:
            return "its samples were altered"
        cache = Cache(path, index)
        lacking = set(files) - cache.entries.keys() - cache.faults.keys()
        return f"it lacks {len(lacking)} file(s) that could not be read at that time" if lacking else cache
    except (ValueError, KeyError, TypeError) as error:
        return f"its index cannot be read ({error})"


def checksum(index: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(index, sort_keys=True).encode(), digest_size=16).hexdigest()


def crc(path: Path, at: int) -> int:
    with open(path, "rb") as file:
        file.seek(at)
        return zlib.crc32(file.read(CHECKED))


def build(path: Path, files: Mapping[str, Path], decoding: Decoding, progress: Progress) -> dict[str, str]:
    """Decode all files into one, and write the index last; returns faults that may pass, which are not in it."""
    entries: dict[str, Entry] = {}
    faults: dict[str, str] = {}
    passing: dict[str, str] = {}
    offset, blocks = 0, []

    def drop(made: tuple[str, "Decoded | BadAudio"]) -> None:
        if isinstance(made[1], Decoded):
            made[1].spool.close()

    def decode_one(given: tuple[str, Path]) -> tuple[str, "Decoded | BadAudio"]:
        content, source = given
        made = decode(source, decoding, path.parent)
        if changed(source, content):
            drop((content, made))
            raise ValueError(f"'{source}' was changed while it was read: run the same again when it is at rest")
        return content, made

    with written_aside(path) as aside, open(aside, "wb") as file:
        for content, made in in_order(decode_one, files.items(), drop, WORKERS.abandon):
            if isinstance(made, BadAudio):
                (passing if made.passing else faults)[content] = made.reason
            else:
                with made.spool:
                    entries[content] = Entry(offset, made.length, made.scale, *made.about)
                    for block in made.stored(decoding.store):
                        file.write(block)
                offset += made.length
            progress("decoding files", len(entries) + len(faults) + len(passing), len(files))
        file.flush()
        blocks = [crc(aside, at) for at in range(0, file.tell(), CHECKED)]
        size = file.tell()
    index = {"decoding": asdict(decoding), "bytes": size, "blocks": blocks, "entries": entries, "faults": faults}
    write_whole(path.with_suffix(".json"), json.dumps({"checksum": checksum(index), "index": index}))
    return passing


def changed(path: Path, content: str) -> bool:
    """Whether a file is no longer what was hashed: what came of it must not be kept under that name."""
    try:
        return content_of(path) != content
    except OSError:
        return True


class Decoded(NamedTuple):
    """One file's sound, waiting to be stored."""

    spool: IO[bytes]
    length: int
    scale: float
    about: tuple[int, int, str]

    def stored(self, store: Literal["int16", "float32"]) -> Iterator[bytes]:
        self.spool.seek(0)
        while block := self.spool.read(AT_ONCE):
            samples = np.frombuffer(block, "<f4")
            yield np.rint(samples / np.float32(self.scale)).astype("<i2").tobytes() if store == "int16" else block


def decode(path: Path, decoding: Decoding, folder: Path) -> Decoded | BadAudio:
    """A file's sound in single precision; or what is wrong with the file."""
    spool: Any = SpooledTemporaryFile(max_size=AT_ONCE, dir=str(folder))
    length, peak, whole = 0, 0.0, True
    try:
        with opened(path, decoding.rate, decoding.channel, decoding.limits) as (header, blocks):
            for block in blocks:
                steps = block / INT16
                whole = whole and bool(((steps == np.rint(steps)) & (steps >= -(2**15)) & (steps < 2**15)).all())
                peak = max(peak, float(np.abs(block).max(initial=0)))
                length += len(block)
                spool.write(block.data)
    except BadAudio as error:
        spool.close()
        return error
    except BaseException:
        spool.close()
        raise
    # 16-bit sound is stored exactly, any other scaled to the full range of 16 bits.
    scale = 1.0 if decoding.store == "float32" else float(INT16) if whole or peak == 0 else peak / (2**15 - 1)
    return Decoded(spool, length, scale, (header.rate, header.channels, header.form))
