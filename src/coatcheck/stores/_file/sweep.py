"""What a `FileStore` no longer needs, removed: what expired, and what crashes left over.

A round goes through all branches, starting where the last one stopped. It looks at the files' times
without opening any, reads those that may have expired, and removes them one by one, each under its
branch's lock; so nobody waits for a sweep, and it passes over what others keep busy. Records of a
newer coatcheck are left alone. A round that found less than it was allowed to remove goes through
the index as well, for entries whose session is not there and for marks that lapsed; it counts
neither.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from itertools import islice
from typing import TypeAlias

from coatcheck.record import NewerFormat
from coatcheck.stores._file import records, subjects
from coatcheck.stores._file.folder import BRANCHES, INDEX, Folder, below
from coatcheck.stores._file.locks import Busy

__all__ = ["Sweep"]

_Turn: TypeAlias = Callable[[int, str], AbstractContextManager[int | None]]


class Sweep:
    """Remembers where it stopped. Two at once are fine."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._at = 0

    def run(self, limit: int, now: int) -> int:
        """How many records it removed: at most `limit`.

        Raises `StoreUnavailable` where it removed none, and could not get at one.
        """
        removed, start, busy = 0, self._at, None
        with self._folder.opened() as root:
            for step in range(len(BRANCHES)):
                if removed >= limit:
                    return removed
                self._at = (start + step) % len(BRANCHES)
                try:
                    for _ in self._removals(root, BRANCHES[self._at], limit - removed, now):
                        removed += 1
                except Busy as error:
                    busy = error
            self._sweep_index(root)
            self._sweep_marks(root, now)
        if busy is not None and not removed:
            raise busy
        return removed

    def _removals(self, root: int, name: str, most: int, now: int) -> Iterator[str]:
        """Each record of a branch that it removed."""
        found = _candidates(root, name, now)
        gone = (each for each in found if self._remove(root, each, now, self._folder.turn))
        return islice(gone, most)

    def _remove(self, root: int, id: str, now: int, turn: _Turn) -> bool:
        """Under the lock, where nothing is written at this moment: any temporary file is left over.

        False where the record lives.
        """
        with turn(root, id[:2]) as folder:
            if folder is None:
                return False
            records.remove_temporary(folder, id)
            try:
                record = records.read(folder, id)
            except NewerFormat:
                return False
            if record is not None and record.expires_at > now:
                records.date(folder, record)  # as after a restored backup
                return False
            existed = records.remove(folder, id)
            if record is not None:
                subjects.discard(root, record)
            return existed

    def _sweep_index(self, root: int) -> None:
        for branch in BRANCHES:
            for name, session in subjects.entries(root, branch):
                if not _exists(root, session):
                    with suppress(Busy):
                        self._remove_entry(root, name, session)

    def _sweep_marks(self, root: int, now: int) -> None:
        with below(root, INDEX) as index:
            if index is None:
                return
            found = (each for branch in BRANCHES for each in _candidates(index, branch, now))
            for digest in found:
                with suppress(Busy):
                    self._remove(root, digest, now, self._folder.index_turn)

    def _remove_entry(self, root: int, name: str, id: str) -> None:
        """Unless the session came meanwhile: its entry is there before it."""
        with self._folder.turn(root, id[:2]) as folder:
            if folder is None or not _exists(root, id):
                subjects.remove(root, name)


def _candidates(root: int, name: str, now: int) -> list[str]:
    """The ids of a branch whose record may have expired, or whose temporary file is there."""
    with below(root, name) as folder:
        if folder is None:
            return []
        with os.scandir(folder) as files:
            return [found for file in files if (found := _candidate(file, now)) is not None]


def _candidate(file: "os.DirEntry[str]", now: int) -> str | None:
    if records.is_temporary(file.name):
        return file.name[1:]
    return file.name if records.is_due(file, now) else None


def _exists(root: int, id: str) -> bool:
    try:
        os.stat(f"{id[:2]}/{id}", dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
