"""Logins: what a subject's not-before mark and limit let in.

A login is decided under the lock of its subject's branch of the index, and written under those of
the branches that it changes: its own, and those of the sessions that end for it. All of them are
taken before anything is changed, so that `Busy` says, here too, that nothing was begun. Whoever
reads takes none, and may for a moment see a login beside the sessions that end for it.

**No deadlock.** Locks have one order: those of the index, then those of branches by their names. A
login takes one of the former and then some of the latter in that order; everybody else holds one
lock at a time. So whoever waits for a lock holds earlier ones alone, and nobody waits in a circle.

**Crashes.** First comes the entry in the index, then the record, then the ends. What a crash leaves
of that was never answered, so nobody has the login's cookie: an entry without a record is removed
by a sweep, and a session that should have ended is by the subject's next login. The disk has the
record's content before its name, and all names before the call returns; what a power cut kept of
them is one of the above.

**Marks** are records by themselves: `id` is the subject's digest, `seen_at` the moment that the
mark names, `payload` the id that it keeps, and `expires_at` when it lapses. So a mark is replaced
whole, dated for sweeps, left alone where it is of a newer coatcheck, and absent where it cannot be
read, by the same code as a session. Its subject's lock is held meanwhile.
"""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from coatcheck import patience
from coatcheck.errors import Collision
from coatcheck.record import Record
from coatcheck.store import FORBIDDEN, FULL, GONE, Entered, Entry, Forbidden, Full, Gone
from coatcheck.stores._admission import Mark, surplus
from coatcheck.stores._file import pairs, records, subjects
from coatcheck.stores._file.folder import INDEX, Folder, below
from coatcheck.stores._file.locks import sync

__all__ = ["Logins"]

R = TypeVar("R", Forbidden, Full)


class Logins:
    """Two at once are fine."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Entered | Forbidden | Full | Gone | Record:
        records.check_id(record.id)
        subject = record.subject or ""
        with (
            patience.limit(patience.left(self._folder.timeout)),  # for all turns together
            self._folder.opened() as root,
            ExitStack() as afterwards,  # when others have their turn already
            self._turn(root, subject) as index,
        ):
            mark = _mark(index, subject)
            if mark is not None and mark.forbids(record.id, entry.opened_at, now):
                return self._refused(root, record, afterwards, FORBIDDEN)
            too_old = surplus(record, _others(root, record, now), entry, now)
            if too_old is FULL:
                # A limit refuses only what could else be written.
                found = pairs.load(root, record.id, now)
                other = _other(found, record, expected, now)
                return other or self._refused(root, record, afterwards, FULL)
            return self._enter(root, record, expected, too_old, afterwards, now)

    def forbid(self, subject: str, mark: Mark, now: int) -> None:
        with (
            self._folder.opened() as root,
            self._turn(root, subject, durable=True) as index,
        ):
            found = _mark(index, subject)
            counts = mark if found is None else found.followed_by(mark, now)
            records.replace(index, _as_record(subject, counts), durable=True)

    @contextmanager
    def _turn(self, root: int, subject: str, *, durable: bool = False) -> Iterator[int]:
        """Its branch of the index, alone."""
        branch = subjects.digest(subject)[:2]
        self._folder.grow(root, INDEX)
        subjects.grow(root, branch)
        with self._folder.index_turn(root, branch, durable=durable) as index:
            if index is None:
                raise FileNotFoundError(errno.ENOENT, "the index was removed at this moment")
            yield index

    def _enter(
        self,
        root: int,
        record: Record,
        expected: bytes,
        too_old: list[Record],
        afterwards: ExitStack,
        now: int,
    ) -> Entered | Gone | Record:
        own = record.id[:2]
        self._folder.grow(root, own)
        with self._folder.turns(root, [each.id[:2] for each in (record, *too_old)]) as folders:
            for name in folders:
                afterwards.callback(_sync, root, name)
            found = pairs.read(folders[own], record.id)
            other = _other(found, record, expected, now)
            if other is not None:
                return other
            ending = [each for each in too_old if _is_still_theirs(folders[each.id[:2]], each)]
            subjects.add(root, record, durable=False)
            afterwards.callback(_sync, root, INDEX, subjects.digest(record.subject or "")[:2])
            pairs.place(root, folders[own], record, found, durable=True)
            for each in ending:
                pairs.remove(root, folders[each.id[:2]], each)
        return Entered([each.id for each in ending])

    def _refused(self, root: int, record: Record, afterwards: ExitStack, answer: R) -> R:
        """An earlier call, whose answer was lost, may have written it."""
        with self._folder.turn(root, record.id[:2]) as folder:
            found = pairs.read(folder, record.id)
            if found is not None and found.revision == record.revision:
                pairs.remove(root, folder, found)
                afterwards.callback(_sync, root, record.id[:2])
        return answer


def _others(root: int, record: Record, now: int) -> Iterator[Record]:
    """The subject's other sessions; looked for only where somebody asks how many."""
    for each in subjects.find(root, record.subject or ""):
        found = None if each == record.id else pairs.load(root, each, now)
        if found is not None and found.subject == record.subject:
            yield found


def _other(found: Record | None, record: Record, expected: bytes, now: int) -> Gone | Record | None:
    """Why it cannot be written over what is there; None where it can."""
    if found is None or found.expires_at <= now:
        return GONE if expected else None
    if found.revision in (expected, record.revision):
        return None
    if expected:
        return found
    raise Collision(f"FileStore: session {record.id} is there already")


def _is_still_theirs(folder: int | None, record: Record) -> bool:
    """A session that logged in as somebody else meanwhile ends for nobody."""
    found = pairs.read(folder, record.id)
    return found is not None and found.subject == record.subject


def _mark(index: int, subject: str) -> Mark | None:
    found = records.read(index, subjects.digest(subject))
    if found is None:
        return None
    return Mark(found.seen_at, found.payload.decode() or None, found.expires_at)


def _as_record(subject: str, mark: Mark) -> Record:
    keep = (mark.keep or "").encode()
    return Record(subjects.digest(subject), b"", None, None, mark.before, mark.until, keep)


def _sync(parent: int, name: str, *below_it: str) -> None:
    """Have the names in a folder on the disk, where it is still there."""
    with below(parent, name) as folder:
        if folder is not None and below_it:
            _sync(folder, *below_it)
        elif folder is not None:
            sync(folder)
