"""Sessions in this process's memory: for tests, for development, and for one-process sites.

What it keeps ends with the process and reaches no other; a store that is used in a forked or
spawned worker says so once, as a warning. It is bounded: when it is full it drops what has
expired, then the anonymous session that was saved longest ago, and then it refuses new sessions
with `StoreUnavailable`. It never drops a login.
"""

import multiprocessing
import os
import threading
import warnings
from heapq import nsmallest
from itertools import islice
from operator import attrgetter
from typing import TypeVar

from coatcheck.errors import Collision, ConfigurationError, StoreUnavailable
from coatcheck.record import Record
from coatcheck.store import (
    FORBIDDEN,
    FULL,
    GONE,
    SAVED,
    Entered,
    Entry,
    Forbidden,
    Full,
    Gone,
    Saved,
)
from coatcheck.stores._admission import Mark, surplus
from coatcheck.stores._url import StoreURL

__all__ = ["AsyncMemoryStore", "MemoryStore", "async_from_url", "from_url"]


R = TypeVar("R", Forbidden, Full)


class MemoryStore:
    """A dictionary of records behind one lock; thread-safe. Lists, sweeps, admits.

    `max_sessions` bounds it; a session's own size is bounded by `Sessions(max_bytes=…)`.
    """

    shared = False
    """Other processes do not see what this one keeps."""

    def __init__(self, *, max_sessions: int = 100_000) -> None:
        if type(max_sessions) is not int or max_sessions < 1:
            raise ConfigurationError(
                f"MemoryStore: expected max_sessions to be a positive int, got {max_sessions!r}; "
                "pass how many sessions may be kept, such as 100000"
            )
        self._most = max_sessions
        self._lock = threading.Lock()
        self._records: dict[str, Record] = {}
        self._anonymous: dict[str, None] = {}  # their ids, the longest unsaved first
        self._by_subject: dict[str, set[str]] = {}
        self._marks: dict[str, Mark] = {}
        self._nothing_expires_before = 0
        self._process = _process_of_its_own()

    def load(self, id: str, now: int) -> Record | None:
        record = self._records.get(id)
        return record if record is not None and record.expires_at > now else None

    def create(self, record: Record, now: int) -> None:
        self._warn_once()
        with self._lock:
            if self.load(record.id, now) is not None:
                raise Collision(f"MemoryStore: session {record.id} is there already")
            self._remove(record.id)
            self._make_room(now)
            self._put(record)

    def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        with self._lock:
            found = self.load(record.id, now)
            if found is None:
                return GONE
            if found.revision != expected:
                return found
            if found.subject is None or found.subject != record.subject:
                self._remove(record.id)
                self._put(record)
            else:  # the indexes stay as they are
                self._records[record.id] = record
                self._expires_by(record.expires_at)
            return SAVED

    def touch(self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int) -> bool:
        with self._lock:
            found = self.load(id, now)
            if found is None or found.revision != revision:
                return False
            self._records[id] = Record(
                id,
                revision,
                found.subject,
                found.login_at,
                max(seen_at, found.seen_at),
                max(expires_at, found.expires_at),
                found.payload,
            )
            return True

    def delete(self, id: str, now: int) -> bool:
        with self._lock:
            found = self.load(id, now)
            self._remove(id)
            return found is not None

    def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Entered | Forbidden | Full | Gone | Record:
        self._warn_once()
        with self._lock:
            subject = record.subject or ""
            mark = self._marks.get(subject)
            if mark is not None and mark.forbids(record.id, entry.opened_at, now):
                return self._refused(record, FORBIDDEN)
            found = self.load(record.id, now)
            if found is None and expected:
                return GONE
            if found is not None and found.revision not in (expected, record.revision):
                if expected:
                    return found
                raise Collision(f"MemoryStore: session {record.id} is there already")
            others = [each for each in self._of(subject, now) if each.id != record.id]
            too_old = surplus(record, others, entry, now)
            if too_old is FULL:
                return self._refused(record, FULL)
            ended = [each.id for each in too_old]
            for each in (record.id, *ended):
                self._remove(each)
            self._make_room(now)
            self._put(record)
            return Entered(ended)

    def forbid(self, subject: str, before: int, keep: str | None, until: int, now: int) -> None:
        mark = Mark(before, keep, until)
        with self._lock:
            self._marks[subject] = self._marks.get(subject, mark).followed_by(mark, now)

    def by_subject(self, subject: str, now: int) -> list[Record]:
        with self._lock:
            return self._of(subject, now)

    def page(self, after: str, limit: int, now: int) -> list[Record]:
        with self._lock:
            found = [record for record in self._records.values() if record.id > after]
        alive = (record for record in found if record.expires_at > now)
        return nsmallest(limit, alive, key=attrgetter("id"))

    def sweep(self, limit: int, now: int) -> int:
        with self._lock:
            return self._sweep(limit, now)

    def close(self) -> None:
        """Nothing to close; what is kept stays."""

    def _of(self, subject: str, now: int) -> list[Record]:
        found = (self._records[each] for each in self._by_subject.get(subject, ()))
        return [record for record in found if record.expires_at > now]

    def _refused(self, record: Record, answer: R) -> R:
        """An earlier call may have written it."""
        found = self._records.get(record.id)
        if found is not None and found.revision == record.revision:
            self._remove(record.id)
        return answer

    def _put(self, record: Record) -> None:
        self._records[record.id] = record
        self._expires_by(record.expires_at)
        if record.subject is None:
            self._anonymous[record.id] = None
        else:
            self._by_subject.setdefault(record.subject, set()).add(record.id)

    def _expires_by(self, expires_at: int) -> None:
        if expires_at < self._nothing_expires_before:
            self._nothing_expires_before = expires_at

    def _remove(self, id: str) -> None:
        record = self._records.pop(id, None)
        if record is None:
            return
        if record.subject is None:
            del self._anonymous[id]
            return
        ids = self._by_subject[record.subject]
        ids.discard(id)
        if not ids:
            del self._by_subject[record.subject]

    def _make_room(self, now: int) -> None:
        if len(self._records) < self._most:
            return
        # Looking for what expired walks them all, so it waits until something can have.
        if now >= self._nothing_expires_before and self._sweep(self._most, now):
            return
        longest_unsaved = next(iter(self._anonymous), None)
        if longest_unsaved is None:
            raise StoreUnavailable(
                f"MemoryStore: expected room for a session, got {self._most} logins that are "
                "alive; raise max_sessions, or use a store that is not in memory"
            )
        self._remove(longest_unsaved)

    def _sweep(self, limit: int, now: int) -> int:
        everything = self._records.values()
        expired = list(islice((r.id for r in everything if r.expires_at <= now), limit))
        for each in expired:
            self._remove(each)
        for subject in [each for each, mark in self._marks.items() if mark.until <= now]:
            del self._marks[subject]
        if not expired:
            self._nothing_expires_before = min((r.expires_at for r in everything), default=now)
        return len(expired)

    def _warn_once(self) -> None:
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        warnings.warn(
            "MemoryStore: expected one process, got several, and each keeps sessions of its own, "
            "so users will seem to log out at random; use SQLiteStore or another shared store",
            RuntimeWarning,
            stacklevel=4,
        )


class AsyncMemoryStore:
    """`MemoryStore` for asynchronous code; `AsyncMemoryStore(memory)` shares the other's shelf."""

    shared = False

    def __init__(self, memory: MemoryStore | None = None, *, max_sessions: int = 100_000) -> None:
        self.memory = MemoryStore(max_sessions=max_sessions) if memory is None else memory

    async def load(self, id: str, now: int) -> Record | None:
        return self.memory.load(id, now)

    async def create(self, record: Record, now: int) -> None:
        self.memory.create(record, now)

    async def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        return self.memory.save(record, expected, now)

    async def touch(
        self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int
    ) -> bool:
        return self.memory.touch(id, revision, seen_at, expires_at, now)

    async def delete(self, id: str, now: int) -> bool:
        return self.memory.delete(id, now)

    async def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Entered | Forbidden | Full | Gone | Record:
        return self.memory.admit(record, expected, entry, now)

    async def forbid(
        self, subject: str, before: int, keep: str | None, until: int, now: int
    ) -> None:
        self.memory.forbid(subject, before, keep, until, now)

    async def by_subject(self, subject: str, now: int) -> list[Record]:
        return self.memory.by_subject(subject, now)

    async def page(self, after: str, limit: int, now: int) -> list[Record]:
        return self.memory.page(after, limit, now)

    async def sweep(self, limit: int, now: int) -> int:
        return self.memory.sweep(limit, now)

    async def close(self) -> None:
        self.memory.close()


def _process_of_its_own() -> int:
    """This process, or none where a parent started several alike, as servers' workers are."""
    return os.getpid() if multiprocessing.parent_process() is None else 0


def from_url(url: StoreURL) -> MemoryStore:
    """memory:"""
    if url.hosts or url.path or url.user:
        url.refuse("'memory:'", "a URL with more parts", "leave them out")
    return MemoryStore(max_sessions=url.number("max_sessions", 100_000, most=10**8))


def async_from_url(url: StoreURL) -> AsyncMemoryStore:
    """memory:"""
    return AsyncMemoryStore(from_url(url))
