"""Logins in SQLite: what a subject's mark and limit let in, decided and written in one transaction.

That transaction is of whoever calls, and no other writes meanwhile.
"""

import sqlite3
from collections.abc import Iterator
from typing import TypeVar

from coatcheck.errors import Collision
from coatcheck.record import Record
from coatcheck.store import FORBIDDEN, FULL, GONE, Entered, Entry, Forbidden, Full, Gone
from coatcheck.stores._admission import Mark, surplus
from coatcheck.stores._sqlite import verbs

__all__ = ["admit", "forbid", "sweep"]

R = TypeVar("R", Forbidden, Full)

_MARK = "SELECT before, keep, until FROM marks WHERE subject = ?"
_SET_MARK = "INSERT OR REPLACE INTO marks (subject, before, keep, until) VALUES (?, ?, ?, ?)"

# Without their payloads, which may be long and have no say.
_OTHERS = """
SELECT id, revision, subject, login_at, seen_at, expires_at, x'' FROM sessions
WHERE subject = ? AND expires_at > ? AND id <> ?
"""

_TAKE_BACK = "DELETE FROM sessions WHERE id = ? AND revision = ?"

_SWEEP = """
DELETE FROM marks
WHERE subject IN (SELECT subject FROM marks WHERE until <= ? LIMIT ?)
"""


def admit(
    connection: sqlite3.Connection, record: Record, expected: bytes, entry: Entry, now: int
) -> Entered | Forbidden | Full | Gone | Record:
    mark = _mark(connection, record.subject)
    if mark is not None and mark.forbids(record.id, entry.opened_at, now):
        return _refused(connection, record, FORBIDDEN)
    found = verbs.load(connection, record.id, now)
    if found is None and expected:
        return GONE
    if found is not None and found.revision not in (expected, record.revision):
        if expected:
            return found
        raise Collision(f"SQLiteStore: session {record.id} is there already")
    too_old = surplus(record, _others(connection, record, now), entry, now)
    if too_old is FULL:
        return _refused(connection, record, FULL)
    verbs.put(connection, record)
    ended = [each.id for each in too_old]
    verbs.remove(connection, ended)
    return Entered(ended)


def forbid(connection: sqlite3.Connection, subject: str, mark: Mark, now: int) -> None:
    """Set it, unless the one that is there counts."""
    found = _mark(connection, subject)
    counts = mark if found is None else found.followed_by(mark, now)
    connection.execute(_SET_MARK, (subject, *counts))


def sweep(connection: sqlite3.Connection, limit: int, now: int) -> None:
    """Remove at most so many lapsed marks."""
    connection.execute(_SWEEP, (now, max(limit, 0)))


def _mark(connection: sqlite3.Connection, subject: str | None) -> Mark | None:
    rows = connection.execute(_MARK, (subject,)).fetchall()
    return Mark(*rows[0]) if rows else None


def _others(connection: sqlite3.Connection, record: Record, now: int) -> Iterator[Record]:
    """The subject's other sessions; looked for only where somebody asks how many."""
    for row in connection.execute(_OTHERS, (record.subject, now, record.id)).fetchall():
        yield Record(*row)


def _refused(connection: sqlite3.Connection, record: Record, answer: R) -> R:
    """An earlier call, whose answer was lost, may have written it."""
    connection.execute(_TAKE_BACK, (record.id, record.revision))
    return answer
