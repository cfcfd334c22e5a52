"""Records in one branch of the folder, by descriptor; names are derived from checked ids alone.

A record is replaced by renaming another file over it, so that whoever reads sees the one or the
other, whole. Whoever writes holds the branch's lock; so a temporary file that is there already was
left by a process that died, and is removed.

The file's time of change is set to the record's expiry, which lets a sweep pass over what lives
without reading it. It decides nothing: the record does.
"""

import os
import re
import stat

from coatcheck import record as records
from coatcheck.errors import StoreError
from coatcheck.record import Record, Unreadable
from coatcheck.stores._file.locks import sync

__all__ = [
    "check_id",
    "date",
    "is_due",
    "is_record",
    "is_temporary",
    "read",
    "remove",
    "remove_temporary",
    "replace",
]

_is_id = re.compile("[0-9a-f]{32}").fullmatch
_TEMPORARY = "."
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_NANOSECONDS = 1_000_000  # in a millisecond


def check_id(id: str) -> None:
    """Raise `StoreError` for what is no id of ours, before it reaches the file system."""
    if not isinstance(id, str) or _is_id(id) is None:
        raise StoreError(
            "FileStore: expected an id of 32 hexadecimal digits, in lower case, got something "
            "else; pass the id of a session"
        )


def is_record(name: str) -> bool:
    """Whether a file of that name is a record, or was meant to be one."""
    return _is_id(name) is not None


def is_temporary(name: str) -> bool:
    return name.startswith(_TEMPORARY) and is_record(name[len(_TEMPORARY) :])


def read(folder: int, id: str) -> Record | None:
    """The record; None where there is none, or nothing that can be read.

    Raises `NewerFormat` for that of a newer coatcheck.
    """
    data = _content(folder, id)
    if not data:
        return None
    try:
        record = records.load(data)
    except Unreadable:
        return None
    return record if record.id == id else None


def replace(folder: int, record: Record, *, durable: bool) -> None:
    """Put the record in the place of what is there; its content is on the disk, if `durable`."""
    name = _TEMPORARY + record.id
    try:
        _write(folder, name, record, durable=durable)
        os.rename(name, record.id, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        remove(folder, name)
        raise


def remove(folder: int, name: str) -> bool:
    """Whether it was there."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def remove_temporary(folder: int, id: str) -> None:
    """Remove what a process that died has left of writing that record."""
    remove(folder, _TEMPORARY + id)


def date(folder: int, record: Record) -> None:
    """Set the time of change again, where it is not the record's expiry."""
    os.utime(record.id, ns=_times(record), dir_fd=folder, follow_symlinks=False)


def is_due(file: "os.DirEntry[str]", now: int) -> bool:
    """Whether it is a record that may have expired, as far as its time of change tells."""
    if not is_record(file.name):
        return False
    try:
        return file.stat(follow_symlinks=False).st_mtime_ns <= now * _NANOSECONDS
    except FileNotFoundError:  # removed at this moment
        return False


def _times(record: Record) -> tuple[int, int]:
    time = record.expires_at * _NANOSECONDS
    return time, time


def _content(folder: int, id: str) -> bytes:
    """What the file of that id holds; nothing where it is none, such as a symbolic link or pipe."""
    try:
        file = os.open(id, _READ, dir_fd=folder)
    except FileNotFoundError:
        return b""
    except OSError:
        if stat.S_ISREG(os.lstat(id, dir_fd=folder).st_mode):
            raise
        return b""
    try:
        found = os.fstat(file)
        return os.read(file, found.st_size) if stat.S_ISREG(found.st_mode) else b""
    finally:
        os.close(file)


def _write(folder: int, name: str, record: Record, *, durable: bool) -> None:
    file = _new(folder, name)
    try:
        left = memoryview(records.dump(record))
        while left:
            left = left[os.write(file, left) :]
        os.utime(file, ns=_times(record))
        if durable:
            sync(file)
    finally:
        os.close(file)


def _new(folder: int, name: str) -> int:
    try:
        return os.open(name, _NEW, 0o600, dir_fd=folder)
    except FileExistsError:
        os.unlink(name, dir_fd=folder)
        return os.open(name, _NEW, 0o600, dir_fd=folder)
