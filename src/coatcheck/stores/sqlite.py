"""Sessions in one SQLite file: for a single machine, any number of threads and processes.

Two tables, one of sessions and one of their subjects' marks, in WAL mode, so that readers never
wait for writers. Every verb that writes is one transaction, which compares liveness and revision
itself. A save may be lost when the machine loses power right after it (never when only the process
dies); a login, a mark and the end of a session wait until the disk has them. Both stores read in
the calling thread or event loop, which takes about as long as a look into memory; asynchronous
writes go to a thread that commits everything waiting at once.

Nothing is opened before the first use, which creates the file for its owner alone (0600), and
refuses, with `ConfigurationError`, one that is read-only, not ours, or of a newer coatcheck. The
file must be on a local disk. What cannot be read or written in time is `StoreUnavailable`.
"""

import asyncio
import os
import sqlite3
from typing import TypeAlias

from coatcheck.errors import ConfigurationError
from coatcheck.record import Record
from coatcheck.store import Entered, Entry, Forbidden, Full, Gone, Saved
from coatcheck.stores._admission import Mark
from coatcheck.stores._sqlite import logins, verbs
from coatcheck.stores._sqlite.database import Database
from coatcheck.stores._sqlite.writer import Writer
from coatcheck.stores._url import CALL, StoreURL

__all__ = ["AsyncSQLiteStore", "SQLiteStore", "async_from_url", "from_url"]

StrPath: TypeAlias = str | os.PathLike[str]


class SQLiteStore:
    """Thread-safe. Lists, sweeps, admits.

    `timeout` is how many seconds a write waits for its turn.
    """

    shared = True
    """Other processes see what this one keeps, if they name the same file."""

    def __init__(self, path: StrPath, *, timeout: float = 0.5) -> None:
        self._database = Database(_checked_path(path), _checked_timeout(timeout))

    @property
    def path(self) -> str:
        return self._database.path

    def load(self, id: str, now: int) -> Record | None:
        rows = self._database.read(verbs.LOAD, (id, now))
        return Record(*rows[0]) if rows else None

    def create(self, record: Record, now: int) -> None:
        with self._database.transaction(durable=_is_durable(record)) as connection:
            verbs.create(connection, record, now)

    def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        with self._database.transaction() as connection:
            return verbs.save(connection, record, expected, now)

    def touch(self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int) -> bool:
        with self._database.transaction() as connection:
            return verbs.touch(connection, id, revision, seen_at, expires_at, now)

    def delete(self, id: str, now: int) -> bool:
        with self._database.transaction(durable=True) as connection:
            return verbs.delete(connection, id, now)

    def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Entered | Forbidden | Full | Gone | Record:
        with self._database.transaction(durable=True) as connection:
            return logins.admit(connection, record, expected, entry, now)

    def forbid(self, subject: str, before: int, keep: str | None, until: int, now: int) -> None:
        with self._database.transaction(durable=True) as connection:
            logins.forbid(connection, subject, Mark(before, keep, until), now)

    def by_subject(self, subject: str, now: int) -> list[Record]:
        return [Record(*row) for row in self._database.read(verbs.BY_SUBJECT, (subject, now))]

    def page(self, after: str, limit: int, now: int) -> list[Record]:
        return [
            Record(*row) for row in self._database.read(verbs.PAGE, (after, now, max(limit, 0)))
        ]

    def sweep(self, limit: int, now: int) -> int:
        with self._database.transaction() as connection:
            return _sweep(connection, limit, now)

    def close(self) -> None:
        """Close the file; using the store again opens it again."""
        self._database.close()


class AsyncSQLiteStore:
    """`SQLiteStore` for asynchronous code; `AsyncSQLiteStore(store)` shares another's file.

    Then that one's `timeout` counts, and closing either closes both.
    """

    shared = True

    def __init__(self, path: StrPath | SQLiteStore, *, timeout: float = 0.5) -> None:
        self.sqlite = path if isinstance(path, SQLiteStore) else SQLiteStore(path, timeout=timeout)
        self._database = self.sqlite._database
        self._writer = Writer(self._database)

    @property
    def path(self) -> str:
        return self._database.path

    async def load(self, id: str, now: int) -> Record | None:
        if not self._database.ready:
            await self._prepare()
        rows = self._database.read(verbs.LOAD, (id, now))
        return Record(*rows[0]) if rows else None

    async def create(self, record: Record, now: int) -> None:
        durable = _is_durable(record)
        await self._writer.do(
            lambda connection: verbs.create(connection, record, now), durable=durable
        )

    async def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        return await self._writer.do(
            lambda connection: verbs.save(connection, record, expected, now)
        )

    async def touch(
        self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int
    ) -> bool:
        return await self._writer.do(
            lambda connection: verbs.touch(connection, id, revision, seen_at, expires_at, now)
        )

    async def delete(self, id: str, now: int) -> bool:
        return await self._writer.do(
            lambda connection: verbs.delete(connection, id, now), durable=True
        )

    async def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Entered | Forbidden | Full | Gone | Record:
        return await self._writer.do(
            lambda connection: logins.admit(connection, record, expected, entry, now), durable=True
        )

    async def forbid(
        self, subject: str, before: int, keep: str | None, until: int, now: int
    ) -> None:
        mark = Mark(before, keep, until)
        await self._writer.do(
            lambda connection: logins.forbid(connection, subject, mark, now), durable=True
        )

    async def by_subject(self, subject: str, now: int) -> list[Record]:
        if not self._database.ready:
            await self._prepare()
        return self.sqlite.by_subject(subject, now)

    async def page(self, after: str, limit: int, now: int) -> list[Record]:
        if not self._database.ready:
            await self._prepare()
        return self.sqlite.page(after, limit, now)

    async def sweep(self, limit: int, now: int) -> int:
        return await self._writer.do(lambda connection: _sweep(connection, limit, now))

    async def close(self) -> None:
        """Finish what was begun and close the file; using the store again opens it again."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.stop()
        self.sqlite.close()

    async def _prepare(self) -> None:
        """The first use may create the file and wait for its lock, which no event loop should."""
        await asyncio.to_thread(self._database.prepare)


def _is_durable(record: Record) -> bool:
    """Whether its creation waits for the disk: a login's does, and what says that an id ended."""
    return record.subject is not None


def _sweep(connection: sqlite3.Connection, limit: int, now: int) -> int:
    logins.sweep(connection, limit, now)
    return verbs.sweep(connection, limit, now)


def _checked_path(path: StrPath) -> str:
    text = os.fsdecode(path) if isinstance(path, str | os.PathLike) else None
    if text in (None, "", ":memory:") or "\0" in text:
        raise ConfigurationError(
            f"SQLiteStore: expected the path of a file, got {path!r}; pass one on a local disk, "
            "such as sessions.db, or use MemoryStore"
        )
    return os.path.abspath(text)


def _checked_timeout(timeout: float) -> float:
    if type(timeout) not in (int, float) or not 0 < timeout <= 3600:
        raise ConfigurationError(
            f"SQLiteStore: expected timeout to be seconds, above 0 and up to 3600, got "
            f"{timeout!r}; pass how long a write may wait, such as 0.5"
        )
    return float(timeout)


def from_url(url: StoreURL) -> SQLiteStore:
    """sqlite:///path, or four slashes for an absolute one; timeout=0.5"""
    return SQLiteStore(url.file_path(), timeout=url.seconds("timeout", CALL))


def async_from_url(url: StoreURL) -> AsyncSQLiteStore:
    """sqlite:///path"""
    return AsyncSQLiteStore(from_url(url))
