"""Atomic writing, so that an interruption never leaves a partial file that looks complete; and safe reading.

A folder may come from an untrusted source: only regular files are read, never links, pipes or devices, and JSON
within limits of size and depth.
"""

import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

try:
    import fcntl
except ModuleNotFoundError:  # Windows has locks of its own
    fcntl = None

NO_ROOM = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or ask for a larger quota",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`), or choose a place that takes larger ones",
}
"""Remedies by errno, where a resource of the system is exhausted."""
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""Messages of libraries that raise RuntimeError in place of MemoryError."""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Errors of file systems without locks, such as some of clusters."""

UNSYNCED = (errno.EACCES, errno.EINVAL, errno.ENOTSUP)
"""Errors of Windows, which cannot open folders, and of network file systems that cannot sync them."""
LOOK_AGAIN = 0.2
"""Seconds between two attempts to lock a file."""

LONGEST_NAME = 200
"""Maximum length in bytes of a name that is extended; file systems take 255."""

LARGEST_JSON = 2**29
"""Maximum size of a JSON file in bytes; our largest, the split of a million clips, has a tenth of that."""
DEEPEST_JSON = 100
"""Maximum nesting depth of JSON; our files have fewer than twenty levels."""
LARGEST_INTEGER = 2**128
"""Bound on integers in JSON (exclusive): the states of NumPy's generators have 128 bits."""


def check_inside(folder: Path, names: Iterable[str]) -> None:
    """Raise ValueError if anything under these names in a folder, at any depth, is neither a folder nor a regular
    file: a link leads out of the folder, a pipe never ends."""
    pending = [folder / name for name in names]
    while pending:
        path = pending.pop()
        if not usable(path):
            raise ValueError(
                f"'{path}' is not a regular file or folder (a link, say), and nothing else is read or written in "
                f"'{folder}': put the file itself there, or remove it"
            )
        # A concurrent training may remove a checkpoint meanwhile.
        with suppress(FileNotFoundError, NotADirectoryError):
            pending += path.iterdir()


def usable(path: Path) -> bool:
    """Whether the path is a folder, a regular file, or does not exist."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return True
    return stat.S_ISDIR(mode) or stat.S_ISREG(mode)


def read_json(path: Path) -> Any:
    """Content of a regular JSON file; raises ValueError with the reason if it cannot be read."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is not a regular file")
    if (size := path.stat().st_size) > LARGEST_JSON:
        raise ValueError(f"it has {size} bytes, more than {LARGEST_JSON}")
    try:
        found = json.loads(path.read_bytes(), parse_int=integer)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST_JSON} levels") from None
    level, depth = [found], 0
    while level:
        depth += 1
        if depth > DEEPEST_JSON:
            raise ValueError(f"it is nested deeper than {DEEPEST_JSON} levels")
        level = [
            value
            for one in level
            if isinstance(one, dict | list)
            for value in (one.values() if isinstance(one, dict) else one)
        ]
    return found


def integer(digits: str) -> int:
    value = int(digits) if len(digits) <= 40 else LARGEST_INTEGER
    if abs(value) >= LARGEST_INTEGER:
        raise ValueError(f"an integer of {len(digits)} digits is larger than any that is written")
    return value


def sync(path: Path) -> None:
    """Flush a file or a folder to disk."""
    folder = path.is_dir()
    try:
        # Windows syncs only what is open for writing.
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not (folder and error.errno in UNSYNCED):
            raise


def lock(descriptor: int, wait: bool) -> bool:
    """Lock an open file until it is closed. Without waiting, return False if another process has locked it.

    On a file system without locks the file stays unlocked, so that work there remains possible.
    """
    if fcntl is None:
        return lock_byte(descriptor, wait)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def lock_byte(descriptor: int, wait: bool) -> bool:
    """The same on Windows, which locks ranges of bytes, also beyond the end of a file; its own waiting would fail
    after ten seconds."""
    import msvcrt

    windows: Any = msvcrt
    while True:
        try:
            windows.locking(descriptor, windows.LK_NBLCK, 1)
            return True
        except PermissionError:
            if not wait:
                return False
        time.sleep(LOOK_AGAIN)


def failure(error: BaseException) -> str:
    """Reason for a failed write and its remedy, in words."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    said = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    return f"({said}): {remedy(cause, 'choose a place that you may write to')}"


def remedy(error: BaseException, otherwise: str) -> str:
    """Remedy for a failed write if a resource is exhausted, or else `otherwise`."""
    # Libraries that are not written in Python give the system's message, but no errno.
    return next((do for number, do in NO_ROOM.items() if os.strerror(number) in str(error)), otherwise)


def out_of_memory(error: BaseException) -> bool:
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    return said or isinstance(error, MemoryError)


def remove(path: Path) -> None:
    """Delete a file, or a folder with its contents, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """Temporary path beside `target` for writing a file or a folder; on success it replaces the target."""
    name = os.fsencode(target.name)
    short = target.name if len(name) <= LONGEST_NAME else blake2b(name, digest_size=16).hexdigest()
    aside = target.with_name(f".{short}.{os.getpid()}.partial")
    try:
        with suppress(FileExistsError):
            # If a file has the name of the folder, the write below it raises a clearer error.
            target.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        for path in (*aside.rglob("*"), aside) if aside.is_dir() else (aside,):
            sync(path)
        if aside.is_dir() and target.is_dir():
            target.rmdir()
        os.replace(aside, target)
        sync(target.parent)
    except OSError as error:
        raise OSError(f"cannot write '{target}' {failure(error)}; nothing was left behind") from error
    finally:
        if os.path.lexists(aside):
            remove(aside)


def write_whole(path: Path, text: str) -> None:
    """Write a text file atomically: a reader sees the old text or the new, never a part."""
    with written_aside(path) as aside:
        aside.write_bytes(as_utf8(text))


def as_utf8(text: str) -> bytes:
    """Encode as UTF-8; bytes of file names that are not valid text become question marks."""
    return text.encode("utf-8", errors="replace")


def printable(text: str) -> str:
    """Escape unprintable characters as Python does: names of files may contain terminal escape sequences."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
