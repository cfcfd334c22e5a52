"""The store's verbs over a batch of calls: what is asked, and what the answers mean.

A write that finds its row locked by somebody else answers `LOCKED`; it is then done by itself, with
`wait=True`, as all writes of a synchronous store are.
"""

import enum
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from psycopg.pq.abc import PGresult

from coatcheck.errors import Collision, StoreUnavailable
from coatcheck.record import Record
from coatcheck.store import GONE, SAVED, Gone, Saved
from coatcheck.stores._postgres import statements
from coatcheck.stores._postgres.errors import kept
from coatcheck.stores._postgres.link import Unit
from coatcheck.stores._postgres.rows import (
    hour_of,
    integer,
    integers,
    key_of,
    next_key,
    octets,
    records,
    texts,
    uuids,
)

__all__ = ["LOCKED", "SLICE", "Create", "Delete", "Load", "Locked", "Save", "Touch", "Verbs"]


class _Answer(enum.Enum):
    LOCKED = "locked"


LOCKED: Final = _Answer.LOCKED
Locked: TypeAlias = Literal[_Answer.LOCKED]

SLICE = 200
"""How many sessions of a subject are read at a time, so that no number of them takes too long."""

_SWEEP_PATIENCE = 20


class Load(NamedTuple):
    key: bytes
    now: int


class Create(NamedTuple):
    key: bytes
    record: Record
    now: int


class Save(NamedTuple):
    key: bytes
    record: Record
    expected: bytes
    now: int


class Touch(NamedTuple):
    key: bytes
    revision: bytes
    seen_at: int
    expires_at: int
    now: int


class Delete(NamedTuple):
    key: bytes
    now: int


class Verbs:
    """Units of work on the table of sessions, and a sweep of both; their names come quoted."""

    def __init__(self, table: str, marks: str) -> None:
        self._load = statements.select(table, "id = ANY ($1::uuid[])")
        self._create = statements.create(table)
        self._save = {wait: statements.save(table, wait) for wait in (False, True)}
        self._touch = {wait: statements.touch(table, wait) for wait in (False, True)}
        self._delete = {wait: statements.delete(table, wait) for wait in (False, True)}
        self._by_subject = statements.select(
            table,
            "subject = $1::text AND id >= $2::uuid AND expires_at > $3::int8"
            " ORDER BY id LIMIT $4::int8",
        )
        self._page = statements.select(
            table, "id >= $1::uuid AND expires_at > $2::int8 ORDER BY id LIMIT $3::int8"
        )
        self._sweep = statements.sweep(table)
        self._sweep_marks = statements.sweep_marks(marks)

    def load(self, calls: Sequence[Load]) -> Unit[Sequence[Record | None]]:
        def read(results: Sequence[PGresult]) -> list[Record | None]:
            found = records(results[0])
            return [_live(found.get(call.key), call.now) for call in calls]

        return Unit(steps=[(self._load, [_keys(calls)])], read=read, writes=False)

    def create(self, calls: Sequence[Create]) -> Unit[Sequence[Collision | None]]:
        """Durable if one of them must be: a login's, and what says that a session ended."""

        def read(results: Sequence[PGresult]) -> list[Collision | None]:
            [result] = results
            created = {result.get_value(row, 0) for row in range(result.ntuples)}
            return [None if call.key in created else _collision(call) for call in calls]

        columns = [*_columns(calls), integers([call.now for call in calls])]
        durable = any(call.record.subject is not None for call in calls)
        return Unit(steps=[(self._create, columns)], read=read, durable=durable)

    def save(
        self, calls: Sequence[Save], *, wait: bool = False
    ) -> Unit[Sequence[Saved | Gone | Record | Locked]]:
        def read(results: Sequence[PGresult]) -> list[Saved | Gone | Record | Locked]:
            states, found = _states(results[0], wait), records(results[0], 2)
            return [
                _saved(states[call.key], _live(found.get(call.key), call.now)) for call in calls
            ]

        columns = [
            *_columns(calls),
            octets([call.expected for call in calls]),
            integers([call.now for call in calls]),
        ]
        return Unit(steps=[(self._save[wait], columns)], read=read)

    def touch(self, calls: Sequence[Touch], *, wait: bool = False) -> Unit[Sequence[bool | Locked]]:
        def read(results: Sequence[PGresult]) -> list[bool | Locked]:
            states = _states(results[0], wait)
            return [_done(states[call.key]) for call in calls]

        columns = [
            _keys(calls),
            octets([call.revision for call in calls]),
            integers([call.seen_at for call in calls]),
            integers([call.expires_at for call in calls]),
            integers([hour_of(call.expires_at) for call in calls]),
            integers([call.now for call in calls]),
        ]
        return Unit(steps=[(self._touch[wait], columns)], read=read)

    def delete(
        self, calls: Sequence[Delete], *, wait: bool = False
    ) -> Unit[Sequence[bool | Locked | StoreUnavailable]]:
        def read(results: Sequence[PGresult]) -> list[bool | Locked | StoreUnavailable]:
            states = _states(results[0], wait)
            return [_deleted(states[call.key]) for call in calls]

        columns = [_keys(calls), integers([call.now for call in calls])]
        return Unit(steps=[(self._delete[wait], columns)], read=read, durable=True)

    def by_subject(self, subject: str, after: str, now: int) -> Unit[list[Record]]:
        """A slice of them: `SLICE`, or what is left."""
        first, most = _slice(after, SLICE)
        parameters = [subject.encode(), first, integer(now), integer(most)]
        return Unit(steps=[(self._by_subject, parameters)], read=_all, writes=False)

    def page(self, after: str, limit: int, now: int) -> Unit[list[Record]]:
        first, most = _slice(after, limit)
        parameters = [first, integer(now), integer(most)]
        return Unit(steps=[(self._page, parameters)], read=_all, writes=False)

    def sweep(self, limit: int, now: int) -> Unit[int]:
        """It looks through the live records of the current hour, too, which may take longer. Marks
        that lapsed go with them, and do not count."""
        most = integer(max(limit, 0))
        return Unit(
            steps=[
                (self._sweep, [integer(hour_of(now)), integer(now), most]),
                (self._sweep_marks, [integer(now), most]),
            ],
            read=lambda results: results[0].command_tuples or 0,
            patience=_SWEEP_PATIENCE,
        )


# Answers.


def _states(result: PGresult, wait: bool) -> dict[bytes | None, bytes | None]:
    """The state of each id. Who waited for the lock and did not find the row: it is gone."""
    cell = result.get_value
    states = {cell(row, 0): cell(row, 1) for row in range(result.ntuples)}
    if wait:
        return {key: b"gone" if each == b"locked" else each for key, each in states.items()}
    return states


def _saved(state: bytes | None, found: Record | None) -> Saved | Gone | Record | Locked:
    if state == b"done":
        return SAVED
    if state == b"locked":
        return LOCKED
    return GONE if found is None else found


def _done(state: bytes | None) -> bool | Locked:
    return LOCKED if state == b"locked" else state == b"done"


def _deleted(state: bytes | None) -> bool | Locked | StoreUnavailable:
    """A row that was found, and locked, and is still there: something on the server keeps it."""
    return kept() if state == b"found" else _done(state)


def _live(record: Record | None, now: int) -> Record | None:
    return None if record is None or record.expires_at <= now else record


def _collision(call: Create) -> Collision:
    return Collision(f"PostgresStore: session {call.record.id} is there already")


def _all(results: Sequence[PGresult]) -> list[Record]:
    return list(records(results[0]).values())


# Parameters.


def _slice(after: str, limit: int) -> tuple[bytes, int]:
    """Where it begins, and how many it may hold; none where no id is greater."""
    first = next_key(after)
    return (key_of("f" * 32), 0) if first is None else (first, max(limit, 0))


def _keys(calls: Sequence[Load | Create | Save | Touch | Delete]) -> bytes:
    return uuids([call.key for call in calls])


def _columns(calls: Sequence[Create | Save]) -> list[bytes]:
    """In the order of `WRITTEN`."""
    records = [call.record for call in calls]
    return [
        _keys(calls),
        octets([record.revision for record in records]),
        texts([record.subject for record in records]),
        integers([record.login_at for record in records]),
        integers([record.seen_at for record in records]),
        integers([record.expires_at for record in records]),
        octets([record.payload for record in records]),
        integers([hour_of(record.expires_at) for record in records]),
    ]
