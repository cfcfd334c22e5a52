"""Logins, and the marks that forbid them: each a transaction of its own, in one round trip.

A login and a mark of one subject take turns by an advisory lock, for the length of the transaction,
so that a pooler may stand between. What comes next is one statement, whose snapshot is taken when
the lock is there: it shows all that those before wrote. It waits for the disk, as ends do.

A login is about several rows: its own, and those of the subject that are too many. It locks them
together, in the order of their ids, and holds no other row meanwhile. So logins of two subjects
whose sessions change hands cannot wait for each other; batches and sweeps skip what is locked; what
waits for one of these rows holds none itself. What changed before it was locked is met as it is by
then: a session that has become another subject's is not ended.
"""

from collections.abc import Sequence

from psycopg.pq.abc import PGresult

from coatcheck.errors import Collision
from coatcheck.record import Record
from coatcheck.store import AHEAD, FORBIDDEN, FULL, GONE, Entered, Entry, Forbidden, Full, Gone
from coatcheck.stores._postgres.errors import kept
from coatcheck.stores._postgres.link import Step, Unit
from coatcheck.stores._postgres.rows import RECORD, hour_of, integer, key_of, records
from coatcheck.stores._postgres.statements import WRITTEN, tell_if

__all__ = ["Logins"]

_TYPES = {
    "id": "uuid",
    "revision": "bytea",
    "subject": "text",
    "login_at": "int8",
    "seen_at": "int8",
    "expires_at": "int8",
    "payload": "bytea",
    "due": "int8",
    "expected": "bytea",
    "opened_at": "int8",
    "most": "int8",
    "refuse": "bool",
    "now": "int8",
}
_GIVEN = {name: f"${number}::{kind}" for number, (name, kind) in enumerate(_TYPES.items(), 1)}

# Of the table and the subject, in their database: 64 bits of a hash. Two that are alike by chance
# take turns needlessly.
_TURN = b"""
    SELECT pg_advisory_xact_lock(
        hashtextextended($1::text COLLATE "C", $2::text::regclass::oid::int8)
    )
"""

# Who is forbidden, and who is too many, are the rules of `_admission`. A row of `written` says that
# the login is in; what ends depends on that, as a record of another revision may come between.
_ADMIT = """
    WITH others AS (
        SELECT kept.id, CASE WHEN kept.login_at <= {now} + {ahead} THEN kept.login_at ELSE 0 END
            AS login_at
        FROM {sessions} AS kept
        WHERE kept.subject = {subject} AND kept.id <> {id} AND kept.expires_at > {now}
        AND {most} IS NOT NULL
    ), by_age AS (
        SELECT every.id, row_number() OVER (ORDER BY every.login_at DESC, every.id DESC) AS place
        FROM (
            SELECT id, login_at FROM others UNION ALL
            SELECT {id}, CASE WHEN {login_at} <= {now} + {ahead} THEN {login_at} ELSE 0 END
        ) AS every
    ), too_old AS (
        SELECT id FROM by_age WHERE place > {most} AND NOT {refuse}
    ), locked AS (
        SELECT {record} FROM {sessions}
        WHERE id = ANY (ARRAY (SELECT id FROM too_old) || {id}) ORDER BY id FOR UPDATE
    ), verdict AS (
        SELECT CASE
            WHEN EXISTS (
                SELECT FROM {marks} AS mark WHERE mark.subject = {subject}
                AND mark.before > {opened_at} AND mark.before <= {now} + {ahead}
                AND mark.keep IS DISTINCT FROM {id}
            ) THEN 'forbidden'
            WHEN own.id IS NULL AND {expected} <> '' THEN 'gone'
            WHEN own.revision NOT IN ({expected}, {revision}) THEN 'found'
            WHEN CASE WHEN {refuse} THEN (SELECT count(*) FROM others) >= {most}
                ELSE EXISTS (SELECT FROM too_old WHERE too_old.id = {id}) END THEN 'full'
            ELSE 'in' END AS state
        FROM (SELECT) AS one
        LEFT JOIN locked AS own ON own.id = {id} AND own.expires_at > {now}
    ), written AS (
        INSERT INTO {sessions} AS kept ({written})
        SELECT {values} FROM verdict WHERE state = 'in'
        ON CONFLICT (id) DO UPDATE SET {replaced}
        WHERE kept.expires_at <= {now} OR kept.revision IN ({expected}, {revision})
        RETURNING kept.id, {told_change}
    ), doomed AS (
        SELECT locked.id FROM locked, verdict
        WHERE CASE WHEN locked.id <> {id} THEN state = 'in' AND locked.subject = {subject}
            ELSE state IN ('forbidden', 'full') AND locked.revision = {revision} END
    ), ended AS (
        DELETE FROM {sessions} AS kept USING doomed LEFT JOIN written ON true
        WHERE kept.id = doomed.id AND (kept.id = {id} OR written.id IS NOT NULL)
        RETURNING kept.id, {told}
    )
    SELECT CASE
            WHEN state = 'in' AND written.id IS NULL THEN 'found'
            WHEN doomed.id IS NOT NULL AND ended.id IS NULL THEN 'kept'
            ELSE state END,
        ended.id, {found}
    FROM verdict
    LEFT JOIN written ON true
    LEFT JOIN doomed ON true
    LEFT JOIN ended ON ended.id = doomed.id
    LEFT JOIN locked AS own ON state = 'found' AND own.id = {id} AND own.expires_at > {now}
"""
_CHANGED = """
    EXISTS (
        SELECT FROM locked AS own WHERE own.id = kept.id
        AND own.expires_at > {now} AND own.subject IS DISTINCT FROM {subject}
    )
"""
_FORBID = """
    INSERT INTO {marks} AS kept (subject, before, keep, until)
    VALUES ($1::text, $2::int8, $3::uuid, $4::int8)
    ON CONFLICT (subject) DO UPDATE
    SET before = excluded.before, keep = excluded.keep,
        until = greatest(kept.until, excluded.until)
    WHERE excluded.before >= kept.before OR kept.before > $5::int8 + {ahead}
"""


class Logins:
    """Units of work on the tables of sessions and of marks, whose names come quoted."""

    def __init__(self, sessions: str, marks: str) -> None:
        names = {"sessions": sessions, "marks": marks}
        self._table = sessions.encode()
        self._admit = _ADMIT.format(
            **names,
            **_GIVEN,
            ahead=AHEAD,
            told=tell_if("true"),
            told_change=tell_if(_CHANGED.format(**_GIVEN)),
            record=", ".join(RECORD),
            found=", ".join(f"own.{name}" for name in RECORD),
            written=", ".join(WRITTEN),
            values=", ".join(_GIVEN[name] for name in WRITTEN),
            replaced=", ".join(f"{name} = excluded.{name}" for name in WRITTEN if name != "id"),
        ).encode()
        self._forbid = _FORBID.format(**names, ahead=AHEAD).encode()

    def admit(
        self, record: Record, expected: bytes, entry: Entry, now: int
    ) -> Unit[Sequence[Entered | Forbidden | Full | Gone | Record | Exception]]:
        """One answer, which may be what is to be raised."""
        parameters = [
            *_columns(record),
            expected,
            integer(entry.opened_at),
            None if entry.most is None else integer(entry.most),
            b"\1" if entry.refuse else b"\0",
            integer(now),
        ]
        return Unit(
            steps=[self._take_turn(record.subject or ""), (self._admit, parameters)],
            read=lambda results: [_answer(results[1], record, expected)],
            durable=True,
        )

    def forbid(
        self, subject: str, before: int, keep: str | None, until: int, now: int
    ) -> Unit[Sequence[None]]:
        parameters = [
            subject.encode(),
            integer(before),
            None if keep is None else key_of(keep),
            integer(until),
            integer(now),
        ]
        return Unit(
            steps=[self._take_turn(subject), (self._forbid, parameters)],
            read=lambda _: [None],
            durable=True,
        )

    def _take_turn(self, subject: str) -> Step:
        return _TURN, [subject.encode(), self._table]


def _columns(record: Record) -> list[bytes | None]:
    """In the order of `WRITTEN`."""
    return [
        key_of(record.id),
        record.revision,
        (record.subject or "").encode(),
        None if record.login_at is None else integer(record.login_at),
        integer(record.seen_at),
        integer(record.expires_at),
        record.payload,
        integer(hour_of(record.expires_at)),
    ]


def _answer(
    result: PGresult, record: Record, expected: bytes
) -> Entered | Forbidden | Full | Gone | Record | Exception:
    states = {result.get_value(row, 0) for row in range(result.ntuples)}
    if b"kept" in states:
        return kept()
    if b"in" in states:
        ids = [result.get_value(row, 1) for row in range(result.ntuples)]
        return Entered(tuple(each.hex() for each in ids if each is not None))
    if b"found" in states:
        return _found(result, record, expected)
    if b"gone" in states:
        return GONE
    return FORBIDDEN if b"forbidden" in states else FULL


def _found(result: PGresult, record: Record, expected: bytes) -> Record | Collision:
    if not expected:
        return Collision(f"PostgresStore: session {record.id} is there already")
    [found] = records(result, 2).values()
    return found
