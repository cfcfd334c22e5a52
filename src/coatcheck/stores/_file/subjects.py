"""The index by subject: an empty file for each session that has one.

Its name is the subject's digest and the session's id. It is there before the record has that
subject, and goes after the record lost it, both under the lock of the record's branch. So whoever
looks for a subject finds every session of theirs, and at times one that is not: the record decides.
An entry that a crash left over is removed by a sweep. A subject's mark lies beside their entries,
and is none (see `logins`).
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from coatcheck.record import Record
from coatcheck.stores._file.folder import INDEX, below, make
from coatcheck.stores._file.locks import sync
from coatcheck.stores._file.records import is_record

__all__ = ["add", "digest", "discard", "entries", "find", "grow", "remove"]

_EMPTY = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def digest(subject: str) -> str:
    """By which a subject is named here."""
    return hashlib.blake2b(subject.encode(), digest_size=16, person=b"coatcheck files").hexdigest()


def add(root: int, record: Record, *, durable: bool) -> None:
    """Enter the record under its subject; adding it again is fine."""
    name = _name(record)
    if name is None:
        return
    if not _enter(root, name, durable=durable):
        grow(root, name[:2])
        if not _enter(root, name, durable=durable):
            raise FileNotFoundError(errno.ENOENT, "the index was removed at this moment")


def grow(root: int, branch: str) -> None:
    """Make that branch where it is missing."""
    make(root, INDEX)
    with below(root, INDEX) as index:
        if index is not None:
            make(index, branch)


def discard(root: int, record: Record) -> None:
    """Take out the entry of a record that is gone, or is another subject's by now."""
    name = _name(record)
    if name is not None:
        remove(root, name)


def find(root: int, subject: str) -> list[str]:
    """The ids of every session that may be that subject's."""
    theirs = digest(subject)
    return [each for of, each in _split(_names(root, theirs[:2])) if of == theirs]


def entries(root: int, branch: str) -> Iterator[tuple[str, str]]:
    """Each entry of a branch: its name, and the id of its session."""
    for of, each in _split(_names(root, branch)):
        yield f"{of}-{each}", each


def remove(root: int, name: str) -> None:
    """Removing nothing is fine."""
    with _branch(root, name[:2]) as branch:
        if branch is not None:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=branch)


def _enter(root: int, name: str, *, durable: bool) -> bool:
    """False where its branch is missing."""
    with _branch(root, name[:2]) as branch:
        if branch is None:
            return False
        os.close(os.open(name, _EMPTY, 0o600, dir_fd=branch))
        if durable:
            sync(branch)
        return True


@contextmanager
def _branch(root: int, name: str) -> Iterator[int | None]:
    with below(root, INDEX) as index:
        if index is None:
            yield None
            return
        with below(index, name) as branch:
            yield branch


def _names(root: int, branch: str) -> list[str]:
    with _branch(root, branch) as folder:
        return [] if folder is None else os.listdir(folder)


def _split(names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        of, _, session = name.partition("-")
        if is_record(of) and is_record(session):
            yield of, session


def _name(record: Record) -> str | None:
    return None if record.subject is None else f"{digest(record.subject)}-{record.id}"
