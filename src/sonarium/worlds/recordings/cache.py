"""Cache of decoded sound: all files of a corpus concatenated in one file.

Its name is a hash of the content of all recordings, wherever they are stored, and of the decoding settings, so
that it is never stale. An index beside it holds checksums: a damaged cache is detected and rebuilt. Both are
written under temporary names and renamed; a lock keeps two processes from doing the same work.
"""

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

from sonarium.cores import usable_cores
from sonarium.files import failure, lock, remove, write_whole, written_aside
from sonarium.worlds.audio.decoder import WORKERS, opened
from sonarium.worlds.audio.file import BadAudio, Limits
from sonarium.worlds.contract import Progress

FORMAT = 1
"""Increased whenever the format of the cache changes."""
CHECKED = 1 << 22
"""Bytes per checksum."""
AT_ONCE = 1 << 23
"""Bytes of one decoded file held in memory; a longer one is spooled to disk."""
INT16 = np.float32(2**-15)
"""Quantisation step of 16-bit integers, relative to full scale."""
Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Decoding:
    """Settings for decoding files to samples."""

    rate: int
    store: Literal["int16", "float32"]
    channel: int | None
    limits: Limits


class Entry(NamedTuple):
    """Position of one file's sound in the cache, and the header of the file."""

    offset: int
    """Position in samples."""
    length: int
    scale: float
    """Factor by which the stored numbers are multiplied."""
    rate: int
    channels: int
    form: str


def workers() -> int:
    return min(usable_cores(), 8)


def in_order(
    work: Callable[[Given], Made],
    given: Iterable[Given],
    discard: Callable[[Made], object] = lambda made: None,
    abandon: Callable[[], object] = lambda: None,
) -> Iterator[Made]:
    """Ordered map over threads with bounded look-ahead. If the consumer stops early or an error occurs, pending
    work may be abandoned, and unused results are discarded."""
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
    """Hash of the bytes from which a file's sound is decoded."""
    kind = path.suffix.lower()
    # Two suffixes decide how a file is read; other formats are recognised by their first bytes.
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
    """Decoded files, by content hash."""

    def __init__(self, path: Path, index: Mapping[str, Any]):
        self.path = path
        self.entries = {content: Entry(*fields) for content, fields in index["entries"].items()}
        self.faults: dict[str, str] = index["faults"]
        self.store: Literal["int16", "float32"] = index["decoding"]["store"]
        self.damage: str | None = None
        """What was wrong with the existing cache, if it was rebuilt."""
        self.bytes = index["bytes"]
        self.open()

    def open(self) -> None:
        self.file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.file)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In a process that was not forked, the descriptor that was pickled is of another file, or of none."""
        vars(self).update(state)
        self.open()

    def read(self, start: int, scale: float, out: Float[np.ndarray, " time"]) -> None:
        """Fill `out` with the sound from sample `start` on, multiplied by `scale`."""
        # Not memory-mapped: a file truncated meanwhile would kill the process without a message.
        stored = np.empty(len(out), np.dtype(self.store).newbyteorder("<"))
        at, left = start * stored.itemsize, stored.view(np.uint8).data
        while left:
            if not (size := self.fill(left, at)):
                raise OSError(
                    f"the cache '{self.path}' was cut short while it was read: give the same command again, which "
                    "makes it anew; a training then resumes"
                )
            at, left = at + size, left[size:]
        np.multiply(stored, np.float32(scale), out=out, casting="unsafe")

    def fill(self, part: memoryview, at: int) -> int:
        """Read into `part` from byte offset `at`, thread-safely; returns the number of bytes read."""
        try:
            return os.preadv(self.file, [part], at)
        except AttributeError:  # Windows has no positional read, and threads share the file position
            with open(self.path, "rb", buffering=0) as own:
                own.seek(at)
                return own.readinto(part) or 0


def open_cache(
    folder: Path, files: Mapping[str, Path], decoding: Decoding, progress: Progress = lambda *_: None
) -> Cache:
    """Decoded sound of these files, given by content hash; decoded now if not cached."""
    name = name_of(files, decoding)
    path = folder / f"{name}.samples"
    found = find(path, files)
    if isinstance(found, Cache):
        return found
    with locked(folder, name):
        # Another process may have built it while this one waited.
        again = find(path, files)
        if isinstance(again, Cache):
            return again
        for stale in folder.glob(f".{name}.*.partial"):
            # Its writer was killed, since this process holds the lock.
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
    """Lock this cache: one process builds it, the others wait."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / f"{name}.lock", "wb")
    except OSError as error:
        raise OSError(f"cannot keep decoded sound in '{folder}' {failure(error)}, with --cache") from None
    with file:
        lock(file.fileno(), wait=True)
        yield


def find(path: Path, files: Iterable[str]) -> Cache | str | None:
    """The cache of these files, or a description of its damage, or None if there is none."""
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
    """Decode all files into one, and write the index last; return transient faults, which it omits."""
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
    """Whether a file's content no longer has this hash, so that its samples must not be stored under it."""
    try:
        return content_of(path) != content
    except OSError:
        return True


class Decoded(NamedTuple):
    """Sound of one file, waiting to be stored."""

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
    """Sound of a file in single precision, or the fault of the file."""
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
    # 16-bit sound is stored exactly; any other sound is scaled to the full range of 16 bits.
    scale = 1.0 if decoding.store == "float32" else float(INT16) if whole or peak == 0 else peak / (2**15 - 1)
    return Decoded(spool, length, scale, (header.rate, header.channels, header.form))
