"""Sessions in one SQLite file: for a single machine, any number of threads and processes.

One table, in WAL mode, so that readers never wait for writers. Every verb that writes is one
transaction, which compares liveness and revision itself. A save may be lost when the machine loses
power right after it (never when only the process dies); ending a session waits until the disk has
it. Both stores read in the calling thread or event loop, which takes about as long as a look into
memory; asynchronous writes go to a thread that commits everything waiting at once.

Nothing is opened before the first use, which creates the file for its owner alone (0600), and
refuses, with `ConfigurationError`, one that is read-only, not ours, or of a newer coatcheck. The
file must be on a local disk. What cannot be read or written in time is `StoreUnavailable`.
"""

import asyncio
import os
import sqlite3
from typing import TypeAlias

from coatcheck.errors import Collision, ConfigurationError
from coatcheck.record import Record
from coatcheck.store import GONE, SAVED, Gone, Saved
from coatcheck.stores._sqlite.database import Database
from coatcheck.stores._sqlite.writer import Writer
from coatcheck.stores._url import CALL, StoreURL

__all__ = ["AsyncSQLiteStore", "SQLiteStore", "async_from_url", "from_url"]

StrPath: TypeAlias = str | os.PathLike[str]

_COLUMNS = "id, revision, subject, login_at, seen_at, expires_at, payload"

_LOAD = f"SELECT {_COLUMNS} FROM sessions WHERE id = ? AND expires_at > ?"  # noqa: S608

_CREATE = f"""
INSERT INTO sessions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, subject = excluded.subject,
    login_at = excluded.login_at, seen_at = excluded.seen_at,
    expires_at = excluded.expires_at, payload = excluded.payload
WHERE sessions.expires_at <= ?
"""  # noqa: S608

# Nearly every save keeps the subject; without it in SET, its index is not written.
_SAVE = """
UPDATE sessions SET revision = ?, login_at = ?, seen_at = ?, expires_at = ?, payload = ?
WHERE id = ? AND revision = ? AND expires_at > ? AND subject IS ?
"""

_SAVE_SUBJECT = """
UPDATE sessions
SET subject = ?, revision = ?, login_at = ?, seen_at = ?, expires_at = ?, payload = ?
WHERE id = ? AND revision = ? AND expires_at > ?
"""

_TOUCH = """
UPDATE sessions SET seen_at = max(seen_at, ?), expires_at = max(expires_at, ?)
WHERE id = ? AND revision = ? AND expires_at > ?
"""

_DELETE_LIVE = "DELETE FROM sessions WHERE id = ? AND expires_at > ?"
_DELETE = "DELETE FROM sessions WHERE id = ?"

_BY_SUBJECT = f"SELECT {_COLUMNS} FROM sessions WHERE subject = ? AND expires_at > ?"  # noqa: S608

_PAGE = f"""
SELECT {_COLUMNS} FROM sessions WHERE id > ? AND expires_at > ? ORDER BY id LIMIT ?
"""  # noqa: S608

_SWEEP = """
DELETE FROM sessions
WHERE rowid IN (SELECT rowid FROM sessions WHERE expires_at <= ? LIMIT ?)
"""


class SQLiteStore:
    """Thread-safe. Lists, sweeps. `timeout` is how many seconds a write waits for its turn."""

    shared = True
    """Other processes see what this one keeps, if they name the same file."""

    def __init__(self, path: StrPath, *, timeout: float = 0.5) -> None:
        self._database = Database(_checked_path(path), _checked_timeout(timeout))

    @property
    def path(self) -> str:
        return self._database.path

    def load(self, id: str, now: int) -> Record | None:
        rows = self._database.read(_LOAD, (id, now))
        return Record(*rows[0]) if rows else None

    def create(self, record: Record, now: int) -> None:
        with self._database.transaction(durable=_is_durable(record)) as connection:
            _create(connection, record, now)

    def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        with self._database.transaction() as connection:
            return _save(connection, record, expected, now)

    def touch(self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int) -> bool:
        with self._database.transaction() as connection:
            return _touch(connection, id, revision, seen_at, expires_at, now)

    def delete(self, id: str, now: int) -> bool:
        with self._database.transaction(durable=True) as connection:
            return _delete(connection, id, now)

    def by_subject(self, subject: str, now: int) -> list[Record]:
        return [Record(*row) for row in self._database.read(_BY_SUBJECT, (subject, now))]

    def page(self, after: str, limit: int, now: int) -> list[Record]:
        return [Record(*row) for row in self._database.read(_PAGE, (after, now, max(limit, 0)))]

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
        rows = self._database.read(_LOAD, (id, now))
        return Record(*rows[0]) if rows else None

    async def create(self, record: Record, now: int) -> None:
        durable = _is_durable(record)
        await self._writer.do(lambda connection: _create(connection, record, now), durable=durable)

    async def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        return await self._writer.do(lambda connection: _save(connection, record, expected, now))

    async def touch(
        self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int
    ) -> bool:
        return await self._writer.do(
            lambda connection: _touch(connection, id, revision, seen_at, expires_at, now)
        )

    async def delete(self, id: str, now: int) -> bool:
        return await self._writer.do(lambda connection: _delete(connection, id, now), durable=True)

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


def _create(connection: sqlite3.Connection, record: Record, now: int) -> None:
    parameters = (
        record.id,
        record.revision,
        record.subject,
        record.login_at,
        record.seen_at,
        record.expires_at,
        record.payload,
        now,
    )
    if not connection.execute(_CREATE, parameters).rowcount:
        raise Collision(f"SQLiteStore: session {record.id} is there already")


def _save(
    connection: sqlite3.Connection, record: Record, expected: bytes, now: int
) -> Saved | Gone | Record:
    parameters = (
        record.revision,
        record.login_at,
        record.seen_at,
        record.expires_at,
        record.payload,
        record.id,
        expected,
        now,
    )
    if connection.execute(_SAVE, (*parameters, record.subject)).rowcount:
        return SAVED
    if connection.execute(_SAVE_SUBJECT, (record.subject, *parameters)).rowcount:
        return SAVED
    rows = connection.execute(_LOAD, (record.id, now)).fetchall()
    return Record(*rows[0]) if rows else GONE


def _touch(
    connection: sqlite3.Connection,
    id: str,
    revision: bytes,
    seen_at: int,
    expires_at: int,
    now: int,
) -> bool:
    parameters = (seen_at, expires_at, id, revision, now)
    return connection.execute(_TOUCH, parameters).rowcount > 0


def _delete(connection: sqlite3.Connection, id: str, now: int) -> bool:
    if connection.execute(_DELETE_LIVE, (id, now)).rowcount:
        return True
    # What has expired goes too: a process whose clock is behind would still take it for alive.
    connection.execute(_DELETE, (id,))
    return False


def _sweep(connection: sqlite3.Connection, limit: int, now: int) -> int:
    return connection.execute(_SWEEP, (now, max(limit, 0))).rowcount


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
