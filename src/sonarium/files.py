"""Writing so that whatever interrupts it, nothing half-written is taken for whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync(path: Path) -> None:
    """Have a file or a folder on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """A place beside `target` to write a file or a folder; it takes the target's place if all went well."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        sync(aside)
        if aside.is_dir() and target.is_dir():
            target.rmdir()
        os.replace(aside, target)
    except OSError as error:
        raise OSError(
            f"cannot write '{target}' ({error.strerror or error}): free some space there, or choose a place "
            "that you may write to; nothing was left behind"
        ) from error
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        elif aside.exists():
            aside.unlink()


def write_whole(path: Path, text: str) -> None:
    """A reader sees the old text or the new, never a part."""
    with written_aside(path) as aside:
        aside.write_text(text)
