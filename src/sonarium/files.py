"""Writing so that whatever interrupts it, nothing half-written is taken for whole; and reading what others wrote.

A folder may come from a stranger: what it holds is read as plain files alone, never through a link, a pipe or a
device, and JSON within limits of size and depth.
"""

import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
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
"""What to do where the system gives no more, by the number of the error."""
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""How libraries say it, besides by Python's own error."""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What file systems say that keep no locks, as some of clusters do."""

UNSYNCED = (errno.EACCES, errno.EINVAL, errno.ENOTSUP)
"""What is said of a folder by Windows, which opens none, and by network file systems that sync none."""
LOOK_AGAIN = 0.2
"""Seconds between two attempts to lock a file."""

LARGEST_JSON = 2**29
"""Bytes of a file of JSON; the largest of ours, the split of a million clips, has a tenth."""
DEEPEST_JSON = 100
"""Objects and lists within each other; ours have fewer than twenty."""
LARGEST_INTEGER = 2**128
"""Bound of the integers in JSON: the states of NumPy's generators have 128 bits."""


def check_inside(folder: Path, names: Iterable[str]) -> None:
    """Refuse what stands under these names in a folder, with all below, unless it is folders and regular files: a
    link leads out of the folder, a pipe never ends."""
    pending = [folder / name for name in names]
    while pending:
        path = pending.pop()
        if not usable(path):
            raise ValueError(
                f"'{path}' is no regular file or folder (a link, say), and nothing else is read or written in "
                f"'{folder}': put the file itself there, or remove it"
            )
        # A training that goes on beside may remove a checkpoint meanwhile.
        with suppress(FileNotFoundError, NotADirectoryError):
            pending += path.iterdir()


def usable(path: Path) -> bool:
    """Whether there is a folder, a regular file, or nothing yet."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return True
    return stat.S_ISDIR(mode) or stat.S_ISREG(mode)


def read_json(path: Path) -> Any:
    """What a regular file of JSON holds; a ValueError says why it holds none."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is no regular file")
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
    """Have a file or a folder on the disk before going on."""
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
    """Keep other processes from locking an open file until it is closed; False if one holds it already and is not
    waited for.

    A file system that keeps no locks is no reason to refuse all work there: it goes on without.
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
    """The same on Windows, which locks bytes, also those beyond the end; waiting, it would give up after ten
    seconds."""
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
    """Why the system did not write, and what to do about it."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    said = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    return f"({said}): {remedy(cause, 'choose a place that you may write to')}"


def remedy(error: BaseException, otherwise: str) -> str:
    """What to do about an error of writing, if it is for want of room."""
    # Libraries that are not written in Python tell the system's words, but no number.
    return next((do for number, do in NO_ROOM.items() if os.strerror(number) in str(error)), otherwise)


def out_of_memory(error: BaseException) -> bool:
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    return said or isinstance(error, MemoryError)


def remove(path: Path) -> None:
    """A file or a folder with all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """A place beside `target` to write a file or a folder; it takes the target's place if all went well."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with suppress(FileExistsError):
            # Where a file bears the folder's name, writing below it says so more clearly.
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
    """A reader sees the old text or the new, never a part."""
    with written_aside(path) as aside:
        aside.write_bytes(as_utf8(text))


def as_utf8(text: str) -> bytes:
    """Names of files may hold bytes that are no text; a mark stands for each."""
    return text.encode("utf-8", errors="replace")


def printable(text: str) -> str:
    """What a terminal would obey (names of files may hold its escapes), or no font has, as Python writes it."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
