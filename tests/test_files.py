"""Writing is atomic: if it is interrupted, a reader sees the old or the new file."""

import errno
import os
import sys
from types import SimpleNamespace

import pytest
from full_disk import no_room_beyond

from sonarium import files
from sonarium.files import failure, lock, remove, write_whole, written_aside


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, OSError])
def test_what_was_there_survives_a_fault(tmp_path, fault):
    target = tmp_path / "a.txt"
    write_whole(target, "old")
    with pytest.raises(fault), written_aside(target) as aside:  # noqa: PT012
        aside.write_text("half of the n")
        raise fault
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_takes_the_place_of_an_empty_one_and_of_no_other(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "old").touch()
    for name in ("empty", "new/below"):
        with written_aside(tmp_path / name) as aside:
            aside.mkdir()
            (aside / "clip").touch()
    with pytest.raises(OSError, match=r"cannot write .*full"), written_aside(tmp_path / "full") as aside:
        aside.mkdir()
    assert names(tmp_path) == ["below", "clip", "clip", "empty", "full", "new", "old"]


def test_a_name_may_be_as_long_as_file_systems_take(tmp_path):
    longest = tmp_path / ("ä" * 125 + ".json")
    write_whole(longest, "text")
    assert longest.read_text() == "text" and names(tmp_path) == [longest.name]


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    with no_room_beyond(1000):
        write_whole(tmp_path / "small", "x" * 900)
        with pytest.raises(OSError, match=r"cannot write .*large.*nothing was left behind"):
            write_whole(tmp_path / "small", "y" * 1100)
    assert (tmp_path / "small").read_text() == "x" * 900
    assert names(tmp_path) == ["small"]


def test_the_reason_decides_the_remedy():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "free some space" in failure(full)
    assert "larger quota" in failure(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "x"))
    assert "ulimit -f" in failure(OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
    assert "ulimit -f" in failure(RuntimeError("I/O error: File too large (os error 27)"))
    assert "free some space" in failure(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert "may write to" in failure(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    outer = OSError("cannot write 'x'")
    outer.__cause__ = full
    assert failure(outer) == failure(full)


def test_what_is_not_there_is_removed_without_complaint(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("link", "file", "folder", "nothing", "file/below"):
        remove(tmp_path / name)
    assert names(tmp_path) == []


def test_one_at_a_time_holds_a_lock(tmp_path):
    with open(tmp_path / "lock", "wb") as first, open(tmp_path / "lock", "wb") as second:
        assert lock(first.fileno(), wait=False)
        assert not lock(second.fileno(), wait=False)
        first.close()
        assert lock(second.fileno(), wait=True)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_worked_on_without(tmp_path, monkeypatch, number):
    def refuse(descriptor, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with open(tmp_path / "lock", "wb") as file:
        assert lock(file.fileno(), wait=False)


def test_other_faults_of_locking_are_told(tmp_path):
    with open(tmp_path / "lock", "wb") as file:
        number = file.fileno()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        lock(number, wait=True)


def test_windows_locks_bytes(tmp_path, monkeypatch):
    """Another process has the byte the first two times."""
    answers = iter([PermissionError(errno.EACCES, "Permission denied")] * 2 + [None])

    def locking(descriptor, mode, count):
        assert (mode, count) == (2, 1)
        if error := next(answers):
            raise error

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "LOOK_AGAIN", 0)
    with open(tmp_path / "lock", "wb") as file:
        assert not lock(file.fileno(), wait=False)
        assert lock(file.fileno(), wait=True)
    assert next(answers, "asked until it had it") == "asked until it had it"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL])
def test_a_folder_that_cannot_be_synced_is_left_to_the_system(tmp_path, monkeypatch, number):
    """As Windows, which opens no folder and syncs only what is open for writing, or as some network drives."""
    opened, synced = os.open, []

    def open_no_folder(path, flags):
        if os.path.isdir(path):
            raise OSError(number, os.strerror(number), path)
        assert flags & os.O_RDWR
        synced.append(os.path.basename(path))
        return opened(path, flags)

    with written_aside(tmp_path / "folder") as aside:
        aside.mkdir()
        (aside / "file").write_text("text")
        monkeypatch.setattr(os, "open", open_no_folder)
    assert (tmp_path / "folder" / "file").read_text() == "text"
    assert synced == ["file"]


def test_a_file_that_cannot_be_synced_is_not_written(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="cannot write"):
        write_whole(tmp_path / "file", "text")
    assert names(tmp_path) == []
