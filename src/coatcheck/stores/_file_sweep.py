"""What a `FileStore` no longer needs, removed: what expired, and what crashes left over.

A round goes through all branches, starting where the last one stopped. It looks at the files' times
without opening any, reads those that may have expired, and removes them one by one, each under its
branch's lock; so nobody waits for a sweep. Records of a newer coatcheck are left alone. A round
that found less than it was allowed to remove goes through the index as well, for entries whose
session is not there.
"""

import os
from collections.abc import Iterator

from coatcheck.record import NewerFormat
from coatcheck.stores import _file_records, _file_subjects
from coatcheck.stores._file_folder import BRANCHES, Folder, below

__all__ = ["Sweep"]


class Sweep:
    """Remembers where it stopped. Two at once are fine."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._at = 0

    def run(self, limit: int, now: int) -> int:
        """How many records it removed: at most `limit`."""
        removed = 0
        with self._folder.opened() as root:
            start = self._at
            for step in range(len(BRANCHES)):
                if removed >= limit:
                    return removed
                self._at = (start + step) % len(BRANCHES)
                removed += self._sweep_branch(root, BRANCHES[self._at], limit - removed, now)
            self._sweep_index(root)
        return removed

    def _sweep_branch(self, root: int, name: str, limit: int, now: int) -> int:
        removed = 0
        for each in list(_candidates(root, name, now)):
            if removed >= limit:
                break
            removed += self._remove(root, each, now)
        return removed

    def _remove(self, root: int, id: str, now: int) -> bool:
        """Under the lock, where nothing is written at this moment: any temporary file is left over.

        False where the record lives.
        """
        with self._folder.turn(root, id[:2]) as folder:
            if folder is None:
                return False
            _file_records.remove_temporary(folder, id)
            try:
                record = _file_records.read(folder, id)
            except NewerFormat:
                return False
            if record is not None and record.expires_at > now:
                _file_records.date(folder, record)  # as after a restored backup
                return False
            existed = _file_records.remove(folder, id)
            if record is not None:
                _file_subjects.discard(root, record)
            return existed

    def _sweep_index(self, root: int) -> None:
        for branch in BRANCHES:
            for name, session in _file_subjects.entries(root, branch):
                if not _exists(root, session):
                    self._remove_entry(root, name, session)

    def _remove_entry(self, root: int, name: str, id: str) -> None:
        """Unless the session came meanwhile: its entry is there before it."""
        with self._folder.turn(root, id[:2]) as folder:
            if folder is None or not _exists(root, id):
                _file_subjects.remove(root, name)


def _candidates(root: int, name: str, now: int) -> Iterator[str]:
    """The ids of a branch whose record may have expired, or whose temporary file is there."""
    with below(root, name) as folder:
        if folder is None:
            return
        with os.scandir(folder) as files:
            for file in files:
                if _file_records.is_temporary(file.name):
                    yield file.name[1:]
                elif _file_records.is_record(file.name) and _file_records.is_due(file, now):
                    yield file.name


def _exists(root: int, id: str) -> bool:
    try:
        os.stat(f"{id[:2]}/{id}", dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
