"""The verbs of a store in SQLite, each within a transaction of whoever calls it."""

import sqlite3
from collections.abc import Iterable

from coatcheck.errors import Collision
from coatcheck.record import Record
from coatcheck.store import GONE, SAVED, Gone, Saved

__all__ = [
    "BY_SUBJECT",
    "LOAD",
    "PAGE",
    "create",
    "delete",
    "load",
    "put",
    "remove",
    "save",
    "sweep",
    "touch",
]

_COLUMNS = "id, revision, subject, login_at, seen_at, expires_at, payload"

LOAD = f"SELECT {_COLUMNS} FROM sessions WHERE id = ? AND expires_at > ?"  # noqa: S608

_PUT = f"""
INSERT INTO sessions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, subject = excluded.subject,
    login_at = excluded.login_at, seen_at = excluded.seen_at,
    expires_at = excluded.expires_at, payload = excluded.payload
"""  # noqa: S608
_CREATE = f"{_PUT} WHERE sessions.expires_at <= ?"

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

BY_SUBJECT = f"SELECT {_COLUMNS} FROM sessions WHERE subject = ? AND expires_at > ?"  # noqa: S608

PAGE = f"""
SELECT {_COLUMNS} FROM sessions WHERE id > ? AND expires_at > ? ORDER BY id LIMIT ?
"""  # noqa: S608

_SWEEP = """
DELETE FROM sessions
WHERE rowid IN (SELECT rowid FROM sessions WHERE expires_at <= ? LIMIT ?)
"""


def load(connection: sqlite3.Connection, id: str, now: int) -> Record | None:
    rows = connection.execute(LOAD, (id, now)).fetchall()
    return Record(*rows[0]) if rows else None


def put(connection: sqlite3.Connection, record: Record) -> None:
    """Write it, whatever is there."""
    connection.execute(_PUT, _values(record))


def create(connection: sqlite3.Connection, record: Record, now: int) -> None:
    if not connection.execute(_CREATE, (*_values(record), now)).rowcount:
        raise Collision(f"SQLiteStore: session {record.id} is there already")


def save(
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
    return load(connection, record.id, now) or GONE


def touch(
    connection: sqlite3.Connection,
    id: str,
    revision: bytes,
    seen_at: int,
    expires_at: int,
    now: int,
) -> bool:
    parameters = (seen_at, expires_at, id, revision, now)
    return connection.execute(_TOUCH, parameters).rowcount > 0


def delete(connection: sqlite3.Connection, id: str, now: int) -> bool:
    if connection.execute(_DELETE_LIVE, (id, now)).rowcount:
        return True
    # What has expired goes too: a process whose clock is behind would still take it for alive.
    remove(connection, [id])
    return False


def remove(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    """Delete them, alive or not."""
    connection.executemany(_DELETE, ((each,) for each in ids))


def sweep(connection: sqlite3.Connection, limit: int, now: int) -> int:
    return connection.execute(_SWEEP, (now, max(limit, 0))).rowcount


def _values(record: Record) -> tuple[object, ...]:
    return (
        record.id,
        record.revision,
        record.subject,
        record.login_at,
        record.seen_at,
        record.expires_at,
        record.payload,
    )
